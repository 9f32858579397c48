// How the scores of block selection lie in its workspace, between the kernels that write them and those that choose.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/block_select/paged.h"

namespace corvid::kernels {

// Scores: [rows, n_heads, stride] float32, a block's at its id.
constexpr int64_t score_stride(int64_t max_keys, int64_t block) {
  return ((max_keys + block - 1) / block + 31) / 32 * 32;
}

// Rows of a run whose scores are in memory at once: 128 MiB of them, in whole tiles.
constexpr int64_t score_rows(const PrefillRun& run, int64_t n_heads, int64_t block) {
  const int64_t tile = 128, row_bytes = n_heads * score_stride(run.max_keys, block) * 4;
  return std::min(run.rows, std::max<int64_t>(1, (int64_t{128} << 20) / row_bytes / tile) * tile);
}

}  // namespace corvid::kernels
