// A host's tools, and what the six of corvid's own may do in its sessions.
#include <atomic>

#include "library_test.h"

namespace {

namespace fs = std::filesystem;
using corvid_test::kCount;
using corvid_test::LibraryTest;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// What the model that ships calls by itself: its own http_request, answered by the host.
TEST_F(LibraryTest, TheModelCallsTheHostsFunctionBehindAToolThatItKnows) {
  std::string url;
  corvid::Agent agent;
  agent.replace_tool("http_request", [&](const corvid::ToolRequest& request) -> corvid::ToolResult {
    url = request.text("url").value_or("");
    EXPECT_EQ(request.name(), "http_request");
    EXPECT_EQ(request.workdir(), fs::canonical(folder_ / "work"));
    EXPECT_FALSE(request.stop().stop_requested());
    return "HTTP 200\ncontent-type: application/json\n\n{\"owner\": \"mia\", \"port\": 9917}";
  });
  corvid::Session session = start(agent);
  const corvid::Result result = session.run("fetch http://127.0.0.1:8042/config.json and tell me the port");
  EXPECT_EQ(url, "http://127.0.0.1:8042/config.json");
  EXPECT_THAT(result.answer, HasSubstr("9917"));
}

corvid::Tool stock_tool(std::atomic<int>& calls) {
  return {"stock", "How many of an article are in store",
          R"({"type":"object","properties":{"article":{"type":"string"},"least":{"type":"integer"},
              "share":{"type":"number"},"all":{"type":"boolean"}},"required":["article"]})",
          [&](const corvid::ToolRequest& request) -> corvid::ToolResult {
            ++calls;
            const std::string article = *request.text("article");
            if (article == "trouble") throw std::runtime_error("the shelf is locked");
            if (article == "denied") return {corvid::ToolStatus::denied, "[denied: not yours]"};
            return article + " " + std::to_string(request.integer("least").value_or(-1)) + " " +
                   std::to_string(int(request.number("share").value_or(-1) * 100)) + " " +
                   std::to_string(request.flag("all").value_or(false)) + " " + (request.text("nothing") ? "?" : "none");
          }};
}

TEST_F(LibraryTest, AHostsToolGetsCheckedArgumentsAndItsFailuresAreResults) {
  std::atomic<int> calls = 0;
  corvid::Agent agent;
  agent.set_tools({"read_file"}).add_tool(stock_tool(calls));
  EXPECT_THAT(agent.tools(), ElementsAre("read_file", "stock"));
  corvid::Session session = start(agent);
  using corvid::ToolStatus;
  corvid::ToolResult result = session.call_tool("stock", R"({"article":"bolts","least":3,"share":0.5,"all":true})");
  EXPECT_EQ(result.status, ToolStatus::ok);
  EXPECT_EQ(result.text, "bolts 3 50 1 none");
  EXPECT_EQ(calls, 1);
  result = session.call_tool("stock", R"({"article":7})");
  EXPECT_EQ(result.status, ToolStatus::bad_args);
  EXPECT_EQ(calls, 1);
  EXPECT_THAT(session.call_tool("stock", R"({"article":"trouble"})").text, HasSubstr("the shelf is locked"));
  EXPECT_EQ(session.call_tool("stock", R"({"article":"denied"})").status, ToolStatus::denied);
  EXPECT_EQ(session.call_tool("stock", "no json").status, ToolStatus::bad_args);
  EXPECT_THAT(session.call_tool("shell", R"({"command":"id"})").text, HasSubstr("no tool named shell"));
  EXPECT_EQ(session.call_tool("read_file", R"({"path":"notes/a.txt"})").text, "one\ntwo");
}

TEST_F(LibraryTest, AToolsFunctionMayRunAnotherAgent) {
  corvid::Agent agent;
  agent.add_tool({"ask", "Ask a colleague", R"({"type":"object","properties":{"task":{"type":"string"}}})",
                  [&](const corvid::ToolRequest& request) -> corvid::ToolResult {
                    corvid::Session other = start();
                    return other.run(*request.text("task"), {.stop = request.stop()}).answer;
                  }});
  corvid::Session session = start(agent);
  EXPECT_EQ(session.call_tool("ask", R"({"task":"how many txt files are in notes?"})").text, "2 .txt files.");
}

TEST_F(LibraryTest, TheHostIsAskedBeforeARiskyCall) {
  corvid::Session session = start();
  std::string asked;
  const corvid::Result result =
      session.run(kCount, {.approve = corvid::Approve::risky, .ask = [&](const corvid::ToolCall& call) {
                             asked = call.name + " " + call.arguments;
                             return false;
                           }});
  EXPECT_THAT(asked, StartsWith("shell {\"command\""));
  EXPECT_EQ(result.tool_calls[0].status, corvid::ToolStatus::denied);
  EXPECT_THAT(corvid::to_json(result), HasSubstr(R"("status":"denied")"));
}

// read_file only looks, but what a host has put behind its name only the host knows.
TEST_F(LibraryTest, AHostsFunctionIsRiskyWhateverItsName) {
  int calls = 0;
  const auto read = [&](corvid::Agent agent, corvid::Approve approve) {
    corvid::Session session = start(agent);
    int asked = 0;
    session.run("what does notes/a.txt say?", {.approve = approve, .ask = [&](const corvid::ToolCall& call) {
                                                 EXPECT_EQ(call.name, "read_file");
                                                 return ++asked > 0;
                                               }});
    return asked;
  };
  corvid::Agent own, replaced;
  own.set_tools({"read_file"});
  replaced = own;
  replaced.replace_tool("read_file", [&](const corvid::ToolRequest&) -> corvid::ToolResult {
    ++calls;
    return "one\ntwo";
  });
  EXPECT_EQ(read(own, corvid::Approve::risky), 0);
  EXPECT_GE(read(replaced, corvid::Approve::risky), 1);
  EXPECT_EQ(read(replaced, corvid::Approve::never), 0);
  EXPECT_GE(calls, 2);
}

TEST_F(LibraryTest, ThePolicyConfinesTheSixTools) {
  std::ofstream(folder_ / "secret.txt") << "secret\n";
  corvid::Session session = start();
  const std::string read = R"({"path":")" + (folder_ / "secret.txt").string() + R"("})";
  EXPECT_NE(session.call_tool("read_file", read).status, corvid::ToolStatus::ok);
  corvid::Agent open;
  open.set_policy({.read_dirs = {folder_}});
  corvid::Session other = start(open);
  EXPECT_EQ(other.call_tool("read_file", read).text, "secret");
  // Not even then is the store to be seen.
  const std::string store = R"({"path":")" + store_->file().string() + R"("})";
  EXPECT_NE(other.call_tool("read_file", store).status, corvid::ToolStatus::ok);
}

}  // namespace
