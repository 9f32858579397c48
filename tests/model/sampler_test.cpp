#include "model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <stdexcept>
#include <vector>

namespace corvid::model {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<Token> draw(const SamplerParams& params, const std::vector<float>& logits, int count) {
  Sampler sampler(params);
  std::vector<Token> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(sampler.sample(logits));
  return tokens;
}

std::map<Token, double> shares(const SamplerParams& params, const std::vector<float>& logits, int count) {
  std::map<Token, double> share;
  for (const Token token : draw(params, logits, count)) share[token] += 1.0 / count;
  return share;
}

TEST(SamplerTest, TakesTheHighestLogitAndTheLowerIdOnATieAtTemperatureZero) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2, 3}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-kInf, -5}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{0}), 0);
}

TEST(SamplerTest, DrawsEachTokenAsOftenAsSoftmaxSays) {
  const std::vector<float> logits = {2, 1, 0, -1, -kInf};
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit / temperature);
    auto share = shares({.temperature = temperature}, logits, 100'000);
    for (size_t i = 0; i < logits.size(); ++i) {
      EXPECT_NEAR(share[static_cast<Token>(i)], std::exp(logits[i] / temperature) / sum, 0.006);
    }
  }
}

TEST(SamplerTest, RepeatsItselfForASeedAndDiffersForAnother) {
  const std::vector<float> logits(50, 0.0f);
  const SamplerParams params{.temperature = 1, .seed = 7};
  EXPECT_EQ(draw(params, logits, 100), draw(params, logits, 100));
  EXPECT_NE(draw(params, logits, 100), draw({.temperature = 1, .seed = 8}, logits, 100));
}

TEST(SamplerTest, GivesTheSameTokensOnEveryPlatform) {
  std::vector<float> logits;
  for (int i = 0; i < 100; ++i) logits.push_back(static_cast<float>(i * 37 % 101) / 16);
  // Made by this program; another platform, compiler or optimisation must not change them.
  EXPECT_EQ(draw({.temperature = 0.8f, .top_p = 0.95f, .seed = 42}, logits, 8),
            (std::vector<Token>{8, 79, 30, 19, 46, 60, 29, 30}));
}

TEST(SamplerTest, KeepsOnlyWhatItsLimitsAllow) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  const auto tokens = [&](SamplerParams params) {
    params.temperature = 1;
    std::vector<Token> kept;
    for (const auto& [token, share] : shares(params, logits, 3000)) kept.push_back(token);
    return kept;
  };
  EXPECT_EQ(tokens({}), (std::vector<Token>{0, 1, 2, 3}));
  EXPECT_EQ(tokens({.top_k = 2}), (std::vector<Token>{1, 3}));
  EXPECT_EQ(tokens({.top_k = 100}), (std::vector<Token>{0, 1, 2, 3}));
  EXPECT_EQ(tokens({.top_p = 0.65f}), (std::vector<Token>{1, 3}));
  EXPECT_EQ(tokens({.top_p = 0.75f}), (std::vector<Token>{1, 2, 3}));
  EXPECT_EQ(tokens({.top_p = 1e-6f}), (std::vector<Token>{1}));
  EXPECT_EQ(tokens({.min_p = 0.45f}), (std::vector<Token>{1, 2, 3}));
  EXPECT_EQ(tokens({.top_k = 3, .top_p = 0.7f, .min_p = 0.3f}), (std::vector<Token>{1, 3}));
  const std::vector<float> equal(5, 1.0f);
  EXPECT_EQ(shares({.temperature = 1, .top_k = 2}, equal, 500).rbegin()->first, 1) << "the lower ids on a tie";
}

TEST(SamplerTest, NamesWhatIsOutOfRange) {
  const auto error = [](SamplerParams params) -> std::string {
    try {
      Sampler sampler(params);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(error({.temperature = -1}), "temperature: want 0 or more, found -1.000000");
  EXPECT_EQ(error({.temperature = kNan}), "temperature: want 0 or more, found nan");
  EXPECT_EQ(error({.top_k = -1}), "top_k: want 0 or more, found -1.000000");
  EXPECT_EQ(error({.top_p = 0}), "top_p: want more than 0, at most 1, found 0.000000");
  EXPECT_EQ(error({.min_p = 1}), "min_p: want 0 or more, less than 1, found 1.000000");
  for (const float temperature : {0.0f, 1.0f}) {
    Sampler sampler({.temperature = temperature});
    EXPECT_THROW(sampler.sample(std::vector<float>{0, kNan}), std::runtime_error);
    EXPECT_THROW(sampler.sample(std::vector<float>{0, kInf}), std::runtime_error);
    EXPECT_THROW(sampler.sample(std::vector<float>{-kInf, -kInf}), std::runtime_error);
    EXPECT_THROW(sampler.sample({}), std::invalid_argument);
  }
}

}  // namespace
}  // namespace corvid::model
