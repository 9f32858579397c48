#include "kernels/exec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <numeric>
#include <vector>

namespace corvid::test {
namespace {

using kernels::Buffer;
using kernels::Exec;
using kernels::Isa;
using kernels::Pool;

TEST(PoolTest, RunsEveryTaskExactlyOnce) {
  for (const int threads : {1, 2, 5}) {
    Pool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t n = 0; n < 300; ++n) {
      std::vector<std::atomic<int>> count(static_cast<size_t>(n));
      std::atomic<bool> worker_in_range = true;
      pool.run(n, [&](int64_t task, int worker) {
        ++count[static_cast<size_t>(task)];
        if (worker < 0 || worker >= threads) worker_in_range = false;
      });
      for (const std::atomic<int>& c : count) ASSERT_EQ(c.load(), 1);
      ASSERT_TRUE(worker_in_range);
    }
  }
}

// Many short runs in a row: a worker that comes late to one of them must not touch the next.
TEST(PoolTest, SurvivesManyShortRuns) {
  Pool pool(4);
  int64_t total = 0;
  std::vector<int64_t> found(8);
  for (int64_t run = 0; run < 20'000; ++run) {
    const int64_t n = run % 8 + 1;
    pool.run(n, [&found, run](int64_t task, int) { found[static_cast<size_t>(task)] = run * 10 + task; });
    for (int64_t task = 0; task < n; ++task) ASSERT_EQ(found[static_cast<size_t>(task)], run * 10 + task);
    total += n;
  }
  EXPECT_EQ(total, 90'000);
}

// What lies side by side in memory is read in one stream by a thread.
TEST(PoolTest, GivesEachThreadNeighbouringTasksInOrder) {
  constexpr int64_t kTasks = 101;
  constexpr int kThreads = 3;
  Pool pool(kThreads);
  for (int run = 0; run < 100; ++run) {
    std::vector<std::vector<int64_t>> of_worker(kThreads);
    pool.run(kTasks, [&](int64_t task, int worker) { of_worker[static_cast<size_t>(worker)].push_back(task); });
    for (int64_t worker = 0; worker < kThreads; ++worker) {
      const int64_t first = worker * kTasks / kThreads, end = (worker + 1) * kTasks / kThreads;
      const std::vector<int64_t>& all = of_worker[static_cast<size_t>(worker)];
      const auto others = std::ranges::find_if(all, [&](int64_t task) { return task < first || task >= end; });
      EXPECT_TRUE(std::ranges::is_sorted(all.begin(), others));  // its own share before it helps
      EXPECT_TRUE(std::ranges::all_of(others, all.end(), [&](int64_t task) { return task < first || task >= end; }));
    }
  }
}

// The first to run a task of its own share, or of another's, waits until all other tasks are done.
TEST(PoolTest, OthersTakeOverFromAThreadThatIsHeldUp) {
  constexpr int kTasks = 64;
  Pool pool(2);
  for (const bool helps : {false, true}) {
    for (int run = 0; run < 100; ++run) {
      std::atomic<int> others = 0;
      std::atomic<bool> is_held = false;
      pool.run(kTasks, [&](int64_t task, int worker) {
        if ((worker != task / (kTasks / 2)) == helps && !is_held.exchange(true))
          while (others < kTasks - 1) std::this_thread::yield();
        else
          ++others;
      });
      EXPECT_EQ(others, kTasks - (is_held ? 1 : 0));
    }
  }
}

TEST(PoolTest, WakesAfterSleeping) {
  Pool pool(3);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int64_t> sum = 0;
    pool.run(100, [&](int64_t task, int) { sum += task; });
    EXPECT_EQ(sum.load(), 4950);
  }
}

TEST(PoolTest, RefusesAnAbsurdNumberOfThreads) {
  EXPECT_THROW(Pool(-1), std::invalid_argument);
  EXPECT_THROW(Pool(1'000'000), std::invalid_argument);
}

TEST(PoolTest, GivesEachWorkerItsOwnAlignedScratch) {
  Pool pool(3);
  const auto scratch = pool.scratch<char>(100);
  for (int worker = 0; worker < 3; ++worker) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch[worker]) % 64, 0U);
    if (worker > 0) {
      EXPECT_GE(scratch[worker] - scratch[worker - 1], 100);
    }
  }
  EXPECT_THROW(pool.workspace<float>(-1), std::bad_alloc);
  EXPECT_THROW(pool.workspace<float>(INT64_MAX), std::bad_alloc);
}

TEST(BufferTest, IsAlignedAndMoves) {
  Buffer a(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.as<float>()) % 64, 0U);
  a.as<float>()[24] = 5;
  Buffer b = std::move(a);
  EXPECT_EQ(b.as<float>()[24], 5);
  EXPECT_EQ(b.bytes(), 100);
  a = std::move(b);
  EXPECT_EQ(a.as<float>()[24], 5);
  EXPECT_EQ(Buffer().bytes(), 0);
  EXPECT_THROW(Buffer(-1), std::invalid_argument);
}

class IsaVariable : public testing::Test {
 protected:
  void TearDown() override { unsetenv("CORVID_ISA"); }
};

TEST_F(IsaVariable, ForcesATier) {
  setenv("CORVID_ISA", "scalar", 1);
  EXPECT_EQ(kernels::best_isa(), Isa::scalar);
  EXPECT_EQ(Exec(1).isa(), Isa::scalar);
  setenv("CORVID_ISA", "", 1);
  EXPECT_EQ(kernels::best_isa(), kernels::available_isas().back());
}

TEST_F(IsaVariable, NamesATierThatDoesNotExist) {
  setenv("CORVID_ISA", "avx9", 1);
  try {
    Exec exec(1);
    FAIL() << "accepted avx9";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("CORVID_ISA: want one of scalar"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("\"avx9\""), std::string::npos) << error.what();
  }
}

TEST(ExecTest, WithoutAGpuSaysSo) {
  if (kernels::cuda::available()) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_THROW(Exec(kernels::Device::cuda), std::runtime_error);
}

}  // namespace
}  // namespace corvid::test
