#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/expert_ffn/expert_ffn.h"

namespace corvid::kernels {
namespace {

std::vector<double> decoded(const Matrix& w, int64_t expert, int64_t n, int64_t k) {
  std::vector<float> floats(static_cast<size_t>(n * k));
  for (int64_t j = 0; j < n; ++j)
    decode_row(w.format, static_cast<const char*>(w.data) + (expert * n + j) * row_bytes(w.format, k), k,
               floats.data() + j * k);
  return {floats.begin(), floats.end()};
}

double activated(double g, double u, const Activation& act) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  if (act.kind == Activation::Kind::silu) return u * g * sigmoid(g);
  const double limit = act.limit;
  g = std::min(g, limit);
  return (std::clamp(u, -limit, limit) + 1) * g * sigmoid(double(act.alpha) * g);
}

}  // namespace

void ref::expert_ffn(const ExpertFfn& a, double* y, double* bound) {
  for (int64_t i = 0; i < a.rows * a.dim; ++i) {
    y[i] = a.add ? a.y[i] : 0.0;
    bound[i] = std::fabs(y[i]);
  }
  for (int64_t e = 0; e < a.n_experts; ++e) {
    const std::vector<double> gate = decoded(a.gate, e, a.ffn, a.dim), up = decoded(a.up, e, a.ffn, a.dim),
                              down = decoded(a.down, e, a.dim, a.ffn);
    for (int64_t r = 0; r < a.rows; ++r)
      for (int64_t s = 0; s < a.top_k; ++s) {
        if (a.ids != nullptr && a.ids[r * a.top_k + s] != e) continue;
        const double weight = a.ids == nullptr ? 1.0 : a.weights[r * a.top_k + s];
        for (int64_t f = 0; f < a.ffn; ++f) {
          double g = 0, u = 0, g_size = 0, u_size = 0;
          for (int64_t i = 0; i < a.dim; ++i) {
            const double x = a.x[r * a.dim + i];
            const double pg = x * gate[size_t(f * a.dim + i)], pu = x * up[size_t(f * a.dim + i)];
            g += pg, u += pu, g_size += std::fabs(pg), u_size += std::fabs(pu);
          }
          const double h = activated(g, u, a.act), h_size = (u_size + 1) * g_size;
          for (int64_t i = 0; i < a.dim; ++i) {
            const double w = weight * down[size_t(i * a.ffn + f)];
            y[r * a.dim + i] += w * h;
            bound[r * a.dim + i] += std::fabs(w) * h_size;
          }
        }
      }
  }
}

}  // namespace corvid::kernels
