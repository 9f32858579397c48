#include "agents/ask_agent.h"

#include <algorithm>

#include "agents/assemble.h"
#include "tools/results.h"

namespace corvid::agents {

namespace {

using tools::Json;

// What an agent may spend that is asked by one with these limits, of which so much is spent.
runtime::Limits within(runtime::Limits own, const runtime::Limits& asker, const runtime::Meter& spent) {
  own.tokens = std::min(own.tokens, asker.tokens - spent.tokens);
  own.calls = std::min(own.calls, asker.calls - spent.calls);
  own.wall = std::min(own.wall, asker.wall);  // the asker's own clock ends it sooner, by its stop token
  own.depth = std::min(own.depth, asker.depth - 1);
  return own;
}

class AskAgent final : public tools::Tool {
 public:
  AskAgent(std::vector<Agent> agents, Asking asking, std::shared_ptr<const Asker> asker)
      : agents_(std::move(agents)), asking_(std::move(asking)), asker_(std::move(asker)) {
    Json names = Json::array();
    std::string list;
    for (const Agent& agent : agents_) {
      names.push_back(agent.name);
      list += (list.empty() ? "" : ", ") + agent.name;
      if (!agent.description.empty()) list += " (" + agent.description + ")";
    }
    spec_.name = kAskAgent;
    spec_.description =
        "Give a part of the task to another agent, which works in the same folder, and get its answer. "
        "It knows nothing but the prompt. Agents: " +
        list;
    spec_.parameters = {{"type", "object"},
                        {"properties",
                         {{"agent", {{"type", "string"}, {"enum", names}}},
                          {"prompt", {{"type", "string"}, {"description", "what it is to do, in full"}}}}},
                        {"required", {"agent", "prompt"}}};
  }

  const tools::ToolSpec& spec() const noexcept override { return spec_; }

  tools::ToolResult run(const Json& args, const tools::Sandbox& box, std::stop_token stop) override {
    const auto prompt = args.at("prompt").get<std::string>();
    if (prompt.find_first_not_of(" \t\r\n") == std::string::npos)
      return tools::bad_args("prompt: want a task, found nothing");
    Agent agent = *std::ranges::find(agents_, args.at("agent").get<std::string>(), &Agent::name);
    runtime::Meter& spent = *asker_->options.meter;
    agent.limits = within(agent.limits, asker_->options.limits, spent);
    if (agent.limits.tokens <= 0) return tools::failed("the limit of tokens leaves none for another agent");

    const auto asker = std::make_shared<Asker>();
    tools::Toolbox toolbox = make_asking_tools(agent, tools::Sandbox(box.workdir(), box.policy()), asking_, asker);
    runtime::SessionRecord record;
    record.workdir = box.workdir();
    record.agent = agent.name;
    record.prompt = prompt_of(agent, toolbox);
    record.sampler = agent.sampler;
    record.parent = asker_->session_id;
    const std::unique_ptr<runtime::Chat> chat = asking_.make_chat(record);
    runtime::Store store(asking_.store);  // its own: the asker's may be another thread's
    runtime::Session session = runtime::Session::start(store, std::move(record), *chat, toolbox);
    asker->session_id = session.record().id;
    asker->options = {agent.limits, asker_->options.approver, std::make_shared<runtime::Meter>()};
    const runtime::RunResult result = session.run(prompt, asker->options, stop);
    spent.tokens += asker->options.meter->tokens;
    spent.calls += asker->options.meter->calls;
    return result_of(agent.name, result);
  }

 private:
  static tools::ToolResult result_of(const std::string& name, const runtime::RunResult& result) {
    tools::ToolResult told{tools::Status::ok, result.answer, Json::object()};
    if (result.status == runtime::RunStatus::interrupted) {
      told = tools::cancelled();
    } else if (result.status != runtime::RunStatus::completed) {
      told = tools::failed("the agent " + name + " did not finish: " + result.error);
      if (!result.answer.empty()) told.text += "\nIt had said:\n" + result.answer;
    }
    told.detail["session_id"] = result.session_id;
    told.detail["status"] = runtime::to_text(result.status);
    told.detail["turns"] = result.turns;
    told.detail["completion_tokens"] = result.usage.completion_tokens;
    return told;
  }

  std::vector<Agent> agents_;
  Asking asking_;
  std::shared_ptr<const Asker> asker_;
  tools::ToolSpec spec_;
};

}  // namespace

std::unique_ptr<runtime::Chat> make_local_chat(const std::shared_ptr<model::Engine>& engine,
                                               runtime::LocalChatOptions options, runtime::SessionRecord& record) {
  options.prompt = record.prompt;
  options.sampler = record.sampler;
  record.model_name = engine->model()->name();
  record.model_fingerprint = engine->model()->fingerprint();
  return std::make_unique<runtime::LocalChat>(engine, std::move(options));
}

std::vector<Agent> asked_agents(const Agent& agent) {
  std::vector<Agent> agents;
  for (const Agent::Asked& asked : agent.agents) {
    try {
      Agent found = load_agent(asked.agent);
      if (std::ranges::find(agents, found.name, &Agent::name) != agents.end())
        throw UsageError("an agent named \"" + found.name + "\" stands here already");
      agents.push_back(std::move(found));
    } catch (const UsageError& error) {
      throw UsageError(asked.place + error.what());
    }
  }
  return agents;
}

tools::Toolbox make_asking_tools(const Agent& agent, tools::Sandbox sandbox, Asking asking,
                                 std::shared_ptr<const Asker> asker) {
  tools::Toolbox toolbox = make_agent_tools(agent, std::move(sandbox));
  if (agent.agents.empty() || agent.limits.depth < 1) return toolbox;
  toolbox.add(std::make_unique<AskAgent>(asked_agents(agent), std::move(asking), std::move(asker)));
  return toolbox;
}

}  // namespace corvid::agents
