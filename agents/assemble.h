// Flags, config.yaml, an agent and a policy -> the parts of a run: store, model, tools, session. Whatever can be wrong
// with them is said here, before the model works.
#pragma once
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "agents/agent_tools.h"
#include "agents/args.h"
#include "agents/ask_agent.h"
#include "agents/config.h"
#include "agents/device.h"
#include "model/sequence.h"
#include "runtime/local_chat.h"
#include "runtime/session.h"
#include "runtime/session_cache.h"
#include "tools/toolbox.h"

namespace corvid::agents {

// What a tool may touch, from --workdir, --policy, --allow-host, --allow-write, the agent's policy and config.yaml's.
struct Confinement {
  std::filesystem::path workdir;  // real path
  tools::Policy policy;
  // Throws UsageError for a folder that cannot be given to tools: /, or one within /proc, /sys or /dev.
  tools::Sandbox sandbox() const;
};
Confinement read_confinement(const Args& args, const Config& config, const std::string& agent_policy = "default",
                             const std::filesystem::path& default_workdir = ".");

// Evaluated prompts on disk, unless CORVID_CACHE says off.
std::optional<runtime::PrefixCache> prefix_cache();
// Caches of sessions on disk, under the same condition.
std::optional<runtime::SessionCache> session_cache();

std::filesystem::path store_path(const Args& args, const Config& config);
// Opens the store with its folder, readable by this user alone. Throws UsageError when it cannot be opened.
std::unique_ptr<runtime::Store> open_store(const Args& args, const Config& config);
// The session `id` names: an id, the beginning of one, or "last". Throws UsageError when there is none.
runtime::SessionRecord find_session(runtime::Store& store, const std::string& id);

model::Attention attention_from(const Args& args);
// --cache-type and --index-type; `standard` is the type of keys and values where nothing is said.
model::CacheFormat cache_format_from(const Args& args, kernels::Format standard);
int threads_from(const Args& args, const Config& config);
// --cache-memory, config.yaml's cache_memory, or half of what is free (of a GPU's memory what is left, but no more
// than 16 contexts): of all sequences together. `model`, where it is loaded, knows better than the system what is free.
int64_t cache_memory_from(const Args& args, const Config& config, kernels::Device device = kernels::Device::cpu,
                          const model::Model* model = nullptr);
// --weights, --threads; what may go to a GPU is mapped.
model::LoadOptions load_options_from(const Args& args, const DeviceWish& device);
// Where the model computes, with how many threads and how much memory.
model::EngineOptions engine_options_from(const Args& args, const Config& config, const DeviceWish& wish,
                                         const model::Model& model, model::CacheFormat cache_format);
std::optional<int64_t> speculate_from(const Args& args);
// --context, else the configuration's, else 32,768 tokens; at most what the model was made for.
int64_t context_from(const Args& args, const Config& config, const model::Model& model);

// Everything that one session needs, alive as long as this object.
class Assembly {
 public:
  // Starts a session, or goes on with `resume`.
  Assembly(const Args& args, const std::optional<std::string>& resume);
  Assembly(const Assembly&) = delete;  // its parts refer to each other

  runtime::Session& session() { return *session_; }
  // The limits and the approver of the next run. `stop` ends a question that waits for a person.
  runtime::RunOptions run_options(std::stop_token stop);
  // Leaves the session's keys and values on disk for who resumes it. To be called when nobody waits any more.
  void keep_cache() const;

 private:
  runtime::Limits limits_;
  runtime::ApproveMode approve_mode_ = runtime::ApproveMode::never;
  std::optional<runtime::SessionCache> sessions_;
  std::unique_ptr<runtime::Store> store_;
  std::shared_ptr<const model::Model> model_;
  std::shared_ptr<model::Engine> engine_;
  runtime::LocalChatOptions chat_options_;  // of agents that are asked
  std::shared_ptr<Asker> asker_;
  std::optional<tools::Toolbox> toolbox_;
  std::unique_ptr<runtime::LocalChat> chat_;
  std::optional<runtime::Session> session_;
  std::future<std::optional<std::string>> probe_;  // whether commands can be confined, looked up while the model writes
};

}  // namespace corvid::agents
