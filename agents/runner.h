// One run of a workflow: its folder, set-up, agent, checks and retries.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "agents/plan.h"
#include "agents/row.h"
#include "model/engine.h"
#include "runtime/local_chat.h"
#include "runtime/prefix_cache.h"
#include "runtime/store.h"

namespace corvid::agents {

// What all runs share; alive as long as any of them.
struct Shared {
  const Workflow& workflow;
  std::shared_ptr<model::Engine> engine;  // one for all agents: what they evaluate at the same time is one batch
  int64_t context = 0;
  std::filesystem::path store;
  std::filesystem::path out;  // the output folder: work/NAME and collected/NAME for each run
  std::optional<runtime::PrefixCache> prefixes;
};

std::filesystem::path workspace_of(const Shared& shared, const Run& run);

// Used by one thread at a time; threads have a Runner each.
class Runner {
 public:
  explicit Runner(const Shared& shared);

  // `tasks` is what expressions see of the runs it needs: {"count": {"answer", "passed", "status"}}; `from` the run
  // whose folder it takes over, if any. Nothing when `stop` was requested before it was done: then it has to be made
  // anew. Never throws: whatever goes wrong is in the row.
  std::optional<Row> run(const Run& run, const Json& tasks, const Run* from, std::stop_token stop);

 private:
  struct Try;
  void attempt(const Try& a_try, Row& row);
  std::string ask(const Try& a_try, const tools::Sandbox& sandbox, const std::string& prompt, Row& row);
  void collect(const Try& a_try, const tools::Sandbox& sandbox, Row& row) const;

  const Shared& shared_;
  std::optional<runtime::Store> store_;
};

}  // namespace corvid::agents
