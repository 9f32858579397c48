// One line of a workflow's results.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "agents/checks.h"
#include "agents/plan.h"

namespace corvid::agents {

enum class RowStatus : uint8_t {
  passed,   // the agent answered and all checks hold
  failed,   // it did not answer within its limits, or a check does not hold
  error,    // the run could not be made: its folder, its set-up, the model
  skipped,  // its condition does not hold, or what it needs has not passed
};
const char* to_text(RowStatus status);

struct Row {
  std::string key, task;
  Json input, matrix;
  RowStatus status = RowStatus::error;
  std::string answer, error;
  Json checks = Json::array();  // {"check", "passed", "found"?} each
  std::string session_id;       // empty when none was begun
  int64_t tries = 0, turns = 0, completion_tokens = 0;
  double seconds = 0;
  std::vector<std::string> collected;  // paths beneath the output folder

  bool operator==(const Row&) const = default;
};

// A row that says which run it is of, and nothing else yet.
Row row_of(const Run& run);
Json to_json(const Row& row);
// Throws std::invalid_argument saying which field is not as it should be.
Row row_from(const Json& json);

struct Summary {
  int64_t total = 0, passed = 0, failed = 0;  // failed: errors too
  int64_t skipped = 0;                        // not run this time: not to be run, or done before
  double seconds = 0;
};
Json to_json(const Summary& summary);

}  // namespace corvid::agents
