// A GPU's part of a matrix that several share, repacked as device_matrix.h repacks the whole.
#pragma once
#include "kernels/device_matrix/device_matrix.h"

namespace corvid::kernels {

// Of a matrix [any number of experts][n, k] these experts, and of each these rows and columns. Columns begin and end at
// blocks of the matrix's format, but for f8_e4m3: a part that cuts its blocks becomes bf16.
struct MatrixPart {
  int64_t n, k;
  int64_t first_expert, n_experts;
  int64_t first_row, rows;
  int64_t first_column, columns;
};

// What such a part becomes.
DeviceFormat device_format(Format file, const MatrixPart& part);

// Panels [first, first + count) of the n_experts * panels_of(rows) that the part becomes, of `columns` weights a row.
void repack(const Matrix& from, const MatrixPart& part, int64_t first, int64_t count, void* out);

}  // namespace corvid::kernels
