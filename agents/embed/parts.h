// What the handles of the public headers hold. A class within one that is exported would be exported too.
#pragma once
#include <condition_variable>
#include <corvid/corvid.hpp>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agents/args.h"
#include "agents/config.h"
#include "model/engine.h"
#include "model/model.h"
#include "runtime/prefix_cache.h"
#include "runtime/session.h"
#include "runtime/session_cache.h"
#include "runtime/store.h"
#include "tools/policy.h"
#include "tools/tool.h"

namespace corvid {
inline namespace v1 {

struct Model::Impl {
  std::filesystem::path file;
  std::shared_ptr<const model::Model> model;
};

struct [[gnu::visibility("hidden")]] Engine::Impl {
  // Never throws, whatever the host's logger does.
  void log(LogLevel level, const std::string& line) const noexcept;

  std::shared_ptr<const Model::Impl> model;
  std::shared_ptr<model::Engine> engine;
  std::filesystem::path prefix_folder;  // absolute and without links, or empty
  std::optional<runtime::PrefixCache> prefixes;
  Logger logger;
};

struct [[gnu::visibility("hidden")]] Store::Impl {
  Impl(const std::filesystem::path& file_in, const std::filesystem::path& session_folder_in);

  std::filesystem::path file, session_folder;  // absolute and without links; the folder may be empty
  std::optional<runtime::SessionCache> sessions;
  std::mutex mutex;      // of the connection
  runtime::Store store;  // for looking; sessions write through their own
};

struct ToolRequest::Impl {
  std::string name, arguments;
  const tools::Json& json;
  std::filesystem::path workdir;
  std::stop_token stop;
};

struct Agent::Impl {
  agents::Agent agent;  // `tools` always has a value
  tools::Policy policy;
  std::vector<std::pair<tools::ToolSpec, ToolFunction>> host_tools;
  std::map<std::string, ToolFunction, std::less<>> replaced;
};

// The agents' layer says that a user's file is wrong; for a host it is an argument.
template <class Step>
auto as_arguments(const Step& step) {
  try {
    return step();
  } catch (const agents::UsageError& error) {
    throw std::invalid_argument(error.what());
  }
}

// A tool of the host as the toolbox knows tools.
std::unique_ptr<tools::Tool> make_host_tool(tools::ToolSpec spec, ToolFunction run);
tools::Policy to_policy(const Policy& policy);

// What the host sees of the runtime's values, and back.
Message to_public(const model::Message& message);
Result to_public(const runtime::RunResult& result);
Event to_public(const runtime::Event& event);
ToolStatus to_public(tools::Status status);
tools::Status to_tools(ToolStatus status);

}  // namespace v1
}  // namespace corvid
