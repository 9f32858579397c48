#include "kernels/no_cuda.h"

#include "kernels/products/products.h"

namespace corvid::kernels {

int64_t products_workspace_bytes(std::span<const Product>, int64_t) { no_cuda(); }
void cuda::products(const uint16_t*, int64_t, std::span<const Product>, void*, CUstream_st*, bool) { no_cuda(); }
void cuda::norm_products(const RmsNormRows&, std::span<const Product>, void*, CUstream_st*) { no_cuda(); }

}  // namespace corvid::kernels
