// Router logits -> the experts of each row and their weights.
//
//   sigmoid:  p = 1 / (1 + exp(-logit));  chosen: the top_k largest p + bias
//   softmax:  p = softmax(logits of the row);  chosen: the top_k largest p + bias
//   weight of a chosen expert = scale * p / (sum of p over the chosen), or scale * p when not normalised;
//   the bias chooses, it does not weigh
//
//   Shapes   logits: [rows, n_experts]; bias: [n_experts] or null for none; ids: [rows, top_k], ascending within a
//            row; weights: [rows, top_k], in the order of ids. No overlap.
//   Needs    rows >= 0, 1 <= top_k <= n_experts <= kMaxExperts.
//   Ties     equal p + bias (as float32): the lower expert id is chosen. NaN counts as lower than everything, so that
//            ids are always valid; the weights of such a row may be NaN.
//   Numbers  float32; weights within route_tolerance(top_k) * scale of the exact ones for the same choice. If the
//            chosen p to be normalised are all zero, each weighs scale / top_k. A row's bits depend on that row alone.
#pragma once
#include <cfloat>
#include <cstdint>

#include "kernels/exec.h"

namespace corvid::kernels {

constexpr int64_t kMaxExperts = 4096;

enum class Gating : uint8_t { sigmoid, softmax };

struct Route {
  const float* logits;
  const float* bias;
  int32_t* ids;
  float* weights;
  int64_t rows, n_experts, top_k;
  float scale;
  Gating gating = Gating::sigmoid;
  bool normalised = true;
};

constexpr double route_tolerance(int64_t top_k) { return (double(top_k) + 8) * FLT_EPSILON; }

void route(const Route& a, Exec& exec);
namespace cpu {
void route(const Route& a, Pool& pool);
}  // namespace cpu
namespace cuda {
void route(const Route& a, CUstream_st* stream);
}
namespace ref {
void route(const Route& a, int32_t* ids, double* weights);
}

}  // namespace corvid::kernels
