// x[r] = table[tokens[r]] as float32, the table in any DeviceFormat. GPU.
//   Shapes   table: [vocab, dim]; tokens: int32 [rows] on the device; x: [rows, dim].
//   Needs    rows >= 0. A token outside [0, vocab) gives zeros.
//   Numbers  exact but for one rounding of scale * q - min.
#pragma once
#include <cstdint>

#include "kernels/device_matrix/device_matrix.h"

struct CUstream_st;

namespace corvid::kernels {

struct EmbedRows {
  DeviceMatrix table;
  const int32_t* tokens;
  float* x;
  int64_t rows;
};

namespace cuda {
void embed_rows(const EmbedRows& a, CUstream_st* stream);
}

}  // namespace corvid::kernels
