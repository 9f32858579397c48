// A product of few rows with a small bf16 matrix, such as a router, of which one launch of products() would keep few
// multiprocessors busy.
#pragma once
#include "kernels/products/products.h"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace corvid::kernels {

constexpr int kSplits = 8;

namespace cuda {
// y: [kSplits][rows, n] float32, whose sum over the splits is x w^T: each is that of an eighth of k. At most
// kStreamRows rows; their bits as in products(). rounds: x is rounded to the grid of grid.cuh first; up to 8 rows.
void split_product(const uint16_t* x, int64_t rows, const DeviceMatrix& w, float* y, CUstream_st* stream,
                   bool rounds = false);
// rms_norm_rows(norm), then split_product() of its h: the same bits, in one launch where there is one short row.
void norm_split_product(const RmsNormRows& norm, const DeviceMatrix& w, float* y, CUstream_st* stream, bool rounds);
}  // namespace cuda

}  // namespace corvid::kernels
