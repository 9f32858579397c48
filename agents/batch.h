// Runs a workflow's plan: so many agents at once, each row stored as it is made, finished ones taken over from before.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "agents/runner.h"

namespace corvid::agents {

struct BatchOptions {
  int64_t jobs = 1;            // agents at once
  bool retry_failed = false;   // rows that did not pass are made anew
  bool force = false;          // all rows are
  std::set<std::string> keep;  // keys of rows of an earlier run that stay in the file though they are not in the plan
  std::vector<std::string> parts;  // folders beneath the output folder whose rows count as this one's (parts_of)
};

struct BatchProgress {
  int64_t total = 0, done = 0, running = 0, failed = 0, skipped = 0;
};

struct BatchResult {
  std::vector<Row> rows;  // in the plan's order; without those that a stop kept from being made
  Summary summary;
  bool is_stopped = false;
};

// Writes OUT/results.jsonl line by line as rows are made, and once more in the plan's order at the end. What stands
// there from an earlier run of the same plan is taken over: rows whose key is the same, and that need nothing that is
// made anew; and what parts on other machines have made. `on_row` is called under a lock, from any thread, after each
// row, and without one as a run begins. One process at a time works in an output folder; another gets a UsageError.
BatchResult run_batch(const Shared& shared, const std::vector<Run>& plan, const BatchOptions& options,
                      const std::function<void(const Row*, const BatchProgress&)>& on_row, std::stop_token stop);

// The folder of part `index` of `count` in an output folder, and the folders of parts that are there.
std::string part_name(int64_t index, int64_t count);
std::vector<std::string> parts_of(const std::filesystem::path& out);

// The rows of an earlier run by key. A last line that a kill cut short is passed over; any other that is no row throws
// std::runtime_error naming file and line.
std::map<std::string, Row> read_results(const std::filesystem::path& file);

}  // namespace corvid::agents
