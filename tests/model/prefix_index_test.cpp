// Pages are found for exactly the tokens that they hold, and forgotten from the end of what was used longest ago.
#include "model/prefix_index.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/support/sequences.h"

namespace corvid::model {
namespace {

using test::prompt_of;

constexpr int64_t kBlock = 8;

// A cache of so many pages, whose contents do not matter here.
class PrefixIndexTest : public testing::Test {
 protected:
  KvCache cache_of(int64_t n_pages) const {
    KvCache cache(model_->config(), pool_);
    cache.prepare(0, n_pages * kBlock);
    return cache;
  }
  int64_t pages_used() const { return pool_->used_bytes() / page_; }
  static std::vector<const std::byte*> addresses(const std::vector<KvPage>& pages) {
    std::vector<const std::byte*> list;
    for (const KvPage& page : pages) list.push_back(page.bytes.get());
    return list;
  }
  int64_t found(PrefixIndex& index, const std::vector<Token>& tokens) const {
    return std::ssize(index.find({}, tokens, kBlock));
  }

  std::shared_ptr<const Model> model_ = test::made_of({});
  std::shared_ptr<KvPool> pool_ = KvPool::create();
  int64_t page_ = KvCache(model_->config()).page_bytes();
};

TEST_F(PrefixIndexTest, FindsTheLongestBeginningInWholeBlocks) {
  PrefixIndex index(100 * page_);
  const std::vector<Token> tokens = prompt_of(43, 1);
  const KvCache cache = cache_of(6);
  index.keep({}, tokens, cache);
  const std::vector<const std::byte*> pages = addresses(cache.pages());
  for (const size_t same : {0U, 7U, 8U, 23U, 24U, 39U, 40U, 43U}) {
    std::vector<Token> prompt = tokens;
    if (same < prompt.size()) prompt[same] = prompt[same] == 0 ? 1 : 0;
    const std::vector<const std::byte*> expected(pages.begin(), pages.begin() + static_cast<int64_t>(same) / kBlock);
    EXPECT_EQ(addresses(index.find({}, prompt, kBlock)), expected) << same << " tokens agree";
  }
  EXPECT_EQ(found(index, {tokens.begin(), tokens.begin() + 17}), 2);
  // The same block elsewhere holds other keys.
  EXPECT_EQ(found(index, {tokens.begin() + 8, tokens.end()}), 0);
}

TEST_F(PrefixIndexTest, KeepsThoseApartThatAttendOtherwise) {
  PrefixIndex index(100 * page_);
  const std::vector<Token> tokens = prompt_of(16, 1);
  const KvCache one = cache_of(2), other = cache_of(2);
  index.keep({}, tokens, one);
  EXPECT_TRUE(index.find({.dense = true}, tokens, kBlock).empty());
  EXPECT_TRUE(index.find({.bounds = true}, tokens, kBlock).empty());
  index.keep({.dense = true}, tokens, other);
  EXPECT_EQ(addresses(index.find({}, tokens, kBlock)), addresses(one.pages()));
  EXPECT_EQ(addresses(index.find({.dense = true}, tokens, kBlock)), addresses(other.pages()));
}

TEST_F(PrefixIndexTest, WhatBeginsAlikeIsKeptOnce) {
  PrefixIndex index(100 * page_);
  std::vector<Token> first = prompt_of(40, 1), second = prompt_of(40, 2);
  std::copy_n(first.begin(), 24, second.begin());
  index.keep({}, first, cache_of(5));
  EXPECT_EQ(pages_used(), 5);
  index.keep({}, second, cache_of(5));
  EXPECT_EQ(pages_used(), 7);
  EXPECT_EQ(found(index, first), 5);
  EXPECT_EQ(found(index, second), 5);
  index.keep({}, first, cache_of(5));
  EXPECT_EQ(pages_used(), 7);
}

TEST_F(PrefixIndexTest, ForgetsTheEndOfWhatWasUsedLongestAgoFirst) {
  PrefixIndex index(10 * page_);
  const std::vector<Token> a = prompt_of(32, 1), b = prompt_of(32, 2), c = prompt_of(32, 3);
  index.keep({}, a, cache_of(4));
  index.keep({}, b, cache_of(4));
  EXPECT_EQ(found(index, a), 4);  // used after b
  index.keep({}, c, cache_of(4));
  EXPECT_EQ(pages_used(), 10);
  EXPECT_EQ(found(index, b), 2);
  EXPECT_EQ(found(index, a), 4);
  EXPECT_EQ(found(index, c), 4);
  index.keep({}, prompt_of(200, 4), cache_of(25));  // more than there is place for: its beginning
  EXPECT_EQ(pages_used(), 10);
  EXPECT_EQ(found(index, prompt_of(200, 4)), 10);
}

TEST_F(PrefixIndexTest, GivesMemoryBackWhereNobodyElseUsesThePage) {
  PrefixIndex index(100 * page_);
  const std::vector<Token> a = prompt_of(24, 1), b = prompt_of(24, 2);
  std::optional<KvCache> used = cache_of(3);
  index.keep({}, a, *used);
  index.keep({}, b, cache_of(3));
  for (int64_t left = 5; left >= 3; --left) {
    EXPECT_TRUE(index.drop_unused());
    EXPECT_EQ(pages_used(), left);
  }
  EXPECT_FALSE(index.drop_unused());
  EXPECT_EQ(found(index, a), 3);
  used.reset();
  EXPECT_TRUE(index.drop_unused());
  EXPECT_EQ(pages_used(), 2);
  EXPECT_EQ(found(index, a), 2);
  EXPECT_TRUE(index.drop_last());
  EXPECT_TRUE(index.drop_last());
  EXPECT_FALSE(index.drop_last());
  EXPECT_EQ(pages_used(), 0);
}

}  // namespace
}  // namespace corvid::model
