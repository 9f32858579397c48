// How fast this machine reads memory now, with the threads that the kernels have: what bounds a step that reads more
// than it computes. A measurement, so no reference and no GPU version.
#pragma once
#include <cstdint>

#include "kernels/exec.h"

namespace corvid::kernels {

class ReadSpeed {
 public:
  // Takes `bytes` of memory, in large pages where the system has them: more than any cache holds. Throws
  // std::bad_alloc.
  explicit ReadSpeed(int64_t bytes = int64_t{256} << 20);

  // Reads all of it, every thread a share of its own; bytes per second.
  double measure(Exec& exec);
  int64_t bytes() const { return memory_.bytes(); }

 private:
  Buffer memory_;
};

}  // namespace corvid::kernels
