// What a workflow amounts to: one run for each task, input and matrix cell.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "agents/workflow.h"

namespace corvid::agents {

struct Run {
  const Task* task = nullptr;
  size_t cell = 0;  // runs of one cell share input and matrix values, and can need each other
  Json input, matrix;
  std::vector<size_t> needs;  // runs of the same cell, by place in the plan
  std::string key;  // 16 hex digits; changes with everything that the outcome may depend on: the task, its agent and
                    // policy, input, matrix, the folder copied, the model, and the same of the runs that it needs
  std::string name() const { return task->name + "-" + key; }
};

// Cell by cell, the inputs in their order and the matrix's last name changing fastest; within a cell in the order of
// Workflow::tasks. `model` identifies what computes; the files of `store` are no part of a folder copied. Throws
// UsageError, with the place in the file, for a folder to copy that is not there or cannot be read.
std::vector<Run> make_plan(const Workflow& workflow, const std::string& model, const std::filesystem::path& store = {});

// Part `index` (from 1) of `count`: every count-th cell, with renumbered needs.
std::vector<Run> take_shard(const std::vector<Run>& plan, int64_t index, int64_t count);
// The runs of the named tasks and of those that they need.
std::vector<Run> take_tasks(const std::vector<Run>& plan, const std::vector<std::string>& tasks);
// The first `count` cells.
std::vector<Run> take_first(const std::vector<Run>& plan, int64_t count);

// The part of an array job that this process is, from the variables that schedulers set; {1, 1} for none:
//   Slurm       SLURM_ARRAY_TASK_ID, _MIN and _COUNT
//   Kubernetes  JOB_COMPLETION_INDEX, with CORVID_SHARDS for their number
//   Open MPI    OMPI_COMM_WORLD_RANK and _SIZE
// Throws UsageError for variables that make no sense.
std::pair<int64_t, int64_t> shard_of_scheduler();

}  // namespace corvid::agents
