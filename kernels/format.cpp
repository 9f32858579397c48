#include "kernels/format.h"

#include <cmath>

namespace corvid::kernels {

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
      for (int64_t b = 0; b < n / kQ8Block; ++b) {
        BlockQ8 block;
        std::memcpy(&block, bytes + b * int64_t{sizeof block}, sizeof block);
        const float d = f16_to_f32(block.d);
        for (int64_t i = 0; i < kQ8Block; ++i) out[b * kQ8Block + i] = d * static_cast<float>(block.q[i]);
      }
      return;
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
      for (int64_t b = 0; b < n / kQ8Block; ++b) {
        const float* x = values + b * kQ8Block;
        float largest = 0;
        for (int64_t i = 0; i < kQ8Block; ++i) largest = std::fmax(largest, std::fabs(x[i]));
        const float d = largest / 127;
        const float inverse = d != 0 ? 1 / d : 0;
        BlockQ8 block;
        block.d = f32_to_f16(d);
        for (int64_t i = 0; i < kQ8Block; ++i) block.q[i] = static_cast<int8_t>(std::round(x[i] * inverse));
        std::memcpy(bytes + b * int64_t{sizeof block}, &block, sizeof block);
      }
      return;
  }
}

}  // namespace corvid::kernels
