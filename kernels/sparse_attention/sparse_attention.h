// Exact softmax attention over chosen blocks of keys, or over all of them, with grouped query heads.
//
//   o[r,h] = sum_j softmax_j(scale * <q[r,h], k[j,g]>) * v[j,g]      g = h / (n_heads / n_kv_heads)
//   over the keys j <= pos[r] of the blocks chosen for (r, g)
//
//   Shapes   q, o: [rows, n_heads, head_dim] (o == q is not allowed); key_pages, value_pages: kv_pages.h with
//            n_kv_heads; pos: [rows], host memory; ids: [rows, n_kv_heads, top_k] ascending, counts: [rows,
//            n_kv_heads], as block_select writes them (one index head per kv head). ids == counts == null: every block
//            (dense attention).
//   Needs    rows >= 0; head counts, head_dim, block >= 1; n_heads a multiple of n_kv_heads; scale > 0; 0 <= pos[r] <
//            n_keys; ids ascending, distinct, in [0, pos[r] / block], counts >= 1; every page that is used present.
//   Numbers  What the pages hold becomes float32 exactly, in every format. Then float32, online softmax by block: |o -
//            exact| <= sparse_attention_tolerance(head_dim, keys) * max_j |v[j]| * (1 + scale * max_j sum_i |q_i
//            k_ji|), keys = number of keys attended to.
//            In the tiers with VNNI pages of q8_0 are multiplied in integers when head_dim and block are multiples of
//            32: queries are rounded to 16 bits of the largest of each 32, half of a 32,512th of it, and weights, times
//            the scales of values, of the largest of each 128. Then |q_i| and |v_j| above are the largest of their 32,
//            and 0.51 * 128 / 32,512 = 0.2% is added to the tolerance: what 128 weights can be off together, of the
//            largest, so of their sum. At random it is some hundred times less.
//   Order    Blocks ascending, keys ascending within a block, in spans of some 512 keys whose sums are merged in order;
//            where they begin depends on the row's number of blocks alone. So a row's bits depend on that row, its keys
//            and the tier, not on the other rows or the threads, also when these share the spans of one row; and sparse
//            with every block chosen equals dense, bit for bit.
//   Memory   Scores of 48 queries and one block for each thread, sums of 512 queries; never rows x keys.
#pragma once
#include <cfloat>
#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/kv_pages/kv_pages.h"

namespace corvid::kernels {

struct SparseAttention {
  const float* q;
  const PageHeads* key_pages;
  const PageHeads* value_pages;
  const int64_t* pos;
  const int32_t* ids;
  const int32_t* counts;
  float* o;
  int64_t rows, n_heads, n_kv_heads, head_dim, block, n_keys, top_k;
  float scale;                  // 1 / sqrt(head_dim) in every model so far
  Format format = Format::f32;  // of the pages
};

constexpr double sparse_attention_tolerance(int64_t head_dim, int64_t keys) {
  return (2 * double(head_dim) + double(keys) / 8 + 40) * FLT_EPSILON;
}

void sparse_attention(const SparseAttention& a, Exec& exec);  // CPU only for now
// Rows of several sequences, each with its own pages, in one go: the threads meet once and share all the work. The
// outputs must not overlap.
void sparse_attention(std::span<const SparseAttention> all, Exec& exec);
namespace cpu {
void sparse_attention(std::span<const SparseAttention> all, Isa isa, Pool& pool);
}
namespace ref {
void sparse_attention(const SparseAttention& a, double* o);
}

}  // namespace corvid::kernels
