// The block formats of weights, ggml's and one of our own: how a block's bytes lie. block_weights.h says what they
// mean.
#pragma once
#include <cstdint>

namespace corvid::kernels {

constexpr int64_t kQ8Block = 32;   // weights per block of q8_0, q4_0 and mxfp4
constexpr int64_t kKBlock = 256;   // weights per block of the k-formats
constexpr int64_t kF8Block = 128;  // weights per block of f8_e4m3

struct BlockQ8 {
  uint16_t d;  // scale, half precision
  int8_t q[kQ8Block];
};
static_assert(sizeof(BlockQ8) == 34 && alignof(BlockQ8) == 2);

struct BlockQ4 {
  uint16_t d;
  uint8_t q[kQ8Block / 2];  // weight i in the low half of q[i], weight i + 16 in its high half
};
static_assert(sizeof(BlockQ4) == 18);

struct BlockMxfp4 {
  uint8_t e;                // scale 2^(e - 127)
  uint8_t q[kQ8Block / 2];  // as in BlockQ4
};
static_assert(sizeof(BlockMxfp4) == 17);

// 8 groups of 32 weights. A byte of q holds a weight of an even group (low half) and one of the next (high half).
struct BlockQ4K {
  uint16_t d, dmin;    // half precision: the unit of the groups' scales, and of their minima
  uint8_t scales[12];  // 8 scales and 8 minima of 6 bits each
  uint8_t q[kKBlock / 2];
};
static_assert(sizeof(BlockQ4K) == 144);

struct BlockQ5K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t high[kKBlock / 8];  // the fifth bits: bit g of high[i] belongs to weight i of group g
  uint8_t q[kKBlock / 2];
};
static_assert(sizeof(BlockQ5K) == 176);

// 16 groups of 16 weights, in two halves of 128: a byte of low holds weights that are 64 apart, one of high four
// weights that are 32 apart.
struct BlockQ6K {
  uint8_t low[kKBlock / 2];
  uint8_t high[kKBlock / 4];
  int8_t scales[kKBlock / 16];
  uint16_t d;
};
static_assert(sizeof(BlockQ6K) == 210);

// Ours: a checkpoint's 8-bit floats as they are, beside their scale, of which a checkpoint has one for so many rows.
struct BlockF8 {
  float scale;
  uint8_t q[kF8Block];  // e4m3
};
static_assert(sizeof(BlockF8) == 132);

}  // namespace corvid::kernels
