#include "kernels/products/products.h"

#include <gtest/gtest.h>

#include "kernels/embed_rows/embed_rows.h"
#include "kernels/rms_norm/rms_norm_rows.h"
#include "tests/support/device_weights.h"
#include "tests/support/expect_close.h"
#include "tests/support/guarded.h"

namespace corvid::test {
namespace {

using kernels::Buffer;
using kernels::Device;
using kernels::DeviceFormat;
using kernels::Exec;
using kernels::Product;
using Pairs = std::vector<std::pair<int64_t, int64_t>>;

class ProductsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no GPU";
    exec_ = std::make_unique<Exec>(Device::cuda);
  }
  template <class T>
  std::vector<T> run(const std::vector<uint16_t>& x, const DeviceWeights& w, int64_t rows, Product::Out out,
                     const std::vector<T>* added_to = nullptr, bool is_rounded = false) {
    Guarded<T> y(added_to == nullptr ? std::vector<T>(size_t(rows * w.n), T(99)) : *added_to);
    Arrays on(*exec_);
    const Product product = {w.view, on.out(y.data(), y.size()), out};
    Buffer workspace(kernels::products_workspace_bytes({&product, 1}, rows) + 256, Device::cuda);
    kernels::cuda::products(on.in(x.data(), std::ssize(x)), rows, {&product, 1}, workspace.as<void>(), exec_->stream(),
                            is_rounded);
    on.finish();
    y.expect_guards_intact("products");
    return y.values();
  }
  std::unique_ptr<Exec> exec_;
};

std::string name_of(const DeviceWeights& w, int64_t rows) {
  return "format " + std::to_string(int(w.view.format)) + ", " + std::to_string(rows) + " x " + std::to_string(w.n) +
         " x " + std::to_string(w.k);
}

// size: sum |x w|; rounded: the same with the largest of each 32 numbers of x in place of each.
struct Reference {
  std::vector<double> y, size, rounded;

  std::vector<double> allowed(const DeviceWeights& w, int64_t rows) const {
    std::vector<double> sum(y.size());
    for (size_t i = 0; i < sum.size(); ++i)
      sum[i] = kernels::products_tolerance(w.view.format, w.k, rows) * size[i] +
               kernels::products_rounding(w.view.format, rows) * rounded[i];
    return sum;
  }
};
Reference reference(const std::vector<uint16_t>& bits, const DeviceWeights& w, int64_t rows) {
  const std::vector<float> x = from_bf16(bits);
  std::vector<float> largest(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    float& most = largest[i - i % size_t(w.k) % 32];
    most = std::max(most, std::fabs(x[i]));
  }
  Reference r{std::vector<double>(size_t(rows * w.n)), std::vector<double>(size_t(rows * w.n)),
              std::vector<double>(size_t(rows * w.n))};
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t j = 0; j < w.n; ++j)
      for (int64_t i = 0; i < w.k; ++i) {
        const double xi = x[size_t(row * w.k + i)];
        r.y[size_t(row * w.n + j)] += xi * w.values[size_t(j * w.k + i)];
        r.size[size_t(row * w.n + j)] += std::fabs(xi) * w.sizes[size_t(j * w.k + i)];
        r.rounded[size_t(row * w.n + j)] +=
            double(largest[size_t(row * w.k + i - i % 32)]) * w.sizes[size_t(j * w.k + i)];
      }
  return r;
}

TEST_F(ProductsTest, AgreesWithFloat64InEveryFormat) {
  for (const DeviceFormat format : kDeviceFormats)
    for (const int64_t k : {8, 72, 96, 256, 544, 768})
      for (const int64_t n : {1, 40, 150}) {
        if (k % k_unit(format) != 0) continue;
        const DeviceWeights w(format, n, k, uint32_t(n + k));
        std::vector<uint16_t> x = to_bf16(random_floats(300 * k, uint32_t(n)));
        Reference wanted = reference(x, w, 300);
        for (const int64_t rows : {300, 130, 70, 17, 9, 8, 1, 0}) {
          x.resize(size_t(rows * k)), wanted.y.resize(size_t(rows * n));
          expect_close(run<float>(x, w, rows, Product::Out::f32), wanted.y, 1, wanted.allowed(w, rows),
                       name_of(w, rows));
        }
      }
}

TEST_F(ProductsTest, AgreesWithFloat64OnLongRows) {
  for (const DeviceFormat format : kDeviceFormats)
    for (const int64_t rows : {1, 12, 60, 100, 140}) {
      const DeviceWeights w(format, 70, 6144, 5);
      const std::vector<uint16_t> x = to_bf16(random_floats(rows * w.k, 2));
      const Reference wanted = reference(x, w, rows);
      expect_close(run<float>(x, w, rows, Product::Out::f32), wanted.y, 1, wanted.allowed(w, rows), name_of(w, rows));
    }
}

TEST_F(ProductsTest, AgreesWithFloat64OnManyOutputs) {
  const DeviceWeights w(DeviceFormat::bf16, 16900, 64, 5);  // more pieces of work than an H100 does at once
  for (const int64_t rows : {40, 140, 300}) {
    const std::vector<uint16_t> x = to_bf16(random_floats(rows * w.k, 2));
    const Reference wanted = reference(x, w, rows);
    expect_close(run<float>(x, w, rows, Product::Out::f32), wanted.y, 1, wanted.allowed(w, rows), name_of(w, rows));
  }
}

TEST_F(ProductsTest, WritesBf16AndAddsToWhatIsThere) {
  for (const DeviceFormat format : kDeviceFormats)
    for (const auto& [rows, n] : Pairs{{1, 37}, {6, 37}, {50, 37}, {50, 600}, {200, 37}, {200, 38}, {333, 600}}) {
      const DeviceWeights w(format, n, 512, 3);
      const std::vector<uint16_t> x = to_bf16(random_floats(rows * w.k, 4));
      const std::vector<float> plain = run<float>(x, w, rows, Product::Out::f32);
      EXPECT_EQ(run<uint16_t>(x, w, rows, Product::Out::bf16), to_bf16(plain)) << name_of(w, rows);
      const std::vector<float> before = random_floats(rows * w.n, 5);
      std::vector<float> wanted = plain;
      for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = before[i] + wanted[i];
      EXPECT_EQ(run(x, w, rows, Product::Out::add_f32, &before), wanted) << name_of(w, rows);
    }
}

TEST_F(ProductsTest, GivesARowTheSameBitsInAnyCompany) {
  for (const DeviceFormat format : kDeviceFormats) {
    const DeviceWeights w(format, 101, 768, 6);
    const auto same_as_in = [&](int64_t rows, std::initializer_list<int64_t> steps) {
      const std::vector<uint16_t> x = to_bf16(random_floats(rows * w.k, 7));
      const std::vector<float> all = run<float>(x, w, rows, Product::Out::f32);
      for (const int64_t step : steps)
        for (int64_t r = 0; r + step <= rows; r += step) {
          const std::vector<uint16_t> part(x.begin() + r * w.k, x.begin() + (r + step) * w.k);
          ASSERT_EQ(run<float>(part, w, step, Product::Out::f32),
                    std::vector<float>(all.begin() + r * w.n, all.begin() + (r + step) * w.n))
              << name_of(w, step) << " at row " << r;
        }
    };
    same_as_in(kernels::kStreamRows, {1, 2, 7, 13, 33});
    same_as_in(700, {150, 333});
  }
}

// Numbers of all sizes in a row, groups of zeros and of tiny ones: the integers of one row are those of many.
std::vector<uint16_t> of_all_sizes(int64_t count) {
  std::vector<float> x = random_floats(count, 7);
  const std::vector<float> size = random_floats(count, 8, 12), of_group = random_floats(count, 9, 25);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = i / 32 % 7 == 3 ? 0 : std::ldexp(x[i], int(i / 32 % 5 == 1 ? of_group[i / 32] : size[i]));
  return to_bf16(x);
}

TEST_F(ProductsTest, RowsOfAllSizesHaveTheSameBitsAndAgreeWithFloat64) {
  for (const DeviceFormat format : kDeviceFormats) {
    const DeviceWeights w(format, 52, 1024, 6);
    const int64_t rows = 40;
    const std::vector<uint16_t> x = of_all_sizes(rows * w.k);
    const std::vector<float> all = run<float>(x, w, rows, Product::Out::f32);
    const Reference wanted = reference(x, w, rows);
    expect_close(all, wanted.y, 1, wanted.allowed(w, rows), name_of(w, rows));
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<uint16_t> one(x.begin() + r * w.k, x.begin() + (r + 1) * w.k);
      ASSERT_EQ(run<float>(one, w, 1, Product::Out::f32),
                std::vector<float>(all.begin() + r * w.n, all.begin() + (r + 1) * w.n))
          << name_of(w, 1) << " at row " << r;
    }
  }
}

TEST_F(ProductsTest, WhatIsRoundedBeforehandGivesTheSameBits) {
  const DeviceWeights w(DeviceFormat::q8_0, 101, 768, 6);
  for (const int64_t rows : {1, 3, 9, 20, 100}) {
    const std::vector<uint16_t> x = of_all_sizes(rows * w.k), rounded = on_grid(x);
    EXPECT_NE(x, rounded);
    const std::vector<float> wanted = run<float>(x, w, rows, Product::Out::f32);
    EXPECT_EQ(run<float>(rounded, w, rows, Product::Out::f32), wanted) << rows;
    EXPECT_EQ(run<float>(rounded, w, rows, Product::Out::f32, nullptr, true), wanted) << rows;
  }
}

TEST_F(ProductsTest, ARowWithANaNOrAnInfinityIsNotFinite) {
  const DeviceWeights w(DeviceFormat::q8_0, 20, 512, 6);
  for (const uint16_t bits : {0x7f80, 0xff80, 0x7fc0})
    for (const int64_t rows : {1, 5}) {
      std::vector<uint16_t> x = to_bf16(random_floats(rows * w.k, 7));
      x[37] = bits;
      const std::vector<float> y = run<float>(x, w, rows, Product::Out::f32);
      for (int64_t i = 0; i < rows * w.n; ++i) EXPECT_EQ(std::isfinite(y[size_t(i)]), i >= w.n) << bits << " at " << i;
    }
}

TEST_F(ProductsTest, GivesARowTheSameBitsHoweverItsSumIsSplit) {
  for (const auto& [n, k] : Pairs{{101, 6144}, {4100, 4096}, {8600, 2048}, {17000, 1024}, {34000, 512}}) {
    const DeviceWeights w(DeviceFormat::bf16, n, k, 6);
    const std::vector<uint16_t> x = to_bf16(random_floats(kernels::kStreamRows * w.k, 7));
    const std::vector<float> all = run<float>(x, w, kernels::kStreamRows, Product::Out::f32);
    for (const auto& [first, rows] : Pairs{{0, 1}, {5, 20}, {1, 33}, {10, 64}, {3, 70}})
      ASSERT_EQ(run<float>({x.begin() + first * k, x.begin() + (first + rows) * k}, w, rows, Product::Out::f32),
                std::vector<float>(all.begin() + first * n, all.begin() + (first + rows) * n))
          << name_of(w, rows) << " at row " << first;
  }
}

// A matrix larger than the level-2 cache: what of it is on its way to a block comes in any order.
TEST_F(ProductsTest, GivesARowTheSameBitsWithWeightsFromMemory) {
  constexpr int64_t n = 6144, k = 8192, rows = 64;
  std::vector<uint16_t> w(size_t(n * k));
  std::mt19937 bits(1);
  for (uint16_t& v : w) v = uint16_t(0x3c00U | (bits() & 0x80ffU));  // of 2^-7 to 2^-5, either sign
  const std::vector<uint16_t> x = to_bf16(random_floats(rows * k, 2));
  Guarded<float> together(rows * n), alone(n);
  Arrays on(*exec_);
  const kernels::DeviceMatrix matrix = {on.in(w.data(), n * k), DeviceFormat::bf16, n, k};
  const uint16_t* const all = on.in(x.data(), rows * k);
  for (const int64_t row : {0, 9, 63}) {
    Arrays outputs(*exec_);
    const Product some = {matrix, outputs.out(together.data(), rows * n), Product::Out::f32};
    const Product one = {matrix, outputs.out(alone.data(), n), Product::Out::f32};
    kernels::cuda::products(all, rows, {&some, 1}, nullptr, exec_->stream());
    kernels::cuda::products(all + row * k, 1, {&one, 1}, nullptr, exec_->stream());
    outputs.finish();
    const std::vector<float> found = together.values();
    EXPECT_EQ(std::vector<float>(found.begin() + row * n, found.begin() + (row + 1) * n), alone.values()) << row;
  }
}

// More than a launch takes, in float32 and in bf16.
TEST_F(ProductsTest, ComputesSeveralAtOnce) {
  for (const int64_t rows : {5, 50, 300}) {
    const int64_t k = 512;
    const std::vector<uint16_t> x = to_bf16(random_floats(rows * k, 8));
    std::vector<std::unique_ptr<DeviceWeights>> weights;
    for (int i = 0; i < 24; ++i)
      weights.push_back(std::make_unique<DeviceWeights>(kDeviceFormats[i % 3], 20 + 16 * i, k, uint32_t(i)));
    std::vector<std::unique_ptr<Guarded<float>>> found;
    std::vector<std::unique_ptr<Guarded<uint16_t>>> rounded;
    std::vector<Product> products;
    Arrays on(*exec_);
    for (const auto& w : weights) {
      found.push_back(std::make_unique<Guarded<float>>(rows * w->n));
      rounded.push_back(std::make_unique<Guarded<uint16_t>>(rows * w->n));
      if (found.size() % 5 == 0)
        products.push_back({w->view, on.out(rounded.back()->data(), rows * w->n), Product::Out::bf16});
      else
        products.push_back({w->view, on.out(found.back()->data(), rows * w->n), Product::Out::f32});
    }
    Buffer workspace(kernels::products_workspace_bytes(products, rows) + 256, Device::cuda);
    kernels::cuda::products(on.in(x.data(), std::ssize(x)), rows, products, workspace.as<void>(), exec_->stream());
    on.finish();
    for (size_t i = 0; i < weights.size(); ++i) {
      const std::vector<float> alone = run<float>(x, *weights[i], rows, Product::Out::f32);
      if (products[i].out == Product::Out::bf16) {
        EXPECT_EQ(rounded[i]->values(), to_bf16(alone)) << "product " << i << " of " << rows << " rows";
      } else {
        EXPECT_EQ(found[i]->values(), alone) << "product " << i << " of " << rows << " rows";
      }
      found[i]->expect_guards_intact("products"), rounded[i]->expect_guards_intact("products");
    }
  }
}

TEST_F(ProductsTest, NamesWhatIsWrong) {
  const DeviceWeights w(DeviceFormat::bf16, 4, 16, 1), other(DeviceFormat::bf16, 4, 8, 1);
  const Product odd[] = {{w.view, nullptr}, {other.view, nullptr}};
  EXPECT_THROW(kernels::cuda::products(nullptr, 1, odd, nullptr, exec_->stream()), std::invalid_argument);
  EXPECT_THROW(kernels::cuda::products(nullptr, 1, {}, nullptr, exec_->stream()), std::invalid_argument);
  EXPECT_THROW(kernels::cuda::products(nullptr, -1, {odd, 1}, nullptr, exec_->stream()), std::invalid_argument);
}

TEST_F(ProductsTest, EmbeddingsAreTheTablesRows) {
  for (const DeviceFormat format : kDeviceFormats) {
    const DeviceWeights w(format, 50, 512, 9);
    const std::vector<int32_t> tokens = {0, 49, 17, 17, -1, 50};
    Guarded<float> x(std::ssize(tokens) * w.k);
    Arrays on(*exec_);
    kernels::cuda::embed_rows(
        {w.view, on.in(tokens.data(), std::ssize(tokens)), on.out(x.data(), x.size()), std::ssize(tokens)},
        exec_->stream());
    on.finish();
    x.expect_guards_intact("embed_rows");
    std::vector<float> wanted(size_t(x.size()));
    for (int64_t r = 0; r < 4; ++r)
      std::copy_n(w.values.begin() + tokens[size_t(r)] * w.k, w.k, wanted.begin() + r * w.k);
    // scale * q - min may be rounded once or twice.
    for (size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(x.values()[i], wanted[i], 1e-6) << "at " << i;
  }
}

TEST_F(ProductsTest, NormsAreRoundedForProducts) {
  for (const int64_t dim : {32, 96, 2048, 9312})
    for (const int64_t rows : {1, 5}) {
      const std::vector<float> x = random_floats(rows * dim, 1, 3), w = random_floats(dim, 2);
      std::vector<uint16_t> h[2];
      for (const bool rounds : {false, true}) {
        Guarded<uint16_t> found(rows * dim);
        Arrays on(*exec_);
        kernels::cuda::rms_norm_rows({on.in(x.data(), rows * dim), on.in(w.data(), dim),
                                      on.out(found.data(), found.size()), rows, dim, 1e-6F, rounds},
                                     exec_->stream());
        on.finish();
        found.expect_guards_intact("rms_norm_rows");
        h[rounds ? 1 : 0] = found.values();
      }
      EXPECT_EQ(h[1], on_grid(h[0])) << rows << " x " << dim;
    }
}

TEST_F(ProductsTest, NormsAgreeWithFloat64) {
  for (const int64_t dim : {1, 8, 31, 512, 6144})
    for (const int64_t rows : {0, 1, 3, 40}) {
      const std::vector<float> x = random_floats(rows * dim, 1, 3), w = random_floats(dim, 2);
      Guarded<uint16_t> h(rows * dim);
      Arrays on(*exec_);
      kernels::cuda::rms_norm_rows(
          {on.in(x.data(), rows * dim), on.in(w.data(), dim), on.out(h.data(), h.size()), rows, dim, 1e-6F},
          exec_->stream());
      on.finish();
      h.expect_guards_intact("rms_norm_rows");
      std::vector<double> wanted(size_t(rows * dim));
      kernels::ref::rms_norm({x.data(), w.data(), nullptr, rows, dim, 1e-6F}, wanted.data());
      expect_close(from_bf16(h.values()), wanted, kernels::rms_norm_tolerance(dim) + 0x1p-8,
                   std::to_string(rows) + " x " + std::to_string(dim));
    }
}

// Of one row in one launch, which leaves h alone, where it is short and the matrices few, of any in several.
TEST_F(ProductsTest, ProductsOfANormHaveTheSameBitsInOneLaunch) {
  for (const auto& [dim, rows] : Pairs{{2048, 1}, {2048, 3}, {32, 1}, {1056, 1}, {2080, 1}, {1800, 1}})
    for (const DeviceFormat other : {DeviceFormat::bf16, DeviceFormat::q8_0, DeviceFormat::q6_k}) {
      if (dim % 32 > 0 && other != DeviceFormat::bf16) continue;
      if (other == DeviceFormat::q6_k && dim != 2048) continue;
      const DeviceWeights first(dim % 32 > 0 ? DeviceFormat::bf16 : DeviceFormat::q8_0, 300, dim, 1),
          second(other, 40, dim, 2);
      const std::vector<float> x = random_floats(rows * dim, 3, 2), w = random_floats(dim, 4);
      std::vector<uint16_t> found[2][2];
      for (const bool in_one : {false, true}) {
        Guarded<uint16_t> h(rows * dim), y(rows * first.n), z(rows * second.n);
        Arrays on(*exec_);
        const kernels::RmsNormRows norm{
            on.in(x.data(), rows * dim), on.in(w.data(), dim), on.out(h.data(), h.size()), rows, dim, 1e-6F};
        const Product all[] = {{first.view, on.out(y.data(), y.size())}, {second.view, on.out(z.data(), z.size())}};
        if (in_one) {
          kernels::cuda::norm_products(norm, all, nullptr, exec_->stream());
        } else {
          kernels::cuda::rms_norm_rows(norm, exec_->stream());
          kernels::cuda::products(norm.h, rows, all, nullptr, exec_->stream());
        }
        on.finish();
        y.expect_guards_intact("norm_products"), z.expect_guards_intact("norm_products");
        found[in_one ? 1 : 0][0] = y.values(), found[in_one ? 1 : 0][1] = z.values();
        const bool is_untouched = h.values() == Guarded<uint16_t>(h.size()).values();
        EXPECT_EQ(is_untouched, in_one && rows == 1 && dim <= 2048 && other != DeviceFormat::q6_k)
            << name_of(second, rows);
      }
      EXPECT_EQ(found[1][0], found[0][0]) << name_of(first, rows);
      EXPECT_EQ(found[1][1], found[0][1]) << name_of(second, rows);
    }
}

}  // namespace
}  // namespace corvid::test
