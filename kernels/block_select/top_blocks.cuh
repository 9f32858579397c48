// The last step of block selection on the GPU: from one score per block to the chosen ids. Used by the kernels that
// select alone and by those that attend to what they select.
#pragma once
#include <cstdint>

namespace corvid::kernels::cuda {

constexpr int kMaxTopK = 64;
constexpr int kMaxCandidates = 1024;

struct TopBlocksShared {
  unsigned long long candidates[kMaxCandidates];
  uint32_t group_max[kMaxTopK];
  uint32_t threshold;
  int n_candidates, total;
  int32_t unordered[kMaxTopK];
};

// Order of floats as order of integers; both zeros are alike, and NaN counts as -inf.
__device__ inline uint32_t ordered(float score) {
  const uint32_t bits = __float_as_uint(fmaxf(score, -INFINITY) + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

// ids[0, count): the first of nb blocks by (local first, score descending, id ascending), in ascending order; the rest
// of ids[0, top_k) is -1. Returns count. All `threads` threads of the block call it (the block has no others); ids may
// be shared or global memory, written by threads of the block: a barrier follows before the return. scores is 16-byte
// aligned and has `capacity` numbers, a multiple of 4, of which those behind nb may be anything: the first reads don't
// wait for nb.
//
// The least of `count` disjoint groups' best scores has at least `count` blocks at or above it, and few more: some 50
// of thousands. They are ranked by counting. Scores that are all alike would be too many: then the threshold is
// searched bit by bit.
__device__ inline int top_blocks(const float* scores, int capacity, int nb, int top_k, int local_blocks, int32_t* ids,
                                 TopBlocksShared& shared, int threads) {
  constexpr int kBatch = 4;  // reads of 16 bytes that a thread has under way
  const int t = static_cast<int>(threadIdx.x);
  float4 v[kBatch];
  const auto read = [&](int from) {
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int b = from + 4 * (t + k * threads);
      v[k] = b < capacity ? *reinterpret_cast<const float4*>(scores + b) : float4{};
    }
  };
  read(0);
  const int count = nb < top_k ? nb : top_k, first_local = nb - local_blocks, step = 4 * kBatch * threads;
  for (int i = t; i < top_k; i += threads) {
    ids[i] = i < nb ? i : -1;
    shared.group_max[i] = 0;
  }
  if (nb <= top_k) {
    __syncthreads();
    return count;
  }
  if (t == 0) shared.n_candidates = 0, shared.total = 0;
  __syncthreads();
  const auto key_of = [&](int b) { return b >= first_local ? 0xffffffffU : ordered(scores[b]); };
  const auto append = [&](int b, uint32_t key) {
    const int at = atomicAdd(&shared.n_candidates, 1);
    if (at < kMaxCandidates) shared.candidates[at] = static_cast<unsigned long long>(key) << 32 | (0xffffffffU - b);
  };
  // f(block, its key) for the blocks of this thread.
  const auto for_each = [&](const auto& f) {
    for (int from = 0; from < nb; from += step) {
      if (from > 0 || nb > step) read(from);
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
        const int b = from + 4 * (t + k * threads);
        const float four[4] = {v[k].x, v[k].y, v[k].z, v[k].w};
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (b + i < nb) f(b + i, b + i >= first_local ? 0xffffffffU : ordered(four[i]));
      }
    }
  };

  uint32_t best = 0;
  for_each([&](int, uint32_t key) { best = max(best, key); });
  if (best > 0) atomicMax(&shared.group_max[t % count], best);
  __syncthreads();
  if (t < 32) {
    uint32_t least = 0xffffffffU;
    for (int i = t; i < count; i += 32) least = min(least, shared.group_max[i]);
    least = __reduce_min_sync(0xffffffffU, least);
    if (t == 0) shared.threshold = least;
  }
  __syncthreads();
  const uint32_t threshold = shared.threshold;
  for_each([&](int b, uint32_t key) {
    if (key >= threshold) append(b, key);
  });
  __syncthreads();
  int n = shared.n_candidates;
  if (n > kMaxCandidates) {  // the largest threshold that `count` blocks reach; of those that equal it the first by id
    uint32_t low = 0;
    for (int bit = 31; bit >= 0; --bit) {
      const uint32_t middle = low | 1U << bit;
      int reach = 0;
      for (int b = t; b < nb; b += threads) reach += key_of(b) >= middle ? 1 : 0;
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
  for (int i = t; i < n; i += threads) {
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
    for (int j = 0; j < count; ++j) rank += shared.unordered[j] < mine ? 1 : 0;
    ids[rank] = mine;
  }
  __syncthreads();
  return count;
}

}  // namespace corvid::kernels::cuda
