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

// A thread's pieces of a row, which its block's threads take in turns: what was `before` is added to the sums, which go
// to x. Returns the sum of their squares.
template <int kThreads, int kTimes, int kNumbers>
__device__ float add_to_row(float (&sum)[kTimes][kNumbers], const float (&before)[kTimes][kNumbers], int pieces,
                            float* x) {
  float squares = 0;
#pragma unroll
  for (int t = 0; t < kTimes; ++t) {
    const int i = t * kThreads + static_cast<int>(threadIdx.x);
    if (i >= pieces) continue;
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
      sum[t][n] += before[t][n];
      squares += sum[t][n] * sum[t][n];
    }
    store(x + i * kNumbers, sum[t]);
  }
  return squares;
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
