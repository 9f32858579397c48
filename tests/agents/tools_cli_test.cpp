// corvid tools, policy, sandbox and doctor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/support/home.h"

namespace corvid {
namespace {

using test::Finished;
using test::Home;
using test::Json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class ToolsCommand : public testing::Test {
 protected:
  bool can_confine() const { return home.corvid({"sandbox", "--", "true"}).status == 0; }
  Home home;
};

TEST_F(ToolsCommand, ListNamesTheAgentsTools) {
  const Json list = Json::parse(home.corvid({"tools", "list", "--output", "json"}).out);
  std::vector<std::string> names;
  for (const Json& tool : list) {
    names.push_back(tool["name"]);
    EXPECT_EQ(tool["parameters"]["type"], "object");
  }
  EXPECT_THAT(names, testing::ElementsAre("shell", "read_file", "write_file", "edit_file", "list_dir", "http_request"));
  EXPECT_THAT(home.corvid({"tools", "list"}).out, HasSubstr("read_file(path, offset?, limit?, numbers?)"));
}

TEST_F(ToolsCommand, CallGivesTheResultAndAStatus) {
  home.write("work/a.txt", "one\ntwo\n");
  EXPECT_EQ(home.corvid({"tools", "call", "read_file", R"({"path":"a.txt"})"}).out, "one\ntwo\n");
  const Finished json =
      home.corvid({"tools", "call", "read_file", "-", "--output", "json"}, R"({"path":"missing.txt"})");
  EXPECT_EQ(json.status, 1);
  const Json result = Json::parse(json.out);
  EXPECT_EQ(result["name"], "read_file");
  EXPECT_EQ(result["arguments"]["path"], "missing.txt");
  EXPECT_EQ(result["status"], "error");
  EXPECT_EQ(result["text"], "[error: no such file: missing.txt]");
  const Finished outside = home.corvid({"tools", "call", "read_file", R"({"path":"/etc/passwd"})", "--output", "json"});
  EXPECT_EQ(outside.status, 1);
  EXPECT_EQ(Json::parse(outside.out)["status"], "denied");
  EXPECT_EQ(home.corvid({"tools", "call", "telepathy", "{}"}).status, 2);
  EXPECT_EQ(home.corvid({"tools", "call", "read_file", "{"}).status, 2);
}

TEST_F(ToolsCommand, ArgumentsOfAbsurdDepthAreRefusedAndShownAsText) {
  const std::string deep = R"({"command":)" + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  const Finished refused = home.corvid({"tools", "call", "shell", "-", "--output", "json"}, deep);
  EXPECT_EQ(refused.status, 2);
  const Json result = Json::parse(refused.out);
  EXPECT_EQ(result["arguments"], deep);
  EXPECT_EQ(result["text"], "[error: the arguments are nested deeper than 64]");
}

TEST_F(ToolsCommand, CallTakesTheWorkingFolderAndHostsFromFlags) {
  std::filesystem::create_directories(home / "garden");
  home.write("garden/b.txt", "bee\n");
  EXPECT_EQ(
      home.corvid({"tools", "call", "read_file", R"({"path":"b.txt"})", "--workdir", (home / "garden").string()}).out,
      "bee\n");
  const std::string request = R"({"method":"GET","url":"http://127.0.0.1:9/"})";
  EXPECT_THAT(home.corvid({"tools", "call", "http_request", request}).out,
              HasSubstr("[denied: host 127.0.0.1:9 is not allowed"));
  EXPECT_THAT(home.corvid({"tools", "call", "http_request", request, "--allow-host", "127.0.0.1"}).out,
              HasSubstr("could not connect"));
}

TEST_F(ToolsCommand, ShellRunsInTheSandbox) {
  if (!can_confine()) GTEST_SKIP() << "commands cannot be confined here";
  const Finished result = home.corvid({"tools", "call", "shell", R"({"command":"pwd; exit 3"})", "--output", "json"});
  EXPECT_EQ(result.status, 1);
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["exit_code"], 3);
  EXPECT_EQ(json["text"], home.work().string() + "\n[exit code 3]");
}

TEST_F(ToolsCommand, TheStoreIsOutOfSightWhereverItLies) {
  home.write("config/corvid/config.yaml", "db: " + (home / "work/corvid.db").string() + "\n");
  ASSERT_EQ(home.corvid({"sessions", "list"}).status, 0);
  const std::string before = home.read("work/corvid.db");
  ASSERT_THAT(before, testing::StartsWith("SQLite format 3"));
  const Finished read = home.corvid({"tools", "call", "read_file", R"({"path":"corvid.db"})", "--output", "json"});
  EXPECT_EQ(Json::parse(read.out)["status"], "denied");
  if (!can_confine()) GTEST_SKIP() << "commands cannot be confined here";
  const Finished shell =
      home.corvid({"sandbox", "--", "bash", "-c", "cat corvid.db; echo x > corvid.db; rm corvid.db"});
  EXPECT_EQ(shell.out, "");
  EXPECT_EQ(home.read("work/corvid.db"), before);
  EXPECT_EQ(home.corvid({"sessions", "list"}).status, 0);
}

// Who could write to what the model remembers could make it believe anything.
TEST_F(ToolsCommand, TheCacheIsOutOfSightAlsoInTheHomeFolder) {
  home.write("home/.cache/corvid/prefix/a.kv", "evaluated");
  home.write("home/.cache/other", "visible");
  const auto read = [&](const std::string& path) {
    return Json::parse(home.corvid({"tools", "call", "read_file", R"({"path":")" + path + R"("})", "--workdir",
                                    (home / "home").string(), "--output", "json"})
                           .out)["status"];
  };
  EXPECT_EQ(read(".cache/other"), "ok");
  EXPECT_EQ(read(".cache/corvid/prefix/a.kv"), "denied");
  if (!can_confine()) GTEST_SKIP() << "commands cannot be confined here";
  const Finished shell =
      home.corvid({"sandbox", "--workdir", (home / "home").string(), "--", "bash", "-c",
                   "cat .cache/other; cd .cache/corvid/prefix && { cat a.kv; echo x > a.kv; rm a.kv; }; "
                   "mv ~/.cache/corvid ~/seen"});
  EXPECT_EQ(shell.out, "visible");
  EXPECT_EQ(home.read("home/.cache/corvid/prefix/a.kv"), "evaluated");
}

TEST_F(ToolsCommand, AFolderThatCannotBeGivenAwayIsWrongUsage) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"sandbox", "--workdir", "/", "--", "true"},
                                                {"tools", "list", "--workdir", "/proc"},
                                                {"tools", "list", "--allow-write", "/"},
                                                {"policy", "show", "--workdir", "/dev/shm"}}) {
    const Finished refused = home.corvid(words);
    EXPECT_EQ(refused.status, 2) << words.back();
    EXPECT_THAT(refused.err, HasSubstr("the sandbox could not keep anything from it"));
  }
}

TEST_F(ToolsCommand, WithoutBubblewrapTheShellRefusesAndTheRestWorks) {
  Home bare;
  bare.environment["PATH"] = (bare / "bin").string();
  const Finished shell = bare.corvid({"tools", "call", "shell", R"({"command":"ls"})"});
  EXPECT_NE(shell.status, 0);
  EXPECT_THAT(shell.out, HasSubstr("bwrap"));
  EXPECT_EQ(bare.corvid({"tools", "call", "list_dir", "{}"}).out, "[empty folder]\n");
  const Finished sandbox = bare.corvid({"sandbox", "--", "/bin/true"});
  EXPECT_EQ(sandbox.status, 125);
  EXPECT_THAT(sandbox.err, HasSubstr("bwrap"));
  const Finished doctor = bare.corvid({"doctor", "--output", "json"});
  EXPECT_EQ(doctor.status, 1);
  EXPECT_THAT(doctor.out, HasSubstr("install bubblewrap"));
}

TEST_F(ToolsCommand, SandboxPassesOutputStatusAndWordsThrough) {
  if (!can_confine()) GTEST_SKIP() << "commands cannot be confined here";
  const Finished result = home.corvid(
      {"sandbox", "--", "bash", "-c", "cat; [[ -f /nothing ]]; echo \"$1\" >&2; exit 7", "--", "--workdir"}, "input");
  EXPECT_EQ(result.status, 7);
  EXPECT_EQ(result.out, "input");
  EXPECT_EQ(result.err, "--workdir\n");
  EXPECT_EQ(home.corvid({"sandbox", "--", "bash", "-c", "echo hello > made.txt"}).status, 0);
  EXPECT_EQ(home.read("work/made.txt"), "hello\n");
  EXPECT_NE(home.corvid({"sandbox", "--", "bash", "-c", "echo x > /etc/corvid-test"}).status, 0);
}

TEST_F(ToolsCommand, PolicyShowsWhatAppliesAndWhatIsHeldBack) {
  home.environment["MY_API_TOKEN"] = "tok-123";
  home.environment["GREETING"] = "hi";
  const std::string file = home.write("p.yaml", "allow_hosts: [a.example]\ntimeouts: { shell: 5s }\n").string();
  const Finished shown =
      home.corvid({"policy", "show", "--policy", file, "--allow-host", "b.example:80", "--output", "json"});
  ASSERT_EQ(shown.status, 0) << shown.err;
  const Json json = Json::parse(shown.out);
  EXPECT_EQ(json["sandbox"], "required");
  EXPECT_EQ(json["workdir"], home.work().string());
  EXPECT_EQ(json["allow_hosts"], Json::array({"a.example", "b.example:80"}));
  EXPECT_EQ(json["timeouts_ms"]["shell"], 5000);
  EXPECT_THAT(json["environment"]["held_back"], testing::Contains("MY_API_TOKEN"));
  EXPECT_THAT(json["environment"]["passed"], testing::Contains("GREETING"));
  EXPECT_THAT(shown.out, Not(HasSubstr("tok-123")));
  EXPECT_THAT(home.corvid({"policy", "show"}).out, HasSubstr("MY_API_TOKEN"));
}

TEST_F(ToolsCommand, ThePolicyOfTheConfigurationAppliesUnlessAFlagNamesAnother) {
  home.write("config/corvid/config.yaml", "policy: mine\n");
  home.write("config/corvid/policies/mine.yaml", "allow_hosts: [mine.example]\n");
  home.write("work/corvid.yaml", "policy: evil\n");  // a project's folder configures nothing
  home.write("work/.corvid/config.yaml", "policy: evil\n");
  EXPECT_EQ(Json::parse(home.corvid({"policy", "show", "--output", "json"}).out)["allow_hosts"],
            Json::array({"mine.example"}));
  EXPECT_EQ(Json::parse(home.corvid({"policy", "show", "--policy", "default", "--output", "json"}).out)["allow_hosts"],
            Json::array());
}

TEST_F(ToolsCommand, DoctorSaysWhatIsThereAndWhatIsMissing) {
  const Finished result =
      home.corvid({"doctor", "--output", "json", "--model", "/nowhere.gguf", "--db", "/proc/corvid/x.db"});
  EXPECT_EQ(result.status, 1);
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["ready"], false);
  std::map<std::string, Json> checks;
  for (const Json& check : json["checks"]) checks[check["name"]] = check;
  EXPECT_EQ(checks["model"]["status"], "failed");
  EXPECT_THAT(checks["model"]["detail"].get<std::string>(), HasSubstr("/nowhere.gguf"));
  EXPECT_EQ(checks["config"]["status"], "info");
  for (const char* name : {"cpu", "threads", "gpu", "bwrap", "namespaces", "seccomp", "sandbox", "store"}) {
    EXPECT_TRUE(checks.contains(name)) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(home / "data/corvid"));  // looking changes nothing
  EXPECT_THAT(home.corvid({"doctor"}).out, HasSubstr("store"));
}

}  // namespace
}  // namespace corvid
