#include "model/prompt_lookup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace corvid::model {
namespace {

using Tokens = std::vector<Token>;

// So many tokens that none comes twice.
Tokens distinct(Token first, Token count) {
  Tokens tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

Tokens joined(std::initializer_list<Tokens> parts) {
  Tokens all;
  for (const Tokens& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

PromptLookup holding(const Tokens& tokens) {
  PromptLookup lookup;
  lookup.sync(tokens);
  return lookup;
}

TEST(PromptLookupTest, GuessesWhatCameAfterTheSameTokens) {
  const Tokens text = distinct(100, 40);
  const PromptLookup lookup = holding(joined({text, {1, 2}, Tokens(text.begin(), text.begin() + 20)}));
  EXPECT_EQ(lookup.draft(3), Tokens(text.begin() + 20, text.begin() + 23));
  EXPECT_EQ(lookup.draft(1), Tokens{text[20]});
  EXPECT_EQ(lookup.draft(0), Tokens{});
}

TEST(PromptLookupTest, GuessesNothingWhereNothingRepeats) {
  EXPECT_EQ(holding({}).draft(8), Tokens{});
  EXPECT_EQ(holding({1}).draft(8), Tokens{});
  EXPECT_EQ(holding(distinct(0, 100)).draft(8), Tokens{});
  EXPECT_EQ(holding({1, 2, 3, 4, 9, 4}).draft(8), Tokens{}) << "one token is no match";
}

TEST(PromptLookupTest, PrefersTheLongestMatchAndOfEqualsTheMostRecent) {
  const Tokens a = distinct(100, 12), end = distinct(200, 12);
  EXPECT_EQ(holding(joined({a, {7}, {1}, end, {8}, {2}, end, {9}, {3}, end})).draft(1), Tokens{9});
  EXPECT_EQ(holding(joined({a, end, {7}, {1}, end, {8}, {2}, a, end})).draft(1), Tokens{7});
}

TEST(PromptLookupTest, ALoopGoesOnBeyondTheEnd) {
  Tokens text;
  for (int i = 0; i < 20; ++i) text.insert(text.end(), {1, 2, 3});
  EXPECT_EQ(holding(text).draft(5), (Tokens{1, 2, 3, 1, 2}));
}

TEST(PromptLookupTest, SyncLeavesWhatAFreshOneWouldHold) {
  uint64_t state = 5;
  const auto below = [&](uint64_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % bound;
  };
  PromptLookup lookup;
  Tokens tokens;
  for (int round = 0; round < 500; ++round) {
    tokens.resize(below(tokens.size() + 1));
    for (uint64_t i = below(30); i > 0; --i) tokens.push_back(static_cast<Token>(below(3)));
    lookup.sync(tokens);
    ASSERT_EQ(Tokens(lookup.tokens().begin(), lookup.tokens().end()), tokens);
    ASSERT_EQ(lookup.draft(16), holding(tokens).draft(16)) << "round " << round;
  }
}

// A row more is a row less for the others of a pass.
TEST(PromptLookupTest, GuessesLessInCompany) {
  const Tokens a = distinct(0, 40);
  const PromptLookup lookup = holding(joined({a, {99}, {a.begin(), a.begin() + 5}}));
  const size_t alone = lookup.draft(16).size(), with_one = lookup.draft(16, 1).size();
  EXPECT_GT(alone, with_one);
  EXPECT_EQ(lookup.draft(16, 15), Tokens{});
}

TEST(PromptLookupTest, LearnsToKeepQuietAndToSpeakAgain) {
  // The same two tokens, and never the same after them.
  PromptLookup lookup;
  Token next = 1000;
  const auto wrong = [&] {
    for (const Token token : {1, 2, next++}) lookup.push(token);
  };
  for (int i = 0; i < 40; ++i) wrong();
  lookup.push(1), lookup.push(2);
  EXPECT_EQ(lookup.draft(8), Tokens{});
  lookup.push(next);
  // Then always the same: one token is guessed from two when it was right often enough.
  for (int i = 0; i < 60; ++i) {
    for (const Token token : {1, 2, 3}) lookup.push(token);
    lookup.push(next++);
  }
  lookup.push(1), lookup.push(2);
  const Tokens guess = lookup.draft(8);
  ASSERT_FALSE(guess.empty());
  EXPECT_EQ(guess[0], 3);
}

}  // namespace
}  // namespace corvid::model
