// The index scan of decode: one pass over the keys, which are operands of the tensor cores. Keys are the 16 rows of a
// tile; its 8 columns are index heads of one row of the batch, or of several rows of one sequence, which share the
// pass.
//
// A product doesn't care for the order of its dimensions as long as both sides agree. So a lane reads 16 bytes of a key
// from shared memory, and these are its operands of two steps of 16 dimensions (four, of e4m3): no shuffles.
//
// A block of threads takes a range of blocks of keys, each of its four warps 32 of the 128 keys. These lie one
// behind the other, so one lane asks the copy engine for them, kStages blocks ahead, into a ring of the warp's own.
// What bounds it: memory (1M keys) and the latency of a few dependent reads (8k). Loads straight into registers were as
// fast alone, but they need the L1 cache for what is under way, and beside a kernel that wants shared memory (the
// attention that begins early) there is little: 123 us instead of 101 for 1M keys on an H100.
#include <algorithm>
#include <type_traits>

#include "kernels/block_select/scan.cuh"
#include "kernels/block_select/scores.h"
#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"

namespace corvid::kernels {
namespace {

constexpr int kDim = 128, kBlock = 128, kThreads = 128, kWarps = kThreads / 32;
constexpr int kColumns = 16;  // at most: heads times rows of a group

// A warp's 32 keys of a block.
template <bool kE4m3>
struct Share {
  static constexpr int kRowBytes = kE4m3 ? kDim : 2 * kDim, kBytes = 32 * kRowBytes, kStages = kE4m3 ? 4 : 3;
  static constexpr int kSharedBytes = kWarps * kStages * kBytes, kPerMultiprocessor = kE4m3 ? 3 : 2;
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
__device__ void scan(const Scan& a, int row, int columns, int blocks, uint64_t* barriers) {
  using S = Share<kE4m3>;
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, g = lane / 4, quad = lane % 4;
  __shared__ float shared_max[2][kWarps][kColumns];
  extern __shared__ __align__(128) char rings[];
  const char* ring = rings + warp * S::kStages * S::kBytes;

  // Blocks [first, first + n): one range, so that their scores fill whole sectors of memory.
  const int32_t* pages = a.pages + static_cast<int64_t>(a.seq[row]) * a.max_pages;
  const auto begin_of = [&](unsigned x) { return static_cast<int>(static_cast<int64_t>(blocks) * x / gridDim.x); };
  const int first = begin_of(blockIdx.x), n = begin_of(blockIdx.x + 1) - first;
  const auto load = [&](int i, int32_t slot) {
    uint64_t* barrier = &barriers[warp * S::kStages + i % S::kStages];
    ptx::arrive_expecting(barrier, S::kBytes);
    ptx::copy_bulk(ptx::shared_address(ring + i % S::kStages * S::kBytes),
                   a.keys + slot * a.page_bytes + warp * S::kBytes, S::kBytes, barrier);
  };
  int32_t next_slot = 0;
  if (lane == 0) {
    for (int i = 0; i < S::kStages && i < n; ++i) load(i, pages[first + i]);
    if (S::kStages < n) next_slot = pages[first + S::kStages];
  }

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

  for (int i = 0; i < n; ++i) {
    const int stage = i % S::kStages;
    ptx::wait(&barriers[warp * S::kStages + stage], static_cast<uint32_t>(i / S::kStages) & 1U);
    float best[kN][2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const char* keys = ring + stage * S::kBytes + (16 * half + g) * S::kRowBytes + 16 * quad;
      float sums[kN][4] = {};
#pragma unroll
      for (int at = 0; at < S::kRowBytes / 64; ++at) {
        const uint4 low = *reinterpret_cast<const uint4*>(keys + 64 * at);  // keys g and g + 8
        const uint4 high = *reinterpret_cast<const uint4*>(keys + 64 * at + 8 * S::kRowBytes);
        if constexpr (kE4m3) {
          const uint32_t l[4] = {low.x, low.y, low.z, low.w}, h[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
          for (int w = 0; w < 4; ++w)
#pragma unroll
            for (int c = 0; c < kN; ++c)
              ptx::mma_f16(sums[c], ptx::e4m3_to_f16(l[w]), ptx::e4m3_to_f16(h[w]), ptx::e4m3_to_f16(l[w] >> 16),
                           ptx::e4m3_to_f16(h[w] >> 16), q[c][8 * at + 2 * w], q[c][8 * at + 2 * w + 1]);
        } else {
#pragma unroll
          for (int c = 0; c < kN; ++c) {
            ptx::mma_bf16(sums[c], low.x, high.x, low.y, high.y, q[c][4 * at], q[c][4 * at + 1]);
            ptx::mma_bf16(sums[c], low.z, high.z, low.w, high.w, q[c][4 * at + 2], q[c][4 * at + 3]);
          }
        }
      }
#pragma unroll
      for (int c = 0; c < kN; ++c)
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float larger = fmaxf(sums[c][k], sums[c][k + 2]);  // of a NaN and a number the number
          best[c][k] = half == 0 ? larger : fmaxf(best[c][k], larger);
        }
    }
    __syncwarp();  // all lanes have read the stage
    if (lane == 0 && i + S::kStages < n) {
      load(i + S::kStages, next_slot);
      if (i + S::kStages + 1 < n) next_slot = pages[first + i + S::kStages + 1];
    }
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
        for (int k = 0; k < 2; ++k) shared_max[i % 2][warp][8 * c + 2 * quad + k] = best[c][k];
    __syncthreads();
    if (t < columns) {
      float most = fmaxf(shared_max[i % 2][0][t], -INFINITY);  // also of NaN
#pragma unroll
      for (int w = 1; w < kWarps; ++w) most = fmaxf(most, shared_max[i % 2][w][t]);
      a.scores[(static_cast<int64_t>(row) * a.n_heads + t) * a.stride + first + i] = most;
    }
  }
}

template <bool kE4m3>
__global__ void __launch_bounds__(kThreads) scan_kernel(Scan a) {
  __shared__ uint64_t barriers[kWarps * Share<kE4m3>::kStages];
  if (threadIdx.x == 0) {
    for (uint64_t& barrier : barriers) ptx::init_barrier(&barrier, 1);
    ptx::publish_barriers();
  }
  __syncthreads();
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
  if (blocks == 0) return;
  const int columns = members * a.n_heads;
  if (columns <= 8)
    scan<kE4m3, 1>(a, row, columns, blocks, barriers);
  else
    scan<kE4m3, kColumns / 8>(a, row, columns, blocks, barriers);
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
  // As many blocks of threads as run at once.
  const int64_t blocks = (r.max_keys + kBlock - 1) / kBlock;
  const auto start = [&]<bool kE4m3>(std::bool_constant<kE4m3>) {
    using S = Share<kE4m3>;
    const int64_t all = S::kPerMultiprocessor * multiprocessors();
    const int64_t x = std::clamp<int64_t>((all + r.decode_rows - 1) / r.decode_rows, 1, blocks);
    const dim3 grid(static_cast<unsigned>(x), static_cast<unsigned>(r.decode_rows));
    allow(scan_kernel<kE4m3>, S::kSharedBytes);
    want_shared_memory(scan_kernel<kE4m3>);
    launch("block_select's scan", scan_kernel<kE4m3>, {grid, kThreads, S::kSharedBytes, stream, 1, true}, scan);
  };
  if (a.format == IndexFormat::e4m3)
    start(std::true_type{});
  else
    start(std::false_type{});
}

}  // namespace corvid::kernels
