#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/matmul/tile.h"
#include "kernels/simd/arena.h"

#define CORVID_BODY "kernels/expert_ffn/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {
namespace {

using cpu::kMaxTileRows;
using cpu::tile_outs;
using cpu::tile_scratch;

// A pair is one row at one of its experts. Pairs are sorted by expert, then row, so that an expert's rows lie together.
//
//   x --gather--> hidden [pairs, ffn] --> out [pairs, dim] --weighted, expert ascending--> y
struct Plan {
  int64_t pairs;
  int64_t* first_pair;     // [n_experts + 1]
  int64_t* pair_of;        // [rows, top_k], a row's pairs by ascending expert
  float* weight_of;        // [pairs]
  const float** x;         // [pairs] input rows
  const float** hidden_x;  // [pairs] rows of hidden
  int64_t* first_chunk;    // [n_experts + 1] an expert's chunks of at most kMaxTileRows pairs
  float* hidden;
  float* out;

  void lay_out(const ExpertFfn& a, Arena& arena) {
    pairs = a.rows * a.top_k;
    first_pair = arena.take<int64_t>(a.n_experts + 1);
    first_chunk = arena.take<int64_t>(a.n_experts + 1);
    pair_of = arena.take<int64_t>(pairs);
    weight_of = arena.take<float>(pairs);
    x = arena.take<const float*>(pairs);
    hidden_x = arena.take<const float*>(pairs);
    hidden = arena.take<float>(pairs * a.ffn);
    out = arena.take<float>(pairs * a.dim);
  }

  // Counting sort by expert; rows stay in order.
  void sort_pairs(const ExpertFfn& a) {
    std::fill(first_pair, first_pair + a.n_experts + 1, 0);
    for (int64_t i = 0; i < pairs; ++i) ++first_pair[(a.ids == nullptr ? 0 : a.ids[i]) + 1];
    first_chunk[0] = 0;
    for (int64_t e = 0; e < a.n_experts; ++e) {
      first_chunk[e + 1] = first_chunk[e] + (first_pair[e + 1] + kMaxTileRows - 1) / kMaxTileRows;
      first_pair[e + 1] += first_pair[e];
    }
    // first_pair[e] runs through e's pairs, and ends where e + 1's begin; shifted back below.
    for (int64_t i = 0; i < pairs; ++i) {
      const int64_t pair = first_pair[a.ids == nullptr ? 0 : a.ids[i]]++;
      pair_of[i] = pair;
      weight_of[pair] = a.weights == nullptr ? 1.0F : a.weights[i];
      x[pair] = a.x + i / a.top_k * a.dim;
      hidden_x[pair] = hidden + pair * a.ffn;
    }
    std::move_backward(first_pair, first_pair + a.n_experts, first_pair + a.n_experts + 1);
    first_pair[0] = 0;
    for (int64_t r = 0; r < a.rows; ++r) std::sort(pair_of + r * a.top_k, pair_of + (r + 1) * a.top_k);
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
  const auto act = CORVID_PICK(isa, activate);
  const auto add_up = CORVID_PICK(isa, accumulate);
  const int64_t up_floats = kMaxTileRows * tile_outs(a.dim);
  const auto scratch = pool.scratch(up_floats + std::max({tile_scratch(a.dim), tile_scratch(a.ffn), a.dim}));
  const int64_t chunks = plan.first_chunk[a.n_experts];

  // A task is one chunk of an expert's pairs and one tile of outputs. `few`: with a row or two, small tiles keep all
  // threads busy. The pairs [first, first + rows) of a chunk, and its expert.
  struct Chunk {
    int64_t expert, first, rows;
  };
  const auto chunk_at = [&](int64_t chunk) -> Chunk {
    const int64_t expert =
        std::upper_bound(plan.first_chunk, plan.first_chunk + a.n_experts + 1, chunk) - plan.first_chunk - 1;
    const int64_t first = plan.first_pair[expert] + (chunk - plan.first_chunk[expert]) * kMaxTileRows;
    return {expert, first, std::min(kMaxTileRows, plan.first_pair[expert + 1] - first)};
  };
  const auto outs_per_task = [&](int64_t k) {
    return a.rows <= 2 ? std::min<int64_t>(48, tile_outs(k)) : tile_outs(k);
  };

  const int64_t gate_outs = outs_per_task(a.dim), gate_tiles = (a.ffn + gate_outs - 1) / gate_outs;
  pool.run(chunks * gate_tiles, [&](int64_t task, int worker) {
    const Chunk c = chunk_at(task / gate_tiles);
    const int64_t j = task % gate_tiles * gate_outs, n = std::min(gate_outs, a.ffn - j);
    float* up = scratch[worker];
    float* rest = up + up_floats;
    Tile t{plan.x + c.first, nullptr, plan.hidden + c.first * a.ffn + j, c.rows, n, a.dim, a.ffn, a.gate.format, false};
    t.w = expert_matrix(a.gate, c.expert, a.ffn, a.dim) + j * row_bytes(a.gate.format, a.dim);
    tile(t, rest);
    t.format = a.up.format;
    t.w = expert_matrix(a.up, c.expert, a.ffn, a.dim) + j * row_bytes(a.up.format, a.dim);
    t.y = up;
    t.y_stride = n;
    tile(t, rest);
    for (int64_t r = 0; r < c.rows; ++r) act(plan.hidden + (c.first + r) * a.ffn + j, up + r * n, n, a.act);
  });

  // One dense expert's output is the result, with weight 1 and nothing to add up.
  const bool direct = a.ids == nullptr;
  const int64_t down_outs = outs_per_task(a.ffn), down_tiles = (a.dim + down_outs - 1) / down_outs;
  pool.run(chunks * down_tiles, [&](int64_t task, int worker) {
    const Chunk c = chunk_at(task / down_tiles);
    const int64_t j = task % down_tiles * down_outs;
    tile({plan.hidden_x + c.first, expert_matrix(a.down, c.expert, a.dim, a.ffn) + j * row_bytes(a.down.format, a.ffn),
          (direct ? a.y : plan.out) + c.first * a.dim + j, c.rows, std::min(down_outs, a.dim - j), a.ffn, a.dim,
          a.down.format, direct && a.add},
         scratch[worker] + up_floats);
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
