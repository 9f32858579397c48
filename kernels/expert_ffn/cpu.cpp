#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/matmul/interleaved.h"
#include "kernels/matmul/ints.h"
#include "kernels/matmul/tile.h"
#include "kernels/simd/arena.h"

#define CORVID_BODY "kernels/expert_ffn/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {
namespace {

using cpu::int_panel_bytes;
using cpu::int_row_bytes;
using cpu::kMaxTileRows;
using cpu::kMaxVectors;
using cpu::kPanelRows;

constexpr int64_t kTasksPerThread = 6;             // wanted, so that the threads end together
constexpr int64_t kMostOuts = 4 * cpu::kIntBlock;  // of a task of few rows

// The pairs [first, first + rows) of one expert: at most kMaxTileRows.
struct Chunk {
  int64_t expert, first, rows, first_panel;
  bool in_panels() const { return rows > kMaxVectors; }
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

  void lay_out(const ExpertFfn& a, Arena& arena) {
    pairs = a.rows * a.top_k;
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
      x_panels = at.take<std::byte>(integer_x ? panels * int_panel_bytes(a.dim) : 0);
      return at.bytes();
    };
    auto* const shared = arena.take<std::byte>(std::max(lay_out_x(Arena()), out_bytes));
    lay_out_x(Arena(shared));
    out = reinterpret_cast<float*>(shared);
    hidden_panels = arena.take<std::byte>(integer_hidden ? panels * int_panel_bytes(a.ffn) : 0);
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
    return {expert, first, std::min(kMaxTileRows, first_pair[expert + 1] - first),
            first_panel[expert] + skipped / kPanelRows};
  }
};

// One matrix of one expert.
const char* expert_matrix(const Matrix& w, int64_t expert, int64_t n, int64_t k) {
  return static_cast<const char*>(w.data) + expert * n * row_bytes(w.format, k);
}

void check(const ExpertFfn& a) {
  require(a.rows >= 0 && a.dim >= 1 && a.ffn >= 1, "expert_ffn: want rows >= 0, dim >= 1, ffn >= 1, found ", a.rows,
          ", ", a.dim, ", ", a.ffn);
  require(a.n_experts >= 1 && a.top_k >= 1 && a.top_k <= a.n_experts, "expert_ffn: want top_k from 1 to n_experts ",
          a.n_experts, ", found ", a.top_k);
  for (const Matrix* w : {&a.gate, &a.up})
    require(a.dim % format_block(w->format) == 0, "expert_ffn: want dim a multiple of ", format_block(w->format),
            " for ", format_name(w->format), ", found ", a.dim);
  require(a.ffn % format_block(a.down.format) == 0, "expert_ffn: want ffn a multiple of ", format_block(a.down.format),
          " for ", format_name(a.down.format), ", found ", a.ffn);
  const auto check_rows = [](const Matrix& w, int64_t n, const char* name) {
    require(!is_interleaved(w.format) || n % kInterleavedRows == 0, "expert_ffn: want ", name, " a multiple of ",
            kInterleavedRows, " for ", format_name(w.format), ", found ", n);
  };
  check_rows(a.gate, a.ffn, "ffn");
  check_rows(a.up, a.ffn, "ffn");
  check_rows(a.down, a.dim, "dim");
  require(std::max(a.dim, a.ffn) <= cpu::kMaxIntLength, "expert_ffn: want dim, ffn up to ", cpu::kMaxIntLength,
          ", found ", a.dim, ", ", a.ffn);
  if (a.rows == 0) return;  // the arrays may be null
  require((a.ids == nullptr) == (a.weights == nullptr) && (a.ids != nullptr || a.n_experts == 1),
          "expert_ffn: want ids and weights, or neither and one expert; found ", a.n_experts, " experts");
  if (a.ids == nullptr) return;
  for (int64_t i = 0; i < a.rows * a.top_k; ++i) {
    require(a.ids[i] >= 0 && a.ids[i] < a.n_experts, "expert_ffn: want ids below ", a.n_experts, ", found ", a.ids[i]);
    for (int64_t j = i / a.top_k * a.top_k; j < i; ++j)
      require(a.ids[j] != a.ids[i], "expert_ffn: want distinct ids in a row, found ", a.ids[i], " twice");
  }
}

}  // namespace

void expert_ffn(const ExpertFfn& a, Exec& exec) {
  require_cpu(exec, "expert_ffn");
  check(a);
  cpu::expert_ffn(a, exec.isa(), exec.pool());
}

void cpu::expert_ffn(const ExpertFfn& a, Isa isa, Pool& pool) {
  if (a.rows == 0) return;
  Plan plan;
  Arena size;
  plan.lay_out(a, size);
  Arena arena(pool.workspace<std::byte>(size.bytes()));
  plan.lay_out(a, arena);
  plan.sort_pairs(a);

  const auto tile = tile_function(isa);
  const IntFunctions& ints = int_functions(isa);
  const auto act = CORVID_PICK(isa, activate);
  const auto add_up = CORVID_PICK(isa, accumulate);
  // A task is one chunk of an expert's pairs and some outputs: whole blocks, as hidden's are quantised where they are
  // made. Few rows are bound by memory, which is read faster in long pieces, but every thread should have some tasks.
  const int64_t chunks = plan.first_chunk[a.n_experts];
  const auto outs_of = [&](int64_t n) {
    if (a.rows > kMaxVectors) return kIntOuts;
    return std::clamp(chunks * n / (kTasksPerThread * pool.threads()) / kIntBlock * kIntBlock, kIntBlock, kMostOuts);
  };
  const int64_t gate_outs = outs_of(a.ffn), down_outs = outs_of(a.dim), most_outs = std::max(gate_outs, down_outs);
  const int64_t gate_tiles = (a.ffn + gate_outs - 1) / gate_outs, down_tiles = (a.dim + down_outs - 1) / down_outs;
  const int64_t piece_floats = kMaxTileRows * most_outs;
  const auto scratch = pool.scratch(
      3 * piece_floats + std::max({tile_scratch(a.dim), tile_scratch(a.ffn), int_scratch(a.dim), int_scratch(a.ffn)}));

  if (plan.integer_x) {
    const int64_t rows_per_task = a.rows <= kMaxVectors ? a.rows : kPanelRows;
    pool.run((a.rows + rows_per_task - 1) / rows_per_task, [&](int64_t task, int) {
      for (int64_t r = task * rows_per_task; r < std::min(a.rows, (task + 1) * rows_per_task); ++r) {
        std::byte* row = plan.x_rows + r * int_row_bytes(a.dim);
        ints.quantize(a.x + r * a.dim, 0, a.dim / kIntBlock, row, a.dim);
      }
    });
    if (a.rows > kMaxVectors) {  // otherwise no expert has so many
      pool.run(chunks, [&](int64_t task, int) {
        const Chunk c = plan.chunk(a, task);
        for (int64_t r = 0; c.in_panels() && r < c.rows; r += kPanelRows)
          ints.pack(plan.x_words + c.first + r, std::min(kPanelRows, c.rows - r), a.dim,
                    plan.x_panels + (c.first_panel + r / kPanelRows) * int_panel_bytes(a.dim));
      });
    }
  }

  // y [c.rows, n] (+)= the chunk's rows times outputs [j, j + n) of its expert's matrix m, [m_outs, k].
  struct Rows {
    const float* const* floats;
    const std::byte* const* vectors;
    const std::byte* panels;
  };
  const auto product = [&](const Chunk& c, const Rows& rows, const Matrix& m, int64_t m_outs, int64_t k, int64_t j,
                           int64_t n, float* y, int64_t y_stride, bool add, const char* next, float* rest) {
    const int64_t w_bytes = row_bytes(m.format, k);
    const char* w = expert_matrix(m, c.expert, m_outs, k) + j * w_bytes;
    if (in_integers(m.format))
      return int_product(
          {c.in_panels() ? nullptr : rows.vectors, rows.panels, w, y, c.rows, n, k, y_stride, m.format, add, next}, isa,
          rest);
    for (int64_t i = 0, step = is_direct(c.rows, k) ? n : tile_outs(k); i < n; i += step)
      tile({rows.floats, w + i * w_bytes, y + i, c.rows, std::min(step, n - i), k, y_stride, m.format, add}, rest);
  };
  // Where the weights of a task begin; null: there is no such task.
  const auto weights_of = [&](const Matrix& m, int64_t m_outs, int64_t k, int64_t task, int64_t outs) -> const char* {
    const int64_t tiles = (m_outs + outs - 1) / outs;
    if (task >= chunks * tiles) return nullptr;
    return expert_matrix(m, plan.chunk(a, task / tiles).expert, m_outs, k) +
           task % tiles * outs * row_bytes(m.format, k);
  };
  pool.run(chunks * gate_tiles, [&](int64_t task, int worker) {
    const Chunk c = plan.chunk(a, task / gate_tiles);
    const int64_t j = task % gate_tiles * gate_outs, n = std::min(gate_outs, a.ffn - j);
    float *up = scratch[worker], *gate = up + piece_floats, *rest = gate + 2 * piece_floats;
    auto* words = reinterpret_cast<std::byte*>(gate + piece_floats);
    int64_t gate_stride = gate_outs;
    if (!plan.integer_hidden) {
      gate = plan.hidden + c.first * a.ffn + j;
      gate_stride = a.ffn;
    }
    const Rows rows{plan.x + c.first, plan.x_words + c.first, plan.x_panels + c.first_panel * int_panel_bytes(a.dim)};
    const char* up_weights = weights_of(a.up, a.ffn, a.dim, task, gate_outs);
    const char* next = weights_of(a.gate, a.ffn, a.dim, task + 1, gate_outs);
    product(c, rows, a.gate, a.ffn, a.dim, j, n, gate, gate_stride, false, up_weights, rest);
    product(c, rows, a.up, a.ffn, a.dim, j, n, up, gate_outs, false, next, rest);
    for (int64_t r = 0; r < c.rows; ++r) act(gate + r * gate_stride, up + r * gate_outs, n, a.act);
    if (!plan.integer_hidden) return;
    const int64_t first = j / kIntBlock, blocks = n / kIntBlock, row_bytes = int_row_bytes(n);
    std::byte* hidden = plan.hidden_panels + c.first_panel * int_panel_bytes(a.ffn);
    const std::byte* row[kPanelRows];
    for (int64_t r = 0; r < c.rows; ++r) {
      if (!c.in_panels()) {
        ints.quantize(gate + r * gate_outs, first, blocks, hidden + r * int_row_bytes(a.ffn), a.ffn);
        continue;
      }
      std::byte* at = words + r % kPanelRows * row_bytes;
      ints.quantize(gate + r * gate_outs, 0, blocks, at, n);
      row[r % kPanelRows] = at;
      if (r + 1 == c.rows || r % kPanelRows == kPanelRows - 1)
        ints.pack(row, r % kPanelRows + 1, n,
                  hidden + r / kPanelRows * int_panel_bytes(a.ffn) + first * cpu::kPanelBlockBytes);
    }
  });

  // One dense expert's output is the result, with weight 1 and nothing to add up.
  const bool direct = a.ids == nullptr;
  pool.run(chunks * down_tiles, [&](int64_t task, int worker) {
    const Chunk c = plan.chunk(a, task / down_tiles);
    const int64_t j = task % down_tiles * down_outs;
    const std::byte* hidden = plan.hidden_panels + c.first_panel * int_panel_bytes(a.ffn);
    const std::byte* vectors[kMaxVectors];
    for (int64_t r = 0; r < kMaxVectors; ++r) vectors[r] = hidden + r * int_row_bytes(a.ffn);
    product(c, {plan.hidden_x + c.first, vectors, hidden}, a.down, a.dim, a.ffn, j, std::min(down_outs, a.dim - j),
            (direct ? a.y : plan.out) + c.first * a.dim + j, a.dim, direct && a.add,
            weights_of(a.down, a.dim, a.ffn, task + 1, down_outs), scratch[worker]);
  });
  if (direct) return;

  const int64_t rows_per_task = std::max<int64_t>(1, 8192 / (a.dim * a.top_k));
  pool.run((a.rows + rows_per_task - 1) / rows_per_task, [&](int64_t task, int worker) {
    float* sum = scratch[worker];
    for (int64_t r = task * rows_per_task; r < std::min(a.rows, (task + 1) * rows_per_task); ++r) {
      for (int64_t i = 0; i < a.top_k; ++i) {
        const int64_t pair = plan.pair_of[r * a.top_k + i];
        add_up(sum, plan.out + pair * a.dim, plan.weight_of[pair], a.dim, i == 0);
      }
      float* y = a.y + r * a.dim;
      if (a.add)
        add_up(y, sum, 1.0F, a.dim, false);
      else
        std::memcpy(y, sum, static_cast<size_t>(a.dim) * sizeof(float));
    }
  });
}

}  // namespace corvid::kernels
