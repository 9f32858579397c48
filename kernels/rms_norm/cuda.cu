#include "kernels/cuda_check.h"
#include "kernels/rms_norm/rms_norm.h"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 256;

// The sum over the block, in every thread; the order is fixed by kThreads alone.
__device__ float block_sum(float value) {
  __shared__ float sums[kThreads / 32];
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < kThreads / 32; ++i) total += sums[i];
  return total;
}

// One block per row, a partial sum per thread. block_sum() holds a barrier, so y == x stays safe.
__global__ void rms_norm_kernel(RmsNorm a) {
  const float* x = a.x + blockIdx.x * a.dim;
  float* y = a.y + blockIdx.x * a.dim;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < a.dim; i += kThreads) sum += x[i] * x[i];
  const float scale = rsqrtf(block_sum(sum) / static_cast<float>(a.dim) + a.eps);
  for (int64_t i = threadIdx.x; i < a.dim; i += kThreads) y[i] = x[i] * scale * a.w[i];
}

}  // namespace

void cuda::rms_norm(const RmsNorm& a, CUstream_st* stream) {
  if (a.rows == 0) return;
  rms_norm_kernel<<<static_cast<unsigned>(a.rows), kThreads, 0, stream>>>(a);
  check_launch("rms_norm");
}

}  // namespace corvid::kernels
