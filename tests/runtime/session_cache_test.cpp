// A session's keys and values on disk: found by the session alone, replaced by its next state, never believed when
// damaged.
#include "runtime/session_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

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

class SessionCacheTest : public test::SequenceCacheTest {
 protected:
  SessionCacheTest() : SequenceCacheTest("sessions") {}

  const SessionCache cache_{folder_, "this build"};
};

TEST_F(SessionCacheTest, ASessionGoesOnWhereItWasLeftAndOthersFindNothing) {
  cache_.store("1m82ypzjfpwj3", holding(std::span(tokens_).first(43)));
  Sequence resumed = empty(), other = empty(), built_otherwise = empty();
  ASSERT_TRUE(cache_.restore("1m82ypzjfpwj3", resumed));
  EXPECT_EQ(resumed.sync(tokens_), 43);
  EXPECT_EQ(copy(resumed.logits()), fresh(model_, tokens_));
  EXPECT_FALSE(cache_.restore("1m82ypzjfpwj4", other));
  EXPECT_FALSE(SessionCache(folder_, "another build").restore("1m82ypzjfpwj3", built_otherwise));
  struct stat info {};
  ASSERT_EQ(stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  ASSERT_EQ(stat(files()[0].c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(SessionCacheTest, OnlyTheLastStateOfASessionIsKept) {
  Sequence sequence = holding(std::span(tokens_).first(20));
  SessionCache(folder_, "an older build").store("a", sequence);
  cache_.store("ab", sequence);  // whose name begins alike
  cache_.store("a", sequence);
  EXPECT_EQ(files().size(), 2u);
  ASSERT_TRUE(cache_.restore("a", sequence));  // mapped while it is replaced
  sequence.sync(tokens_);
  cache_.store("a", sequence);
  EXPECT_EQ(files().size(), 2u);
  Sequence again = empty();
  ASSERT_TRUE(cache_.restore("a", again));
  EXPECT_EQ(copy(again.tokens()), tokens_);
  cache_.remove("a");
  EXPECT_FALSE(cache_.restore("a", again));
  EXPECT_TRUE(cache_.restore("ab", again));
}

TEST_F(SessionCacheTest, ADamagedFileIsNotBelieved) {
  cache_.store("a", holding(tokens_));
  const fs::path file = files()[0];
  for (const std::streamoff at : {9, 50, 5000, -20}) {
    cache_.store("a", holding(tokens_));
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(at, at < 0 ? std::ios::end : std::ios::beg);
    const auto byte = static_cast<char>(stream.get());
    stream.seekp(at, at < 0 ? std::ios::end : std::ios::beg);
    stream.put(static_cast<char>(byte ^ 1)).flush();
    Sequence sequence = empty();
    EXPECT_FALSE(cache_.restore("a", sequence)) << "byte " << at;
    EXPECT_TRUE(sequence.tokens().empty());
    EXPECT_FALSE(fs::exists(file));
  }
}

TEST_F(SessionCacheTest, TheSessionsUsedLongestAgoGoBeyondTheBounds) {
  const SessionCache two(folder_, "this build", {.files = 2, .bytes = 1 << 30});
  const Sequence sequence = holding(tokens_);
  for (const char* id : {"a", "b", "c"}) {
    two.store(id, sequence);
    for (const fs::path& file : files()) fs::last_write_time(file, fs::last_write_time(file) - std::chrono::hours(1));
  }
  Sequence other = empty();
  EXPECT_FALSE(two.restore("a", other));
  EXPECT_TRUE(two.restore("b", other));
  EXPECT_TRUE(two.restore("c", other));
}

TEST_F(SessionCacheTest, AChatThatTakesOverFindsItsHistoryAndSaysTheSame) {
  const auto model = model::Model::load(test::write_tiny_model(dir_ / "answering", "There are 3 files."));
  std::vector<model::Message> messages{user_entry("how many files?").message};
  LocalChat first(model, exec_, {}), resumed(model, exec_, {}), alone(model, exec_, {});
  const Reply reply = first.reply(messages, 100, {}, {});
  first.store(cache_, "a");
  messages.push_back(reply.message);
  messages.push_back(user_entry("are you sure?").message);
  resumed.restore(cache_, "a");
  const Reply next = resumed.reply(messages, 100, {}, {}), same = alone.reply(messages, 100, {}, {});
  EXPECT_EQ(next.usage.cached_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens - 1);
  EXPECT_EQ(same.usage.cached_tokens, 0);
  EXPECT_EQ(next.message.tokens, same.message.tokens);
}

}  // namespace
}  // namespace corvid::runtime
