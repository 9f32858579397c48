// Number formats of weights and how they become float32: the one place that knows their bits.
//
//   f32, f16 (IEEE half), bf16 (upper half of a float32), and ggml's block formats: q8_0, q4_0, mxfp4 with blocks of 32
//   weights, q4_k, q5_k, q6_k with blocks of 256 (blocks.h, block_weights.h).
//   f8_e4m3: block fp8 of Hugging Face checkpoints, in blocks of 128 weights of a row under a float32 scale. No file
//   has it: model/checkpoint.cpp makes it, and sees to it that there is no NaN, that scales are below 2^119, and that
//   each 16 rows of a matrix from its first on share theirs, which the GPU's layout builds on (device_matrix.h).
//   In memory alone too: q8_0x96 and q4_0x96, the numbers of 96 rows of q8_0 and q4_0 side by side
//   (matmul/interleaved.h).
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/blocks.h"

#if defined(__CUDACC__)
#define CORVID_HOST_DEVICE __host__ __device__
#else
#define CORVID_HOST_DEVICE
#endif

namespace corvid::kernels {

enum class Format : uint8_t { f32, f16, bf16, q8_0, q4_0, mxfp4, q4_k, q5_k, q6_k, f8_e4m3, q8_0x96, q4_0x96 };

const char* format_name(Format format);

// The format whose rows are interleaved; any other is itself.
CORVID_HOST_DEVICE constexpr Format plain_format(Format format) {
  return format == Format::q8_0x96 ? Format::q8_0 : format == Format::q4_0x96 ? Format::q4_0 : format;
}
constexpr bool is_interleaved(Format format) { return plain_format(format) != format; }

// A matrix of weights as it lies in a model file: rows of `row_bytes(format, k)` bytes, one after the other;
// interleaved, as many bytes for each group of rows together. Not owned. Any alignment is accepted.
struct Matrix {
  const void* data = nullptr;
  Format format = Format::f32;
};

// Weights per indivisible unit of a row: a row's length must be a multiple of it.
CORVID_HOST_DEVICE constexpr int64_t format_block(Format format) {
  switch (plain_format(format)) {
    case Format::f32:
    case Format::f16:
    case Format::bf16:
      return 1;
    case Format::q8_0:
    case Format::q4_0:
    case Format::mxfp4:
      return kQ8Block;
    case Format::q4_k:
    case Format::q5_k:
    case Format::q6_k:
      return kKBlock;
    case Format::f8_e4m3:
      return kF8Block;
    default:
      return 1;
  }
}

// Whether its weights are integers under scales, which the CPU multiplies as such (matmul/ints.h).
constexpr bool in_integers(Format format) { return format_block(format) > 1 && format != Format::f8_e4m3; }

// Bytes of one block.
CORVID_HOST_DEVICE constexpr int64_t block_bytes(Format format) {
  switch (plain_format(format)) {
    case Format::f32:
      return 4;
    case Format::f16:
    case Format::bf16:
      return 2;
    case Format::q8_0:
      return sizeof(BlockQ8);
    case Format::q4_0:
      return sizeof(BlockQ4);
    case Format::mxfp4:
      return sizeof(BlockMxfp4);
    case Format::q4_k:
      return sizeof(BlockQ4K);
    case Format::q5_k:
      return sizeof(BlockQ5K);
    case Format::q6_k:
      return sizeof(BlockQ6K);
    case Format::f8_e4m3:
      return sizeof(BlockF8);
    default:
      return 0;
  }
}

// Bytes of one row of n weights. Needs n >= 0 and a multiple of format_block(format).
CORVID_HOST_DEVICE constexpr int64_t row_bytes(Format format, int64_t n) {
  return n / format_block(format) * block_bytes(format);
}

// The built-in of std::bit_cast, because that is no function of the GPU's.
CORVID_HOST_DEVICE inline float bf16_to_f32(uint16_t bits) { return __builtin_bit_cast(float, uint32_t{bits} << 16); }

// Round to nearest, ties to even; NaN stays NaN.
inline uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

CORVID_HOST_DEVICE inline float f16_to_f32(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000U} << 16;
  const uint32_t rest = bits & 0x7fffU;
  if (rest >= 0x7c00U) return __builtin_bit_cast(float, sign | 0x7f800000U | (rest & 0x3ffU) << 13);  // inf, NaN
  if (rest >= 0x0400U) return __builtin_bit_cast(float, sign | ((rest << 13) + 0x38000000U));         // normal
  // Subnormal: rest * 2^-24, exact in float32.
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, static_cast<float>(rest) * 0x1p-24F) | sign);
}

// Round to nearest, ties to even; overflow gives infinity; NaN stays NaN.
uint16_t f32_to_f16(float value);

// OCP's 8-bit float with 4 bits of exponent: no infinity, NaN where all other bits are set.
float f8_e4m3_to_f32(uint8_t bits);

// The same in weights, where the two codes of NaN count as +-480: nothing that multiplies looks for them. In float32's
// place the bits are too small by 2^(127 - 7).
CORVID_HOST_DEVICE inline float f8_weight(uint8_t bits) {
  return __builtin_bit_cast(float, uint32_t{bits & 0x80U} << 24 | uint32_t{bits & 0x7fU} << 20) * 0x1p120F;
}

// n weights at `row` -> float32, ggml's formats bit for bit as ggml does. Needs n a multiple of format_block(format).
// Throws std::invalid_argument for an interleaved format, whose rows do not lie one by one.
void decode_row(Format format, const void* row, int64_t n, float* out);

// n float32 -> `row`; the block formats as quantize.h says. Needs n a multiple of format_block(format), and any format
// but f8_e4m3, for a row alone does not know its scales, and the interleaved ones.
void encode_row(Format format, const float* values, int64_t n, void* row);

}  // namespace corvid::kernels
