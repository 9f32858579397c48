// A choice of key blocks for attention that was trained to see every key: by bounds of the keys, without training.
//
//   low, high [g,b,i] = the least and greatest k[j,g,i] over the keys j of the complete block b
//   S(r,g,b)  = sum over the query heads h of group g of sum_i max(q[r,h,i] * low[g,b,i], q[r,h,i] * high[g,b,i]):
//               no key of the block has a greater product with the queries
//   nb        = pos[r] / block + 1, the blocks that the row sees
//   chosen    = all of them while nb <= top_k; else the first block, the last kLocalPages, and of the others the first
//               top_k - 1 - kLocalPages by (S descending, block id ascending)
//
//   Shapes   q: [rows, n_heads, head_dim]; bounds: one pointer per page, to [n_kv_heads, 2, padded(head_dim)] floats
//            (low, high; padding 0); pos: [rows], host memory; ids: [rows, n_kv_heads, top_k] ascending, filled up with
//            -1; counts: [rows, n_kv_heads].
//   Needs    rows >= 0; head counts, head_dim, block >= 1; n_heads a multiple of n_kv_heads; top_k >= kLocalPages + 1;
//            0 <= pos[r] < n_keys; the bounds of every block but the last kLocalPages that a row sees.
//   Numbers  float32: |S - exact| <= page_select_tolerance(head_dim, group) * sum_h sum_i |q| max(|low|, |high|); a
//            choice may differ from the exact one only among blocks whose scores lie that close. NaN counts as -inf.
//   Order    A row's choice depends on that row, the keys it sees and the tier alone.
#pragma once
#include <cfloat>
#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/kv_pages/kv_pages.h"

namespace corvid::kernels {

constexpr int64_t kLocalPages = 2;

constexpr int64_t bounds_bytes(int64_t n_kv_heads, int64_t head_dim) {
  return n_kv_heads * 2 * padded(head_dim) * int64_t{sizeof(float)};
}

struct PageSelect {
  const float* q;
  const float* const* bounds;
  const int64_t* pos;
  int32_t* ids;
  int32_t* counts;
  int64_t rows, n_heads, n_kv_heads, head_dim, block, n_keys, top_k;
};
constexpr double page_select_tolerance(int64_t head_dim, int64_t group) {
  return (double(head_dim) / 4 + double(group) + 8) * FLT_EPSILON;
}
// All sequences in one go, as block_select does. CPU only for now.
void page_select(std::span<const PageSelect> all, Exec& exec);

// Writes the bounds of the complete blocks [first, end) of one sequence. The same bits in every tier.
struct KeyBounds {
  const PageHeads* key_pages;
  float* const* bounds;
  int64_t first, end, n_kv_heads, head_dim, block;
  Format format = Format::f32;  // of the keys
};
void key_bounds(std::span<const KeyBounds> all, Exec& exec);

namespace ref {
void page_select(const PageSelect& a, int32_t* ids, int32_t* counts, double* scores);  // scores: as block_select's
}

}  // namespace corvid::kernels
