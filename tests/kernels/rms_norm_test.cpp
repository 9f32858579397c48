#include "kernels/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/expect_close.h"
#include "tests/support/guarded.h"

namespace corvid::test {
namespace {

using kernels::Exec;
using kernels::RmsNorm;

using RmsNormTest = BackendTest;
INSTANTIATE_TEST_SUITE_P(Kernels, RmsNormTest, testing::ValuesIn(all_backends()), backend_name);

std::vector<float> run(Exec& exec, const std::vector<float>& x, const std::vector<float>& w, int64_t rows) {
  const auto dim = static_cast<int64_t>(w.size());
  Guarded<float> y(rows * dim);
  Arrays on(exec);
  rms_norm({on.in(x.data(), rows * dim), on.in(w.data(), dim), on.out(y.data(), rows * dim), rows, dim, 1e-6F}, exec);
  on.finish();
  y.expect_guards_intact("rms_norm");
  return y.values();
}

TEST_P(RmsNormTest, AgreesWithFloat64) {
  const auto exec = GetParam().exec();
  for (const int64_t rows : {0, 1, 3, 64})
    for (const int64_t dim : {1, 15, 16, 17, 31, 32, 33, 255, 4096}) {
      const std::vector<float> x = random_floats(rows * dim, uint32_t(rows * 31 + dim)), w = random_floats(dim, 7);
      std::vector<double> wanted(x.size());
      kernels::ref::rms_norm({x.data(), w.data(), nullptr, rows, dim, 1e-6F}, wanted.data());
      expect_close(run(*exec, x, w, rows), wanted, kernels::rms_norm_tolerance(dim),
                   std::to_string(rows) + " x " + std::to_string(dim));
    }
}

TEST_P(RmsNormTest, WorksInPlace) {
  const auto exec = GetParam().exec();
  const int64_t rows = 5, dim = 70;
  const std::vector<float> w = random_floats(dim, 1), x = random_floats(rows * dim, 2);
  std::vector<float> y = x;
  Arrays on(*exec);
  float* both = on.out(y.data(), rows * dim);
  rms_norm({both, on.in(w.data(), dim), both, rows, dim, 1e-6F}, *exec);
  on.finish();
  EXPECT_EQ(y, run(*exec, x, w, rows));
}

TEST_P(RmsNormTest, GivesZerosForARowOfZeros) {
  const auto exec = GetParam().exec();
  EXPECT_EQ(run(*exec, std::vector<float>(40), random_floats(40, 3), 1), std::vector<float>(40));
}

TEST_P(RmsNormTest, GivesARowTheSameBitsInAnyCompany) {
  const int64_t rows = 300, dim = 100;
  const std::vector<float> x = random_floats(rows * dim, 4), w = random_floats(dim, 5);
  const std::vector<float> all = run(*GetParam().exec(3), x, w, rows);
  EXPECT_EQ(all, run(*GetParam().exec(1), x, w, rows));
  const auto exec = GetParam().exec(2);
  for (const int64_t r : {0, 17, 299}) {
    const std::vector<float> row(x.begin() + r * dim, x.begin() + (r + 1) * dim);
    EXPECT_EQ(run(*exec, row, w, 1), std::vector<float>(all.begin() + r * dim, all.begin() + (r + 1) * dim));
  }
}

TEST(RmsNormContract, NamesWhatIsWrong) {
  Exec exec(1);
  float x = 1;
  EXPECT_THROW(rms_norm({&x, &x, &x, 1, 0, 1e-6F}, exec), std::invalid_argument);
  EXPECT_THROW(rms_norm({&x, &x, &x, -1, 1, 1e-6F}, exec), std::invalid_argument);
  EXPECT_THROW(rms_norm({&x, &x, &x, 1, 1, 0.0F}, exec), std::invalid_argument);
}

}  // namespace
}  // namespace corvid::test
