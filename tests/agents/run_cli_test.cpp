// corvid run and sessions, end to end with real processes, a real store and small real models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <sstream>

#include "tests/support/home.h"
#include "tests/support/tiny_model.h"

namespace corvid {
namespace {

using test::Finished;
using test::Home;
using test::Json;
using test::Program;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kAnswer = "Nothing to do.";

// One model that answers, and one that never stops, made once for all tests of this program.
class RunCommand : public testing::Test {
 protected:
  std::string answering() const { return test::write_tiny_model(home / "answering", kAnswer).string(); }
  std::string endless() const { return test::write_tiny_model(home / "endless", "and so on, again", true).string(); }
  Finished run(std::vector<std::string> flags, const std::string& model) const {
    flags.insert(flags.begin(), {"run", "--model", model});
    return home.corvid(flags);
  }
  Home home;
};

TEST_F(RunCommand, TextModePrintsTheAnswerAloudAndTheRestAside) {
  const Finished result = run({"hello"}, answering());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, std::string(kAnswer) + "\n");
  EXPECT_THAT(result.err, HasSubstr("session "));
}

TEST_F(RunCommand, JsonIsTheDocumentedObject) {
  const Finished result = run({"--output", "json", "hello"}, answering());
  ASSERT_EQ(result.status, 0) << result.err;
  const Json json = Json::parse(result.last_line());
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  EXPECT_THAT(keys, testing::ElementsAre("session_id", "status", "answer", "turns", "tool_calls", "usage"));
  EXPECT_THAT(json["session_id"].get<std::string>(), Not(IsEmpty()));
  EXPECT_EQ(json["status"], "completed");
  EXPECT_EQ(json["answer"], kAnswer);
  EXPECT_EQ(json["turns"], 1);
  EXPECT_EQ(json["tool_calls"], Json::array());
  for (const char* key :
       {"prompt_tokens", "cached_tokens", "completion_tokens", "prefill_ms", "decode_ms", "tool_ms"}) {
    EXPECT_TRUE(json["usage"][key].is_number()) << key;
  }
}

TEST_F(RunCommand, JsonlIsALineForEachEventAndTheObjectLast) {
  const Finished result = run({"--output", "jsonl", "hello"}, answering());
  ASSERT_EQ(result.status, 0) << result.err;
  std::istringstream lines(result.out);
  std::string line, text;
  std::vector<std::string> events;
  while (std::getline(lines, line)) {
    const Json event = Json::parse(line);
    events.push_back(event.at("event"));
    if (events.back() == "token") text += event.at("text").get<std::string>();
  }
  EXPECT_EQ(events.front(), "session");
  EXPECT_EQ(events.back(), "done");
  EXPECT_THAT(events, testing::Contains("message"));
  EXPECT_EQ(text, kAnswer);
  EXPECT_EQ(Json::parse(result.last_line()).at("answer"), kAnswer);
}

TEST_F(RunCommand, TheSecondRunNeedNotEvaluateInstructionsAndToolsAgain) {
  const std::string model = answering();
  const auto cached = [&](const std::string& prompt) {
    const Finished result = run({"--output", "json", prompt}, model);
    EXPECT_EQ(result.status, 0) << result.err;
    return Json::parse(result.last_line())["usage"]["cached_tokens"].get<int>();
  };
  home.environment["CORVID_CACHE"] = "off";
  EXPECT_EQ(cached("hello"), 0);
  EXPECT_FALSE(std::filesystem::exists(home / "home/.cache"));
  home.environment.erase("CORVID_CACHE");
  EXPECT_EQ(cached("hello"), 0);
  EXPECT_TRUE(std::filesystem::exists(home / "home/.cache/corvid/prefix"));
  const int fixed = cached("hello again");
  EXPECT_GT(fixed, 400);
  home.write("work/AGENTS.md", "Say please.");
  EXPECT_EQ(cached("hello"), 0);
  EXPECT_GT(cached("hello"), fixed);
  home.environment["CORVID_CACHE"] = "of";
  const Finished wrong = run({"hello"}, model);
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("CORVID_CACHE: want on or off, found \"of\""));
}

TEST_F(RunCommand, APromptOfDashComesFromStandardInput) {
  const std::string model = answering();
  EXPECT_EQ(home.corvid({"run", "--model", model, "-"}, "hello\n").out, std::string(kAnswer) + "\n");
  EXPECT_EQ(home.corvid({"run", "--model", model, "-"}, "\n").status, 2);
}

TEST_F(RunCommand, ATokenLimitEndsWithStatusThree) {
  const Finished result = run({"--max-tokens", "7", "--output", "json", "hello"}, endless());
  EXPECT_EQ(result.status, 3) << result.err;
  const Json json = Json::parse(result.last_line());
  EXPECT_EQ(json["status"], "limit");
  EXPECT_EQ(json["usage"]["completion_tokens"], 7);
}

TEST_F(RunCommand, ATimeLimitEndsWithStatusThree) {
  const Finished result =
      run({"--timeout", "700ms", "--max-tokens", "1000000", "--context", "1000000", "hello"}, endless());
  EXPECT_EQ(result.status, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("limit"));
}

TEST_F(RunCommand, TheContextIsALimitToo) {
  const Finished result = run({"--context", "1", "--output", "json", "hello"}, answering());
  EXPECT_THAT(result.status, testing::AnyOf(1, 3)) << result.err;
  EXPECT_THAT(Json::parse(result.last_line())["status"], testing::AnyOf("limit", "error"));
}

TEST_F(RunCommand, AnInterruptEndsCleanlyAndTheSessionGoesOn) {
  const std::string model = endless();
  Program program(Home::command({"run", "--model", model, "--output", "jsonl", "--max-tokens", "1000000", "--context",
                                 "1000000", "hello"}),
                  home.setup());
  ASSERT_TRUE(program.wait_for("\"event\":\"token\""));
  program.signal(SIGINT);
  const Finished result = program.wait();
  EXPECT_EQ(result.status, 130) << result.err;
  const Json json = Json::parse(result.last_line());
  EXPECT_EQ(json["status"], "interrupted");
  const Json shown = Json::parse(home.corvid({"sessions", "show", "last", "--output", "json"}).out);
  EXPECT_EQ(shown["session_id"], json["session_id"]);
  EXPECT_EQ(shown["status"], "interrupted");
  EXPECT_EQ(shown["messages"][0]["text"], "hello");

  const Finished resumed = home.corvid(
      {"run", "--model", model, "--resume", json["session_id"], "--max-tokens", "5", "--output", "json", "go on"});
  EXPECT_EQ(resumed.status, 3) << resumed.err;
  EXPECT_EQ(Json::parse(resumed.last_line())["session_id"], json["session_id"]);
}

TEST_F(RunCommand, AResumedSessionKeepsItsFolderAndHistory) {
  const std::string model = answering();
  const std::filesystem::path other = home / "other";
  std::filesystem::create_directories(other);
  ASSERT_EQ(home.corvid({"run", "--model", model, "--workdir", other.string(), "first"}).status, 0);
  const Finished second = home.corvid({"run", "--model", model, "--resume", "last", "--output", "json", "second"});
  ASSERT_EQ(second.status, 0) << second.err;
  const Finished third = home.corvid({"sessions", "resume", "last", "third", "--model", model});
  EXPECT_EQ(third.out, std::string(kAnswer) + "\n");
  const Json shown = Json::parse(home.corvid({"sessions", "show", "last", "--output", "json"}).out);
  EXPECT_EQ(shown["workdir"], other.string());
  std::vector<std::string> texts;
  for (const Json& message : shown["messages"]) texts.push_back(message["text"]);
  EXPECT_THAT(texts, testing::ElementsAre("first", kAnswer, "second", kAnswer, "third", kAnswer));
  EXPECT_EQ(Json::parse(home.corvid({"sessions", "list", "--output", "json"}).out).size(), 1u);

  std::filesystem::remove_all(other);
  const Finished gone = home.corvid({"run", "--model", model, "--resume", "last", "fourth"});
  EXPECT_EQ(gone.status, 2);
  EXPECT_THAT(gone.err, HasSubstr("no such folder: " + other.string()));
}

TEST_F(RunCommand, SessionsAreListedShownAndRemoved) {
  EXPECT_EQ(home.corvid({"sessions", "list", "--output", "json"}).out, "[]\n");
  const std::string model = answering();
  home.corvid({"run", "--model", model, "the \x1b[31mfirst\nprompt"});
  home.corvid({"run", "--model", model, "the second prompt"});
  const Json list = Json::parse(home.corvid({"sessions", "list", "--output", "json"}).out);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["prompt"], "the second prompt");
  EXPECT_EQ(list[0]["status"], "completed");
  EXPECT_EQ(list[0]["messages"], 2);
  const std::string text = home.corvid({"sessions", "list"}).out;
  EXPECT_THAT(text, HasSubstr("the first prompt\n"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(home.corvid({"sessions", "show", "last"}).out, HasSubstr("> the second prompt\n" + std::string(kAnswer)));
  EXPECT_EQ(home.corvid({"sessions", "rm", list[0]["session_id"]}).status, 0);
  EXPECT_EQ(home.corvid({"sessions", "show", list[0]["session_id"]}).status, 2);
  EXPECT_EQ(Json::parse(home.corvid({"sessions", "list", "--output", "json"}).out).size(), 1u);
}

TEST_F(RunCommand, TheStoreIsTheUsersAlone) {
  run({"hello"}, answering());
  namespace fs = std::filesystem;
  EXPECT_EQ(fs::status(home / "data/corvid").permissions(), fs::perms::owner_all);
  EXPECT_EQ(fs::status(home / "data/corvid/corvid.db").permissions() & (fs::perms::group_all | fs::perms::others_all),
            fs::perms::none);
}

TEST_F(RunCommand, AnAgentWithoutToolsAndNotesOfTheFolderReachTheSession) {
  const std::string agent = home.write("bare.yaml", "name: bare\ninstructions: Say little.\ntools: []\n").string();
  home.write("work/AGENTS.md", "Use tabs.\n");
  ASSERT_EQ(run({"--agent", agent, "hello"}, answering()).status, 0);
  const Json shown = Json::parse(home.corvid({"sessions", "show", "last", "--output", "json"}).out);
  EXPECT_EQ(shown["agent"], "bare");
  EXPECT_EQ(shown["instructions"], "Say little.\n\nNotes on this folder (AGENTS.md):\nUse tabs.");
  EXPECT_FALSE(shown.contains("tools"));
  const std::string unknown = home.write("unknown.yaml", "tools: [telepathy]\n").string();
  const Finished result = run({"--agent", unknown, "hello"}, answering());
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("telepathy"));
}

TEST_F(RunCommand, OnATerminalTheModelsControlSequencesDoNothing) {
  const std::string model = test::write_tiny_model(home / "rude", "a\x1b[5mb\x07!").string();
  const Finished shown = Program(Home::command({"run", "--model", model, "hello"}), home.setup("", true)).wait();
  EXPECT_EQ(shown.status, 0);
  EXPECT_THAT(shown.out, HasSubstr("ab!\r\n"));
  EXPECT_THAT(shown.out, Not(HasSubstr("\x1b[5m")));
  // Through a pipe the bytes are the model's.
  EXPECT_EQ(home.corvid({"run", "--model", model, "hello"}).out, "a\x1b[5mb\x07!\n");
  const Finished json =
      Program(Home::command({"run", "--model", model, "--output", "json", "hello"}), home.setup("", true)).wait();
  EXPECT_THAT(json.out, HasSubstr("a\\u001b[5mb\\u0007!"));
}

TEST_F(RunCommand, ChatThroughAPipeAnswersEachLine) {
  const Finished result = home.corvid({"chat", "--model", answering()}, "one\n\ntwo\n");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, std::string(kAnswer) + "\n" + kAnswer + "\n");
  const Json list = Json::parse(home.corvid({"sessions", "list", "--output", "json"}).out);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["messages"], 4);
}

TEST_F(RunCommand, ChatOnATerminalEditsLinesCancelsATurnAndEndsWithCtrlD) {
  home.environment["CORVID_MODEL"] = endless();
  Program program(Home::command({"--max-tokens", "1000000", "--context", "1000000"}), home.setup("", true));
  ASSERT_TRUE(program.wait_for("> ")) << program.so_far().out;
  program.type(std::string(1, '\0') + "draft\x03");  // Ctrl-Space sets a mark, Ctrl-C drops the line
  ASSERT_TRUE(program.wait_for("^C\r\n> ")) << program.so_far().out;
  const size_t before = program.so_far().out.size();
  program.type("hellp\x7fo ë\r");  // a typo, mended
  ASSERT_TRUE(program.wait_for("and so on, again", before)) << program.so_far().out;
  const size_t turn = program.so_far().out.size();
  program.type("\x03");  // cancels the turn, not the chat
  ASSERT_TRUE(program.wait_for("interrupted", turn)) << program.so_far().out;
  ASSERT_TRUE(program.wait_for("> ", program.so_far().out.find("interrupted", turn))) << program.so_far().out;
  program.type("\x04");
  EXPECT_EQ(program.wait().status, 0) << program.so_far().out.substr(turn);
  const Json shown = Json::parse(home.corvid({"sessions", "show", "last", "--output", "json"}).out);
  EXPECT_EQ(shown["messages"][0]["text"], "hello ë");
  EXPECT_THAT(home.read("data/corvid/history"), HasSubstr("hello"));
}

TEST_F(RunCommand, ACtrlDTypedWhileTheModelIsBusyEndsTheChatAfterTheTurn) {
  home.environment["CORVID_MODEL"] = endless();
  Program program(Home::command({"--max-tokens", "2000", "--context", "1000000"}), home.setup("", true));
  ASSERT_TRUE(program.wait_for("> ")) << program.so_far().out;
  program.type("hello\r");
  ASSERT_TRUE(program.wait_for("and so on, again")) << program.so_far().out;
  program.type("\x04");
  EXPECT_EQ(program.wait().status, 0);
}

// With the model that ships: the main job, from the prompt through a tool to the answer.
class ShippedModel : public RunCommand {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(std::string(CORVID_SOURCE_DIR) + "/configs/models/corvid-small.gguf")) {
      GTEST_SKIP() << "configs/models/corvid-small.gguf is not here";
    }
    if (home.corvid({"sandbox", "--", "true"}).status != 0) GTEST_SKIP() << "commands cannot be confined here";
  }
};

TEST_F(ShippedModel, CountsFilesWithATool) {
  for (const char* name : {"work/notes/a.txt", "work/notes/b.txt", "work/notes/c.txt", "work/notes/d.md"})
    home.write(name, "x\n");
  const Finished result = home.corvid({"run", "--output", "json", "how many txt files are in notes?"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json json = Json::parse(result.last_line());
  EXPECT_EQ(json["status"], "completed");
  ASSERT_THAT(json["tool_calls"], Not(IsEmpty()));
  EXPECT_EQ(json["tool_calls"][0]["status"], "ok");
  EXPECT_TRUE(json["tool_calls"][0]["arguments"].is_object());
  EXPECT_THAT(json["answer"].get<std::string>(), testing::ContainsRegex("3|[Tt]hree"));
  EXPECT_THAT(result.err, HasSubstr("· " + json["tool_calls"][0]["name"].get<std::string>()));
}

TEST_F(ShippedModel, AResumedSessionReadsItsHistoryFromTheCacheOfItsOwnRun) {
  home.write("work/seeds.txt", "tomato\nbasil\n");
  const Finished first = home.corvid({"run", "--output", "json", "how many lines does seeds.txt have?"});
  ASSERT_EQ(first.status, 0) << first.err;
  const Json json = Json::parse(first.last_line());
  if (json["turns"] > 1) {
    EXPECT_GT(json["usage"]["cached_tokens"], 0);  // the second turn extends the first
  }
  const Finished second = home.corvid({"run", "--output", "json", "--resume", json["session_id"], "thanks"});
  EXPECT_THAT(second.status, testing::AnyOf(0, 3)) << second.err;
}

}  // namespace
}  // namespace corvid
