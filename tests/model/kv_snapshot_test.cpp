// Snapshots: what is restored equals what was evaluated, bit for bit, and no file does harm.
#include "model/kv_snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>

#include "model/hash.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/sequences.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

using test::copy;
using test::fresh;
using test::made_of;
using test::message_of;
using test::prompt_of;
using test::raw;
using test::TempDir;
using test::TinyCheckpoint;
using testing::HasSubstr;

// Blocks of 8: a snapshot that ends within a block, and one that ends with it. Heads and blocks that need padding.
TEST(Snapshot, WhatIsRestoredGoesOnLikeWhatWasEvaluated) {
  const TempDir dir;
  kernels::Exec exec(2);
  for (const TinyCheckpoint& shape : {TinyCheckpoint{}, TinyCheckpoint{.head_dim = 10, .rotary_dim = 6, .block = 5}}) {
    const auto model = made_of(shape);
    const std::vector<Token> prompt = prompt_of(70);
    for (const Attention attention : {Attention::sparse, Attention::dense}) {
      for (const int64_t kept : {40, 43}) {
        std::vector<Token> longer = prompt_of(110, 6);  // a fork must not find more of its prompt in its parent
        std::copy_n(prompt.begin(), kept, longer.begin());
        Sequence evaluated(model, exec, 200, attention), restored(model, exec, 200, attention);
        evaluated.sync(prompt);
        evaluated.save(dir / "s.kv", kept);
        restored.restore(dir / "s.kv");
        EXPECT_EQ(std::vector<Token>(restored.tokens().begin(), restored.tokens().end()),
                  std::vector<Token>(prompt.begin(), prompt.begin() + kept));
        Sequence fork = restored.fork();
        EXPECT_EQ(restored.sync(longer), kept);
        EXPECT_EQ(copy(restored.logits()), fresh(model, longer, attention));
        EXPECT_EQ(fork.sync(prompt), kept);
        EXPECT_EQ(copy(fork.logits()), fresh(model, prompt, attention));
      }
    }
  }
}

TEST(Snapshot, RestoringReplacesWhatWasHeldAndTheFileMayGo) {
  const TempDir dir;
  const auto model = made_of({});
  kernels::Exec exec(2);
  const std::vector<Token> prompt = prompt_of(43, 5), other = prompt_of(90, 6);
  Sequence sequence(model, exec, 200);
  sequence.sync(prompt);
  sequence.save(dir / "s.kv", 43);
  sequence.sync(other);
  sequence.restore(dir / "s.kv");
  EXPECT_TRUE(sequence.logits().empty());
  std::filesystem::remove(dir / "s.kv");
  EXPECT_EQ(sequence.sync(prompt), 42);  // in the last block, which is copied out of the file that is gone
  EXPECT_EQ(copy(sequence.logits()), fresh(model, prompt));
}

TEST(Snapshot, AFileHoldsNothingButItsTokens) {
  const TempDir dir;
  const auto model = made_of({.head_dim = 10, .rotary_dim = 6, .block = 5});
  kernels::Exec exec(2);
  std::vector<Token> secret = prompt_of(80, 6);
  const std::vector<Token> prompt = prompt_of(43, 5);
  std::copy(prompt.begin(), prompt.end(), secret.begin());
  Sequence one(model, exec, 200), two(model, exec, 200);
  one.sync(prompt);
  one.save(dir / "one.kv", 43);
  two.sync(secret);
  two.save(dir / "two.kv", 43);
  EXPECT_EQ(dir.read("one.kv"), dir.read("two.kv"));
  struct stat info {};
  ASSERT_EQ(stat((dir / "one.kv").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(Snapshot, SavesNoMoreThanItHoldsAndSaysWhereItCannotWrite) {
  const TempDir dir;
  kernels::Exec exec(1);
  Sequence sequence(made_of({}), exec, 200);
  sequence.sync(prompt_of(10));
  EXPECT_EQ(message_of([&] { sequence.save(dir / "s.kv", 11); }), "snapshot: want 0 to 10 tokens, found 11");
  EXPECT_THAT(message_of([&] { sequence.save(dir / "none" / "s.kv", 10); }), HasSubstr("none/s.kv"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

// A sequence of 13 tokens in two blocks, its snapshot, and what a restore of other bytes says.
class DamagedSnapshot : public testing::Test {
 protected:
  DamagedSnapshot() : model_(made_of({})), exec_(2), sequence_(model_, exec_, 50) {
    sequence_.sync(prompt_);
    sequence_.save(dir_ / "s.kv", 13);
    bytes_ = dir_.read("s.kv");
    page_bytes_ = static_cast<size_t>(KvCache(model_->config()).page_bytes());
  }

  // Restores `bytes`; the message of the failure. What the sequence held must be left.
  std::string complaint(const std::string& bytes) {
    dir_.write("bad.kv", bytes);
    std::string message = message_of([&] { sequence_.restore(dir_ / "bad.kv"); });
    EXPECT_EQ(std::vector<Token>(sequence_.tokens().begin(), sequence_.tokens().end()), prompt_);
    return message;
  }

  // A header that is as it should be but for `value` at `at`, and the hash that belongs to it.
  template <class T>
  std::string with_header(size_t at, T value) const {
    std::string bytes = bytes_;
    bytes.replace(at, sizeof value, raw(value));
    return bytes.replace(4088, 8, raw(xxh64(std::string_view(bytes).substr(0, 4088))));
  }

  const TempDir dir_;
  std::shared_ptr<const Model> model_;
  kernels::Exec exec_;
  Sequence sequence_;
  const std::vector<Token> prompt_ = prompt_of(13);
  std::string bytes_;
  size_t page_bytes_ = 0;
};

TEST_F(DamagedSnapshot, AnyLengthButTheRightOneIsRefused) {
  const size_t table = 4096 + 2 * page_bytes_;
  for (const size_t length :
       {size_t{0}, size_t{1}, size_t{8}, size_t{40}, size_t{4095}, size_t{4096}, size_t{4097}, 4096 + page_bytes_,
        table - 1, table, table + 52, table + 56, bytes_.size() - 8, bytes_.size() - 1}) {
    EXPECT_THAT(complaint(bytes_.substr(0, length)), HasSubstr("bad.kv: want ")) << length;
  }
  EXPECT_THAT(complaint(bytes_ + "x"), HasSubstr("bad.kv: want 2 pages and 13 tokens, found a file of "));
}

TEST_F(DamagedSnapshot, AnyFlippedBitIsFound) {
  const size_t table = 4096 + 2 * page_bytes_;
  std::vector<size_t> places = {4096, 4096 + page_bytes_ - 1, 4096 + page_bytes_, table - 1};
  for (size_t at = 0; at < 64; ++at) places.push_back(at);                 // the header's fields
  for (size_t at = 64; at < 4096; at += 37) places.push_back(at);          // identity, zeros, hash
  for (size_t at = 4096; at < table; at += 1009) places.push_back(at);     // pages
  for (size_t at = table; at < bytes_.size(); ++at) places.push_back(at);  // tokens, hashes
  for (const size_t at : places) {
    std::string bytes = bytes_;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
    EXPECT_THAT(complaint(bytes), HasSubstr("bad.kv: ")) << at;
  }
}

// Headers whose hash is right: what someone writes who wants to do harm.
TEST_F(DamagedSnapshot, AHeaderThatLiesIsRefused) {
  EXPECT_THAT(complaint(with_header<uint32_t>(8, 1)), HasSubstr("bad.kv: snapshot version: want 3, found 1"));
  EXPECT_THAT(complaint(with_header<uint32_t>(12, 0xffffffff)), HasSubstr("bad.kv: want a snapshot of "));
  for (const int64_t count :
       {INT64_MIN, int64_t{-1}, int64_t{0}, int64_t{14}, int64_t{1} << 20, int64_t{1} << 61, INT64_MAX}) {
    EXPECT_THAT(complaint(with_header(16, count)), HasSubstr("bad.kv: ")) << count;
  }
  EXPECT_THAT(complaint(with_header<int64_t>(24, 16)), HasSubstr("bad.kv: want pages of 8 positions in "));
  EXPECT_THAT(complaint(with_header<int64_t>(32, 0)), HasSubstr("bad.kv: want pages of 8 positions in "));
  EXPECT_THAT(complaint(with_header<int64_t>(32, INT64_MAX)), HasSubstr("bad.kv: want pages of 8 positions in "));
}

TEST_F(DamagedSnapshot, ATokenOutsideTheVocabularyIsRefused) {
  std::string bytes = bytes_;
  const size_t table = 4096 + 2 * page_bytes_, end = bytes.size() - 8;
  bytes.replace(table, 4, raw<int32_t>(96));
  uint64_t seed = 0;
  std::memcpy(&seed, bytes.data() + 4088, 8);
  bytes.replace(end, 8, raw(xxh64(std::string_view(bytes).substr(table, end - table), seed)));
  EXPECT_THAT(complaint(bytes), HasSubstr("bad.kv: want token ids from 0 to 95, found 96"));
}

TEST_F(DamagedSnapshot, WhatIsNotForThisSequenceIsRefused) {
  Sequence dense(model_, exec_, 50, Attention::dense), narrow(model_, exec_, 12),
      other(made_of({.seed = 2}), exec_, 50);
  EXPECT_THAT(message_of([&] { dense.restore(dir_ / "s.kv"); }),
              HasSubstr("s.kv: want a snapshot of " + dense.identity() + ", found one of " + sequence_.identity()));
  EXPECT_THAT(message_of([&] { other.restore(dir_ / "s.kv"); }), HasSubstr("s.kv: want a snapshot of "))
      << "another model of the same shape";
  EXPECT_THROW(narrow.restore(dir_ / "s.kv"), std::length_error);
  EXPECT_THROW(narrow.restore(dir_ / "none.kv"), std::system_error);
  EXPECT_THAT(complaint(std::string(5000, 'x')), HasSubstr("bad.kv: want a snapshot, found something else"));
}

}  // namespace
}  // namespace corvid::model
