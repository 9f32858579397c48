// Scores of blocks for runs of rows of one sequence, at the tensor cores' speed: index_dim 128, blocks of 128.
//
// A row and an index head are one line of 128 dimensions, and lines lie one behind the other in q: a block of threads
// takes 256 of them, four warpgroups 64 each. One more warpgroup copies blocks of keys into
// a ring in shared memory; each warpgroup multiplies its lines with a block's 128 keys and keeps the greatest product
// of each line. Only blocks before a row's local ones matter, and these are seen whole, so nothing is masked.
//
// The ring is read by four warpgroups at their own pace, so while one takes maxima the others multiply.
#include <algorithm>

#include "kernels/block_select/scan.cuh"
#include "kernels/block_select/scores.h"
#include "kernels/launch.cuh"
#include "kernels/wgmma.cuh"

namespace corvid::kernels {
namespace {

constexpr int kDim = 128, kBlock = 128, kGroups = 4, kLines = 64 * kGroups, kThreads = 128 * (kGroups + 1);
constexpr int kStages = 4, kPanelBytes = kBlock * 128, kStageBytes = 2 * kPanelBytes;
constexpr int kLinePanelBytes = kLines * 128, kSharedBytes = 2 * kLinePanelBytes + kStages * kStageBytes;

struct ScanRun {
  const int32_t* seq;
  const int32_t* pos;
  const int32_t* pages;
  const uint16_t* q;
  const std::byte* keys;
  float* scores;
  int64_t page_bytes, stride;
  int row, lines, max_pages, n_heads, local_blocks;  // lines: of all rows from `row` on
};

template <bool kE4m3>
__global__ void __launch_bounds__(kThreads, 1) scan_run_kernel(ScanRun a) {
  extern __shared__ __align__(1024) char shared[];  // the lines, then the ring
  char* ring = shared + 2 * kLinePanelBytes;
  __shared__ uint64_t full[kStages], empty[kStages];
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32;
  const int first_line = static_cast<int>(blockIdx.x) * kLines;
  const int last_line = min(first_line + kLines, a.lines) - 1;
  // The blocks of this part of the tile's: the last row sees the most.
  const int blocks = a.pos[a.row + last_line / a.n_heads] / kBlock + 1 - a.local_blocks;
  const auto parts = static_cast<int>(gridDim.y), part = static_cast<int>(blockIdx.y);
  const int per_part = (blocks + 4 * parts - 1) / (4 * parts) * 4;
  const int first = part * per_part, end = min(first + per_part, blocks);
  if (first >= end) return;
  if (t == 0)
    for (int s = 0; s < kStages; ++s) {
      ptx::init_barrier(&full[s], 128);
      ptx::init_barrier(&empty[s], 4 * kGroups);
    }
  for (int i = t; i < kLines * kDim / 8; i += kThreads) {
    const int r = i / 16, chunk = i % 16;
    const int64_t from = static_cast<int64_t>(a.row) * a.n_heads + first_line + r;
    ptx::copy_async(
        ptx::shared_address(shared) + static_cast<uint32_t>(chunk / 8 * kLinePanelBytes) + ptx::swizzled(r, chunk % 8),
        a.q + from * kDim + 8 * chunk, first_line + r < a.lines);
  }
  ptx::commit_copies();
  ptx::wait_copies<0>();
  ptx::fence_for_engines();
  __syncthreads();

  if (warp >= 4 * kGroups) {
    const int mine = t - 128 * kGroups;
    const int32_t* pages = a.pages + static_cast<int64_t>(a.seq[a.row]) * a.max_pages;
    for (int b = first; b < end; ++b) {
      const int n = b - first, s = n % kStages;
      if (n >= kStages) ptx::wait(&empty[s], static_cast<uint32_t>(n / kStages - 1) & 1U);
      const std::byte* page = a.keys + pages[b] * a.page_bytes;
      const uint32_t stage = ptx::shared_address(ring) + static_cast<uint32_t>(s * kStageBytes);
      if constexpr (kE4m3) {
        // 16 bytes are 16 dimensions, two chunks of bf16; written by stores, so the arrival comes after a fence.
        for (int i = mine; i < kBlock * kDim / 16; i += 128) {
          const int r = i / 8, chunk = i % 8 * 2;
          const uint4 v = *reinterpret_cast<const uint4*>(page + 16 * i);
          const uint32_t word[4] = {v.x, v.y, v.z, v.w};
          uint32_t out[8];
#pragma unroll
          for (int w = 0; w < 8; ++w) {
            const uint32_t half = ptx::e4m3_to_f16(word[w / 2] >> (16 * (w % 2)));
            const float2 two = __half22float2(*reinterpret_cast<const __half2*>(&half));
            out[w] = ptx::pack_bf16(two.x, two.y);
          }
          for (int c = 0; c < 2; ++c) {
            const int at = chunk + c;
            *reinterpret_cast<uint4*>(ring + s * kStageBytes + at / 8 * kPanelBytes + ptx::swizzled(r, at % 8)) =
                make_uint4(out[4 * c], out[4 * c + 1], out[4 * c + 2], out[4 * c + 3]);
          }
        }
        ptx::fence_for_engines();
        ptx::arrive(&full[s]);
      } else {
#pragma unroll 8
        for (int i = mine; i < kBlock * kDim / 8; i += 128) {
          const int r = i / 16, chunk = i % 16;
          ptx::copy_async(stage + static_cast<uint32_t>(chunk / 8 * kPanelBytes) + ptx::swizzled(r, chunk % 8),
                          page + 16 * i);
        }
        ptx::arrive_after_copies(&full[s]);
      }
    }
    return;
  }

  const int g = lane / 4, quad = lane % 4;
  const int line[2] = {first_line + 16 * warp + g, first_line + 16 * warp + g + 8};
  const uint64_t q = ptx::operand(ptx::shared_address(shared) + static_cast<uint32_t>(warp / 4 * 64 * 128));
  float kept[2] = {};
  for (int b = first; b < end; ++b) {
    const int n = b - first, s = n % kStages;
    ptx::wait(&full[s], static_cast<uint32_t>(n / kStages) & 1U);
    ptx::fence_for_engines();
    const uint64_t keys = ptx::operand(ptx::shared_address(ring) + static_cast<uint32_t>(s * kStageBytes));
    float d[64];
    ptx::begin_products();
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step)
      ptx::product_q_k(d, ptx::further(q, step / 4 * kLinePanelBytes + step % 4 * 32),
                       ptx::further(keys, step / 4 * kPanelBytes + step % 4 * 32), step > 0);
    ptx::commit_products();
    ptx::wait_products<0>();
    ptx::arrived(d);
    if (lane == 0) ptx::arrive(&empty[s]);
    float most[2] = {fmaxf(d[0], -INFINITY), fmaxf(d[2], -INFINITY)};  // also of NaN
#pragma unroll
    for (int i = 1; i < 64; ++i)
      if (i != 2) most[i / 2 % 2] = fmaxf(most[i / 2 % 2], d[i]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      most[h] = fmaxf(most[h], __shfl_xor_sync(ptx::kAll, most[h], 1));
      most[h] = fmaxf(most[h], __shfl_xor_sync(ptx::kAll, most[h], 2));
      if (b % 4 == quad) kept[h] = most[h];
      // Four blocks at a time, one of each lane of the four that share a line: 16 bytes in a row.
      if ((b % 4 == 3 || b == end - 1) && quad <= b % 4 && line[h] < a.lines)
        a.scores[line[h] * a.stride + b - b % 4 + quad] = kept[h];
    }
  }
}

}  // namespace

void cuda::scan_run(const PagedBlockSelect& a, int64_t row, int64_t rows, int64_t max_keys, CUstream_st* stream) {
  const PagedRows& r = a.rows;
  const ScanRun scan{r.seq,
                     r.pos,
                     r.pages,
                     a.q,
                     a.index_keys,
                     reinterpret_cast<float*>(a.workspace),
                     a.page_bytes,
                     score_stride(max_keys, a.block),
                     static_cast<int>(row),
                     static_cast<int>(rows * a.n_heads),
                     static_cast<int>(r.max_pages),
                     static_cast<int>(a.n_heads),
                     static_cast<int>(a.local_blocks)};
  const int64_t tiles = (scan.lines + kLines - 1) / kLines, blocks = (max_keys + kBlock - 1) / kBlock;
  // Tiles that don't fill the GPU are cut into parts of at least 16 blocks, so many that the last wave is nearly full.
  const int64_t parts = std::clamp<int64_t>(multiprocessors() / tiles, 1, (blocks + 15) / 16);
  const Launch how{dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(parts)), kThreads, kSharedBytes, stream};
  const auto kernel = a.format == IndexFormat::e4m3 ? scan_run_kernel<true> : scan_run_kernel<false>;
  allow(kernel, kSharedBytes);
  launch("block_select's scan of a run", kernel, how, scan);
}

}  // namespace corvid::kernels
