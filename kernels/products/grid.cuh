// x as integers under a scale, for weights of eight bits, exactly.
//
// Of each 32 numbers of x, let 2^e be the largest power of two up to the largest of them (at least 2^-95). They count
// as rounded to multiples of 2^(e - 11): as bf16 numbers have eight bits, this changes those below 2^(e - 4) alone. So
// they are integers of at most 4,080 times that unit, and sums of 32 of their products with bytes are integers below
// 2^24: exact, whether the tensor cores add them in float32 (the numbers still being bf16) or as bytes. The first is
// what many rows do, which have several rows for each weight that becomes bf16; the second needs a third of the
// instructions and is what one row does, its upper and lower bytes being two of the eight columns of a tile. Rounding x
// wherever it is read costs many rows a tenth of their time, so what makes x does it where that is easy, and says so.
#pragma once
#include <cuda_bf16.h>

#include "kernels/device_matrix/device_matrix.h"

namespace corvid::kernels {

// Whether x is rounded so for weights of this format.
CORVID_HOST_DEVICE constexpr bool is_on_grid(DeviceFormat format) { return format == DeviceFormat::q8_0; }

// The exponent e, as the bits of the bf16 number 2^e, of 32 numbers of which the largest has these bits but the sign.
__device__ inline uint32_t exponent_of(uint32_t largest) { return max(largest & 0x7f80U, 32U << 7); }
// Of the 32 numbers that four lanes in a row have, eight each; all lanes of a warp call it.
__device__ inline uint32_t exponent_of(const uint4& x) {
  const uint32_t pairs =
      __vmaxu2(__vmaxu2(x.x & 0x7fff7fffU, x.y & 0x7fff7fffU), __vmaxu2(x.z & 0x7fff7fffU, x.w & 0x7fff7fffU));
  uint32_t most = max(pairs & 0xffffU, pairs >> 16);
  most = max(most, __shfl_xor_sync(0xffffffffU, most, 1));
  return exponent_of(max(most, __shfl_xor_sync(0xffffffffU, most, 2)));
}

// Two numbers, of 32 with the exponent e: below 2^(e - 4) a power of two of that size added and subtracted rounds them.
__device__ inline uint32_t on_grid(uint32_t pair, uint32_t e) {
  const uint32_t least = (e - (4U << 7)) * 0x10001U;
  const auto as_pair = [](uint32_t bits) { return *reinterpret_cast<const __nv_bfloat162*>(&bits); };
  const uint32_t size = pair & 0x7fff7fffU, power = (pair & 0x80008000U) | least;
  const __nv_bfloat162 rounded = __hsub2_rn(__hadd2_rn(as_pair(pair), as_pair(power)), as_pair(power));
  const unsigned is_small = __hlt2_mask(as_pair(size), as_pair(least));
  return (*reinterpret_cast<const uint32_t*>(&rounded) & is_small) | (pair & ~is_small);
}
// All lanes of a warp call it.
__device__ inline uint4 on_grid(const uint4& x) {
  const uint32_t e = exponent_of(x);
  return {on_grid(x.x, e), on_grid(x.y, e), on_grid(x.z, e), on_grid(x.w, e)};
}
// One of 32 numbers that the lanes of a warp have.
__device__ inline uint16_t on_grid(__nv_bfloat16 x) {
  const uint32_t bits = __bfloat16_as_ushort(x);
  return static_cast<uint16_t>(on_grid(bits, exponent_of(__reduce_max_sync(0xffffffffU, bits & 0x7fffU))));
}

// A row of integers in shared memory, of a multiple of 256 numbers: for each two groups of 32 their upper bytes and
// their lower ones, as the lanes want them for the two operands of each group, 16 bytes for each of four lanes; and the
// groups' units.
struct IntRow {
  unsigned char* bytes;    // 16-byte aligned, int_row_bytes(numbers)
  int numbers, first = 0;  // the first is a multiple of 256

  __device__ uint4 quants(int pair, int lane) const {
    return *reinterpret_cast<const uint4*>(bytes + first * 2 + pair * 128 + lane / 4 % 2 * 64 + lane % 4 * 16);
  }
  __device__ float* units() const { return reinterpret_cast<float*>(bytes + numbers * 2); }
  __device__ float4 units(int step) const {  // of 128 numbers
    return *reinterpret_cast<const float4*>(units() + first / 32 + step * 4);
  }
};
CORVID_HOST_DEVICE constexpr int64_t int_row_bytes(int64_t numbers) { return numbers * 2 + numbers / 8; }

// Numbers i to i + 7 of a row, which this lane has; all lanes of a warp call it, each with the next eight.
__device__ inline void put_ints(const IntRow& to, int i, const uint4& x) {
  const uint32_t e = exponent_of(x);
  const uint32_t unit = (e << 16) - (11U << 23);
  const float inverse = __uint_as_float((254U << 23) - unit);
  const uint32_t words[] = {x.x, x.y, x.z, x.w};
  uint32_t lower[8], upper[8];  // the lowest byte, and the second
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const float v = __uint_as_float(n % 2 == 0 ? words[n / 2] << 16 : words[n / 2] & 0xffff0000U);
    lower[n] = __float_as_uint(fmaf(v, inverse, 12582912.0F));  // 1.5 * 2^23: its last bits count in ones
    upper[n] = lower[n] + 128;                                  // lower bytes are signed
  }
  // Weights lie so: 0 2 1 3, 4 6 5 7 (device_matrix/tile.h).
  const auto gather = [](const uint32_t(&from)[8], int first, uint32_t byte) {
    const uint32_t pick = byte | (byte + 4) << 4;
    return __byte_perm(__byte_perm(from[first], from[first + 2], pick),
                       __byte_perm(from[first + 1], from[first + 3], pick), 0x5410);
  };
  unsigned char* const at = to.bytes + i / 64 * 128 + i % 32 / 8 * 16 + i / 32 % 2 * 8;
  *reinterpret_cast<uint2*>(at) = {gather(upper, 0, 1), gather(upper, 4, 1)};
  *reinterpret_cast<uint2*>(at + 64) = {gather(lower, 0, 0), gather(lower, 4, 0)};
  if (i % 32 == 0) to.units()[i / 32] = __uint_as_float(e == 0x7f80U ? 0x7fffffffU : unit);  // NaN and infinities
}

// Numbers begin to end of a row, multiples of 256, by `threads` threads of whole warps, this being number `thread`:
// from(i) says where numbers i to i + 7 come from, null for zeros. Not through L1, which may hold what was there before
// where nothing has been waited for.
template <class From>
__device__ inline void put_ints(const IntRow& to, int begin, int end, int thread, int threads, const From& from) {
  constexpr int kAtOnce = 4;
  for (int first = begin + thread * 8; first < end; first += threads * 8 * kAtOnce) {
    uint4 x[kAtOnce];
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      const int i = first + n * threads * 8;
      const uint16_t* const at = i < end ? from(i) : nullptr;
      x[n] = at != nullptr ? __ldcg(reinterpret_cast<const uint4*>(at)) : uint4{};
    }
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n)
      if (const int i = first + n * threads * 8; i < end) put_ints(to, i, x[n]);
  }
}
// The whole row, by all threads of a block.
template <class From>
__device__ inline void stage_ints(int threads, const IntRow& to, const From& from) {
  put_ints(to, 0, to.numbers, static_cast<int>(threadIdx.x), threads, from);
  __syncthreads();
}

}  // namespace corvid::kernels
