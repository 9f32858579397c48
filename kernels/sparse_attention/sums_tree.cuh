// Sums of softmax over parts of a row's keys, and how parts are combined: always two neighbours of a binary tree, so
// that a row's bits depend on the tree alone.
#pragma once
#include "kernels/sparse_attention/decode_tile.cuh"

namespace corvid::kernels::decode {

// Sums over some keys, for kH heads and kN dimensions of each.
template <int kH, int kN>
struct Part {
  float most[kH], total[kH], acc[kH][kN];

  __device__ void clear() {
#pragma unroll
    for (int h = 0; h < kH; ++h) {
      most[h] = -INFINITY;
      total[h] = 0;
#pragma unroll
      for (int n = 0; n < kN; ++n) acc[h][n] = 0;
    }
  }
};

// Written so that every place that combines rounds alike.
template <int kH, int kN>
__device__ Part<kH, kN> combine(const Part<kH, kN>& a, const Part<kH, kN>& b, float scale_log2) {
  Part<kH, kN> sum;
#pragma unroll
  for (int h = 0; h < kH; ++h) {
    sum.most[h] = fmaxf(a.most[h], b.most[h]);
    const float of_a = weight(a.most[h], sum.most[h], scale_log2), of_b = weight(b.most[h], sum.most[h], scale_log2);
    sum.total[h] = fmaf(a.total[h], of_a, __fmul_rn(b.total[h], of_b));
#pragma unroll
    for (int n = 0; n < kN; ++n) sum.acc[h][n] = fmaf(a.acc[h][n], of_a, __fmul_rn(b.acc[h][n], of_b));
  }
  return sum;
}

// Parts that come in order are combined two and two, these again two and two, and so on: after 2^n of them `last` is
// the whole. Of parts that wait, those of the first kOwn levels are in registers, the others in `store`, which has a
// place for each of this thread's numbers in a row of kThreads.
template <int kH, int kN, int kThreads>
struct Tree {
  static constexpr int kOwn = 2, kWords = kH * (2 + kN);
  Part<kH, kN> waiting[kOwn], last;
  float* store;
  int n = 0;

  __device__ float* place(int level, int word) const { return store + ((level - kOwn) * kWords + word) * kThreads; }
  // After the last one nothing waits.
  __device__ void add(float scale_log2, bool is_last) {
    int level = 0;
#pragma unroll
    for (int own = 0; own < kOwn; ++own)
      if (level == own && (n >> own) % 2 == 1) {
        last = combine(waiting[own], last, scale_log2);
        ++level;
      } else if (level == own) {
        waiting[own] = last;
      }
    if (level == kOwn) {
#pragma unroll 1
      for (; (n >> level) % 2 == 1; ++level) {
        Part<kH, kN> other;
#pragma unroll
        for (int h = 0; h < kH; ++h) {
          other.most[h] = *place(level, h * (2 + kN));
          other.total[h] = *place(level, h * (2 + kN) + 1);
#pragma unroll
          for (int i = 0; i < kN; ++i) other.acc[h][i] = *place(level, h * (2 + kN) + 2 + i);
        }
        last = combine(other, last, scale_log2);
      }
      if (!is_last)
#pragma unroll
        for (int h = 0; h < kH; ++h) {
          *place(level, h * (2 + kN)) = last.most[h];
          *place(level, h * (2 + kN) + 1) = last.total[h];
#pragma unroll
          for (int i = 0; i < kN; ++i) *place(level, h * (2 + kN) + 2 + i) = last.acc[h][i];
        }
    }
    ++n;
  }
};

// The combination of kRanks parts that are there at once, as a tree would add them.
template <int kRanks, int kN>
__device__ Part<1, kN> whole_of(const float* acc, int stride, const float2* stats, float scale_log2) {
  Part<1, kN> parts[kRanks];
#pragma unroll
  for (int i = 0; i < kRanks; ++i) {
    parts[i].most[0] = stats[i].x;
    parts[i].total[0] = stats[i].y;
#pragma unroll
    for (int n = 0; n < kN; ++n) parts[i].acc[0][n] = acc[i * stride + n];
  }
#pragma unroll
  for (int width = 1; width < kRanks; width *= 2)
#pragma unroll
    for (int i = 0; i < kRanks; i += 2 * width) parts[i] = combine(parts[i], parts[i + width], scale_log2);
  return parts[0];
}

}  // namespace corvid::kernels::decode
