#include "runtime/prefix_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "runtime/local_chat.h"
#include "runtime/transcript.h"
#include "tests/support/sequence_cache.h"

namespace corvid::runtime {
namespace {

namespace fs = std::filesystem;
using model::Sequence;
using model::Token;
using test::copy;
using test::fresh;
using test::prompt_of;

class PrefixCacheTest : public test::SequenceCacheTest {
 protected:
  PrefixCacheTest() : SequenceCacheTest("prefix") {}

  const PrefixCache cache_{folder_, "this build"};
  const std::span<const Token> prefix_ = std::span(tokens_).first(43);
};

TEST_F(PrefixCacheTest, WhatOneProcessEvaluatedAnotherRestoresBitForBit) {
  Sequence second = empty();
  EXPECT_FALSE(cache_.restore(prefix_, second));
  cache_.store(prefix_, holding(tokens_));
  ASSERT_TRUE(PrefixCache(folder_, "this build").restore(prefix_, second));
  EXPECT_EQ(second.sync(tokens_), 43);
  EXPECT_EQ(copy(second.logits()), fresh(model_, tokens_));
  struct stat info {};
  ASSERT_EQ(stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(PrefixCacheTest, AnotherPrefixBuildModelOrAttentionFindsNothing) {
  cache_.store(prefix_, holding(tokens_));
  Sequence sequence = empty(), dense(model_, exec_, 200, model::Attention::dense),
           other(test::made_of({.seed = 2}), exec_, 200), narrow(model_, exec_, 42);
  EXPECT_FALSE(cache_.restore(prefix_.first(42), sequence));
  EXPECT_FALSE(PrefixCache(folder_, "another build").restore(prefix_, sequence));
  EXPECT_FALSE(cache_.restore(prefix_, dense));
  EXPECT_FALSE(cache_.restore(prefix_, other));
  EXPECT_FALSE(cache_.restore(prefix_, narrow));
  EXPECT_TRUE(cache_.restore(prefix_, sequence));
}

TEST_F(PrefixCacheTest, ADamagedFileIsRemovedAndStoredAnew) {
  cache_.store(prefix_, holding(tokens_));
  ASSERT_EQ(files().size(), 1u);
  fs::resize_file(files()[0], 5000);
  Sequence sequence = empty();
  EXPECT_FALSE(cache_.restore(prefix_, sequence));
  EXPECT_EQ(files().size(), 0u);
  cache_.store(prefix_, holding(tokens_));
  EXPECT_TRUE(cache_.restore(prefix_, sequence));
}

TEST_F(PrefixCacheTest, AFolderThatCannotBeOrIsNotOursAloneIsLeftAlone) {
  dir_.write("file", "");
  const PrefixCache beneath_a_file(dir_ / "file" / "prefix", "this build");
  Sequence sequence = empty();
  beneath_a_file.store(prefix_, holding(tokens_));
  EXPECT_FALSE(beneath_a_file.restore(prefix_, sequence));

  cache_.store(prefix_, holding(tokens_));
  fs::permissions(folder_, fs::perms::all);  // anyone could plant a file
  EXPECT_FALSE(cache_.restore(prefix_, sequence));
  cache_.store(prefix_.first(9), holding(tokens_));
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(PrefixCacheTest, TheLeastRecentlyUsedGoFirstBeyondTheBounds) {
  const PrefixCache three(folder_, "this build", {.files = 3, .bytes = 1 << 30});
  const Sequence sequence = holding(tokens_);
  const auto age = [&](int hours) {  // as if that had passed since all files were used
    for (const fs::path& file : files())
      fs::last_write_time(file, fs::last_write_time(file) - std::chrono::hours(hours));
  };
  for (const size_t length : {10, 20, 30}) {
    three.store(prefix_.first(length), sequence);
    age(1);
  }
  Sequence other = empty();
  EXPECT_TRUE(three.restore(prefix_.first(10), other));
  dir_.write("cache/prefix/killed.kv.part-1-0", "");
  age(2);
  three.store(prefix_.first(40), sequence);
  EXPECT_EQ(files().size(), 3u);
  EXPECT_TRUE(three.restore(prefix_.first(10), other));
  EXPECT_FALSE(three.restore(prefix_.first(20), other));
  EXPECT_TRUE(three.restore(prefix_.first(30), other));

  const PrefixCache small(folder_, "this build", {.files = 3, .bytes = sequence.cache_bytes(8) + 5000});
  age(-24);  // as if all had been used at the same moment, or later
  small.store(prefix_.first(8), sequence);
  EXPECT_EQ(files().size(), 1u);
  small.store(prefix_.first(43), sequence);  // too large by itself
  EXPECT_EQ(files().size(), 1u);
  EXPECT_TRUE(small.restore(prefix_.first(8), other));
}

// Of two agents that begin together the first may be ended before it stores what both have.
TEST_F(PrefixCacheTest, WhatWasAdoptedIsStoredWhereItIsMissingAndElseUsed) {
  const auto answering = model::Model::load(test::write_tiny_model(dir_ / "model", "There are 3 files."));
  const auto engine = model::Engine::create(answering, {.threads = 1});
  const auto ask = [&](std::optional<PrefixCache> prefixes) {
    LocalChatOptions options;
    options.prompt.instructions = "Do chores.";
    options.prefixes = std::move(prefixes);
    auto chat = std::make_unique<LocalChat>(engine, options);
    chat->reply(std::vector<model::Message>{user_entry("how many files?").message}, 100, {}, {});
    return chat;
  };
  const auto alive = ask(std::nullopt);
  ask(cache_);
  ASSERT_EQ(files().size(), 1u);
  const fs::file_time_type old = fs::last_write_time(files()[0]) - std::chrono::hours(9);
  fs::last_write_time(files()[0], old);
  ask(cache_);
  EXPECT_GT(fs::last_write_time(files()[0]), old + std::chrono::hours(8));
}

TEST_F(PrefixCacheTest, ManyMayStoreAndRestoreAtOnce) {
  std::vector<std::thread> users;
  std::atomic<int> wrong{0};
  const std::vector<float> expected = fresh(model_, tokens_);
  for (int i = 0; i < 4; ++i) {
    users.emplace_back([&] {
      kernels::Exec exec(1);
      for (int round = 0; round < 5; ++round) {
        Sequence sequence(model_, exec, 200);
        cache_.restore(prefix_, sequence);
        sequence.sync(tokens_);
        wrong += copy(sequence.logits()) != expected;
        cache_.store(prefix_, sequence);
      }
    });
  }
  for (std::thread& user : users) user.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(PrefixCacheTest, AChatRestoresInstructionsAndToolsAndNothingOfWhatWasSaid) {
  const auto answering = model::Model::load(test::write_tiny_model(dir_ / "model", "There are 3 files."));
  const auto ask = [&](const std::string& text, const std::string& instructions) {
    LocalChatOptions options;
    options.prompt.instructions = instructions;
    options.prefixes = cache_;
    LocalChat chat(answering, exec_, options);
    const std::vector<model::Message> messages{user_entry(text).message};
    const Reply first = chat.reply(messages, 100, {}, {});
    EXPECT_EQ(first.message.text, "There are 3 files.");
    EXPECT_EQ(chat.reply(messages, 100, {}, {}).usage.cached_tokens, first.usage.prompt_tokens - 1);
    return first.usage;
  };
  EXPECT_EQ(ask("how many files?", "Do chores.").cached_tokens, 0);
  const Usage second = ask("how many files?", "Do chores."), longer = ask("how many files are there?", "Do chores.");
  EXPECT_GT(second.cached_tokens, 20);
  EXPECT_LT(second.cached_tokens, second.prompt_tokens);
  EXPECT_EQ(longer.cached_tokens, second.cached_tokens);
  EXPECT_EQ(files().size(), 1u);
  EXPECT_EQ(ask("how many files?", "Do no chores.").cached_tokens, 0);
  EXPECT_EQ(files().size(), 2u);
}

}  // namespace
}  // namespace corvid::runtime
