#include "agents/batch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "agents/report.h"
#include "model/new_file.h"
#include "tools/fd.h"

namespace corvid::agents {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

tools::Fd locked(const fs::path& out) {
  const fs::path file = out / ".lock";
  tools::Fd fd(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (fd.get() < 0) throw std::system_error(errno, std::generic_category(), file.string());
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) throw std::system_error(errno, std::generic_category(), file.string());
  throw UsageError(out.string() + ": another corvid batch is at work there");
}

// What was made before, here and by the parts. A part's row takes the place of one here only when it is younger (what
// was made anew here counts), and not of one that passed unless it did too.
std::map<std::string, Row> read_earlier(const fs::path& out, const std::vector<std::string>& parts) {
  std::map<std::string, Row> earlier = read_results(out / "results.jsonl");
  for (const std::string& part : parts) {
    const tools::Fd lock = locked(out / part);
    const fs::path own = out / "results.jsonl", theirs = out / part / "results.jsonl";
    const bool is_younger =
        fs::exists(own) && fs::exists(theirs) && fs::last_write_time(theirs) > fs::last_write_time(own);
    for (auto& [key, row] : read_results(theirs)) {
      for (std::string& path : row.collected) path.insert(0, part + "/");
      const auto [place, is_new] = earlier.try_emplace(key, row);
      const bool passes = row.status == RowStatus::passed || place->second.status != RowStatus::passed;
      if (!is_new && is_younger && passes) place->second = row;
    }
  }
  return earlier;
}

// The growing results file: a line is in it, whole, before anyone hears of the row.
class Journal {
 public:
  explicit Journal(fs::path file) : file_(std::move(file)) {}

  void begin(const std::vector<Row>& rows) {
    replace(rows);
    fd_ = tools::Fd(open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    if (fd_.get() < 0) failed();
  }
  void add(const Row& row) {
    const std::string line = to_jsonl({row});
    for (size_t done = 0; done < line.size();) {
      const ssize_t wrote = write(fd_.get(), line.data() + done, line.size() - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) failed();
      done += static_cast<size_t>(wrote);
    }
  }
  void replace(const std::vector<Row>& rows) const {
    model::NewFile file(file_);
    file.write(to_jsonl(rows));
    file.finish();
  }

 private:
  [[noreturn]] void failed() const { throw std::system_error(errno, std::generic_category(), file_.string()); }
  fs::path file_;
  tools::Fd fd_;
};

// The runs in flight and what became of the others; all members under one lock.
class Scheduler {
 public:
  Scheduler(const Shared& shared, const std::vector<Run>& plan, const BatchOptions& options,
            const std::function<void(const Row*, const BatchProgress&)>& on_row, std::stop_token stop)
      : shared_(shared),
        plan_(plan),
        options_(options),
        on_row_(on_row),
        stop_(std::move(stop)),
        state_(plan.size()),
        rows_(plan.size()),
        journal_(shared.out / "results.jsonl") {}

  BatchResult run() {
    take_over();
    std::vector<Row> kept;
    progress_.total = std::ssize(plan_);
    for (const auto& row : rows_) {
      if (!row) continue;
      kept.push_back(*row);
      count(*row);
    }
    taken_over_ = std::ssize(kept);
    std::vector<Row> all = kept;
    all.insert(all.end(), others_.begin(), others_.end());
    journal_.begin(all);
    report(nullptr);
    {
      std::vector<std::jthread> workers;
      for (int64_t i = 0; i < std::min(options_.jobs, std::ssize(plan_) - taken_over_); ++i)
        workers.emplace_back([this] { work(); });
    }
    if (failure_) std::rethrow_exception(failure_);
    BatchResult result;
    for (const auto& row : rows_) {
      if (row) result.rows.push_back(*row);
    }
    all = result.rows;
    all.insert(all.end(), others_.begin(), others_.end());
    journal_.replace(all);
    result.summary = summarize(result.rows);
    result.summary.skipped +=
        std::ranges::count_if(kept, [](const Row& row) { return row.status != RowStatus::skipped; });
    result.summary.seconds = seconds();
    result.is_stopped = stop_.stop_requested();
    return result;
  }

 private:
  enum class State : uint8_t { waiting, running, done };

  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  const Run* source_of(const Run& run) const {
    if (run.task->workdir.kind != Workdir::Kind::from) return nullptr;
    for (const size_t need : run.needs) {
      if (plan_[need].task->name == run.task->workdir.task) return &plan_[need];
    }
    return nullptr;  // needed by way of another task
  }

  // Rows of an earlier run that still hold. Backwards first: who has to be made anew may need a folder that is gone.
  void take_over() {
    const std::map<std::string, Row> earlier = read_earlier(shared_.out, options_.parts);
    for (const auto& [key, row] : earlier) {
      if (options_.keep.contains(key) && std::ranges::find(plan_, key, &Run::key) == plan_.end())
        others_.push_back(row);
    }
    if (options_.force) return;
    std::vector<bool> holds(plan_.size());
    for (size_t i = 0; i < plan_.size(); ++i) {
      const auto found = earlier.find(plan_[i].key);
      if (found == earlier.end()) continue;
      const RowStatus status = found->second.status;
      holds[i] = !options_.retry_failed || status == RowStatus::passed || status == RowStatus::skipped;
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = plan_.size(); i-- > 0;) {
        const bool needs_hold = std::ranges::all_of(plan_[i].needs, [&](size_t need) { return holds[need]; });
        if (holds[i] && !needs_hold) {
          holds[i] = false;
          changed = true;
        }
        if (holds[i]) continue;
        const Run* source = source_of(plan_[i]);
        if (source == nullptr) continue;
        const auto place = static_cast<size_t>(source - plan_.data());
        if (holds[place] && !fs::is_directory(workspace_of(shared_, *source))) {
          holds[place] = false;
          changed = true;
        }
      }
    }
    for (size_t i = 0; i < plan_.size(); ++i) {
      if (!holds[i]) continue;
      rows_[i] = earlier.at(plan_[i].key);
      state_[i] = State::done;
      end_after(i);
    }
  }

  // What a task says about its failure holds for rows of an earlier run too.
  void end_after(size_t place) {
    const RowStatus status = rows_[place]->status;
    if (status != RowStatus::failed && status != RowStatus::error) return;
    is_ending_ = is_ending_ || plan_[place].task->on_failure == OnFailure::stop;
  }

  void work() {
    try {
      Runner runner(shared_);
      for (std::unique_lock lock(mutex_);;) {
        const std::optional<size_t> next = wait_for_next(lock);
        if (!next) return;
        const Run& run = plan_[*next];
        std::optional<Row> row = row_without_running(run);
        if (!row) {
          const Json tasks = scope_of(run);
          state_[*next] = State::running;
          ++running_;
          report(nullptr);
          lock.unlock();
          row = runner.run(run, tasks, source_of(run), stop_);
          lock.lock();
          --running_;
        }
        state_[*next] = State::done;
        if (row) finish(*next, std::move(*row));
        changed_.notify_all();
      }
    } catch (...) {  // the results file cannot be written: no row is worth making any more
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      is_ending_ = true;
      changed_.notify_all();
    }
  }

  // The first run that can begin; nothing when there will be none.
  std::optional<size_t> wait_for_next(std::unique_lock<std::mutex>& lock) {
    for (;;) {
      if (is_ending_ || stop_.stop_requested()) return std::nullopt;
      bool is_waiting = false;
      for (size_t i = first_waiting_; i < plan_.size(); ++i) {
        if (state_[i] != State::waiting) {
          if (i == first_waiting_) ++first_waiting_;
          continue;
        }
        is_waiting = true;
        if (std::ranges::all_of(plan_[i].needs, [&](size_t need) { return state_[need] == State::done; })) return i;
      }
      if (!is_waiting) return std::nullopt;
      changed_.wait(lock);
    }
  }

  Json scope_of(const Run& run) const {
    Json tasks = Json::object();
    std::vector<size_t> open = run.needs;
    while (!open.empty()) {
      const size_t i = open.back();
      open.pop_back();
      const std::optional<Row>& row = rows_[i];
      tasks[plan_[i].task->name] = {{"answer", row ? row->answer : ""},
                                    {"passed", row && row->status == RowStatus::passed},
                                    {"status", row ? to_text(row->status) : "skipped"}};
      open.insert(open.end(), plan_[i].needs.begin(), plan_[i].needs.end());
    }
    return tasks;
  }

  // A row of a run that is not to be made; nothing when it is.
  std::optional<Row> row_without_running(const Run& run) const {
    std::string reason;
    const Json tasks = scope_of(run);
    if (run.task->condition) {
      if (!run.task->condition->holds({{"input", run.input}, {"matrix", run.matrix}, {"tasks", tasks}}))
        reason = "its condition does not hold";
    } else {
      for (const size_t need : run.needs) {
        const Task& needed = *plan_[need].task;
        if (rows_[need]->status != RowStatus::passed && needed.on_failure != OnFailure::proceed)
          reason = "needs " + needed.name + ", which has not passed";
      }
    }
    if (reason.empty()) return std::nullopt;
    Row row = row_of(run);
    row.status = RowStatus::skipped;
    row.error = reason;
    return row;
  }

  void finish(size_t place, Row row) {
    journal_.add(row);
    count(row);
    rows_[place] = std::move(row);
    end_after(place);
    report(&*rows_[place]);
  }

  void count(const Row& row) {
    ++progress_.done;
    progress_.failed += row.status == RowStatus::failed || row.status == RowStatus::error ? 1 : 0;
    progress_.skipped += row.status == RowStatus::skipped ? 1 : 0;
  }

  void report(const Row* row) {
    progress_.running = running_;
    on_row_(row, progress_);
  }

  const Shared& shared_;
  const std::vector<Run>& plan_;
  const BatchOptions& options_;
  const std::function<void(const Row*, const BatchProgress&)>& on_row_;
  const std::stop_token stop_;
  const Clock::time_point begin_ = Clock::now();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<State> state_;
  std::vector<std::optional<Row>> rows_;
  std::vector<Row> others_;  // of an earlier run, not of this plan
  Journal journal_;
  size_t first_waiting_ = 0;
  int64_t running_ = 0, taken_over_ = 0;
  BatchProgress progress_;
  bool is_ending_ = false;
  std::exception_ptr failure_;
};

}  // namespace

BatchResult run_batch(const Shared& shared, const std::vector<Run>& plan, const BatchOptions& options,
                      const std::function<void(const Row*, const BatchProgress&)>& on_row, std::stop_token stop) {
  fs::create_directories(shared.out);
  const tools::Fd lock = locked(shared.out);
  Scheduler scheduler(shared, plan, options, on_row, stop);
  return scheduler.run();
}

std::string part_name(int64_t index, int64_t count) {
  return "shard-" + std::to_string(index) + "-of-" + std::to_string(count);
}

std::vector<std::string> parts_of(const fs::path& out) {
  std::vector<std::string> parts;
  for (const fs::directory_entry& entry : fs::directory_iterator(out)) {
    const std::string name = entry.path().filename().string();
    long long index = 0, count = 0;
    if (std::sscanf(name.c_str(), "shard-%lld-of-%lld", &index, &count) == 2 && name == part_name(index, count) &&
        entry.is_directory())
      parts.push_back(name);
  }
  std::ranges::sort(parts);
  return parts;
}

std::map<std::string, Row> read_results(const fs::path& file) {
  std::map<std::string, Row> rows;
  std::ifstream in(file, std::ios::binary);
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    const bool is_cut = in.eof();  // no newline behind it
    const Json json = Json::parse(line, nullptr, false);
    try {
      if (json.is_discarded()) throw std::invalid_argument("no JSON");
      Row row = row_from(json);
      rows.insert_or_assign(row.key, row);
    } catch (const std::invalid_argument& error) {
      if (is_cut) break;
      throw std::runtime_error(file.string() + ":" + std::to_string(number) + ": want a row of results, found " +
                               error.what() + "; move the file away, or give --out another folder");
    }
  }
  return rows;
}

}  // namespace corvid::agents
