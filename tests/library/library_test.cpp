// Agents, sessions, runs and their events.
#include "library_test.h"

#include <sys/stat.h>

#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using corvid_test::kCount;
using corvid_test::LibraryTest;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Long enough to be cancelled in its middle: the shell waits.
constexpr const char* kWait = "run the command sleep 30";

TEST_F(LibraryTest, AnswersAQuestionWithTheModelThatShips) {
  corvid::Session session = start();
  const corvid::Result result = session.run(kCount);
  EXPECT_EQ(result.status, corvid::Status::completed) << result.error;
  EXPECT_EQ(result.answer, "2 .txt files.");
  EXPECT_EQ(result.session_id, session.id());
  ASSERT_EQ(result.tool_calls.size(), 1u);
  EXPECT_EQ(result.tool_calls[0].call.name, "shell");
  EXPECT_EQ(result.tool_calls[0].exit_code, 0);
  EXPECT_GT(result.usage.completion_tokens, 0);
  std::vector<corvid::Role> roles;
  for (const corvid::Message& message : session.messages()) roles.push_back(message.role);
  using corvid::Role;
  EXPECT_THAT(roles, ElementsAre(Role::user, Role::assistant, Role::tool, Role::assistant));
}

TEST_F(LibraryTest, TheStoreIsPrivateAndReadWhileSessionsWrite) {
  corvid::Session session = start();
  session.run(kCount);
  struct stat info {};
  ASSERT_EQ(::stat(store_->file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600);
  const std::vector<corvid::SessionInfo> sessions = store_->list();
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].id, session.id());
  EXPECT_EQ(sessions[0].status, "completed");
  EXPECT_EQ(sessions[0].prompt, kCount);
  EXPECT_EQ(sessions[0].workdir, fs::canonical(folder_ / "work"));
  EXPECT_EQ(store_->messages("last").back().text, "2 .txt files.");
  store_->remove(session.id());
  EXPECT_THAT(store_->list(), IsEmpty());
  EXPECT_THROW(store_->messages("last"), std::runtime_error);
}

TEST_F(LibraryTest, ARelativeStoreStaysWhereItWasOpened) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  store_.emplace("here.db");
  fs::current_path(before);
  EXPECT_TRUE(store_->file().is_absolute());
  const corvid::Session session = start();
  EXPECT_EQ(store_->list().at(0).id, session.id());
}

TEST_F(LibraryTest, EventsComeInOrderOnTheRunsThread) {
  corvid::Session session = start();
  std::vector<std::string> kinds;
  std::string written;
  const auto me = std::this_thread::get_id();
  session.run(kCount, {.on_event = [&](const corvid::Event& event) {
                EXPECT_TRUE(std::this_thread::get_id() == me);
                const std::string json = corvid::to_json(event);
                const std::string kind = json.substr(10, json.find('"', 10) - 10);
                if (const auto* token = std::get_if<corvid::TokenEvent>(&event)) written += token->text;
                if (kinds.empty() || kinds.back() != kind) kinds.push_back(kind);
              }});
  EXPECT_THAT(kinds,
              ElementsAre("session", "message", "tool_call", "tool_result", "message", "token", "message", "done"));
  EXPECT_EQ(written, "2 .txt files.");
}

TEST_F(LibraryTest, ARunIsReadEventByEvent) {
  corvid::Session session = start();
  corvid::Run run = session.begin(kCount);
  size_t last = 0;
  int64_t n = 0;
  for (const corvid::Event& event : run) last = event.index(), ++n;
  EXPECT_EQ(last, corvid::Event(corvid::DoneEvent{}).index());
  EXPECT_GT(n, 6);
  EXPECT_EQ(run.next(), std::nullopt);
  EXPECT_TRUE(run.is_done() || run.wait().turns > 0);
  EXPECT_EQ(run.wait().answer, "2 .txt files.");
}

TEST_F(LibraryTest, AHandedOverEventMayBeginTheNextRun) {
  corvid::Session session = start();
  std::mutex mutex;
  std::condition_variable posted;
  std::deque<std::function<void()>> loop;
  std::vector<std::string> answers;
  std::optional<corvid::Run> run;
  corvid::RunOptions options;
  options.dispatch = [&](std::function<void()> call) {
    const std::lock_guard lock(mutex);
    loop.push_back(std::move(call));
    posted.notify_one();
  };
  options.on_event = [&](const corvid::Event& event) {
    const auto* done = std::get_if<corvid::DoneEvent>(&event);
    if (done == nullptr) return;
    answers.push_back(done->result.answer);
    if (answers.size() < 3) run = session.begin(kCount, options);
  };
  run = session.begin(kCount, options);
  while (answers.size() < 3) {
    std::unique_lock lock(mutex);
    posted.wait(lock, [&] { return !loop.empty(); });
    const std::function<void()> call = std::move(loop.front());
    loop.pop_front();
    lock.unlock();
    call();
  }
  EXPECT_THAT(answers, testing::Each(HasSubstr("2")));
}

TEST_F(LibraryTest, TwoAgentsInTwoThreadsShareOneModel) {
  const auto work = [&](const char* prompt) {
    corvid::Session session = start();
    return session.run(prompt);
  };
  auto first = std::async(std::launch::async, work, kCount), second = std::async(std::launch::async, work, kCount);
  EXPECT_EQ(first.get().answer, "2 .txt files.");
  EXPECT_EQ(second.get().answer, "2 .txt files.");
  EXPECT_GE(engine_->stats().passes, 1);
  EXPECT_EQ(store_->list().size(), 2u);
}

TEST_F(LibraryTest, AStopEndsARunSoonAndTheSessionGoesOn) {
  corvid::Session session = start();
  std::stop_source stop;
  const corvid::Result result =
      session.run(kWait, {.stop = stop.get_token(), .on_event = [&](const corvid::Event& event) {
                            if (std::holds_alternative<corvid::ToolCallEvent>(event)) stop.request_stop();
                          }});
  EXPECT_EQ(result.status, corvid::Status::interrupted);
  EXPECT_EQ(session.run(kCount).answer, "2 .txt files.");
}

TEST_F(LibraryTest, CancellingARunFromAnotherThreadEndsItSoon) {
  corvid::Session session = start();
  corvid::Run run = session.begin(kWait);
  while (const auto event = run.next()) {
    if (std::holds_alternative<corvid::ToolCallEvent>(*event)) std::thread([&] { run.cancel(); }).join();
  }
  EXPECT_EQ(run.wait().status, corvid::Status::interrupted);
}

TEST_F(LibraryTest, DestroyingARunCancelsItAndDestroyingTheSessionFirstIsFine) {
  std::optional<corvid::Session> session = start();
  const std::string id = session->id();
  {
    corvid::Run run = session->begin(kWait);
    while (const auto event = run.next()) {
      if (std::holds_alternative<corvid::ToolCallEvent>(*event)) break;
    }
    session.reset();
  }
  EXPECT_EQ(store_->list()[0].status, "interrupted");
}

TEST_F(LibraryTest, ADeadlineEndsARunAsALimit) {
  const corvid::Result over = start().run(kCount, {.deadline = std::chrono::steady_clock::now() - 1s});
  EXPECT_EQ(over.status, corvid::Status::limit);
  const corvid::Result late = start().run(kWait, {.deadline = std::chrono::steady_clock::now() + 2s});
  EXPECT_EQ(late.status, corvid::Status::limit);
  EXPECT_THAT(late.error, HasSubstr("was reached"));
}

TEST_F(LibraryTest, ASessionIsUsedByOneThreadAtATime) {
  corvid::Session session = start();
  corvid::Run run = session.begin(kWait);
  EXPECT_THROW(session.run(kCount), std::logic_error);
  EXPECT_THROW(session.begin(kCount), std::logic_error);
  EXPECT_THROW(session.call_tool("list_dir", "{}"), std::logic_error);
  EXPECT_THROW(session.messages(), std::logic_error);
  run.cancel();
  run.wait();
  EXPECT_EQ(session.messages().front().text, kWait);
}

TEST_F(LibraryTest, AResumedSessionGoesOnWhereTheStoredOneEnded) {
  std::string id;
  {
    corvid::Session session = start();
    session.run(kCount);
    id = session.id();
  }
  corvid::Session session = corvid::Session::resume(*engine_, *store_, corvid::Agent(), id);
  EXPECT_EQ(session.workdir(), fs::canonical(folder_ / "work"));
  EXPECT_EQ(session.messages().size(), 4u);
  const corvid::Result result = session.run(kCount);
  EXPECT_EQ(result.status, corvid::Status::completed) << result.error;
  EXPECT_GT(session.messages().size(), 5u);
  EXPECT_THROW(corvid::Session::resume(*engine_, *store_, corvid::Agent(), "nosuchsession"), std::runtime_error);
}

TEST_F(LibraryTest, AHandlersExceptionEndsTheRunAsAnError) {
  corvid::Session session = start();
  const corvid::Result result = session.run(kCount, {.on_event = [](const corvid::Event& event) {
                                              if (std::holds_alternative<corvid::ToolCallEvent>(event))
                                                throw std::runtime_error("the window is gone");
                                            }});
  EXPECT_EQ(result.status, corvid::Status::error);
  EXPECT_THAT(result.error, HasSubstr("the window is gone"));
  EXPECT_EQ(session.run(kCount).status, corvid::Status::completed);
}

TEST_F(LibraryTest, WrongArgumentsAreSaid) {
  corvid::Agent agent;
  EXPECT_THROW(agent.set_tools({"shel"}), std::invalid_argument);
  EXPECT_THROW(agent.add_tool({"shell", "", R"({"type":"object"})", [](auto&) { return "x"; }}), std::invalid_argument);
  EXPECT_THROW(agent.add_tool({"Bad Name", "", R"({"type":"object"})", [](auto&) { return "x"; }}),
               std::invalid_argument);
  EXPECT_THROW(agent.add_tool({"fine", "", "{", [](auto&) { return "x"; }}), std::invalid_argument);
  EXPECT_THROW(agent.add_tool({"fine", "", R"({"type":"object"})", nullptr}), std::invalid_argument);
  EXPECT_THROW(agent.replace_tool("stock", [](auto&) { return "x"; }), std::invalid_argument);
  EXPECT_THROW(agent.set_policy({.allow_hosts = {"http://x"}}), std::invalid_argument);
  EXPECT_THROW(agent.set_policy({.write_dirs = {folder_ / "nowhere"}}), std::invalid_argument);
  EXPECT_THROW(agent.set_sampler({.temperature = -1}), std::invalid_argument);
  EXPECT_THROW(corvid::Agent::load("nobody"), std::invalid_argument);
  EXPECT_THROW(corvid::Session::start(*engine_, *store_, agent, {.workdir = "/"}), std::invalid_argument);
  EXPECT_THROW(corvid::Session::start(*engine_, *store_, agent, {.workdir = folder_ / "no"}), std::invalid_argument);
  EXPECT_THROW(corvid::Engine(engine_->model(), {.threads = -1}), std::invalid_argument);
  EXPECT_THROW(corvid::Model::load(folder_ / "no.gguf"), std::runtime_error);
  EXPECT_THROW(corvid::Store("/proc/no.db"), std::runtime_error);
  EXPECT_THROW(start().run(" \n"), std::invalid_argument);
  EXPECT_THROW(start().begin(""), std::invalid_argument);
}

TEST_F(LibraryTest, AnAgentFileIsReadAndItsErrorsHaveALine) {
  std::ofstream(folder_ / "clerk.yaml") << "version: 1\nname: clerk\ninstructions: Count.\ntools: [list_dir]\n"
                                           "limits: { turns: 3 }\n"
                                           "sampler: { top_k: 5, stop: [END] }\n";
  corvid::Agent agent = corvid::Agent::load((folder_ / "clerk.yaml").string());
  EXPECT_EQ(agent.name(), "clerk");
  EXPECT_EQ(agent.instructions(), "Count.");
  EXPECT_THAT(agent.tools(), ElementsAre("list_dir"));
  EXPECT_EQ(agent.limits().turns, 3);
  corvid::Sampler sampler = agent.sampler();
  EXPECT_EQ(sampler.top_k, 5);
  EXPECT_THAT(sampler.stop, ElementsAre("END"));
  sampler.temperature = 0.5;
  EXPECT_EQ(agent.set_sampler(sampler).sampler().temperature, 0.5);
  std::ofstream(folder_ / "bad.yaml") << "version: 1\nintsructions: Count.\n";
  try {
    corvid::Agent::load((folder_ / "bad.yaml").string());
    FAIL() << "nothing was thrown";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("bad.yaml:2:1"));
  }
}

TEST(Library, SaysItsVersion) { EXPECT_EQ(corvid::version(), CORVID_VERSION); }

}  // namespace
