// The norm of a row inside a kernel that goes on to multiply it: the bits of rms_norm_rows().
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace corvid::kernels {

constexpr int kNormThreads = 512;  // whose order the sum of squares has, four numbers of x each at a time

__device__ inline float square_of(const float4& v) { return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, v.x * v.x))); }
__device__ inline float norm_scale(float sum, int dim, float eps) {
  return rsqrtf(sum / static_cast<float>(dim) + eps);
}
__device__ inline uint2 norm_bits(const float4& v, float scale, const float4& w) {
  __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(v.x * scale * w.x, v.y * scale * w.y),
                            __floats2bfloat162_rn(v.z * scale * w.z, v.w * scale * w.w)};
  return *reinterpret_cast<uint2*>(pair);
}

// By 256 threads, each in the place of two: it has numbers 8 t to 8 t + 7 of a row of at most kMostDim, a multiple of
// 8, 16-byte aligned as its weights are.
struct NormRow {
  static constexpr int kThreads = kNormThreads / 2, kMostDim = kThreads * 8, kSums = kNormThreads / 32;
  float4 x[2] = {}, w[2] = {};

  static __device__ int first() { return static_cast<int>(threadIdx.x) * 8; }
  __device__ void load_weights(const float* weights, int dim) {
    if (first() >= dim) return;
#pragma unroll
    for (int n = 0; n < 2; ++n) w[n] = __ldg(reinterpret_cast<const float4*>(weights + first()) + n);
  }
  __device__ void load(const float* row, int dim) {
    if (first() >= dim) return;
#pragma unroll
    for (int n = 0; n < 2; ++n) x[n] = reinterpret_cast<const float4*>(row + first())[n];
  }
  // The thread's numbers of the result; sums: in shared memory. Holds a barrier.
  __device__ uint4 bits(float (&sums)[kSums], int dim, float eps) const {
    const int thread = static_cast<int>(threadIdx.x);
    float both[2] = {0.0F + square_of(x[0]), 0.0F + square_of(x[1])};
#pragma unroll
    for (int step = 8; step > 0; step /= 2)
#pragma unroll
      for (float& sum : both) sum += __shfl_xor_sync(0xffffffffU, sum, step);
    if (thread % 16 == 0) sums[thread / 16] = both[0] + both[1];
    __syncthreads();
    float total = 0;
#pragma unroll
    for (int i = 0; i < kSums; ++i) total += sums[i];
    const float scale = norm_scale(total, dim, eps);
    const uint2 low = norm_bits(x[0], scale, w[0]), high = norm_bits(x[1], scale, w[1]);
    return {low.x, low.y, high.x, high.y};
  }
};

}  // namespace corvid::kernels
