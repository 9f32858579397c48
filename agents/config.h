// The files a user writes: config.yaml, agents and policies. Nothing here is ever read from the working folder, except
// AGENTS.md, which is text for the model and no configuration.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agents/yaml.h"
#include "model/chat_format.h"
#include "model/sampler_params.h"
#include "runtime/loop.h"
#include "tools/policy.h"

namespace corvid::agents {

inline constexpr int64_t kMostCacheMemory = int64_t{1} << 50;

struct Config {
  std::filesystem::path file;  // where it is or would be
  std::optional<std::filesystem::path> model, db;
  std::string device = "auto";
  std::string agent = "default";
  std::string policy = "default";  // "default" or a file
  std::optional<int64_t> context, threads, cache_memory, gpus;
};

// $XDG_CONFIG_HOME/corvid/config.yaml; the defaults when there is none.
Config load_config();

struct Agent {
  std::string name;
  std::string description;  // what it is good for, told to agents that may ask it
  std::string instructions;
  std::optional<std::vector<std::string>> tools;  // nothing: all there are; an empty list: none
  std::string policy = "default";                 // "default": what the user's configuration says
  runtime::Limits limits;
  model::SamplerParams sampler;
  model::Thinking thinking = model::Thinking::disabled;
  struct Asked {
    std::string agent;  // a name or a file
    std::string place;  // where it is named, for messages
  };
  std::vector<Asked> agents;  // that it may ask (ask_agent.h)
};

// A name is looked up in $XDG_CONFIG_HOME/corvid/agents, then beside the program, and `default` is also built in. With
// a slash or ending in .yaml it is a file. Throws UsageError naming the known agents.
Agent load_agent(const std::string& name_or_file);
// Of those that ship: a file beside the program or the library, or the built-in `default`. Throws as load_agent does.
Agent load_shipped_agent(const std::string& name);
// The keys of an agent file written inline. A policy file that it names lies beneath `folder`.
Agent read_inline_agent(const YamlValue& value, const std::string& name, const std::filesystem::path& folder);

// A name with a slash or ending in .yaml is a path beneath `folder`; other names stay names.
std::string beside(const std::string& name, const std::filesystem::path& folder);
// limits: { turns, tokens, calls, wall, depth }
void read_limits(const YamlValue& value, runtime::Limits& limits);

// "default" gives Policy{}; a name without slash or .yaml is a file in $XDG_CONFIG_HOME/corvid/policies.
tools::Policy load_policy(const std::string& name_or_file);

// HOST or HOST:PORT, an IPv6 address in brackets.
bool is_host(const std::string& text);

// The instructions with the working folder's AGENTS.md below them, when it is a regular file: at most 16 KiB, the cut
// said.
std::string with_project_notes(const std::string& instructions, const std::filesystem::path& workdir);

}  // namespace corvid::agents
