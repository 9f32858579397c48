// The index scan of decode: one pass over the keys, which are operands of the tensor cores. Keys are the 16 rows of a
// tile; its 8 columns are index heads of one row of the batch, or of several rows of one sequence, which share the
// pass.
//
// A product doesn't care for the order of its dimensions as long as both sides agree. So a lane reads 16 bytes of a key
// from shared memory, and these are its operands of two steps of 16 dimensions (four, of e4m3): no shuffles.
//
// The blocks of all rows, one row's behind the other's, are cut into equal ranges, whatever the rows' lengths; a block
// of threads takes one range, each of its four warps 32 of a block's 128 keys. These lie one behind the other, so one
// lane asks the copy engine for them, kStages blocks ahead, into a ring of the warp's own; four blocks of threads on a
// multiprocessor keep it busy. For long contexts there are some times more ranges than run at once: multiprocessors
// read at different speeds (1M keys cut into 132 ranges ended after 57 to 103 us on an H100), and who is done early
// takes another.
//
// What was stored long ago is on its way before the kernels before have ended: a ring on all multiprocessors, some 13
// MB beside the attention of the layer before.
//
// What bounds it: memory from 128k keys on (on an H100 1M in 92 us, 95% of its speed; e4m3 in 49, 88%), below the
// latency of three reads that wait for each other. Tried: one or two blocks of threads on a multiprocessor with deeper
// rings (up to 5% slower), five to eight with fewer registers (3 to 5% slower at 1M); loads straight into registers,
// which need the L1 cache that the next kernel's shared memory leaves little of (a fifth slower); more keys to the
// second-level cache meanwhile (a tenth slower at 128k). Products of e4m3 as it is: mma.sync has none on Hopper, the
// compiler converts as is done here.
#include <algorithm>
#include <type_traits>

#include "kernels/block_select/scan.cuh"
#include "kernels/block_select/scores.h"
#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"

namespace corvid::kernels {
namespace {

constexpr int kDim = 128, kBlock = 128, kThreads = 128, kWarps = kThreads / 32, kKeys = kBlock / kWarps;
constexpr int kColumns = 16;  // at most: heads times rows of a group
constexpr int kFlush = 8;
constexpr int kRows = kThreads;                     // of a window, at most
constexpr int kWaves = 4, kLeastBytes = 256 << 10;  // of a range, but there are as many as run at once at least

// A warp's keys of a block.
template <bool kE4m3>
struct Share {
  static constexpr int kRowBytes = kE4m3 ? kDim : 2 * kDim, kBytes = kKeys * kRowBytes, kStages = kE4m3 ? 2 : 1;
  static constexpr int kSharedBytes = kWarps * kStages * kBytes, kPerMultiprocessor = 4;
  static constexpr int kLeast = kLeastBytes / (kBlock * kRowBytes);  // blocks of a range
};

struct Scan {
  const int32_t* seq;
  const int32_t* pos;
  const int32_t* pages;
  const uint16_t* q;
  const std::byte* keys;
  float* scores;
  int64_t page_bytes, stride;
  int rows, max_pages, n_heads, top_k, local_blocks;
  int fresh;          // so many of a sequence's last positions may not be stored yet when the kernel begins
  int group, window;  // rows that may share a pass; rows that a line of the grid serves, a multiple of group
};

// Rows that share a pass: blocks [0, end - begin) of their sequence are blocks [begin, end) of the window.
struct Segment {
  int64_t begin, end;
  int row, seq, columns;
  int old;  // so many of the sequence's blocks are stored, whatever kernel is still running
};

__device__ int old_blocks(const Scan& a, int pos) { return max(0, pos + 1 - a.fresh) / kBlock; }

struct Shared {
  Segment segments[kRows];
  float most[2][kFlush][kWarps][kColumns];
  int seq[kRows], pos[kRows];
  int64_t before[kWarps + 1];
  int first;
};

// The segments of the window's rows, in order; returns the number of their blocks.
__device__ int64_t find_segments(const Scan& a, Shared& shared) {
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, window = static_cast<int>(blockIdx.y) * a.window;
  const int rows = min(a.window, a.rows - window);
  if (rows == 1) {
    const int pos = a.pos[window], seen = pos < 0 ? 0 : pos / kBlock + 1;
    const int64_t blocks = seen > a.top_k ? seen - a.local_blocks : 0;
    if (t == 0) {
      shared.segments[0] = {0, blocks, window, a.seq[window], a.n_heads, old_blocks(a, pos)};
      shared.first = 0;
    }
    __syncthreads();
    return blocks;
  }
  if (t < rows) {
    shared.seq[t] = a.seq[window + t];
    shared.pos[t] = a.pos[window + t];
  }
  __syncthreads();
  // Rows are grouped within runs of `group`, so that a row knows its group from its neighbours alone.
  int members = 0, blocks = 0;
  if (t < rows && (t % a.group == 0 || shared.seq[t - 1] != shared.seq[t]))
    for (; members < a.group && t + members < rows; ++members) {
      if (members > 0 && ((t + members) % a.group == 0 || shared.seq[t + members] != shared.seq[t])) break;
      const int pos = shared.pos[t + members], seen = pos < 0 ? 0 : pos / kBlock + 1;
      if (seen > a.top_k) blocks = max(blocks, seen - a.local_blocks);
    }
  constexpr int64_t kOne = int64_t{1} << 40;  // counts segments above, blocks below
  const int64_t own = blocks > 0 ? kOne + blocks : 0;
  int64_t sum = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int64_t x = __shfl_up_sync(ptx::kAll, sum, step);
    if (lane >= step) sum += x;
  }
  if (lane == 31) shared.before[t / 32 + 1] = sum;
  if (t == 0) shared.before[0] = 0;
  __syncthreads();
  int64_t before = 0, all = 0;
#pragma unroll
  for (int w = 0; w <= kWarps; ++w) {
    if (w <= t / 32) before += shared.before[w];
    all += shared.before[w];
  }
  before += sum - own;
  const int64_t begin = before % kOne;
  if (blocks > 0) {
    shared.segments[before / kOne] = {begin,         begin + blocks,      window + t,
                                      shared.seq[t], members * a.n_heads, old_blocks(a, shared.pos[t])};
    const int64_t mine = all % kOne * blockIdx.x / gridDim.x;
    if (begin <= mine && mine < begin + blocks) shared.first = static_cast<int>(before / kOne);
  }
  __syncthreads();
  return all % kOne;
}

// What a block of threads does: blocks [begin, begin + n) of the window.
template <bool kE4m3>
struct Range {
  using S = Share<kE4m3>;
  const Scan& a;
  Shared& shared;
  uint64_t* barriers;
  const char* ring;  // of this warp
  int64_t begin;
  int n;
  int32_t slots, later_slots;  // lane l: of block l of the 32 that are being asked for, and of the 32 behind them

  // The page of block i, which lies in segment `segment` or behind.
  __device__ int32_t slot_of(int i, int segment) const {
    if (i >= n) return 0;
    while (shared.segments[segment].end <= begin + i) ++segment;
    const Segment& s = shared.segments[segment];
    return a.pages[static_cast<int64_t>(s.seq) * a.max_pages + begin + i - s.begin];
  }
  __device__ void ask_for(int i, int segment) {  // all lanes, i one after the other
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    if (i % 32 == 0) {
      slots = i == 0 ? slot_of(lane, segment) : later_slots;
      later_slots = slot_of(i + 32 + lane, segment);
    }
    const int32_t slot = __shfl_sync(ptx::kAll, slots, i % 32);
    if (lane == 0 && i < n) {
      uint64_t* barrier = &barriers[i % S::kStages];
      ptx::arrive_expecting(barrier, S::kBytes);
      ptx::copy_bulk(ptx::shared_address(ring + i % S::kStages * S::kBytes),
                     a.keys + slot * a.page_bytes + warp * S::kBytes, S::kBytes, barrier);
    }
  }
};

// Blocks [i, end) of the range, which lie in one segment. Columns of the tile beyond the row's own heads belong to the
// rows behind it.
template <bool kE4m3, int kN>
__device__ void scan(Range<kE4m3>& range, int segment, int i, int end, int& buffer) {
  using S = Share<kE4m3>;
  const Scan& a = range.a;
  const Segment& s = range.shared.segments[segment];
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, g = lane / 4, quad = lane % 4;

  uint32_t q[kN][16];  // operands of 8 steps of 16 dimensions, in the order in which the keys come
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const int column = 8 * n + g;
    const uint16_t* from = a.q + (static_cast<int64_t>(s.row) * a.n_heads + column) * kDim;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      // bf16: chunks of 8 dimensions, quad + 4 k. e4m3: chunks of 16 dimensions, quad + 4 (k / 2), two halves each.
      const int at = kE4m3 ? 16 * (quad + 4 * (k / 2)) + 8 * (k % 2) : 8 * (quad + 4 * k);
      const uint4 words = column < s.columns ? *reinterpret_cast<const uint4*>(from + at) : uint4{};
      const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        q[n][4 * k + w] = word[w];
        if constexpr (kE4m3) {
          const __half2 half =
              __floats2half2_rn(__uint_as_float(word[w] << 16), __uint_as_float(word[w] & 0xffff0000U));
          q[n][4 * k + w] = *reinterpret_cast<const uint32_t*>(&half);
        }
      }
    }
  }

  int waiting = 0;
#pragma unroll 1
  for (; i < end; ++i) {
    const int stage = i % S::kStages;
    ptx::wait(&range.barriers[stage], static_cast<uint32_t>(i / S::kStages) & 1U);
    float best[kN][2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const char* keys = range.ring + stage * S::kBytes + (16 * half + g) * S::kRowBytes + 16 * quad;
      float sums[kN][2][4] = {};  // two chains each
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
              ptx::mma_f16(sums[c][w % 2], ptx::e4m3_to_f16(l[w]), ptx::e4m3_to_f16(h[w]), ptx::e4m3_to_f16(l[w] >> 16),
                           ptx::e4m3_to_f16(h[w] >> 16), q[c][8 * at + 2 * w], q[c][8 * at + 2 * w + 1]);
        } else {
#pragma unroll
          for (int c = 0; c < kN; ++c) {
            ptx::mma_bf16(sums[c][0], low.x, high.x, low.y, high.y, q[c][4 * at], q[c][4 * at + 1]);
            ptx::mma_bf16(sums[c][1], low.z, high.z, low.w, high.w, q[c][4 * at + 2], q[c][4 * at + 3]);
          }
        }
      }
#pragma unroll
      for (int c = 0; c < kN; ++c)
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          // Of a NaN and a number the number.
          const float larger = fmaxf(sums[c][0][k] + sums[c][1][k], sums[c][0][k + 2] + sums[c][1][k + 2]);
          best[c][k] = half == 0 ? larger : fmaxf(best[c][k], larger);
        }
    }
    __syncwarp();  // all lanes have read the stage
    range.ask_for(i + S::kStages, segment);
#pragma unroll
    for (int c = 0; c < kN; ++c)
#pragma unroll
      for (int k = 0; k < 2; ++k) {
#pragma unroll
        for (int xor_lane = 4; xor_lane < 32; xor_lane *= 2)
          best[c][k] = fmaxf(best[c][k], __shfl_xor_sync(ptx::kAll, best[c][k], xor_lane));
        if (g == 0) range.shared.most[buffer][waiting][warp][8 * c + 2 * quad + k] = best[c][k];
      }
    if (++waiting < kFlush && i + 1 < end) continue;
    // Two buffers: who is past this barrier writes to the other one until all have come to the next.
    __syncthreads();
    for (int k = t; k < waiting * s.columns; k += kThreads) {
      const int column = k / waiting, which = k % waiting;
      float most = -INFINITY;  // also of NaN
#pragma unroll
      for (int w = 0; w < kWarps; ++w) most = fmaxf(most, range.shared.most[buffer][which][w][column]);
      a.scores[(static_cast<int64_t>(s.row) * a.n_heads + column) * a.stride + range.begin - s.begin + i + 1 - waiting +
               which] = most;
    }
    waiting = 0;
    buffer ^= 1;
  }
}

template <bool kE4m3>
__global__ void __launch_bounds__(kThreads, Share<kE4m3>::kPerMultiprocessor) scan_kernel(Scan a) {
  using S = Share<kE4m3>;
  extern __shared__ __align__(128) char rings[];
  __shared__ uint64_t barriers[kWarps * S::kStages];
  __shared__ Shared shared;
  if (threadIdx.x < kWarps * S::kStages) ptx::init_barrier(&barriers[threadIdx.x], 1);
  ptx::publish_barriers();
  const int64_t blocks = find_segments(a, shared);  // holds barriers
  const int64_t begin = blocks * blockIdx.x / gridDim.x;
  const auto warp = static_cast<int>(threadIdx.x / 32),
             n = static_cast<int>(blocks * (blockIdx.x + 1) / gridDim.x - begin);
  Range<kE4m3> range{a, shared, barriers + warp * S::kStages, rings + warp * S::kStages * S::kBytes, begin, n, 0, 0};
  int segment = shared.first, buffer = 0, early = 0;
  for (int at = segment; early < min(n, S::kStages); ++early) {
    while (shared.segments[at].end <= begin + early) ++at;
    if (begin + early - shared.segments[at].begin >= shared.segments[at].old) break;
    range.ask_for(early, segment);
  }
  ptx::wait_for_earlier();
  ptx::let_next_begin();
  if (n == 0) return;
  for (int i = early; i < S::kStages; ++i) range.ask_for(i, segment);
  for (int i = 0; i < n; ++segment) {
    const int end = static_cast<int>(min(static_cast<int64_t>(n), shared.segments[segment].end - begin));
    if (shared.segments[segment].columns <= 8)
      scan<kE4m3, 1>(range, segment, i, end, buffer);
    else
      scan<kE4m3, kColumns / 8>(range, segment, i, end, buffer);
    i = end;
  }
}

}  // namespace

bool cuda::can_scan(const PagedBlockSelect& a) { return a.dim == kDim && a.block == kBlock && a.n_heads <= 8; }

void cuda::scan_blocks(const PagedBlockSelect& a, CUstream_st* stream) {
  const PagedRows& r = a.rows;
  const int group = kColumns / static_cast<int>(a.n_heads), window = kRows / group * group;
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
                  static_cast<int>(r.rows),
                  group,
                  window};
  const int64_t windows = (r.decode_rows + window - 1) / window;
  const int64_t blocks = (r.max_keys + kBlock - 1) / kBlock * std::min<int64_t>(r.decode_rows, window);
  const auto start = [&]<bool kE4m3>(std::bool_constant<kE4m3>) {
    using S = Share<kE4m3>;
    const int64_t at_once = std::max<int64_t>(1, multiprocessors() * S::kPerMultiprocessor / windows);
    const int64_t x = std::min(blocks, std::clamp<int64_t>(blocks / S::kLeast, at_once, kWaves * at_once));
    const dim3 grid(static_cast<unsigned>(x), static_cast<unsigned>(windows));
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
