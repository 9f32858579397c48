// What the program says to right and wrong command lines.
#include "agents/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "kernels/gpu.h"
#include "tests/support/home.h"

namespace corvid::agents {
namespace {

using test::Finished;
using test::Home;
using test::Json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

TEST(Cli, VersionAndHelpGoToStandardOutput) {
  const Home home;
  EXPECT_TRUE(std::regex_match(home.corvid({"--version"}).out, std::regex("corvid [0-9]+\\.[0-9]+\\.[0-9]+\n")));
  for (const char* word : {"--help", "-h", "help"}) {
    const Finished help = home.corvid({word});
    EXPECT_EQ(help.status, 0);
    EXPECT_THAT(help.out, HasSubstr("Usage: corvid COMMAND"));
    EXPECT_THAT(help.err, IsEmpty());
  }
}

TEST(Cli, EveryCommandHasHelpWithItsFlagsAndAnExample) {
  for (const Command& command : commands()) {
    const std::string help = help_text(command);
    EXPECT_THAT(help, HasSubstr("Usage: corvid " + command.name)) << command.name;
    EXPECT_FALSE(command.examples.empty()) << command.name;
    for (const Flag& flag : command.flags) EXPECT_THAT(help, HasSubstr("--" + flag.name)) << command.name;
  }
  const Home home;
  const Finished family = home.corvid({"sessions", "--help"});
  EXPECT_EQ(family.status, 0);
  for (const char* member :
       {"corvid sessions list", "corvid sessions show", "corvid sessions resume", "corvid sessions rm"}) {
    EXPECT_THAT(family.out, HasSubstr(member));
  }
  EXPECT_THAT(home.corvid({"run", "--help"}).out, HasSubstr("--max-turns N"));
  EXPECT_THAT(home.corvid({"batch", "--help"}).out, HasSubstr("--dry-run"));  // a command and a family
  EXPECT_EQ(home.corvid({"help", "sessions", "list"}).out, home.corvid({"sessions", "list", "--help"}).out);
  EXPECT_EQ(home.corvid({"help", "sessions"}).out, family.out);
  EXPECT_EQ(home.corvid({"help", "sesions"}).status, 2);
}

TEST(Cli, AWrongCommandLineNamesItselfAndTheNearestKnown) {
  const Home home;
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"rnu"}, "unknown command \"rnu\"; did you mean \"corvid run\"?"},
      {{"sessions", "lst"},
       "unknown command \"sessions lst\"; there is list, show, resume, rm, fork, merge, export, replay; did you mean "
       "\"corvid sessions list\"?"},
      {{"model"}, "corvid model needs one of: info, convert, quantize, tokenize, logits, bench"},
      {{"bach", "x.yaml"}, "unknown command \"bach\""},
      {{"--bogus"}, "unknown flag --bogus"},
      {{"run", "--modle", "x", "hello"}, "unknown flag --modle; did you mean \"--model\"?"},
      {{"run"}, "PROMPT is missing"},
      {{"run", " "}, "PROMPT is empty"},
      {{"run", "list", "files"}, "unexpected argument \"files\"; quote a text of several words"},
      {{"run", "--max-turns", "0", "hello"}, "--max-turns: want a whole number from 1 to 1000000, found \"0\""},
      {{"run", "--timeout", "soon", "hello"}, "--timeout: want a duration such as 30s, 5m or 500ms, found \"soon\""},
      {{"run", "--temperature", "-1", "hello"}, "--temperature: want a number from 0 to 100, found \"-1\""},
      {{"run", "--top-k", "1.5", "hello"}, "--top-k: want a whole number from 0 to 1000000, found \"1.5\""},
      {{"run", "--speculate", "on", "hello"}, "--speculate: want a whole number from 0 to 64, or off, found \"on\""},
      {{"run", "--stop", "", "hello"}, "--stop: the value is empty"},
      {{"run", "--logit-bias", "=3", "hello"}, "--logit-bias: want TOKEN=X, X a number from -1000 to 1000, or false"},
      {{"run", "--logprobs", "3", "hello"}, "--logprobs: want --output jsonl, found text"},
      {{"run", "--device", "gpu", "hello"}, "--device: want auto, cpu, cuda, found \"gpu\""},
      {{"run", "--approve", "sometimes", "hello"}, "--approve: want never, risky, always, found \"sometimes\""},
      {{"run", "--output", "xml", "hello"}, "--output: want text, json, jsonl, found \"xml\""},
      {{"run", "--model", "/nowhere/x.gguf", "hello"}, "--model: no such file: /nowhere/x.gguf"},
      {{"tools", "list", "--workdir", "/nowhere"}, "--workdir: no such folder: /nowhere"},
      {{"tools", "list", "--workdir", "/etc/passwd"}, "--workdir: want a folder, found a file: /etc/passwd"},
      {{"tools", "list", "--allow-host", "http://x/"}, "--allow-host: want HOST or HOST:PORT, found \"http://x/\""},
      {{"tools", "list", "--allow-host", "x:99999"}, "--allow-host: want HOST or HOST:PORT, found \"x:99999\""},
      {{"tools", "list", "--allow-write", "/nowhere"}, "--allow-write: no such folder: /nowhere"},
      {{"tools", "list", "--agent", "defualt"},
       "no agent named \"defualt\"; there is default; did you mean \"default\"?"},
      {{"tools", "list", "--policy", "x.yaml"}, "x.yaml: no such file"},
      {{"completion", "fish"}, "SHELL: want bash or zsh, found \"fish\""},
      {{"sessions", "show", "nothing"}, "nothing"},
      {{"sandbox", "--"}, "COMMAND is missing"},
  };
  for (const auto& [words, message] : cases) {
    const Finished result = home.corvid(words);
    EXPECT_EQ(result.status, 2) << message;
    EXPECT_THAT(result.err, StartsWith("corvid: "));
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_THAT(result.out, IsEmpty()) << message;
  }
}

TEST(Cli, AFailureBeforeTheSessionStillPrintsAnObjectForItsReader) {
  const Home home;
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"run", "--output", "json", "--model", "/nowhere.gguf", "hello"},
                                             {"run", "--output=json", "--bogus", "hello"},
                                             {"sessions", "resume", "last", "hello", "--output", "json"}}) {
    const Finished result = home.corvid(words);
    EXPECT_EQ(result.status, 2);
    const Json json = Json::parse(result.last_line());
    EXPECT_EQ(json.at("status"), "error");
    EXPECT_EQ(json.at("answer"), "");
    EXPECT_THAT(json.at("error").get<std::string>(), testing::Not(IsEmpty()));
    EXPECT_THAT(result.err, HasSubstr(json.at("error").get<std::string>()));
  }
  const Json event = Json::parse(home.corvid({"run", "--output", "jsonl", "--bogus", "hello"}).last_line());
  EXPECT_EQ(event.at("event"), "done");
  EXPECT_EQ(event.at("status"), "error");
}

TEST(Cli, AConfigurationErrorHasFileLineAndColumn) {
  const Home home;
  const std::string file = home.write("config/corvid/config.yaml", "device: cpu\nmodle: x.gguf\n").string();
  Finished result = home.corvid({"run", "hello"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr(file + ":2:1: unknown key \"modle\"; did you mean \"model\"?"));
  home.write("config/corvid/config.yaml", "device: gpu\n");
  EXPECT_THAT(home.corvid({"run", "hello"}).err, HasSubstr(file + ":1:9: device: want auto, cpu, cuda, found \"gpu\""));
  home.write("config/corvid/config.yaml", "model: [\n");
  EXPECT_THAT(home.corvid({"run", "hello"}).err, HasSubstr(file + ":"));
}

TEST(Cli, TheModelIsTakenFromTheFlagThenTheEnvironmentThenTheConfiguration) {
  Home home;
  home.write("config/corvid/config.yaml", "model: from-config.gguf\n");
  EXPECT_THAT(home.corvid({"run", "hello"}).err,
              HasSubstr("config.yaml: no such file: " + (home / "config/corvid/from-config.gguf").string()));
  home.environment["CORVID_MODEL"] = "/from-environment.gguf";
  EXPECT_THAT(home.corvid({"run", "hello"}).err, HasSubstr("CORVID_MODEL: no such file: /from-environment.gguf"));
  EXPECT_THAT(home.corvid({"run", "--model", "/from-flag.gguf", "hello"}).err,
              HasSubstr("--model: no such file: /from-flag.gguf"));
}

TEST(Cli, AStoreThatCannotBeOpenedIsOneClearMessage) {
  const Home home;
  const std::string impossible = "/proc/corvid/corvid.db";  // even root can make nothing there
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"sessions", "list", "--db", impossible}, {"sessions", "show", "last", "--db", impossible}}) {
    const Finished result = home.corvid(words);
    EXPECT_EQ(result.status, 2);
    EXPECT_THAT(result.err, HasSubstr(impossible.substr(0, 12)));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 2) << result.err;  // the message and "Try"
  }
  home.write("junk.db", std::string(4096, 'x'));
  const Finished junk = home.corvid({"sessions", "list", "--db", (home / "junk.db").string()});
  EXPECT_EQ(junk.status, 2);
  EXPECT_THAT(junk.err, HasSubstr("junk.db"));
}

TEST(Cli, CompletionScriptsAreValidAndKnowTheCommands) {
  const Home home;
  const Finished bash = home.corvid({"completion", "bash"});
  EXPECT_EQ(bash.status, 0);
  home.write("completion.bash", bash.out);
  // Completes `corvid sess`, `corvid sessions `, `corvid run --dev`, `corvid run --device `.
  const std::string script =
      "source " + (home / "completion.bash").string() +
      "\ntry() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _corvid; echo \"${COMPREPLY[*]}\"; }\n"
      "try corvid sess; try corvid sessions ''; try corvid run --dev; try corvid run --device ''\n";
  const Finished result = test::Program({"/bin/bash", "-c", script}, home.setup()).wait();
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, "sessions\nlist show resume rm fork merge export replay --help\n--device\nauto cpu cuda\n");
  const Finished zsh = home.corvid({"completion", "zsh"});
  EXPECT_THAT(zsh.out, StartsWith("#compdef corvid\n"));
  EXPECT_THAT(zsh.out,
              HasSubstr("'--device[where the model computes; auto\\: a GPU that can, else the CPU (default\\: auto, or "
                        "what config.yaml says)]:DEVICE:(auto cpu cuda)'"));
}

TEST(Cli, ColourComesOnATerminalAndNoColorTurnsItOff) {
  Home home;
  const auto error_on_terminal = [&] { return test::Program(Home::command({"rnu"}), home.setup("", true)).wait().out; };
  EXPECT_THAT(error_on_terminal(), HasSubstr("\x1b[31mcorvid: "));
  home.environment["NO_COLOR"] = "1";
  EXPECT_THAT(error_on_terminal(), testing::Not(HasSubstr("\x1b")));
  EXPECT_THAT(home.corvid({"rnu"}).err, testing::Not(HasSubstr("\x1b")));
}

// What auto makes of no GPU is what every other test of a command shows.
TEST(Device, CudaWithoutAGpuIsSaidBeforeAnyWork) {
  const auto obstacle = kernels::cuda::gpu_obstacle();
  if (!obstacle) GTEST_SKIP() << "there is a GPU here";
  const Home home;
  home.write("w.yaml", "version: 1\nname: w\nmodel: { device: cuda }\ntasks: { t: { prompt: hello } }\n");
  home.write("config/corvid/config.yaml", "device: cuda\n");
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"run", "--device", "cuda", "hello"}, "--device cuda: "},
      {{"run", "hello"}, "config.yaml: device: cuda: "},
      {{"model", "logits", "nowhere.gguf", "--prompt-ids", "1", "--device", "cuda"}, "--device cuda: "},
      {{"model", "bench", "--random", "minimax-m3", "--device", "cuda"}, "--device cuda: "},
      {{"model", "bench", "--random", "minimax-m3", "--gpus", "2"}, "--gpus 2: "},
      {{"batch", (home / "w.yaml").string()}, "w.yaml: device: cuda: "},
      {{"batch", (home / "w.yaml").string(), "--device", "cuda"}, "--device cuda: "},
  };
  for (const auto& [words, origin] : cases) {
    const Finished result = home.corvid(words);
    EXPECT_EQ(result.status, 2) << words[0];
    EXPECT_THAT(result.err, HasSubstr(origin + *obstacle)) << words[0];
  }
}

}  // namespace
}  // namespace corvid::agents
