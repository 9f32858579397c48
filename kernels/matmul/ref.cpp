#include <vector>

#include "kernels/matmul/matmul.h"

namespace corvid::kernels {

void ref::matmul(const Matmul& a, double* y) {
  std::vector<float> w(static_cast<size_t>(a.k));
  for (int64_t j = 0; j < a.n; ++j) {
    decode_row(a.w.format, static_cast<const char*>(a.w.data) + j * row_bytes(a.w.format, a.k), a.k, w.data());
    for (int64_t r = 0; r < a.rows; ++r) {
      double sum = a.add ? a.y[r * a.n + j] : 0.0;
      for (int64_t i = 0; i < a.k; ++i) sum += double(a.x[r * a.k + i]) * w[static_cast<size_t>(i)];
      y[r * a.n + j] = sum;
    }
  }
}

}  // namespace corvid::kernels
