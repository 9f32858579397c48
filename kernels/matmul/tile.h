// The piece of a product that one task computes, shared by matmul and expert_ffn.
#pragma once
#include <cstdint>

#include "kernels/format.h"
#include "kernels/isa.h"

namespace corvid::kernels::cpu {

constexpr int64_t kMaxTileRows = 64;

// Whether weights are used as they are read, without scratch memory: then a tile may have any number of outputs.
constexpr bool is_direct(int64_t rows, int64_t k) { return rows <= 2 && k % 16 == 0; }

// y[r * y_stride + j] = sum_i x[r][i] * w[j,i]    for r < rows <= kMaxTileRows, j < n <= tile_outs(k), i < k
struct Tile {
  const float* const* x;  // one pointer per row
  const char* w;          // n rows of row_bytes(format, k)
  float* y;
  int64_t rows, n, k, y_stride;
  Format format;
  bool add;
};

// Outputs per tile: as many as fit, decoded, in 200 KB, which a level-2 cache holds. A multiple of every register tile.
constexpr int64_t tile_outs(int64_t k) {
  const int64_t fits = (int64_t{48} * 1024) / k / 12 * 12;
  return fits < 12 ? 12 : fits > 96 ? 96 : fits;
}
// Floats of scratch memory that a tile needs, 64-byte aligned.
constexpr int64_t tile_scratch(int64_t k) { return (tile_outs(k) + kMaxTileRows) * ((k + 15) / 16 * 16 + 16); }

using TileFn = void (*)(const Tile& tile, float* scratch) noexcept;
TileFn tile_function(Isa isa);

}  // namespace corvid::kernels::cpu
