// The command line of bubblewrap for a policy: what a confined command sees, and what this machine lets us confine.
//
//   /               as it is, read-only: /usr /bin /lib* /etc /opt /nix; no secrets of /etc that only root may read
//   /home /root /var /run /mnt /sys ...   empty (every other folder of /, whatever its name)
//   $HOME           empty and writable, gone afterwards;  /tmp /var/tmp /dev/shm too
//   /proc /dev      new ones: only the command's processes, only null, zero, random, tty and the like
//   path rules      the working folder and the policy's folders, at the same paths as outside
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/path_rules.h"

namespace corvid::tools {

// What is to be had here.
struct Mechanism {
  std::filesystem::path bwrap;         // absolute, no symbolic links
  bool fresh_proc = true;              // false: /proc stays empty, for a container that forbids a new one
  std::optional<std::string> missing;  // why nothing can be confined, and what to do about it
};

// bwrap on this PATH: the first absolute entry that holds it. Empty when there is none.
std::filesystem::path find_bwrap(std::string_view path);

// Found and tried out on the first call, with a command in a real sandbox.
const Mechanism& mechanism();

// The options from namespaces to mounts, ending with --chdir; without descriptors, seccomp and the command.
std::vector<std::string> bubblewrap_options(const PathRules& rules, const std::filesystem::path& workdir,
                                            const Policy& policy, bool fresh_proc);

}  // namespace corvid::tools
