// How much memory this process may still take.
#pragma once
#include <cstdint>

namespace corvid::model {

// What the system could give without swapping, or the control groups of this process allow, whichever is less; 0 where
// the system does not tell.
int64_t available_memory();

}  // namespace corvid::model
