#include <algorithm>

#include "kernels/check.h"
#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"
#include "tests/support/late_copy.h"

namespace corvid::test {
namespace {

namespace ptx = kernels::ptx;

constexpr int kThreads = 256, kBlocks = 16, kMost = 8;
constexpr uint64_t kLateNs = 100'000;

struct Copies {
  DeviceCopy of[kMost];
  int n;
};

__device__ uint64_t now_ns() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

template <bool kLate>
__global__ void __launch_bounds__(kThreads) copy_kernel(Copies copies) {
  if constexpr (kLate) {
    ptx::let_next_begin();
    ptx::wait_for_earlier();
    for (const uint64_t begin = now_ns(); now_ns() - begin < kLateNs;) __nanosleep(1000);
  }
  for (int n = 0; n < copies.n; ++n) {
    const DeviceCopy& copy = copies.of[n];
    for (int64_t i = threadIdx.x + int64_t{blockIdx.x} * kThreads; i < copy.bytes / 16; i += kBlocks * kThreads)
      static_cast<uint4*>(copy.to)[i] = __ldcg(static_cast<const uint4*>(copy.from) + i);
  }
  if constexpr (!kLate) ptx::wait_for_earlier();
}

void launch(void (*kernel)(Copies), std::span<const DeviceCopy> copies, CUstream_st* stream) {
  kernels::require(copies.size() <= kMost, "copies: want at most ", kMost, ", found ", copies.size());
  Copies all{.n = static_cast<int>(copies.size())};
  std::copy(copies.begin(), copies.end(), all.of);
  kernels::cuda::launch("copy", kernel, {dim3(kBlocks), kThreads, 0, stream, 1, true}, all);
}

}  // namespace

void copy_late(std::span<const DeviceCopy> copies, CUstream_st* stream) { launch(copy_kernel<true>, copies, stream); }
void copy_early(std::span<const DeviceCopy> copies, CUstream_st* stream) { launch(copy_kernel<false>, copies, stream); }

}  // namespace corvid::test
