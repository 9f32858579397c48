#include "agents/plan.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "agents/ask_agent.h"
#include "agents/paths.h"
#include "agents/workspace.h"
#include "model/hash.h"
#include "runtime/sampler_json.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

// Every combination of the matrix's values, the last name changing fastest.
std::vector<Json> matrix_cells(const Workflow& workflow) {
  std::vector<Json> cells{Json::object()};
  for (const auto& [name, values] : workflow.matrix) {
    std::vector<Json> longer;
    for (const Json& cell : cells) {
      for (const Json& value : values) {
        longer.push_back(cell);
        longer.back()[name] = value;
      }
    }
    cells = std::move(longer);
  }
  return cells;
}

Json describe(const Agent& agent) {
  Json tools = nullptr, agents = Json::array();
  if (agent.tools) tools = *agent.tools;
  if (agent.limits.depth > 0) {
    for (Agent& asked : asked_agents(agent)) {
      asked.limits.depth = std::min(asked.limits.depth, agent.limits.depth - 1);
      agents.push_back(describe(asked));
    }
  }
  return {{"name", agent.name},
          {"instructions", agent.instructions},
          {"tools", tools},
          {"thinking", static_cast<int>(agent.thinking)},
          {"limits", {agent.limits.turns, agent.limits.tokens, agent.limits.calls, agent.limits.wall.count()}},
          {"agents", agents},
          {"sampler", runtime::to_json(agent.sampler)}};
}

// What the policy says, as it stands in its file.
std::string policy_text(const std::string& policy) {
  if (policy == "default") return "";
  const bool is_file = policy.find('/') != std::string::npos || policy.find('.') != std::string::npos;
  std::ifstream in(is_file ? fs::path(policy) : config_folder() / "policies" / (policy + ".yaml"), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// What stands in a task's folder before the agent begins, or what it comes from.
class Sources {
 public:
  Sources(const fs::path& folder, const fs::path& store) : folder_(folder), store_(store) {}

  std::string identify(const Workdir& workdir, const Json& scope) {
    if (workdir.kind != Workdir::Kind::copy && workdir.kind != Workdir::Kind::git) return "";
    const fs::path source = resolve(workdir.source.expand(scope), folder_);
    const std::string name = source.string() + '\n' + workdir.ref;
    const auto known = known_.find(name);
    if (known != known_.end()) return known->second;
    try {
      return known_[name] =
                 workdir.kind == Workdir::Kind::copy ? hash_of_folder(source, store_) : commit_of(source, workdir.ref);
    } catch (const std::exception& error) {
      throw UsageError(workdir.place + error.what());
    }
  }

 private:
  fs::path folder_, store_;
  std::map<std::string, std::string> known_;
};

// The runs of `plan` for which `keeps` holds, with their needs' new places. What is kept must hold what it needs.
template <class Keeps>
std::vector<Run> filtered(const std::vector<Run>& plan, Keeps&& keeps) {
  std::vector<Run> kept;
  std::map<size_t, size_t> place;
  for (size_t i = 0; i < plan.size(); ++i) {
    if (!keeps(plan[i])) continue;
    place[i] = kept.size();
    kept.push_back(plan[i]);
    for (size_t& need : kept.back().needs) need = place.at(need);
  }
  return kept;
}

std::optional<int64_t> variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  const std::optional<int64_t> value = parse_integer(text);
  if (!value || *value < 0) throw UsageError(std::string(name) + ": want a whole number, found \"" + text + '"');
  return value;
}

}  // namespace

std::vector<Run> make_plan(const Workflow& workflow, const std::string& model, const fs::path& store) {
  std::vector<Run> plan;
  std::map<std::string, int> times;  // equal runs are told apart by their order
  Sources sources(workflow.folder, store);
  const std::vector<Json> cells = matrix_cells(workflow);
  size_t cell = 0;
  for (const Json& input : workflow.inputs) {
    for (const Json& matrix : cells) {
      std::map<std::string, size_t> place;
      for (const Task& task : workflow.tasks) {
        Run run{&task, cell, input, matrix, {}, ""};
        const Json scope{{"input", input}, {"matrix", matrix}};
        Json needed = Json::array();
        for (const std::string& need : task.needs) {
          run.needs.push_back(place.at(need));
          needed.push_back(plan[run.needs.back()].key);
        }
        const Json content{{"model", model},
                           {"device", workflow.device},
                           {"context", workflow.context.value_or(0)},
                           {"task", task.name},
                           {"definition", task.definition},
                           {"agent", describe(task.agent)},
                           {"policy", policy_text(task.policy)},
                           {"input", input},
                           {"matrix", matrix},
                           {"workdir", sources.identify(task.workdir, scope)},
                           {"needs", needed}};
        const std::string text = runtime::to_line(content);
        run.key = model::hex(model::xxh64(text, static_cast<uint64_t>(times[text]++)));
        place[task.name] = plan.size();
        plan.push_back(std::move(run));
      }
      ++cell;
    }
  }
  return plan;
}

std::vector<Run> take_shard(const std::vector<Run>& plan, int64_t index, int64_t count) {
  return filtered(
      plan, [&](const Run& run) { return static_cast<int64_t>(run.cell % static_cast<size_t>(count)) == index - 1; });
}

std::vector<Run> take_tasks(const std::vector<Run>& plan, const std::vector<std::string>& tasks) {
  std::set<std::string> wanted(tasks.begin(), tasks.end());
  for (auto run = plan.rbegin(); run != plan.rend(); ++run) {  // a run stands behind those that it needs
    if (wanted.contains(run->task->name)) wanted.insert(run->task->needs.begin(), run->task->needs.end());
  }
  return filtered(plan, [&](const Run& run) { return wanted.contains(run.task->name); });
}

std::vector<Run> take_first(const std::vector<Run>& plan, int64_t count) {
  return filtered(plan, [&](const Run& run) { return static_cast<int64_t>(run.cell) < count; });
}

std::pair<int64_t, int64_t> shard_of_scheduler() {
  struct Scheduler {
    const char *index, *count, *first;
  };
  constexpr Scheduler kSchedulers[] = {{"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"},
                                       {"JOB_COMPLETION_INDEX", "CORVID_SHARDS", ""},
                                       {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", ""}};
  for (const Scheduler& scheduler : kSchedulers) {
    const auto index = variable(scheduler.index), count = variable(scheduler.count);
    if (!index) continue;
    if (!count) throw UsageError(std::string(scheduler.index) + " is set: want " + scheduler.count + " as well");
    const int64_t place = *index - (*scheduler.first != '\0' ? variable(scheduler.first).value_or(0) : 0);
    if (place < 0 || place >= *count)
      throw UsageError(std::string(scheduler.index) + ": want one of " + std::to_string(*count) + ", found " +
                       std::to_string(*index));
    return {place + 1, *count};
  }
  return {1, 1};
}

}  // namespace corvid::agents
