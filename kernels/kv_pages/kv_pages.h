// How keys and values lie in cache pages. A page holds one block: positions [b * block, (b + 1) * block) are page b.
//
//   key page    [n_heads, dim, padded(block)]   a head's keys transposed: one position is one column, so that a query
//                                               meets 16 keys per instruction without a horizontal sum
//   value page  [n_heads, block, padded(dim)]   one position is one row
//
// padded(n) rounds up to 16 floats. Padding and positions not yet stored may hold anything, NaN included: no kernel
// lets them reach a result. The index keys of block_select are key pages too, with n_heads == 1.
#pragma once
#include <cstdint>

#include "kernels/exec.h"

namespace corvid::kernels {

constexpr int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }
constexpr int64_t key_page_floats(int64_t n_heads, int64_t dim, int64_t block) { return n_heads * dim * padded(block); }
constexpr int64_t value_page_floats(int64_t n_heads, int64_t dim, int64_t block) {
  return n_heads * block * padded(dim);
}

// Writes rows into pages.
//   Shapes   rows: [n, n_heads, dim] row-major; pos: [n], distinct; pages: one pointer per page, indexed by pos /
//            block, 64-byte aligned pages are fastest.
//   Needs    n >= 0; n_heads, dim, block >= 1; pos >= 0 and every touched page present (not null).
struct StoreRows {
  const float* rows;
  const int64_t* pos;
  float* const* pages;
  int64_t n, n_heads, dim, block;
};
void store_keys(const StoreRows& a, Exec& exec);
void store_values(const StoreRows& a, Exec& exec);

// Sets the positions from `used` on and all padding of one page to zero, so that what is kept elsewhere depends on the
// stored rows alone. `used` in [0, block]; CPU memory.
void clear_unused_keys(float* page, int64_t n_heads, int64_t dim, int64_t block, int64_t used);
void clear_unused_values(float* page, int64_t n_heads, int64_t dim, int64_t block, int64_t used);

// One element, for tests and reference code.
inline float key_at(const float* page, int64_t head, int64_t slot, int64_t i, int64_t dim, int64_t block) {
  return page[(head * dim + i) * padded(block) + slot];
}
inline float value_at(const float* page, int64_t head, int64_t slot, int64_t i, int64_t dim, int64_t block) {
  return page[(head * block + slot) * padded(dim) + i];
}

}  // namespace corvid::kernels
