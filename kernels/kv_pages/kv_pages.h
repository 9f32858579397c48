// How keys and values lie in cache pages. A page holds one block: positions [b * block, (b + 1) * block) are page b.
//
//   a line     16 elements, one in each lane of a vector
//   a group    lines one after the other: of keys a lane is a position and a line a dimension, padded(block) / 16
//   groups
//              of dim lines; of values a lane is a dimension and a line a position, padded(dim) / 16 groups of block
//   a strip    four groups, the last of a head fewer: line 0 of each, line 1 of each, ... (in q8_0 one group)
//   a head     strips one after the other, then zeros up to a multiple of 64 bytes
//
// So both products of attention read whole lines in order and need no horizontal sum, and a kernel that takes the lines
// of four groups at a time reads one stream, which the processor fetches ahead by itself. A page's heads need not
// follow each other (PageHeads): the model's cache has a head's keys and values together.
//
// Elements are f32, f16, bf16 or q8_0. For q8_0, 32 dimensions of a position share a scale (half precision), which
// follow the groups: for keys a line of scales for each group and 32 dimensions, for values block scales for each 32
// dimensions.
//
// Padding and positions not yet stored may hold anything, NaN included: no kernel lets them reach a result. The index
// keys of block_select are key pages too, with n_heads == 1.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/format.h"

namespace corvid::kernels {

constexpr int64_t kLanes = 16;
constexpr int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Where a page is: head h begins at `first + h * step`; heads on 64 bytes are fastest. Null: there is no such page.
struct PageHeads {
  std::byte* first = nullptr;
  int64_t step = 0;

  std::byte* head(int64_t h) const { return first + h * step; }
};

constexpr bool is_page_format(Format f) {
  return f == Format::f32 || f == Format::f16 || f == Format::bf16 || f == Format::q8_0;
}
// Bytes of an element; the scales of q8_0 not counted.
constexpr int64_t element_bytes(Format f) { return f == Format::q8_0 ? 1 : block_bytes(f); }
// The groups of 32 dimensions that share a scale; none in the other formats.
constexpr int64_t scale_groups(Format f, int64_t dim) {
  return f == Format::q8_0 ? (dim + kQ8Block - 1) / kQ8Block : 0;
}

constexpr int64_t kStripGroups = 4;
constexpr bool has_strips(Format f) { return f != Format::q8_0; }  // of more than a group
// Elements of a head before line `line` of group `group`, of `groups` of `lines` lines each.
constexpr int64_t line_offset(Format f, int64_t groups, int64_t lines, int64_t group, int64_t line) {
  if (!has_strips(f)) return (group * lines + line) * kLanes;
  const int64_t first = group / kStripGroups * kStripGroups;
  const int64_t width = groups - first < kStripGroups ? groups - first : kStripGroups;
  return (first * lines + line * width + group - first) * kLanes;
}

// Bytes of one head in a page.
constexpr int64_t key_head_bytes(Format f, int64_t dim, int64_t block) {
  return (padded(block) * (dim * element_bytes(f) + scale_groups(f, dim) * 2) + 63) / 64 * 64;
}
constexpr int64_t value_head_bytes(Format f, int64_t dim, int64_t block) {
  return (block * (padded(dim) * element_bytes(f) + scale_groups(f, dim) * 2) + 63) / 64 * 64;
}

// Writes rows into pages.
//   Shapes   rows: [n, n_heads, dim] row-major; pos: [n], distinct; pages: indexed by pos / block.
//   Needs    n >= 0; n_heads, dim, block >= 1; pos >= 0 and every touched page present; a format of pages.
//   Numbers  Rounded to nearest; what is finite stays finite: f16 and bf16 stop at their largest number, q8_0 at 127
//            times f16's. NaN stays; in q8_0 NaN or an infinity makes NaN of the 32 numbers that share its scale.
struct StoreRows {
  const float* rows;
  const int64_t* pos;
  const PageHeads* pages;
  int64_t n, n_heads, dim, block;
  Format format = Format::f32;
  bool are_values = false;
};
// All jobs in one go; no two may write to the same place.
void store_rows(std::span<const StoreRows> all, Exec& exec);
void store_keys(StoreRows a, Exec& exec);
void store_values(StoreRows a, Exec& exec);

// Sets the positions from `used` on and all padding of one page to zero, so that what is kept elsewhere depends on the
// stored rows alone. `used` in [0, block]; CPU memory.
void clear_unused_keys(const PageHeads& page, Format f, int64_t n_heads, int64_t dim, int64_t block, int64_t used);
void clear_unused_values(const PageHeads& page, Format f, int64_t n_heads, int64_t dim, int64_t block, int64_t used);

// One element, for tests and reference code.
float key_at(const PageHeads& page, int64_t head, int64_t slot, int64_t i, int64_t dim, int64_t block,
             Format f = Format::f32);
float value_at(const PageHeads& page, int64_t head, int64_t slot, int64_t i, int64_t dim, int64_t block,
               Format f = Format::f32);

}  // namespace corvid::kernels
