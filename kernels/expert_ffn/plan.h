// Which rows meet which experts, and the memory that they pass through: the inside of expert_ffn on the CPU.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/matmul/interleaved.h"
#include "kernels/matmul/ints.h"
#include "kernels/matmul/tile.h"
#include "kernels/simd/arena.h"

namespace corvid::kernels::cpu {

// The pairs [first, first + rows) of one expert: at most kMaxTileRows. Few are multiplied as they are, more in panels.
struct Chunk {
  int64_t expert, first, rows, first_panel;
  bool in_panels;
};

// A pair is one row at one of its experts. Pairs are sorted by expert, then row, so that an expert's rows lie together.
//
//   x --gather--> hidden [pairs, ffn] --> out [pairs, dim] --weighted, expert ascending--> y
//
// What weights in block formats multiply is in integers instead (matmul/ints.h): x is quantised once a row, hidden as
// it is made. A chunk's panels have room for its rows as they are, where these are few.
struct Plan {
  int64_t pairs;
  bool integer_x, integer_hidden;  // some, or all, of the products that read them are in integers
  int64_t most_vectors;            // rows of a chunk that are multiplied as they are
  int64_t* first_pair;             // [n_experts + 1]
  int64_t* pair_of;                // [rows, top_k], a row's pairs by ascending expert
  float* weight_of;                // [pairs]
  const float** x;                 // [pairs] input rows
  const float** hidden_x;          // [pairs] rows of hidden
  int64_t* first_chunk;            // [n_experts + 1] an expert's chunks
  int64_t* first_panel;            // [n_experts + 1] and its panels
  float* hidden;
  float* out;
  std::byte* x_rows;          // [rows] quantised
  const std::byte** x_words;  // [pairs] rows of x_rows
  std::byte* x_panels;        // [panels]
  std::byte* hidden_panels;   // [panels]

  bool has_panels(const ExpertFfn& a) const { return std::min(a.rows, kMaxTileRows) > most_vectors; }  // perhaps
  // Of hidden, or of as many of its rows as they are.
  int64_t hidden_panel_bytes(const ExpertFfn& a) const {
    return std::max(int_panel_bytes(a.ffn), std::min(most_vectors, kPanelRows) * int_row_bytes(a.ffn));
  }

  void lay_out(const ExpertFfn& a, Isa isa, Arena& arena) {
    pairs = a.rows * a.top_k;
    most_vectors = kMostVectors;
    for (const Matrix& m : {a.gate, a.up, a.down})
      if (m.data != nullptr) most_vectors = std::min(most_vectors, max_vectors(m.format, isa));
    integer_x = in_integers(a.gate.format) || in_integers(a.up.format);
    integer_hidden = in_integers(a.down.format);
    const int64_t panels = std::min(pairs, pairs / kPanelRows + a.n_experts);
    first_pair = arena.take<int64_t>(a.n_experts + 1);
    first_chunk = arena.take<int64_t>(a.n_experts + 1);
    first_panel = arena.take<int64_t>(a.n_experts + 1);
    pair_of = arena.take<int64_t>(pairs);
    weight_of = arena.take<float>(pairs);
    x = arena.take<const float*>(pairs);
    hidden_x = arena.take<const float*>(pairs);
    hidden = arena.take<float>(integer_hidden ? 0 : pairs * a.ffn);
    x_words = arena.take<const std::byte*>(pairs);
    // Nobody reads x any more when the first of `out` is written: they share memory.
    const int64_t out_bytes = pairs * a.dim * int64_t{sizeof(float)};
    const auto lay_out_x = [&](Arena at) {
      x_rows = at.take<std::byte>(integer_x ? a.rows * int_row_bytes(a.dim) : 0);
      x_panels = at.take<std::byte>(integer_x && has_panels(a) ? panels * int_panel_bytes(a.dim) : 0);
      return at.bytes();
    };
    auto* const shared = arena.take<std::byte>(std::max(lay_out_x(Arena()), out_bytes));
    lay_out_x(Arena(shared));
    out = reinterpret_cast<float*>(shared);
    hidden_panels = arena.take<std::byte>(integer_hidden ? panels * hidden_panel_bytes(a) : 0);
  }

  // Counting sort by expert; rows stay in order.
  void sort_pairs(const ExpertFfn& a) {
    std::fill(first_pair, first_pair + a.n_experts + 1, 0);
    for (int64_t i = 0; i < pairs; ++i) ++first_pair[(a.ids == nullptr ? 0 : a.ids[i]) + 1];
    first_chunk[0] = first_panel[0] = 0;
    for (int64_t e = 0; e < a.n_experts; ++e) {
      first_chunk[e + 1] = first_chunk[e] + (first_pair[e + 1] + kMaxTileRows - 1) / kMaxTileRows;
      first_panel[e + 1] = first_panel[e] + (first_pair[e + 1] + kPanelRows - 1) / kPanelRows;
      first_pair[e + 1] += first_pair[e];
    }
    // first_pair[e] runs through e's pairs, and ends where e + 1's begin; shifted back below.
    for (int64_t i = 0; i < pairs; ++i) {
      const int64_t pair = first_pair[a.ids == nullptr ? 0 : a.ids[i]]++;
      pair_of[i] = pair;
      weight_of[pair] = a.weights == nullptr ? 1.0F : a.weights[i];
      x[pair] = a.x + i / a.top_k * a.dim;
      hidden_x[pair] = hidden + pair * a.ffn;
      x_words[pair] = x_rows + i / a.top_k * int_row_bytes(a.dim);
    }
    std::move_backward(first_pair, first_pair + a.n_experts, first_pair + a.n_experts + 1);
    first_pair[0] = 0;
    for (int64_t r = 0; r < a.rows; ++r) std::sort(pair_of + r * a.top_k, pair_of + (r + 1) * a.top_k);
  }

  Chunk chunk(const ExpertFfn& a, int64_t i) const {
    const int64_t expert = std::upper_bound(first_chunk, first_chunk + a.n_experts + 1, i) - first_chunk - 1;
    const int64_t skipped = (i - first_chunk[expert]) * kMaxTileRows, first = first_pair[expert] + skipped;
    const int64_t rows = std::min(kMaxTileRows, first_pair[expert + 1] - first);
    return {expert, first, rows, first_panel[expert] + skipped / kPanelRows, rows > most_vectors};
  }
};

}  // namespace corvid::kernels::cpu
