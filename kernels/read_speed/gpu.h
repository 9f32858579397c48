// How fast this GPU reads its memory now: what bounds a decode step.
#pragma once
#include <cstdint>

#include "kernels/exec.h"

namespace corvid::kernels {

class GpuReadSpeed {
 public:
  // Takes `bytes` of the GPU's memory, far more than its caches hold. Throws std::runtime_error when they aren't free.
  explicit GpuReadSpeed(int64_t bytes = int64_t{2} << 30);

  // Reads all of it a few times; bytes per second of the median.
  double measure(CUstream_st* stream);

 private:
  Buffer memory_;
};

}  // namespace corvid::kernels
