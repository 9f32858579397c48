// sparse_attention on the GPU: for rows of a batch, over pages (paged_rows.h).
//
//   Shapes   device memory: q, o: [rows, n_heads, head_dim] bf16 (o == q is not allowed); keys, values: slot 0's of
//   this
//            layer, [n_kv_heads, block, head_dim] bf16; ids: [rows, n_kv_heads, top_k], counts: [rows, n_kv_heads], as
//            block_select writes them. ids == counts == null: every block (dense attention). An idle row gets zeros.
//   Needs    n_heads a multiple of n_kv_heads, head_dim a multiple of 16 and at most 256, block a multiple of 16, top_k
//            <= 64, scale > 0; ids ascending, distinct, in [0, pos / block], counts >= 1; every page used present.
//   Numbers  Products of bf16, sums and softmax in float32, weights of values rounded to bf16 (and in the sparse kernel
//            for runs each block's share of the result too), o rounded to bf16: |o - exact| <= max_j |v[j]| *
//            (kPagedAttentionRounding + sparse_attention_tolerance(head_dim, keys) * (1 + scale * max_j sum_i |q_i
//            k_ji|)).
//   Order    A row's bits depend on that row, its keys, and whether it is a decode row or in a run; not on other rows.
//   Memory   `workspace`: attention_workspace() bytes, 128-byte aligned, contents don't matter before or after.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/block_select/paged.h"
#include "kernels/sparse_attention/sparse_attention.h"
#include "kernels/store_heads/store_heads.h"

namespace corvid::kernels {

struct PagedAttention {
  PagedRows rows;
  const uint16_t* q;
  const std::byte* keys;
  const std::byte* values;
  int64_t page_bytes;
  const int32_t* ids;
  const int32_t* counts;
  uint16_t* o;
  int64_t n_heads, n_kv_heads, head_dim, block, top_k;
  float scale;
  std::byte* workspace = nullptr;
  bool rounds = false;  // o is rounded further, to the grid of products/grid.cuh: can_round()
};

constexpr double kPagedAttentionRounding = 0x1p-7;

// Of the shape alone; `is_sparse` says whether ids will be given.
int64_t attention_workspace(const PagedAttention& a, bool is_sparse);

// Whether `rounds` may be asked for: decode rows alone, without ids, of a shape that decode.cu serves.
bool can_round(const PagedAttention& a);

namespace cuda {
void attention(const PagedAttention& a, CUstream_st* stream);

// block_select(select), then attention(attend) over what it chose: attend.ids and counts are select's, and its rows
// too. The same results as the two calls, in fewer launches where a fused kernel serves the shape.
void select_and_attend(const PagedBlockSelect& select, const PagedAttention& attend, CUstream_st* stream);

// Up to so many keys a fused kernel may serve, best where max_keys is the next multiple of kRowSpanKeys.
constexpr int64_t kRowSpanKeys = 128, kRowAttentionKeys = 12 * kRowSpanKeys;

// For how many positions a step that must serve `max_keys` is best recorded: twice as many as the one before, from
// kLeastKeys on. With spans it knows those of its one row after a short past, as its attention has a block for each
// (row_decode.cu).
constexpr int64_t kLeastKeys = 4096;
constexpr int64_t keys_of_step(int64_t max_keys, bool with_spans) {
  if (with_spans && max_keys <= kRowAttentionKeys) return (max_keys + kRowSpanKeys - 1) / kRowSpanKeys * kRowSpanKeys;
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(max_keys, kLeastKeys))));
}

// store_heads(heads), then attention(attend) by its queries and over its pages: attend.q is heads.q_out, and rows and
// pages are the same. The same bits, in one launch where a fused kernel serves the shape on the current device; q_out
// may then be left as it is.
bool can_store_and_attend(const StoreHeads& heads, const PagedAttention& attend);
void store_and_attend(const StoreHeads& heads, const PagedAttention& attend, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
