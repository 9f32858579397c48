// Integer products for weights in ggml's block formats (in_integers()), shared by matmul and expert_ffn.
//
//   y[r,j] = sum over groups g, ascending, of  float(sum_i q[r,g,i] * w[j,g,i]) * (d[r,g] * d_w[j,g])
//                                              - float(sum_i q[r,g,i]) * (d[r,g] * min_w[j,g])    where there are
//                                              minima
//
// A row x becomes 16-bit integers q and a scale per block of 32, d = max|x| / kMaxWord (simd/v16.h). A group is 32
// weights, or 16 in q6_k. The sum of its products fits an int32, so it is exact in any order, and instructions of any
// kind give the same bits; the sum over groups is one chain of fused multiply-adds. So a result depends on its row and
// weights alone: not on the tier, the number of rows, or what else is computed beside it. A block with a NaN or an
// infinity makes the row's outputs NaN.
//
// One to kMaxVectors rows, of interleaved weights max_vectors() (interleaved.h), are multiplied as they are, by weights
// unpacked in registers. More are packed in panels of sixteen, interleaved so that a register (or a column of an AMX
// tile) holds the same piece of all sixteen, and the weights are unpacked once for all of them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/format.h"
#include "kernels/isa.h"

namespace corvid::kernels::cpu {

constexpr int64_t kIntBlock = 32;  // numbers of x under one scale
constexpr int64_t kPanelRows = 16;
constexpr int64_t kMaxVectors = 5;
constexpr int64_t kMaxIntLength = int64_t{1} << 24;  // k: sixteen rows of weights are addressed with 32 bits

// A quantised row: its k 16-bit integers, their order within a block the tier's; k / 32 scales; and k / 16 sums of the
// integers. Rows and panels lie on 64 bytes.
constexpr int64_t int_scale_bytes(int64_t k) { return (k / kIntBlock * 4 + 63) / 64 * 64; }
constexpr int64_t int_row_bytes(int64_t k) { return 2 * k + int_scale_bytes(k) + (k / 16 * 4 + 63) / 64 * 64; }

// A panel: for each block the integers of sixteen rows, in an order that the tier likes, their scales, and the sums of
// their integers, as floats.
constexpr int64_t kPanelBlockBytes = kPanelRows * (2 * kIntBlock + 4 + 4);
constexpr int64_t int_panel_bytes(int64_t k) { return k / kIntBlock * kPanelBlockBytes; }

// y[r * y_stride + j] (+)= the product of row r and weights j    for r < rows, j < n
struct IntTile {
  const std::byte* const* vectors;  // quantised rows, max_vectors() (interleaved.h) at most, or null:
  const std::byte* panels;          // ceil(rows / 16) panels, one after the other
  const char* w;                    // n rows of row_bytes(format, k)
  float* y;
  int64_t rows, n, k, y_stride;
  Format format;
  bool add;
  const char* next = nullptr;  // weights that this thread will probably read after these
};

constexpr int64_t kIntOuts = 96;  // per tile when there are many rows: a multiple of every register tile and block
// Rows of interleaved weights (interleaved.h) that are unpacked together when there are many rows of x: of one group,
// and whole pieces of what panels are multiplied by.
constexpr int64_t kSeparatedRows = 48;
constexpr int64_t separated_scratch(int64_t k) { return kSeparatedRows * row_bytes(Format::q8_0, k) / 4 + 16; }
// Floats of scratch memory that int_product() needs, 64-byte aligned: the weights of a few outputs, unpacked;
// interleaved ones as words, or those rows.
constexpr int64_t int_scratch(int64_t k) { return 8 * k + 512 + (kSeparatedRows / 2 - 4) * k; }
static_assert(int_scratch(32) - separated_scratch(32) >= 8 * 32 + 512);

struct IntFunctions {
  // x [32 * blocks] -> the blocks from `first` on of a quantised row of k.
  void (*quantize)(const float* x, int64_t first, int64_t blocks, std::byte* row, int64_t k) noexcept;
  // One to sixteen quantised rows of k numbers -> the panel. Its rows from n on become anything.
  void (*pack)(const std::byte* const* rows, int64_t n, int64_t k, std::byte* panel) noexcept;
  void (*product)(const IntTile& tile, float* scratch) noexcept;  // of any format but the interleaved ones
  // Of these, with panels; null: they have to be put into rows first.
  void (*product_of_interleaved)(const IntTile& tile, float* scratch) noexcept = nullptr;
};
const IntFunctions& int_functions(Isa isa);

}  // namespace corvid::kernels::cpu
