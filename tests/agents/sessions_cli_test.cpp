// corvid sessions fork, merge, export and replay, end to end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/home.h"
#include "tests/support/tiny_model.h"

namespace corvid {
namespace {

using test::Finished;
using test::Home;
using test::Json;
using testing::HasSubstr;

class SessionsCommand : public testing::Test {
 protected:
  std::string model() const { return test::write_tiny_model(home / "answering", "Nothing to do.").string(); }
  std::string make_session(std::vector<std::string> flags = {}) const {
    flags.insert(flags.begin(), {"run", "--model", model(), "--output", "json", "hello <b>"});
    return Json::parse(home.corvid(flags).last_line())["session_id"];
  }
  Home home;
};

TEST_F(SessionsCommand, AForkGoesOnByItself) {
  const std::string id = make_session();
  const Finished forked = home.corvid({"sessions", "fork", id, "--at", "1", "--output", "json"});
  ASSERT_EQ(forked.status, 0) << forked.err;
  const std::string child = Json::parse(forked.out)["session_id"];
  EXPECT_EQ(home.corvid({"sessions", "resume", child, "and now?", "--model", model()}).status, 0);
  const auto messages = [&](const std::string& session) {
    return Json::parse(home.corvid({"sessions", "show", session, "--output", "json"}).out)["messages"].size();
  };
  EXPECT_EQ(messages(id), 2u);
  EXPECT_EQ(messages(child), 3u);  // the first prompt, the second and its answer
  const Finished wrong = home.corvid({"sessions", "fork", id, "--at", "9"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("want at most 2 messages"));
}

TEST_F(SessionsCommand, MergesStoresAndNamesConflicts) {
  const std::string a = (home / "a.db").string(), b = (home / "b.db").string(), all = (home / "all.db").string();
  const std::string one = make_session({"--db", a}), two = make_session({"--db", b});
  const Finished merged = home.corvid({"sessions", "merge", a, b, "--db", all, "--output", "json"});
  ASSERT_EQ(merged.status, 0) << merged.err;
  EXPECT_EQ(Json::parse(merged.out), Json::parse(R"({"added":2,"continued":0,"unchanged":0,"conflicts":[]})"));
  const std::string shown = home.corvid({"sessions", "show", one, "--db", all}).out;
  EXPECT_EQ(shown, home.corvid({"sessions", "show", one, "--db", a}).out);
  EXPECT_EQ(home.corvid({"sessions", "merge", "--db", all, a, b}).out,
            "0 added, 0 continued, 2 unchanged, 0 conflicts\n");
  home.corvid({"sessions", "resume", one, "here", "--model", model(), "--db", all});
  home.corvid({"sessions", "resume", one, "there", "--model", model(), "--db", a});
  const Finished conflict = home.corvid({"sessions", "merge", a, "--db", all});
  EXPECT_EQ(conflict.status, 1);
  EXPECT_EQ(conflict.out, "0 added, 0 continued, 0 unchanged, 1 conflict\n");
  EXPECT_THAT(conflict.err, HasSubstr("conflict: session " + one + ": message 2 is another one"));
}

TEST_F(SessionsCommand, ExportsThatOthersRead) {
  const std::string id = make_session();
  const auto exported = [&](const std::string& format) {
    return home.corvid({"sessions", "export", id, "--format", format}).out;
  };
  const Json json = Json::parse(exported("json"));
  EXPECT_EQ(json["session_id"], id);
  EXPECT_EQ(json["messages"][1]["text"], "Nothing to do.");
  EXPECT_FALSE(json["messages"][1]["tokens"].empty());
  EXPECT_EQ(json["tools"][0]["name"], "shell");
  const std::string lines = exported("jsonl");
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 3);
  EXPECT_EQ(Json::parse(lines.substr(0, lines.find('\n')))["type"], "session");
  EXPECT_THAT(exported("markdown"), HasSubstr("## user\n\n```\nhello <b>\n```\n"));
  EXPECT_THAT(exported("html"), HasSubstr("<pre>hello &lt;b&gt;</pre>"));
}

TEST_F(SessionsCommand, AReplayOfTheModelThatShipsIsTheSameBitForBit) {
  home.write("work/notes/a.txt", "one\n");
  home.write("work/notes/b.txt", "two\n");
  // Sampled, through a tool, in two runs, the second of which is cut.
  const Finished first = home.corvid(
      {"run", "--output", "json", "--temperature", "0.8", "--seed", "5", "how many txt files are in notes?"});
  ASSERT_EQ(first.status, 0) << first.err;
  const std::string id = Json::parse(first.last_line())["session_id"];
  EXPECT_EQ(home.corvid({"sessions", "resume", id, "hello there", "--max-tokens", "5"}).status, 3);
  std::filesystem::remove_all(home.work() / "notes");  // no tool runs
  const Finished replayed = home.corvid({"sessions", "replay", id, "--output", "json"});
  EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
  const Json json = Json::parse(replayed.last_line());
  EXPECT_TRUE(json["same"]);
  EXPECT_GE(json["replies"].size(), 3u) << json;
  EXPECT_THAT(home.corvid({"sessions", "replay", id}).out, HasSubstr("the same, bit for bit"));

  EXPECT_EQ(home.corvid({"sessions", "replay", id, "--model", model()}).status, 1);
  home.environment["CORVID_MODEL"] = model();
  const Finished another = home.corvid({"sessions", "replay", id});
  EXPECT_EQ(another.status, 2);
  EXPECT_THAT(another.err, HasSubstr("was begun with the model corvid-small"));
}

}  // namespace
}  // namespace corvid
