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
  int warp_count[8];
};

// Order of floats as order of integers; both zeros are alike. No score is NaN: who writes them makes -inf of it. None
// is 0.
__device__ inline uint32_t ordered(float score) {
  const uint32_t bits = __float_as_uint(score + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ inline float score_of(uint32_t ordered) {
  return __uint_as_float((ordered & 0x80000000U) != 0 ? ordered ^ 0x80000000U : ~ordered);
}

// Places that stay free stand behind all others.
template <int kThreads>
__device__ inline void clear_candidates(TopBlocksShared& shared) {
  for (int i = static_cast<int>(threadIdx.x); i < kMaxCandidates / 2; i += kThreads)
    reinterpret_cast<uint4*>(shared.candidates)[i] = uint4{};
}

// `wanted` of more than kMaxCandidates scores, as candidates: the largest threshold that so many blocks reach is
// searched bit by bit; of those that equal it the first by id. Returns how many there are.
template <int kThreads>
__device__ inline int search_candidates(const float* scores, int n, int wanted, TopBlocksShared& shared) {
  const int t = static_cast<int>(threadIdx.x);
  clear_candidates<kThreads>(shared);
  uint32_t low = 0;
#pragma unroll 1
  for (int bit = 31; bit >= 0; --bit) {
    const uint32_t middle = low | 1U << bit;
    int reach = 0;
#pragma unroll 1
    for (int b = t; b < n; b += kThreads) reach += ordered(scores[b]) >= middle ? 1 : 0;
    __syncthreads();
    if (t == 0) shared.total = 0;
    __syncthreads();
    atomicAdd(&shared.total, reach);
    __syncthreads();
    if (shared.total >= wanted) low = middle;
  }
  __syncthreads();
  if (t < 32) {
    int above = 0;
#pragma unroll 1
    for (int b = t; b - t < n; b += 32) above += __popc(__ballot_sync(0xffffffffU, b < n && ordered(scores[b]) > low));
    int at = 0, equal = 0;  // those taken so far
#pragma unroll 1
    for (int b = t; b - t < n; b += 32) {
      const uint32_t key = b < n ? ordered(scores[b]) : 0;
      const bool is_equal = b < n && key == low;
      const unsigned equals = __ballot_sync(0xffffffffU, is_equal);
      const bool taken =
          (b < n && key > low) || (is_equal && equal + __popc(equals & ((1U << t) - 1)) < wanted - above);
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
  return shared.n_candidates;
}

// Before top_blocks(), with a barrier between.
template <int kThreads>
__device__ inline void prepare_top_blocks(TopBlocksShared& shared) {
  const int t = static_cast<int>(threadIdx.x);
  clear_candidates<kThreads>(shared);
  if (t < kMaxTopK) shared.group_max[t] = 0;
  if (t < kMaxTopK) shared.unordered[t] = 0x7fffffff;
  if (t == 0) shared.n_candidates = 0;
}

// The first of nb blocks by (local first, score descending, id ascending), in ascending order: emit(i, id) for each i
// in [0, top_k), by some thread, with -1 behind the last of them. Returns how many they are. All kThreads threads of
// the block call it (the block has no others); a barrier follows what they emit. scores, in global memory, is 16-byte
// aligned and may be read up to a multiple of 4.
//
// Local blocks are always chosen and always last. Of the others, the least of as many disjoint groups' best scores as
// are wanted has so many blocks at or above it, and few more: some 50 of thousands. They are ranked by counting. Scores
// that are all alike would be too many: then the threshold is searched.
//
// Little code: it runs once in a kernel that waits for it, and instructions have to be fetched.
template <int kThreads, class Emit>
__device__ inline int top_blocks(const float* scores, int nb, int top_k, int local_blocks, TopBlocksShared& shared,
                                 const Emit& emit) {
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
  if (nb <= top_k) {
    for (int i = t; i < top_k; i += kThreads) emit(i, i < nb ? i : -1);
    __syncthreads();
    return nb;
  }
  const int n_scores = nb - local_blocks, wanted = top_k - local_blocks;
  const auto emit_local = [&] {  // behind a barrier: what emit() reads may have been written just before the call
    if (t < local_blocks) emit(wanted + t, n_scores + t);
  };
  if (nb <= 128) {  // few: each is ranked among all, and the chosen ones stand in order
    constexpr int kParts = kThreads / 128;
    if (t < 128) shared.keys[t] = t < n_scores ? ordered(scores[t]) : 0;
    __syncthreads();
    const int i = t / kParts;
    const uint32_t mine = shared.keys[i];
    int rank = 0;
#pragma unroll 2
    for (int j = t % kParts * 4; j < n_scores; j += 4 * kParts) {
      const uint4 other = *reinterpret_cast<const uint4*>(&shared.keys[j]);
      rank += (other.x > mine || (other.x == mine && j < i) ? 1 : 0) +
              (other.y > mine || (other.y == mine && j + 1 < i) ? 1 : 0) +
              (other.z > mine || (other.z == mine && j + 2 < i) ? 1 : 0) +
              (other.w > mine || (other.w == mine && j + 3 < i) ? 1 : 0);
    }
#pragma unroll
    for (int part = 1; part < kParts; part *= 2) rank += __shfl_xor_sync(0xffffffffU, rank, part);
    const bool is_chosen = t % kParts == 0 && i < n_scores && rank < wanted;
    const unsigned chosen = __ballot_sync(0xffffffffU, is_chosen);
    if (lane == 0) shared.warp_count[warp] = __popc(chosen);
    __syncthreads();
    int at = __popc(chosen & ((1U << lane) - 1));
    for (int w = 0; w < warp; ++w) at += shared.warp_count[w];
    if (is_chosen) emit(at, i);
    emit_local();
    __syncthreads();
    return top_k;
  }

  constexpr int kKept = 8, kStep = 4 * kThreads;  // what fits stays in registers
  float4 kept[kKept];
  // Four scores from b on. What isn't there is NaN, of which fmaxf() takes the other, and which no threshold lets in.
  const auto four_from = [&](int b) { return b < n_scores ? *reinterpret_cast<const float4*>(scores + b) : float4{}; };
  const auto masked = [&](int b, const float4& v) {
    const float nan = __uint_as_float(0x7fffffffU);
    return float4{b < n_scores ? v.x : nan, b + 1 < n_scores ? v.y : nan, b + 2 < n_scores ? v.z : nan,
                  b + 3 < n_scores ? v.w : nan};
  };
  const auto best_of = [](const float4& v) { return fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)); };
  const auto reaching = [](const float4& v, float threshold) {
    return (v.x >= threshold ? 1U : 0U) | (v.y >= threshold ? 2U : 0U) | (v.z >= threshold ? 4U : 0U) |
           (v.w >= threshold ? 8U : 0U);
  };
#pragma unroll
  for (int k = 0; k < kKept; ++k) {  // all loads before the first use
    if (k * kStep >= n_scores) break;
    kept[k] = four_from(4 * t + k * kStep);
  }
  const int group = t % max(wanted, 1);
  float best = -INFINITY;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    if (k * kStep >= n_scores) break;
    kept[k] = masked(4 * t + k * kStep, kept[k]);
    best = fmaxf(best, best_of(kept[k]));
  }
#pragma unroll 1
  for (int b = 4 * t + kKept * kStep; b < n_scores; b += kStep) best = fmaxf(best, best_of(masked(b, four_from(b))));
  if (4 * t < n_scores && wanted > 0) atomicMax(&shared.group_max[group], ordered(best));
  __syncthreads();
  uint32_t least = 0xffffffffU;
  for (int i = lane; i < wanted; i += 32) least = min(least, shared.group_max[i]);
  least = __reduce_min_sync(0xffffffffU, least);
  // A group that is empty has 0: then all are candidates.
  const float threshold = least == 0 ? -INFINITY : score_of(least);
  // Of the blocks from b on, in steps of kStep, four of them each: those with a bit in `which`.
  const auto add_candidates = [&](int b, uint32_t which, const float4& first_four) {
    if (which == 0) return;
    int at = atomicAdd(&shared.n_candidates, __popc(which));
#pragma unroll 1
    for (; which != 0; which &= which - 1, ++at) {
      const int bit = __ffs(static_cast<int>(which)) - 1, id = b + bit / 4 * kStep + bit % 4;
      const float score =
          bit < 4 ? (bit % 2 == 0 ? (bit == 0 ? first_four.x : first_four.z) : (bit == 1 ? first_four.y : first_four.w))
                  : scores[id];
      if (at < kMaxCandidates)
        shared.candidates[at] = static_cast<unsigned long long>(ordered(score)) << 32 | (0xffffffffU - id);
    }
  };
  uint32_t which = 0;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    if (k * kStep >= n_scores) break;
    which |= reaching(kept[k], threshold) << 4 * k;
  }
  add_candidates(4 * t, which, kept[0]);
#pragma unroll 1
  for (int b = 4 * t + kKept * kStep; b < n_scores; b += kStep) {
    const float4 four = masked(b, four_from(b));
    add_candidates(b, reaching(four, threshold), four);
  }
  __syncthreads();
  int n = shared.n_candidates;
  if (n > kMaxCandidates) n = search_candidates<kThreads>(scores, n_scores, wanted, shared);

  // Four threads for an item, each of which counts every fourth of those that may stand before it.
  const int part = t % 4;
  const auto all_parts = [](int sum) {
    sum += __shfl_xor_sync(0xffffffffU, sum, 1);
    return sum + __shfl_xor_sync(0xffffffffU, sum, 2);
  };
#pragma unroll 1
  for (int first = 0; first < n; first += kThreads / 4) {
    const int i = first + t / 4;
    const unsigned long long mine = i < n ? shared.candidates[i] : ~0ULL;
    int before = 0;
#pragma unroll 1
    for (int j = part; j < n; j += 16)
#pragma unroll
      for (int k = 0; k < 16; k += 4) before += shared.candidates[j + k] > mine ? 1 : 0;
    before = all_parts(before);
    if (part == 0 && i < n && before < wanted)
      shared.unordered[before] = static_cast<int32_t>(0xffffffffU - static_cast<uint32_t>(mine));
  }
  __syncthreads();
#pragma unroll 1
  for (int first = 0; first < wanted; first += kThreads / 4) {
    const int i = first + t / 4;
    const int32_t mine = i < wanted ? shared.unordered[i] : 0;
    int before = 0;
#pragma unroll 1
    for (int j = part; j < wanted; j += 16)
#pragma unroll
      for (int k = 0; k < 16; k += 4) before += shared.unordered[j + k] < mine ? 1 : 0;
    before = all_parts(before);
    if (part == 0 && i < wanted) emit(before, mine);
  }
  emit_local();
  __syncthreads();
  return top_k;
}

}  // namespace corvid::kernels::cuda
