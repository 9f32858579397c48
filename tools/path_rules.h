// What each place of the file system is to a tool: writable, readable, or out of reach. The file tools and the mounts
// of the sandbox are both made from these rules, so that they cannot disagree.
//
// The deepest rule that covers a path decides:
//   /home/ann/project              write    the working folder
//   /home/ann/project/.git/hooks   read     what git would run must not be planted; also when absent
//   /data/reference                read     a read_dirs entry
//   anything else                  outside
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "tools/fd.h"
#include "tools/policy.h"

namespace corvid::tools {

enum class Access : uint8_t { outside, read, write };

struct PathRule {
  std::filesystem::path path;  // absolute, no symbolic links when it was made
  Access access;               // outside: hidden although it lies within a visible folder
  bool is_file = false;        // when hidden: a file, also while it is absent
};

class PathRules {
 public:
  // `workdir` is a real path. Throws std::invalid_argument when it, or a writable folder of the policy, is / or within
  // /proc, /sys or /dev (but /dev/shm), where a bind mount would undo the sandbox.
  PathRules(const std::filesystem::path& workdir, const Policy& policy);

  const std::vector<PathRule>& rules() const noexcept { return rules_; }  // parents before what lies beneath them
  Access access(const std::filesystem::path& real_path) const;

  // Opens `path` (relative to the working folder, or absolute) without following it out of the folder it lies in.
  // -1 with errno: EXDEV outside or hidden, EROFS where only reading is allowed, else as open(2). Never waits on a
  // FIFO.
  int open(const std::filesystem::path& path, int flags, unsigned mode = 0) const;

  // Where a file may be made or replaced: its real folder and its name there. Symbolic links are followed to their end.
  struct Place {
    Fd folder;
    std::string name;
    bool exists = false;
    unsigned mode = 0;  // of the existing file
  };
  // Makes missing parent folders when asked. Errors are errno values in `error`: as for open(), EISDIR for a folder,
  // ENXIO for a device, FIFO or socket, ELOOP for a link to nothing.
  Place place(const std::filesystem::path& path, bool make_parents, int& error) const;

 private:
  struct Root {
    std::filesystem::path folder;    // a rule's
    std::filesystem::path relative;  // the rest of the path asked for, maybe with ".." in it
  };
  bool find_root(const std::filesystem::path& path, Root& root) const;
  int open_raw(const std::filesystem::path& path, int flags) const;
  bool make_folders(const std::filesystem::path& path, int& error) const;

  std::filesystem::path workdir_;
  std::vector<PathRule> rules_;
};

// The real path of an open file or folder.
std::filesystem::path real_path_of(int fd);

// Corvid's own configuration, store and cache (corvid in $XDG_CONFIG_HOME, $XDG_DATA_HOME, $XDG_CACHE_HOME): no tool
// may see them.
std::vector<std::filesystem::path> own_folders();

// HOME, else what the user database says; empty when neither knows.
std::filesystem::path home_folder();

}  // namespace corvid::tools
