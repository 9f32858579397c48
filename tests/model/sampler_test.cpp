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
  EXPECT_EQ(tokens({.min_p = 1}), (std::vector<Token>{1}));
  EXPECT_EQ(tokens({.top_p = 0}), (std::vector<Token>{1}));
  EXPECT_EQ(tokens({.top_k = 3, .top_p = 0.7f, .min_p = 0.3f}), (std::vector<Token>{1, 3}));
  const std::vector<float> equal(5, 1.0f);
  EXPECT_EQ(shares({.temperature = 1, .top_k = 2}, equal, 500).rbegin()->first, 1) << "the lower ids on a tie";
}

// 100,000 draws against the probabilities that the limits leave, by Pearson's chi-square. The seeds are fixed, so the
// bound (the 99.99th percentile for 15 degrees of freedom) is met or not once and for all.
TEST(SamplerTest, DrawsFromExactlyTheDistributionThatTheLimitsLeave) {
  constexpr int kDraws = 100'000;
  constexpr double kBound = 44.3;
  std::vector<float> logits;
  for (int i = 0; i < 16; ++i) logits.push_back(static_cast<float>(i * 7 % 16) / 4);  // 0 to 3.75, all different
  const auto chi_square = [&](SamplerParams params, double temperature, auto is_kept) {
    std::vector<double> wanted;
    double sum = 0;
    for (const float logit : logits) {
      wanted.push_back(is_kept(logit) ? std::exp(logit / temperature) : 0);
      sum += wanted.back();
    }
    params.temperature = static_cast<float>(temperature);
    auto share = shares(params, logits, kDraws);
    double statistic = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      const double expected = wanted[i] / sum * kDraws, found = share[static_cast<Token>(i)] * kDraws;
      if (expected == 0) {
        EXPECT_EQ(found, 0);
      } else {
        statistic += (found - expected) * (found - expected) / expected;
      }
    }
    return statistic;
  };
  const auto all = [](float) { return true; };
  for (const uint64_t seed : {1, 2, 3}) {
    EXPECT_LT(chi_square({.seed = seed}, 1, all), kBound);
    EXPECT_LT(chi_square({.seed = seed}, 0.5, all), kBound);
    EXPECT_LT(chi_square({.seed = seed}, 10, all), kBound);
    EXPECT_LT(chi_square({.top_k = 5, .seed = seed}, 1, [](float x) { return x >= 2.75f; }), kBound);
    EXPECT_LT(chi_square({.min_p = 0.3f, .seed = seed}, 1, [](float x) { return x >= 2.75f; }), kBound);
  }
}

TEST(SamplerTest, MinPOfOneAndTopKOfOneAreGreedy) {
  uint64_t state = 3;
  for (int round = 0; round < 200; ++round) {
    std::vector<float> logits;
    for (int i = 0; i < 50; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      logits.push_back(static_cast<float>(state >> 40) / 1e6f);
    }
    const Token best = draw({}, logits, 1)[0];
    EXPECT_EQ(draw({.temperature = 3, .min_p = 1}, logits, 1)[0], best);
    EXPECT_EQ(draw({.temperature = 3, .top_k = 1}, logits, 1)[0], best);
    EXPECT_EQ(draw({.temperature = 3, .top_p = 0}, logits, 1)[0], best);
  }
}

TEST(SamplerTest, ABiasForbidsOrForcesATokenAtEveryTemperature) {
  const std::vector<float> logits = {5, 1, 4, 2};
  for (const float temperature : {0.0f, 1.0f, 100.0f}) {
    const auto kept = [&](float bias) {
      return shares({.temperature = temperature, .logit_bias = {{"0", bias}}}, logits, 2000);
    };
    EXPECT_EQ(kept(-kInf).count(0), 0u);
    if (temperature <= 1) {
      EXPECT_EQ(kept(1000).size(), 1u);
      EXPECT_EQ(kept(1000).count(0), 1u);
    }
  }
  EXPECT_THROW(draw({.logit_bias = {{"4", 1}}}, logits, 1), std::invalid_argument);
}

TEST(SamplerTest, LogprobsAreThoseOfTheModelLikeliestFirst) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), -kInf, std::log(0.2f), std::log(0.3f)};
  const Logprobs found = logprobs(logits, 3, 3);
  EXPECT_EQ(found.chosen.token, 3);
  EXPECT_NEAR(found.chosen.logprob, std::log(0.2), 1e-6);
  std::vector<Token> order;
  for (const Logprobs::Entry& entry : found.top) order.push_back(entry.token);
  EXPECT_EQ(order, (std::vector<Token>{1, 4, 3}));
  EXPECT_NEAR(found.top[1].logprob, std::log(0.3), 1e-6);
  EXPECT_EQ(logprobs(logits, 3, 100).top.size(), 4u) << "what is ruled out has no logarithm";
  double sum = 0;
  for (const Logprobs::Entry& entry : logprobs(logits, 3, 5).top) sum += std::exp(entry.logprob);
  EXPECT_NEAR(sum, 1, 1e-6);
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
  EXPECT_EQ(error({.temperature = -1}), "temperature: want a number from 0 to 100, found -1");
  EXPECT_EQ(error({.temperature = kNan}), "temperature: want a number from 0 to 100, found nan");
  EXPECT_EQ(error({.top_k = -1}), "top_k: want a whole number from 0 to 1000000, found -1");
  EXPECT_EQ(error({.top_p = 1.5f}), "top_p: want a number from 0 to 1, found 1.5");
  EXPECT_EQ(error({.min_p = -1}), "min_p: want a number from 0 to 1, found -1");
  EXPECT_EQ(error({.repeat_penalty = 0}), "repeat_penalty: want a number from 0.01 to 100, found 0");
  EXPECT_EQ(error({.repeat_penalty = 0.01f}), "no error");
  EXPECT_EQ(error({.repeat_last_n = -2}), "repeat_last_n: want a whole number from -1 to 1000000, found -2");
  EXPECT_EQ(error({.dry_base = 0.5f}), "dry_base: want a number from 1 to 100, found 0.5");
  EXPECT_EQ(error({.dry_allowed_length = 0}), "dry_allowed_length: want a whole number from 1 to 1000000, found 0");
  EXPECT_EQ(error({.stop = {"a", ""}}), "stop: want texts of at least one byte, found an empty one");
  EXPECT_EQ(error({.logit_bias = {{"7", kInf}}}),
            "logit_bias: 7: want a number from -1000 to 1000 or -infinity, found inf");
  EXPECT_EQ(error({.logit_bias = {{"yes", 1}}}), "logit_bias: want a model with a tokenizer, found none");
  EXPECT_EQ(error({.logit_bias = {{"99999999999", 1}}}), "logit_bias: want an id of the vocabulary, found 99999999999");
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
