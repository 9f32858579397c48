// Weights of q8_0 and q4_0 in the order in which products of a few rows want them: registers that hold the same columns
// of sixteen rows, and 96 rows side by side, so that what the columns are multiplied by is loaded once for up to six
// registers. Then a lane's sum is an output's, nothing is shuffled, and weights are read in one stream instead of many.
// Formats q8_0x96 and q4_0x96; the rows take the bytes that they took before, with the same numbers in them, and every
// product has the bits of the plain format's.
//
//   For each group of 96 rows, of which a matrix's, or an expert's, last has what whole sixteens are left; for each
//   block of 32 columns:
//     the scales of the rows, half precision
//     registers of 64 bytes, 4 of each of sixteen rows: register 0 of each sixteen, then register 1 of each, ...:
//       q8_0x96   register i of 8: columns 4 i to 4 i + 3, as unsigned bytes, weight + 128
//       q4_0x96   register i of 4: as the bytes lie in a row: columns 4 i to 4 i + 3 in the low halves, 16 more in the
//                 high ones
#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>

#include "kernels/format.h"
#include "kernels/isa.h"
#include "kernels/matmul/ints.h"

namespace corvid::kernels {

constexpr int64_t kInterleavedRows = 16;  // of a register
constexpr int64_t kGroupRows = 96;        // pieces of a matrix that are multiplied on their own begin with a group
// So many bytes ahead of what is multiplied weights are fetched: the processor follows a stream by itself, but not far
// enough while it multiplies as well, and not from one 4 KiB to the next, of which a line is fetched further ahead
// (docs/performance.md).
constexpr int64_t kAhead = 6144;
constexpr int64_t kPageAhead = 16384;

// Registers of a block of sixteen rows.
constexpr int64_t fours_of(Format format) { return format == Format::q8_0x96 ? 8 : 4; }

// Where sixteen rows lie, in bytes from where a group of theirs or of rows before them begins.
struct InterleavedPlace {
  int64_t scales, registers;  // the first ones
  int64_t step, block;        // from a register to the next of these rows; from a block to the next
};
// Rows [first, first + 16) of n of k columns; both are multiples of 16, and n ends a group.
constexpr InterleavedPlace interleaved_place(Format format, int64_t first, int64_t n, int64_t k) {
  const int64_t group = first / kGroupRows * kGroupRows, begin = group * row_bytes(format, k);
  const int64_t sixteens = std::min(kGroupRows, n - group) / kInterleavedRows, i = (first - group) / kInterleavedRows;
  const int64_t scales = kInterleavedRows * 2;
  return {begin + i * scales, begin + sixteens * scales + i * 64, sixteens * 64,
          sixteens * (scales + 64 * fours_of(format))};
}

// What n rows in `format` should be interleaved as for the tier. Nothing in other formats, where n, the rows of a
// matrix or of one expert's, is no multiple of sixteen, in tiers without VNNI, and in that with AMX: it has the fast
// products of few rows too, but its panels take the rows as they lie in a file.
std::optional<Format> interleaved_format(Format format, int64_t n, Isa isa);

// n rows of k weights in plain_format(format), one after the other -> n rows in `format`, of which the first begins a
// group. No overlap.
void interleave(Format format, const void* rows, int64_t n, int64_t k, void* out) noexcept;
// Rows [first, first + 16) of n that are interleaved -> plain ones. No overlap.
void separate(Format format, const void* interleaved, int64_t first, int64_t n, int64_t k, void* rows,
              Isa isa) noexcept;

namespace cpu {

// Rows of x that int_product takes as they are. With interleaved weights that is sooner than panels, most of which
// would be empty, for more of them: kMaxVectors at a time, while the weights stay in a cache (docs/performance.md).
constexpr int64_t kMostVectors = 64;
constexpr int64_t max_vectors(Format format, Isa isa) {
  return is_interleaved(format) && isa >= Isa::vnni ? kMostVectors : kMaxVectors;
}

// IntFunctions::product for any format, interleaved ones too: then t.w begins a group, and t.n is a multiple of sixteen
// that ends one. Where the tier has no products of its own for them, or rows are many, the weights are put into rows
// again first, some at a time.
void int_product(const IntTile& t, Isa isa, float* scratch) noexcept;

}  // namespace cpu
}  // namespace corvid::kernels
