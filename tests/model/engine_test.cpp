// Many sequences on one engine: each as if it were alone, none kept waiting, none lost.
#include "model/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <optional>
#include <thread>

#include "model/forward.h"
#include "tests/support/sequences.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

using test::copy;
using test::fresh;
using test::made_of;
using test::message_of;
using test::prompt_of;

// What a sequence held at some moment, and what it said.
struct Seen {
  std::vector<Token> tokens;
  std::vector<float> logits;
};

void run_all(std::vector<std::function<void()>> jobs) {
  std::vector<std::jthread> threads;
  for (auto& job : jobs) threads.emplace_back(std::move(job));
}

// A session's life: prompts, tokens, guesses that are taken back, forks. Returns its sequence, which keeps its memory.
Sequence live(const std::shared_ptr<Engine>& engine, uint64_t seed, std::vector<Seen>& seen) {
  const auto random = [&seed](int64_t below) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return static_cast<int64_t>((seed >> 33) % static_cast<uint64_t>(below));
  };
  Sequence sequence(engine, 400);
  sequence.sync(prompt_of(1 + random(90), seed));
  std::optional<Sequence> fork;
  for (int step = 0; step < 12; ++step) {
    Sequence& s = fork && random(2) == 0 ? *fork : sequence;
    switch (random(5)) {
      case 0: {
        std::vector<Token> prompt = copy(s.tokens());
        prompt.resize(static_cast<size_t>(1 + random(std::ssize(prompt))));
        const std::vector<Token> more = prompt_of(1 + random(60), seed);
        prompt.insert(prompt.end(), more.begin(), more.end());
        s.sync(prompt);
        break;
      }
      case 1:
        s.extend(prompt_of(1 + random(20), seed));
        break;
      case 2:
        s.extend(prompt_of(5, seed));
        s.truncate(std::ssize(s.tokens()) - 1 - random(4));
        break;
      case 3:
        fork = sequence.fork();
        break;
      default:
        s.append(static_cast<Token>(random(96)));
    }
    seen.push_back({copy(s.tokens()), copy(s.logits())});
  }
  return sequence;
}

void expect_as_alone(const std::shared_ptr<const Model>& model, const std::vector<std::vector<Seen>>& lives) {
  for (const std::vector<Seen>& one : lives) {
    EXPECT_EQ(one.size(), 12U);
    for (const Seen& seen : one) ASSERT_EQ(seen.logits, fresh(model, seen.tokens)) << seen.tokens.size() << " tokens";
  }
}

TEST(Engine, ManySessionsAtOnceEqualEachAlone) {
  const auto model = made_of({});
  for (const int threads : {1, 2, 3}) {
    const auto engine = Engine::create(model, {.threads = threads});
    std::vector<std::vector<Seen>> lives(8);
    std::vector<std::function<void()>> jobs;
    for (size_t i = 0; i < lives.size(); ++i) {
      jobs.emplace_back([&, i] { live(engine, i * 77 + static_cast<uint64_t>(threads), lives[i]); });
    }
    run_all(std::move(jobs));
    expect_as_alone(model, lives);
    EXPECT_GT(engine->stats().most_sequences, 1);
    EXPECT_EQ(engine->stats().evictions, 0);
  }
}

// Memory for the longest of them, and little more: what all hold in the end takes several times as much.
TEST(Engine, WhatDoesNotFitWaitsAndIsEvaluatedAgainToTheSameBits) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto engine = Engine::create(model, {.threads = 2, .cache_bytes = 52 * page});
  std::vector<std::vector<Seen>> lives(6);
  std::vector<std::function<void()>> jobs;
  std::vector<std::optional<Sequence>> sequences(lives.size());
  for (size_t i = 0; i < lives.size(); ++i) {
    jobs.emplace_back([&, i] { sequences[i] = live(engine, i * 77, lives[i]); });
  }
  run_all(std::move(jobs));
  expect_as_alone(model, lives);
  int64_t tokens = 0;
  for (const auto& sequence : sequences) tokens += std::ssize(sequence->tokens());
  EXPECT_GT(tokens, 52 * 8);
  EXPECT_GT(engine->stats().evictions, 0);
}

TEST(Engine, AnIdleSequenceGivesItsMemoryAndComesBackAsItWas) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto engine = Engine::create(model, {.threads = 1, .cache_bytes = 6 * page});
  const std::vector<Token> one = prompt_of(40, 1), two = prompt_of(40, 2);  // 5 pages each
  Sequence first(engine, 48), second(engine, 48);
  first.sync(one);
  second.sync(two);
  EXPECT_EQ(engine->stats().evictions, 1);
  EXPECT_EQ(copy(first.logits()), fresh(model, one));
  EXPECT_EQ(copy(first.tokens()), one);
  Sequence fork = first.fork();
  first.append(7);
  std::vector<Token> longer = one;
  longer.push_back(7);
  EXPECT_EQ(copy(first.logits()), fresh(model, longer));
  EXPECT_EQ(first.sync(longer), 40);
  const test::TempDir dir;
  fork.save(dir / "fork.kv", 40);
  Sequence restored(engine, 48);
  restored.restore(dir / "fork.kv");
  EXPECT_EQ(restored.sync(longer), 40);
  EXPECT_EQ(copy(restored.logits()), fresh(model, longer));
}

TEST(Engine, APromptThatBeginsLikeAnotherIsEvaluatedOnceUpToThere) {
  const auto model = made_of({});
  const auto engine = Engine::create(model, {.threads = 2});
  std::vector<Token> prompts[] = {prompt_of(100, 1), prompt_of(100, 2), prompt_of(60, 1), prompt_of(100, 3)};
  std::copy_n(prompts[0].begin(), 75, prompts[1].begin());
  Sequence first(engine, 200), second(engine, 200), third(engine, 200), dense(engine, 200, Attention::dense);
  EXPECT_EQ(first.sync(prompts[0]), 0);
  EXPECT_EQ(second.sync(prompts[1]), 75);
  EXPECT_EQ(third.sync(prompts[2]), 59);  // the last token is always evaluated
  EXPECT_EQ(dense.sync(prompts[0]), 0);
  EXPECT_EQ(third.sync(prompts[3]), 0);
  EXPECT_EQ(third.sync(prompts[1]), 99);
  EXPECT_EQ(copy(first.logits()), fresh(model, prompts[0]));
  EXPECT_EQ(copy(second.logits()), fresh(model, prompts[1]));
  EXPECT_EQ(copy(third.logits()), fresh(model, prompts[1]));
}

TEST(Engine, AnEmptySequenceAdoptsWhatAnotherOneHolds) {
  const auto model = made_of({});
  const auto engine = Engine::create(model, {.threads = 2});
  const std::vector<Token> prompt = prompt_of(100, 1);
  const auto beginning = std::span(prompt).first(75);
  Sequence first(engine, 200), second(engine, 200), dense(engine, 200, Attention::dense), narrow(engine, 74);
  EXPECT_FALSE(second.adopt(beginning));
  first.sync(prompt);
  EXPECT_FALSE(dense.adopt(beginning));
  EXPECT_FALSE(narrow.adopt(beginning));
  EXPECT_FALSE(second.adopt(prompt_of(75, 2)));
  ASSERT_TRUE(second.adopt(beginning));
  EXPECT_EQ(copy(second.tokens()), copy(beginning));
  EXPECT_FALSE(second.adopt(beginning)) << "it is not empty any more";
  const int64_t rows = engine->stats().rows;
  second.append(3);
  first.append(5);
  EXPECT_EQ(engine->stats().rows, rows + 2);
  std::vector<Token> said = copy(beginning);
  said.push_back(3);
  EXPECT_EQ(copy(second.logits()), fresh(model, said));
  said = prompt;
  said.push_back(5);
  EXPECT_EQ(copy(first.logits()), fresh(model, said));
}

TEST(Engine, PromptsThatArriveTogetherAreEvaluatedOnceUpToWhereTheyDiffer) {
  const auto model = made_of({});
  const auto engine = Engine::create(model, {.threads = 2});
  constexpr int64_t kShared = kChunkRows * 4, kSessions = 8;
  std::vector<std::function<void()>> jobs;
  std::vector<Sequence> sequences;
  std::vector<std::vector<Token>> prompts;
  for (size_t i = 0; i < kSessions; ++i) {
    prompts.push_back(prompt_of(kShared, 1));
    const std::vector<Token> own = prompt_of(40, 100 + i);
    prompts[i].insert(prompts[i].end(), own.begin(), own.end());
    sequences.emplace_back(engine, 1 << 20);
  }
  for (size_t i = 0; i < kSessions; ++i) jobs.emplace_back([&, i] { sequences[i].sync(prompts[i]); });
  run_all(std::move(jobs));
  EXPECT_EQ(engine->stats().rows, kShared + kSessions * 40);
  for (size_t i = 0; i < kSessions; ++i) EXPECT_EQ(copy(sequences[i].logits()), fresh(model, prompts[i])) << i;
}

// Blocks of 8. A quarter of the memory keeps pages of what has ended.
TEST(Engine, WhatASequenceHeldIsFoundByTheNextOnesThatBeginAlike) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto engine = Engine::create(model, {.threads = 2, .cache_bytes = 200 * page});
  std::vector<Token> prompts[] = {prompt_of(100, 1), prompt_of(100, 2), prompt_of(60, 1)};
  std::copy_n(prompts[0].begin(), 75, prompts[1].begin());
  Sequence(engine, 200).sync(prompts[0]);
  {
    Sequence dense(engine, 200, Attention::dense);
    EXPECT_EQ(dense.sync(prompts[0]), 0);
  }
  for (const auto& [prompt, reused] : {std::pair{prompts[1], 72}, {prompts[2], 56}, {prompts[0], 96}}) {
    Sequence next(engine, 200);
    EXPECT_EQ(next.sync(prompt), reused);
    EXPECT_EQ(copy(next.logits()), fresh(model, prompt));
    next.append(3);  // writes where others read
  }
  EXPECT_EQ(engine->stats().kept_tokens, 72 + 56 + 96);
  EXPECT_EQ(engine->stats().evictions, 0);
  const auto unlimited = Engine::create(model, {.threads = 1});
  Sequence(unlimited, 200).sync(prompts[0]);
  EXPECT_EQ(Sequence(unlimited, 200).sync(prompts[0]), 0) << "without a budget nothing is kept";
}

TEST(Engine, WhatIsKeptGivesItsMemoryBeforeWhatIsIdle) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto engine = Engine::create(model, {.threads = 1, .cache_bytes = 20 * page});
  Sequence(engine, 200).sync(prompt_of(40, 1));
  Sequence idle(engine, 200), large(engine, 200), again(engine, 200);
  idle.sync(prompt_of(40, 2));
  std::this_thread::sleep_for(std::chrono::milliseconds(150));  // `idle` may be evicted from then on
  large.sync(prompt_of(120, 3));                                // 15 pages: all that is not `idle`'s
  EXPECT_EQ(engine->stats().evictions, 0);
  large.truncate(0);
  EXPECT_EQ(again.sync(prompt_of(40, 1)), 0);
  EXPECT_EQ(copy(large.tokens()).size(), 0U);
}

TEST(Engine, EvictionTakesOnlyWhatGivesMemoryBack) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const test::TempDir dir;
  const std::vector<Token> one = prompt_of(40, 1), two = prompt_of(40, 2), three = prompt_of(80, 3);
  {
    kernels::Exec exec(1);
    Sequence made(model, exec, 100);
    made.sync(one);
    made.save(dir / "one.kv", 40);
  }
  const auto engine = Engine::create(model, {.threads = 1, .cache_bytes = 12 * page});
  Sequence mapped(engine, 100), parent(engine, 100), large(engine, 100);
  mapped.restore(dir / "one.kv");
  parent.sync(two);
  Sequence fork = parent.fork();
  large.sync(three);  // 10 pages: parent and fork share 5 and give them back only together
  EXPECT_EQ(engine->stats().evictions, 2);
  large.truncate(0);
  EXPECT_EQ(mapped.sync(one), 39) << "its pages take no memory of the engine's";
  EXPECT_EQ(parent.sync(two), 0);
  EXPECT_EQ(copy(mapped.logits()), fresh(model, one));
  EXPECT_EQ(copy(parent.logits()), fresh(model, two));
}

TEST(Engine, APartOfASequenceStaysWhenTakingItWouldGiveNothing) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const test::TempDir dir;
  const std::vector<Token> prompt = prompt_of(60, 1);
  {
    kernels::Exec exec(1);
    Sequence made(model, exec, 100);
    made.sync(prompt);
    made.save(dir / "s.kv", 40);
  }
  const auto engine = Engine::create(model, {.threads = 1, .cache_bytes = 10 * page});
  Sequence first(engine, 100), large(engine, 100);
  first.restore(dir / "s.kv");
  first.sync(prompt);
  large.sync(prompt_of(80, 3));
  EXPECT_EQ(engine->stats().evictions, 1);
  large.truncate(0);
  const int64_t rows = engine->stats().rows;
  EXPECT_EQ(first.sync(prompt), 40);
  EXPECT_EQ(engine->stats().rows - rows, 20);
  EXPECT_EQ(copy(first.logits()), fresh(model, prompt));
}

// Two hold the page in which they part, and a copy of it would be one page more than there are.
TEST(Engine, APartOfASharedPageIsEvaluatedAgainWhereACopyHasNoPlace) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto engine = Engine::create(model, {.threads = 1, .cache_bytes = 6 * page});
  std::vector<Token> one = prompt_of(44, 1), two = one;
  two.resize(43);
  two.push_back(one[43] == 5 ? 6 : 5);
  two.resize(48, 7);
  Sequence first(engine, 48), second(engine, 48);
  first.sync(one);
  EXPECT_EQ(second.sync(two), 40);
  EXPECT_EQ(copy(second.logits()), fresh(model, two));
  EXPECT_EQ(first.sync(one), 40) << "its page went, or is the other's";
  EXPECT_EQ(copy(first.logits()), fresh(model, one));
}

TEST(Engine, WhatIsMadeUpIsNobodyElses) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto engine = Engine::create(model, {.threads = 1, .cache_bytes = 100 * page});
  std::vector<Token> prompt;
  {
    Sequence made_up(engine, 100);
    made_up.make_up(64);
    prompt = copy(made_up.tokens());
    const Sequence fork = made_up.fork();
    Sequence real(engine, 100);
    EXPECT_EQ(real.sync(prompt), 0);
    EXPECT_EQ(copy(real.logits()), fresh(model, prompt));
    real.truncate(0);
  }
  EXPECT_EQ(Sequence(engine, 100).sync(prompt), 0) << "nor are they kept";
}

TEST(Engine, ASequenceThatCanNeverFitFailsAndTheOthersGoOn) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto engine = Engine::create(model, {.threads = 2, .cache_bytes = 10 * page});
  const std::vector<Token> prompt = prompt_of(60, 1);
  std::vector<float> logits;
  int refused = 0;
  run_all({[&] {
             Sequence sequence(engine, 100);
             for (const Token token : prompt) sequence.append(token);
             logits = copy(sequence.logits());
           },
           [&] {
             Sequence sequence(engine, 100);
             for (int i = 0; i < 20; ++i) {
               const std::string message = message_of([&] { sequence.sync(prompt_of(81)); });
               refused += message.starts_with("KV cache: want at most ") ? 1 : 0;
             }
             EXPECT_TRUE(sequence.tokens().empty());
           }});
  EXPECT_EQ(logits, fresh(model, prompt));
  EXPECT_EQ(refused, 20);
}

TEST(Engine, ALongPromptKeepsADecoderWaitingForOneChunkAtMost) {
  const auto model = made_of({});
  const auto engine = Engine::create(model, {.threads = 2});
  const std::vector<Token> prompt = prompt_of(kChunkRows * 20, 1);
  std::atomic<bool> is_evaluated = false;
  int64_t tokens = 0;
  Sequence decoder(engine, 1 << 20);
  decoder.append(1);
  run_all({[&] {
             Sequence sequence(engine, std::ssize(prompt));
             sequence.sync(prompt);
             is_evaluated = true;
           },
           [&] {
             for (; !is_evaluated; ++tokens) decoder.append(static_cast<Token>(tokens % 96));
           }});
  EXPECT_GT(tokens, 10);
  EXPECT_LE(engine->stats().longest_wait, 2);  // the pass that ran already, and the token's own
}

// Nine agents: one with a long prompt, two that keep coming with short ones, six that decode, some with guesses. How
// long anybody waits depends on neither the long prompt's length nor how long the others go on.
TEST(Engine, NobodyStarvesBesideALongPrompt) {
  const auto model = made_of({});
  const auto engine = Engine::create(model, {.threads = 2});
  const std::vector<Token> prompt = prompt_of(kChunkRows * 12, 1);
  std::atomic<bool> is_over = false;
  std::atomic<int64_t> served = 0;
  std::vector<std::function<void()>> agents;
  agents.push_back([&] {
    Sequence sequence(engine, std::ssize(prompt));
    sequence.sync(prompt);
    is_over = true;
  });
  for (uint64_t i = 0; i < 6; ++i) {
    agents.push_back([&, i] {
      Sequence decoder(engine, 1 << 20);
      while (!is_over) decoder.extend(prompt_of(1 + static_cast<int64_t>(i % 3) * 8, i + 2));
    });
  }
  for (uint64_t i = 0; i < 2; ++i) {
    agents.push_back([&, i] {
      for (uint64_t n = 0; !is_over; ++n, ++served) Sequence(engine, 64).sync(prompt_of(40, 100 + 2 * n + i));
    });
  }
  run_all(std::move(agents));
  EXPECT_GT(served, 5);
  // The pass that ran already; then, of three prompts that share at least 64 rows, one may be passed over.
  EXPECT_LE(engine->stats().longest_wait, 3);
}

TEST(Engine, AStopLeavesWhatWasEvaluated) {
  const auto model = made_of({});
  const auto engine = Engine::create(model, {.threads = 2});
  const std::vector<Token> prompt = prompt_of(kChunkRows * 40, 3);
  Sequence sequence(engine, std::ssize(prompt));
  std::stop_source stop;
  {
    const std::jthread watcher([&] {
      while (engine->stats().passes < 2) std::this_thread::yield();
      stop.request_stop();
    });
    EXPECT_EQ(sequence.sync(prompt, stop.get_token()), 0);
  }
  const int64_t held = std::ssize(sequence.tokens());
  ASSERT_LT(held, std::ssize(prompt));
  EXPECT_GE(held, 2 * kChunkRows);
  EXPECT_TRUE(std::equal(sequence.tokens().begin(), sequence.tokens().end(), prompt.begin()));
  EXPECT_TRUE(sequence.logits().empty());
  const std::vector<Token> longer(prompt.begin(), prompt.begin() + held + 10);
  EXPECT_EQ(sequence.sync(longer), held);
  EXPECT_EQ(copy(sequence.logits()), fresh(model, longer));
  // Stopped before anything is done, it is as it was.
  const int64_t passes = engine->stats().passes;
  EXPECT_FALSE(sequence.append(1, stop.get_token()));
  EXPECT_EQ(copy(sequence.tokens()), longer);
  EXPECT_EQ(copy(sequence.logits()), fresh(model, longer));
  EXPECT_EQ(engine->stats().passes, passes);
}

TEST(Engine, AStopReachesWhoWaitsForMemory) {
  const auto model = made_of({});
  const int64_t page = KvCache(model->config()).page_bytes();
  const auto engine = Engine::create(model, {.threads = 1, .cache_bytes = 10 * page});
  std::stop_source stop;
  std::atomic<bool> is_stopped = false;
  Sequence holder(engine, 80);
  holder.sync(prompt_of(70));
  run_all({[&] {
             Sequence sequence(engine, 80);
             while (sequence.tokens().empty() && !stop.stop_requested()) sequence.sync(prompt_of(40), stop.get_token());
             is_stopped = true;
           },
           [&] {
             for (int i = 0; i < 200; ++i) {  // in use all the time
               holder.append(1);
               holder.truncate(70);
               if (i == 100) stop.request_stop();
             }
             while (!is_stopped) std::this_thread::yield();
           }});
}

}  // namespace
}  // namespace corvid::model
