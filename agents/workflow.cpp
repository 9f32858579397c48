#include "agents/workflow.h"

#include <algorithm>

#include "agents/inputs.h"
#include "agents/paths.h"
#include "agents/workflow_tasks.h"
#include "agents/yaml.h"
#include "runtime/events.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMaxRuns = 1'000'000;

void read_model(const YamlValue& value, Workflow& workflow) {
  const YamlMap map = value.map({"path", "device", "context"});
  if (const auto path = map.find("path"); path && path->text() != "default") {
    workflow.model = resolve(path->text(), workflow.folder);
    std::error_code failure;
    if (!fs::exists(*workflow.model, failure)) path->fail("no such file: " + workflow.model->string());
  }
  if (const auto device = map.find("device")) workflow.device = device->choice({"auto", "cpu", "cuda"});
  if (const auto context = map.find("context")) workflow.context = context->integer(1, 1 << 24);
}

// matrix: { seed: [1, 2], word: [a, b] }
void read_matrix(const YamlValue& value, Workflow& workflow) {
  for (const auto& [name, values] : value.entries()) {
    std::vector<Json> list;
    for (const YamlValue& item : values.items()) {
      Json one = item.json();
      if (name == "seed") one = item.integer(0, INT64_MAX);
      if (name == "temperature") one = item.number(0, 100);
      if (std::ranges::find(list, one) != list.end())
        item.fail("the value " + runtime::to_line(one) + " stands here twice");
      list.push_back(std::move(one));
    }
    if (list.empty()) values.fail("want at least one value, found none");
    workflow.matrix.emplace_back(name, std::move(list));
  }
}

void read_outputs(const YamlValue& value, Outputs& outputs, const fs::path& folder) {
  const YamlMap map = value.map({"dir", "formats"});
  if (const auto dir = map.find("dir")) outputs.dir = resolve(dir->text(), folder);
  if (const auto formats = map.find("formats")) {
    outputs.formats.clear();
    for (const YamlValue& item : formats->items())
      outputs.formats.push_back(item.choice({"jsonl", "junit", "csv", "markdown", "html"}));
  }
}

}  // namespace

Workflow load_workflow(const fs::path& file) {
  const YamlMap map = YamlMap::load(file, {"version", "name", "model", "agent", "policy", "concurrency", "defaults",
                                           "inputs", "matrix", "tasks", "outputs"});
  Workflow workflow;
  workflow.file = file;
  workflow.folder = fs::absolute(file).lexically_normal().parent_path();
  workflow.name = file.stem().string();
  workflow.inputs = {Json::object()};
  workflow.outputs.dir = workflow.folder / "out";
  const auto version = map.find("version"), tasks = map.find("tasks");
  if (!version) throw UsageError(file.string() + ":1:1: want `version: 1`, found no version");
  version->integer(1, 1);
  if (!tasks) throw UsageError(file.string() + ":1:1: want `tasks`, found none");
  if (const auto value = map.find("name")) workflow.name = value->text();
  if (const auto value = map.find("model")) read_model(*value, workflow);
  if (const auto value = map.find("concurrency")) workflow.concurrency = value->integer(1, 1024);
  if (const auto value = map.find("inputs")) workflow.inputs = read_inputs(*value, workflow.folder);
  if (const auto value = map.find("matrix")) read_matrix(*value, workflow);
  if (const auto value = map.find("outputs")) read_outputs(*value, workflow.outputs, workflow.folder);

  TaskDefaults defaults;
  const auto agent = map.find("agent");
  defaults.agent = agent ? agent_of(*agent, workflow.folder) : load_agent("default");
  if (const auto value = map.find("policy")) {
    defaults.policy = beside(value->text(), workflow.folder);
    check_policy(*value, *defaults.policy);
  }
  if (const auto value = map.find("defaults")) {
    const YamlMap keys = value->map({"timeout", "retries", "limits"});
    if (const auto x = keys.find("timeout")) defaults.timeout = x->duration();
    if (const auto x = keys.find("retries")) read_retries(*x, defaults.retries, defaults.backoff);
    defaults.limits = keys.find("limits");
    if (defaults.limits) read_limits(*defaults.limits, defaults.agent.limits);
  }
  workflow.tasks = read_tasks(*tasks, workflow, defaults);

  size_t runs = workflow.inputs.size() * workflow.tasks.size();
  for (const auto& [name, values] : workflow.matrix) {
    runs *= values.size();
    if (runs > kMaxRuns) map.find("matrix")->fail("want at most 1000000 runs in all, found more");
  }
  return workflow;
}

}  // namespace corvid::agents
