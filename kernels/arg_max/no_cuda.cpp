#include "kernels/no_cuda.h"

#include "kernels/arg_max/arg_max.h"

namespace corvid::kernels {

void cuda::arg_max(const ArgMax&, CUstream_st*) { no_cuda(); }

}  // namespace corvid::kernels
