// How much memory this process may still take.
#pragma once
#include <cstdint>
#include <filesystem>

namespace corvid::model {

// What the system could give without swapping, or the control groups of this process (of either version) allow,
// whichever is less; 0 where the system does not tell. It is read below `root`.
int64_t available_memory(const std::filesystem::path& root = "/");

}  // namespace corvid::model
