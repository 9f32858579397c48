#include "runtime/events.h"

#include <gtest/gtest.h>

namespace corvid::runtime {
namespace {

RunResult example() {
  RunResult result;
  result.session_id = "01abc";
  result.status = RunStatus::completed;
  result.answer = "There are 3.";
  result.turns = 2;
  result.tool_calls = {
      {{"call_1", "shell", R"({"command":"ls | wc -l","timeout_s":5})"}, tools::Status::ok, 0, 12.34567},
      {{"call_2", "read_file", R"({"path":"x"})"}, tools::Status::failed, {}, 1}};
  result.usage = {300, 250, 20, 1.5, 2.5, 30, 12};
  result.tool_ms = 13.34567;
  return result;
}

TEST(EventsTest, ARunIsTheObjectThatIsPromised) {
  EXPECT_EQ(to_line(to_json(example())),
            R"({"session_id":"01abc","status":"completed","answer":"There are 3.","turns":2,"tool_calls":[)"
            R"({"name":"shell","arguments":{"command":"ls | wc -l","timeout_s":5},"status":"ok","exit_code":0,)"
            R"("duration_ms":12.346},)"
            R"({"name":"read_file","arguments":{"path":"x"},"status":"error","duration_ms":1.0}],)"
            R"("usage":{"prompt_tokens":300,"cached_tokens":250,"completion_tokens":20,"prefill_ms":1.5,)"
            R"("decode_ms":2.5,"tool_ms":13.346,"drafted_tokens":30,"accepted_tokens":12}})");
}

TEST(EventsTest, ARunThatIsNotCompletedSaysWhy) {
  RunResult result;
  result.session_id = "01abc";
  result.status = RunStatus::limit;
  result.error = "the limit of 20 turns was reached";
  const Json json = to_json(result);
  EXPECT_EQ(json.at("status"), "limit");
  EXPECT_EQ(json.at("error"), "the limit of 20 turns was reached");
  EXPECT_TRUE(json.at("tool_calls").is_array());
}

TEST(EventsTest, EachEventIsALine) {
  const auto line = [](const Event& event) { return to_line(to_json(event)); };
  const model::Call call{"call_1", "shell", R"({"command":"ls"})"};
  EXPECT_EQ(line(SessionEvent{"01abc", false, ""}), R"({"event":"session","session_id":"01abc","resumed":false})");
  EXPECT_EQ(line(TokenEvent{{"\xc3\xa9", {}}}), "{\"event\":\"token\",\"text\":\"\xc3\xa9\"}");
  EXPECT_EQ(
      line(TokenEvent{{"", TokenLogprobs{{7, "a\xff", -0.12345678}, {{7, "a\xff", -0.12345678}, {3, "b", -3}}}}}),
      "{\"event\":\"token\",\"text\":\"\",\"logprobs\":{\"id\":7,\"token\":\"a\xef\xbf\xbd\",\"logprob\":-0.123457,"
      "\"top\":[{\"id\":7,\"token\":\"a\xef\xbf\xbd\",\"logprob\":-0.123457},"
      "{\"id\":3,\"token\":\"b\",\"logprob\":-3.0}]}}");
  EXPECT_EQ(line(ToolCallEvent{call}),
            R"({"event":"tool_call","id":"call_1","name":"shell","arguments":{"command":"ls"}})");
  EXPECT_EQ(line(ToolResultEvent{{call, tools::Status::timed_out, 137, 5}, "[timed out after 5 s]"}),
            R"({"event":"tool_result","id":"call_1","name":"shell","status":"timeout","exit_code":137,)"
            R"("duration_ms":5.0,"text":"[timed out after 5 s]"})");
  model::Message message;
  message.role = model::Role::assistant;
  message.calls = {call};
  EXPECT_EQ(line(MessageEvent{1, message}), R"({"event":"message","seq":1,"role":"assistant","text":"","tool_calls":[)"
                                            R"({"id":"call_1","name":"shell","arguments":{"command":"ls"}}]})");
  EXPECT_EQ(to_json(Event(DoneEvent{example()})).begin().value(), "done");
  EXPECT_EQ(to_json(Event(DoneEvent{example()})).at("answer"), "There are 3.");
}

TEST(EventsTest, TextThatIsNotUtf8AndArgumentsThatAreNoJsonStillMakeALine) {
  EXPECT_EQ(to_line(to_json(Event(TokenEvent{{"a\xff", {}}}))), "{\"event\":\"token\",\"text\":\"a\xef\xbf\xbd\"}");
  EXPECT_EQ(to_json(Event(ToolCallEvent{{"call_1", "shell", "{oops"}})).at("arguments"), "{oops");
}

TEST(EventsTest, EveryEndHasItsStatusAndExitCode) {
  EXPECT_EQ(exit_code(status_of(End::answered)), 0);
  for (const End end :
       {End::turn_limit, End::token_limit, End::call_limit, End::time_limit, End::context_limit, End::loop_limit})
    EXPECT_EQ(exit_code(status_of(end)), 3) << to_text(end);
  EXPECT_EQ(exit_code(status_of(End::cancelled)), 130);
  EXPECT_EQ(exit_code(RunStatus::error), 1);
}

}  // namespace
}  // namespace corvid::runtime
