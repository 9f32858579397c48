#include "kernels/matmul/matmul.h"

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/expect_close.h"
#include "tests/support/guarded.h"
#include "tests/support/throws.h"
#include "tests/support/weights.h"

namespace corvid::test {
namespace {

using kernels::Exec;
using kernels::Format;
using kernels::Matmul;

using MatmulTest = BackendTest;
INSTANTIATE_TEST_SUITE_P(Kernels, MatmulTest, testing::ValuesIn(all_backends()), backend_name);

std::vector<float> run(Exec& exec, const std::vector<float>& x, const TestWeights& w, int64_t rows,
                       const std::vector<float>* added_to = nullptr) {
  Guarded<float> y(added_to == nullptr ? std::vector<float>(size_t(rows * w.n), 99.0F) : *added_to);
  Arrays on(exec);
  matmul({on.in(x.data(), rows * w.k),
          {on.in(w.bytes.data(), int64_t(w.bytes.size())), w.format},
          on.out(y.data(), y.size()),
          rows,
          w.n,
          w.k,
          added_to != nullptr},
         exec);
  on.finish();
  y.expect_guards_intact("matmul");
  return y.values();
}

std::string case_name(const TestWeights& w, int64_t rows) {
  return std::to_string(rows) + " x " + std::to_string(w.n) + " x " + std::to_string(w.k) + " " +
         kernels::format_name(w.format);
}

// sum_i |x_i w_i| of each output, or with formats of integers the largest of a block for each of its x: what the
// tolerance refers to.
std::vector<double> product_sizes(std::vector<float> x, const TestWeights& w, int64_t rows) {
  const std::vector<float> values = w.decoded();
  const std::ptrdiff_t block = in_integers(w.format) ? kernels::kQ8Block : 1;
  for (auto first = x.begin(); first != x.end(); first += block)
    std::fill(first, first + block, std::fabs(*std::max_element(first, first + block, [](float a, float b) {
                return std::fabs(a) < std::fabs(b);
              })));
  std::vector<double> sizes(size_t(rows * w.n));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < w.n; ++j)
      for (int64_t i = 0; i < w.k; ++i)
        sizes[size_t(r * w.n + j)] += std::fabs(double(x[size_t(r * w.k + i)]) * values[size_t(j * w.k + i)]);
  return sizes;
}

TEST_P(MatmulTest, AgreesWithFloat64InEveryFormat) {
  const auto exec = GetParam().exec();
  for (const Format format : kAllFormats)
    for (const int64_t k : {1, 15, 16, 17, 32, 96, 384, 416, 512})
      for (const int64_t n : {0, 1, 3, 8, 13, 97})
        for (const int64_t rows : {0, 1, 2, 3, 5, 66}) {
          if (k % format_block(format) != 0) continue;
          const TestWeights w(format, n, k, uint32_t(n + k));
          const std::vector<float> x = random_floats(rows * k, uint32_t(rows));
          std::vector<double> wanted(size_t(rows * n));
          kernels::ref::matmul({x.data(), w.view(), nullptr, rows, n, k}, wanted.data());
          expect_close(run(*exec, x, w, rows), wanted, kernels::matmul_tolerance(k, format), product_sizes(x, w, rows),
                       case_name(w, rows));
        }
}

TEST_P(MatmulTest, AgreesWithFloat64OnLongRows) {
  const auto exec = GetParam().exec();
  const TestWeights w(Format::q8_0, 20, 6144, 1);
  for (const int64_t rows : {1, 9}) {
    const std::vector<float> x = random_floats(rows * w.k, 2);
    std::vector<double> wanted(size_t(rows * w.n));
    kernels::ref::matmul({x.data(), w.view(), nullptr, rows, w.n, w.k}, wanted.data());
    expect_close(run(*exec, x, w, rows), wanted, kernels::matmul_tolerance(w.k, w.format), product_sizes(x, w, rows),
                 case_name(w, rows));
  }
}

TEST_P(MatmulTest, AddsToWhatIsThere) {
  const auto exec = GetParam().exec();
  for (const int64_t rows : {1, 6}) {
    const TestWeights w(Format::f32, 37, 48, 3);
    const std::vector<float> x = random_floats(rows * w.k, 4), before = random_floats(rows * w.n, 5);
    std::vector<float> wanted = run(*exec, x, w, rows);
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] += before[i];
    EXPECT_EQ(run(*exec, x, w, rows, &before), wanted);
  }
}

// The law: a row's result has the same bits alone, in any batch, with any number of threads.
TEST_P(MatmulTest, GivesARowTheSameBitsInAnyCompany) {
  for (const Format format : kAllFormats)
    for (const int64_t k : {32, 64, 384, 416, 256, 23}) {
      if (k % format_block(format) != 0) continue;
      const int64_t rows = 70;
      const TestWeights w(format, 101, k, 6);
      const std::vector<float> x = random_floats(rows * k, 7);
      const std::vector<float> all = run(*GetParam().exec(2), x, w, rows);
      EXPECT_EQ(all, run(*GetParam().exec(1), x, w, rows)) << case_name(w, rows);
      EXPECT_EQ(all, run(*GetParam().exec(3), x, w, rows)) << case_name(w, rows);
      const auto exec = GetParam().exec(2);
      for (const int64_t step : {1, 2, 3, 33})
        for (int64_t r = 0; r < rows; r += step) {
          const int64_t n = std::min(step, rows - r);
          const std::vector<float> part(x.begin() + r * k, x.begin() + (r + n) * k);
          ASSERT_EQ(run(*exec, part, w, n), std::vector<float>(all.begin() + r * w.n, all.begin() + (r + n) * w.n))
              << case_name(w, n) << " at row " << r;
        }
    }
}

// Weights of random bits, whose scales are negative, tiny, zero or neither.
TestWeights random_blocks(Format format, int64_t n, int64_t k, std::mt19937& bits) {
  TestWeights w(format, n, k, uint32_t(n + k));
  const int64_t bytes = kernels::block_bytes(format);
  for (char& byte : w.bytes) byte = static_cast<char>(bits());
  for (auto block = w.bytes.begin(); block != w.bytes.end(); block += bytes) {
    const auto set_half = [&](int64_t at) {
      const auto half = uint16_t(bits() % 4 == 0 ? bits() % 1024 : 0x8000U * (bits() % 2) + bits() % 0x4000U);
      std::memcpy(&block[at], &half, sizeof half);
    };
    if (format == Format::mxfp4)
      block[0] = static_cast<char>(bits() % 150);
    else
      set_half(format == Format::q6_k ? bytes - 2 : 0);
    if (format == Format::q4_k || format == Format::q5_k) set_half(2);
    if (format == Format::q8_0 && bits() % 4 == 0) std::fill(block + 2, block + bytes, bits() % 2 == 0 ? -128 : 127);
  }
  return w;
}

// Blocks of zeros and of all sizes, and the largest integers there are.
TEST_P(MatmulTest, GivesTheSameBitsInEveryTierInBlockFormats) {
  if (GetParam().device == kernels::Device::cuda) GTEST_SKIP() << "a GPU multiplies floats";
  const auto exec = GetParam().exec();
  Exec scalar(1, kernels::Isa::scalar);
  std::mt19937 bits(12);
  for (const Format format : kAllFormats)
    for (const int64_t k : {32, 96, 160, 416, 512})
      for (const int64_t n : {1, 12, 16, 37, 100})
        for (const int64_t rows : {1, 3, 4, 16, 21, 70}) {
          if (!in_integers(format) || k % format_block(format) != 0) continue;
          const TestWeights w = random_blocks(format, n, k, bits);
          std::vector<float> x = random_floats(rows * k, uint32_t(rows));
          for (size_t i = 0; i < x.size(); i += 32) {
            const float size = std::ldexp(1.0F, int(bits() % 80) - 60);
            const bool flat = bits() % 4 == 0, nothing = bits() % 8 == 0;
            for (size_t j = i; j < i + 32; ++j) x[j] = nothing ? 0 : flat ? std::copysign(size, x[j]) : x[j] * size;
          }
          ASSERT_EQ(run(*exec, x, w, rows), run(scalar, x, w, rows)) << case_name(w, rows);
        }
}

// Rows of x that have a single one: what comes out is the weights, of every code under every scale.
TEST_P(MatmulTest, WeightsOfF8ComeOutAsTheyAre) {
  const auto exec = GetParam().exec();
  const int64_t n = 37, k = 256;
  TestWeights w(Format::f8_e4m3, n, k, 15);
  std::mt19937 bits(16);
  for (int64_t i = 0; i < 2 * n; ++i) {
    kernels::BlockF8 block{std::ldexp(1 + float(bits() % 1000) / 1000, int(bits() % 240) - 122), {}};
    for (int64_t c = 0; c < 128; ++c) block.q[c] = uint8_t(i % 2 * 128 + (c + i) % 128);
    std::memcpy(w.bytes.data() + i * int64_t{sizeof block}, &block, sizeof block);
  }
  const std::vector<float> weights = w.decoded();
  for (const int64_t rows : {1, 2, 256}) {
    for (int64_t first = 0; first < k; first += rows) {
      std::vector<float> x(size_t(rows * k)), wanted(size_t(rows * n));
      for (int64_t r = 0; r < rows; ++r) {
        x[size_t(r * k + first + r)] = 1;
        for (int64_t j = 0; j < n; ++j) wanted[size_t(r * n + j)] = weights[size_t(j * k + first + r)];
      }
      ASSERT_EQ(run(*exec, x, w, rows), wanted) << rows << " rows from " << first;
    }
  }
}

// Rows side by side: the same bits as one after the other, whose agreement with float64 is tested above.
TEST_P(MatmulTest, InterleavedWeightsGiveTheSameBits) {
  if (GetParam().device == kernels::Device::cuda) GTEST_SKIP() << "for the CPU alone";
  const auto exec = GetParam().exec(2);
  std::mt19937 bits(16);
  for (const Format format : kInterleavedFormats)
    for (const int64_t k : {32, 64, 96, 128, 160, 416, 1056})
      for (const int64_t n : {0, 16, 48, 96, 112, 160, 272})
        for (const int64_t rows : {0, 1, 2, 3, 4, 5, 6, 10, 13, 15, 16, 21, 64, 65}) {
          const TestWeights w = random_blocks(plain_format(format), n, k, bits);
          const std::vector<char> bytes = interleaved(w, format);
          const std::vector<float> x = random_floats(rows * k, uint32_t(rows)), before = random_floats(rows * n, 17);
          for (const bool add : {false, true}) {
            const std::vector<float> wanted = run(*exec, x, w, rows, add ? &before : nullptr);
            Guarded<float> y(add ? before : std::vector<float>(size_t(rows * n), 99.0F));
            matmul({x.data(), {bytes.data(), format}, y.data(), rows, n, k, add}, *exec);
            y.expect_guards_intact("matmul");
            ASSERT_EQ(y.values(), wanted) << case_name(w, rows) << ", interleaved, add " << add;
          }
        }
}

TEST_P(MatmulTest, InterleavedWeightsAgreeWithFloat64) {
  if (GetParam().device == kernels::Device::cuda) GTEST_SKIP() << "for the CPU alone";
  const auto exec = GetParam().exec();
  for (const Format format : kInterleavedFormats)
    for (const int64_t rows : {1, 3, 9}) {
      const TestWeights w(plain_format(format), 32, 6144, 1);
      const std::vector<char> bytes = interleaved(w, format);
      const std::vector<float> x = random_floats(rows * w.k, 2);
      std::vector<double> wanted(size_t(rows * w.n));
      kernels::ref::matmul({x.data(), w.view(), nullptr, rows, w.n, w.k}, wanted.data());
      std::vector<float> y(wanted.size());
      matmul({x.data(), {bytes.data(), format}, y.data(), rows, w.n, w.k}, *exec);
      expect_close(y, wanted, kernels::matmul_tolerance(w.k, format), product_sizes(x, w, rows), case_name(w, rows));
    }
}

TEST_P(MatmulTest, InterleavedWeightsBecomeRowsAgain) {
  if (GetParam().device == kernels::Device::cuda) GTEST_SKIP() << "for the CPU alone";
  std::mt19937 bits(18);
  for (const Format format : kInterleavedFormats)
    for (const int64_t k : {32, 64, 96, 128, 416}) {
      const TestWeights w = random_blocks(plain_format(format), 144, k, bits);
      const std::vector<char> bytes = interleaved(w, format);
      const auto sixteen = ptrdiff_t(16 * kernels::row_bytes(w.format, k));
      for (int64_t first = 0; first < w.n; first += 16) {
        Guarded<char> rows(std::vector<char>(static_cast<size_t>(sixteen)));
        kernels::separate(format, bytes.data(), first, w.n, k, rows.data(), GetParam().isa);
        rows.expect_guards_intact("separate");
        const auto at = w.bytes.begin() + first / 16 * sixteen;
        EXPECT_EQ(rows.values(), std::vector<char>(at, at + sixteen))
            << kernels::format_name(format) << ' ' << k << ", row " << first;
      }
    }
}

TEST_P(MatmulTest, ARowWithNanOrInfinityGivesNanAndLeavesTheOthersAlone) {
  if (GetParam().device == kernels::Device::cuda) GTEST_SKIP() << "a GPU multiplies floats";
  const auto exec = GetParam().exec();
  const TestWeights w(Format::q8_0, 21, 96, 13);
  for (const int64_t rows : {1, 3, 20})
    for (const float bad : {std::nanf(""), -INFINITY, INFINITY}) {
      std::vector<float> x = random_floats(rows * w.k, 14);
      const std::vector<float> good = run(*exec, x, w, rows);
      x[size_t((rows - 1) * w.k + 40)] = bad;
      const std::vector<float> found = run(*exec, x, w, rows);
      for (int64_t i = 0; i < rows * w.n; ++i) {
        if (i < (rows - 1) * w.n)
          EXPECT_EQ(found[size_t(i)], good[size_t(i)]) << rows << " rows, element " << i;
        else
          EXPECT_TRUE(std::isnan(found[size_t(i)])) << rows << " rows, element " << i;
      }
    }
}

TEST_P(MatmulTest, WeightsMayLieAtOddAddresses) {
  if (GetParam().device == kernels::Device::cuda) GTEST_SKIP() << "a GPU's weights are aligned";
  const auto exec = GetParam().exec();
  for (const Format format : kAllFormats)
    for (const int64_t rows : {1, 4}) {
      const TestWeights w(format, 21, std::max<int64_t>(64, format_block(format)), 9);
      std::vector<char> shifted{0};
      shifted.insert(shifted.end(), w.bytes.begin(), w.bytes.end());
      const std::vector<float> x = random_floats(rows * w.k, 10);
      std::vector<float> y(size_t(rows * w.n));
      matmul({x.data(), {shifted.data() + 1, format}, y.data(), rows, w.n, w.k}, *exec);
      EXPECT_EQ(y, run(*exec, x, w, rows)) << case_name(w, rows);
    }
}

TEST_P(MatmulTest, SeveralTogetherEqualOneByOne) {
  if (GetParam().device == kernels::Device::cuda) GTEST_SKIP() << "one by one on a GPU";
  const auto exec = GetParam().exec(3);
  const int64_t rows = 3;
  std::vector<TestWeights> weights;
  for (int64_t i = 0; i < 20; ++i)
    weights.emplace_back(i % 2 == 0 ? Format::q8_0 : Format::bf16, i * 7, 32 + 32 * (i % 3), uint32_t(i));
  const std::vector<float> x = random_floats(rows * 96, 8);
  std::vector<std::vector<float>> found;
  std::vector<Matmul> all;
  for (const TestWeights& w : weights) found.emplace_back(size_t(rows * w.n));
  for (size_t i = 0; i < weights.size(); ++i)
    all.push_back({x.data(), weights[i].view(), found[i].data(), rows, weights[i].n, weights[i].k});
  matmul(all, *exec);
  for (size_t i = 0; i < weights.size(); ++i) EXPECT_EQ(found[i], run(*exec, x, weights[i], rows)) << i;
}

TEST(MatmulContract, NamesWhatIsWrong) {
  Exec exec(1);
  float x[64] = {};
  const auto wrong = [&](int64_t rows, int64_t n, int64_t k, Format format) {
    matmul({x, {x, format}, x, rows, n, k}, exec);
  };
  EXPECT_THROW(wrong(-1, 1, 1, Format::f32), std::invalid_argument);
  EXPECT_THROW(wrong(1, -1, 1, Format::f32), std::invalid_argument);
  EXPECT_THROW(wrong(1, 1, 0, Format::f32), std::invalid_argument);
  try {
    wrong(1, 1, 33, Format::q8_0);
    FAIL() << "accepted 33 weights of q8_0";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "matmul: want k a multiple of 32 for q8_0, found 33");
  }
  EXPECT_EQ(message_of([&] { wrong(1, 24, 32, Format::q8_0x96); }),
            "matmul: want n a multiple of 16 for q8_0x96, found 24");
  EXPECT_EQ(message_of([&] { decode_row(Format::q4_0x96, x, 32, x); }),
            "decode_row: rows of q4_0x96 do not lie one by one");
}

}  // namespace
}  // namespace corvid::test
