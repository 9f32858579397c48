#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/route/route.h"

namespace corvid::kernels {

void ref::route(const Route& a, int32_t* ids, double* weights) {
  const auto n = static_cast<size_t>(a.n_experts), k = static_cast<size_t>(a.top_k);
  std::vector<double> p(n);
  std::vector<int32_t> order(n);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* logits = a.logits + r * a.n_experts;
    double total = 0;
    for (size_t e = 0; e < n; ++e)
      total += p[e] =
          a.gating == Gating::sigmoid ? 1 / (1 + std::exp(-double(logits[e]))) : std::exp(double(logits[e]));
    if (a.gating == Gating::softmax)
      for (double& x : p) x /= total;
    const auto score = [&](int32_t e) { return p[size_t(e)] + (a.bias == nullptr ? 0.0 : double(a.bias[e])); };
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t x, int32_t y) { return score(x) > score(y); });
    std::sort(order.begin(), order.begin() + a.top_k);
    double sum = a.normalised ? 0 : 1;
    for (size_t i = 0; a.normalised && i < k; ++i) sum += p[size_t(order[i])];
    for (size_t i = 0; i < k; ++i) {
      ids[size_t(r) * k + i] = order[i];
      weights[size_t(r) * k + i] = a.scale * p[size_t(order[i])] / sum;
    }
  }
}

}  // namespace corvid::kernels
