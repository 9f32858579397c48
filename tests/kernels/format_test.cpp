#include "kernels/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

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

TEST(Format, RowsHaveTheBytesOfTheirFormat) {
  EXPECT_EQ(kernels::row_bytes(Format::f32, 7), 28);
  EXPECT_EQ(kernels::row_bytes(Format::f16, 7), 14);
  EXPECT_EQ(kernels::row_bytes(Format::bf16, 7), 14);
  EXPECT_EQ(kernels::row_bytes(Format::q8_0, 64), 68);
}

}  // namespace
}  // namespace corvid::test
