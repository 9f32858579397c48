#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/block_select/block_select.h"
#include "kernels/check.h"
#include "kernels/simd/arena.h"

#define CORVID_BODY "kernels/block_select/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {
namespace {

constexpr int64_t kTileRows = 16;    // rows scored together: a block of keys is read once for all of them
constexpr int64_t kRowsAtOnce = 64;  // rows whose scores are in memory at once
constexpr int64_t kBlocksPerTask = 16;

void check(const BlockSelect& a) {
  require(a.rows >= 0 && a.n_heads >= 1 && a.dim >= 1 && a.block >= 1,
          "block_select: want rows >= 0 and n_heads, dim, block >= 1, found ", a.rows, ", ", a.n_heads, ", ", a.dim,
          ", ", a.block);
  require(a.local_blocks >= 1 && a.local_blocks <= a.top_k, "block_select: want local_blocks from 1 to top_k ", a.top_k,
          ", found ", a.local_blocks);
  for (int64_t r = 0; r < a.rows; ++r)
    require(a.pos[r] >= 0 && a.pos[r] < a.n_keys, "block_select: want positions below n_keys ", a.n_keys, ", found ",
            a.pos[r]);
}

int64_t visible_blocks(const BlockSelect& a, int64_t row) { return a.pos[row] / a.block + 1; }

// Blocks [0, scored_blocks) compete for the slots that the local blocks leave. 0: everything visible is chosen.
int64_t scored_blocks(const BlockSelect& a, int64_t row) {
  const int64_t nb = visible_blocks(a, row);
  return nb <= a.top_k ? 0 : nb - a.local_blocks;
}

// order: scratch for scored_blocks(row) ids.
void choose(const BlockSelect& a, int64_t row, int64_t head, const float* scores, int32_t* order) {
  const int64_t nb = visible_blocks(a, row), scored = scored_blocks(a, row);
  int32_t* ids = a.ids + (row * a.n_heads + head) * a.top_k;
  const int64_t count = std::min(nb, a.top_k);
  a.counts[row * a.n_heads + head] = static_cast<int32_t>(count);
  std::fill(ids + count, ids + a.top_k, -1);
  if (scored == 0) return std::iota(ids, ids + count, 0);
  const int64_t free_slots = a.top_k - a.local_blocks;
  std::iota(order, order + scored, 0);
  std::nth_element(order, order + free_slots, order + scored,
                   [&](int32_t x, int32_t y) { return scores[x] != scores[y] ? scores[x] > scores[y] : x < y; });
  std::sort(order, order + free_slots);
  std::copy_n(order, free_slots, ids);
  std::iota(ids + free_slots, ids + a.top_k, static_cast<int32_t>(scored));
}

}  // namespace

void block_select(const BlockSelect& a, Exec& exec) {
  require_cpu(exec, "block_select");
  check(a);
  cpu::block_select(a, exec.isa(), exec.pool());
}

void cpu::block_select(const BlockSelect& a, Isa isa, Pool& pool) {
  const auto score = CORVID_PICK(isa, score_block);
  for (int64_t first = 0; first < a.rows; first += kRowsAtOnce) {
    const int64_t end = std::min(a.rows, first + kRowsAtOnce), tiles = (end - first + kTileRows - 1) / kTileRows;
    int64_t most = 0;
    for (int64_t r = first; r < end; ++r) most = std::max(most, scored_blocks(a, r));
    float* scores = pool.workspace(kRowsAtOnce * a.n_heads * most);  // [rows at once, n_heads, most]

    // Scores: a task is a tile of rows against some blocks.
    const int64_t tile_queries = kTileRows * a.n_heads, width = padded(a.block);
    const auto lay_out = [&](Arena& arena, const float**& q, float**& lines, float**& out, float*& products) {
      q = arena.take<const float*>(tile_queries);
      lines = arena.take<float*>(tile_queries);
      out = arena.take<float*>(tile_queries);
      products = arena.take<float>(tile_queries * width);
    };
    const float** q;
    float **lines, **out, *products;
    Arena size;
    lay_out(size, q, lines, out, products);
    const auto scratch = pool.scratch<std::byte>(std::max(size.bytes(), most * static_cast<int64_t>(sizeof(int32_t))));
    const int64_t parts = (most + kBlocksPerTask - 1) / kBlocksPerTask;
    pool.run(tiles * parts, [&](int64_t task, int worker) {
      const float** queries;
      float **products_of, **score_of, *space;
      Arena arena(scratch[worker]);
      lay_out(arena, queries, products_of, score_of, space);
      const int64_t from = first + task / parts * kTileRows, to = std::min(end, from + kTileRows);
      const int64_t b0 = task % parts * kBlocksPerTask, b1 = std::min(most, b0 + kBlocksPerTask);
      for (int64_t b = b0; b < b1; ++b) {
        int64_t n = 0;
        for (int64_t r = from; r < to; ++r) {
          if (b >= scored_blocks(a, r)) continue;
          for (int64_t h = 0; h < a.n_heads; ++h, ++n) {
            queries[n] = a.q + (r * a.n_heads + h) * a.dim;
            products_of[n] = space + n * width;
            score_of[n] = scores + ((r - first) * a.n_heads + h) * most + b;
          }
        }
        if (n > 0) score(queries, products_of, n, a.key_pages[b], a.dim, a.block, score_of);
      }
    });

    pool.run(end - first, [&](int64_t task, int worker) {
      for (int64_t h = 0; h < a.n_heads; ++h)
        choose(a, first + task, h, scores + (task * a.n_heads + h) * most, reinterpret_cast<int32_t*>(scratch[worker]));
    });
  }
}

}  // namespace corvid::kernels
