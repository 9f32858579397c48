#include "agents/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

#include "agents/args.h"
#include "tests/support/temp_dir.h"

namespace corvid::agents {
namespace {

using test::TempDir;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override { setenv("XDG_CONFIG_HOME", dir.path().c_str(), 1); }
  std::string error_of(const std::function<void()>& load) const {
    try {
      load();
      return "no error";
    } catch (const UsageError& error) {
      return error.what();
    }
  }
  std::string policy_error(const std::string& yaml) const {
    const std::string file = dir.write("p.yaml", yaml).string();
    std::string error = error_of([&] { load_policy(file); });
    if (error.starts_with(file)) error.erase(0, file.size());
    return error;
  }
  std::string agent_error(const std::string& yaml) const {
    const std::string file = dir.write("a.yaml", yaml).string();
    std::string error = error_of([&] { load_agent(file); });
    if (error.starts_with(file)) error.erase(0, file.size());
    return error;
  }
  TempDir dir;
};

TEST_F(ConfigTest, WithoutAFileThereAreDefaults) {
  const Config config = load_config();
  EXPECT_EQ(config.device, "auto");
  EXPECT_EQ(config.agent, "default");
  EXPECT_EQ(config.model, std::nullopt);
  EXPECT_EQ(config.file, dir / "corvid/config.yaml");
}

TEST_F(ConfigTest, PathsAreBeneathTheFileThatNamesThem) {
  dir.write("corvid/config.yaml",
            "version: 1\nmodel: models/a.gguf\ndb: /x/y.db\nagent: ./mine.yaml\npolicy: strict\ncontext: "
            "4096\nthreads: 2\ncache_memory: 3MiB\ndevice: cpu\ngpus: 2\n");
  const Config config = load_config();
  EXPECT_EQ(config.model, dir / "corvid/models/a.gguf");
  EXPECT_EQ(config.db, "/x/y.db");
  EXPECT_EQ(config.agent, (dir / "corvid/mine.yaml").string());
  EXPECT_EQ(config.policy, "strict");
  EXPECT_EQ(config.context, 4096);
  EXPECT_EQ(config.threads, 2);
  EXPECT_EQ(config.gpus, 2);
  EXPECT_EQ(config.cache_memory, 3 << 20);
}

TEST_F(ConfigTest, TheDefaultAgentIsThere) {
  const Agent agent = load_agent("default");
  EXPECT_THAT(agent.instructions, HasSubstr("chores in the user's working folder"));
  EXPECT_THAT(*agent.tools, ElementsAre("shell", "read_file", "write_file", "edit_file", "list_dir", "http_request"));
  EXPECT_EQ(agent.limits.turns, 20);
  EXPECT_EQ(agent.limits.wall, std::chrono::minutes(5));
  EXPECT_EQ(agent.sampler.temperature, 0);
}

TEST_F(ConfigTest, AnAgentOfTheUsersReplacesTheShippedOne) {
  dir.write("corvid/agents/default.yaml", "instructions: Mine.\n");
  dir.write(
      "corvid/agents/gardener.yaml",
      "name: gardener\ninstructions: |\n  Water.\ntools: []\nthinking: adaptive\n"
      "limits: { turns: 3, tokens: 10, wall: 90s, calls: 0 }\nsampler: { temperature: 0.5, seed: 9, top_p: 0.9 }\n");
  EXPECT_EQ(load_agent("default").instructions, "Mine.");
  EXPECT_EQ(load_agent("default").tools, std::nullopt);
  const Agent agent = load_agent("gardener");
  EXPECT_EQ(agent.instructions, "Water.\n");
  EXPECT_THAT(*agent.tools, testing::IsEmpty());
  EXPECT_EQ(agent.thinking, model::Thinking::adaptive);
  EXPECT_EQ(agent.limits.wall, std::chrono::seconds(90));
  EXPECT_EQ(agent.sampler.seed, 9u);
  EXPECT_THAT(error_of([] { load_agent("gardner"); }),
              HasSubstr("there is default, gardener; did you mean \"gardener\"?"));
}

TEST_F(ConfigTest, AgentErrorsSayWhere) {
  EXPECT_EQ(agent_error("name: a\nlimits:\n  turn: 3\n"), ":3:3: unknown key \"turn\"; did you mean \"turns\"?");
  EXPECT_EQ(agent_error("limits: { turns: none }"),
            ":1:18: turns: want a whole number from 1 to 1000000, found \"none\"");
  EXPECT_EQ(agent_error("limits: { wall: never }"),
            ":1:17: wall: want a duration such as 30s, 5m or 500ms, found \"never\"");
  EXPECT_EQ(agent_error("tools: shell"), ":1:8: tools: want a list of texts, found \"shell\"");
  EXPECT_EQ(agent_error("tools: [shell, shell]"), ":1:8: tools: \"shell\" stands here twice");
  EXPECT_EQ(agent_error("name: a\nname: b\n"), ":2:1: the key \"name\" stands here twice");
  EXPECT_EQ(agent_error("- a\n"), ":1:1: want a mapping (key: value), found a list");
  EXPECT_EQ(agent_error("version: 2"), ":1:10: version: want a whole number from 1 to 1, found \"2\"");
  EXPECT_EQ(agent_error("sampler: { temperature: .nan }"),
            ":1:25: temperature: want a number from 0 to 100, found \".nan\"");
  EXPECT_THAT(agent_error("a: [b\n"), HasSubstr(":"));
  EXPECT_THAT(agent_error("a: 1\n---\nb: 2\n"), HasSubstr("want one document"));
}

TEST_F(ConfigTest, TheSamplerIsReadWholeAndEveryNumberIsChecked) {
  const std::string yaml =
      "sampler:\n  temperature: 0.7\n  top_k: 40\n  top_p: 0.9\n  min_p: 0.05\n  repeat_penalty: 1.1\n"
      "  repeat_last_n: -1\n  presence_penalty: 0.5\n  frequency_penalty: 0.25\n  dry_multiplier: 0.8\n"
      "  dry_base: 2\n  dry_allowed_length: 3\n  dry_penalty_last_n: 1000\n  dry_sequence_breakers: [\"\\n\"]\n"
      "  seed: 9\n  stop: [END, \"\\n\\n\"]\n  logit_bias: { 42: -1.5, Sure: false, \" yes\": 2 }\n";
  const float never = -std::numeric_limits<float>::infinity();
  model::SamplerParams wanted{0.7f, 40, 0.9f, 0.05f, 9, 1.1f, -1, 0.5f, 0.25f, 0.8f, 2, 3, 1000};
  wanted.dry_sequence_breakers = {"\n"};
  wanted.stop = {"END", "\n\n"};
  wanted.logit_bias = {{"42", -1.5f}, {"Sure", never}, {" yes", 2}};
  EXPECT_EQ(load_agent(dir.write("a.yaml", yaml).string()).sampler, wanted);

  EXPECT_EQ(agent_error("sampler: { top_k: -1 }"), ":1:19: top_k: want a whole number from 0 to 1000000, found \"-1\"");
  EXPECT_EQ(agent_error("sampler: { min_p: 1.5 }"), ":1:19: min_p: want a number from 0 to 1, found \"1.5\"");
  EXPECT_EQ(agent_error("sampler: { repeat_penalty: 0 }"),
            ":1:28: repeat_penalty: want a number from 0.01 to 100, found \"0\"");
  EXPECT_EQ(agent_error("sampler: { stop: [\"\"] }"),
            ":1:18: stop: want texts of at least one byte, found an empty one");
  EXPECT_EQ(agent_error("sampler: { logit_bias: { a: never } }"),
            ":1:29: a: want a number from -1000 to 1000, or false to forbid the token, found \"never\"");
  EXPECT_EQ(agent_error("sampler: { repeat_penalti: 1 }"),
            ":1:12: unknown key \"repeat_penalti\"; did you mean \"repeat_penalty\"?");
}

TEST_F(ConfigTest, APolicyFileIsReadWhole) {
  std::filesystem::create_directories(dir / "out");
  const std::string file =
      dir.write("p.yaml",
                "sandbox: none\nwrite: [out]\nread: [/usr]\nallow_hosts: [a.example, '127.0.0.1:80', '[::1]:443']\n"
                "pass_env: [MY_TOKEN]\ntimeouts: { shell: 5s, shell_max: 10s, http: 1m }\n"
                "limits: { output: 4KiB, http_body: 1MiB, file: 1GiB, processes: 9 }\n")
          .string();
  const tools::Policy policy = load_policy(file);
  EXPECT_EQ(policy.sandbox, tools::SandboxMode::none);
  EXPECT_THAT(policy.write_dirs, ElementsAre(dir / "out"));
  EXPECT_THAT(policy.read_dirs, ElementsAre("/usr"));
  EXPECT_THAT(policy.allow_hosts, ElementsAre("a.example", "127.0.0.1:80", "[::1]:443"));
  EXPECT_THAT(policy.pass_env, ElementsAre("MY_TOKEN"));
  EXPECT_EQ(policy.shell_timeout, std::chrono::seconds(5));
  EXPECT_EQ(policy.shell_timeout_max, std::chrono::seconds(10));
  EXPECT_EQ(policy.http_timeout, std::chrono::minutes(1));
  EXPECT_EQ(policy.output_limit_bytes, 4096);
  EXPECT_EQ(policy.http_body_limit_bytes, 1 << 20);
  EXPECT_EQ(policy.max_file_bytes, 1 << 30);
  EXPECT_EQ(policy.max_processes, 9);
}

TEST_F(ConfigTest, PolicyErrorsSayWhereAndNothingLoosensByAccident) {
  EXPECT_EQ(policy_error("sandbox: no"), ":1:10: sandbox: want required, none, found \"no\"");
  EXPECT_EQ(policy_error("sandbox: ~"), ":1:10: sandbox: want a text, found nothing");
  EXPECT_EQ(policy_error("allow_host: [x]"), ":1:1: unknown key \"allow_host\"; did you mean \"allow_hosts\"?");
  EXPECT_EQ(policy_error("allow_hosts: ['*']"), ":1:14: allow_hosts: want HOST or HOST:PORT, found \"*\"");
  EXPECT_EQ(policy_error("write: [/nowhere]"), ":1:8: write: no such folder: /nowhere");
  EXPECT_THAT(policy_error("limits: { output: 99999999GiB }"), HasSubstr("want a size from 256"));
  EXPECT_EQ(load_policy("default").sandbox, tools::SandboxMode::required);
  EXPECT_THAT(error_of([] { load_policy("strickt"); }), HasSubstr("no policy named \"strickt\"; there is default"));
}

TEST_F(ConfigTest, AHugeFileIsRefused) {
  EXPECT_THAT(agent_error("instructions: " + std::string(2 << 20, 'x')), HasSubstr("want at most 1 MiB"));
  EXPECT_THAT(error_of([&] { load_agent((dir / "").string() + "/"); }), HasSubstr("is no regular file"));
}

TEST_F(ConfigTest, NotesOfTheFolderFollowTheInstructionsAndAreCapped) {
  EXPECT_EQ(with_project_notes("Do.\n", dir.path()), "Do.\n");
  dir.write("AGENTS.md", "Use tabs.\n\n");
  EXPECT_EQ(with_project_notes("Do.\n", dir.path()), "Do.\n\nNotes on this folder (AGENTS.md):\nUse tabs.");
  dir.write("AGENTS.md", std::string("xé").append(40'000, 'y'));
  EXPECT_THAT(with_project_notes("Do.", dir.path()), EndsWith("\n[... 23619 bytes of AGENTS.md cut ...]"));
  std::filesystem::remove(dir / "AGENTS.md");
  std::filesystem::create_symlink("/etc/passwd", dir / "AGENTS.md");
  EXPECT_EQ(with_project_notes("Do.", dir.path()), "Do.");
}

}  // namespace
}  // namespace corvid::agents
