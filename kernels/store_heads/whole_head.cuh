// A head's norm and turn by a warp.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace corvid::kernels {

__device__ inline float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  return value;
}

__device__ inline float2 pair_at(const uint16_t* data, int64_t i) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(data + 2 * i));
}

// What a lane needs of a norm's weights for a head of width dim: they come from far, so they are asked for before the
// wait for the kernel before.
struct NormPart {
  static constexpr int kMost = 4;
  float2 pairs[kMost];

  __device__ NormPart(const float* weight, int64_t dim, int lane) {
#pragma unroll
    for (int n = 0; n < kMost; ++n)
      if (weight != nullptr && lane + 32 * n < dim / 2)
        pairs[n] = {__ldg(weight + 2 * (lane + 32 * n)), __ldg(weight + 2 * (lane + 32 * n) + 1)};
  }
};

// A head of 128 that is normalised by itself and turned as a whole: a lane has numbers 2 l, 2 l + 1 and those 64
// further on, which turn with them. All that it reads is on its way at once.
constexpr int kWholeDim = 128;

struct WholeTurn {
  float2 c, s;
  __device__ WholeTurn(const float* cos_sin, int lane)
      : c(*reinterpret_cast<const float2*>(cos_sin + 2 * lane)),
        s(*reinterpret_cast<const float2*>(cos_sin + 64 + 2 * lane)) {}
};

struct WholeHead {
  float2 low, high;
  __device__ WholeHead(const uint16_t* in, int lane) : low(pair_at(in, lane)), high(pair_at(in, lane + 32)) {}

  // The two pairs of bf16 numbers.
  __device__ uint2 turned(const NormPart& part, const WholeTurn& turn, float eps) const {
    float sum = fmaf(low.x, low.x, fmaf(low.y, low.y, 0.0F));
    sum = fmaf(high.x, high.x, fmaf(high.y, high.y, sum));
    const float scale = rsqrtf(warp_sum(sum) / static_cast<float>(kWholeDim) + eps);
    const float2 a = {low.x * scale * part.pairs[0].x, low.y * scale * part.pairs[0].y};
    const float2 b = {high.x * scale * part.pairs[1].x, high.y * scale * part.pairs[1].y};
    const __nv_bfloat162 first =
        __floats2bfloat162_rn(turned(a.x, turn.c.x, -b.x, turn.s.x), turned(a.y, turn.c.y, -b.y, turn.s.y));
    const __nv_bfloat162 second =
        __floats2bfloat162_rn(turned(b.x, turn.c.x, a.x, turn.s.x), turned(b.y, turn.c.y, a.y, turn.s.y));
    return {*reinterpret_cast<const uint32_t*>(&first), *reinterpret_cast<const uint32_t*>(&second)};
  }

 private:
  static __device__ float turned(float x, float c, float y, float s) { return fmaf(x, c, __fmul_rn(y, s)); }
};

}  // namespace corvid::kernels
