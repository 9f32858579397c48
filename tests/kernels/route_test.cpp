#include "kernels/route/route.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/backends.h"
#include "tests/support/expect_close.h"
#include "tests/support/guarded.h"

namespace corvid::test {
namespace {

using kernels::Exec;
using kernels::Gating;

// The CPU has one tier, so scalar stands for it.
using RouteTest = BackendTest;
INSTANTIATE_TEST_SUITE_P(Kernels, RouteTest,
                         testing::Values(Backend{kernels::Device::cpu, kernels::Isa::scalar},
                                         Backend{kernels::Device::cuda, kernels::Isa::scalar}),
                         backend_name);

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Choice run(Exec& exec, const std::vector<float>& logits, const std::vector<float>& bias, int64_t rows,
           int64_t n_experts, int64_t top_k, float scale = 1, Gating gating = Gating::sigmoid, bool normalised = true) {
  Guarded<int32_t> ids(rows * top_k);
  Guarded<float> weights(rows * top_k);
  Arrays on(exec);
  route({on.in(logits.data(), int64_t(logits.size())), bias.empty() ? nullptr : on.in(bias.data(), n_experts),
         on.out(ids.data(), ids.size()), on.out(weights.data(), weights.size()), rows, n_experts, top_k, scale, gating,
         normalised},
        exec);
  on.finish();
  ids.expect_guards_intact("route ids");
  weights.expect_guards_intact("route weights");
  return {ids.values(), weights.values()};
}

TEST_P(RouteTest, AgreesWithFloat64) {
  const auto exec = GetParam().exec();
  for (const Gating gating : {Gating::sigmoid, Gating::softmax})
    for (const bool has_bias : {false, true})
      for (const int64_t n_experts : {1, 2, 8, 12, 33, 128})
        for (const int64_t top_k : {1, 2, 4, 8}) {
          if (top_k > n_experts) continue;
          const bool normalised = top_k != 2;
          const int64_t rows = 90;
          const std::vector<float> logits = random_floats(rows * n_experts, uint32_t(n_experts), 2);
          const std::vector<float> bias = has_bias ? random_floats(n_experts, 3, 0.2F) : std::vector<float>{};
          std::vector<int32_t> ids(size_t(rows * top_k));
          std::vector<double> weights(ids.size());
          kernels::ref::route({logits.data(), has_bias ? bias.data() : nullptr, nullptr, nullptr, rows, n_experts,
                               top_k, 2.0F, gating, normalised},
                              ids.data(), weights.data());
          const Choice found = run(*exec, logits, bias, rows, n_experts, top_k, 2.0F, gating, normalised);
          const std::string name = std::to_string(top_k) + " of " + std::to_string(n_experts);
          EXPECT_EQ(found.ids, ids) << name;  // these seeds hold no pair of scores closer than a float's rounding
          expect_close(found.weights, weights, kernels::route_tolerance(top_k), std::vector<double>(ids.size(), 2.0),
                       name);
        }
}

TEST_P(RouteTest, TheBiasChoosesButDoesNotWeigh) {
  const auto exec = GetParam().exec();
  const Choice found = run(*exec, {0, 0, 0, 0}, {0, 5, 0, 5}, 1, 4, 2);
  EXPECT_EQ(found.ids, (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(found.weights, (std::vector<float>{0.5F, 0.5F}));
}

TEST_P(RouteTest, WeightsThatAreNotNormalisedAreTheProbabilities) {
  const auto exec = GetParam().exec();
  EXPECT_EQ(run(*exec, {0, 0, 0, 0}, {}, 1, 4, 2, 2.0F, Gating::softmax, false).weights,
            (std::vector<float>{0.5F, 0.5F}));
}

TEST_P(RouteTest, EqualScoresGoToTheLowerId) {
  const auto exec = GetParam().exec();
  EXPECT_EQ(run(*exec, {1, 1, 1, 1, 1}, {}, 1, 5, 3).ids, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(run(*exec, {0, 3, 1, 3, 1}, {}, 1, 5, 3).ids, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(run(*exec, {2, 1, 2, 1, 2}, {}, 1, 5, 1).ids, (std::vector<int32_t>{0}));
}

TEST_P(RouteTest, ExtremeLogitsStillGiveWeightsThatSumToTheScale) {
  const auto exec = GetParam().exec();
  EXPECT_EQ(run(*exec, {-200, -200, -200}, {}, 1, 3, 2, 3.0F).weights, (std::vector<float>{1.5F, 1.5F}));
  EXPECT_EQ(run(*exec, {200, -200, 100}, {}, 1, 3, 2, 2.0F).weights, (std::vector<float>{1, 1}));
  EXPECT_EQ(run(*exec, {200, -200, 0}, {}, 1, 3, 2, 2.0F, Gating::softmax).weights, (std::vector<float>{2, 0}));
}

TEST_P(RouteTest, NaNLosesToEveryNumberAndIdsStayValid) {
  const auto exec = GetParam().exec();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(run(*exec, {nan, -5, nan, -9}, {}, 1, 4, 2).ids, (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(run(*exec, {nan, nan, nan, nan}, {}, 1, 4, 2).ids, (std::vector<int32_t>{0, 1}));
}

TEST_P(RouteTest, GivesARowTheSameBitsInAnyCompany) {
  const int64_t rows = 200, n = 24;
  const std::vector<float> logits = random_floats(rows * n, 5);
  const Choice all = run(*GetParam().exec(3), logits, {}, rows, n, 4);
  const auto exec = GetParam().exec(1);
  for (int64_t r = 0; r < rows; ++r) {
    const Choice one = run(*exec, {logits.begin() + r * n, logits.begin() + (r + 1) * n}, {}, 1, n, 4);
    ASSERT_EQ(one.ids, std::vector<int32_t>(all.ids.begin() + r * 4, all.ids.begin() + r * 4 + 4));
    ASSERT_EQ(one.weights, std::vector<float>(all.weights.begin() + r * 4, all.weights.begin() + r * 4 + 4));
  }
}

TEST(RouteContract, NamesWhatIsWrong) {
  Exec exec(1);
  float x[4] = {};
  int32_t ids[4];
  EXPECT_THROW(route({x, nullptr, ids, x, 1, 4, 5, 1}, exec), std::invalid_argument);
  EXPECT_THROW(route({x, nullptr, ids, x, 1, 4, 0, 1}, exec), std::invalid_argument);
  EXPECT_THROW(route({x, nullptr, ids, x, 1, 5000, 1, 1}, exec), std::invalid_argument);
  EXPECT_THROW(route({x, nullptr, ids, x, -1, 4, 1, 1}, exec), std::invalid_argument);
}

}  // namespace
}  // namespace corvid::test
