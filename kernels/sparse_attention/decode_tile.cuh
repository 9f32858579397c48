// What the kernels of decode share: their parameters, and how tiles of keys and values lie in shared memory.
#pragma once
#include "kernels/ptx.cuh"
#include "kernels/sparse_attention/args.h"
#include "kernels/sparse_attention/spans.h"

struct CUstream_st;

namespace corvid::kernels::decode {

struct Decode : AttentionArgs {
  const int32_t* ids;  // null: dense
  const int32_t* counts;
  float* sums;          // dense: [rows, n_heads, spans, dim]
  float* stats;         // dense: [rows, n_heads, spans, 2]: greatest score, total weight
  const float* scores;  // not null: choose by these, and write:
  int32_t* chosen;
  int32_t* chosen_counts;
  int64_t score_stride;
  int rows, head_dim, block, top_k, local_blocks, max_spans;
  int fresh;                // so many of a sequence's last positions may not be stored yet when a kernel begins
  uint64_t pieces_inverse;  // 2^32 over the pieces of a block, rounded up
  bool rounds;              // o, as PagedAttention says
};

// Sparse attention, of blocks that are given or chosen here.
void attend_sparsely(const Decode& a, CUstream_st* stream);

// 16-byte chunks of a row are permuted by the row's number, so that eight rows' chunks lie in different banks.
template <int kDim>
__device__ uint32_t chunk_at(int row, int chunk) {
  return static_cast<uint32_t>(row * 2 * kDim + 16 * (chunk ^ (row & 7)));
}

__device__ inline float weight(float most, float all_most, float scale_log2) {
  return most == -INFINITY ? 0 : ptx::exp2_fast((most - all_most) * scale_log2);
}

}  // namespace corvid::kernels::decode
