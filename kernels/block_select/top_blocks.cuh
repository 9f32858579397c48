// The last step of block selection on the GPU: from one score per block to the chosen ids. Used by the kernels that
// select alone and by those that attend to what they select.
#pragma once
#include <cstdint>

namespace corvid::kernels::cuda {

constexpr int kMaxTopK = 64;
constexpr int kMaxCandidates = 1024;

struct TopBlocksShared {
  alignas(16) uint32_t keys[128];
  unsigned long long candidates[kMaxCandidates];
  uint32_t group_max[kMaxTopK];
  int n_candidates, total;
  int32_t unordered[kMaxTopK];
  int warp_count[4];
};

// Order of floats as order of integers; both zeros are alike. No score is NaN: who writes them makes -inf of it.
__device__ inline uint32_t ordered(float score) {
  const uint32_t bits = __float_as_uint(score + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ inline float score_of(uint32_t ordered) {
  return __uint_as_float((ordered & 0x80000000U) != 0 ? ordered ^ 0x80000000U : ~ordered);
}

// ids[0, count): the first of nb blocks by (local first, score descending, id ascending), in ascending order; the rest
// of ids[0, top_k) is -1. Returns count. All kThreads threads of the block call it (the block has no others); ids may
// be shared or global memory, written by threads of the block: a barrier follows before the return. scores, in any
// memory, is 16-byte aligned and may be read up to a multiple of 4.
//
// The least of `count` disjoint groups' best scores has at least `count` blocks at or above it, and few more: some 50
// of thousands. They are ranked by counting. Scores that are all alike would be too many: then the threshold is
// searched bit by bit.
template <int kThreads>
__device__ inline int top_blocks(const float* scores, int nb, int top_k, int local_blocks, int32_t* ids,
                                 TopBlocksShared& shared) {
  const int t = static_cast<int>(threadIdx.x);
  const int count = nb < top_k ? nb : top_k, first_local = nb - local_blocks;
  for (int i = t; i < top_k; i += kThreads) {
    ids[i] = i < nb ? i : -1;
    shared.group_max[i] = 0;
  }
  if (nb <= top_k) {
    __syncthreads();
    return count;
  }
  if (t == 0) shared.n_candidates = 0, shared.total = 0;
  const auto key_of = [&](int b) { return b >= first_local ? 0xffffffffU : ordered(scores[b]); };
  if (nb <= 128) {  // few: each thread ranks one among all, and the chosen ones stand in order
    const uint32_t mine = t < nb ? key_of(t) : 0;
    if (t < 128) shared.keys[t] = mine;
    __syncthreads();
    int rank = 0;
#pragma unroll 4
    for (int j = 0; j < nb; j += 4) {
      const uint4 other = *reinterpret_cast<const uint4*>(&shared.keys[j]);
      rank += (other.x > mine || (other.x == mine && j < t) ? 1 : 0) +
              (other.y > mine || (other.y == mine && j + 1 < t) ? 1 : 0) +
              (other.z > mine || (other.z == mine && j + 2 < t) ? 1 : 0) +
              (other.w > mine || (other.w == mine && j + 3 < t) ? 1 : 0);
    }
    const unsigned chosen = __ballot_sync(0xffffffffU, t < nb && rank < count);
    if (t % 32 == 0 && t < 128) shared.warp_count[t / 32] = __popc(chosen);
    __syncthreads();
    int at = __popc(chosen & ((1U << (t % 32)) - 1));
    for (int w = 0; w < min(t / 32, 4); ++w) at += shared.warp_count[w];
    if (t < nb && rank < count) ids[at] = t;
    __syncthreads();
    return count;
  }
  // Four scores from b on: a local block's is +inf, -inf is what isn't there.
  const auto masked = [&](int b, float4 v) {
    const auto one = [&](int at, float score) { return at < first_local ? score : at < nb ? INFINITY : -INFINITY; };
    return make_float4(one(b, v.x), one(b + 1, v.y), one(b + 2, v.z), one(b + 3, v.w));
  };
  const auto four_from = [&](int b) { return masked(b, *reinterpret_cast<const float4*>(scores + b)); };
  const auto best_of = [](const float4& v) { return fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)); };

  constexpr int kKept = 8, kStep = 4 * kThreads;  // what fits stays in registers
  float4 kept[kKept];
#pragma unroll
  for (int k = 0; k < kKept; ++k) {  // all loads before the first use; there is always something at 0
    const int b = 4 * t + k * kStep;
    kept[k] = *reinterpret_cast<const float4*>(scores + (b < nb ? b : 0));
  }
  float best = -INFINITY;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    kept[k] = masked(4 * t + k * kStep, kept[k]);
    best = fmaxf(best, best_of(kept[k]));
  }
  for (int b = 4 * t + kKept * kStep; b < nb; b += kStep) best = fmaxf(best, best_of(four_from(b)));
  __syncthreads();  // group_max holds zeros
  if (4 * t < nb) atomicMax(&shared.group_max[t % count], ordered(best));
  __syncthreads();
  uint32_t least = 0xffffffffU;
  for (int i = t % 32; i < count; i += 32) least = min(least, shared.group_max[i]);
  least = __reduce_min_sync(0xffffffffU, least);
  // A group that is empty has 0: then all are candidates.
  const float threshold = least == 0 ? -INFINITY : score_of(least);
  const auto add_candidates = [&](int b, const float4& v) {
    if (b >= nb || !(best_of(v) >= threshold)) return;
    const float score[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!(score[i] >= threshold) || b + i >= nb) continue;
      const int at = atomicAdd(&shared.n_candidates, 1);
      if (at < kMaxCandidates)
        shared.candidates[at] = static_cast<unsigned long long>(b + i >= first_local ? 0xffffffffU : ordered(score[i]))
                                    << 32 |
                                (0xffffffffU - (b + i));
    }
  };
#pragma unroll
  for (int k = 0; k < kKept; ++k) add_candidates(4 * t + k * kStep, kept[k]);
  for (int b = 4 * t + kKept * kStep; b < nb; b += kStep) add_candidates(b, four_from(b));
  __syncthreads();
  int n = shared.n_candidates;
  if (n > kMaxCandidates) {  // the largest threshold that `count` blocks reach; of those that equal it the first by id
    uint32_t low = 0;
    for (int bit = 31; bit >= 0; --bit) {
      const uint32_t middle = low | 1U << bit;
      int reach = 0;
      for (int b = t; b < nb; b += kThreads) reach += key_of(b) >= middle ? 1 : 0;
      __syncthreads();
      if (t == 0) shared.total = 0;
      __syncthreads();
      atomicAdd(&shared.total, reach);
      __syncthreads();
      if (shared.total >= count) low = middle;
    }
    __syncthreads();
    if (t == 0) shared.n_candidates = 0;
    __syncthreads();
    if (t < 32) {
      int equal = 0, above = 0;  // equal: those taken so far; the count of those above is known only at the end
      for (int b = t; b - t < nb; b += 32) {
        const unsigned is_above = __ballot_sync(0xffffffffU, b < nb && key_of(b) > low);
        above += __popc(is_above);
      }
      const int wanted = count - above;
      int at = 0;
      for (int b = t; b - t < nb; b += 32) {
        const uint32_t key = b < nb ? key_of(b) : 0;
        const bool is_equal = b < nb && key == low;
        const unsigned equals = __ballot_sync(0xffffffffU, is_equal);
        const bool taken = (b < nb && key > low) || (is_equal && equal + __popc(equals & ((1U << t) - 1)) < wanted);
        const unsigned takers = __ballot_sync(0xffffffffU, taken);
        if (taken)
          shared.candidates[at + __popc(takers & ((1U << t) - 1))] =
              static_cast<unsigned long long>(key) << 32 | (0xffffffffU - b);
        at += __popc(takers);
        equal += __popc(equals);
      }
      if (t == 0) shared.n_candidates = at;
    }
    __syncthreads();
    n = shared.n_candidates;
  }
  for (int i = t; i < n; i += kThreads) {
    const unsigned long long mine = shared.candidates[i];
    int rank = 0;
#pragma unroll 8
    for (int j = 0; j < n; ++j) rank += shared.candidates[j] > mine ? 1 : 0;
    if (rank < count) shared.unordered[rank] = static_cast<int32_t>(0xffffffffU - static_cast<uint32_t>(mine));
  }
  __syncthreads();
  if (t < count) {
    const int32_t mine = shared.unordered[t];
    int rank = 0;
#pragma unroll 8
    for (int j = 0; j < count; ++j) rank += shared.unordered[j] < mine ? 1 : 0;
    ids[rank] = mine;
  }
  __syncthreads();
  return count;
}

}  // namespace corvid::kernels::cuda
