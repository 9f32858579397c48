// What an agent amounts to in a folder: its tools, and what the model is told before a conversation.
#pragma once
#include <filesystem>

#include "agents/config.h"
#include "model/chat_format.h"
#include "tools/toolbox.h"

namespace corvid::agents {

// The agent's tools; throws UsageError for a name that there is no tool of.
tools::Toolbox make_agent_tools(const Agent& agent, tools::Sandbox sandbox);

// A session's messages are no tool's business, nor what another run will believe was said: hides the store's files.
void hide_store(tools::Policy& policy, const std::filesystem::path& store);
// What SQLite keeps a store in, at most, without links; nothing for an empty path.
std::vector<std::filesystem::path> files_of_store(const std::filesystem::path& store);

// What the model is told before a conversation: the agent's instructions with the folder's notes, and its tools.
model::Prompt prompt_of(const Agent& agent, const tools::Toolbox& toolbox);

}  // namespace corvid::agents
