// The agent of a host, and the host's own tools.
#include <algorithm>
#include <regex>
#include <stdexcept>

#include "agents/embed/parts.h"
#include "tools/results.h"
#include "tools/toolbox.h"

namespace corvid {
inline namespace v1 {

namespace fs = std::filesystem;
using tools::Json;

namespace {

const std::vector<std::string>& shipped_tools() {
  static const std::vector<std::string> kNames{"shell",     "read_file", "write_file",
                                               "edit_file", "list_dir",  "http_request"};
  return kNames;
}

class HostTool final : public tools::SpecTool {
 public:
  HostTool(tools::ToolSpec spec, ToolFunction run) : SpecTool(std::move(spec)), run_(std::move(run)) {}

  tools::ToolResult run(const Json& args, const tools::Sandbox& box, std::stop_token stop) override {
    const ToolRequest::Impl request{spec().name, args.dump(), args, box.workdir(), std::move(stop)};
    ToolResult result;
    try {
      result = run_(ToolRequest(request));
    } catch (const std::exception&) {
      throw;
    } catch (...) {
      throw std::runtime_error("the tool threw something that is no std::exception");
    }
    Json detail = Json::object();
    if (!result.detail.empty()) {
      detail = Json::parse(result.detail, nullptr, /*allow_exceptions=*/false);
      if (!detail.is_object()) throw std::runtime_error("the tool's detail: want a JSON object");
    }
    return {to_tools(result.status), std::move(result.text), std::move(detail)};
  }

 private:
  ToolFunction run_;
};

Json checked_schema(const Tool& tool) {
  Json schema = Json::parse(tool.parameters, nullptr, /*allow_exceptions=*/false);
  if (!schema.is_object() || schema.value("type", Json()) != "object")
    throw std::invalid_argument("tool " + tool.name + ": parameters: want a JSON Schema of type object");
  if (const auto properties = schema.find("properties"); properties != schema.end() && !properties->is_object())
    throw std::invalid_argument("tool " + tool.name + ": properties: want an object");
  return schema;
}

fs::path real_folder(const fs::path& folder) {
  std::error_code failure;
  fs::path real = fs::canonical(folder, failure);
  if (failure || !fs::is_directory(real, failure))
    throw std::invalid_argument("policy: no such folder: " + folder.string());
  return real;
}

std::unique_ptr<Agent::Impl> impl_of(agents::Agent agent) {
  // Left out without a word they would be missed only when the agent fails.
  if (!agent.agents.empty())
    throw agents::UsageError(agent.agents[0].place + ": want no agents to ask (a host's tool may run another session)");
  auto impl = std::make_unique<Agent::Impl>();
  impl->policy = agents::load_policy(agent.policy);
  impl->agent = std::move(agent);
  if (!impl->agent.tools) impl->agent.tools = shipped_tools();
  return impl;
}

}  // namespace

std::unique_ptr<tools::Tool> make_host_tool(tools::ToolSpec spec, ToolFunction run) {
  return std::make_unique<HostTool>(std::move(spec), std::move(run));
}

tools::Policy to_policy(const Policy& policy) {
  tools::Policy inner;
  inner.sandbox = policy.is_confined ? tools::SandboxMode::required : tools::SandboxMode::none;
  std::ranges::transform(policy.write_dirs, std::back_inserter(inner.write_dirs), real_folder);
  std::ranges::transform(policy.read_dirs, std::back_inserter(inner.read_dirs), real_folder);
  for (const std::string& host : policy.allow_hosts) {
    if (!agents::is_host(host)) throw std::invalid_argument("policy: want HOST or HOST:PORT, found \"" + host + '"');
  }
  inner.allow_hosts = policy.allow_hosts;
  inner.pass_env = policy.pass_env;
  inner.shell_timeout = policy.shell_timeout;
  inner.shell_timeout_max = std::max(inner.shell_timeout_max, inner.shell_timeout);
  inner.http_timeout = policy.http_timeout;
  return inner;
}

std::string_view ToolRequest::name() const noexcept { return impl_.name; }
std::string_view ToolRequest::arguments() const noexcept { return impl_.arguments; }
const fs::path& ToolRequest::workdir() const noexcept { return impl_.workdir; }
const std::stop_token& ToolRequest::stop() const noexcept { return impl_.stop; }

std::optional<std::string> ToolRequest::text(std::string_view argument) const {
  const auto found = impl_.json.find(std::string(argument));
  if (found == impl_.json.end()) return std::nullopt;
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::optional<double> ToolRequest::number(std::string_view argument) const {
  const auto found = impl_.json.find(std::string(argument));
  if (found == impl_.json.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

std::optional<int64_t> ToolRequest::integer(std::string_view argument) const {
  const auto found = impl_.json.find(std::string(argument));
  if (found == impl_.json.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<int64_t>();
}

std::optional<bool> ToolRequest::flag(std::string_view argument) const {
  const auto found = impl_.json.find(std::string(argument));
  if (found == impl_.json.end() || !found->is_boolean()) return std::nullopt;
  return found->get<bool>();
}

Agent::Agent() : Agent(load("default")) {}

Agent Agent::load(const std::string& name_or_file) {
  return as_arguments([&] {
    const bool is_file = name_or_file.find('/') != std::string::npos || name_or_file.ends_with(".yaml");
    return Agent(impl_of(is_file ? agents::load_agent(name_or_file) : agents::load_shipped_agent(name_or_file)));
  });
}

Agent::Agent(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Agent::Agent(const Agent& other) : impl_(std::make_unique<Impl>(*other.impl_)) {}
Agent::Agent(Agent&&) noexcept = default;
Agent& Agent::operator=(const Agent& other) {
  if (this != &other) impl_ = std::make_unique<Impl>(*other.impl_);
  return *this;
}
Agent& Agent::operator=(Agent&&) noexcept = default;
Agent::~Agent() = default;

Agent& Agent::set_name(std::string name) {
  impl_->agent.name = std::move(name);
  return *this;
}

Agent& Agent::set_instructions(std::string text) {
  impl_->agent.instructions = std::move(text);
  return *this;
}

Agent& Agent::set_tools(const std::vector<std::string>& names) {
  std::vector<std::string> chosen;
  for (const std::string& name : names) {
    if (std::ranges::find(shipped_tools(), name) == shipped_tools().end())
      throw std::invalid_argument("no tool named \"" + name + "\" comes with corvid");
    if (std::ranges::find(chosen, name) != chosen.end()) throw std::invalid_argument("\"" + name + "\" stands twice");
    chosen.push_back(name);
  }
  std::erase_if(impl_->replaced,
                [&](const auto& pair) { return std::ranges::find(chosen, pair.first) == chosen.end(); });
  impl_->agent.tools = std::move(chosen);
  return *this;
}

Agent& Agent::add_tool(Tool tool) {
  static const std::regex kName("[a-z_][a-z0-9_]*");
  if (!std::regex_match(tool.name, kName))
    throw std::invalid_argument("a tool's name: want [a-z_][a-z0-9_]*, found \"" + tool.name + '"');
  const std::vector<std::string> taken = tools();
  if (std::ranges::find(taken, tool.name) != taken.end())
    throw std::invalid_argument("there is a tool named " + tool.name + " already");
  if (!tool.run) throw std::invalid_argument("tool " + tool.name + ": want a function, found none");
  Json schema = checked_schema(tool);
  impl_->host_tools.emplace_back(tools::ToolSpec{std::move(tool.name), std::move(tool.description), std::move(schema)},
                                 std::move(tool.run));
  return *this;
}

Agent& Agent::replace_tool(std::string_view name, ToolFunction run) {
  if (std::ranges::find(*impl_->agent.tools, name) == impl_->agent.tools->end())
    throw std::invalid_argument("the agent has no tool named \"" + std::string(name) + "\" that came with corvid");
  if (!run) throw std::invalid_argument("tool " + std::string(name) + ": want a function, found none");
  impl_->replaced.insert_or_assign(std::string(name), std::move(run));
  return *this;
}

Agent& Agent::set_policy(Policy policy) {
  impl_->policy = to_policy(policy);
  return *this;
}

Agent& Agent::set_limits(const Limits& limits) {
  impl_->agent.limits = {limits.turns, limits.tokens, limits.calls, limits.wall};
  return *this;
}

Agent& Agent::set_sampler(const Sampler& sampler) {
  model::SamplerParams inner = impl_->agent.sampler;
  inner.temperature = static_cast<float>(sampler.temperature);
  inner.seed = sampler.seed;
  inner.top_k = sampler.top_k;
  inner.top_p = static_cast<float>(sampler.top_p);
  inner.min_p = static_cast<float>(sampler.min_p);
  inner.stop = sampler.stop;
  impl_->agent.sampler = model::checked(inner);
  return *this;
}

const std::string& Agent::name() const noexcept { return impl_->agent.name; }
const std::string& Agent::instructions() const noexcept { return impl_->agent.instructions; }

std::vector<std::string> Agent::tools() const {
  std::vector<std::string> names = *impl_->agent.tools;
  for (const auto& [spec, run] : impl_->host_tools) names.push_back(spec.name);
  return names;
}

Limits Agent::limits() const {
  const runtime::Limits& limits = impl_->agent.limits;
  return {limits.turns, limits.tokens, limits.calls, limits.wall};
}

Sampler Agent::sampler() const {
  const model::SamplerParams& inner = impl_->agent.sampler;
  return {inner.temperature, inner.seed, inner.top_k, inner.top_p, inner.min_p, inner.stop};
}

}  // namespace v1
}  // namespace corvid
