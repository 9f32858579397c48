// An agent that asks another one: the loop with scripted replies, the wiring with real processes, the shared cache with
// a real model.
#include "agents/ask_agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "agents/assemble.h"
#include "tests/support/home.h"
#include "tests/support/scripted_chat.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

namespace corvid::agents {
namespace {

using runtime::RunStatus;
using test::ScriptedChat;
using testing::ElementsAre;
using testing::HasSubstr;

class AskAgentTest : public testing::Test {
 protected:
  AskAgentTest() {
    agent.name = "lead";
    agent.tools = {"list_dir"};
    agent.limits.depth = 2;
    name_agent("reviewer.yaml", "description: reads what others wrote\ntools: [list_dir]\nlimits: { tokens: 500 }\n");
  }
  void name_agent(const std::string& name, const std::string& keys) {
    agent.agents.push_back({dir.write(name, "version: 1\n" + keys).string(), "lead.yaml:3:10: agents: "});
  }
  // Chats of agents that are asked, in their order.
  ScriptedChat& next_chat() { return *scripted.emplace_back(std::make_unique<ScriptedChat>()); }
  runtime::RunResult run(const std::string& prompt, runtime::Limits limits = {}) {
    const auto make_chat = [&](runtime::SessionRecord& record) -> std::unique_ptr<runtime::Chat> {
      record.model_name = "scripted";
      asked.push_back(record);
      if (scripted.empty()) throw std::logic_error("no chat left");
      auto chat = std::move(scripted.front());
      scripted.pop_front();
      return chat;
    };
    const auto asker = std::make_shared<Asker>();
    tools::Toolbox toolbox =
        make_asking_tools(agent, tools::Sandbox(dir.path(), {}), {make_chat, dir / "corvid.db"}, asker);
    runtime::SessionRecord record;
    record.workdir = dir.path();
    record.agent = agent.name;
    record.prompt = prompt_of(agent, toolbox);
    runtime::Session session = runtime::Session::start(store, std::move(record), lead, toolbox);
    asker->session_id = session.record().id;
    limits.depth = agent.limits.depth;
    asker->options.limits = limits;
    asker->options.meter = meter;
    return session.run(prompt, asker->options);
  }
  static std::string ask(const std::string& name, const std::string& prompt) {
    return tools::Json{{"agent", name}, {"prompt", prompt}}.dump();
  }
  // What the asking agent was told last.
  std::string told() const { return lead.seen.back().back().text; }

  test::TempDir dir;
  runtime::Store store{dir / "corvid.db"};
  Agent agent;
  ScriptedChat lead;
  std::deque<std::unique_ptr<ScriptedChat>> scripted;
  std::vector<runtime::SessionRecord> asked;
  std::shared_ptr<runtime::Meter> meter = std::make_shared<runtime::Meter>();
};

TEST_F(AskAgentTest, TheOtherWorksInASessionOfItsOwnAndItsAnswerIsTheResult) {
  next_chat().calls({{"list_dir", "{}"}}).says("It holds reviewer.yaml.");
  lead.calls({{"ask_agent", ask("reviewer", "what is here?")}}).says("done");
  const runtime::RunResult result = run("look");
  EXPECT_EQ(result.answer, "done");
  EXPECT_EQ(told(), "It holds reviewer.yaml.");
  EXPECT_EQ(meter->tokens, 40);  // two replies of each
  EXPECT_EQ(meter->calls, 2);
  const std::vector<runtime::SessionSummary> sessions = store.list();
  ASSERT_EQ(sessions.size(), 2u);
  const std::string child = store.load(result.session_id)[2].result->detail["session_id"];
  EXPECT_EQ(store.find(child).parent, result.session_id);
  EXPECT_EQ(store.find(child).agent, "reviewer");
  EXPECT_EQ(store.find(child).workdir, dir.path());
  EXPECT_EQ(store.load(child)[0].message.text, "what is here?");
  EXPECT_THAT(store.load(child)[2].message.text, HasSubstr("reviewer.yaml"));
  // Its own agents are none, so it is offered no such tool; the asking one is, with what the others are good for.
  EXPECT_EQ(asked[0].prompt.tools.size(), 1u);
  EXPECT_THAT(store.find(result.session_id).prompt.tools[1].description,
              HasSubstr("reviewer (reads what others wrote)"));
}

TEST_F(AskAgentTest, WhatTheOtherSpendsIsTakenFromTheAskersLimits) {
  next_chat().says("short").says("unused");
  lead.calls({{"ask_agent", ask("reviewer", "go")}}).calls({{"ask_agent", ask("reviewer", "go")}}).says("unused");
  runtime::Limits limits;
  limits.tokens = 30;  // two replies of ten of its own, and ten of the other's
  const runtime::RunResult result = run("look", limits);
  EXPECT_EQ(result.status, RunStatus::limit);
  EXPECT_THAT(result.error, HasSubstr("30 tokens"));
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_THAT(store.load(result.session_id).back().message.text, HasSubstr("leaves none for another agent"));
}

TEST_F(AskAgentTest, TheOthersOwnLimitsHoldToo) {
  ScriptedChat& other = next_chat();
  runtime::Reply long_reply;
  long_reply.message.text = "so far";
  long_reply.usage.completion_tokens = 500;
  long_reply.is_cut = true;
  other.gives(long_reply);
  lead.calls({{"ask_agent", ask("reviewer", "go")}}).says("done");
  EXPECT_EQ(run("look").answer, "done");
  EXPECT_EQ(told(),
            "[error: the agent reviewer did not finish: the limit of 500 tokens was reached]\nIt had said:\nso far");
}

TEST_F(AskAgentTest, DepthIsBoundedAlsoInACircle) {
  const std::string file = (dir / "self.yaml").string();
  name_agent("self.yaml", "tools: []\nagents: [./self.yaml]\n");
  next_chat().calls({{"ask_agent", ask("self", "deeper")}}).says("from the first");
  next_chat().calls({{"ask_agent", ask("self", "deeper")}}).says("from the second");
  lead.calls({{"ask_agent", ask("self", "go")}}).says("done");
  EXPECT_EQ(run("look").answer, "done");
  EXPECT_EQ(told(), "from the first");
  ASSERT_EQ(asked.size(), 2u);  // the second has no such tool any more, and was told so
  EXPECT_EQ(asked[0].prompt.tools.size(), 1u);
  EXPECT_EQ(asked[1].prompt.tools.size(), 0u);
}

TEST_F(AskAgentTest, AnUnknownAgentAndAnEmptyPromptAreAnswered) {
  lead.calls({{"ask_agent", ask("nobody", "go")}, {"ask_agent", ask("reviewer", " \n")}}).says("done");
  run("look");
  EXPECT_THAT(lead.seen.back()[2].text, HasSubstr("must be one of \"reviewer\""));
  EXPECT_THAT(lead.seen.back()[3].text, HasSubstr("prompt: want a task, found nothing"));
}

TEST_F(AskAgentTest, NamesThatLeadNowhereHaveTheirPlace) {
  agent.agents.push_back({"nobody", "lead.yaml:3:20: agents: "});
  EXPECT_THAT(test::message_of([&] { asked_agents(agent); }),
              HasSubstr("lead.yaml:3:20: agents: no agent named \"nobody\""));
  agent.agents.back().agent = agent.agents.front().agent;
  EXPECT_THAT(test::message_of([&] { asked_agents(agent); }),
              HasSubstr("lead.yaml:3:20: agents: an agent named \"reviewer\" stands here already"));
}

TEST_F(AskAgentTest, WithTheSameInstructionsAndToolsTheCacheIsAFork) {
  agent = {};
  agent.name = "lead";
  agent.instructions = "You do chores in the user's working folder, and ask yourself when they have parts.";
  agent.limits.depth = 2;
  const std::string file = dir.write("lead.yaml", "version: 1\ninstructions: " + agent.instructions +
                                                      "\nlimits: { depth: 2 }\nagents: "
                                                      "[./lead.yaml]\n")
                               .string();
  agent.agents.push_back({file, ""});
  const auto engine =
      model::Engine::create(model::Model::load(test::write_tiny_model(dir / "model", "Nothing to do.")));
  const auto asker = std::make_shared<Asker>();
  const auto make_chat = [&](runtime::SessionRecord& record) { return make_local_chat(engine, {}, record); };
  tools::Toolbox toolbox =
      make_asking_tools(agent, tools::Sandbox(dir.path(), {}), {make_chat, dir / "corvid.db"}, asker);
  runtime::SessionRecord record;
  record.prompt = prompt_of(agent, toolbox);
  const auto chat = make_chat(record);
  runtime::Session session = runtime::Session::start(store, record, *chat, toolbox);
  asker->session_id = session.record().id;
  asker->options.limits = agent.limits;
  asker->options.meter = std::make_shared<runtime::Meter>();
  ASSERT_EQ(session.run("hello", asker->options).answer, "Nothing to do.");
  // The other is asked while the asking one's cache is there, as in a run of its own.
  const tools::ToolResult result = toolbox.run("ask_agent", ask("lead", "you too"), {});
  EXPECT_EQ(result.text, "Nothing to do.");
  const auto usage = store.load(result.detail["session_id"].get<std::string>())[1].usage;
  EXPECT_GE(usage->cached_tokens, 256);
  EXPECT_GE(usage->cached_tokens * 10, usage->prompt_tokens * 8) << usage->cached_tokens;
}

TEST(AskAgentCommand, IsListedAndCalledByHandThroughARealModel) {
  test::Home home;
  home.environment["CORVID_MODEL"] = test::write_tiny_model(home / "model", "Nothing to do.").string();
  home.write("work/lead.yaml", "version: 1\nagents: [./reviewer.yaml]\n");
  home.write("work/reviewer.yaml", "version: 1\ndescription: reads\ninstructions: Read.\n");
  const test::Finished listed = home.corvid({"tools", "list", "--agent", "lead.yaml"});
  EXPECT_THAT(listed.out, HasSubstr("ask_agent(agent, prompt)")) << listed.err;
  const test::Finished called = home.corvid({"tools", "call", "ask_agent", "{\"agent\":\"reviewer\",\"prompt\":\"x\"}",
                                             "--agent", "lead.yaml", "--output", "json"});
  ASSERT_EQ(called.status, 0) << called.err;
  const test::Json json = test::Json::parse(called.out);
  EXPECT_EQ(json["text"], "Nothing to do.");
  const std::string id = json["detail"]["session_id"];
  EXPECT_THAT(home.corvid({"sessions", "show", id}).out, HasSubstr("agent    reviewer"));
  // In a run and in a batch the tool is part of what the model is told.
  ASSERT_EQ(home.corvid({"run", "--agent", "lead.yaml", "hello"}).status, 0);
  home.write("work/w.yaml", "version: 1\nagent: ./lead.yaml\ntasks: { a: { prompt: x } }\n");
  const test::Finished batch = home.corvid({"batch", "w.yaml"});
  ASSERT_EQ(batch.status, 0) << batch.err;
  const auto tools_of = [&](const std::string& session) {
    return test::Json::parse(home.corvid({"sessions", "show", session, "--output", "json"}).out)["tools"].dump();
  };
  const test::Json sessions = test::Json::parse(home.corvid({"sessions", "list", "--output", "json"}).out);
  for (const test::Json& session : sessions) {
    if (session["agent"] == "lead") {
      EXPECT_THAT(tools_of(session["session_id"]), HasSubstr("ask_agent"));
    }
  }
  // A resumed session still has it.
  EXPECT_EQ(home.corvid({"sessions", "resume", sessions[1]["session_id"], "again"}).status, 0);
  home.write("work/w.yaml", "version: 1\nagent:\n  agents: [nobody]\ntasks: { a: { prompt: x } }\n");
  EXPECT_THAT(home.corvid({"batch", "validate", "w.yaml"}).err, HasSubstr("w.yaml:3:12: agents: no agent named"));
}

}  // namespace
}  // namespace corvid::agents
