// best[r] = the place of the largest number of row r; the lower one on a tie. GPU.
//   Shapes   device memory: x: [rows, n] float32, best: [rows] int32.
//   Needs    rows >= 0, 1 <= n < 2^31. Rows with a NaN, or whose largest number is not finite, get -1.
//   Numbers  exact.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace corvid::kernels {

struct ArgMax {
  const float* x;
  int32_t* best;
  int64_t rows, n;
};

namespace cuda {
void arg_max(const ArgMax& a, CUstream_st* stream);
}

}  // namespace corvid::kernels
