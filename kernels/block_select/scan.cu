// The index scan of decode: one pass over the keys, 16 bytes a load, straight into registers as operands of the tensor
// cores. Keys are the 16 rows of a tile; its 8 columns are index heads of one row of the batch, or of several rows of
// one sequence, which share the pass.
//
// A product doesn't care for the order of its dimensions as long as both sides agree. So a lane loads 16 bytes of a
// key, and these are its operands of two steps of 16 dimensions (four, of e4m3), no shuffle and no shared memory
// between.
//
// A block of threads takes every gridDim.x-th block of keys, each of its four warps 32 of the 128 keys; a lane has 16
// loads under way. What bounds it: memory (1M keys) and the latency of a few dependent reads (8k).
#include <algorithm>

#include "kernels/block_select/scan.cuh"
#include "kernels/block_select/scores.h"
#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"

namespace corvid::kernels {
namespace {

constexpr int kDim = 128, kBlock = 128, kThreads = 128, kWarps = kThreads / 32;
constexpr int kColumns = 16;  // at most: heads times rows of a group

// A tile: 16 keys. Loads of a lane for one, and tiles under way.
template <bool kE4m3>
struct Tile {
  static constexpr int kLoads = kE4m3 ? 4 : 8, kDepth = kE4m3 ? 4 : 2, kRowBytes = kE4m3 ? kDim : 2 * kDim;
};

struct Scan {
  const int32_t* seq;
  const int32_t* pos;
  const int32_t* pages;
  const uint16_t* q;
  const std::byte* keys;
  float* scores;
  int64_t page_bytes, stride;
  int rows, max_pages, n_heads, top_k, local_blocks, group;  // group: rows that may share a pass
};

// Columns of the tile beyond the row's own heads belong to the rows behind it.
template <bool kE4m3, int kN>
__device__ void scan(const Scan& a, int row, int columns, int blocks) {
  using T = Tile<kE4m3>;
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, g = lane / 4, quad = lane % 4;
  __shared__ float shared_max[2][kWarps][kColumns];

  uint32_t q[kN][16];  // operands of 8 steps of 16 dimensions, in the order in which the keys come
  for (int n = 0; n < kN; ++n) {
    const int column = 8 * n + g;
    const uint16_t* from = a.q + (static_cast<int64_t>(row) * a.n_heads + column) * kDim;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // bf16: chunks of 8 dimensions, quad + 4 i. e4m3: chunks of 16 dimensions, quad + 4 (i / 2), two halves each.
      const int at = kE4m3 ? 16 * (quad + 4 * (i / 2)) + 8 * (i % 2) : 8 * (quad + 4 * i);
      const uint4 words = column < columns ? *reinterpret_cast<const uint4*>(from + at) : uint4{};
      const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        q[n][4 * i + w] = word[w];
        if constexpr (kE4m3) {
          const __half2 half =
              __floats2half2_rn(__uint_as_float(word[w] << 16), __uint_as_float(word[w] & 0xffff0000U));
          q[n][4 * i + w] = *reinterpret_cast<const uint32_t*>(&half);
        }
      }
    }
  }

  const int32_t* pages = a.pages + static_cast<int64_t>(a.seq[row]) * a.max_pages;
  const int step = static_cast<int>(gridDim.x);
  const int first = static_cast<int>(blockIdx.x);
  // Tile i of this warp: half i % 2 of its 32 keys of block first + i / 2 * step.
  uint4 loaded[T::kDepth][T::kLoads];
  int32_t next_slot[T::kDepth / 2];
  const auto slot_of = [&](int i) { return first + i / 2 * step < blocks ? pages[first + i / 2 * step] : -1; };
  const auto load = [&](int i, int32_t slot, uint4(&to)[T::kLoads]) {
    if (slot < 0) return;
    const std::byte* from = a.keys + slot * a.page_bytes + (32 * warp + 16 * (i % 2) + g) * T::kRowBytes + 16 * quad;
#pragma unroll
    for (int n = 0; n < T::kLoads / 2; ++n) {
      to[2 * n] = ptx::load_once(from + 64 * n);
      to[2 * n + 1] = ptx::load_once(from + 64 * n + 8 * T::kRowBytes);
    }
  };
#pragma unroll
  for (int i = 0; i < T::kDepth; i += 2) {
    const int32_t slot = slot_of(i);
    load(i, slot, loaded[i]);
    load(i + 1, slot, loaded[i + 1]);
    next_slot[i / 2] = slot_of(i + T::kDepth);
  }
  int parity = 0;
  for (int base = 0; first + base / 2 * step < blocks; base += T::kDepth) {
#pragma unroll
    for (int pair = 0; pair < T::kDepth / 2; ++pair) {
      const int b = first + (base / 2 + pair) * step;
      if (b >= blocks) break;
      float best[kN][2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint4(&keys)[T::kLoads] = loaded[2 * pair + half];
        float sums[kN][4] = {};
#pragma unroll
        for (int n = 0; n < T::kLoads / 2; ++n) {
          const uint4 low = keys[2 * n], high = keys[2 * n + 1];  // keys g and g + 8
          if constexpr (kE4m3) {
            const uint32_t l[4] = {low.x, low.y, low.z, low.w}, h[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
            for (int w = 0; w < 4; ++w)
#pragma unroll
              for (int c = 0; c < kN; ++c)
                ptx::mma_f16(sums[c], ptx::e4m3_to_f16(l[w]), ptx::e4m3_to_f16(h[w]), ptx::e4m3_to_f16(l[w] >> 16),
                             ptx::e4m3_to_f16(h[w] >> 16), q[c][8 * n + 2 * w], q[c][8 * n + 2 * w + 1]);
          } else {
#pragma unroll
            for (int c = 0; c < kN; ++c) {
              ptx::mma_bf16(sums[c], low.x, high.x, low.y, high.y, q[c][4 * n], q[c][4 * n + 1]);
              ptx::mma_bf16(sums[c], low.z, high.z, low.w, high.w, q[c][4 * n + 2], q[c][4 * n + 3]);
            }
          }
        }
        load(base + T::kDepth + 2 * pair + half, next_slot[pair], keys);
#pragma unroll
        for (int c = 0; c < kN; ++c)
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const float larger = fmaxf(sums[c][k], sums[c][k + 2]);  // of a NaN and a number the number
            best[c][k] = half == 0 ? larger : fmaxf(best[c][k], larger);
          }
      }
      next_slot[pair] = slot_of(base + 2 * T::kDepth + 2 * pair);
#pragma unroll
      for (int c = 0; c < kN; ++c)
#pragma unroll
        for (int k = 0; k < 2; ++k)
#pragma unroll
          for (int xor_lane = 4; xor_lane < 32; xor_lane *= 2)
            best[c][k] = fmaxf(best[c][k], __shfl_xor_sync(ptx::kAll, best[c][k], xor_lane));
      if (g == 0)
#pragma unroll
        for (int c = 0; c < kN; ++c)
#pragma unroll
          for (int k = 0; k < 2; ++k) shared_max[parity][warp][8 * c + 2 * quad + k] = best[c][k];
      __syncthreads();
      if (t < columns) {
        float most = shared_max[parity][0][t];
#pragma unroll
        for (int w = 1; w < kWarps; ++w) most = fmaxf(most, shared_max[parity][w][t]);
        a.scores[(static_cast<int64_t>(row) * a.n_heads + t) * a.stride + b] = most;
      }
      parity ^= 1;
    }
  }
}

template <bool kE4m3>
__global__ void __launch_bounds__(kThreads, 4) scan_kernel(Scan a) {
  ptx::wait_for_earlier();
  ptx::let_next_begin();
  const int row = static_cast<int>(blockIdx.y), seq = a.seq[row];
  // Rows are grouped within windows of `group`, so that a row knows its group from its neighbours alone.
  if (row % a.group != 0 && a.seq[row - 1] == seq) return;
  int members = 0, blocks = 0;
  for (; members < a.group && row + members < a.rows; ++members) {
    if (members > 0 && ((row + members) % a.group == 0 || a.seq[row + members] != seq)) break;
    const int pos = a.pos[row + members];
    const int seen = pos < 0 ? 0 : pos / kBlock + 1;
    if (seen > a.top_k) blocks = max(blocks, seen - a.local_blocks);
  }
  if (static_cast<int>(blockIdx.x) >= blocks) return;
  const int columns = members * a.n_heads;
  if (columns <= 8)
    scan<kE4m3, 1>(a, row, columns, blocks);
  else
    scan<kE4m3, kColumns / 8>(a, row, columns, blocks);
}

}  // namespace

bool cuda::can_scan(const PagedBlockSelect& a) { return a.dim == kDim && a.block == kBlock && a.n_heads <= 8; }

void cuda::scan_blocks(const PagedBlockSelect& a, CUstream_st* stream) {
  const PagedRows& r = a.rows;
  const Scan scan{r.seq,
                  r.pos,
                  r.pages,
                  a.q,
                  a.index_keys,
                  reinterpret_cast<float*>(a.workspace),
                  a.page_bytes,
                  score_stride(r.max_keys, a.block),
                  static_cast<int>(r.decode_rows),
                  static_cast<int>(r.max_pages),
                  static_cast<int>(a.n_heads),
                  static_cast<int>(a.top_k),
                  static_cast<int>(a.local_blocks),
                  kColumns / static_cast<int>(a.n_heads)};
  // As many blocks of threads as run at once, four on each multiprocessor.
  const int64_t blocks = (r.max_keys + kBlock - 1) / kBlock;
  const int64_t x = std::clamp<int64_t>((4 * multiprocessors() + r.decode_rows - 1) / r.decode_rows, 1, blocks);
  const dim3 grid(static_cast<unsigned>(x), static_cast<unsigned>(r.decode_rows));
  const Launch how{grid, kThreads, 0, stream, 1, true};
  launch("block_select's scan", a.format == IndexFormat::e4m3 ? scan_kernel<true> : scan_kernel<false>, how, scan);
}

}  // namespace corvid::kernels
