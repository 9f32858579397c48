#include "kernels/products/wide_kernel.cuh"

namespace corvid::kernels {

template void launch_wide<Narrow>(const WideProduct&, int, CUstream_st*);

}  // namespace corvid::kernels
