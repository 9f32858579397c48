// The parent of an unconfined command: adopts every process that the command leaves behind (a child subreaper), and
// kills them all when the command ends or when it is told to. Without a pid namespace nothing else can find them.
#pragma once
#include <sys/types.h>

#include <csignal>
#include <cstdint>

namespace corvid::tools {

constexpr int kReaperKill = SIGUSR1;  // sent to the reaper: end the tree now

struct ReaperArgs {
  const char* program;
  char* const* argv;
  char* const* env;
  const char* folder;
  int in, out, err;
  int64_t max_file_bytes;
};

// Of what waitpid() says of a process that has ended: its exit status, or 128 + signal. Async-signal-safe.
int exit_code(int status);

// Forks the reaper, which starts the program; returns the reaper's process id. Its exit status is the program's, or
// 128 + signal. Safe in a process with threads: between fork and exec only async-signal-safe calls are made.
// Throws std::system_error when it cannot fork.
pid_t start_reaper(const ReaperArgs& args);

}  // namespace corvid::tools
