// The C++ library as a host sees it: public headers, the shared object, the model that ships, real tools.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <corvid/corvid.hpp>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <future>
#include <map>
#include <thread>

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// One engine for all tests, as a host has one. It is let go of at the end, so that leaks show.
class LibraryTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { engine_.emplace(corvid::Model::shipped(), corvid::EngineOptions{.threads = 2}); }
  static void TearDownTestSuite() { engine_.reset(); }

  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "corvid-library-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    fs::create_directories(folder_ / "work/notes");
    for (const char* note : {"a.txt", "b.txt", "c.md"}) std::ofstream(folder_ / "work/notes" / note) << "one\ntwo\n";
    store_.emplace(folder_ / "sub/agents.db");
  }
  void TearDown() override {
    store_.reset();
    fs::remove_all(folder_);
  }

  corvid::Session start(const corvid::Agent& agent = corvid::Agent()) {
    return corvid::Session::start(*engine_, *store_, agent, {.workdir = folder_ / "work"});
  }

  inline static std::optional<corvid::Engine> engine_;
  fs::path folder_;
  std::optional<corvid::Store> store_;
};

constexpr const char* kCount = "how many txt files are in notes?";
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

TEST_F(LibraryTest, ThePrefixFolderSparesTheNextEngineTheInstructions) {
  const auto cached = [&] {
    const corvid::Engine engine(corvid::Model::shipped(), {.threads = 2, .prefix_folder = folder_ / "prefix"});
    corvid::Session session = corvid::Session::start(engine, *store_, corvid::Agent(), {.workdir = folder_ / "work"});
    // What the first turn found; later turns find what they evaluated themselves.
    int64_t found = -1;
    corvid::Agent agent;
    session.run(kCount, {.on_event = [&](const corvid::Event& event) {
                  if (std::holds_alternative<corvid::ToolCallEvent>(event) && found < 0) found = engine.stats().tokens;
                }});
    return found;
  };
  const int64_t first = cached(), second = cached();
  EXPECT_LT(second, first / 2);
  EXPECT_FALSE(fs::is_empty(folder_ / "prefix"));
}

// What is kept where a link in the session's folder led when it was opened: hidden there, and read there, also when a
// command has turned the link elsewhere.
TEST_F(LibraryTest, FoldersBehindLinksAreHiddenWhereTheyAre) {
  fs::create_directories(folder_ / "work/real");
  fs::create_directory_symlink("real", folder_ / "work/link");
  const corvid::Store store(folder_ / "work/link/agents.db", {.session_folder = folder_ / "work/link/kept"});
  EXPECT_EQ(store.file(), fs::canonical(folder_) / "work/real/agents.db");
  const mode_t mask = ::umask(002);
  {
    corvid::Session session = corvid::Session::start(*engine_, store, corvid::Agent(), {.workdir = folder_ / "work"});
    session.call_tool("shell", R"({"command":"rm link; mkdir other; ln -s other link"})");
    session.run(kCount);
  }
  ::umask(mask);
  EXPECT_EQ(fs::status(folder_ / "work/real/kept").permissions(), fs::perms::owner_all);
  EXPECT_FALSE(fs::is_empty(folder_ / "work/real/kept"));
  EXPECT_TRUE(fs::is_empty(folder_ / "work/other"));
}

// What a resumed session restores instead of reading it again.
TEST_F(LibraryTest, TheSessionFolderSparesAResumedSessionItsHistory) {
  const corvid::StoreOptions options{.session_folder = folder_ / "work/kept"};
  const corvid::Store store(folder_ / "work/agents.db", options);
  const auto evaluated_by = [&](const std::function<void(const corvid::Engine&)>& work) {
    const corvid::Engine engine(corvid::Model::shipped(), {.threads = 2});
    work(engine);
    return engine.stats().tokens;
  };
  std::string id, answer;
  evaluated_by([&](const corvid::Engine& engine) {
    corvid::Session session = corvid::Session::start(engine, store, corvid::Agent(), {.workdir = folder_ / "work"});
    session.run(kCount);
    id = session.id();
  });
  const auto resume = [&](const corvid::Store& with, const corvid::Engine& engine) {
    // A copy of the store, so that both go on from the same messages.
    answer = corvid::Session::resume(engine, with, corvid::Agent(), id).run("how many md files are in notes?").answer;
  };
  for (const char* suffix : {"", "-wal"}) {
    if (fs::exists((folder_ / "work/agents.db") += suffix))
      fs::copy_file((folder_ / "work/agents.db") += suffix, (folder_ / "copy.db") += suffix);
  }
  const int64_t restored = evaluated_by([&](const corvid::Engine& engine) { resume(store, engine); });
  EXPECT_THAT(answer, HasSubstr("1"));
  const std::string restored_answer = answer;
  const int64_t read =
      evaluated_by([&](const corvid::Engine& engine) { resume(corvid::Store(folder_ / "copy.db"), engine); });
  EXPECT_EQ(answer, restored_answer);
  EXPECT_LT(restored, read / 2);
  // The tools of a session in the folder around it do not see it, nor the store beside it.
  corvid::Session session = corvid::Session::start(*engine_, store, corvid::Agent(), {.workdir = folder_ / "work"});
  const std::string list = R"({"command":"ls kept; cat agents.db; ls -A kept | wc -l"})";
  EXPECT_THAT(session.call_tool("shell", list).text, StartsWith("0"));
  EXPECT_NE(session.call_tool("write_file", R"({"path":"kept/x.kv","content":"x"})").status, corvid::ToolStatus::ok);
  EXPECT_FALSE(fs::is_empty(folder_ / "work/kept"));
  store.remove(id);
  EXPECT_TRUE(fs::is_empty(folder_ / "work/kept"));
}

TEST_F(LibraryTest, ToolsDoNotSeeThePrefixFolderInTheirOwn) {
  const corvid::Engine engine(corvid::Model::shipped(), {.threads = 2, .prefix_folder = folder_ / "work/prefix"});
  corvid::Session session = corvid::Session::start(engine, *store_, corvid::Agent(), {.workdir = folder_ / "work"});
  session.run(kCount);
  EXPECT_FALSE(fs::is_empty(folder_ / "work/prefix"));
  EXPECT_EQ(session.call_tool("shell", R"({"command":"ls -A prefix | wc -l"})").text, "0");
  session.call_tool("shell", R"({"command":"echo x > prefix/planted.kv; rm -rf prefix/*; mv prefix elsewhere"})");
  EXPECT_NE(session.call_tool("write_file", R"({"path":"prefix/planted.kv","content":"x"})").status,
            corvid::ToolStatus::ok);
  EXPECT_FALSE(fs::exists(folder_ / "work/prefix/planted.kv"));
  EXPECT_FALSE(fs::is_empty(folder_ / "work/prefix"));
}

TEST_F(LibraryTest, TheDeviceIsTheHostsChoice) {
  EXPECT_EQ(corvid::Engine(corvid::Model::shipped(), {.device = corvid::Device::cpu}).device(), corvid::Device::cpu);
  EXPECT_NE(engine_->device(), corvid::Device::automatic);
  EXPECT_THROW(
      corvid::Engine(engine_->model(), {.cache_type = corvid::CacheType::q8_0, .device = corvid::Device::cuda}),
      std::invalid_argument);
  EXPECT_THROW(corvid::Engine(engine_->model(), {.device = corvid::Device(9)}), std::invalid_argument);
  if (engine_->device() == corvid::Device::cuda) return;
  try {
    corvid::Engine(engine_->model(), {.device = corvid::Device::cuda});
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), StartsWith("device: cuda: corvid-small.gguf: "));
  }
}

// What a host must not find changed.
std::map<int, void (*)(int)> handlers() {
  std::map<int, void (*)(int)> all;
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) == 0) all[number] = action.sa_handler;
  }
  return all;
}

TEST_F(LibraryTest, LeavesTheProcessAsItWas) {
  const auto handlers_before = handlers();
  const mode_t mask = ::umask(022);
  const fs::path folder = fs::current_path();
  sigset_t blocked_before, blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked_before);
  std::FILE* const caught = std::tmpfile();
  const int out = ::dup(1), err = ::dup(2);
  ::dup2(::fileno(caught), 1), ::dup2(::fileno(caught), 2);
  {
    const corvid::Engine engine(corvid::Model::shipped(), {.threads = 2});
    corvid::Session session = corvid::Session::start(engine, *store_, corvid::Agent(), {.workdir = folder_ / "work"});
    session.run(kCount);
    session.begin(kCount).wait();
  }
  ::dup2(out, 1), ::dup2(err, 2);
  ::close(out), ::close(err);
  EXPECT_EQ(::ftell(caught) + ::lseek(::fileno(caught), 0, SEEK_END), 0) << "something was printed";
  std::fclose(caught);
  EXPECT_EQ(handlers(), handlers_before);
  EXPECT_EQ(::umask(mask), 022u);
  EXPECT_EQ(fs::current_path(), folder);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  for (int number = 1; number < NSIG; ++number)
    EXPECT_EQ(sigismember(&blocked, number), sigismember(&blocked_before, number)) << number;
}

// The signals that each thread of this process blocks, as the kernel tells them; but for the calling one.
std::vector<uint64_t> blocked_elsewhere() {
  std::vector<uint64_t> masks;
  for (const fs::directory_entry& task : fs::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(::gettid())) continue;
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("SigBlk:")) masks.push_back(std::stoull(line.substr(7), nullptr, 16));
  }
  return masks;
}

TEST_F(LibraryTest, ItsThreadsNeverRunAHandlerOfTheHosts) {
  corvid::Session session = start();
  std::vector<uint64_t> masks;
  session.run(kCount, {.on_event = [&](const corvid::Event& event) {
                if (std::holds_alternative<corvid::ToolCallEvent>(event)) masks = blocked_elsewhere();
              }});
  corvid::Run run = session.begin(kCount);
  while (const auto event = run.next()) {
    if (!std::holds_alternative<corvid::ToolCallEvent>(*event)) continue;
    const std::vector<uint64_t> more = blocked_elsewhere();
    masks.insert(masks.end(), more.begin(), more.end());
  }
  EXPECT_GE(masks.size(), 3u);  // the engine's, the clock's, the run's
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGALRM})
    EXPECT_THAT(masks, testing::Each(testing::Truly([&](uint64_t mask) { return (mask >> (number - 1) & 1) == 1; })))
        << number;
}

TEST_F(LibraryTest, TheHostsLoggerGetsTheRemarks) {
  std::mutex mutex;
  std::vector<std::string> lines;
  const corvid::Engine engine(corvid::Model::shipped(), {.logger = [&](corvid::LogLevel, std::string_view line) {
                                const std::lock_guard lock(mutex);
                                lines.emplace_back(line);
                                throw std::runtime_error("a logger that throws harms nobody");
                              }});
  corvid::Session session = corvid::Session::start(engine, *store_, corvid::Agent(), {.workdir = folder_ / "work"});
  session.run(kCount);
  EXPECT_THAT(lines, ElementsAre(StartsWith("engine: corvid-small.gguf from "), HasSubstr(": begun by default in "),
                                 HasSubstr(": completed, 2 turns, ")));
}

TEST(Library, SaysItsVersion) { EXPECT_EQ(corvid::version(), CORVID_VERSION); }

}  // namespace
