// Memory that fails at every possible moment: a call that could not be done throws, changes nothing, and the next one
// works. The operator new of this program can be told to fail
// (never inlined: the compiler would say that free() takes what new gave).
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <optional>

#include "model/kv_cache.h"
#include "tests/support/sequences.h"

namespace {

thread_local int64_t successes_left = INT64_MAX;  // of this thread's allocations

}  // namespace

[[gnu::noinline]] void* operator new(size_t size) {
  if (successes_left-- <= 0) throw std::bad_alloc();
  if (void* const memory = std::malloc(size != 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t size, std::align_val_t alignment) {
  if (successes_left-- <= 0) throw std::bad_alloc();
  const auto align = static_cast<size_t>(alignment);
  if (void* const memory = std::aligned_alloc(align, (size + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return successes_left-- <= 0 ? nullptr : std::malloc(size != 0 ? size : 1);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace corvid::model {
namespace {

using test::copy;

// Runs `work` with ever more allocations that succeed until it succeeds; returns how often it failed.
template <class Work, class Check>
int failures(Work&& work, Check&& check) {
  for (int count = 0;; ++count) {
    successes_left = count;
    try {
      work();
      successes_left = INT64_MAX;
      return count;
    } catch (const std::bad_alloc&) {
      successes_left = INT64_MAX;
      check();
    }
  }
}

TEST(ShortOfMemory, ACallThatFailsChangesNothingAndTheNextOneWorks) {
  const auto model = test::made_of({});
  const auto engine = Engine::create(model, {.threads = 1, .cache_bytes = 60 * KvCache(model->config()).page_bytes()});
  const std::vector<Token> prompt = test::prompt_of(60);
  Sequence(engine, 200).sync(test::prompt_of(30));  // begins alike, and is kept
  Sequence sequence(engine, 200);
  const int syncs =
      failures([&] { sequence.sync(prompt); },
               [&] { EXPECT_EQ(copy(sequence.tokens()), copy(std::span(prompt).first(sequence.tokens().size()))); });
  EXPECT_GT(syncs, 10);
  EXPECT_EQ(copy(sequence.logits()), test::fresh(model, prompt));

  std::vector<Token> longer = prompt;
  longer.push_back(3);
  const int appends = failures([&] { sequence.append(3); }, [&] { EXPECT_EQ(copy(sequence.tokens()), prompt); });
  EXPECT_GT(appends, 3);
  EXPECT_EQ(copy(sequence.logits()), test::fresh(model, longer));

  std::optional<Sequence> fork;
  const int forks = failures([&] { fork.emplace(sequence.fork()); }, [&] { EXPECT_FALSE(fork); });
  EXPECT_GT(forks, 3);
  const std::vector<Token> more = test::prompt_of(12, 9);
  failures([&] { fork->extend(more); }, [&] { EXPECT_EQ(copy(fork->tokens()), longer); });
  longer.insert(longer.end(), more.begin(), more.end());
  EXPECT_EQ(copy(fork->logits()), test::fresh(model, longer));
}

}  // namespace
}  // namespace corvid::model
