#include "model/penalties.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

namespace corvid::model {
namespace {

using Logits = std::vector<float>;

Logits applied(const SamplerParams& params, Logits logits, const std::vector<Token>& history,
               const Tokenizer* tokenizer = nullptr) {
  Penalties(checked(params), tokenizer).apply(logits, history);
  return logits;
}

// Without breakers no tokenizer is needed.
SamplerParams dry(float multiplier, float base, int64_t allowed_length) {
  SamplerParams params{.dry_multiplier = multiplier, .dry_base = base, .dry_allowed_length = allowed_length};
  params.dry_sequence_breakers.clear();
  return params;
}

class DryTest : public testing::Test {
 protected:
  // One token for each byte, so that tests can count them.
  std::vector<Token> encode(const std::string& text) const {
    std::vector<Token> tokens;
    for (const char c : text) tokens.push_back(tokenizer_.encode(std::string(1, c), false).at(0));
    return tokens;
  }
  // What DRY takes from each logit after `text`.
  Logits taken(const std::string& text, const std::vector<std::string>& breakers) const {
    SamplerParams params = dry(1, 2, 2);
    params.dry_sequence_breakers = breakers;
    Logits logits(static_cast<size_t>(tokenizer_.vocab_size()));
    logits = applied(params, std::move(logits), encode(text), &tokenizer_);
    for (float& x : logits) x = 0 - x;
    return logits;
  }
  const Tokenizer tokenizer_ =
      Tokenizer::from_json_file(std::filesystem::path(CORVID_GOLDEN_DIR) / "tokenizer-minimax/tokenizer.json");
};

TEST(PenaltiesTest, RepetitionDividesWhatIsPositiveAndMultipliesWhatIsNot) {
  const Logits logits = {2, -2, 4, 0};
  EXPECT_EQ(applied({.repeat_penalty = 2}, logits, {0, 1, 1}), (Logits{1, -4, 4, 0}));
  EXPECT_EQ(applied({.repeat_penalty = 2}, logits, {}), logits);
}

TEST(PenaltiesTest, PresenceIsTakenOnceAndFrequencyEachTime) {
  const Logits logits = {1, 1, 1};
  EXPECT_EQ(applied({.presence_penalty = 0.5f}, logits, {0, 1, 1, 1}), (Logits{0.5f, 0.5f, 1}));
  EXPECT_EQ(applied({.frequency_penalty = 0.5f}, logits, {0, 1, 1, 1}), (Logits{0.5f, -0.5f, 1}));
}

TEST(PenaltiesTest, OnlyTheLastTokensCount) {
  const Logits logits = {1, 1, 1};
  EXPECT_EQ(applied({.repeat_last_n = 2, .presence_penalty = 1}, logits, {0, 1, 2}), (Logits{1, 0, 0}));
  EXPECT_EQ(applied({.repeat_last_n = -1, .presence_penalty = 1}, logits, {0, 1, 2}), (Logits{0, 0, 0}));
  EXPECT_TRUE(Penalties({.repeat_last_n = 0, .presence_penalty = 1}, nullptr).are_off());
  EXPECT_TRUE(Penalties({}, nullptr).are_off());
}

TEST(PenaltiesTest, CommonEndsAgreesWithComparingEachPair) {
  uint64_t state = 1;
  for (int round = 0; round < 300; ++round) {
    std::vector<Token> text;
    for (int i = 0; i < round % 40; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text.push_back(static_cast<Token>(state >> 62));
    }
    const int64_t n = std::ssize(text), most = 1 + round % 7;
    const std::vector<int64_t> found = common_ends(text, most);
    ASSERT_EQ(std::ssize(found), n);
    for (int64_t back = 1; back < n; ++back) {
      int64_t length = 0;
      while (length < most && back + length < n &&
             text[static_cast<size_t>(n - 1 - length)] == text[static_cast<size_t>(n - 1 - length - back)])
        ++length;
      EXPECT_EQ(found[static_cast<size_t>(back)], length) << "round " << round << ", " << back << " back";
    }
  }
}

// The example of llama.cpp's documentation: after a b c c b c y a b c, going on with c, y or b repeats 3, 2 or 1.
TEST(PenaltiesTest, DryTakesMoreTheLongerTheRepetitionWouldBecome) {
  constexpr Token a = 0, b = 1, c = 2, y = 3;
  const std::vector<Token> history = {a, b, c, c, b, c, y, a, b, c};
  EXPECT_EQ(applied(dry(1, 2, 1), Logits(5), history), (Logits{0, -1, -4, -2, 0}));
  EXPECT_EQ(applied(dry(0.5f, 3, 2), Logits(5), history), (Logits{0, 0, -1.5f, -0.5f, 0}));
  EXPECT_EQ(applied(dry(1, 2, 4), Logits(5), history), Logits(5));
  SamplerParams near = dry(1, 2, 1);
  near.dry_penalty_last_n = 5;  // c y a b c
  EXPECT_EQ(applied(near, Logits(5), history), (Logits{0, 0, 0, -1, 0}));
}

TEST(PenaltiesTest, DryStaysFiniteForAnEndlessRepetition) {
  const Logits found = applied(dry(100, 100, 1), Logits(3), std::vector<Token>(5000, 1));
  EXPECT_TRUE(std::isfinite(found[1]));
  EXPECT_LT(found[1], -1e30f);
  EXPECT_EQ(applied(dry(1, 1, 1), Logits(3), std::vector<Token>(5000, 1)), (Logits{0, -1, 0}));
}

TEST_F(DryTest, NoMatchReachesOverABreaker) {
  const Token next = encode("5")[0];
  const float whole = taken("12345 1234", {})[static_cast<size_t>(next)];
  EXPECT_EQ(whole, 4) << "four tokens repeated, two allowed";
  EXPECT_EQ(taken("12345 1234", {"2"})[static_cast<size_t>(next)], 1) << "two tokens since the breaker";
  EXPECT_EQ(taken("12345 1234", {"23"})[static_cast<size_t>(next)], 0) << "one token since the breaker's end";
  EXPECT_EQ(taken("12345 1234", {"7", "2"})[static_cast<size_t>(next)], 1);
  EXPECT_EQ(taken("12345 1234", {"77"})[static_cast<size_t>(next)], whole);
}

TEST_F(DryTest, ATokenThatHoldsABreakerLosesNothing) {
  const Token next = encode("5")[0];
  EXPECT_GT(taken("12345 1234", {"x"})[static_cast<size_t>(next)], 0);
  EXPECT_EQ(taken("12345 1234", {"5"})[static_cast<size_t>(next)], 0);
}

TEST_F(DryTest, TextsNeedATokenizer) {
  EXPECT_THROW(Penalties({.dry_multiplier = 1}, nullptr), std::invalid_argument);
  const std::vector<Token> sure = tokenizer_.encode("Sure", false);
  const Logits found =
      applied({.logit_bias = {{"Sure", -3}}}, Logits(static_cast<size_t>(tokenizer_.vocab_size())), {}, &tokenizer_);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i], -3.0f * static_cast<float>(std::ranges::count(sure, static_cast<Token>(i))));
  }
}

}  // namespace
}  // namespace corvid::model
