#include "model/memory_room.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
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

int64_t system_memory() {
  std::ifstream in("/proc/meminfo");
  for (std::string name; in >> name; in.ignore(256, '\n')) {
    int64_t kib = 0;
    if (name == "MemAvailable:" && in >> kib) return kib * 1024;
  }
  return 0;
}

// The group of version 2 that this process is in.
std::string control_group() {
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("0::/")) return line.substr(4);
  }
  return {};
}

}  // namespace

int64_t available_memory() {
  int64_t room = system_memory();
  const fs::path root = "/sys/fs/cgroup";
  for (fs::path group = control_group();; group = group.parent_path()) {  // each limits those below it
    const auto most = number_in(root / group / "memory.max"), used = number_in(root / group / "memory.current");
    if (most && used) room = std::min(room, std::max<int64_t>(0, *most - *used));
    if (group.empty()) return room;
  }
}

}  // namespace corvid::model
