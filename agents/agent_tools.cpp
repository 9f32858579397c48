#include "agents/agent_tools.h"

#include "agents/args.h"

namespace corvid::agents {

tools::Toolbox make_agent_tools(const Agent& agent, tools::Sandbox sandbox) {
  if (agent.tools && agent.tools->empty()) return tools::Toolbox(std::move(sandbox));
  try {
    return tools::make_toolbox(std::move(sandbox), agent.tools.value_or(std::vector<std::string>{}));
  } catch (const std::invalid_argument& error) {
    throw UsageError("agent " + agent.name + ": " + error.what());
  }
}

void hide_store(tools::Policy& policy, const std::filesystem::path& store) {
  for (std::filesystem::path& file : files_of_store(store)) policy.hidden_paths.push_back(std::move(file));
}

std::vector<std::filesystem::path> files_of_store(const std::filesystem::path& store) {
  if (store.empty()) return {};
  std::error_code failure;
  const std::string file = std::filesystem::weakly_canonical(std::filesystem::absolute(store), failure).string();
  return {file, file + "-wal", file + "-shm", file + "-journal"};
}

model::Prompt prompt_of(const Agent& agent, const tools::Toolbox& toolbox) {
  model::Prompt prompt;
  prompt.instructions = with_project_notes(agent.instructions, toolbox.sandbox().workdir());
  prompt.thinking = agent.thinking;
  for (const tools::ToolSpec& spec : toolbox.specs())
    prompt.tools.push_back({spec.name, spec.description, spec.parameters});
  return prompt;
}

}  // namespace corvid::agents
