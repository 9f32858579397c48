// A product of few rows with a small bf16 matrix, such as a router, of which one launch of products() would keep few
// multiprocessors busy.
#pragma once
#include "kernels/products/products.h"

namespace corvid::kernels {

constexpr int kSplits = 8;

namespace cuda {
// y: [kSplits][rows, n] float32, whose sum over the splits is x w^T: each is that of an eighth of k. At most
// kStreamRows rows; their bits as in products(). rounds: x is rounded to the grid of grid.cuh first; up to 8 rows.
void split_product(const uint16_t* x, int64_t rows, const DeviceMatrix& w, float* y, CUstream_st* stream,
                   bool rounds = false);
}  // namespace cuda

}  // namespace corvid::kernels
