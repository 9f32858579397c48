// Runs as operations of a host's Asio: on its executor, in its coroutines, with its cancellation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

// clang-format off
#include <utility>  // which Boost 1.74 forgets
// clang-format on
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <corvid/asio.hpp>
#include <corvid/corvid.hpp>

#include "library_test.h"

namespace {

namespace asio = boost::asio;
using corvid_test::kCount;

class AsioTest : public corvid_test::LibraryTest {};

TEST_F(AsioTest, CoroutinesOfOneThreadRunTheirAgentsAtTheSameTime) {
  asio::io_context io;
  const auto loop = std::this_thread::get_id();
  std::vector<std::string> answers;
  int ticks = 0, events = 0;
  const auto work = [&](corvid::Session session) -> asio::awaitable<void> {
    corvid::RunOptions options;
    options.on_event = [&](const corvid::Event&) {
      EXPECT_TRUE(std::this_thread::get_id() == loop);
      ++events;
    };
    const corvid::Result result =
        co_await corvid::async_run(session, kCount, options, io.get_executor(), asio::use_awaitable);
    EXPECT_TRUE(std::this_thread::get_id() == loop);
    answers.push_back(result.answer);
    // The session is free again.
    answers.push_back(
        (co_await corvid::async_run(session, kCount, options, io.get_executor(), asio::use_awaitable)).answer);
  };
  asio::co_spawn(io, work(start()), asio::detached);
  asio::co_spawn(io, work(start()), asio::detached);
  asio::steady_timer timer(io);
  std::function<void(boost::system::error_code)> tick = [&](boost::system::error_code) {
    ++ticks;
    if (answers.size() == 4) return;
    timer.expires_after(std::chrono::milliseconds(5));
    timer.async_wait(tick);
  };
  tick({});
  io.run();
  ASSERT_EQ(answers.size(), 4u);
  EXPECT_THAT(answers, testing::Each(testing::HasSubstr("2")));
  EXPECT_GT(ticks, 1) << "the loop stood still";
  EXPECT_GT(events, 20);
}

TEST_F(AsioTest, TheLoopHasWorkUntilTheRunIsOver) {
  asio::io_context io;
  corvid::Session session = start();
  std::string answer;
  corvid::async_run(session, kCount, {}, io.get_executor(), [&](std::exception_ptr failure, corvid::Result result) {
    EXPECT_EQ(failure, nullptr);
    answer = result.answer;
  });
  io.run();  // returns only when there is nothing more to do
  EXPECT_EQ(answer, "2 .txt files.");
}

TEST_F(AsioTest, APoolOfTheHostsTakesHandlersAndEvents) {
  asio::thread_pool pool(3);
  std::vector<std::future<corvid::Result>> results;
  std::vector<corvid::Session> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(start());
  for (corvid::Session& session : sessions)
    results.push_back(corvid::async_run(session, kCount, {}, pool.get_executor(), asio::use_future));
  for (auto& result : results) EXPECT_EQ(result.get().answer, "2 .txt files.");
  pool.join();
}

TEST_F(AsioTest, AStopEndsTheOperationAndAFailureReachesTheHandler) {
  asio::io_context io;
  corvid::Session session = start();
  std::stop_source stop;
  corvid::RunOptions options;
  options.stop = stop.get_token();
  options.on_event = [&](const corvid::Event& event) {
    if (std::holds_alternative<corvid::ToolCallEvent>(event)) stop.request_stop();
  };
  corvid::Status status{};
  bool is_refused = false;
  corvid::async_run(session, "run the command sleep 30", options, io.get_executor(),
                    [&](std::exception_ptr, corvid::Result result) { status = result.status; });
  corvid::async_run(session, kCount, {}, io.get_executor(), [&](std::exception_ptr failure, corvid::Result) {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const std::logic_error&) {
      is_refused = true;  // the session was in use
    }
  });
  io.run();
  EXPECT_EQ(status, corvid::Status::interrupted);
  EXPECT_TRUE(is_refused);
}

// Asio destroys what it can no longer call: the run ends, its thread with it, and the handler with what it holds.
TEST_F(AsioTest, AContextThatEndsFirstEndsTheRun) {
  corvid::Session session = start();
  auto held = std::make_shared<int>(0);
  std::string id = session.id();
  {
    asio::io_context io;
    corvid::RunOptions options;
    options.on_event = [&io, held](const corvid::Event& event) {
      if (std::holds_alternative<corvid::ToolCallEvent>(event)) io.stop();
    };
    corvid::async_run(session, "run the command sleep 30", options, io.get_executor(),
                      [held](std::exception_ptr, corvid::Result) { FAIL() << "the loop has ended"; });
    io.run();  // until the call
  }
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(store_->list()[0].status, "interrupted");
  EXPECT_EQ(session.run(kCount).answer, "2 .txt files.");  // and is free
}

// The handler has a context of its own, and either may end first, with calls for the other one still in its queue.
TEST_F(AsioTest, OfTwoContextsTheFirstThatEndsEndsTheRun) {
  for (const bool handlers_first : {false, true}) {
    SCOPED_TRACE(handlers_first ? "the handler's ends first" : "that of the events ends first");
    corvid::Session session = start();
    auto held = std::make_shared<int>(0);
    std::optional<asio::io_context> of_events(std::in_place), of_handler(std::in_place);
    corvid::RunOptions options;
    options.on_event = [&](const corvid::Event& event) {
      if (std::holds_alternative<corvid::ToolCallEvent>(event)) of_events->stop();
    };
    corvid::async_run(session, "run the command sleep 30", options, asio::make_strand(*of_events),
                      asio::bind_executor(*of_handler, [held](std::exception_ptr, corvid::Result) {
                        FAIL() << "one of its contexts has ended";
                      }));
    of_events->run();  // until the call
    (handlers_first ? of_handler : of_events).reset();
    EXPECT_EQ(held.use_count(), 1);
    asio::io_context& other = handlers_first ? *of_events : *of_handler;
    other.restart();
    other.run();  // and has nothing to wait for
    EXPECT_EQ(session.run(kCount).answer, "2 .txt files.");
  }
}

TEST_F(AsioTest, EventsOfABlockingRunAreHandedToAnExecutor) {
  asio::io_context io;
  corvid::Session session = start();
  int events = 0;
  session.run(kCount, {.on_event = [&](const corvid::Event&) { ++events; },
                       .dispatch = corvid::dispatch_on(io.get_executor())});
  EXPECT_EQ(events, 0);
  io.run();
  EXPECT_GT(events, 6);
}

}  // namespace
