// Weights of q8_0 and q4_0 in the order in which products of a few rows want them: sixteen rows of weights side by
// side, so that a register holds the same columns of all sixteen. Then a lane's sum is an output's, nothing is
// shuffled, and weights are read in one stream instead of sixteen. Formats q8_0x16 and q4_0x16; sixteen rows take the
// bytes that they took before, with the same numbers in them, and every product has the bits of the plain format's.
//
//   For each 16 rows, for each two blocks of 32 columns (the last may be one):
//     the scales of the 16 rows, half precision, of the first block, then of the second
//     the first block's registers, then the second's. 64 bytes; 4 of each row in turn:
//       q8_0x16   register i of 8: columns 4 i to 4 i + 3, as unsigned bytes, weight + 128
//       q4_0x16   register i of 4: as the bytes lie in a row: columns 4 i to 4 i + 3 in the low halves, 16 more in the
//                 high ones
#pragma once
#include <cstdint>
#include <optional>

#include "kernels/format.h"
#include "kernels/isa.h"
#include "kernels/matmul/ints.h"

namespace corvid::kernels {

constexpr int64_t kInterleavedRows = 16;

// Registers of a block.
constexpr int64_t fours_of(Format format) { return format == Format::q8_0x16 ? 8 : 4; }

// Where block b of `blocks` begins, in bytes from the sixteen rows' first.
struct InterleavedPlace {
  int64_t scales, registers;
};
constexpr InterleavedPlace interleaved_place(int64_t b, int64_t blocks, int64_t fours) {
  constexpr int64_t kScales = kInterleavedRows * 2;
  const int64_t together = b / 2 * 2 + 1 < blocks ? 2 : 1;
  const int64_t pair = b / 2 * 2 * (kScales + 64 * fours);
  return {pair + b % 2 * kScales, pair + together * kScales + b % 2 * 64 * fours};
}

// What n rows in `format` should be interleaved as for the tier. Nothing in other formats, where n, the rows of a
// matrix or of one expert's, is no multiple of sixteen, in tiers without VNNI, and in that with AMX: it has the fast
// products of few rows too, but its panels take the rows as they lie in a file.
std::optional<Format> interleaved_format(Format format, int64_t n, Isa isa);

// Sixteen rows of k weights in plain_format(format), one after the other -> sixteen in `format`, and back. The two do
// not overlap.
void interleave(Format format, const void* rows, int64_t k, void* out) noexcept;
void separate(Format format, const void* interleaved, int64_t k, void* rows, Isa isa) noexcept;

namespace cpu {

// IntFunctions::product for any format, interleaved ones too: then t.n is a multiple of sixteen. Where the tier has no
// products of its own for them, or rows are many, the weights are put into rows again first, some at a time.
void int_product(const IntTile& t, Isa isa, float* scratch) noexcept;

}  // namespace cpu
}  // namespace corvid::kernels
