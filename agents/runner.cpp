#include "agents/runner.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "agents/agent_tools.h"
#include "agents/assemble.h"
#include "agents/terminal.h"
#include "agents/workspace.h"
#include "model/new_file.h"

namespace corvid::agents {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kMaxDoublings = 10;  // of the wait between two tries

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Waits; false when a stop came first.
bool wait_for(std::chrono::milliseconds time, std::stop_token stop) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any condition;
  condition.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

// The matrix's own names for what a sampler takes; another try draws other numbers.
model::SamplerParams sampler_of(const Run& run, int64_t number) {
  model::SamplerParams sampler = run.task->agent.sampler;
  if (run.matrix.contains("seed")) sampler.seed = run.matrix["seed"].get<uint64_t>();
  if (run.matrix.contains("temperature")) sampler.temperature = run.matrix["temperature"].get<float>();
  sampler.seed += static_cast<uint64_t>(number);
  return sampler;
}

}  // namespace

struct Runner::Try {
  const Run& run;
  const Json& scope;
  const fs::path& folder;
  const fs::path& from;
  int64_t number;  // from 0
  Clock::time_point deadline;
  std::stop_token stop;

  std::chrono::milliseconds left() const {
    return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()),
                    std::chrono::milliseconds(1));
  }
};

fs::path workspace_of(const Shared& shared, const Run& run) { return shared.out / "work" / run.name(); }

Runner::Runner(const Shared& shared) : shared_(shared) {}

std::optional<Row> Runner::run(const Run& run, const Json& tasks, const Run* from, std::stop_token stop) {
  const Clock::time_point begin = Clock::now();
  const Json scope{{"input", run.input}, {"matrix", run.matrix}, {"tasks", tasks}};
  const fs::path folder = workspace_of(shared_, run),
                 source = from != nullptr ? workspace_of(shared_, *from) : fs::path();
  Row row;
  for (int64_t number = 0; number <= run.task->retries; ++number) {
    if (number > 0 && !wait_for(run.task->backoff * (1 << std::min<int64_t>(number - 1, kMaxDoublings)), stop))
      return std::nullopt;
    row = row_of(run);
    row.tries = number + 1;
    try {
      attempt({run, scope, folder, source, number, Clock::now() + run.task->timeout, stop}, row);
    } catch (const std::exception& error) {
      row.status = RowStatus::error;
      row.error = error.what();
    }
    if (stop.stop_requested()) return std::nullopt;
    if (row.status == RowStatus::passed) break;
  }
  row.seconds = seconds_since(begin);
  return row;
}

void Runner::attempt(const Try& t, Row& row) {
  const Task& task = *t.run.task;
  prepare_workspace(shared_.workflow, t.run, t.folder, t.from, shared_.store);
  tools::Policy policy = load_policy(task.policy);
  hide_store(policy, shared_.store);
  const tools::Sandbox sandbox(t.folder, std::move(policy));
  const std::string no_answer;
  for (const std::string& command : task.setup) {
    const tools::SpawnResult done = run_command(command, {t.scope, no_answer, sandbox, t.deadline, t.stop});
    if (t.stop.stop_requested()) return;
    if (done.end == tools::SpawnResult::End::timed_out)
      throw std::runtime_error("setup: the time was over: " + command);
    const std::string said = one_line(done.err.empty() ? done.out : done.err, 400);
    if (done.exit_code != 0)
      throw std::runtime_error("setup: exit status " + std::to_string(done.exit_code) + ": " + command +
                               (said.empty() ? "" : ": " + said));
  }
  row.answer = ask(t, sandbox, task.prompt.expand(t.scope), row);
  if (t.stop.stop_requested() || row.status == RowStatus::error) return;
  const bool is_answered = row.error.empty();
  std::vector<CheckResult> results;
  for (const Check& check : task.checks)
    results.push_back(run_check(check, {t.scope, row.answer, sandbox, t.deadline, t.stop}));
  row.checks = to_json(results);
  collect(t, sandbox, row);
  const bool holds = std::ranges::all_of(results, &CheckResult::passed);
  row.status = is_answered && holds ? RowStatus::passed : RowStatus::failed;
}

// The agent's answer. row.error says why there is none; with RowStatus::error the run itself failed.
std::string Runner::ask(const Try& t, const tools::Sandbox& sandbox, const std::string& prompt, Row& row) {
  const Agent& agent = t.run.task->agent;
  if (!store_) store_.emplace(shared_.store);
  const auto make_chat = [this](runtime::SessionRecord& of) {
    runtime::LocalChatOptions options;
    options.context = shared_.context;
    options.speculate = shared_.speculate;
    options.prefixes = shared_.prefixes;
    return make_local_chat(shared_.engine, std::move(options), of);
  };
  const auto asker = std::make_shared<Asker>();
  tools::Toolbox toolbox = make_asking_tools(agent, sandbox, {make_chat, shared_.store}, asker);
  runtime::SessionRecord record;
  record.workdir = sandbox.workdir();
  record.agent = agent.name;
  record.prompt = prompt_of(agent, toolbox);
  record.sampler = sampler_of(t.run, t.number);
  const std::unique_ptr<runtime::Chat> chat = make_chat(record);
  runtime::Session session = runtime::Session::start(*store_, std::move(record), *chat, toolbox);
  session.watch([this](const runtime::Event& event) {
    const auto* stored = std::get_if<runtime::MessageEvent>(&event);
    if (stored != nullptr) shared_.tokens += std::ssize(stored->message.tokens);
  });
  asker->session_id = session.record().id;
  asker->options.limits = agent.limits;
  asker->options.limits.wall = std::min(agent.limits.wall, t.left());
  asker->options.meter = std::make_shared<runtime::Meter>();
  const runtime::RunResult result = session.run(prompt, asker->options, t.stop);
  row.session_id = result.session_id;
  row.turns = result.turns;
  row.completion_tokens = asker->options.meter->tokens;  // with those of agents that it asked
  row.error = result.error;
  row.status = result.status == runtime::RunStatus::error ? RowStatus::error : RowStatus::failed;
  return result.answer;
}

// Copies what the task wants kept to collected/NAME/. What is not there is said by a check, if by anything.
void Runner::collect(const Try& t, const tools::Sandbox& sandbox, Row& row) const {
  const fs::path place = fs::path("collected") / t.run.name();
  fs::remove_all(shared_.out / place);
  for (const std::string& path : t.run.task->collect) {
    const std::optional<std::string> text = read_beneath(sandbox, path);
    if (!text) continue;
    const fs::path target = shared_.out / place / path;
    fs::create_directories(target.parent_path());
    model::NewFile file(target);
    file.write(*text);
    file.finish(false);
    row.collected.push_back((place / path).string());
  }
}

}  // namespace corvid::agents
