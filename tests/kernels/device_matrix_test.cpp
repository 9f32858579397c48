#include "kernels/device_matrix/device_matrix.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/weights.h"

namespace corvid::test {
namespace {

using kernels::DeviceFormat;
using kernels::Format;

// The whole of [n_experts][n, k] as float32, from the device's bytes; what fills the panels up must be zero.
std::vector<float> decoded(DeviceFormat format, const std::vector<char>& bytes, int64_t n, int64_t k,
                           int64_t n_experts = 1) {
  const int64_t columns = kernels::padded_k(format, k), panels = kernels::panels_of(n);
  std::vector<float> values(size_t(n_experts * n * k)), panel(size_t(kernels::kPanelRows * columns));
  for (int64_t p = 0; p < n_experts * panels; ++p) {
    decode_panel(format, bytes.data() + p * kernels::panel_bytes(format, k), k, panel.data());
    for (int64_t r = 0; r < kernels::kPanelRows; ++r)
      for (int64_t i = 0; i < columns; ++i) {
        const int64_t row = p % panels * kernels::kPanelRows + r;
        const float value = panel[size_t(r * columns + i)];
        if (row < n && i < k)
          values[size_t((p / panels * n + row) * k + i)] = value;
        else
          EXPECT_EQ(value, 0) << "beyond the matrix, at " << row << ", " << i;
      }
  }
  return values;
}

TEST(DeviceMatrixTest, KeepsEveryWeightOfEveryFormat) {
  for (const Format format : kAllFormats)
    for (const int64_t k : {32, 96, 256, 512, 768})
      for (const int64_t n : {1, 15, 16, 50}) {
        if (k % format_block(format) != 0) continue;
        const int64_t n_experts = 3;
        const TestWeights w(format, n_experts * n, k, uint32_t(n + k), n_experts * n);
        const DeviceFormat to = kernels::device_format(format);
        std::vector<float> wanted = w.decoded();
        if (to == DeviceFormat::bf16)
          for (float& value : wanted) value = kernels::bf16_to_f32(kernels::f32_to_bf16(value));
        std::vector<char> bytes(size_t(kernels::device_bytes(to, n, k, n_experts)), char{0x55});
        repack(w.view(), n, k, 0, n_experts * kernels::panels_of(n), bytes.data());
        EXPECT_EQ(decoded(to, bytes, n, k, n_experts), wanted)
            << kernels::format_name(format) << ' ' << n << " x " << k;
      }
}

TEST(DeviceMatrixTest, AnyRangeOfPanelsIsTheSameBytes) {
  const TestWeights w(Format::q4_k, 2 * 40, 512, 1);
  const int64_t panels = 2 * kernels::panels_of(40), bytes = kernels::panel_bytes(DeviceFormat::q4_k, 512);
  std::vector<char> whole(size_t(panels * bytes)), parts(whole.size());
  repack(w.view(), 40, 512, 0, panels, whole.data());
  for (int64_t p = 0; p < panels; p += 2)
    repack(w.view(), 40, 512, p, std::min<int64_t>(2, panels - p), parts.data() + p * bytes);
  EXPECT_EQ(parts, whole);
}

TEST(DeviceMatrixTest, QuantisedMatricesKeepTheirSize) {
  for (const Format format : {Format::q8_0, Format::q4_k, Format::q6_k, Format::bf16})
    EXPECT_EQ(kernels::device_bytes(kernels::device_format(format), 768, 2048, 2),
              2 * 768 * kernels::row_bytes(format, 2048));
  // Two scales for a tile of 16 x 256, where the host has one for each row and 128.
  EXPECT_EQ(kernels::device_bytes(DeviceFormat::f8_e4m3, 768, 2048, 2), 2 * 768 * (2048 + 2048 / 256 * 32 / 16));
}

TEST(DeviceMatrixTest, Fp8HasItsBlocksScales) {
  std::mt19937 bits(1);
  const int64_t n = 150, k = 384, blocks = k / 128;
  std::vector<kernels::BlockF8> rows(size_t(2 * n * blocks));
  for (int64_t i = 0; i < std::ssize(rows); ++i) {
    const int64_t row = i / blocks;
    rows[size_t(i)].scale = float(1 + row / n * 6 + row % n / 128 * 3 + i % blocks);  // [2][2, 3]
    for (uint8_t& byte : rows[size_t(i)].q) byte = static_cast<uint8_t>(bits());
  }
  std::vector<float> wanted(size_t(2 * n * k));
  decode_row(Format::f8_e4m3, rows.data(), 2 * n * k, wanted.data());
  std::vector<char> bytes(size_t(kernels::device_bytes(DeviceFormat::f8_e4m3, n, k, 2)));
  kernels::repack({rows.data(), Format::f8_e4m3}, n, k, 0, 2 * kernels::panels_of(n), bytes.data());
  EXPECT_EQ(decoded(DeviceFormat::f8_e4m3, bytes, n, k, 2), wanted);

  rows[size_t(140 * blocks + 1)].scale = 7;  // a row apart from the others of its panel
  EXPECT_THROW(kernels::repack({rows.data(), Format::f8_e4m3}, n, k, 0, 2 * kernels::panels_of(n), bytes.data()),
               std::invalid_argument);
}

TEST(DeviceMatrixTest, TheThirdsOfARouterAddUpToItExactly) {
  const int64_t n = 21, k = 70;
  const TestWeights w(Format::f32, n, k, 9);
  std::vector<char> bytes(size_t(kernels::device_bytes(DeviceFormat::bf16, 3 * n, k)));
  repack_router(w.view(), n, k, 0, kernels::panels_of(3 * n), bytes.data());
  const std::vector<float> thirds = decoded(DeviceFormat::bf16, bytes, 3 * n, k), wanted = w.decoded();
  for (int64_t i = 0; i < n * k; ++i)
    ASSERT_EQ(double(thirds[size_t(i)]) + thirds[size_t(n * k + i)] + thirds[size_t(2 * n * k + i)], wanted[size_t(i)]);
}

}  // namespace
}  // namespace corvid::test
