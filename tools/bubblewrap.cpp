#include "tools/bubblewrap.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string_view>

#include "tools/environment.h"
#include "tools/process.h"
#include "tools/seccomp_filter.h"

namespace corvid::tools {
namespace fs = std::filesystem;
namespace {

using Options = std::vector<std::string>;

void add(Options& out, std::initializer_list<std::string_view> options) {
  out.insert(out.end(), options.begin(), options.end());
}

void add_empty(Options& out, const fs::path& at) { add(out, {"--perms", "0555", "--tmpfs", at.native()}); }

void add_scratch(Options& out, const fs::path& at, const char* mode, int64_t size) {
  add(out, {"--perms", mode, "--size", std::to_string(size), "--tmpfs", at.native()});
}

// Folders of / that hold the system; the rest belongs to users or to running services.
bool is_system(const std::string& name) {
  static const std::set<std::string> kSystem = {"usr", "bin", "sbin", "etc", "opt", "nix", "gnu", "proc", "dev"};
  return kSystem.count(name) > 0 || name.starts_with("lib");
}

bool in_system_folder(const fs::path& path) { return is_system(*path.relative_path().begin()); }

// Folders of / to be emptied, and files in it to be hidden, both by full path.
struct TopLevel {
  std::vector<fs::path> folders, files;
};

TopLevel top_level() {
  TopLevel out;
  for (const fs::directory_entry& entry : fs::directory_iterator("/")) {
    const std::string name = entry.path().filename();
    if (is_system(name) || name == "tmp") continue;
    std::error_code error;
    const fs::file_status status = entry.symlink_status(error);
    if (fs::is_symlink(status)) continue;  // it leads to a place that is empty or the system's
    if (fs::is_directory(status)) {
      out.folders.push_back(entry.path());
    } else if (entry.file_size(error) > 0 || error) {
      out.files.push_back(entry.path());
    }
  }
  return out;
}

// What lies in /etc and only root (or a group of ours) may read: password hashes, host keys. As uid 0 a command could
// read them, for it owns them. Looked up once; the walk takes a few milliseconds.
const std::vector<fs::path>& private_etc() {
  static const std::vector<fs::path> found = [] {
    std::vector<fs::path> out;
    std::error_code error;
    fs::recursive_directory_iterator at("/etc", fs::directory_options::skip_permission_denied, error), end;
    for (; !error && at != end; at.increment(error)) {
      const fs::file_status status = at->symlink_status(error);
      if (error || fs::is_symlink(status)) continue;
      const bool is_folder = fs::is_directory(status);
      const fs::perms needed = is_folder ? fs::perms::others_read | fs::perms::others_exec : fs::perms::others_read;
      if ((status.permissions() & needed) == needed) continue;
      if (is_folder) at.disable_recursion_pending();
      if (::access(at->path().c_str(), R_OK) == 0) out.push_back(at->path());
    }
    return out;
  }();
  return found;
}

// The folders that lead to `path` are made unwritable, so that a write beside it fails instead of vanishing.
void add_ancestors(Options& out, const fs::path& path) {
  fs::path at = "/";
  for (const fs::path& part : path.parent_path().relative_path()) {
    at /= part;
    add(out, {"--perms", "0555", "--dir", at.native()});
  }
}

void add_home(Options& out, const fs::path& home, int64_t size) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(home, error);
  if (error || !real.is_absolute() || real == "/") return;
  if (in_system_folder(real)) {
    // A service's home may be /bin or /usr/sbin: only what is truly a user's own is covered, where it stands.
    struct stat info {};
    if (::getuid() == 0 || ::stat(real.c_str(), &info) != 0 || info.st_uid != ::getuid()) return;
  } else if (!fs::exists("/" / *real.relative_path().begin(), error)) {
    return;  // /nonexistent: the root is read-only, so it cannot be made
  }
  add_ancestors(out, real);
  add_scratch(out, real, "0700", size);
}

// A rule that reads within a writable folder is a protection: what it names must not be made or replaced either.
void add_protection(Options& out, const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (fs::is_directory(status) || fs::is_regular_file(status)) add(out, {"--ro-bind", path.native(), path.native()});
}

// .git itself becomes a mount, which cannot be renamed away with its protected parts. Missing parts are made, empty,
// which git takes for their absence. Anything odd (links) makes all of it read-only.
void add_git(Options& out, const fs::path& folder) {
  const fs::path git = folder / ".git";
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(git, error))) return add_protection(out, git);
  const bool odd = fs::is_symlink(fs::symlink_status(git / "hooks", error)) ||
                   fs::is_symlink(fs::symlink_status(git / "config", error));
  add(out, {odd ? "--ro-bind" : "--bind", git.native(), git.native()});
  fs::create_directory(git / "hooks", error);
  Fd(::open((git / "config").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
}

// The folders between a writable one and what is hidden in it become mounts: they cannot be renamed away, or the next
// command would find it under another name.
void add_pins(Options& out, const fs::path& folder, const PathRules& rules) {
  std::set<fs::path> pinned;  // a parent before what lies in it
  for (const PathRule& rule : rules.rules()) {
    if (rule.access != Access::outside || !lies_within(rule.path, folder)) continue;
    for (fs::path at = rule.path.parent_path(); at != folder && rules.access(at) == Access::write;
         at = at.parent_path())
      if (at != folder / ".git") pinned.insert(at);
  }
  std::error_code error;
  for (const fs::path& path : pinned) {
    if (fs::is_directory(fs::symlink_status(path, error))) add(out, {"--bind", path.native(), path.native()});
  }
}

void add_rule(Options& out, const PathRule& rule, const PathRules& rules) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(rule.path, error);
  const bool is_folder = fs::is_directory(status);
  if (rule.access == Access::outside) {
    if (rules.access(rule.path.parent_path()) == Access::outside && !in_system_folder(rule.path))
      return;  // not in sight
    if (is_folder) return add_empty(out, rule.path);
    // Not there yet: within a writable folder it could be planted, so it is made. Elsewhere nobody can.
    if (!fs::exists(status) && rules.access(rule.path.parent_path()) == Access::write) {
      if (!rule.is_file) {
        fs::create_directories(rule.path.parent_path(), error);
        if (::mkdir(rule.path.c_str(), 0700) == 0 || errno == EEXIST) add_empty(out, rule.path);
        return;
      }
      Fd(::open(rule.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    }
    if (fs::is_regular_file(fs::symlink_status(rule.path, error)))
      add(out, {"--ro-bind", "/dev/null", rule.path.native()});
    return;
  }
  if (rules.access(rule.path.parent_path()) == Access::write && rule.access == Access::read)
    return add_protection(out, rule.path);
  if (!fs::exists(status)) return;
  if (rules.access(rule.path.parent_path()) == Access::outside) add_ancestors(out, rule.path);
  add(out, {rule.access == Access::write ? "--bind" : "--ro-bind", rule.path.native(), rule.path.native()});
  if (rule.access != Access::write) return;
  add_git(out, rule.path);
  add_pins(out, rule.path, rules);
}

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// What to do, from what the kernel's switches say.
std::string advice() {
  if (first_line("/proc/sys/kernel/unprivileged_userns_clone") == "0") {
    return "user namespaces are switched off for users; as root: sysctl kernel.unprivileged_userns_clone=1";
  }
  if (first_line("/proc/sys/user/max_user_namespaces") == "0") {
    return "user namespaces are switched off; as root: sysctl user.max_user_namespaces=15000";
  }
  if (first_line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1") {
    return "AppArmor keeps programs from user namespaces; give bwrap a profile that allows userns, or as root: sysctl "
           "kernel.apparmor_restrict_unprivileged_userns=0";
  }
  return "the kernel or the container around us forbids user namespaces (a container needs a seccomp profile that "
         "allows "
         "unshare and mount; a chroot cannot have them)";
}

Mechanism probe() {
  Mechanism found;
  const char* path = std::getenv("PATH");
  found.bwrap = find_bwrap(path == nullptr ? "" : path);
  if (found.bwrap.empty()) {
    found.missing = "bwrap: not found on PATH; install bubblewrap (apt-get install bubblewrap)";
    return found;
  }
  std::string said;
  for (const bool fresh_proc : {true, false}) {
    found.fresh_proc = fresh_proc;
    const Policy policy;
    const PathRules rules("/dev/shm/none", policy);  // no such folder is bound
    Launch launch;
    launch.program = found.bwrap;
    launch.argv = {"bwrap"};
    const Options options = bubblewrap_options(rules, "/", policy, fresh_proc);
    launch.argv.insert(launch.argv.end(), options.begin(), options.end());
    const Fd filter = seccomp_filter();
    add(launch.argv, {"--seccomp", std::to_string(kSeccompFd), "--info-fd", std::to_string(kInfoFd), "--block-fd",
                      std::to_string(kBlockFd), "--", "/bin/sh", "-c", ":"});
    launch.env = {"PATH=/usr/bin:/bin"};
    launch.folder = "/";
    launch.extra_fds = {{filter.get(), kSeccompFd}};
    launch.output_limit_bytes = 4096;
    launch.max_file_bytes = policy.max_file_bytes;
    launch.max_processes = policy.max_processes;
    launch.timeout = std::chrono::seconds(10);
    const Outcome outcome = corvid::tools::launch(launch, {});
    if (outcome.result.end == SpawnResult::End::exited && outcome.result.exit_code == 0) return found;
    if (said.empty()) said = outcome.result.err;
  }
  while (!said.empty() && said.back() == '\n') said.pop_back();
  found.missing = (said.empty() ? "bwrap: a trial sandbox did not start" : said) + "; " + advice();
  return found;
}

}  // namespace

fs::path find_bwrap(std::string_view path) {
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find(':', start), path.size());
    const fs::path file = fs::path(path.substr(start, end - start)) / "bwrap";
    start = end + 1;
    std::error_code error;
    if (file.is_absolute() && fs::is_regular_file(file, error) && ::access(file.c_str(), X_OK) == 0)
      return fs::canonical(file, error);
  }
  return {};
}

const Mechanism& mechanism() {
  static const Mechanism found = probe();
  return found;
}

Options bubblewrap_options(const PathRules& rules, const fs::path& workdir, const Policy& policy, bool fresh_proc) {
  Options out;
  add(out, {"--unshare-user-try", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
            "--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--ro-bind", "/", "/"});
  const TopLevel top = top_level();
  for (const fs::path& folder : top.folders) add_empty(out, folder);
  for (const fs::path& file : top.files) add(out, {"--ro-bind", "/dev/null", file.native()});
  std::error_code error;
  for (const fs::path& path : private_etc()) {
    if (fs::is_directory(path, error)) {
      add_empty(out, path);
    } else if (fs::exists(path, error)) {
      add(out, {"--ro-bind", "/dev/null", path.native()});
    }
  }
  for (const char* path : {"/sys/devices/system/cpu", "/sys/devices/system/node"}) {
    if (fs::exists(path, error)) add(out, {"--ro-bind", path, path});
  }
  if (!fresh_proc) {
    add_empty(out, "/proc");
  } else {
    add(out, {"--proc", "/proc"});
    // Uid 0 owns the kernel's switches, and needs no capability to turn those that are not of a namespace.
    add(out, {"--ro-bind", "/proc/sys", "/proc/sys"});
    for (const char* path : {"/proc/irq", "/proc/bus", "/proc/fs", "/proc/sysrq-trigger"}) {
      if (::getuid() == 0 && fs::exists(path, error)) add(out, {"--ro-bind", path, path});
    }
  }
  add(out, {"--dev", "/dev"});
  for (const char* path : {"/dev/shm", "/tmp", "/var/tmp"}) {
    if (fs::exists(fs::path(path).parent_path(), error)) add_scratch(out, path, "1777", policy.max_file_bytes);
  }
  const fs::path home = home_folder();
  add_home(out, home, policy.max_file_bytes);
  for (const PathRule& rule : rules.rules()) add_rule(out, rule, rules);
  add(out, {"--chdir", workdir.native()});
  return out;
}

}  // namespace corvid::tools
