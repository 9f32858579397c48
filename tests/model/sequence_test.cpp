// Laws of evaluation: however tokens are fed, kept or cut, the same tokens give the same logits.
#include "model/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "model/convert.h"
#include "model/forward.h"
#include "model/sampler.h"
#include "model/weights.h"
#include "tests/support/sequences.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_checkpoint.h"

namespace corvid::model {
namespace {

using test::copy;
using test::fresh;
using test::made_of;
using test::message_of;
using test::prompt_of;
using test::TinyCheckpoint;
using testing::HasSubstr;

// Shapes that reach every branch: index heads shared by key-value heads, blocks of odd size, more local blocks, layers
// in unusual order, widths that are no multiple of a vector.
std::vector<TinyCheckpoint> shapes() {
  return {{},
          {.heads = 8, .kv_heads = 4, .index_heads = 2, .block = 16, .top_blocks = 2},
          {.dim = 40,
           .heads = 3,
           .kv_heads = 3,
           .head_dim = 10,
           .rotary_dim = 6,
           .index_heads = 1,
           .index_dim = 12,
           .block = 5,
           .top_blocks = 4,
           .local_blocks = 2,
           .dense_ffn = 33,
           .experts = 5,
           .top_k = 3,
           .expert_ffn = 17,
           .shared_ffn = 9},
          {.sparse = {1, 0, 1, 1}, .moe = {1, 1, 0, 1}},
          {.sparse = {0, 0}, .moe = {0, 0}},
          {.tied = true, .flat = false, .dtype = "BF16", .shards = 3}};
}

// More blocks than are attended to, in a model that was trained to see everything.
TEST(Sequence, BlocksChosenWithoutTrainingDoNotDependOnHowTokensAreFed) {
  kernels::Exec exec(2), single(1);
  const auto model = made_of({.sparse = {0, 0}, .moe = {0, 0}});
  const std::vector<Token> prompt = prompt_of(2300);
  const auto dense = [&](int64_t n) { return fresh(model, std::span(prompt).first(n)); };
  Sequence whole(model, exec, 2400, Attention::sparse), parts(model, single, 2400, Attention::sparse);
  whole.sync(std::span(prompt).first(kTopPages * 128));
  EXPECT_EQ(copy(whole.logits()), dense(kTopPages * 128));  // sees no more than it may attend to
  whole.truncate(0);
  whole.sync(prompt);
  EXPECT_NE(copy(whole.logits()), dense(2300));
  parts.sync(std::span(prompt).first(2170));
  parts.truncate(2100);
  Sequence fork = parts.fork();
  fork.sync(prompt);
  parts.sync(std::span(prompt).first(2290));
  for (int64_t i = 2290; i < 2300; ++i) parts.append(prompt[static_cast<size_t>(i)]);
  EXPECT_EQ(copy(whole.logits()), copy(parts.logits()));
  EXPECT_EQ(copy(whole.logits()), copy(fork.logits()));
  EXPECT_NE(whole.identity(), Sequence(model, exec, 10).identity());
}

TEST(Sequence, APromptAtOnceEqualsItsTokensOneByOne) {
  kernels::Exec exec(2);
  for (const TinyCheckpoint& shape : shapes()) {
    const auto model = made_of(shape);
    const std::vector<Token> prompt = prompt_of(120);
    std::vector<int64_t> positions(prompt.size());
    std::iota(positions.begin(), positions.end(), 0);
    Sequence whole(model, exec, 200), single(model, exec, 200);
    const auto logits = whole.logits_at(prompt, positions);
    for (size_t i = 0; i < prompt.size(); ++i) {
      single.append(prompt[i]);
      ASSERT_EQ(copy(single.logits()), logits[i]) << "position " << i << " of " << shape.config().dump();
    }
  }
}

TEST(Sequence, APromptLongerThanAPassEqualsAShorterOneAndTheRest) {
  const auto model = made_of({});
  const std::vector<Token> prompt = prompt_of(kChunkRows * 2 + 77);
  kernels::Exec exec(2);
  Sequence sequence(model, exec, std::ssize(prompt));
  sequence.sync(std::span(prompt).first(100));
  EXPECT_EQ(sequence.sync(prompt), 100);
  EXPECT_EQ(copy(sequence.logits()), fresh(model, prompt));
  const std::vector<int64_t> positions = {kChunkRows, 3, kChunkRows - 1, 3, std::ssize(prompt) - 1};
  const auto rows = sequence.logits_at(prompt, positions);
  for (size_t i = 0; i < positions.size(); ++i) {
    EXPECT_EQ(rows[i], fresh(model, std::span(prompt).first(static_cast<size_t>(positions[i] + 1)))) << positions[i];
  }
}

TEST(Sequence, AKeptPrefixEqualsAFreshRun) {
  const auto model = made_of({});
  kernels::Exec exec(2);
  const std::vector<Token> first = prompt_of(90, 5);
  std::vector<Token> second = prompt_of(90, 6);
  std::copy_n(first.begin(), 50, second.begin());
  ASSERT_NE(first[50], second[50]);
  Sequence sequence(model, exec, 200);
  EXPECT_EQ(sequence.sync(first), 0);
  EXPECT_EQ(sequence.sync(second), 50);
  EXPECT_EQ(copy(sequence.logits()), fresh(model, second));
  EXPECT_EQ(std::vector<Token>(sequence.tokens().begin(), sequence.tokens().end()), second);
  // The last token is evaluated again even when nothing is new, so that its logits are there.
  EXPECT_EQ(sequence.sync(second), 89);
  EXPECT_EQ(sequence.sync(std::span(second).first(20)), 19);
  EXPECT_EQ(copy(sequence.logits()), fresh(model, std::span(second).first(20)));
}

// What guessing takes: several tokens at once, then only the right ones kept.
TEST(Sequence, ExtendKeepsTheLogitsOfEveryTokenAndTruncateForgetsTheLast) {
  const auto model = made_of({});
  kernels::Exec exec(2);
  const std::vector<Token> prompt = prompt_of(70, 5), guess = prompt_of(6, 6), right = prompt_of(3, 7);
  Sequence sequence(model, exec, 200);
  sequence.sync(prompt);
  sequence.extend(guess);
  std::vector<Token> held = prompt;
  for (size_t i = 0; i < guess.size(); ++i) {
    held.push_back(guess[i]);
    EXPECT_EQ(copy(sequence.logits(static_cast<int64_t>(i))), fresh(model, held)) << i;
  }
  EXPECT_EQ(copy(sequence.logits()), copy(sequence.logits(5)));
  sequence.truncate(72);
  held.resize(72);
  EXPECT_EQ(copy(sequence.tokens()), held);
  EXPECT_EQ(copy(sequence.logits()), fresh(model, held));
  EXPECT_EQ(copy(sequence.logits(1)), fresh(model, held));
  EXPECT_EQ(message_of([&] { sequence.logits(2); }), "logits: want a row below 2, found 2");
  sequence.extend(right);
  held.insert(held.end(), right.begin(), right.end());
  EXPECT_EQ(copy(sequence.logits()), fresh(model, held));
  sequence.truncate(71);  // before the last extend: its logits are gone
  EXPECT_TRUE(sequence.logits().empty());
  sequence.extend({});
  EXPECT_TRUE(sequence.logits().empty());
  sequence.append(held[71]);
  held.resize(72);
  EXPECT_EQ(copy(sequence.logits()), fresh(model, held));
  EXPECT_EQ(message_of([&] { sequence.truncate(73); }), "truncate: want 0 to 72 tokens, found 73");
}

// What greedy decoding takes: of each token the likeliest next one, in place of the logits.
TEST(Sequence, ExtendBestKeepsWhatTheLogitsSay) {
  const auto model = made_of({});
  kernels::Exec exec(2);
  const auto engine = Engine::create(model, exec, nullptr, {});
  const std::vector<Token> prompt = prompt_of(40, 5), more = prompt_of(6, 6);
  Sequence with_logits(engine, 200), with_best(engine, 200);
  for (Sequence* s : {&with_logits, &with_best}) s->sync(prompt);
  with_logits.extend(more);
  with_best.extend_best(more);
  EXPECT_TRUE(with_best.logits().empty());
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(with_best.best(i), best_of(with_logits.logits(i))) << i;
  with_best.truncate(44);
  EXPECT_EQ(with_best.best(3), best_of(with_logits.logits(3)));
  EXPECT_EQ(message_of([&] { with_best.best(4); }), "best: want a row below 4, found 4");
  with_best.extend(std::span(more).subspan(4));
  EXPECT_EQ(copy(with_best.logits()), copy(with_logits.logits()));
  EXPECT_EQ(message_of([&] { with_best.best(0); }), "best: want a row below 0, found 0");
}

TEST(Sequence, ThreadsDoNotChangeABit) {
  const auto model = made_of({});
  const std::vector<Token> prompt = prompt_of(100);
  kernels::Exec one(1), three(3);
  Sequence a(model, one, 200), b(model, three, 200);
  a.sync(prompt);
  b.sync(prompt);
  EXPECT_EQ(copy(a.logits()), copy(b.logits()));
}

TEST(Sequence, SparseWithEveryBlockChosenEqualsDense) {
  TinyCheckpoint shape;
  const std::vector<Token> prompt = prompt_of(100);
  const auto logits = [&](int64_t top_blocks, Attention attention) {
    shape.top_blocks = top_blocks;
    kernels::Exec exec(2);
    Sequence sequence(made_of(shape), exec, 200, attention);
    sequence.sync(prompt);
    return copy(sequence.logits());
  };
  const std::vector<float> dense = logits(3, Attention::dense);
  EXPECT_EQ(logits(13, Attention::sparse), dense);  // 13 blocks of 8 hold 100 tokens
  EXPECT_NE(logits(12, Attention::sparse), dense);
  EXPECT_EQ(logits(3, Attention::sparse), logits(3, Attention::automatic));
}

TEST(Sequence, TheTwoLayoutsOfACheckpointAreTheSameModel) {
  TinyCheckpoint shape;
  const auto flat = made_of(shape);
  shape.flat = false;
  shape.shards = 4;
  const std::vector<Token> prompt = prompt_of(60);
  const auto released = made_of(shape);
  EXPECT_EQ(fresh(flat, prompt), fresh(released, prompt));
}

TEST(Sequence, RefusesWhatItCannotHold) {
  const auto model = made_of({});
  kernels::Exec exec(1);
  EXPECT_THROW(Sequence(model, exec, 0), std::invalid_argument);
  Sequence sequence(model, exec, 4);
  const std::vector<Token> five(5, 1), outside = {1, 96}, negative = {-1}, fits(4, 1);
  const std::vector<int64_t> beyond = {4};
  EXPECT_THROW(sequence.sync(five), std::length_error);
  EXPECT_THROW(sequence.sync({}), std::invalid_argument);
  EXPECT_EQ(message_of([&] { sequence.sync(outside); }), "token: want an id from 0 to 95, found 96");
  EXPECT_THROW(sequence.sync(negative), std::invalid_argument);
  EXPECT_EQ(message_of([&] { sequence.logits_at(fits, beyond); }), "position: want 0 to 3, found 4");
  sequence.sync(fits);
  EXPECT_THROW(sequence.append(1), std::length_error);
  EXPECT_EQ(sequence.tokens().size(), 4U);
}

}  // namespace
}  // namespace corvid::model
