// Integer products for q8_0 weights, shared by matmul and expert_ffn.
//
//   y[r,j] = sum over blocks b of 32, ascending, of  float(sum_i q[r,b,i] * w[j,b,i]) * (d[r,b] * d_w[j,b])
//
// A row x becomes 16-bit integers q and a scale per block, d = max|x| / kMaxWord (simd/v16.h). The sum of a block's
// products fits an int32, so it is exact in any order, and instructions of any kind give the same bits; the sum over
// blocks is one chain of fused multiply-adds. So a result depends on its row and weights alone: not on the tier, the
// number of rows, or what else is computed beside it. A block with a NaN or an infinity makes the row's outputs NaN.
//
// One to kMaxVectors rows are multiplied as they are. More are packed in panels of sixteen, interleaved so that a
// register (or a column of an AMX tile) holds the same piece of all sixteen.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/format.h"
#include "kernels/isa.h"

namespace corvid::kernels::cpu {

constexpr int64_t kPanelRows = 16;
constexpr int64_t kMaxVectors = 3;
constexpr int64_t kMaxQ8Length = int64_t{1} << 24;  // k: sixteen rows of weights are addressed with 32 bits

// A quantised row: its k 16-bit integers, and behind them k / 32 scales. Rows and panels lie on 64 bytes.
constexpr int64_t q8_row_bytes(int64_t k) { return 2 * k + (k / kQ8Block * 4 + 63) / 64 * 64; }
inline float* q8_scales(std::byte* row, int64_t k) { return reinterpret_cast<float*>(row + 2 * k); }
inline const float* q8_scales(const std::byte* row, int64_t k) { return reinterpret_cast<const float*>(row + 2 * k); }

// A panel: for each block the integers of sixteen rows, in an order that the tier likes, then their scales.
constexpr int64_t kPanelBlockBytes = kPanelRows * (2 * kQ8Block + 4);
constexpr int64_t q8_panel_bytes(int64_t k) { return k / kQ8Block * kPanelBlockBytes; }

// y[r * y_stride + j] (+)= the product of row r and weights j    for r < rows, j < n
struct Q8Tile {
  const std::byte* const* vectors;  // rows <= kMaxVectors quantised rows, or null:
  const std::byte* panels;          // ceil(rows / 16) panels, one after the other
  const char* w;                    // n rows of row_bytes(q8_0, k)
  float* y;
  int64_t rows, n, k, y_stride;
  bool add;
};

constexpr int64_t kQ8Outs = 96;  // per tile when there are many rows: a multiple of every register tile and block
// Floats of scratch memory that product() needs, 64-byte aligned.
constexpr int64_t q8_scratch(int64_t k) { return 16 * (k / kQ8Block) + 8 * k; }

struct Q8Functions {
  // Some blocks of a row: `words` gets 64 bytes, `scales` a float for each.
  void (*quantize)(const float* x, int64_t blocks, std::byte* words, float* scales) noexcept;
  // One to sixteen quantised rows of k numbers -> the panel. Its rows from n on become anything.
  void (*pack)(const std::byte* const* rows, int64_t n, int64_t k, std::byte* panel) noexcept;
  void (*product)(const Q8Tile& tile, float* scratch) noexcept;
};
const Q8Functions& q8_functions(Isa isa);

}  // namespace corvid::kernels::cpu
