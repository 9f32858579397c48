// The feed-forward layer: routed experts, or a dense or shared one (a single expert that every row uses with weight 1).
//
//   h = act(x Wgate[e]^T, x Wup[e]^T)          [ffn]
//   y[r] = sum over the row's experts e, in ascending id, of weight * (h Wdown[e]^T)      (add: y[r] += that sum)
//
//   swigluoai:  g' = min(g, limit);  u' = clamp(u, -limit, limit);  act = (u' + 1) * g' * sigmoid(alpha * g')
//   silu:       act = u * g * sigmoid(g)
//
//   Shapes   x, y: [rows, dim] float32; gate, up: [n_experts, ffn, dim]; down: [n_experts, dim, ffn], each in any
//            Format, or without `up`, and `gate` both: [n_experts, ffn / 16, 2, 16, dim], sixteen rows of gate and
//            sixteen of up in turns, in an interleaved format: one stream for the processor's prefetchers, where pieces
//            of two matrices are read a sixth more slowly. ids, weights: [rows, top_k], a row's ids in any order. Both
//            null: one dense expert; then n_experts == top_k == 1. y overlaps nothing else; x == y is not allowed.
//   Needs    rows >= 0; dim, ffn >= 1 and multiples of the formats' blocks; ids in [0, n_experts), distinct within a
//            row.
//   Numbers  float32: |y - exact| <= expert_ffn_tolerance(dim, ffn, format) * bound, with bound = sum_e |weight| *
//            (H |Wdown[e]|^T) and H = (|x| |Wup|^T + 1) * (|x| |Wgate|^T); ref computes it. As in matmul, what
//            weights in block formats multiply is rounded to 16 bits of its block's largest number, which the bound has
//            in the place of every number of the block.
//   Order    as matmul's: a row's bits depend on that row, its experts and the tier alone.
#pragma once
#include <cfloat>
#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/format.h"

namespace corvid::kernels {

struct Activation {
  enum class Kind : uint8_t { swigluoai, silu };
  Kind kind = Kind::swigluoai;
  float alpha = 1.702F;
  float limit = 7.0F;
};

struct ExpertFfn {
  const float* x;
  Matrix gate, up, down;
  const int32_t* ids;
  const float* weights;
  float* y;
  int64_t rows, dim, ffn, n_experts, top_k;
  Activation act;
  bool add = false;
};

constexpr double expert_ffn_tolerance(int64_t dim, int64_t ffn, Format format) {
  return (2 * double(dim) / 16 + double(ffn) / 16 + 60) * FLT_EPSILON + (format == Format::q8_0 ? 4 * 0.51 / 32512 : 0);
}

void expert_ffn(const ExpertFfn& a, Exec& exec);  // CPU only for now: throws std::invalid_argument for a GPU
// Several layers side by side, with the bits of one after the other but for the order in which they are added to a y
// that they share: first a dense one, of which there is at most one, then the others in order. All that share y add.
// None reads what another writes.
void expert_ffn(std::span<const ExpertFfn> all, Exec& exec);
namespace cpu {
void expert_ffn(std::span<const ExpertFfn> all, Isa isa, Pool& pool);
}
namespace ref {
void expert_ffn(const ExpertFfn& a, double* y, double* bound);
}  // namespace ref

}  // namespace corvid::kernels
