#include "tools/sandbox.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "tools/bubblewrap.h"
#include "tools/environment.h"
#include "tools/git_guard.h"
#include "tools/process.h"
#include "tools/seccomp_filter.h"

namespace corvid::tools {
namespace fs = std::filesystem;
namespace {

fs::path real_folder(const fs::path& workdir) {
  std::error_code error;
  fs::path real = fs::canonical(workdir, error);
  if (!error && !fs::is_directory(real)) error = std::make_error_code(std::errc::not_a_directory);
  if (error) throw std::system_error(error, "working folder " + workdir.string());
  return real;
}

// The first bash on a PATH that was already sifted.
fs::path find_bash(std::string_view path) {
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find(':', start), path.size());
    const fs::path file = fs::path(path.substr(start, end - start)) / "bash";
    if (::access(file.c_str(), X_OK) == 0) return file;
    start = end + 1;
  }
  throw std::runtime_error("bash: not found on " + std::string(path));
}

std::string_view path_of(const std::vector<std::string>& env) {
  for (const std::string& entry : env) {
    if (entry.starts_with("PATH=")) return std::string_view(entry).substr(5);
  }
  return {};
}

// A file in memory that is read from its beginning.
Fd memory_file(const char* name, std::string_view text) {
  Fd file(::memfd_create(name, MFD_CLOEXEC));
  if (!file) throw std::system_error(errno, std::generic_category(), name);
  for (size_t done = 0; done < text.size();) {
    const ssize_t wrote = ::pwrite(file.get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) throw std::system_error(errno, std::generic_category(), name);
    done += static_cast<size_t>(wrote);
  }
  return file;
}

// Options that name paths travel in a memory file, so that they show in no process list and have no limit.
Fd options_file(const std::vector<std::string>& options) {
  std::string text;
  for (const std::string& option : options) text += option + '\0';
  return memory_file("sandbox options", text);
}

// Runs `bash -c` with these arguments, confined or not as the policy says.
Outcome run_bash(const Sandbox& box, const std::vector<std::string>& bash_args, Launch launch, std::stop_token stop) {
  const Policy& policy = box.policy();
  launch.env = box.environment().passed;
  launch.output_limit_bytes = policy.output_limit_bytes;
  launch.max_file_bytes = policy.max_file_bytes;
  launch.max_processes = policy.max_processes;
  launch.confined = policy.sandbox == SandboxMode::required;
  std::vector<std::string> command = {"bash", "-c"};
  command.insert(command.end(), bash_args.begin(), bash_args.end());
  for (const std::string& argument : command) {
    // MAX_ARG_STRLEN of the kernel: 32 pages.
    if (argument.size() >= size_t{131072})
      throw std::runtime_error("the command is too long: " + std::to_string(argument.size()) +
                               " bytes, the system takes 131071");
    if (argument.find('\0') != std::string::npos) throw std::runtime_error("the command holds a NUL byte");
  }
  if (!launch.confined) {
    launch.program = find_bash(path_of(launch.env));
    launch.argv = command;
    launch.folder = box.workdir();
    return corvid::tools::launch(launch, stop);
  }
  const Mechanism& found = mechanism();
  if (found.missing) throw SandboxRefused(*found.missing);
  if (box.paths().access(found.bwrap) == Access::write) {
    throw SandboxRefused(found.bwrap.string() +
                         ": bwrap lies where commands may write; put one outside the working folder on PATH");
  }
  const Fd options = options_file(bubblewrap_options(box.paths(), box.workdir(), policy, found.fresh_proc));
  const Fd filter = seccomp_filter();
  launch.program = found.bwrap;
  launch.argv = {"bwrap",
                 "--args",
                 std::to_string(kArgsFd),
                 "--seccomp",
                 std::to_string(kSeccompFd),
                 "--json-status-fd",
                 std::to_string(kInfoFd),
                 "--block-fd",
                 std::to_string(kBlockFd),
                 "--"};
  launch.argv.insert(launch.argv.end(), command.begin(), command.end());
  launch.folder = "/";
  launch.extra_fds = {{options.get(), kArgsFd}, {filter.get(), kSeccompFd}};
  const GitGuard guard(box.paths());
  Outcome outcome = corvid::tools::launch(launch, stop);
  guard.restore();
  const SpawnResult& result = outcome.result;
  const bool bwrap_failed = result.end == SpawnResult::End::exited && result.exit_code == 1 && result.out.empty() &&
                            result.err.starts_with("bwrap: ");
  if (launch.capture && (bwrap_failed || (!outcome.started && result.end == SpawnResult::End::exited))) {
    throw std::runtime_error("the sandbox could not be made: " + result.err);
  }
  return outcome;
}

}  // namespace

Sandbox::Sandbox(fs::path workdir, Policy policy)
    : workdir_(real_folder(workdir)), policy_(std::move(policy)), rules_(workdir_, policy_) {}

const fs::path& Sandbox::workdir() const noexcept { return workdir_; }
const Policy& Sandbox::policy() const noexcept { return policy_; }

std::optional<std::string> Sandbox::missing_mechanism() { return mechanism().missing; }

SpawnResult Sandbox::shell(std::string_view command, std::chrono::milliseconds timeout, std::stop_token stop,
                           std::string_view input) const {
  Launch launch;
  launch.timeout = timeout;
  Fd stdin_file;
  if (!input.empty()) {
    stdin_file = memory_file("standard input", input);
    launch.input = stdin_file.get();
  }
  Outcome outcome = run_bash(*this, {std::string(command)}, std::move(launch), stop);
  if (outcome.too_many_processes) {
    throw std::runtime_error("the command was killed: it had more than " + std::to_string(policy_.max_processes) +
                             " processes");
  }
  return std::move(outcome.result);
}

int Sandbox::exec(const std::vector<std::string>& argv) const {
  Launch launch;
  launch.capture = false;
  // bash reports what cannot be run with the usual 126 and 127.
  std::vector<std::string> bash_args = {"exec -- \"$@\"", "corvid"};
  bash_args.insert(bash_args.end(), argv.begin(), argv.end());
  return run_bash(*this, bash_args, std::move(launch), {}).result.exit_code;
}

int Sandbox::open_beneath(const fs::path& path, int flags, unsigned mode) const {
  return rules_.open(path, flags, mode);
}

EnvReport Sandbox::environment() const { return sift_environment(workdir_, policy_); }

}  // namespace corvid::tools
