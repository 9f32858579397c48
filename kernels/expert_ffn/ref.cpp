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

// How large the tolerance takes each of n numbers to be: ggml's block formats have them rounded by the largest of 32.
std::vector<double> sizes(const Matrix& w, const double* x, int64_t n) {
  const int64_t block = in_integers(w.format) ? kQ8Block : 1;
  std::vector<double> size(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    double& largest = size[size_t(i / block * block)];
    largest = std::max(largest, std::fabs(x[i]));
  }
  for (int64_t i = 0; i < n; ++i) size[size_t(i)] = size[size_t(i / block * block)];
  return size;
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
        const std::vector<double> x(a.x + r * a.dim, a.x + (r + 1) * a.dim);
        const std::vector<double> gate_x = sizes(a.gate, x.data(), a.dim), up_x = sizes(a.up, x.data(), a.dim);
        std::vector<double> h(static_cast<size_t>(a.ffn)), h_size(h.size());
        for (size_t f = 0; f < h.size(); ++f) {
          double g = 0, u = 0, g_size = 0, u_size = 0;
          for (size_t i = 0; i < x.size(); ++i) {
            const double wg = gate[f * x.size() + i], wu = up[f * x.size() + i];
            g += x[i] * wg, u += x[i] * wu, g_size += gate_x[i] * std::fabs(wg), u_size += up_x[i] * std::fabs(wu);
          }
          h[f] = activated(g, u, a.act), h_size[f] = (u_size + 1) * g_size;
        }
        h_size = sizes(a.down, h_size.data(), a.ffn);
        for (size_t f = 0; f < h.size(); ++f)
          for (int64_t i = 0; i < a.dim; ++i) {
            const double w = weight * down[size_t(i * a.ffn) + f];
            y[r * a.dim + i] += w * h[f];
            bound[r * a.dim + i] += std::fabs(w) * h_size[f];
          }
      }
  }
}

}  // namespace corvid::kernels
