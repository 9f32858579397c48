#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "kernels/route/route.h"

namespace corvid::kernels {
namespace {

// p: [n_experts], one row's probabilities before normalisation over the chosen.
void probabilities(const Route& a, const float* logits, float* p) {
  if (a.gating == Gating::sigmoid) {
    for (int64_t e = 0; e < a.n_experts; ++e) p[e] = 1 / (1 + std::exp(-logits[e]));
    return;
  }
  const float largest = *std::max_element(logits, logits + a.n_experts);
  float sum = 0;
  for (int64_t e = 0; e < a.n_experts; ++e) sum += p[e] = std::exp(logits[e] - largest);
  for (int64_t e = 0; e < a.n_experts; ++e) p[e] /= sum;
}

void route_row(const Route& a, int64_t r, float* p, float* score) {
  probabilities(a, a.logits + r * a.n_experts, p);
  for (int64_t e = 0; e < a.n_experts; ++e) {
    score[e] = a.bias == nullptr ? p[e] : p[e] + a.bias[e];
    if (std::isnan(score[e])) score[e] = -std::numeric_limits<float>::infinity();
  }
  int32_t* ids = a.ids + r * a.top_k;
  float* weights = a.weights + r * a.top_k;
  // Insertion into the top_k best so far; an equal score stays behind the earlier, that is lower, id.
  for (int64_t e = 0, n = 0; e < a.n_experts; ++e) {
    if (n == a.top_k && !(score[e] > score[ids[n - 1]])) continue;
    int64_t at = n == a.top_k ? n - 1 : n++;
    for (; at > 0 && score[e] > score[ids[at - 1]]; --at) ids[at] = ids[at - 1];
    ids[at] = static_cast<int32_t>(e);
  }
  std::sort(ids, ids + a.top_k);
  float sum = a.normalised ? 0 : 1;
  for (int64_t i = 0; a.normalised && i < a.top_k; ++i) sum += p[ids[i]];
  for (int64_t i = 0; i < a.top_k; ++i)
    weights[i] = sum == 0 ? a.scale / static_cast<float>(a.top_k) : a.scale * (p[ids[i]] / sum);
}

}  // namespace

void route(const Route& a, Exec& exec) {
  require(a.rows >= 0, "route: want rows >= 0, found ", a.rows);
  require(a.n_experts >= 1 && a.n_experts <= kMaxExperts, "route: want 1 to ", kMaxExperts, " experts, found ",
          a.n_experts);
  require(a.top_k >= 1 && a.top_k <= a.n_experts, "route: want top_k from 1 to ", a.n_experts, ", found ", a.top_k);
  if (exec.device() == Device::cuda)
    cuda::route(a, exec.stream());
  else
    cpu::route(a, exec.pool());
}

void cpu::route(const Route& a, Pool& pool) {
  const auto scratch = pool.scratch(2 * a.n_experts);
  const int64_t per_task = std::max<int64_t>(1, 1024 / a.n_experts);
  pool.run((a.rows + per_task - 1) / per_task, [&](int64_t task, int worker) {
    for (int64_t r = task * per_task; r < std::min(a.rows, (task + 1) * per_task); ++r)
      route_row(a, r, scratch[worker], scratch[worker] + a.n_experts);
  });
}

}  // namespace corvid::kernels
