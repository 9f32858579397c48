#include <cmath>

#include "kernels/rope/rope.h"

namespace corvid::kernels {

void ref::rope_angles(const RopeAngles& a, double* cos_sin) {
  const int64_t half = a.rotary_dim / 2;
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t i = 0; i < half; ++i) {
      const double angle = double(a.pos[r]) * std::pow(a.theta, -2.0 * double(i) / double(a.rotary_dim));
      cos_sin[r * a.rotary_dim + i] = std::cos(angle);
      cos_sin[r * a.rotary_dim + half + i] = std::sin(angle);
    }
}

void ref::rope(const Rope& a, double* y) {
  const int64_t half = a.rotary_dim / 2;
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t h = 0; h < a.n_heads; ++h) {
      const float* x = a.x + (r * a.n_heads + h) * a.head_dim;
      double* out = y + (r * a.n_heads + h) * a.head_dim;
      for (int64_t i = 0; i < a.head_dim; ++i) out[i] = x[i];
      for (int64_t i = 0; i < half; ++i) {
        const double c = a.cos_sin[r * a.rotary_dim + i], s = a.cos_sin[r * a.rotary_dim + half + i];
        out[i] = x[i] * c - x[i + half] * s;
        out[i + half] = x[i + half] * c + x[i] * s;
      }
    }
}

}  // namespace corvid::kernels
