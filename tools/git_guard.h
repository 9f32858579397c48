// What git would run, where a mount cannot protect it: names that were not there when the command began. A mount needs
// something to stand on, and an empty .git in every folder would be litter that `ls` and `tar` show. So the sandbox
// mounts what exists, and this guard looks afterwards at what came into being.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "tools/path_rules.h"

namespace corvid::tools {

class GitGuard {
 public:
  // Notes how the writable folders stand. Before the command.
  explicit GitGuard(const PathRules& rules);

  // After the command, when nothing of it is left. In a repository that it made, hooks that are no samples are removed,
  // and the configuration keeps only what a plain `git init` or `git clone` writes; a .git that is a file or a link,
  // and new files that redirect an old repository's configuration, are removed.
  void restore() const;

 private:
  struct Folder {
    std::filesystem::path path;
    bool had_git;                      // a repository, whose parts were mounted read-only
    std::vector<std::string> missing;  // of the files within .git that redirect it
  };
  std::vector<Folder> folders_;
};

// The lines of a git configuration that can make git run nothing and look nowhere else.
std::string harmless_git_config(std::string_view text);

}  // namespace corvid::tools
