#include "agents/workspace.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "agents/agent_tools.h"
#include "agents/paths.h"
#include "model/hash.h"
#include "model/mapped_file.h"
#include "tools/process.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

// Runs git, unconfined, as the user that started the workflow. Returns what it printed.
std::string git(std::vector<std::string> arguments) {
  tools::Launch launch;
  launch.program = "/usr/bin/env";
  launch.argv = {"env", "git"};
  launch.argv.insert(launch.argv.end(), arguments.begin(), arguments.end());
  // A hook's GIT_DIR and the like would turn these commands on the repository that the user works in.
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with("GIT_")) launch.env.emplace_back(*variable);
  }
  launch.folder = "/";
  launch.confined = false;
  launch.output_limit_bytes = 64 * 1024;
  launch.max_file_bytes = INT64_MAX;
  launch.max_processes = 1 << 16;
  tools::SpawnResult result = tools::launch(launch, {}).result;
  if (result.exit_code != 0) {
    while (result.err.ends_with('\n')) result.err.pop_back();
    throw UsageError("git " + arguments.back() + ": " + result.err);
  }
  while (result.out.ends_with('\n')) result.out.pop_back();
  return result.out;
}

// Also when what ran there left folders that their owner must not write to.
void remove_tree(const fs::path& folder) {
  std::error_code failure;
  fs::remove_all(folder, failure);
  if (!failure) return;
  fs::permissions(folder, fs::perms::owner_all, fs::perm_options::add);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {  // descends behind the body
    if (fs::is_directory(entry.symlink_status()))
      fs::permissions(entry.path(), fs::perms::owner_all, fs::perm_options::add);
  }
  fs::remove_all(folder);
}

// Folders, which their owner can write to whatever the source's may be, files and links; what else there may be (a
// pipe, a socket) means nothing elsewhere, and what is in `left_out` is not wanted there.
void copy_tree(const fs::path& source, const fs::path& target, const std::vector<fs::path>& left_out) {
  fs::create_directory(target);
  for (const fs::directory_entry& entry : fs::directory_iterator(source)) {
    if (std::ranges::find(left_out, entry.path()) != left_out.end()) continue;
    const fs::path to = target / entry.path().filename();
    if (entry.is_symlink()) {
      fs::copy_symlink(entry.path(), to);
    } else if (entry.is_directory()) {
      copy_tree(entry.path(), to, left_out);
    } else if (entry.is_regular_file()) {
      fs::copy_file(entry.path(), to);
    }
  }
}

bool is_within(const fs::path& path, const fs::path& folder) {
  return std::ranges::mismatch(folder, path).in1 == folder.end();
}

}  // namespace

std::string hash_of_folder(const fs::path& named, const fs::path& store) {
  std::error_code failure;
  if (!fs::is_directory(named, failure)) throw UsageError("no such folder to copy: " + named.string());
  const fs::path folder = fs::canonical(named);
  const std::vector<fs::path> left_out = files_of_store(store);
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (std::ranges::find(left_out, entry.path()) == left_out.end()) paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  uint64_t hash = 0;
  for (const fs::path& path : paths) {
    const fs::file_status status = fs::symlink_status(path);
    hash = model::xxh64(path.lexically_relative(folder).string(), hash);
    if (fs::is_symlink(status)) {
      hash = model::xxh64(fs::read_symlink(path).string(), hash + 1);
    } else if (fs::is_regular_file(status)) {
      const bool is_program = (status.permissions() & fs::perms::owner_exec) != fs::perms::none;
      hash = model::xxh64(model::MappedFile(path).bytes(), hash + (is_program ? 3 : 2));
    }
  }
  return model::hex(hash);
}

std::string commit_of(const fs::path& repository, const std::string& ref) {
  std::error_code failure;
  if (!fs::is_directory(repository, failure)) throw UsageError("no such repository: " + repository.string());
  return git({"-C", repository.string(), "rev-parse", "--verify", "--end-of-options", ref + "^{commit}"});
}

void prepare_workspace(const Workflow& workflow, const Run& run, const fs::path& folder, const fs::path& from,
                       const fs::path& store) {
  const Workdir& workdir = run.task->workdir;
  remove_tree(folder);
  fs::create_directories(folder.parent_path());
  const auto copy = [&](const fs::path& named) {
    const fs::path source = fs::canonical(named);  // a link to a folder is copied as that folder
    if (is_within(fs::canonical(folder.parent_path()), source))
      throw UsageError("workdir: want an output folder outside the folder that is copied, found " + folder.string() +
                       " in " + source.string());
    copy_tree(source, folder, files_of_store(store));
  };
  const auto source = [&] {
    return resolve(workdir.source.expand({{"input", run.input}, {"matrix", run.matrix}}), workflow.folder);
  };
  switch (workdir.kind) {
    case Workdir::Kind::empty:
      fs::create_directory(folder);
      break;
    case Workdir::Kind::copy:
      copy(source());
      break;
    case Workdir::Kind::from:
      copy(from);
      break;
    case Workdir::Kind::git: {
      const std::string commit = commit_of(source(), workdir.ref);
      git({"clone", "--quiet", "--no-hardlinks", "--no-checkout", "--", source().string(), folder.string()});
      git({"-C", folder.string(), "checkout", "--quiet", "--detach", commit});
      git({"-C", folder.string(), "remote", "remove", "origin"});
      break;
    }
  }
}

}  // namespace corvid::agents
