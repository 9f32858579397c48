// Products of 33 to kStreamRows rows in bf16: the bits of the kernels for fewer rows, with weights and x both through
// shared memory.
#pragma once
#include <span>

#include "kernels/products/products.h"

namespace corvid::kernels {

// Whether these products are computed so: where there are blocks of threads for half of a big GPU.
bool has_ring(std::span<const Product> all, int64_t rows);

// Into how many parts the sums of a product are split, as a power of two: a constant of the matrix, for any kernel of
// few rows.
int log_split_of(const DeviceMatrix& w);

namespace cuda {
// Those of `all` in bf16; has_ring(all, rows).
void ring_products(const uint16_t* x, int64_t rows, std::span<const Product> all, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
