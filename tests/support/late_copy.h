// On a GPU, kernels that stand for those around the one under test, to try what it reads before its neighbours ended.
#pragma once
#include <cstdint>
#include <span>

struct CUstream_st;

namespace corvid::test {

struct DeviceCopy {
  void* to;
  const void* from;
  int64_t bytes;  // pointers and bytes are multiples of 16
};

// Lets the next kernel begin at once, and copies 100 us later. At most 8 copies.
void copy_late(std::span<const DeviceCopy> copies, CUstream_st* stream);
// May begin early, and copies without waiting for the kernel before.
void copy_early(std::span<const DeviceCopy> copies, CUstream_st* stream);

}  // namespace corvid::test
