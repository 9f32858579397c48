// A workflow file, version 1: tasks for agents, run once for each input and matrix cell. Its keys are described in
// docs/workflows.md and, for editors, in configs/schema/workflow.json.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agents/config.h"
#include "agents/expression.h"

namespace corvid::agents {

struct Check {
  enum class Kind : uint8_t { answer_matches, answer_equals, answer_schema, command, file };
  Kind kind = Kind::command;
  std::string label;  // "answer_matches: \b7\b", for people
  Template text;      // the expression or the text; the path of a file
  std::string command;
  Json schema;  // answer_schema

  // of a file; those that are there all have to hold
  bool exists = true;
  std::optional<Template> equals, contains, matches;
};

struct Workdir {
  enum class Kind : uint8_t { empty, copy, git, from };
  Kind kind = Kind::empty;
  Template source;    // copy: a folder; git: a repository
  std::string ref;    // git: what is checked out
  std::string task;   // from: a copy of that task's folder as it left it
  std::string place;  // where it stands in the file, for messages
};

// What becomes of the others when a run did not pass: those that need it are skipped, or run all the same, or nothing
// new is begun.
enum class OnFailure : uint8_t { skip, proceed, stop };

struct Task {
  std::string name;
  Template prompt;
  std::vector<std::string> needs;       // names of tasks of the same cell
  std::optional<Expression> condition;  // instead of "all that it needs have passed"
  Agent agent;
  std::string policy = "default";
  Workdir workdir;
  std::vector<std::string> setup;  // commands before the agent begins
  std::vector<Check> checks;
  std::vector<std::string> collect;  // files, beneath the working folder
  OnFailure on_failure = OnFailure::skip;
  Json definition;                             // the task as it stands in the file
  std::chrono::milliseconds timeout{300'000};  // of one try: set-up, agent and checks
  int64_t retries = 0;
  std::chrono::milliseconds backoff{1'000};  // before the first retry; doubled for each further one
};

struct Outputs {
  std::filesystem::path dir = "out";
  std::vector<std::string> formats{"jsonl"};  // of jsonl, junit, csv, markdown, html
};

struct Workflow {
  std::filesystem::path file, folder;  // folder: what relative paths in the file lie beneath
  std::string name;
  std::optional<std::filesystem::path> model;  // nothing: the default model
  std::string device = "auto";
  std::optional<int64_t> context;
  int64_t concurrency = 1;
  std::vector<Json> inputs;                                       // objects; one that is empty when the file names none
  std::vector<std::pair<std::string, std::vector<Json>>> matrix;  // name, values
  std::vector<Task> tasks;                                        // each behind those that it needs
  Outputs outputs;
};

// Throws UsageError `FILE:LINE:COLUMN: what was wanted and found` for the first thing that is wrong.
Workflow load_workflow(const std::filesystem::path& file);

}  // namespace corvid::agents
