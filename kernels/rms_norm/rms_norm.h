// y[r,i] = w[i] * x[r,i] / sqrt(mean_i(x[r,i]^2) + eps)
//   Shapes   x, y: [rows, dim] row-major; w: [dim]. Per-head norms: rows = tokens * heads, dim = head_dim. y == x is
//            allowed, any other overlap is not. Gemma's factor (1 + w) is folded into w when a model is loaded.
//   Needs    rows >= 0, dim >= 1, eps > 0, squares that fit a float; any alignment; rows == 0 does nothing.
//   Numbers  float32, at least 16 partial sums, so |y - exact| <= rms_norm_tolerance(dim) * |exact|. A row's bits
//            depend on that row alone (within one tier): not on rows, nor on the number of threads.
#pragma once
#include <cfloat>
#include <cstdint>

#include "kernels/exec.h"

namespace corvid::kernels {

struct RmsNorm {
  const float* x;
  const float* w;
  float* y;
  int64_t rows, dim;
  float eps;
};

constexpr double rms_norm_tolerance(int64_t dim) { return (double(dim) / 64 + 10) * FLT_EPSILON; }

void rms_norm(const RmsNorm& a, Exec& exec);  // checks `a`, then calls one of:
namespace cpu {
void rms_norm(const RmsNorm& a, Isa isa, Pool& pool);
}
namespace cuda {
void rms_norm(const RmsNorm& a, CUstream_st* stream);
}
namespace ref {
void rms_norm(const RmsNorm& a, double* y);
}

}  // namespace corvid::kernels
