#include "kernels/rope/rope.h"

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/expect_close.h"
#include "tests/support/guarded.h"

namespace corvid::test {
namespace {

using kernels::Exec;

using RopeTest = BackendTest;
INSTANTIATE_TEST_SUITE_P(Kernels, RopeTest, testing::ValuesIn(all_backends()), backend_name);

std::vector<float> angles(Exec& exec, const std::vector<int64_t>& pos, int64_t rotary_dim, double theta) {
  const auto rows = static_cast<int64_t>(pos.size());
  Guarded<float> cos_sin(rows * rotary_dim);
  Arrays on(exec);
  rope_angles({pos.data(), on.out(cos_sin.data(), cos_sin.size()), rows, rotary_dim, theta}, exec);
  on.finish();
  cos_sin.expect_guards_intact("rope_angles");
  return cos_sin.values();
}

TEST_P(RopeTest, AnglesAreRightAtAMillionPositions) {
  const auto exec = GetParam().exec();
  const std::vector<int64_t> pos{0, 1, 2, 127, 4095, 999'999, 1'048'575, 16'777'216};
  for (const int64_t rotary_dim : {2, 16, 30, 64, 128})
    for (const double theta : {1e4, 5e6}) {
      std::vector<double> wanted(pos.size() * size_t(rotary_dim));
      kernels::ref::rope_angles({pos.data(), nullptr, int64_t(pos.size()), rotary_dim, theta}, wanted.data());
      expect_close(angles(*exec, pos, rotary_dim, theta), wanted, kernels::rope_angles_tolerance(),
                   std::vector<double>(wanted.size(), 1.0), "angles of " + std::to_string(rotary_dim));
    }
}

TEST_P(RopeTest, AgreesWithFloat64AndLeavesTheOtherDimsAlone) {
  const auto exec = GetParam().exec();
  for (const int64_t rows : {0, 1, 7, 200})
    for (const int64_t head_dim : {2, 15, 32, 64, 70})
      for (const int64_t rotary_dim : {2, 14, 32, 34, 64}) {
        if (rotary_dim > head_dim) continue;
        const int64_t n_heads = 3, n = rows * n_heads * head_dim;
        std::vector<int64_t> pos(static_cast<size_t>(rows));
        for (int64_t r = 0; r < rows; ++r) pos[size_t(r)] = r * 37 % 1000;
        const std::vector<float> x = random_floats(n, uint32_t(rows + head_dim));
        const std::vector<float> cos_sin = angles(*exec, pos, rotary_dim, 1e4);
        std::vector<double> wanted(x.size()), scale(x.size());
        kernels::ref::rope({const_cast<float*>(x.data()), cos_sin.data(), rows, n_heads, head_dim, rotary_dim},
                           wanted.data());
        for (int64_t i = 0; i < n; ++i) {
          const int64_t at = i % head_dim, half = rotary_dim / 2;
          const int64_t other = at < half ? i + half : i - half;
          scale[size_t(i)] = at < rotary_dim ? std::fabs(x[size_t(i)]) + std::fabs(x[size_t(other)]) : 0;  // exact
        }
        Guarded<float> y(x);
        Arrays on(*exec);
        rope({on.out(y.data(), n), on.in(cos_sin.data(), rows * rotary_dim), rows, n_heads, head_dim, rotary_dim},
             *exec);
        on.finish();
        y.expect_guards_intact("rope");
        expect_close(y.values(), wanted, kernels::rope_tolerance(), scale,
                     std::to_string(rows) + " rows, " + std::to_string(rotary_dim) + " of " + std::to_string(head_dim));
      }
}

TEST_P(RopeTest, PositionZeroChangesNothing) {
  const auto exec = GetParam().exec();
  const std::vector<float> cos_sin = angles(*exec, {0}, 32, 1e4), x = random_floats(64, 9);
  std::vector<float> y = x;
  Arrays on(*exec);
  rope({on.out(y.data(), 64), on.in(cos_sin.data(), 32), 1, 1, 64, 32}, *exec);
  on.finish();
  EXPECT_EQ(y, x);
}

TEST(RopeContract, NamesWhatIsWrong) {
  Exec exec(1);
  float x[8] = {};
  const int64_t below = -1, zero = 0;
  EXPECT_THROW(rope_angles({&below, x, 1, 2, 1e4}, exec), std::invalid_argument);
  EXPECT_THROW(rope_angles({&zero, x, 1, 3, 1e4}, exec), std::invalid_argument);
  EXPECT_THROW(rope_angles({&zero, x, 1, 2, 0}, exec), std::invalid_argument);
  EXPECT_THROW(rope({x, x, 1, 1, 4, 6}, exec), std::invalid_argument);
  EXPECT_THROW(rope({x, x, 1, 0, 4, 4}, exec), std::invalid_argument);
}

}  // namespace
}  // namespace corvid::test
