// What the bytes of the block formats mean, for host and device: a weight is scale * q - min, where scale and min
// belong to its group. In ggml's formats the product is exact in float32; so is the weight in those without minima, and
// where there are some it is rounded once, as ggml's is. In f8_e4m3 the product is rounded, once.
#pragma once
#include "kernels/format.h"

namespace corvid::kernels {

struct GroupScale {
  float scale, min;
};

// The largest of e2m1's magnitudes is 6; these are doubled, to be integers.
CORVID_HOST_DEVICE inline int mxfp4_value(int code) {
  const int magnitude = code & 7;
  const int value = magnitude < 5 ? magnitude : magnitude == 5 ? 6 : magnitude == 6 ? 8 : 12;
  return (code & 8) != 0 ? -value : value;
}
// 2^(e - 128): half of an e8m0 number, to go with the doubled values.
CORVID_HOST_DEVICE inline float mxfp4_scale(uint8_t e) {
  return __builtin_bit_cast(float, e < 2 ? 0x00200000U << e : (uint32_t{e} - 1) << 23);
}

// Low and high half of the bytes that hold the first and the second 16 weights.
CORVID_HOST_DEVICE inline int nibble(const uint8_t* q, int64_t i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }

// 6-bit scale and minimum of group g, as both q4_k and q5_k pack them.
CORVID_HOST_DEVICE inline GroupScale k_scale(float d, float dmin, const uint8_t* packed, int64_t g) {
  const int scale = g < 4 ? packed[g] & 63 : (packed[g + 4] & 15) | (packed[g - 4] >> 6 << 4);
  const int min = g < 4 ? packed[g + 4] & 63 : (packed[g + 4] >> 4) | (packed[g] >> 6 << 4);
  return {d * static_cast<float>(scale), dmin * static_cast<float>(min)};
}
CORVID_HOST_DEVICE inline int k_nibble(const uint8_t* q, int64_t i) {
  const int byte = q[i / 64 * 32 + i % 32];
  return i % 64 < 32 ? byte & 15 : byte >> 4;
}

// For each block: kSize weights, in groups of kGroup; scale_of a group, quant_of weight i, an integer but in f8_e4m3.
template <class Block>
struct BlockTraits;

template <>
struct BlockTraits<BlockQ8> {
  static constexpr int64_t kSize = kQ8Block, kGroup = kQ8Block;
  CORVID_HOST_DEVICE static GroupScale scale_of(const BlockQ8& b, int64_t) { return {f16_to_f32(b.d), 0}; }
  CORVID_HOST_DEVICE static int quant_of(const BlockQ8& b, int64_t i) { return b.q[i]; }
};
template <>
struct BlockTraits<BlockQ4> {
  static constexpr int64_t kSize = kQ8Block, kGroup = kQ8Block;
  CORVID_HOST_DEVICE static GroupScale scale_of(const BlockQ4& b, int64_t) { return {f16_to_f32(b.d), 0}; }
  CORVID_HOST_DEVICE static int quant_of(const BlockQ4& b, int64_t i) { return nibble(b.q, i) - 8; }
};
template <>
struct BlockTraits<BlockMxfp4> {
  static constexpr int64_t kSize = kQ8Block, kGroup = kQ8Block;
  CORVID_HOST_DEVICE static GroupScale scale_of(const BlockMxfp4& b, int64_t) { return {mxfp4_scale(b.e), 0}; }
  CORVID_HOST_DEVICE static int quant_of(const BlockMxfp4& b, int64_t i) { return mxfp4_value(nibble(b.q, i)); }
};
template <>
struct BlockTraits<BlockQ4K> {
  static constexpr int64_t kSize = kKBlock, kGroup = 32;
  CORVID_HOST_DEVICE static GroupScale scale_of(const BlockQ4K& b, int64_t g) {
    return k_scale(f16_to_f32(b.d), f16_to_f32(b.dmin), b.scales, g);
  }
  CORVID_HOST_DEVICE static int quant_of(const BlockQ4K& b, int64_t i) { return k_nibble(b.q, i); }
};
template <>
struct BlockTraits<BlockQ5K> {
  static constexpr int64_t kSize = kKBlock, kGroup = 32;
  CORVID_HOST_DEVICE static GroupScale scale_of(const BlockQ5K& b, int64_t g) {
    return k_scale(f16_to_f32(b.d), f16_to_f32(b.dmin), b.scales, g);
  }
  CORVID_HOST_DEVICE static int quant_of(const BlockQ5K& b, int64_t i) {
    return k_nibble(b.q, i) | ((b.high[i % 32] >> (i / 32)) & 1) << 4;
  }
};
template <>
struct BlockTraits<BlockQ6K> {
  static constexpr int64_t kSize = kKBlock, kGroup = 16;
  CORVID_HOST_DEVICE static GroupScale scale_of(const BlockQ6K& b, int64_t g) {
    return {f16_to_f32(b.d) * static_cast<float>(b.scales[g]), 0};
  }
  CORVID_HOST_DEVICE static int quant_of(const BlockQ6K& b, int64_t i) {
    const int64_t half = i / 128, within = i % 128;
    const int byte = b.low[half * 64 + within % 64];
    const int high = (b.high[half * 32 + within % 32] >> (within / 32 * 2)) & 3;
    return ((within < 64 ? byte & 15 : byte >> 4) | (high << 4)) - 32;
  }
};
template <>
struct BlockTraits<BlockF8> {
  static constexpr int64_t kSize = kF8Block, kGroup = kF8Block;
  CORVID_HOST_DEVICE static GroupScale scale_of(const BlockF8& b, int64_t) { return {b.scale, 0}; }
  CORVID_HOST_DEVICE static float quant_of(const BlockF8& b, int64_t i) { return f8_weight(b.q[i]); }
};

// Weight i of a row of blocks.
template <class Block>
CORVID_HOST_DEVICE inline float block_weight(const Block* row, int64_t i) {
  using Traits = BlockTraits<Block>;
  const Block& block = row[i / Traits::kSize];
  const int64_t within = i % Traits::kSize;
  const GroupScale s = Traits::scale_of(block, within / Traits::kGroup);
  return s.scale * static_cast<float>(Traits::quant_of(block, within)) - s.min;
}

}  // namespace corvid::kernels
