#include "kernels/format.h"

#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "kernels/block_weights.h"
#include "tests/support/backends.h"
#include "tests/support/weights.h"

namespace corvid::test {
namespace {

using kernels::BlockQ8;
using kernels::Format;

TEST(Format, EveryHalfSurvivesTheWayThroughFloat32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = kernels::f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(kernels::f16_to_f32(kernels::f32_to_f16(value))));
    else
      ASSERT_EQ(kernels::f32_to_f16(value), bits);
  }
}

TEST(Format, HalvesHaveTheirKnownValues) {
  EXPECT_EQ(kernels::f16_to_f32(0x3c00), 1.0F);
  EXPECT_EQ(kernels::f16_to_f32(0xc000), -2.0F);
  EXPECT_EQ(kernels::f16_to_f32(0x7bff), 65504.0F);
  EXPECT_EQ(kernels::f16_to_f32(0x0001), 0x1p-24F);
  EXPECT_EQ(kernels::f16_to_f32(0x8400), -0x1p-14F);
  EXPECT_EQ(kernels::f16_to_f32(0x7c00), std::numeric_limits<float>::infinity());
}

TEST(Format, FloatsRoundToTheNearestHalfAndTiesToEven) {
  EXPECT_EQ(kernels::f32_to_f16(1 + 0x1p-11F), 0x3c00);      // half way between 1 and the next: 1 is even
  EXPECT_EQ(kernels::f32_to_f16(1 + 3 * 0x1p-11F), 0x3c02);  // half way: up to even
  EXPECT_EQ(kernels::f32_to_f16(1 + 0x1p-11F + 0x1p-20F), 0x3c01);
  EXPECT_EQ(kernels::f32_to_f16(65519.0F), 0x7bff);
  EXPECT_EQ(kernels::f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(kernels::f32_to_f16(0x1p-25F), 0);  // a tie with 0
  EXPECT_EQ(kernels::f32_to_f16(-0x1.8p-25F), 0x8001);
}

TEST(Format, Bf16RoundsToNearestAndKeepsNaN) {
  EXPECT_EQ(kernels::bf16_to_f32(0x3f80), 1.0F);
  EXPECT_EQ(kernels::f32_to_bf16(1 + 0x1p-8F), 0x3f80);
  EXPECT_EQ(kernels::f32_to_bf16(1 + 3 * 0x1p-8F), 0x3f82);
  EXPECT_EQ(kernels::f32_to_bf16(-3.0F), 0xc040);
  EXPECT_TRUE(std::isnan(kernels::bf16_to_f32(kernels::f32_to_bf16(std::bit_cast<float>(0x7f800001U)))));
  EXPECT_EQ(kernels::f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(Format, Q8BlocksAreAmaxOver127AndRoundedQuotients) {
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[size_t(i)] = static_cast<float>(i - 16) * 0.25F;  // largest magnitude: 4
  BlockQ8 block;
  encode_row(Format::q8_0, x.data(), 32, &block);
  EXPECT_EQ(block.d, kernels::f32_to_f16(4.0F / 127));
  for (int i = 0; i < 32; ++i) EXPECT_EQ(block.q[i], static_cast<int>(std::round(x[size_t(i)] / (4.0F / 127)))) << i;
  std::vector<float> back(32);
  decode_row(Format::q8_0, &block, 32, back.data());
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(back[size_t(i)], kernels::f16_to_f32(block.d) * static_cast<float>(block.q[i]));
}

TEST(Format, Q8BlockOfZerosIsZero) {
  const std::vector<float> zeros(32);
  BlockQ8 block;
  encode_row(Format::q8_0, zeros.data(), 32, &block);
  std::vector<float> back(32, 1.0F);
  decode_row(Format::q8_0, &block, 32, back.data());
  EXPECT_EQ(back, zeros);
}

template <class Integer>
std::vector<Integer> from_hex(const std::string& text) {
  std::vector<Integer> values(text.size() / (2 * sizeof(Integer)));
  for (size_t i = 0; i < values.size(); ++i) {
    const char* at = text.data() + i * 2 * sizeof(Integer);
    std::from_chars(at, at + 2 * sizeof(Integer), values[i], 16);
  }
  return values;
}

// tests/golden/formats/decoded.txt: in each line a format, the bytes of a few blocks (random, with scales of many
// sizes), and the bits of the floats that ggml makes of them.
TEST(Format, BlocksDecodeToGgmlsBits) {
  std::ifstream file(std::string(CORVID_GOLDEN_DIR) + "/formats/decoded.txt");
  std::string name, bytes, floats;
  int formats = 0;
  while (file >> name >> bytes >> floats) {
    const std::vector<uint8_t> row = from_hex<uint8_t>(bytes);
    const std::vector<uint32_t> wanted = from_hex<uint32_t>(floats);
    for (const Format format : kAllFormats) {
      if (kernels::format_name(format) != name) continue;
      ++formats;
      const auto n = static_cast<int64_t>(wanted.size());
      ASSERT_EQ(kernels::row_bytes(format, n), static_cast<int64_t>(row.size())) << name;
      std::vector<float> found(wanted.size());
      decode_row(format, row.data(), n, found.data());
      for (size_t i = 0; i < wanted.size(); ++i) {
        // A weight of 0 may have either sign.
        const bool same = std::bit_cast<uint32_t>(found[i]) == wanted[i] || (found[i] == 0 && wanted[i] << 1 == 0);
        ASSERT_TRUE(same) << name << " weight " << i << ": " << found[i] << ", want "
                          << std::bit_cast<float>(wanted[i]);
      }
    }
  }
  EXPECT_EQ(formats, 6);
}

// The error left by the best known encoders on normally distributed weights, and a little more.
TEST(Format, EncodedWeightsStayClose) {
  const int64_t n = 8192;
  const std::vector<float> a = random_floats(n, 1), b = random_floats(n, 2), c = random_floats(n, 3);
  std::vector<float> x(size_t(n), 0.0F);
  for (size_t i = 0; i < x.size(); ++i) x[i] = a[i] + b[i] + c[i];
  const std::pair<Format, double> limits[] = {{Format::q8_0, 0.006}, {Format::q6_k, 0.02}, {Format::q5_k, 0.04},
                                              {Format::q4_k, 0.08},  {Format::q4_0, 0.1},  {Format::mxfp4, 0.13}};
  for (const auto& [format, limit] : limits) {
    std::vector<char> row(size_t(kernels::row_bytes(format, n)));
    std::vector<float> back(x.size());
    encode_row(format, x.data(), n, row.data());
    decode_row(format, row.data(), n, back.data());
    double error = 0, size = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      error += std::pow(double(back[i]) - x[i], 2);
      size += double(x[i]) * x[i];
    }
    EXPECT_LT(std::sqrt(error / size), limit) << kernels::format_name(format);
  }
}

TEST(Format, AnyNumbersCanBeEncoded) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const Format format : kAllFormats) {
    if (format == Format::f8_e4m3) continue;  // only read
    for (const float fill : {0.0F, 1.0F, -1.0F, 1e-40F, 3e38F, -3e38F, inf, nan}) {
      std::vector<float> x(512, fill), back(x.size(), 5.0F);
      x[300] = -1;
      std::vector<char> row(size_t(kernels::row_bytes(format, 512)));
      encode_row(format, x.data(), 512, row.data());
      decode_row(format, row.data(), 512, back.data());
      if (std::fabs(fill) <= 1 && std::fabs(fill) >= 0.5F) {
        for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(back[i], x[i], 0.13) << kernels::format_name(format);
      }
      if (fill == 0) {
        EXPECT_EQ(back[0], 0) << kernels::format_name(format);
      }
    }
  }
  float zeros[128] = {};
  kernels::BlockF8 block;
  EXPECT_THROW(encode_row(Format::f8_e4m3, zeros, 128, &block), std::invalid_argument);
}

TEST(Format, EightBitFloatsHaveTheirKnownValues) {
  EXPECT_EQ(kernels::f8_e4m3_to_f32(0x38), 1.0F);
  EXPECT_EQ(kernels::f8_e4m3_to_f32(0xc4), -3.0F);
  EXPECT_EQ(kernels::f8_e4m3_to_f32(0x7e), 448.0F);
  EXPECT_EQ(kernels::f8_e4m3_to_f32(0x01), 0x1p-9F);
  EXPECT_EQ(kernels::f8_e4m3_to_f32(0x08), 0x1p-6F);
  EXPECT_EQ(std::bit_cast<uint32_t>(kernels::f8_e4m3_to_f32(0x80)), 0x80000000U);
  EXPECT_TRUE(std::isnan(kernels::f8_e4m3_to_f32(0x7f)));
}

TEST(Format, WeightsOfF8AreTheirCodesTimesTheirScales) {
  for (const float scale : {1.0F, 0.0123F, -7e-5F, 0.0F, 0x1.fp118F, 0x1.234p-140F}) {
    kernels::BlockF8 row[2];
    for (int64_t i = 0; i < 256; ++i) row[i / 128].q[i % 128] = static_cast<uint8_t>(i);
    row[0].scale = scale;
    row[1].scale = 3 * scale;
    char bytes[1 + sizeof row];  // at any address
    std::memcpy(bytes + 1, row, sizeof row);
    float found[256];
    decode_row(Format::f8_e4m3, bytes + 1, 256, found);
    for (int i = 0; i < 256; ++i) {
      const float code = i % 128 == 127 ? std::copysign(480.0F, i < 128 ? 1.0F : -1.0F)
                                        : kernels::f8_e4m3_to_f32(static_cast<uint8_t>(i));
      EXPECT_EQ(std::bit_cast<uint32_t>(found[i]), std::bit_cast<uint32_t>(code * row[i / 128].scale))
          << i << ' ' << scale;
    }
  }
}

TEST(Format, RowsHaveTheBytesOfTheirFormat) {
  EXPECT_EQ(kernels::row_bytes(Format::f32, 7), 28);
  EXPECT_EQ(kernels::row_bytes(Format::f16, 7), 14);
  EXPECT_EQ(kernels::row_bytes(Format::bf16, 7), 14);
  EXPECT_EQ(kernels::row_bytes(Format::q8_0, 64), 68);
  EXPECT_EQ(kernels::row_bytes(Format::q4_k, 512), 288);
  EXPECT_EQ(kernels::row_bytes(Format::f8_e4m3, 512), 528);
}

}  // namespace
}  // namespace corvid::test
