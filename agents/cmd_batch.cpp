// corvid batch: runs a workflow file.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <thread>

#include "agents/assemble.h"
#include "agents/batch.h"
#include "agents/commands.h"
#include "agents/device.h"
#include "agents/paths.h"
#include "agents/progress.h"
#include "agents/report.h"
#include "model/new_file.h"
#include "runtime/interrupt.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

constexpr int kTemporaryFailure = 75;  // EX_TEMPFAIL: a scheduler that ended us may start us again
constexpr int64_t kDefaultContext = 16384;

// "2/8"
std::pair<int64_t, int64_t> shard_from(const Args& args) {
  const auto text = args.text("shard");
  if (!text) return shard_of_scheduler();
  const size_t slash = text->find('/');
  const auto index = parse_integer(text->substr(0, slash));
  const auto count = slash == std::string::npos ? std::nullopt : parse_integer(text->substr(slash + 1));
  if (!index || !count || *count < 1 || *index < 1 || *index > *count)
    throw UsageError("--shard: want I/N with I from 1 to N, found \"" + *text + '"');
  return {*index, *count};
}

std::string duration_text(double seconds) {
  char text[32];
  const auto whole = static_cast<int64_t>(seconds);
  if (seconds < 60)
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  else
    std::snprintf(text, sizeof text, "%lld min %lld s", static_cast<long long>(whole / 60),
                  static_cast<long long>(whole % 60));
  return text;
}

// On a terminal one line that changes as rows are made, and each second; otherwise a line for each row. All on standard
// error.
class BatchDisplay {
 public:
  explicit BatchDisplay(const std::atomic<int64_t>& tokens)
      : tokens_(tokens), is_terminal_(is_terminal(STDERR_FILENO)), colour_(wants_colour(STDERR_FILENO)) {
    if (is_terminal_) ticker_ = std::jthread([this](std::stop_token stop) { tick(stop); });
  }

  void show(const Row* row, const BatchProgress& progress) {
    const std::lock_guard lock(mutex_);
    progress_ = progress;
    const bool is_bad = row != nullptr && (row->status == RowStatus::failed || row->status == RowStatus::error);
    if (row != nullptr && row->tries > 0) ++made_;
    if (is_terminal_) std::cerr << "\r\x1b[K";
    if (row != nullptr && (!is_terminal_ || is_bad)) {
      const Colour colour = is_bad ? Colour::red : row->status == RowStatus::passed ? Colour::green : Colour::dim;
      std::cerr << coloured(to_text(row->status), colour, colour_) << "  " << row->task << "  "
                << one_line(cell_name(*row), 60) << "  " << duration_text(row->seconds);
      if (!row->error.empty()) std::cerr << "  " << one_line(row->error, 100);
      std::cerr << "\n";
    }
    if (is_terminal_) draw();
  }

  // Nothing is shown behind this.
  void end() {
    ticker_ = {};
    const std::lock_guard lock(mutex_);
    if (is_terminal_) std::cerr << "\r\x1b[K" << std::flush;
  }

 private:
  void tick(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, stop, std::chrono::seconds(1), [&] { return stop.stop_requested(); })) {
      if (progress_.total > 0) draw();
    }
  }

  void draw() const {
    std::string line = std::to_string(progress_.done) + " of " + std::to_string(progress_.total) + " done, " +
                       std::to_string(progress_.running) + " running, " + std::to_string(progress_.failed) + " failed";
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    line += ", " + std::to_string(static_cast<int64_t>(static_cast<double>(tokens_) / std::max(seconds, 0.001))) +
            " tokens a second";
    if (made_ > 0) {
      const double left = seconds / static_cast<double>(made_) * static_cast<double>(progress_.total - progress_.done);
      line += ", " + duration_text(left) + " left";
    }
    const auto width = static_cast<size_t>(std::max(20, terminal_columns(STDERR_FILENO) - 1));
    std::cerr << "\r\x1b[K" << one_line(line, width) << std::flush;
  }

  const std::atomic<int64_t>& tokens_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  bool is_terminal_, colour_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  BatchProgress progress_;
  int64_t made_ = 0;
  std::jthread ticker_;  // the last: it uses the others
};

// What the report shows of a session.
Json timeline_of(runtime::Store& store, const std::string& session) {
  Json steps = Json::array();
  for (const runtime::Entry& entry : store.load(session)) {
    Json step{{"role", runtime::to_text(entry.message.role)}, {"text", entry.message.text}};
    for (const model::Call& call : entry.message.calls)
      step["calls"].push_back({{"name", call.name}, {"arguments", call.args}});
    if (entry.result) step["ms"] = entry.result->duration_ms;
    if (entry.usage) step["ms"] = entry.usage->prefill_ms + entry.usage->decode_ms;
    steps.push_back(std::move(step));
  }
  return steps;
}

void write_reports(const Workflow& workflow, const Shared& shared, const std::vector<Row>& rows) {
  const auto write = [&](const char* name, const std::string& text) {
    model::NewFile file(shared.out / name);
    file.write(text);
    file.finish(false);
  };
  for (const std::string& format : workflow.outputs.formats) {
    if (format == "junit") write("junit.xml", to_junit(workflow.name, rows));
    if (format == "csv") write("results.csv", to_csv(rows));
    if (format == "markdown") write("summary.md", to_markdown(workflow.name, rows));
    if (format == "html") {
      runtime::Store store(shared.store);
      write("report.html", to_html(workflow.name, rows, [&](const std::string& session) {
              try {
                return timeline_of(store, session);
              } catch (const runtime::StoreError&) {
                return Json::array();  // taken over from an earlier run whose store is elsewhere
              }
            }));
    }
  }
}

// What other tasks will answer is not known yet.
bool refers_to_tasks(const Task& task) {
  const std::vector<Path> paths = task.prompt.paths();
  return std::ranges::any_of(paths, [](const Path& path) { return path[0] == "tasks"; });
}

void print_plan(const std::vector<Run>& plan) {
  for (const Run& run : plan) {
    std::string needs;
    for (const std::string& need : run.task->needs) needs += (needs.empty() ? "  needs " : ", ") + need;
    const Json scope{{"input", run.input}, {"matrix", run.matrix}};
    std::cout << run.name() << "  " << one_line(cell_name(row_of(run)), 60) << needs << "  "
              << one_line(refers_to_tasks(*run.task) ? run.task->prompt.source() : run.task->prompt.expand(scope), 80)
              << "\n";
  }
  std::cout << plan.size() << (plan.size() == 1 ? " run\n" : " runs\n");
}

std::vector<Run> plan_from(const Args& args, const Workflow& workflow, std::vector<Run> plan,
                           std::pair<int64_t, int64_t> shard) {
  if (const std::vector<std::string> only = args.texts("only"); !only.empty()) {
    std::vector<std::string> names;
    for (const Task& task : workflow.tasks) names.push_back(task.name);
    for (const std::string& name : only) {
      if (std::ranges::find(names, name) == names.end())
        throw UsageError("--only: no task named \"" + name + '"' + did_you_mean(name, names));
    }
    plan = take_tasks(plan, only);
  }
  if (const auto most = args.integer("max", 1, 1'000'000)) plan = take_first(plan, *most);
  return take_shard(plan, shard.first, shard.second);
}

// The sessions of parts that ran elsewhere, for the report, and for who looks at them here.
void gather_sessions(const Args& args, const Config& config, const fs::path& out,
                     const std::vector<std::string>& parts) {
  if (parts.empty()) return;
  const auto store = open_store(args, config);
  for (const std::string& part : parts) {
    const fs::path file = out / part / "corvid.db";
    if (!fs::exists(file)) continue;
    for (const auto& [session, reason] : store->merge(file).conflicts)
      std::cerr << "corvid: " << file.string() << ": conflict: session " << session << ": " << reason << "\n";
  }
}

int run_batch_command(const Args& args) {
  const Workflow workflow = load_workflow(*args.positional(0));
  const Config config = load_config();
  const std::pair<int64_t, int64_t> shard = shard_from(args);
  BatchOptions options;
  options.jobs = args.integer("jobs", 1, 1024).value_or(workflow.concurrency);
  options.retry_failed = args.has("retry-failed");
  options.force = args.has("force");
  cache_memory_from(args, config);  // a wrong size is said before anything is loaded
  const DeviceWish device = device_wish(args, config, workflow.device, workflow.file.string());

  const auto model_path = workflow.model ? std::optional<std::string>(workflow.model->string()) : std::nullopt;
  model::LoadOptions loading = load_options_from(args, device);
  if (args.has("dry-run")) loading.memory = model::WeightMemory::mapped;
  const auto model = model::Model::load(find_model(model_path, config.model).path, loading);
  const std::vector<Run> all = make_plan(workflow, model->fingerprint(), store_path(args, config));
  for (const Run& run : all) options.keep.insert(run.key);
  const std::vector<Run> plan = plan_from(args, workflow, all, shard);
  if (args.has("dry-run")) {
    print_plan(plan);
    return 0;
  }

  fs::path out = args.text("out") ? fs::path(*args.text("out")) : workflow.outputs.dir;
  if (shard.second > 1) out /= part_name(shard.first, shard.second);
  fs::create_directories(out);
  out = fs::canonical(out);
  // Parts on several machines may share a folder, but no SQLite file: each has a store of its own.
  const fs::path store = shard.second > 1 && !args.has("db") ? out / "corvid.db" : store_path(args, config);
  if (shard.second == 1) {
    options.parts = parts_of(out);
    gather_sessions(args, config, out, options.parts);
  }
  const int64_t context =
      std::min(workflow.context.value_or(config.context.value_or(kDefaultContext)), model->config().context_length);
  const auto engine = model::Engine::create(
      model, engine_options_from(args, config, device, *model, runtime::LocalChatOptions{}.cache_format));
  std::atomic<int64_t> tokens{0};
  const int64_t guesses = speculate_from(args).value_or(runtime::LocalChatOptions{}.speculate);
  const Shared shared{workflow, engine, context, guesses, store, out, prefix_cache(), tokens};

  const runtime::Interrupt interrupt;
  BatchDisplay display(tokens);
  const BatchResult result = run_batch(
      shared, plan, options, [&](const Row* row, const BatchProgress& progress) { display.show(row, progress); },
      interrupt.token());
  display.end();
  write_reports(workflow, shared, result.rows);
  const Summary& summary = result.summary;
  if (args.text("output").value_or("text") == "json") std::cout << to_output_line(to_json(summary)) << "\n";
  std::cerr << summary.passed << " of " << plan.size() << " passed, " << summary.failed << " failed, "
            << summary.skipped << " skipped in " << duration_text(summary.seconds) << "; results in " << out.string()
            << "\n";
  if (result.is_stopped) {
    std::cerr << "corvid: stopped; the same command goes on from here\n";
    return interrupt.signal() == SIGTERM ? kTemporaryFailure : 130;
  }
  return summary.failed == 0 && summary.total == std::ssize(plan) ? 0 : 1;
}

int run_validate(const Args& args) {
  const Workflow workflow = load_workflow(*args.positional(0));
  const std::vector<Run> plan = make_plan(workflow, "");
  std::cout << workflow.file.string() << ": in order: " << workflow.tasks.size()
            << (workflow.tasks.size() == 1 ? " task, " : " tasks, ") << plan.size()
            << (plan.size() == 1 ? " run" : " runs") << "\n";
  return 0;
}

}  // namespace

std::vector<Command> batch_commands() {
  const Positional file{"FILE", "a workflow file (YAML)", true, false, Completes::files};
  return {
      {.name = "batch",
       .summary = "Run a workflow: its tasks, once for each input and matrix cell.",
       .positionals = {file},
       .flags = {{"jobs", "N", "agents at once (default: the file's concurrency)"},
                 {"only", "TASK", "this task and those that it needs", {}, Completes::nothing, true},
                 {"max", "N", "the first N cells only"},
                 {"shard", "I/N", "part I of N; taken from Slurm, Kubernetes or Open MPI when they set it"},
                 {"retry-failed", "", "make rows that did not pass anew"},
                 {"force", "", "make all rows anew"},
                 {"dry-run", "", "print the plan, run nothing"},
                 {"out", "DIR", "the folder for results (default: the file's outputs.dir)", {}, Completes::folders},
                 device_flag(),
                 gpus_flag(),
                 {"speculate", "N|off", "tokens guessed ahead and verified in one pass, at most (default: 16)"},
                 weights_flag(),
                 cache_memory_flag(),
                 threads_flag(),
                 db_flag(),
                 output_flag({"text", "json"})},
       .examples = {"corvid batch triage.yaml", "corvid batch triage.yaml --jobs 8 --retry-failed",
                    "corvid batch triage.yaml --shard 2/4 --out results", "corvid batch validate triage.yaml"},
       .notes = "The same command again goes on where the last one ended: rows whose task, input and files are the\n"
                "same are not made twice.\n"
                "Exit status: 0 every run passed, 1 not all did, 2 wrong usage or workflow, 75 ended by SIGTERM,\n"
                "130 interrupted.",
       .run = run_batch_command},
      {.name = "batch validate",
       .summary = "Say what is wrong with a workflow file.",
       .positionals = {file},
       .flags = {},
       .examples = {"corvid batch validate triage.yaml"},
       .notes = "",
       .run = run_validate}};
}

}  // namespace corvid::agents
