#include <cmath>

#include "kernels/rms_norm/rms_norm.h"

namespace corvid::kernels {

void ref::rms_norm(const RmsNorm& a, double* y) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.dim;
    double sum = 0;
    for (int64_t i = 0; i < a.dim; ++i) sum += double(x[i]) * x[i];
    const double scale = 1 / std::sqrt(sum / double(a.dim) + a.eps);
    for (int64_t i = 0; i < a.dim; ++i) y[r * a.dim + i] = x[i] * scale * a.w[i];
  }
}

}  // namespace corvid::kernels
