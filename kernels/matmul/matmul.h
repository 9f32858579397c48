// y[r,j] = sum_i x[r,i] * w[j,i]      (add: y[r,j] += that sum)
//   Shapes   x: [rows, k] row-major float32; w: [n, k] row-major in any Format; y: [rows, n] row-major float32. y
//            overlaps neither x nor w.
//   Needs    rows >= 0, n >= 0, k >= 1 and a multiple of format_block(w.format); any alignment, though x on 64 bytes
//            with k a multiple of 16 is fastest. On a GPU w lies on its numbers' own alignment. rows == 0 or n == 0
//            does nothing.
//   Numbers  Weights become float32 as decode_row() has them, products are summed in float32 in at least 16 partial
//            sums: |y - exact| <= matmul_tolerance(k, format) * sum_i |x[r,i] * w[j,i]| (and one rounding more with
//            add). On the CPU ggml's block formats are multiplied in integers: x is rounded to 16 bits of the largest
//            of its block of 32 (matmul/ints.h), so there the bound has that largest |x| in place of every |x[r,i]|,
//            and a weight that is scale * q - min counts as |scale * q| + |min|; a row with a NaN or an infinity gives
//            NaN; k is at most 2^24.
//   Order    The order of the sum depends on k and the tier alone, and where integers are multiplied not even on the
//            tier. So y[r,j] has the same bits whatever the other rows and outputs of the call, the number of rows, and
//            the number of threads: evaluating a prompt at once equals evaluating it token by token.
#pragma once
#include <cfloat>
#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/format.h"

namespace corvid::kernels {

struct Matmul {
  const float* x;
  Matrix w;
  float* y;
  int64_t rows, n, k;
  bool add = false;
};

constexpr double matmul_tolerance(int64_t k, Format format) {
  return (double(k) / 16 + 10) * FLT_EPSILON + (in_integers(format) ? 0.51 / 32512 : 0);
}

void matmul(const Matmul& a, Exec& exec);
// Several products that do not depend on each other (q, k, v, ...), in one go: the threads meet once, not once each.
void matmul(std::span<const Matmul> all, Exec& exec);
namespace cpu {
void matmul(std::span<const Matmul> all, Isa isa, Pool& pool);
}
namespace cuda {
void matmul(const Matmul& a, CUstream_st* stream);
}
namespace ref {
void matmul(const Matmul& a, double* y);
}

}  // namespace corvid::kernels
