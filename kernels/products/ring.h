// Products of 33 to kStreamRows rows in bf16: the bits of the kernels for fewer rows, with weights and x both through
// shared memory.
#pragma once
#include <span>

#include "kernels/products/products.h"

namespace corvid::kernels {

constexpr bool has_ring(const DeviceMatrix& w, int64_t rows) {
  return rows > 32 && rows <= kStreamRows && w.format == DeviceFormat::bf16 && w.k % 64 == 0;
}

// Into how many parts the sums of a product are split, as a power of two: a constant of the matrix, for any kernel of
// few rows.
int log_split_of(const DeviceMatrix& w);

namespace cuda {
// Those of `all` for which has_ring() is true.
void ring_products(const uint16_t* x, int64_t rows, std::span<const Product> all, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
