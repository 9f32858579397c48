#include "kernels/products/wide_kernel.cuh"

namespace corvid::kernels {

template void launch_wide<Pairs>(std::span<const WideProduct>, int, CUstream_st*);

}  // namespace corvid::kernels
