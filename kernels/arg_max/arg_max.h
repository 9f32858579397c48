// best[r] = the largest number of row r and its place; the lower one on a tie. GPU.
//   Shapes   device memory: x: [rows, n] float32, best: [rows].
//   Needs    rows >= 0, 1 <= n < 2^31. A NaN counts as larger than all numbers.
//   Numbers  exact.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace corvid::kernels {

struct ArgMax {
  struct Best {
    int32_t place;
    float value;
  };
  const float* x;
  Best* best;
  int64_t rows, n;
};

namespace cuda {
void arg_max(const ArgMax& a, CUstream_st* stream);
}

}  // namespace corvid::kernels
