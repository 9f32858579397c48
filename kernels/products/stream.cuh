// What the kernels for few rows share: eight warps in a block, each with one panel of weights (or a pair, gate and up)
// and a part of its steps; the parts are added in a fixed order through shared memory.
//
// Bound by memory: the weights go from memory to registers once, 2 to 4 KB on their way for each warp. x is read
// through the first-level cache. On an H100 large matrices and experts reach 75 to 99% of what reading alone does (3.08
// TB/s) in bf16 and q8_0. q4_k reaches 55 to 83%: with its minima added group by group it issued 634 instructions for a
// tile of 2,304 bytes, in 60% of the slots, and took 14 to 27% longer than now. A kernel costs some 4 us beside its
// bytes, so a matrix of 10 MB is at half; without starting early (dependent.cuh) it would cost 1 us more.
#pragma once
#include <algorithm>
#include <utility>

#include "kernels/cuda_check.h"
#include "kernels/products/tiles.cuh"
#include "kernels/ptx.cuh"

namespace corvid::kernels {

constexpr int kStreamWarps = 8;
constexpr int kStreamThreads = kStreamWarps * 32;

// Into how many parts a panel's steps are split, as a power of two: so many that a product has some 2,000 warps, which
// fit on a big GPU at once, but each with 512 columns or more, or starting costs more than it brings. A constant of the
// shape: `panels` is how many are computed whatever the number of rows.
inline int log_split_of(int64_t panels, int64_t k) {
  int log = 0;
  while (log < 3 && (panels << log) < 2000 && (k >> (log + 1)) >= 512) ++log;
  return log;
}
// Panels that a block has.
__host__ __device__ constexpr int block_panels(int log_split, int warps = kStreamWarps) { return warps >> log_split; }

// As launch_dependent(). Weights on their way to registers have places in L1 that they will come to. A multiprocessor
// divides its memory anew between L1 and shared memory only when it is empty, and a kernel that doesn't mind takes what
// it finds: begun beside attention, which wants shared memory, these kernels had 28 KB of L1, and so had all behind
// them, as they follow each other closely. M3's step took 1.14 times as long.
template <class... Parameters, class... Arguments>
void launch_with_cache(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                       Arguments&&... arguments) {
  constexpr int kPercent = 28;  // 64 KB of shared memory, which all of them fit
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = kPercent;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes, config.stream = stream;
  config.attrs = attributes, config.numAttrs = 2;
  cuda::check(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...), "launch");
}

// Steps in registers at a time, of 2 to 4 KB for each warp.
template <DeviceFormat kFormat, int kPanels>
constexpr int kAhead = kFormat == DeviceFormat::bf16                                       ? 5 - kPanels
                       : kFormat == DeviceFormat::q8_0 || kFormat == DeviceFormat::f8_e4m3 ? 4 - kPanels
                                                                                           : 3 - kPanels;

// The same for one row of x in shared memory.
constexpr int kAheadOfRow = 4;

// A row of `count` bf16 numbers, a multiple of 8, to shared memory: from(i) says where number i comes from, null for
// zeros. All threads of the block call it.
template <class From>
__device__ inline void stage(int threads, int count, uint16_t* to, const From& from) {
  for (int i = static_cast<int>(threadIdx.x) * 8; i < count; i += threads * 8) {
    const uint16_t* const at = from(i);
    ptx::copy_async(ptx::shared_address(to + i), at != nullptr ? at : from(0), at != nullptr);
  }
  ptx::commit_copies();
  ptx::wait_copies<0>();
  __syncthreads();
}

// Whether the warps of a block wait for each other as they go through their parts of rows of bf16. These alternate
// every 128 bytes, and memory is asked for 256 (load_once): what comes for the next warp is read again if that one is
// far behind. Of M3's gate and up 431 MB were read where there are 378. whole: every warp has a panel.
CORVID_HOST_DEVICE constexpr bool stay_together(DeviceFormat format, int n_parts, int steps, bool whole) {
  return format == DeviceFormat::bf16 && n_parts > 1 && steps % n_parts == 0 && whole;
}

// One row of x in shared memory, of `padded` numbers: integers for q8_0, bf16 for the others.
template <DeviceFormat kFormat>
CORVID_HOST_DEVICE constexpr int64_t row_bytes_of(int64_t padded) {
  return is_on_grid(kFormat) ? int_row_bytes(padded) : padded * 2;
}
template <DeviceFormat kFormat, class From>
__device__ inline void stage_row(int threads, int padded, unsigned char* to, const From& from) {
  if constexpr (is_on_grid(kFormat))
    stage_ints(threads, IntRow{to, padded}, from);
  else
    stage(threads, padded, reinterpret_cast<uint16_t*>(to), from);
}
// Numbers i to i + 7 of it, which this lane has; all lanes of a warp call it, each with the next eight.
template <DeviceFormat kFormat>
__device__ inline void put_in_row(int padded, unsigned char* to, int i, const uint4& x) {
  if (i >= padded) return;
  if constexpr (is_on_grid(kFormat))
    put_ints(IntRow{to, padded}, i, x);
  else
    *reinterpret_cast<uint4*>(to + i * 2) = x;
}
// As stream(), of numbers [at, at + padded) of such a row of `count`. sum: of the panels' rows lane / 4 and lane / 4 +
// 8. kAllLanes: the other columns of the tensor cores' tile repeat the row; else they are zeros. together: the
// warps of the block wait for each other before each kSteps steps, of which they have as many.
template <DeviceFormat kFormat, int kPanels, int kSteps, bool kAllLanes, class BeforeX>
__device__ inline void stream_row(const unsigned char* const (&panels)[kPanels], unsigned char* row, int at, int count,
                                  int padded, int first, int end, int stride, float (&sum)[kPanels][2], int lane,
                                  BeforeX&& before_x, bool together = false) {
  if constexpr (is_on_grid(kFormat)) {
    stream_ints<kPanels, kSteps>(panels, IntRow{row, count, at}, first, end, stride, sum, lane, before_x);
  } else {
    float all[kPanels][1][4] = {};
    const uint16_t* const x[1] = {kAllLanes || lane < 4 ? reinterpret_cast<const uint16_t*>(row) + at : nullptr};
    stream<kFormat, 1, kPanels, kSteps, kAllLanes>(panels, x, padded, first, end, stride, all, lane, before_x, [&] {
      if (together) __syncthreads();
    });
#pragma unroll
    for (int p = 0; p < kPanels; ++p) sum[p][0] = all[p][0][0], sum[p][1] = all[p][0][2];
  }
}

// Calls use(row of the block's first panel on, row of x, sums[kPanels]) for each output of the block, with its parts
// added in ascending order. Rows of a panel are the fastest to vary.
template <int kTiles, int kPanels, class Use>
__device__ inline void reduce(const float (&sum)[kPanels][kTiles][4], int log_split, Use&& use) {
  __shared__ float parts[kStreamWarps][kPanels][kTiles][4][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int p = 0; p < kPanels; ++p)
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) parts[warp][p][n][i][lane] = sum[p][n][i];
  __syncthreads();
  const int rows = block_panels(log_split) * 16;
  for (int at = static_cast<int>(threadIdx.x); at < rows * kTiles * 8; at += kStreamThreads) {
    const int row = at % rows, column = at / rows;
    const int holder = row % 8 * 4 + column % 8 / 2, i = row % 16 / 8 * 2 + column % 2;
    float total[kPanels];
#pragma unroll
    for (int p = 0; p < kPanels; ++p) {
      total[p] = 0;
      for (int part = 0; part < 1 << log_split; ++part)
        total[p] += parts[(row / 16 << log_split) + part][p][column / 8][i][holder];
    }
    use(row, column, total);
  }
}

}  // namespace corvid::kernels
