// What the kernels of dense decode share: a warp attends to pieces of 16 keys, in a ring of shared memory of its own,
// with the heads of a kv head as the 16 rows of a tile; and the sums of a block's warps become one.
#pragma once
#include "kernels/products/grid.cuh"
#include "kernels/sparse_attention/decode_tile.cuh"

namespace corvid::kernels::decode {

constexpr int kThreads = 128, kWarps = kThreads / 32, kStages = 3;

template <int kDim>
struct Ring {
  static constexpr int kRowBytes = 2 * kDim, kChunks = kRowBytes / 16, kHalf = kPiece * kRowBytes;  // keys, then values
  static constexpr int kStageBytes = 2 * kHalf;
  CORVID_HOST_DEVICE static constexpr int bytes(int stages) { return kWarps * stages * kStageBytes; }
};

template <int kDim>
struct Sums {
  float acc[kDim / 8][4] = {};
  float most[2] = {-INFINITY, -INFINITY}, total[2] = {};  // of heads g and g + 8; total: this lane's part
};

// The heads of a kv head as the rows of a tile; rows that aren't there are zeros.
template <int kDim>
__device__ void load_queries(const Decode& a, int row, int kv_head, uint32_t (&q)[kDim / 16][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, quad = lane % 4, group = a.n_heads / a.n_kv_heads;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int head = g + 8 * h;
    const auto* from = reinterpret_cast<const uint32_t*>(
        a.q + (static_cast<int64_t>(row) * a.n_heads + kv_head * group + head) * kDim + 2 * quad);
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s)
#pragma unroll
      for (int half = 0; half < 2; ++half) q[s][2 * half + h] = head < group ? __ldcg(from + 8 * s + 4 * half) : 0;
  }
}

// Copies keys and values [16 * piece, ...) of a page's head; positions behind `pos` become zeros, and with kButLast
// `pos` itself is left alone.
template <int kDim, bool kButLast = false>
__device__ void load_piece(const Decode& a, const int32_t* pages, int kv_head, int piece, int pos, uint32_t stage) {
  using R = Ring<kDim>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int b = piece * kPiece / a.block, in_block = piece * kPiece - b * a.block;
  const int64_t offset =
      pages[b] * a.page_bytes + (static_cast<int64_t>(kv_head) * a.block + in_block) * R::kRowBytes + 16 * lane;
  const std::byte *keys = a.keys + offset, *values = a.values + offset;
#pragma unroll 1
  for (int i = 0; i < kPiece * R::kChunks / 32; ++i, keys += 512, values += 512) {
    const int r = (lane + 32 * i) / R::kChunks;
    const bool is_real = piece * kPiece + r <= pos;
    if (kButLast && piece * kPiece + r == pos) continue;
    const uint32_t to = stage + chunk_at<kDim>(r, lane % R::kChunks);
    ptx::copy_async(to, keys, is_real);
    ptx::copy_async(to + R::kHalf, values, is_real);
  }
}

template <int kDim>
__device__ void attend_piece(const Decode& a, const uint32_t (&q)[kDim / 16][4], int piece, int pos, uint32_t stage,
                             Sums<kDim>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32, quad = lane % 4, m = lane / 8, r = lane % 8;
  float s[2][4] = {};
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t k[4];
    ptx::ldmatrix4(k, stage + chunk_at<kDim>(m / 2 * 8 + r, 2 * step + m % 2));
    ptx::mma_bf16(s[0], q[step][0], q[step][1], q[step][2], q[step][3], k[0], k[1]);
    ptx::mma_bf16(s[1], q[step][0], q[step][1], q[step][2], q[step][3], k[2], k[3]);
  }
  const int first = piece * kPiece + 2 * quad;
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (first + 8 * n + i % 2 > pos) s[n][i] = -INFINITY;
  float shrink[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most = fmaxf(fmaxf(s[0][2 * h], s[0][2 * h + 1]), fmaxf(s[1][2 * h], s[1][2 * h + 1]));
    most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, 1));
    most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, 2));
    most = fmaxf(most, sums.most[h]);
    const float base = most == -INFINITY ? 0 : most * a.scale_log2;
    shrink[h] = ptx::exp2_fast(sums.most[h] * a.scale_log2 - base);
    sums.most[h] = most;
    float total = 0;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) total += s[n][2 * h + i] = ptx::exp2_fast(s[n][2 * h + i] * a.scale_log2 - base);
    sums.total[h] = sums.total[h] * shrink[h] + total;
  }
  if (__any_sync(ptx::kAll, shrink[0] != 1 || shrink[1] != 1)) {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums.acc[n][i] *= shrink[i / 2];
  }
  const uint32_t p[4] = {ptx::pack_bf16(s[0][0], s[0][1]), ptx::pack_bf16(s[0][2], s[0][3]),
                         ptx::pack_bf16(s[1][0], s[1][1]), ptx::pack_bf16(s[1][2], s[1][3])};
#pragma unroll
  for (int n = 0; n < kDim / 16; ++n) {
    uint32_t v[4];
    ptx::ldmatrix4_transposed(v, stage + Ring<kDim>::kHalf + chunk_at<kDim>(m % 2 * 8 + r, 2 * n + m / 2));
    ptx::mma_bf16(sums.acc[2 * n], p[0], p[1], p[2], p[3], v[0], v[1]);
    ptx::mma_bf16(sums.acc[2 * n + 1], p[0], p[1], p[2], p[3], v[2], v[3]);
  }
}

// Where the warps' sums meet, and the greatest score and total weight of each head.
template <int kDim>
struct Merged {
  static constexpr int kStride = kDim + 4;
  float acc[kWarps][kHeads][kStride];
  float most[kWarps][kHeads], total[kWarps][kHeads];
};

// The warps' sums become one: give(head, dimension, four sums from there on), give_stats(head, {greatest score,
// total}).
template <int kDim, class Give, class GiveStats>
__device__ void merge_warps(const Decode& a, Sums<kDim>& sums, Merged<kDim>& merged, const Give& give,
                            const GiveStats& give_stats) {
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, g = lane / 4, quad = lane % 4;
  const int group = a.n_heads / a.n_kv_heads;
  __syncthreads();  // `merged` lies where the ring was
  if (quad == 0)
    for (int h = 0; h < 2; ++h) {
      merged.most[warp][g + 8 * h] = sums.most[h];
      merged.total[warp][g + 8 * h] = sums.total[h];
    }
  __syncthreads();
  float factor[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int head = g + 8 * h;
    float most = merged.most[0][head];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) most = fmaxf(most, merged.most[w][head]);
    factor[h] = weight(sums.most[h], most, a.scale_log2);
    if (warp == 0 && quad == 0 && head < group) {
      float total = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w)
        total += merged.total[w][head] * weight(merged.most[w][head], most, a.scale_log2);
      give_stats(head, make_float2(most, total));
    }
  }
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
    for (int h = 0; h < 2; ++h)
      *reinterpret_cast<float2*>(&merged.acc[warp][g + 8 * h][8 * n + 2 * quad]) =
          make_float2(sums.acc[n][2 * h] * factor[h], sums.acc[n][2 * h + 1] * factor[h]);
  __syncthreads();
#pragma unroll 1
  for (int i = t; i < group * kDim / 4; i += kThreads) {
    const int head = i / (kDim / 4), at = i % (kDim / 4) * 4;
    float4 sum = *reinterpret_cast<const float4*>(&merged.acc[0][head][at]);
#pragma unroll
    for (int w = 1; w < kWarps; ++w) {
      const float4 more = *reinterpret_cast<const float4*>(&merged.acc[w][head][at]);
      sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
    }
    give(head, at, sum);
  }
}

// One dimension of a head's n spans, at most 32, as one: stats_of(span) is its greatest score and total weight,
// sum_of(span) its sum in this thread's dimension. All lanes of a warp call it, for one head.
template <class StatsOf, class SumOf>
__device__ float merge_spans(int n, float scale_log2, const StatsOf& stats_of, const SumOf& sum_of) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float2 stats = lane < n ? stats_of(lane) : make_float2(-INFINITY, 0);
  float most = stats.x;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, step));
  const float own_factor = weight(stats.x, most, scale_log2);
  float total = 0, sum = 0;
#pragma unroll 4
  for (int i = 0; i < n; ++i) {
    const float factor = __shfl_sync(ptx::kAll, own_factor, i);
    total = fmaf(factor, __shfl_sync(ptx::kAll, stats.y, i), total);
    sum = fmaf(factor, sum_of(i), sum);
  }
  return sum / total;
}

__device__ inline uint16_t output_bits(float o, bool rounds) {
  const __nv_bfloat16 bits = __float2bfloat16_rn(o);
  return rounds ? on_grid(bits) : __bfloat16_as_ushort(bits);
}

}  // namespace corvid::kernels::decode
