#include "kernels/no_cuda.h"

#include "kernels/read_speed/gpu.h"

namespace corvid::kernels {

GpuReadSpeed::GpuReadSpeed(int64_t) { no_cuda(); }
double GpuReadSpeed::measure(CUstream_st*) { no_cuda(); }

}  // namespace corvid::kernels
