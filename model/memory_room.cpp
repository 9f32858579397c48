#include "model/memory_room.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace corvid::model {
namespace {

namespace fs = std::filesystem;

std::optional<int64_t> number_in(const fs::path& file) {
  int64_t value = 0;
  std::ifstream in(file);
  return in >> value ? std::optional(value) : std::nullopt;  // "max" is no limit
}

std::optional<int64_t> system_memory(const fs::path& root) {
  std::ifstream in(root / "proc/meminfo");
  for (std::string name; in >> name; in.ignore(256, '\n')) {
    int64_t kib = 0;
    if (name == "MemAvailable:" && in >> kib) return kib * 1024;
  }
  return std::nullopt;
}

// Where the groups of one version that limit memory lie, and what the files of a group are called.
struct Groups {
  fs::path top;
  const char *most, *used;
  std::string inactive;  // the line of memory.stat, of the group and those below
};

// Copies of files that nobody has looked at for a while count as used, but the system takes them back first.
int64_t reclaimable(const fs::path& stat, const std::string& line) {
  std::ifstream in(stat);
  int64_t bytes = 0;
  for (std::string name; in >> name >> bytes;) {
    if (name == line) return bytes;
  }
  return 0;
}

// What is left in the group, and in those above it: each limits those below.
int64_t room_in(const Groups& groups, fs::path group) {
  int64_t room = std::numeric_limits<int64_t>::max();
  for (;; group = group.parent_path()) {
    const auto most = number_in(groups.top / group / groups.most), used = number_in(groups.top / group / groups.used);
    if (most && used) {
      const int64_t kept = *used - reclaimable(groups.top / group / "memory.stat", groups.inactive);
      room = std::min(room, std::max<int64_t>(0, *most - std::max<int64_t>(0, kept)));
    }
    if (group.empty()) return room;
  }
}

}  // namespace

std::optional<int64_t> available_memory(const fs::path& root) {
  const fs::path groups = root / "sys/fs/cgroup";
  constexpr int64_t kNotTold = std::numeric_limits<int64_t>::max();
  int64_t room = system_memory(root).value_or(kNotTold);
  // Lines of hierarchy:controllers:/group; version 2 has no controllers there. Both may be in use at once. In a
  // container the group may be named as the host sees it, and its files lie at the top.
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(":/", first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = ',' + line.substr(first + 1, second - first - 1) + ',';
    const fs::path group = line.substr(second + 2);
    if (controllers == ",,")
      room = std::min(room, room_in({groups, "memory.max", "memory.current", "inactive_file"}, group));
    if (controllers.find(",memory,") != std::string::npos)
      room = std::min(
          room,
          room_in({groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}, group));
  }
  return room < kNotTold ? std::optional(room) : std::nullopt;
}

}  // namespace corvid::model
