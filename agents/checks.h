// Whether a run did what its task wanted.
#pragma once
#include <chrono>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "agents/workflow.h"
#include "tools/sandbox.h"

namespace corvid::agents {

struct CheckResult {
  std::string label;
  bool passed = false;
  std::string found;  // what was there instead, when it did not pass
};

struct Checking {
  const Json& scope;  // input, matrix, tasks
  const std::string& answer;
  const tools::Sandbox& sandbox;  // of the working folder: commands run confined, files never lie outside
  std::chrono::steady_clock::time_point deadline;
  std::stop_token stop;
};

CheckResult run_check(const Check& check, const Checking& what);

// A command of the workflow's, confined, with the run's values in its environment: CORVID_INPUT_FILE for input.file,
// CORVID_MATRIX_SEED for matrix.seed, CORVID_TASK_COUNT_ANSWER for tasks.count.answer, and CORVID_ANSWER. A value that
// is too long for a program's environment is a variable of the command's shell alone.
tools::SpawnResult run_command(const std::string& command, const Checking& what);

// A regular file's bytes (at most 64 MiB, or std::runtime_error); nothing when there is none, or it is reached through
// a link that leads outside.
std::optional<std::string> read_beneath(const tools::Sandbox& sandbox, const std::string& path);

Json to_json(const std::vector<CheckResult>& results);

}  // namespace corvid::agents
