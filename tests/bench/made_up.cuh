// Weights and activations that mean nothing, made on the GPU, for measuring.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "kernels/device_matrix/tile.h"
#include "kernels/exec.h"

namespace corvid::kernels {

__host__ __device__ inline uint32_t hash(uint64_t i) {
  i = (i ^ i >> 31) * 0x7fb5d329728ea185ULL;
  i = (i ^ i >> 27) * 0x81dadef4bc2dd44dULL;
  return static_cast<uint32_t>((i ^ i >> 33) >> 16);
}
__device__ inline float uniform(uint64_t i) { return static_cast<float>(hash(i) >> 8) * 0x1p-24F; }

// Words of a matrix: random quants, scales that make weights of about `size`.
static __global__ void fill_matrix(uint32_t* words, int64_t count, DeviceFormat format, float size, uint64_t seed) {
  const auto half_of = [](float v) { return static_cast<uint32_t>(__half_as_ushort(__float2half(v))); };
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x) {
    const uint64_t at = seed * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(i);
    uint32_t word = hash(at);
    const int64_t in_tile = i * 4 % tile_bytes(format);
    const float some = size * (0.5F + uniform(at + 1));
    if (format == DeviceFormat::bf16) {
      const __nv_bfloat162 pair =
          __floats2bfloat162_rn(3.4F * size * (uniform(2 * at) - 0.5F), 3.4F * size * (uniform(2 * at + 1) - 0.5F));
      word = *reinterpret_cast<const uint32_t*>(&pair);
    } else if (format == DeviceFormat::q8_0 && in_tile >= 4096) {
      word = half_of(some / 74) * 0x10001U;
    } else if (format == DeviceFormat::q4_k && in_tile < 256 && in_tile % 16 == 0) {
      word = half_of(some / 180) | half_of(some / 24) << 16;
    } else if (format == DeviceFormat::q6_k && in_tile >= 3328) {
      word = half_of(some / 1400) * 0x10001U;
    } else if (format == DeviceFormat::f8_e4m3) {
      word = in_tile >= 4096 ? __float_as_uint(some / 64) : word & 0xbfbfbfbfU;
    }
    words[i] = word;
  }
}
static __global__ void fill_bf16(__nv_bfloat16* x, int64_t count, uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x)
    x[i] = __float2bfloat16(3.4F * (uniform(seed * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(i)) - 0.5F));
}
static __global__ void fill_floats(float* x, int64_t count, float value) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x)
    x[i] = value;
}

// A matrix that owns its memory.
struct Owned {
  Buffer buffer;
  DeviceMatrix view;
  Owned(DeviceFormat format, int64_t n, int64_t k, int64_t n_experts, uint64_t seed, cudaStream_t stream)
      : buffer(device_bytes(format, n, k, n_experts), Device::cuda), view{buffer.as<void>(), format, n, k, n_experts} {
    fill_matrix<<<2048, 256, 0, stream>>>(buffer.as<uint32_t>(), buffer.bytes() / 4, format,
                                          1 / std::sqrt(static_cast<float>(k)), seed);
  }
};

inline const char* name_of(DeviceFormat f) {
  return f == DeviceFormat::bf16   ? "bf16"
         : f == DeviceFormat::q8_0 ? "q8_0"
         : f == DeviceFormat::q4_k ? "q4_k"
         : f == DeviceFormat::q6_k ? "q6_k"
                                   : "fp8";
}

}  // namespace corvid::kernels
