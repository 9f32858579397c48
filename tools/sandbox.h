// The sandbox: a working folder, a policy, and spawn() inside bubblewrap. Where the kernel or the machine lacks the
// mechanism, spawning is refused unless the policy says `sandbox: none`.
#pragma once
#include <chrono>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "tools/path_rules.h"
#include "tools/policy.h"

namespace corvid::tools {

struct SpawnResult {
  enum class End : uint8_t { exited, timed_out, cancelled };
  static constexpr int kUnknownExit = -1;  // of a command that is not confined, where the host reaps our children
  End end = End::exited;
  int exit_code = 0;                     // 128 + signal when a signal ended it
  std::string out, err;                  // at most the limit given: head and tail, the cut said between them
  int64_t out_bytes = 0, err_bytes = 0;  // before the cut
  std::chrono::milliseconds duration{0};
};

// Commands cannot be confined on this machine; what() says why and what to do.
class SandboxRefused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct EnvReport {
  std::vector<std::string> passed;     // NAME=value, what a command gets
  std::vector<std::string> held_back;  // names only
};

class Sandbox {
 public:
  // Resolves workdir to its real path. Throws std::system_error when it is no folder, std::invalid_argument when it is
  // one that cannot be given away (/, or within /proc, /sys or /dev).
  Sandbox(std::filesystem::path workdir, Policy policy);

  const std::filesystem::path& workdir() const noexcept;
  const Policy& policy() const noexcept;

  // Why commands cannot be confined here ("bwrap: not found on PATH; install bubblewrap"), or nothing when they can.
  // Probed once per process by running a trivial command in a real sandbox.
  static std::optional<std::string> missing_mechanism();

  // Runs `bash -c command` with its output captured. Throws SandboxRefused when the mechanism is missing, and
  // std::runtime_error when the sandbox cannot be made. The whole tree of processes is gone when it returns.
  // It reads `input` on its stdin.
  SpawnResult shell(std::string_view command, std::chrono::milliseconds timeout, std::stop_token stop,
                    std::string_view input = {}) const;
  // Runs argv with the caller's stdin, stdout and stderr; returns the exit status (128 + signal).
  int exec(const std::vector<std::string>& argv) const;

  // Opens a path beneath the working folder (or a read/write dir of the policy) without ever leaving it, symlinks
  // included (openat2 RESOLVE_BENEATH | NO_MAGICLINKS). Returns a file descriptor, or -1 with errno; EXDEV when the
  // path leads outside.
  int open_beneath(const std::filesystem::path& path, int flags, unsigned mode = 0) const;

  const PathRules& paths() const noexcept { return rules_; }
  EnvReport environment() const;

 private:
  std::filesystem::path workdir_;
  Policy policy_;
  PathRules rules_;
};

}  // namespace corvid::tools
