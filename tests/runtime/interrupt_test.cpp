#include "runtime/interrupt.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include "runtime/deadline.h"
#include "tests/support/child.h"
#include "tests/support/test_tools.h"

namespace corvid::runtime {
namespace {

// A child that says "r" when it is ready and "s" when it was asked to stop; then it ends, or not.
class InterruptTest : public ::testing::TestWithParam<int> {
 protected:
  InterruptTest() { EXPECT_EQ(pipe(ends_), 0); }
  ~InterruptTest() override {
    close(ends_[0]);
    close(ends_[1]);
  }
  int child_body(bool is_stubborn) {
    {
      const Interrupt interrupt;
      say('r');
      test::wait_for(interrupt.token());
      say('s');
      while (is_stubborn) pause();  // each signal wakes it
    }
    return 7;
  }
  void say(char word) { EXPECT_EQ(write(ends_[1], &word, 1), 1); }
  char hear() {
    char word = 0;
    return read(ends_[0], &word, 1) == 1 ? word : '?';
  }

 private:
  int ends_[2];
};

TEST_P(InterruptTest, TheFirstSignalRequestsAStop) {
  test::Child child([this] { return child_body(false); });
  EXPECT_EQ(hear(), 'r');
  child.kill(GetParam());
  EXPECT_EQ(hear(), 's');
  EXPECT_EQ(child.wait(), 7);
}

TEST_P(InterruptTest, AWriteThatWaitsForItsReaderIsNotBrokenOff) {
  test::Child child([this] {
    int full[2];
    if (pipe(full) != 0) return 1;
    std::FILE* const out = fdopen(full[1], "w");
    const Interrupt interrupt;
    std::jthread reader([&] {
      test::wait_for(interrupt.token());
      char bytes[65536];
      while (read(full[0], bytes, sizeof bytes) > 0) {
      }
    });
    say('r');
    const std::string text(1'000'000, 'x');  // more than a pipe holds
    const bool is_whole = std::fwrite(text.data(), 1, text.size(), out) == text.size();
    return std::fclose(out) == 0 && is_whole ? 7 : 1;
  });
  EXPECT_EQ(hear(), 'r');
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // sooner, and the write has not begun: no harm
  child.kill(GetParam());
  EXPECT_EQ(child.wait(), 7);
}

TEST_P(InterruptTest, TheSecondEndsTheProgramWithStatus130) {
  test::Child child([this] { return child_body(true); });
  EXPECT_EQ(hear(), 'r');
  child.kill(GetParam());
  EXPECT_EQ(hear(), 's');
  std::this_thread::sleep_for(std::chrono::milliseconds(600));  // what comes sooner is the same request
  child.kill(GetParam());
  EXPECT_EQ(child.wait(), 130);
}

TEST_P(InterruptTest, SignalsAtTheSameMomentAreOneRequest) {
  test::Child child([this] {
    const Interrupt interrupt;
    raise(GetParam());
    raise(GetParam() == SIGINT ? SIGTERM : SIGINT);
    test::wait_for(interrupt.token());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return 7;
  });
  EXPECT_EQ(child.wait(), 7);
}

INSTANTIATE_TEST_SUITE_P(Signals, InterruptTest, ::testing::Values(SIGINT, SIGTERM));

TEST(InterruptScopeTest, AfterwardsASignalDoesWhatItDidBefore) {
  test::Child child([] {
    { const Interrupt interrupt; }
    raise(SIGINT);
    return 7;
  });
  EXPECT_EQ(child.wait(), 128 + SIGINT);
}

TEST(DeadlineTest, StopsForTheClockOrForTheCaller) {
  const Deadline clock(std::chrono::milliseconds(5), {});
  test::wait_for(clock.token());
  EXPECT_TRUE(clock.is_over());

  std::stop_source caller;
  const Deadline never(std::chrono::milliseconds::max(), caller.get_token());
  EXPECT_FALSE(never.token().stop_requested());
  caller.request_stop();
  EXPECT_TRUE(never.token().stop_requested());
  EXPECT_FALSE(never.is_over());

  const Deadline stopped(std::chrono::hours(1), caller.get_token());
  EXPECT_TRUE(stopped.token().stop_requested()) << "a request made before counts";
}

}  // namespace
}  // namespace corvid::runtime
