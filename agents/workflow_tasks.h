// The `tasks` of a workflow file.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agents/workflow.h"
#include "agents/yaml.h"

namespace corvid::agents {

// What the tasks take over unless they say otherwise.
struct TaskDefaults {
  Agent agent;
  std::optional<std::string> policy;  // nothing: the agent's
  std::optional<YamlValue> limits;
  std::chrono::milliseconds timeout{300'000}, backoff{1'000};
  int64_t retries = 0;
};

// Each task behind those that it needs; otherwise in the file's order. `workflow` holds the inputs and the matrix that
// prompts may refer to. Throws UsageError with the place of what is wrong.
std::vector<Task> read_tasks(const YamlValue& value, const Workflow& workflow, const TaskDefaults& defaults);

// A name, a file, or the keys of an agent inline.
Agent agent_of(const YamlValue& value, const std::filesystem::path& folder);
// Throws UsageError at `value` when there is no such policy, or it is not in order.
void check_policy(const YamlValue& value, const std::string& policy);
// retries: 2, or { times: 2, backoff: 500ms }
void read_retries(const YamlValue& value, int64_t& retries, std::chrono::milliseconds& backoff);

}  // namespace corvid::agents
