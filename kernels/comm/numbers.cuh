// Numbers of a row as the kernels that add them up hold them.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace corvid::kernels {

template <int kNumbers>
__device__ void load(float (&v)[kNumbers], const float* from) {
#pragma unroll
  for (int i = 0; i < kNumbers; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(from + i);
    v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
  }
}
template <int kNumbers>
__device__ void store(float* to, const float (&v)[kNumbers]) {
#pragma unroll
  for (int i = 0; i < kNumbers; i += 4)
    *reinterpret_cast<float4*>(to + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
}
__device__ inline uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
// Eight numbers in bf16.
__device__ inline void add8(float (&sum)[8], uint4 bits) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum[2 * i] += __uint_as_float(words[i] << 16);
    sum[2 * i + 1] += __uint_as_float(words[i] & 0xffff0000U);
  }
}

// The sum over a block's threads, in each of them. `sums`: a place for each warp, free when all have come here.
template <int kThreads>
__device__ float block_sum(float value, float (&sums)[kThreads / 32]) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  if (thread % 32 == 0) sums[thread / 32] = value;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < kThreads / 32; ++i) total += sums[i];
  return total;
}

}  // namespace corvid::kernels
