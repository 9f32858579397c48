// h[r,i] = bf16(w[i] * x[r,i] / sqrt(mean_i(x[r,i]^2) + eps)): the residual stream to what the products read. GPU.
//   Shapes   x: [rows, dim] float32; w: [dim] float32; h: [rows, dim] bf16. No overlap.
//   Needs    as rms_norm.h. rows == 0 does nothing.
//   Numbers  float32 within rms_norm_tolerance(dim), then one rounding to bf16; with rounds, for which dim is a
//   multiple
//            of 32 and all is 16-byte aligned, another to the grid of products/grid.cuh, within 2^-12 of the largest of
//            32. A row's bits depend on that row alone.
#pragma once
#include <cstdint>

#include "kernels/rms_norm/rms_norm.h"

namespace corvid::kernels {

struct RmsNormRows {
  const float* x;
  const float* w;
  uint16_t* h;
  int64_t rows, dim;
  float eps;
  bool rounds = false;
};

namespace cuda {
void rms_norm_rows(const RmsNormRows& a, CUstream_st* stream);
}

}  // namespace corvid::kernels
