#include "kernels/arg_max/arg_max.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/backends.h"
#include "tests/support/guarded.h"

namespace corvid::test {
namespace {

using kernels::Device;
using kernels::Exec;

class ArgMaxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::cuda::available()) GTEST_SKIP() << "this machine has no GPU";
    exec_ = std::make_unique<Exec>(Device::cuda);
  }
  using Best = kernels::ArgMax::Best;
  std::vector<Best> bests(const std::vector<float>& x, int64_t rows) {
    Guarded<Best> best(rows);
    Arrays on(*exec_);
    kernels::cuda::arg_max({on.in(x.data(), std::ssize(x)), on.out(best.data(), rows), rows, std::ssize(x) / rows},
                           exec_->stream());
    on.finish();
    best.expect_guards_intact("arg_max");
    return best.values();
  }
  // The places, where the values are the numbers there.
  std::vector<int32_t> run(const std::vector<float>& x, int64_t rows) {
    std::vector<int32_t> places;
    for (const Best& best : bests(x, rows)) {
      const float there = x[size_t(std::ssize(places) * (std::ssize(x) / rows) + best.place)];
      EXPECT_TRUE(best.value == there || (std::isnan(best.value) && std::isnan(there)));
      places.push_back(best.place);
    }
    return places;
  }
  std::unique_ptr<Exec> exec_;
};

TEST_F(ArgMaxTest, IsTheFirstOfTheLargest) {
  for (const int64_t n : {1, 2, 31, 500, 16384, 16385, 151936, 200063})
    for (const int64_t rows : {1, 3}) {
      std::vector<float> x = random_floats(rows * n, uint32_t(n), 5);
      for (float& value : x) value = float(int(value * 100));  // many ties
      std::vector<int32_t> wanted;
      for (int64_t r = 0; r < rows; ++r) {
        const auto row = x.begin() + r * n;
        wanted.push_back(int32_t(std::max_element(row, row + n) - row));
      }
      EXPECT_EQ(run(x, rows), wanted) << rows << " x " << n;
    }
}

TEST_F(ArgMaxTest, EveryPlaceCanBeIt) {
  constexpr int64_t kN = 70;
  std::vector<float> x(size_t(kN * kN), -3.0F);
  std::vector<int32_t> wanted;
  for (int64_t r = 0; r < kN; ++r) x[size_t(r * kN + r)] = -2.5F, wanted.push_back(int32_t(r));
  EXPECT_EQ(run(x, kN), wanted);
}

TEST_F(ArgMaxTest, ZerosAreEqualAndWhatIsNoNumberIsTheLargest) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(run({-1, -0.0F, 0.0F, -2}, 1), (std::vector<int32_t>{1}));
  EXPECT_EQ(run({-kInf, -5, -kInf, -6}, 1), (std::vector<int32_t>{1}));
  EXPECT_EQ(run({1, kNan, 2, 3, /**/ 1, kInf, 2, 3, /**/ -kInf, -kInf, -kInf, -kInf, /**/ 4, 3, 2, 1}, 4),
            (std::vector<int32_t>{1, 1, 0, 0}));
  EXPECT_TRUE(std::isnan(bests({1, kNan, kInf, 3}, 1)[0].value));
}

}  // namespace
}  // namespace corvid::test
