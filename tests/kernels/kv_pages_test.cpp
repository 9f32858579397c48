#include "kernels/kv_pages/kv_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <set>

#include "tests/support/pages.h"

namespace corvid::test {
namespace {

using kernels::Exec;
using kernels::Format;

constexpr Format kFormats[] = {Format::f32, Format::f16, Format::bf16, Format::q8_0};

// How far a stored number may lie from x, whose neighbours of the same scale are at most `largest`.
double rounding(Format f, double x, double largest) {
  switch (f) {
    case Format::f16:
      return std::fabs(x) * 0x1p-11 + 0x1p-25;
    case Format::bf16:
      return std::fabs(x) * 0x1p-8;
    case Format::q8_0:
      return largest / 127 * (0.5 + 127 * 0x1p-10) + 127 * 0x1p-25;  // half a step, and the scale's own rounding
    default:
      return 0;
  }
}

double largest_near(const std::vector<float>& rows, size_t row_at, int64_t i, int64_t dim) {
  double most = 0;
  for (int64_t n = i / 32 * 32; n < std::min(dim, i / 32 * 32 + 32); ++n)
    most = std::max(most, std::fabs(double(rows[row_at + size_t(n)])));
  return most;
}

TEST(KvPages, EveryRowIsFoundWhereTheLayoutSaysSo) {
  Exec exec(3);
  for (const Format f : kFormats)
    for (const int64_t block : {1, 4, 16, 20, 128})
      for (const int64_t dim : {1, 7, 16, 40, 96}) {
        const Pages pages(2 * block + 1, 3, dim, block, 1, exec, f);
        for (int64_t j = 0; j < pages.n_keys; ++j)
          for (int64_t h = 0; h < 3; ++h)
            for (int64_t i = 0; i < dim; ++i) {
              const auto row = static_cast<size_t>((j * 3 + h) * dim), at = row + size_t(i), page = size_t(j / block);
              const float key = pages.key_rows[at], value = pages.value_rows[at];
              ASSERT_NEAR(kernels::key_at(pages.keys[page], h, j % block, i, dim, block, f), key,
                          rounding(f, key, largest_near(pages.key_rows, row, i, dim)))
                  << kernels::format_name(f) << " " << block << " " << dim;
              ASSERT_NEAR(kernels::value_at(pages.values[page], h, j % block, i, dim, block, f), value,
                          rounding(f, value, largest_near(pages.value_rows, row, i, dim)))
                  << kernels::format_name(f) << " " << block << " " << dim;
            }
      }
}

TEST(KvPages, EachLineHasAPlaceOfItsOwn) {
  for (const Format f : kFormats)
    for (int64_t groups = 1; groups <= 9; ++groups)
      for (const int64_t lines : {1, 5, 128}) {
        std::set<int64_t> places;
        for (int64_t g = 0; g < groups; ++g)
          for (int64_t i = 0; i < lines; ++i) places.insert(kernels::line_offset(f, groups, lines, g, i));
        EXPECT_EQ(std::ssize(places), groups * lines);
        EXPECT_EQ(*places.begin(), 0);
        EXPECT_EQ(*places.rbegin(), (groups * lines - 1) * kernels::kLanes);
      }
}

TEST(KvPages, StoringARowLeavesItsNeighboursAlone) {
  Exec exec(1);
  for (const Format f : kFormats) {
    const Pages pages(10, 2, 5, 4, 1, exec, f);
    const auto* first = pages.memory[1].as<std::byte>();
    std::vector<std::byte> before(first, first + pages.memory[1].bytes());
    const std::vector<float> row(10, 7.0F);
    const int64_t pos = 6;
    store_keys({row.data(), &pos, pages.keys.data(), 1, 2, 5, 4, f}, exec);
    for (int64_t slot = 0; slot < 4; ++slot)
      for (int64_t h = 0; h < 2; ++h)
        for (int64_t i = 0; i < 5; ++i) {
          if (slot == 2)
            EXPECT_NEAR(kernels::key_at(pages.keys[1], h, slot, i, 5, 4, f), 7.0F, rounding(f, 7, 7));
          else
            EXPECT_EQ(kernels::key_at(pages.keys[1], h, slot, i, 5, 4, f),
                      kernels::key_at({before.data(), pages.keys[1].step}, h, slot, i, 5, 4, f));
        }
  }
}

// Keys and values of several sequences in one call, with more numbers than one thread stores alone.
TEST(KvPages, JobsOfOneCallAreStoredAsOneByOne) {
  Exec exec(3);
  for (const Format f : kFormats) {
    const Pages a(300, 2, 40, 16, 1, exec, f), b(7, 2, 40, 16, 2, exec, f);
    const Pages c(300, 2, 40, 16, 3, exec, f), d(7, 2, 40, 16, 4, exec, f);  // other rows, to be replaced
    std::vector<int64_t> pos(300);
    std::iota(pos.begin(), pos.end(), 0);
    const kernels::StoreRows jobs[] = {{a.key_rows.data(), pos.data(), c.keys.data(), 300, 2, 40, 16, f},
                                       {a.value_rows.data(), pos.data(), c.values.data(), 300, 2, 40, 16, f, true},
                                       {b.key_rows.data(), pos.data(), d.keys.data(), 7, 2, 40, 16, f},
                                       {b.value_rows.data(), pos.data(), d.values.data(), 7, 2, 40, 16, f, true}};
    store_rows(jobs, exec);
    const auto expect_same = [&](const Pages& x, const Pages& y) {
      for (size_t page = 0; page < x.memory.size(); ++page) {
        EXPECT_EQ(std::memcmp(x.memory[page].as<>(), y.memory[page].as<>(), size_t(x.memory[page].bytes())), 0);
      }
    };
    expect_same(a, c);
    expect_same(b, d);
  }
}

TEST(KvPages, WhatIsFiniteStaysFiniteAndNaNStays) {
  Exec exec(1);
  const float most = std::numeric_limits<float>::max(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> rows = {1e6F, -1e30F, most, -most, 65504.0F, 1.0F, inf, std::nanf("")};
  const std::vector<int64_t> pos = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto stored = [&](Format f, float* out) {
    kernels::Buffer memory(kernels::value_head_bytes(f, 1, 8));
    const kernels::PageHeads page{memory.as<std::byte>()};
    store_values({rows.data(), pos.data(), &page, 8, 1, 1, 8, f}, exec);
    for (int64_t slot = 0; slot < 8; ++slot) out[slot] = kernels::value_at(page, 0, slot, 0, 1, 8, f);
  };
  float f16[8], bf16[8], q8[8];
  stored(Format::f16, f16);
  stored(Format::bf16, bf16);
  stored(Format::q8_0, q8);
  EXPECT_EQ(std::vector<float>(f16, f16 + 7),
            (std::vector<float>{65504.0F, -65504.0F, 65504.0F, -65504.0F, 65504.0F, 1.0F, inf}));
  EXPECT_EQ(std::vector<float>(bf16 + 2, bf16 + 7),
            (std::vector<float>{0x1.fep127F, -0x1.fep127F, 65536.0F, 1.0F, inf}));
  EXPECT_EQ(std::vector<float>(q8 + 1, q8 + 4), (std::vector<float>{-127 * 65504.0F, 127 * 65504.0F, -127 * 65504.0F}));
  EXPECT_TRUE(std::isnan(f16[7]) && std::isnan(bf16[7]) && std::isnan(q8[6]) && std::isnan(q8[7]));
}

TEST(KvPages, HalvesAreRoundedToNearestBitForBit) {
  Exec exec(1);
  constexpr int64_t n = 4096;
  std::mt19937 bits(5);
  std::vector<float> rows(n);
  for (size_t i = 0; i < rows.size(); ++i) {
    auto x = static_cast<uint32_t>(bits());               // any number: large, subnormal, infinite, none
    if (i % 4 == 1) x = (x & 0x8fffffffU) | 0x30000000U;  // about where f16's subnormal numbers end
    if (i % 4 == 2) x = (x & 0x8fffe000U) | 0x30000000U | (x & 1U) << 12U;  // halfway, or exact
    rows[i] = std::bit_cast<float>(x);
  }
  const int64_t pos = 0;
  for (const Format f : {Format::f16, Format::bf16}) {
    kernels::Buffer memory(kernels::value_head_bytes(f, n, 1));
    const kernels::PageHeads page{memory.as<std::byte>()};
    store_values({rows.data(), &pos, &page, 1, 1, n, 1, f}, exec);
    const float most = f == Format::f16 ? 65504.0F : 0x1.fep127F;
    for (int64_t i = 0; i < n; ++i) {
      const float x = rows[static_cast<size_t>(i)], clamped = std::isfinite(x) ? std::clamp(x, -most, most) : x;
      const float wanted = f == Format::f16 ? kernels::f16_to_f32(kernels::f32_to_f16(clamped))
                                            : kernels::bf16_to_f32(kernels::f32_to_bf16(clamped));
      const float found = kernels::value_at(page, 0, 0, i, n, 1, f);
      if (std::isnan(x))
        EXPECT_TRUE(std::isnan(found)) << i;
      else
        EXPECT_EQ(std::bit_cast<uint32_t>(found), std::bit_cast<uint32_t>(wanted)) << x;
    }
  }
}

TEST(KvPages, ClearingKeepsTheRowsInUseAndNothingElse) {
  Exec exec(1);
  constexpr int64_t heads = 2;
  for (const Format f : kFormats)
    for (const auto& [dim, block] : {std::pair<int64_t, int64_t>{5, 4}, {40, 20}, {32, 16}, {96, 100}})
      for (int64_t used = 0; used <= block; ++used) {
        const Pages pages(block, heads, dim, block, 1, exec, f);  // the padding is NaN
        // A page of zeros in which just the rows in use are stored.
        const auto* first = pages.memory[0].as<std::byte>();
        std::vector<std::byte> zeros(size_t(pages.memory[0].bytes()));
        const kernels::PageHeads key_page{zeros.data(), pages.keys[0].step};
        const kernels::PageHeads value_page{zeros.data() + (pages.values[0].first - first), pages.values[0].step};
        std::vector<int64_t> pos(static_cast<size_t>(used));
        std::iota(pos.begin(), pos.end(), 0);
        store_keys({pages.key_rows.data(), pos.data(), &key_page, used, heads, dim, block, f}, exec);
        store_values({pages.value_rows.data(), pos.data(), &value_page, used, heads, dim, block, f}, exec);
        kernels::clear_unused_keys(pages.keys[0], f, heads, dim, block, used);
        kernels::clear_unused_values(pages.values[0], f, heads, dim, block, used);
        EXPECT_EQ(std::vector<std::byte>(first, first + zeros.size()), zeros) << kernels::format_name(f) << " " << used;
      }
}

TEST(KvPages, NamesAPositionWithoutAPage) {
  Exec exec(1);
  const float row = 1;
  const kernels::PageHeads pages[2];
  const int64_t pos = 5, below = -1;
  EXPECT_THROW(store_keys({&row, &pos, pages, 1, 1, 1, 4}, exec), std::invalid_argument);
  EXPECT_THROW(store_values({&row, &below, pages, 1, 1, 1, 4}, exec), std::invalid_argument);
}

}  // namespace
}  // namespace corvid::test
