// How far apart two models' logits are.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

namespace corvid::test {

inline double difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double one = std::abs(double(a[i]) - double(b[i]));
    most = one <= most ? most : one;  // a NaN stays
  }
  return most;
}

}  // namespace corvid::test
