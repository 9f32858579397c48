#include "agents/config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <regex>
#include <set>

#include "agents/builtin_agent.h"
#include "agents/paths.h"
#include "agents/sampler_options.h"
#include "agents/yaml.h"
#include "kernels/comm/all_reduce.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

constexpr size_t kProjectNotesBytes = 16 * 1024;

bool is_file_name(const std::string& name) {
  return name.find('/') != std::string::npos || name.ends_with(".yaml") || name.ends_with(".yml");
}

const std::vector<std::string> kConfigKeys{"version", "model",   "device",       "agent", "policy",
                                           "context", "threads", "cache_memory", "db",    "gpus"};
const std::vector<std::string> kAgentKeys{"version", "name",   "description", "instructions", "tools",
                                          "policy",  "limits", "sampler",     "thinking",     "agents"};
constexpr int64_t kMaxDepth = 8;  // of agents that ask agents
const std::vector<std::string> kPolicyKeys{"version",     "name",     "sandbox",  "write", "read",
                                           "allow_hosts", "pass_env", "timeouts", "limits"};

void check_version(const YamlMap& map) {
  if (const auto version = map.find("version")) version->integer(1, 1);
}

Agent read_agent(const YamlMap& map, const std::string& name, const fs::path& folder) {
  Agent agent;
  check_version(map);
  agent.name = name;
  if (const auto value = map.find("name")) agent.name = value->text();
  if (const auto value = map.find("description")) agent.description = value->text();
  if (const auto value = map.find("agents")) {
    for (const YamlValue& item : value->items()) agent.agents.push_back({beside(item.text(), folder), item.place()});
  }
  if (const auto value = map.find("instructions")) agent.instructions = value->text();
  if (const auto value = map.find("tools")) {
    agent.tools = value->texts();
    std::set<std::string> seen;
    for (const std::string& tool : *agent.tools) {
      if (!seen.insert(tool).second) value->fail("\"" + tool + "\" stands here twice");
    }
  }
  if (const auto value = map.find("policy")) agent.policy = beside(value->text(), folder);
  if (const auto value = map.find("thinking")) {
    const std::string thinking = value->choice({"disabled", "enabled", "adaptive"});
    agent.thinking = thinking == "enabled"    ? model::Thinking::enabled
                     : thinking == "adaptive" ? model::Thinking::adaptive
                                              : model::Thinking::disabled;
  }
  if (const auto value = map.find("limits")) read_limits(*value, agent.limits);
  if (const auto value = map.find("sampler")) agent.sampler = read_sampler(*value);
  return agent;
}

// Names of the YAML files in a folder, without their ending.
void add_names(const fs::path& folder, std::set<std::string>& names) {
  std::error_code failure;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, failure)) {
    if (entry.path().extension() == ".yaml") names.insert(entry.path().stem().string());
  }
}

std::string unknown_name(const std::string& kind, const std::string& name, const std::set<std::string>& names) {
  const std::vector<std::string> known(names.begin(), names.end());
  std::string list;
  for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
  return "no " + kind + " named \"" + name + "\"; there is " + list + did_you_mean(name, known);
}

// The first of the folders with a file of that name.
Agent named_agent(const std::string& name, const std::vector<fs::path>& folders) {
  std::error_code failure;
  std::set<std::string> names{"default"};
  for (const fs::path& folder : folders) {
    const fs::path file = folder / (name + ".yaml");
    if (fs::exists(file, failure)) return read_agent(YamlMap::load(file, kAgentKeys), name, folder);
    add_names(folder, names);
  }
  if (name != "default") throw UsageError(unknown_name("agent", name, names));
  return read_agent(YamlMap::parse("the built-in default.yaml", kBuiltinAgent, kAgentKeys), "default", config_folder());
}

}  // namespace

std::string beside(const std::string& name, const fs::path& folder) {
  return is_file_name(name) ? resolve(name, folder).string() : name;
}

void read_limits(const YamlValue& value, runtime::Limits& limits) {
  const YamlMap map = value.map({"turns", "tokens", "wall", "calls", "depth"});
  if (const auto limit = map.find("turns")) limits.turns = limit->integer(1, 1'000'000);
  if (const auto limit = map.find("tokens")) limits.tokens = limit->integer(1, 1'000'000'000);
  if (const auto limit = map.find("calls")) limits.calls = limit->integer(0, 1'000'000);
  if (const auto limit = map.find("depth")) limits.depth = limit->integer(0, kMaxDepth);
  if (const auto limit = map.find("wall")) limits.wall = limit->duration();
}

Agent read_inline_agent(const YamlValue& value, const std::string& name, const fs::path& folder) {
  return read_agent(value.map(kAgentKeys), name, folder);
}

Config load_config() {
  Config config;
  const fs::path folder = config_folder();
  config.file = folder / "config.yaml";
  std::error_code failure;
  if (!fs::exists(config.file, failure)) return config;
  const YamlMap map = YamlMap::load(config.file, kConfigKeys);
  check_version(map);
  if (const auto value = map.find("model")) config.model = resolve(value->text(), folder);
  if (const auto value = map.find("db")) config.db = resolve(value->text(), folder);
  if (const auto value = map.find("device")) config.device = value->choice({"auto", "cpu", "cuda"});
  if (const auto value = map.find("gpus")) config.gpus = value->integer(1, kernels::kMostGpus);
  if (const auto value = map.find("agent")) config.agent = beside(value->text(), folder);
  if (const auto value = map.find("policy")) config.policy = beside(value->text(), folder);
  if (const auto value = map.find("context")) config.context = value->integer(1, 1 << 24);
  if (const auto value = map.find("threads")) config.threads = value->integer(1, 1024);
  if (const auto value = map.find("cache_memory")) config.cache_memory = value->bytes(1, kMostCacheMemory);
  return config;
}

Agent load_agent(const std::string& name_or_file) {
  if (is_file_name(name_or_file)) {
    const fs::path file(name_or_file);
    return read_agent(YamlMap::load(file, kAgentKeys), file.stem().string(), fs::absolute(file).parent_path());
  }
  std::vector<fs::path> folders{config_folder() / "agents"};
  for (const fs::path& folder : shipped_folders("agents")) folders.push_back(folder);
  return named_agent(name_or_file, folders);
}

Agent load_shipped_agent(const std::string& name) { return named_agent(name, shipped_folders("agents")); }

tools::Policy load_policy(const std::string& name_or_file) {
  tools::Policy policy;
  if (name_or_file == "default") return policy;
  fs::path file(name_or_file);
  if (!is_file_name(name_or_file)) {
    const fs::path folder = config_folder() / "policies";
    file = folder / (name_or_file + ".yaml");
    std::error_code failure;
    if (!fs::exists(file, failure)) {
      std::set<std::string> names{"default"};
      add_names(folder, names);
      throw UsageError(unknown_name("policy", name_or_file, names) + " (looked in " + folder.string() + ")");
    }
  }
  const fs::path folder = fs::absolute(file).parent_path();
  const YamlMap map = YamlMap::load(file, kPolicyKeys);
  check_version(map);
  if (const auto value = map.find("name")) value->text();
  if (const auto value = map.find("sandbox")) {
    policy.sandbox =
        value->choice({"required", "none"}) == "none" ? tools::SandboxMode::none : tools::SandboxMode::required;
  }
  const auto folders = [&](const char* key, std::vector<fs::path>& dirs) {
    const auto value = map.find(key);
    if (!value) return;
    for (const std::string& text : value->texts()) {
      std::error_code failure;
      const fs::path real = fs::canonical(resolve(text, folder), failure);
      if (failure || !fs::is_directory(real, failure)) value->fail("no such folder: " + text);
      dirs.push_back(real);
    }
  };
  folders("write", policy.write_dirs);
  folders("read", policy.read_dirs);
  if (const auto value = map.find("allow_hosts")) {
    policy.allow_hosts = value->texts();
    for (const std::string& host : policy.allow_hosts) {
      if (!is_host(host)) value->fail("want HOST or HOST:PORT, found \"" + host + '"');
    }
  }
  if (const auto value = map.find("pass_env")) policy.pass_env = value->texts();
  if (const auto value = map.find("timeouts")) {
    const YamlMap timeouts = value->map({"shell", "shell_max", "http"});
    if (const auto x = timeouts.find("shell")) policy.shell_timeout = x->duration();
    if (const auto x = timeouts.find("shell_max")) policy.shell_timeout_max = x->duration();
    if (const auto x = timeouts.find("http")) policy.http_timeout = x->duration();
    policy.shell_timeout_max = std::max(policy.shell_timeout_max, policy.shell_timeout);
  }
  if (const auto value = map.find("limits")) {
    const YamlMap limits = value->map({"output", "http_body", "file", "processes"});
    if (const auto x = limits.find("output")) policy.output_limit_bytes = x->bytes(256, 1 << 30);
    if (const auto x = limits.find("http_body")) policy.http_body_limit_bytes = x->bytes(1, int64_t{1} << 40);
    if (const auto x = limits.find("file")) policy.max_file_bytes = x->bytes(1, int64_t{1} << 50);
    if (const auto x = limits.find("processes")) policy.max_processes = x->integer(1, 1 << 20);
  }
  return policy;
}

bool is_host(const std::string& text) {
  static const std::regex kHost(
      R"((\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?)(:([0-9]{1,5}))?)");
  std::smatch parts;
  if (text.size() > 260 || !std::regex_match(text, parts, kHost)) return false;
  return !parts[4].matched || (std::stoi(parts[4]) >= 1 && std::stoi(parts[4]) <= 65535);
}

std::string with_project_notes(const std::string& instructions, const fs::path& workdir) {
  // The name is the user's, the contents are text for the model: no link may bring in a file from elsewhere.
  const int fd = open((workdir / "AGENTS.md").c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return instructions;
  struct stat info {};
  std::string notes;
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    notes.resize(kProjectNotesBytes);
    size_t filled = 0;
    while (filled < notes.size()) {
      const ssize_t got = read(fd, notes.data() + filled, notes.size() - filled);
      if (got <= 0) break;
      filled += static_cast<size_t>(got);
    }
    notes.resize(filled);
  }
  close(fd);
  if (static_cast<size_t>(info.st_size) > kProjectNotesBytes) {
    while (!notes.empty() && (notes.back() & 0xC0) == 0x80) notes.pop_back();  // no half of a UTF-8 sequence
    if (!notes.empty() && (notes.back() & 0x80) != 0) notes.pop_back();
    notes +=
        "\n[... " + std::to_string(static_cast<size_t>(info.st_size) - notes.size()) + " bytes of AGENTS.md cut ...]";
  }
  while (notes.ends_with('\n') || notes.ends_with(' ')) notes.pop_back();
  if (notes.empty()) return instructions;
  std::string all = instructions;
  while (all.ends_with('\n')) all.pop_back();
  return all + "\n\nNotes on this folder (AGENTS.md):\n" + notes;
}

}  // namespace corvid::agents
