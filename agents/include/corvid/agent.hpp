// Who works: instructions, tools, what they may touch, limits, and how tokens are chosen.
#pragma once
#include <chrono>
#include <corvid/export.hpp>
#include <corvid/tool.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace corvid {
inline namespace v1 {

struct Limits {
  int64_t turns = 20;     // replies of the model
  int64_t tokens = 8192;  // generated, over a run
  int64_t calls = 40;
  std::chrono::milliseconds wall{300'000};  // of a run; interrupts generation and tools
};

struct Sampler {
  double temperature = 0;  // 0: the likeliest token
  uint64_t seed = 1;
  int64_t top_k = 0;  // 0: off
  double top_p = 1, min_p = 0;
  std::vector<std::string> stop = {};  // texts that end an answer
};

// What the six tools may touch besides the session's folder. A host's own tools are not confined by it.
struct Policy {
  bool is_confined = true;  // false: commands run even where the machine cannot confine them
  std::vector<std::filesystem::path> write_dirs = {}, read_dirs = {};
  std::vector<std::string> allow_hosts = {};  // HOST or HOST:PORT
  std::vector<std::string> pass_env = {};     // variables passed on although they look like secrets
  std::chrono::milliseconds shell_timeout{30'000}, http_timeout{30'000};
};

// A value: a copy is an agent of its own, and a session keeps what the agent was when it began. Used by one thread at a
// time. The setters return the agent.
class CORVID_API Agent {
 public:
  // The agent that ships: the default instructions and the six tools shell, read_file, write_file, edit_file, list_dir,
  // http_request.
  Agent();
  // An agent file (docs/embedding.md, "What is read"), or the name of one that ships. Never looks into the user's
  // configuration. Throws std::invalid_argument with file, line and column for what is wrong in it.
  static Agent load(const std::string& name_or_file);
  Agent(const Agent&);
  Agent(Agent&&) noexcept;
  Agent& operator=(const Agent&);
  Agent& operator=(Agent&&) noexcept;
  ~Agent();

  Agent& set_name(std::string name);  // for the store
  Agent& set_instructions(std::string text);
  // Which of the six, in this order. Throws std::invalid_argument for an unknown name.
  Agent& set_tools(const std::vector<std::string>& names);
  // A tool of the host, behind those that are there. Throws std::invalid_argument for a name that is taken or no name,
  // for parameters that are no JSON Schema of type object, and for no function.
  Agent& add_tool(Tool tool);
  // The host's function behind one of the agent's own tools: name, declaration and place stay, and the model calls it
  // as it has learnt to. Throws std::invalid_argument when the agent has no such tool.
  Agent& replace_tool(std::string_view name, ToolFunction run);
  Agent& set_policy(Policy policy);  // throws std::invalid_argument for a folder or a host that is none
  Agent& set_limits(const Limits& limits);
  Agent& set_sampler(const Sampler& sampler);  // throws std::invalid_argument for numbers out of range

  const std::string& name() const noexcept;
  const std::string& instructions() const noexcept;
  std::vector<std::string> tools() const;  // all names, the host's last
  Limits limits() const;
  Sampler sampler() const;

  struct Impl;

 private:
  friend class Session;
  explicit Agent(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace v1
}  // namespace corvid
