// Starts a program and stays with it until nothing of it is left: its output, its time, its whole tree of processes.
//
// Confined, the child is bubblewrap. It tells the process id of its init on kInfoFd and waits on kBlockFd; by then its
// init is held by a pidfd and has its limits, so that neither a fast nor a hostile command can slip away. When the pid
// namespace's init has died, the kernel has killed everything in it.
// Unconfined, the child is a small reaper (reaper.h) that adopts and kills what the command leaves behind.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "tools/sandbox.h"

namespace corvid::tools {

constexpr int kArgsFd = 3, kSeccompFd = 4, kInfoFd = 5, kBlockFd = 6;  // as bubblewrap is told

struct Launch {
  std::filesystem::path program;  // absolute
  std::vector<std::string> argv, env;
  std::filesystem::path folder;                // where it starts; bubblewrap changes folder itself
  std::vector<std::pair<int, int>> extra_fds;  // {ours, its}: its are kArgsFd and kSeccompFd
  int input = -1;                              // its stdin, when output is captured; -1: /dev/null
  bool confined = true;
  bool capture = true;  // or the caller's stdin, stdout and stderr, and its signals passed on
  int64_t output_limit_bytes = 0;
  int64_t max_file_bytes = 0, max_processes = 0;
  std::optional<std::chrono::milliseconds> timeout;
};

struct Outcome {
  SpawnResult result;
  bool started = true;              // false: bubblewrap ended before it had made the sandbox
  bool too_many_processes = false;  // it was killed for that
};

// Blocks. Throws std::system_error when the program cannot be started.
Outcome launch(const Launch& what, std::stop_token stop);

}  // namespace corvid::tools
