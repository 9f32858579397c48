#include "runtime/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>

#include "tests/support/scripted_chat.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_tools.h"

namespace corvid::runtime {
namespace {

using model::Message;
using model::Role;
using test::FunctionTool;
using test::ok;
using test::ScriptedChat;
using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tools::Status;

// A stored session whose user has just asked something, and a toolbox with `echo`, which gives its text back.
class LoopTest : public ::testing::Test {
 protected:
  LoopTest() {
    add("echo", [this](const std::string& text, std::stop_token) {
      echoed.push_back(text);
      return ok(text);
    });
    log.append(user_entry("do it"));
  }

  void add(std::string name, FunctionTool::Function function) {
    toolbox.add(std::make_unique<FunctionTool>(std::move(name), std::move(function)));
  }
  Outcome run() { return runtime::run(log, chat, toolbox, limits, hooks, stop.get_token()); }

  // The transcript after the user's message, a line for each: "assistant: text [name args]", "tool call_1: text".
  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    for (const Message& message : log.messages().subspan(1)) {
      std::string line = message.role == Role::tool ? "tool" : "assistant";
      if (!message.call_id.empty()) line += " " + message.call_id;
      line += ":";
      if (!message.text.empty()) line += " " + message.text;
      for (const model::Call& call : message.calls) line += " [" + call.name + " " + call.args + "]";
      lines.push_back(line);
    }
    return lines;
  }
  Status stored_status(size_t seq) { return store.load(log.session_id()).at(seq).result.value().status; }

  TempDir dir;
  Store store{dir / "corvid.db"};
  tools::Toolbox toolbox{tools::Sandbox(dir.path(), {})};
  Transcript log{store, store.create({}), "model", {}};
  ScriptedChat chat;
  Limits limits;
  Hooks hooks;
  std::stop_source stop;
  std::vector<std::string> echoed;
};

TEST_F(LoopTest, EndsWithTheAnswer) {
  chat.says("There are 3.");
  const Outcome outcome = run();
  EXPECT_EQ(outcome.end, End::answered);
  EXPECT_EQ(outcome.reason, "");
  EXPECT_THAT(lines(), ElementsAre("assistant: There are 3."));
}

TEST_F(LoopTest, RunsCallsInOrderAndShowsTheirResultsToTheModel) {
  chat.calls({{"echo", R"({"text":"a"})"}, {"echo", R"({"text":"b"})"}}).says("Done.");
  EXPECT_EQ(run().end, End::answered);
  EXPECT_THAT(lines(), ElementsAre(R"(assistant: [echo {"text":"a"}] [echo {"text":"b"}])", "tool call_1: a",
                                   "tool call_2: b", "assistant: Done."));
  ASSERT_EQ(chat.seen.size(), 2u);
  EXPECT_EQ(chat.seen[1].size(), 4u) << "the question, the calls and both results";
}

TEST_F(LoopTest, StoresEachStepBeforeItIsActedOn) {
  const auto stored = [this] {  // as another process sees it
    const std::vector<Entry> entries = Store(dir / "corvid.db").load(log.session_id());
    return std::to_string(entries.size()) + " " + entries.back().message.text;
  };
  std::vector<std::string> seen;
  add("look", [&](const std::string&, std::stop_token) {
    seen.push_back(stored());
    return ok("the result");
  });
  chat.answers([&](auto, auto) {
    seen.push_back(stored());
    Reply reply;
    reply.message.text = "I look";
    reply.message.calls = {{"call_1", "look", R"({"text":""})"}};
    return reply;
  });
  chat.answers([&](auto, auto) {
    seen.push_back(stored());
    Reply reply;
    reply.message.text = "Done.";
    return reply;
  });
  EXPECT_EQ(run().end, End::answered);
  EXPECT_THAT(seen, ElementsAre("1 do it", "2 I look", "3 the result"));
}

TEST_F(LoopTest, AToolThatFailsAndACallThatIsWrongAreResultsLikeOthers) {
  add("fail", [](const std::string&, std::stop_token) -> tools::ToolResult { throw std::runtime_error("on fire"); });
  chat.calls({{"fail", R"({"text":"x"})"}, {"nosuch", "{}"}, {"echo", R"({"txet":"x"})"}, {"echo", "{"}})
      .says("Sorry.");
  EXPECT_EQ(run().end, End::answered);
  ASSERT_EQ(lines().size(), 6u);
  EXPECT_THAT(lines()[1], HasSubstr("on fire"));
  EXPECT_THAT(lines()[2], HasSubstr("no tool named nosuch"));
  EXPECT_THAT(lines()[3], HasSubstr("txet"));
  EXPECT_THAT(lines()[4], HasSubstr("[error: "));
  EXPECT_EQ(stored_status(2), Status::failed);
}

TEST_F(LoopTest, TheTurnLimitEndsTheRunAfterTheLastTurnsCalls) {
  limits.turns = 2;
  chat.calls({{"echo", R"({"text":"a"})"}}).calls({{"echo", R"({"text":"b"})"}});
  const Outcome outcome = run();
  EXPECT_EQ(outcome.end, End::turn_limit);
  EXPECT_EQ(outcome.reason, "the limit of 2 turns was reached");
  EXPECT_THAT(echoed, ElementsAre("a", "b"));
  EXPECT_EQ(lines().back(), "tool call_2: b");
}

TEST_F(LoopTest, TheTokenLimitBoundsEachReplyAndEndsTheRun) {
  limits.tokens = 25;
  Reply cut;
  cut.message.text = "There are";
  cut.is_cut = true;
  cut.usage.completion_tokens = 5;
  chat.calls({{"echo", R"({"text":"a"})"}}).calls({{"echo", R"({"text":"b"})"}}).gives(cut);  // 10, 10 and 5 tokens
  const Outcome outcome = run();
  EXPECT_EQ(outcome.end, End::token_limit);
  EXPECT_EQ(outcome.reason, "the limit of 25 tokens was reached");
  EXPECT_THAT(chat.max_tokens_seen, ElementsAre(25, 15, 5));
  EXPECT_EQ(lines().back(), "assistant: There are");
}

TEST_F(LoopTest, CallsOfACutReplyAreNotRun) {
  Reply cut;
  cut.message.calls = {{"call_1", "echo", R"({"text":"a"})"}};
  cut.is_cut = true;
  cut.usage.completion_tokens = limits.tokens;
  chat.gives(cut);
  EXPECT_EQ(run().end, End::token_limit);
  EXPECT_THAT(lines(), ElementsAre(R"(assistant: [echo {"text":"a"}])",
                                   "tool call_1: [error: not run: the limit of 8192 tokens was reached]"));
  EXPECT_TRUE(echoed.empty());
}

TEST_F(LoopTest, TheCallLimitLeavesNoCallWithoutAResult) {
  limits.calls = 2;
  chat.calls({{"echo", R"({"text":"a"})"}, {"echo", R"({"text":"b"})"}, {"echo", R"({"text":"c"})"}});
  const Outcome outcome = run();
  EXPECT_EQ(outcome.end, End::call_limit);
  EXPECT_THAT(echoed, ElementsAre("a", "b"));
  EXPECT_EQ(lines().back(), "tool call_3: [error: not run: the limit of 2 tool calls was reached]");
  EXPECT_EQ(stored_status(4), Status::cancelled);
}

TEST_F(LoopTest, AsManyCallsAsTheLimitAllowsMayStillBeAnswered) {
  limits.calls = 1;
  chat.calls({{"echo", R"({"text":"a"})"}}).says("a it is");
  EXPECT_EQ(run().end, End::answered);
}

TEST_F(LoopTest, TheWallLimitInterruptsATool) {
  limits.wall = std::chrono::milliseconds(30);
  add("hang", [](const std::string&, std::stop_token token) {
    test::wait_for(token);
    return tools::ToolResult{Status::cancelled, "[cancelled]", tools::Json::object()};
  });
  chat.calls({{"hang", R"({"text":""})"}, {"echo", R"({"text":"a"})"}});
  const Outcome outcome = run();
  EXPECT_EQ(outcome.end, End::time_limit);
  EXPECT_EQ(outcome.reason, "the limit of 30 ms was reached");
  EXPECT_THAT(lines(), ElementsAre(testing::_, "tool call_1: [cancelled]",
                                   "tool call_2: [error: not run: the limit of 30 ms was reached]"));
}

TEST_F(LoopTest, TheWallLimitInterruptsGenerationAndKeepsWhatWasSaid) {
  limits.wall = std::chrono::milliseconds(30);
  chat.answers([](auto, std::stop_token token) {
    test::wait_for(token);
    Reply reply;
    reply.message.text = "Let me";
    return reply;
  });
  EXPECT_EQ(run().end, End::time_limit);
  EXPECT_THAT(lines(), ElementsAre("assistant: Let me"));
}

TEST_F(LoopTest, ACancelDuringACallStopsItAndSkipsTheRest) {
  add("hang", [this](const std::string&, std::stop_token token) {
    stop.request_stop();
    test::wait_for(token);
    return tools::ToolResult{Status::cancelled, "[cancelled]", tools::Json::object()};
  });
  chat.calls({{"hang", R"({"text":""})"}, {"echo", R"({"text":"a"})"}});
  EXPECT_EQ(run().end, End::cancelled);
  EXPECT_THAT(lines(),
              ElementsAre(testing::_, "tool call_1: [cancelled]", "tool call_2: [error: not run: interrupted]"));
  EXPECT_TRUE(echoed.empty());
}

TEST_F(LoopTest, ACancelBeforeAnythingWasSaidLeavesNoMessage) {
  chat.answers([this](auto, auto) {
    stop.request_stop();
    return Reply{};
  });
  EXPECT_EQ(run().end, End::cancelled);
  EXPECT_TRUE(lines().empty());
  EXPECT_EQ(run().end, End::cancelled);
  EXPECT_EQ(chat.seen.size(), 1u) << "a stopped run does not ask the model";
}

TEST_F(LoopTest, ACallThatCannotBeReadIsToldToTheModelWhichMayTryAgain) {
  Reply malformed;
  malformed.message.text = "<invoke name=echo";
  malformed.error = "the call has no closing tag";
  chat.gives(malformed).calls({{"echo", R"({"text":"a"})"}}).says("Done.");
  EXPECT_EQ(run().end, End::answered);
  EXPECT_THAT(lines(), ElementsAre("assistant: <invoke name=echo", "tool: [error: the call has no closing tag]",
                                   R"(assistant: [echo {"text":"a"}])", "tool call_1: a", "assistant: Done."));
}

TEST_F(LoopTest, CallsBeforeAnUnreadableOneAreRun) {
  Reply half;
  half.message.calls = {{"call_1", "echo", R"({"text":"a"})"}};
  half.error = "the second call is cut";
  chat.gives(half).says("Done.");
  EXPECT_EQ(run().end, End::answered);
  EXPECT_THAT(lines(),
              ElementsAre(testing::_, "tool call_1: a", "tool: [error: the second call is cut]", "assistant: Done."));
}

TEST_F(LoopTest, TheSameCallWithTheSameResultIsToldAtTheThirdTimeAndEndsTheRunAtTheFourth) {
  for (int i = 0; i < 4; ++i) chat.calls({{"echo", R"({"text":"a"})"}});
  const Outcome outcome = run();
  EXPECT_EQ(outcome.end, End::loop_limit);
  EXPECT_EQ(outcome.reason, "the same call of echo gave the same result 4 times in a row");
  ASSERT_EQ(lines().size(), 8u);
  EXPECT_EQ(lines()[3], "tool call_2: a");
  EXPECT_EQ(lines()[5],
            "tool call_3: a\n[this has now given the same result 3 times in a row; do something else, or answer]");
}

TEST_F(LoopTest, ARepeatedCallWhoseResultChangesIsNoLoop) {
  int n = 0;
  add("poll", [&](const std::string&, std::stop_token) { return ok(std::to_string(++n / 3)); });
  for (int i = 0; i < 6; ++i) chat.calls({{"poll", R"({"text":"a"})"}});
  chat.says("Done.");
  EXPECT_EQ(run().end, End::answered);
}

TEST_F(LoopTest, TheSameUnreadableCallEndsTheRunToo) {
  Reply malformed;
  malformed.message.text = "<invoke";
  malformed.error = "no closing tag";
  for (int i = 0; i < 4; ++i) chat.gives(malformed);
  const Outcome outcome = run();
  EXPECT_EQ(outcome.end, End::loop_limit);
  EXPECT_EQ(outcome.reason, "a call that cannot be read gave the same result 4 times in a row");
}

TEST_F(LoopTest, AnEmptyReplyIsAskedForOnceMore) {
  chat.says(" \n").says("There are 3.");
  EXPECT_EQ(run().end, End::answered);
  EXPECT_THAT(lines(), ElementsAre("assistant:  \n", "tool: [error: the reply was empty; answer the user]",
                                   "assistant: There are 3."));
}

TEST_F(LoopTest, ASecondEmptyReplyIsAFailure) {
  chat.says("").says("");
  EXPECT_THAT([this] { run(); }, testing::ThrowsMessage<std::runtime_error>(HasSubstr("found an empty reply twice")));
}

TEST_F(LoopTest, ATranscriptThatOutgrowsTheContextEndsTheRun) {
  chat.calls({{"echo", R"({"text":"a"})"}}).answers([](auto, auto) -> Reply {
    throw std::length_error("want at most 8191 tokens, found 9000");
  });
  const Outcome outcome = run();
  EXPECT_EQ(outcome.end, End::context_limit);
  EXPECT_EQ(outcome.reason, "want at most 8191 tokens, found 9000");
  EXPECT_EQ(lines().back(), "tool call_1: a") << "nothing is lost";
}

TEST_F(LoopTest, AReplyCutByTheContextEndsTheRun) {
  Reply cut;
  cut.message.text = "There are";
  cut.is_cut = true;
  cut.usage.completion_tokens = 7;
  chat.gives(cut);
  EXPECT_EQ(run().end, End::context_limit);
}

TEST_F(LoopTest, ADeniedCallIsNotRunAndTheModelIsTold) {
  hooks.approver = {ApproveMode::risky,
                    [](const model::Call& call) { return call.args.find("good") != std::string::npos; }};
  chat.calls({{"echo", R"({"text":"bad"})"}, {"echo", R"({"text":"good"})"}}).says("Done.");
  EXPECT_EQ(run().end, End::answered);
  EXPECT_THAT(echoed, ElementsAre("good"));
  EXPECT_EQ(lines()[1], "tool call_1: [denied: the user said no]");
  EXPECT_EQ(stored_status(2), Status::denied);
}

TEST(ApproverTest, AsksForRiskyCallsOrForAllAndDeniesWhenNobodyIsThere) {
  int asked = 0;
  const auto yes = [&](const model::Call&) { return ++asked > 0; };
  const model::Call read{"call_1", "read_file", "{}"}, shell{"call_2", "shell", "{}"};
  EXPECT_FALSE(Approver({ApproveMode::never, yes}).refusal(shell));
  EXPECT_FALSE(Approver({ApproveMode::risky, yes}).refusal(read));
  EXPECT_EQ(asked, 0);
  EXPECT_FALSE(Approver({ApproveMode::risky, yes}).refusal(shell));
  EXPECT_FALSE(Approver({ApproveMode::always, yes}).refusal(read));
  EXPECT_EQ(asked, 2);
  EXPECT_THAT(Approver({ApproveMode::always, {}}).refusal(read).value(), HasSubstr("[denied: "));
  EXPECT_THROW(approve_mode_from("sometimes"), std::invalid_argument);
  EXPECT_EQ(approve_mode_from("risky"), ApproveMode::risky);
}

}  // namespace
}  // namespace corvid::runtime
