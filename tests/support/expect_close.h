// Comparison with a float64 reference, within a tolerance that the contract names.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace corvid::test {

// |found[i] - wanted[i]| <= tolerance * scale[i] for every i. NaN and infinities fail. Reports the first failure.
inline void expect_close(const std::vector<float>& found, const std::vector<double>& wanted, double tolerance,
                         const std::vector<double>& scale, const std::string& name) {
  ASSERT_EQ(found.size(), wanted.size()) << name;
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = std::fabs(double(found[i]) - wanted[i]), allowed = tolerance * scale[i];
    if (!(error <= allowed) || !std::isfinite(found[i])) {
      ADD_FAILURE() << name << ": element " << i << " of " << found.size() << ": want " << wanted[i] << ", found "
                    << found[i] << ", error " << error << ", allowed " << allowed;
      return;
    }
  }
}

// As above, relative to the wanted value itself.
inline void expect_close(const std::vector<float>& found, const std::vector<double>& wanted, double tolerance,
                         const std::string& name) {
  std::vector<double> scale(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) scale[i] = std::fabs(wanted[i]);
  expect_close(found, wanted, tolerance, scale, name);
}

}  // namespace corvid::test
