// The folder that a task of a workflow works in.
#pragma once
#include <filesystem>
#include <string>

#include "agents/plan.h"

namespace corvid::agents {

// Changes with names, kinds, contents and executable bits beneath the folder, but for the files of `store`, which every
// run changes. Throws UsageError when it is none.
std::string hash_of_folder(const std::filesystem::path& folder, const std::filesystem::path& store = {});
// The commit that `ref` names. Throws UsageError when there is no such repository or commit.
std::string commit_of(const std::filesystem::path& repository, const std::string& ref);

// Makes `folder` anew, as the run's task says; what stood there is removed. `from` is the folder that the task named in
// `workdir: { from: ... }` left. A git folder is a clone of its own, because a linked worktree keeps its history in the
// repository, which a confined command cannot see and must not be able to write. Throws std::exception naming what
// could not be copied. The files of `store` are not: they say what other agents were told.
void prepare_workspace(const Workflow& workflow, const Run& run, const std::filesystem::path& folder,
                       const std::filesystem::path& from, const std::filesystem::path& store = {});

}  // namespace corvid::agents
