#include <algorithm>

#include "kernels/comm/many_rows.h"
#include "kernels/comm/numbers.cuh"
#include "kernels/products/dependent.cuh"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 256, kNumbers = 8;

__device__ void say(uint32_t* flag, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
__device__ void wait_for(const uint32_t* flag, uint32_t value) {
  for (int looks = 0; looks < kMostLooks; ++looks) {
    uint32_t now = 0;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(now) : "l"(flag) : "memory");
    if (now == value) return;
  }
  __trap();  // the other GPU has failed
}

// A block takes every gridDim-th row; a thread has kTimes pieces of it.
template <int kTimes>
__global__ __launch_bounds__(kThreads, kTimes <= 3 ? 3 : 1) void many_rows_kernel(const __grid_constant__ ManyRows a) {
  __shared__ float sums[kThreads / 32];
  const int thread = static_cast<int>(threadIdx.x), pieces = a.dim / kNumbers;
  wait_for_previous();
  if (a.may_start_next) start_next();
  ManyRowsFlags& own = *a.flags[a.rank];
  const uint32_t call = *static_cast<volatile uint32_t*>(&own.calls) + 1;
  if (thread < a.gpus && thread != a.rank) {
    if (blockIdx.x == 0) {
      __threadfence_system();  // what the kernels before have written
      say(&a.flags[thread]->came[a.rank], call);
    }
    wait_for(&own.came[thread], call);
  }
  __syncthreads();
  const Deal deal{a.gpus};
  for (int row = static_cast<int>(blockIdx.x); row < a.rows; row += static_cast<int>(gridDim.x)) {
    const int64_t at = deal.row(row, a.rank) * a.dim;
    float sum[kTimes][kNumbers] = {}, before[kTimes][kNumbers];
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int i = t * kThreads + thread;
      if (i < pieces) load(before[t], a.x + at + i * kNumbers);
    }
    for (int from = 0; from < a.gpus; ++from) {
      const auto* mail = reinterpret_cast<const uint4*>(a.mail + (from * a.most_rows + row) * a.dim);
#pragma unroll
      for (int t = 0; t < kTimes; ++t) {
        const int i = t * kThreads + thread;
        if (i < pieces) add8(sum[t], mail[i]);
      }
    }
    const float squares = add_to_row<kThreads>(sum, before, pieces, a.x + at);
    if (a.w == nullptr) continue;
    const float scale = rsqrtf(block_sum<kThreads>(squares, sums) / static_cast<float>(a.dim) + a.eps);
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int i = t * kThreads + thread;
      if (i >= pieces) continue;
      float w[kNumbers];
      load(w, a.w + i * kNumbers);
      uint32_t h[kNumbers / 2];
#pragma unroll
      for (int n = 0; n < kNumbers; n += 2) h[n / 2] = pack(sum[t][n] * scale * w[n], sum[t][n + 1] * scale * w[n + 1]);
      for (int to = 0; to < a.gpus; ++to)
        *reinterpret_cast<uint4*>(a.h[to] + at + i * kNumbers) = make_uint4(h[0], h[1], h[2], h[3]);
    }
    __syncthreads();  // before the next row's sums
  }
  // The last block speaks for all.
  __syncthreads();
  if (thread > 0) return;
  __threadfence_system();
  if (atomicAdd(&own.blocks, 1) + 1 < gridDim.x) return;
  own.blocks = 0, own.calls = call;
  __threadfence_system();
  for (int to = 0; to < a.gpus; ++to)
    if (to != a.rank) say(&a.flags[to]->done[a.rank], call);
  for (int from = 0; from < a.gpus; ++from)
    if (from != a.rank) wait_for(&own.done[from], call);
}

}  // namespace

void cuda::sum_many_rows(const ManyRows& a, int most_blocks, CUstream_st* stream) {
  const int times = (a.dim / kNumbers + kThreads - 1) / kThreads;
  auto* const kernel = times <= 1   ? many_rows_kernel<1>
                       : times <= 2 ? many_rows_kernel<2>
                       : times <= 3 ? many_rows_kernel<3>
                       : times <= 4 ? many_rows_kernel<4>
                                    : many_rows_kernel<8>;
  const int blocks = std::clamp(a.rows, 1, most_blocks);  // one that has no rows is waited for, too
  launch_dependent(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, a);
}

}  // namespace corvid::kernels
