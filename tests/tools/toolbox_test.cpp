// The toolbox: what a model can get wrong becomes a result that says what was wanted; the shell tool's texts.
#include "tools/toolbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/support/temp_dir.h"
#include "tests/support/test_tools.h"
#include "tools/schema.h"
#include "tools/text.h"

namespace corvid::tools {
namespace {

class ToolboxTest : public testing::Test {
 protected:
  ToolResult run(std::string_view tool, std::string_view args) { return box.run(tool, args, {}); }

  test::TempDir dir;
  Toolbox box = make_toolbox(Sandbox(dir.path(), {}));
};

TEST_F(ToolboxTest, TheSpecificationsAreThoseOfThePrompt) {
  std::ostringstream golden;
  golden << std::ifstream(std::string(CORVID_GOLDEN_DIR) + "/chat/prefix.txt", std::ios::binary).rdbuf();
  std::string lines;
  for (const ToolSpec& spec : box.specs()) {
    Json json;
    json["name"] = spec.name, json["description"] = spec.description, json["parameters"] = spec.parameters;
    lines += "<tool>" + json.dump() + "</tool>\n";
  }
  EXPECT_THAT(golden.str(), testing::HasSubstr("<tools>\n" + lines + "</tools>"));
}

TEST_F(ToolboxTest, WrongCallsAreAnsweredWithWhatWasWanted) {
  const auto wrong = [&](std::string_view tool, std::string_view args) {
    const ToolResult result = run(tool, args);
    EXPECT_EQ(result.status, Status::bad_args);
    return result.text;
  };
  EXPECT_EQ(
      wrong("bash", "{}"),
      "[error: no tool named bash; the tools are shell, read_file, write_file, edit_file, list_dir, http_request]");
  EXPECT_EQ(wrong("shell", "{}"), "[error: shell needs \"command\" (string)]");
  EXPECT_EQ(wrong("shell", ""), "[error: shell needs \"command\" (string)]");
  EXPECT_EQ(wrong("write_file", "{}"), "[error: write_file needs \"path\" (string) and \"content\" (string)]");
  EXPECT_EQ(wrong("read_file", R"({"file":"a"})"),
            "[error: read_file has no argument \"file\"; it takes path, offset, limit, numbers]");
  EXPECT_EQ(wrong("read_file", R"({"path":"a","offset":"x"})"), "[error: \"offset\" must be an integer, found \"x\"]");
  EXPECT_EQ(wrong("read_file", R"({"path":"a","offset":1.5})"), "[error: \"offset\" must be an integer, found 1.5]");
  EXPECT_EQ(wrong("read_file", R"({"path":7})"), "[error: \"path\" must be a string, found 7]");
  EXPECT_EQ(wrong("read_file", R"({"path":"a","numbers":1})"), "[error: \"numbers\" must be a boolean, found 1]");
  EXPECT_EQ(wrong("http_request", R"({"method":"GET","url":"http://a","headers":{"A":1}})"),
            "[error: \"headers\" must be an object of strings, found {\"A\":1}]");
  EXPECT_EQ(wrong("shell", "[]"), "[error: the arguments must be an object, found []]");
  EXPECT_THAT(wrong("shell", "{\"command\":"), testing::StartsWith("[error: the arguments are not JSON: parse error"));
  EXPECT_EQ(wrong("shell", std::string(100'000, '[')), "[error: the arguments are nested deeper than 64]");
  EXPECT_EQ(wrong("shell", R"({"command":"ls","sandbox":"none"})"),
            "[error: shell has no argument \"sandbox\"; it takes command, timeout_s]");
}

TEST(Schema, OneThatIsNoObjectAllowsAnything) {
  const ToolSpec spec{"any", "Takes what comes", Json::parse(R"({"properties":{"x":true},"required":["x"]})")};
  EXPECT_EQ(check_arguments(spec, Json::object()), "any needs \"x\" (any)");
  EXPECT_EQ(check_arguments(spec, Json::parse(R"({"x":[7]})")), std::nullopt);
}

TEST_F(ToolboxTest, AToolThatThrowsIsAFailedCall) {
  box.add(std::make_unique<test::FunctionTool>("bad", [](const std::string&, std::stop_token) -> ToolResult {
    throw std::runtime_error("the disk is on fire");
  }));
  const ToolResult result = run("bad", R"({"text":"x"})");
  EXPECT_EQ(result.status, Status::failed);
  EXPECT_EQ(result.text, "[error: the disk is on fire]");
}

TEST_F(ToolboxTest, WhatTheModelSeesIsValidUtf8) {
  box.add(std::make_unique<test::FunctionTool>("raw", [](const std::string&, std::stop_token) {
    return test::ok(std::string("a\xff\xc0\x80z\0\xed\xa0\x80 \xc3\xa9 \x1b[31m", 18));
  }));
  EXPECT_EQ(run("raw", R"({"text":"x"})").text,
            "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xc3\xa9 \x1b[31m");
}

TEST_F(ToolboxTest, ANameIsTakenOnce) {
  EXPECT_THROW(box.add(std::make_unique<test::FunctionTool>("shell", nullptr)), std::invalid_argument);
  EXPECT_THROW(make_toolbox(Sandbox(dir.path(), {}), {"shell", "teleport"}), std::invalid_argument);
  EXPECT_EQ(make_toolbox(Sandbox(dir.path(), {}), {"list_dir", "shell"}).specs()[1].name, "shell");
}

TEST_F(ToolboxTest, AToolIsReplacedInItsPlace) {
  const std::string third = box.specs()[2].name;
  box.replace(std::make_unique<test::FunctionTool>(
      third, [](const std::string& text, std::stop_token) { return test::ok("mine: " + text); }));
  EXPECT_EQ(box.specs().size(), 6u);
  EXPECT_EQ(box.specs()[2].name, third);
  EXPECT_EQ(run(third, R"({"text":"x"})").text, "mine: x");
  EXPECT_THROW(box.replace(std::make_unique<test::FunctionTool>("teleport", nullptr)), std::invalid_argument);
}

TEST_F(ToolboxTest, AStatusHasItsOutsideName) {
  EXPECT_STREQ(to_text(Status::ok), "ok");
  for (const Status status : {Status::failed, Status::bad_args, Status::cancelled})
    EXPECT_STREQ(to_text(status), "error");
  EXPECT_STREQ(to_text(Status::denied), "denied");
  EXPECT_STREQ(to_text(Status::timed_out), "timeout");
}

class ShellToolTest : public ToolboxTest {
 protected:
  void SetUp() override {
    if (const auto missing = Sandbox::missing_mechanism()) GTEST_SKIP() << *missing;
  }
  std::string shell(const std::string& command) { return run("shell", Json{{"command", command}}.dump()).text; }
};

TEST_F(ShellToolTest, TheTextSaysAllThatHappened) {
  EXPECT_EQ(shell("echo out"), "out");
  EXPECT_EQ(shell("printf 'a\\n\\n'"), "a\n");
  EXPECT_EQ(shell("true"), "[no output]");
  EXPECT_EQ(shell("false"), "[exit code 1]");
  EXPECT_EQ(shell("echo out; echo err >&2"), "out\n[stderr]\nerr");
  EXPECT_EQ(shell("printf out; printf err >&2; exit 3"), "out\n[stderr]\nerr\n[exit code 3]");
  EXPECT_EQ(shell("echo err >&2"), "[stderr]\nerr");
  EXPECT_EQ(shell("nosuchprogram"), "[stderr]\nbash: line 1: nosuchprogram: command not found\n[exit code 127]");
  EXPECT_EQ(shell("kill -SEGV $$"), "[exit code 139]");
}

TEST_F(ShellToolTest, StatusAndDetailFollowTheExit) {
  const ToolResult good = run("shell", R"({"command":"echo hi"})"), bad = run("shell", R"({"command":"exit 4"})");
  EXPECT_EQ(good.status, Status::ok);
  EXPECT_EQ(good.detail["exit_code"], 0);
  EXPECT_EQ(good.detail["stdout_bytes"], 3);
  EXPECT_EQ(bad.status, Status::failed);
  EXPECT_EQ(bad.detail["exit_code"], 4);
}

TEST_F(ShellToolTest, ATimeoutIsSaidAfterWhatWasPrinted) {
  const ToolResult late = run("shell", R"({"command":"echo before; sleep 600","timeout_s":1})");
  EXPECT_EQ(late.status, Status::timed_out);
  EXPECT_EQ(late.text, "before\n[timed out after 1 s]");
  EXPECT_EQ(run("shell", R"({"command":"true","timeout_s":0})").text,
            "[error: \"timeout_s\" must be from 1 to 600, found 0]");
  EXPECT_EQ(run("shell", R"({"command":"true","timeout_s":601})").status, Status::bad_args);
}

TEST_F(ShellToolTest, LongOutputKeepsItsEnds) {
  const std::string text = shell("seq 100000");
  EXPECT_THAT(text, testing::StartsWith("1\n2\n3\n"));
  EXPECT_THAT(text, testing::ContainsRegex("\n\\[\\.\\.\\. [0-9]+ bytes cut \\.\\.\\.\\]\n"));
  EXPECT_THAT(text, testing::EndsWith("\n99999\n100000"));
  EXPECT_LT(text.size(), 17'000U);
}

TEST_F(ShellToolTest, AnAbsurdCommandIsAnError) {
  EXPECT_EQ(shell(std::string(200'000, 'x')),
            "[error: the command is too long: 200000 bytes, the system takes 131071]");
  EXPECT_EQ(shell(std::string("a\0b", 3)), "[error: the command holds a NUL byte]");
}

TEST(HeadTail, CutsBetweenCharactersAndCountsWhatIsGone) {
  HeadTail kept(8);
  for (int i = 0; i < 100; ++i)
    kept.append("\xe2\x82\xac");  // 3 bytes each; 4 and 4 kept, of which whole ones are 3 and 3
  EXPECT_EQ(kept.total(), 300);
  EXPECT_EQ(kept.text(), "\xe2\x82\xac\n[... 294 bytes cut ...]\n\xe2\x82\xac");
  HeadTail all(6);
  all.append("abc"), all.append("def");
  EXPECT_EQ(all.text(), "abcdef");
}

}  // namespace
}  // namespace corvid::tools
