#include "kernels/format.h"

#include "kernels/block_weights.h"
#include "kernels/check.h"
#include "kernels/quantize.h"

namespace corvid::kernels {
namespace {

// `row` may lie at any address, so each block is copied out first.
template <class Block>
void decode_blocks(const char* row, int64_t n, float* out) {
  using Traits = BlockTraits<Block>;
  for (; n > 0; n -= Traits::kSize, row += sizeof(Block)) {
    Block block;
    std::memcpy(&block, row, sizeof block);
    for (int64_t g = 0; g < Traits::kSize / Traits::kGroup; ++g) {
      const GroupScale s = Traits::scale_of(block, g);
      for (int64_t i = g * Traits::kGroup; i < (g + 1) * Traits::kGroup; ++i)
        *out++ = s.scale * static_cast<float>(Traits::quant_of(block, i)) - s.min;
    }
  }
}

template <class Block>
void encode_blocks(const float* values, int64_t n, char* row) {
  for (; n > 0; n -= BlockTraits<Block>::kSize, values += BlockTraits<Block>::kSize, row += sizeof(Block)) {
    Block block;
    quantize(values, 1, &block);
    std::memcpy(row, &block, sizeof block);
  }
}

}  // namespace

const char* format_name(Format format) {
  switch (format) {
    case Format::f32:
      return "f32";
    case Format::f16:
      return "f16";
    case Format::bf16:
      return "bf16";
    case Format::q8_0:
      return "q8_0";
    case Format::q4_0:
      return "q4_0";
    case Format::mxfp4:
      return "mxfp4";
    case Format::q4_k:
      return "q4_k";
    case Format::q5_k:
      return "q5_k";
    case Format::q6_k:
      return "q6_k";
    case Format::f8_e4m3:
      return "f8_e4m3";
    case Format::q8_0x96:
      return "q8_0x96";
    case Format::q4_0x96:
      return "q4_0x96";
  }
  return "?";
}

uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U);   // NaN
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // rounds to 2^16 or more: inf
  if (magnitude >= 0x38800000U) {                                              // normal: drop 13 bits, ties to even
    const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
  }
  // Subnormal: the processor rounds to a multiple of 2^-24 for us when 0.5 is added, whose unit in the last place it
  // is.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
  return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U));
}

float f8_e4m3_to_f32(uint8_t bits) {
  const uint32_t sign = uint32_t{bits & 0x80U} << 24, rest = bits & 0x7fU;
  if (rest == 0x7fU) return std::bit_cast<float>(sign | 0x7fc00000U);
  if (rest >= 8) return std::bit_cast<float>(sign | ((rest << 20) + 0x3c000000U));
  return std::bit_cast<float>(std::bit_cast<uint32_t>(static_cast<float>(rest) * 0x1p-9F) | sign);
}

void decode_row(Format format, const void* row, int64_t n, float* out) {
  const auto* bytes = static_cast<const char*>(row);
  switch (format) {
    case Format::f32:
      if (n > 0) std::memcpy(out, bytes, static_cast<size_t>(n) * 4);
      return;
    case Format::f16:
    case Format::bf16:
      for (int64_t i = 0; i < n; ++i) {
        uint16_t bits;
        std::memcpy(&bits, bytes + 2 * i, 2);
        out[i] = format == Format::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
      }
      return;
    case Format::q8_0:
      return decode_blocks<BlockQ8>(bytes, n, out);
    case Format::q4_0:
      return decode_blocks<BlockQ4>(bytes, n, out);
    case Format::mxfp4:
      return decode_blocks<BlockMxfp4>(bytes, n, out);
    case Format::q4_k:
      return decode_blocks<BlockQ4K>(bytes, n, out);
    case Format::q5_k:
      return decode_blocks<BlockQ5K>(bytes, n, out);
    case Format::q6_k:
      return decode_blocks<BlockQ6K>(bytes, n, out);
    case Format::f8_e4m3:
      return decode_blocks<BlockF8>(bytes, n, out);
    case Format::q8_0x96:
    case Format::q4_0x96:
      require(false, "decode_row: rows of ", format_name(format), " do not lie one by one");
  }
}

void encode_row(Format format, const float* values, int64_t n, void* row) {
  auto* bytes = static_cast<char*>(row);
  switch (format) {
    case Format::f32:
      if (n > 0) std::memcpy(bytes, values, static_cast<size_t>(n) * 4);
      return;
    case Format::f16:
    case Format::bf16:
      for (int64_t i = 0; i < n; ++i) {
        const uint16_t bits = format == Format::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
        std::memcpy(bytes + 2 * i, &bits, 2);
      }
      return;
    case Format::q8_0:
      return encode_blocks<BlockQ8>(values, n, bytes);
    case Format::q4_0:
      return encode_blocks<BlockQ4>(values, n, bytes);
    case Format::mxfp4:
      return encode_blocks<BlockMxfp4>(values, n, bytes);
    case Format::q4_k:
      return encode_blocks<BlockQ4K>(values, n, bytes);
    case Format::q5_k:
      return encode_blocks<BlockQ5K>(values, n, bytes);
    case Format::q6_k:
      return encode_blocks<BlockQ6K>(values, n, bytes);
    case Format::q8_0x96:
    case Format::q4_0x96:
    case Format::f8_e4m3:
      break;
  }
  require(false, "encode_row: ", format_name(format), " is only read");
}

}  // namespace corvid::kernels
