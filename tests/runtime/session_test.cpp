#include "runtime/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>

#include "tests/support/child.h"
#include "tests/support/scripted_chat.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_tools.h"

namespace corvid::runtime {
namespace {

using model::Message;
using model::Role;
using test::Child;
using test::FunctionTool;
using test::ok;
using test::ScriptedChat;
using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

SessionRecord record_of_model(std::string fingerprint) {
  SessionRecord record;
  record.agent = "default";
  record.model_name = "tiny.gguf";
  record.model_fingerprint = std::move(fingerprint);
  return record;
}

Reply reply_with_tokens(std::string text, std::vector<model::Token> tokens) {
  Reply reply;
  reply.message.text = std::move(text);
  reply.message.tokens = std::move(tokens);
  return reply;
}

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    add("echo", [](const std::string& text, std::stop_token) {
      return tools::ToolResult{tools::Status::ok, text, tools::Json{{"exit_code", 0}}};
    });
  }
  void add(std::string name, FunctionTool::Function function) {
    toolbox.add(std::make_unique<FunctionTool>(std::move(name), std::move(function)));
  }
  Session start() { return Session::start(store, record_of_model("m1"), chat, toolbox); }
  Session resume(std::string_view id, std::string_view fingerprint = "m1") {
    return Session::resume(store, store.find(id), chat, toolbox, fingerprint);
  }

  TempDir dir;
  Store store{dir / "corvid.db"};
  tools::Toolbox toolbox{tools::Sandbox(dir.path(), {})};
  ScriptedChat chat;
};

TEST_F(SessionTest, ARunGivesTheAnswerItsCallsAndWhatItUsed) {
  chat.calls({{"echo", R"({"text":"3"})"}}).says("There are 3.");
  Session session = start();
  const RunResult result = session.run("how many?");
  EXPECT_EQ(result.session_id, session.record().id);
  EXPECT_EQ(result.status, RunStatus::completed);
  EXPECT_EQ(result.answer, "There are 3.");
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.turns, 2);
  ASSERT_EQ(result.tool_calls.size(), 1u);
  EXPECT_EQ(result.tool_calls[0].call.name, "echo");
  EXPECT_EQ(result.tool_calls[0].call.args, R"({"text":"3"})");
  EXPECT_EQ(result.tool_calls[0].exit_code, 0);
  EXPECT_EQ(result.usage.prompt_tokens, 200) << "a sum over the turns, as are the others";
  EXPECT_EQ(result.usage.cached_tokens, 180);
  EXPECT_EQ(result.usage.completion_tokens, 20);
  EXPECT_EQ(result.tool_ms, result.tool_calls[0].duration_ms);
  EXPECT_EQ(store.find("last").status, "completed");
}

TEST_F(SessionTest, WatchersHearEachStepInItsOrder) {
  chat.calls({{"echo", R"({"text":"3"})"}}).says("There are 3.");
  Session session = start();
  std::vector<std::string> heard;
  session.watch([&](Event event) { heard.push_back(to_json(event).at("event")); });
  session.run("how many?");
  EXPECT_THAT(heard, ElementsAre("session", "message", "message", "tool_call", "tool_result", "message", "token",
                                 "message", "done"));
}

TEST_F(SessionTest, ASecondRunAndAResumedSessionGoOnWithTheTranscript) {
  chat.gives(reply_with_tokens("Three.", {7, 8, 9})).says("Four.").says("Five.");
  std::string id;
  {
    Session session = start();
    id = session.record().id;
    bool is_resumed = false;
    session.watch([&](Event event) {
      if (const auto* begin = std::get_if<SessionEvent>(&event)) is_resumed = begin->is_resumed;
    });
    EXPECT_EQ(session.run("how many?").answer, "Three.");
    EXPECT_FALSE(is_resumed);
    EXPECT_EQ(session.run("and now?").turns, 1) << "of this run";
    EXPECT_TRUE(is_resumed) << "a second run goes on with the first";
  }
  Session session = resume(id);
  EXPECT_EQ(session.notice(), "");
  std::vector<Event> events;
  session.watch([&](Event event) { events.push_back(std::move(event)); });
  EXPECT_EQ(session.run("and now?").answer, "Five.");
  EXPECT_TRUE(std::get<SessionEvent>(events.front()).is_resumed);
  ASSERT_EQ(chat.seen.back().size(), 5u);
  EXPECT_THAT(chat.seen.back()[1].tokens, ElementsAre(7, 8, 9)) << "kept, so that the next prompt extends the cache";
  EXPECT_EQ(chat.seen.back()[3].text, "Four.");
}

TEST_F(SessionTest, AnotherModelReadsTheMessagesFromTheirText) {
  chat.gives(reply_with_tokens("Three.", {7, 8, 9})).gives(reply_with_tokens("Four.", {1, 2})).says("Five.");
  const std::string id = start().run("how many?").session_id;
  {
    Session session = resume(id, "m2");
    EXPECT_THAT(session.notice(), HasSubstr("another model (tiny.gguf, m1; now m2)"));
    session.run("and now?");
    EXPECT_TRUE(chat.seen.back()[1].tokens.empty());
    EXPECT_EQ(chat.seen.back()[1].text, "Three.");
  }
  Session session = resume(id);  // the first model again: its own tokens are back, the second one's are not for it
  session.run("and now?");
  EXPECT_THAT(chat.seen.back()[1].tokens, ElementsAre(7, 8, 9));
  EXPECT_TRUE(chat.seen.back()[3].tokens.empty());
}

TEST_F(SessionTest, AKillInTheMiddleOfACallLeavesASessionThatGoesOn) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Child child([&] {
    Store own(dir / "corvid.db");
    tools::Toolbox tools{tools::Sandbox(dir.path(), {})};
    tools.add(
        std::make_unique<FunctionTool>("echo", [](const std::string& text, std::stop_token) { return ok(text); }));
    tools.add(std::make_unique<FunctionTool>("hang", [&](const std::string&, std::stop_token stop) {
      if (write(ends[1], "x", 1) != 1) throw std::runtime_error("pipe");
      test::wait_for(stop);
      return ok("");
    }));
    ScriptedChat script;
    script.calls({{"echo", R"({"text":"a"})"}, {"hang", R"({"text":""})"}, {"echo", R"({"text":"b"})"}});
    Session::start(own, record_of_model("m1"), script, tools).run("do it");
    return 0;
  });
  close(ends[1]);
  char byte = 0;
  ASSERT_EQ(read(ends[0], &byte, 1), 1);
  close(ends[0]);
  child.kill(SIGKILL);
  EXPECT_EQ(child.wait(), 128 + SIGKILL);

  EXPECT_EQ(store.find("last").status, "running");
  Session session = resume("last");
  EXPECT_EQ(session.notice(), "2 tool calls were cut short when the last run ended");
  chat.says("It was interrupted.");
  EXPECT_EQ(session.run("what happened?").status, RunStatus::completed);
  std::vector<std::string> shown;
  for (const Message& message : chat.seen.back()) shown.push_back(message.call_id + "|" + message.text);
  EXPECT_THAT(shown, ElementsAre("|do it", "|", "call_1|a", "call_2|[error: interrupted]",
                                 "call_3|[error: interrupted]", "|what happened?"));
  EXPECT_EQ(store.find("last").status, "completed");
}

TEST_F(SessionTest, AFailureOfTheModelIsAnErrorWithItsMessage) {
  chat.calls({{"echo", R"({"text":"a"})"}}).answers([](auto, auto) -> Reply { throw std::runtime_error("no logits"); });
  const RunResult result = start().run("do it");
  EXPECT_EQ(result.status, RunStatus::error);
  EXPECT_EQ(result.error, "no logits");
  EXPECT_EQ(result.answer, "");
  EXPECT_EQ(result.tool_calls.size(), 1u) << "what was done is told all the same";
  EXPECT_EQ(store.find("last").status, "error");
}

TEST_F(SessionTest, AFailureOfTheStoreStopsTheRunBeforeTheStepIsTaken) {
  bool has_run = false;
  add("mark", [&](const std::string&, std::stop_token) {
    has_run = true;
    return ok("");
  });
  Session session = start();
  chat.answers([&](auto, auto) {
    Store(dir / "corvid.db").remove(session.record().id);
    Reply reply;
    reply.message.calls = {{"call_1", "mark", R"({"text":""})"}};
    return reply;
  });
  const RunResult result = session.run("do it");
  EXPECT_EQ(result.status, RunStatus::error);
  EXPECT_THAT(result.error, HasSubstr("there is no session"));
  EXPECT_FALSE(has_run);
}

TEST_F(SessionTest, TwoUsersOfOneSessionAreToldApart) {
  chat.says("One.").says("Two.");
  Session first = start();
  Session second = resume(first.record().id);
  EXPECT_EQ(first.run("a").status, RunStatus::completed);
  const RunResult result = second.run("b");
  EXPECT_EQ(result.status, RunStatus::error);
  EXPECT_THAT(result.error, HasSubstr("is another process using this session?"));
}

TEST_F(SessionTest, LimitsAndCancelsAreStatusesWithAReason) {
  chat.calls({{"echo", R"({"text":"a"})"}});
  RunOptions options;
  options.limits.turns = 1;
  Session session = start();
  const RunResult limited = session.run("do it", options);
  EXPECT_EQ(limited.status, RunStatus::limit);
  EXPECT_EQ(limited.error, "the limit of 1 turn was reached");
  EXPECT_EQ(limited.answer, "");
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(session.run("go on", {}, stop.get_token()).status, RunStatus::interrupted);
  EXPECT_EQ(store.find("last").status, "interrupted");
}

TEST_F(SessionTest, APromptWithoutTextIsRefused) {
  Session session = start();
  EXPECT_THROW(session.run(" \n"), std::invalid_argument);
  EXPECT_TRUE(session.messages().empty());
}

}  // namespace
}  // namespace corvid::runtime
