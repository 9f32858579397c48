#include "kernels/arg_max/arg_max.h"
#include "kernels/check.h"
#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 512;
constexpr int kRanks = 8;  // blocks that share a row

// Larger for larger numbers, and for lower places; above all of them for NaN.
__device__ uint64_t key_of(float value, int place) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t ordered = isnan(value) ? 0xffffffffU : (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return uint64_t{ordered} << 32 | static_cast<uint32_t>(~place);
}

__device__ uint64_t largest(uint64_t key) {
  for (int step = 16; step > 0; step /= 2) key = max(key, __shfl_xor_sync(ptx::kAll, key, step));
  return key;
}

// To shared memory of another block of the cluster, where `address` is in this block's.
__device__ void send(uint32_t rank, uint32_t address, uint64_t value) {
  asm volatile("{.reg .u32 a; mapa.shared::cluster.u32 a, %0, %1; st.shared::cluster.u64 [a], %2;}" ::"r"(address),
               "r"(rank), "l"(value)
               : "memory");
}

// What was sent before is there behind the other blocks' ptx::cluster_wait().
__device__ void arrive_with_what_was_sent() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }

// -0 and 0 are equal, but not their bits.
__device__ float without_sign_of_zero(float value) { return value + 0.0F; }

// A cluster for each row: its blocks take turns, four numbers a thread, and the first of them has the last word.
__global__ void __launch_bounds__(kThreads) arg_max_kernel(ArgMax a) {
  __shared__ uint64_t of_warps[kThreads / 32];
  __shared__ uint64_t of_blocks[kRanks];
  const int thread = static_cast<int>(threadIdx.x), n = static_cast<int>(a.n);
  const auto rank = ptx::cluster_rank();
  const float* x = a.x + blockIdx.y * a.n;
  ptx::cluster_arrive();
  ptx::let_next_begin();
  ptx::wait_for_earlier();
  uint64_t best = 0;
  for (int i = (static_cast<int>(rank) * kThreads + thread) * 4; i < n; i += kRanks * kThreads * 4) {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (i + j < n) best = max(best, key_of(without_sign_of_zero(x[i + j]), i + j));
  }
  best = largest(best);
  if (thread % 32 == 0) of_warps[thread / 32] = best;
  __syncthreads();
  ptx::cluster_wait();  // all blocks are there, and their shared memory is
  if (thread < 32) {
    best = largest(thread < kThreads / 32 ? of_warps[thread] : 0);
    if (thread == 0) send(0, ptx::shared_address(&of_blocks[rank]), best);
  }
  __syncwarp();
  arrive_with_what_was_sent();
  ptx::cluster_wait();
  if (rank != 0 || thread >= 32) return;
  best = largest(thread < kRanks ? of_blocks[thread] : 0);
  if (thread != 0) return;
  const auto place = static_cast<int32_t>(~static_cast<uint32_t>(best));
  a.best[blockIdx.y] = {place, x[place]};
}

}  // namespace

void cuda::arg_max(const ArgMax& a, CUstream_st* stream) {
  require(a.n >= 1 && a.n <= INT32_MAX - 4 * kRanks * kThreads, "arg_max: want a row of 1 to 2^31 numbers, found ",
          a.n);
  if (a.rows == 0) return;
  launch("arg_max", arg_max_kernel, {dim3(kRanks, static_cast<unsigned>(a.rows)), kThreads, 0, stream, kRanks, true},
         a);
}

}  // namespace corvid::kernels
