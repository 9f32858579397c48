// ask_agent: the tool by which an agent gives a part of its task to another one. That one works in the same sandbox, in
// a session of its own in the same store, and within what is left of the asking run's limits. With the same
// instructions and tools its cache is a fork of the asking agent's: the engine shares the pages (model/engine.h).
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agents/config.h"
#include "runtime/local_chat.h"
#include "runtime/session.h"
#include "tools/toolbox.h"

namespace corvid::agents {

// What agents that are asked are made of.
struct Asking {
  // A chat with the record's prompt and sampler; says in the record whose tokens it gives.
  std::function<std::unique_ptr<runtime::Chat>(runtime::SessionRecord&)> make_chat;
  std::filesystem::path store;
};

// What make_chat is over an engine: `options` but for prompt and sampler.
std::unique_ptr<runtime::Chat> make_local_chat(const std::shared_ptr<model::Engine>& engine,
                                               runtime::LocalChatOptions options, runtime::SessionRecord& record);

// The session that asks, as its tool sees it: set before each run. `options` has to have a meter.
struct Asker {
  std::string session_id;
  runtime::RunOptions options;
};

constexpr const char* kAskAgent = "ask_agent";

// The agents that this one names. Throws UsageError with the place of a name that leads nowhere, or twice to one agent.
std::vector<Agent> asked_agents(const Agent& agent);

// The agent's tools, and ask_agent when it names agents and its limits leave it a level of them. Throws UsageError.
tools::Toolbox make_asking_tools(const Agent& agent, tools::Sandbox sandbox, Asking asking,
                                 std::shared_ptr<const Asker> asker);

}  // namespace corvid::agents
