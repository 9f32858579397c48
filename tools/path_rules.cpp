#include "tools/path_rules.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <stdexcept>

#include "tools/environment.h"

namespace corvid::tools {
namespace fs = std::filesystem;
namespace {

bool is_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0; }

// The kernel itself keeps the walk beneath `folder`: "..", absolute links and the links of /proc that jump.
int open_in(int folder, const fs::path& relative, int flags, uint64_t extra = 0) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | extra;
  const char* name = relative.empty() ? "." : relative.c_str();
  int fd = -1;
  for (int tries = 0; tries < 8; ++tries) {  // EAGAIN: something was renamed during the walk
    fd = static_cast<int>(::syscall(SYS_openat2, folder, name, &how, sizeof how));
    if (fd >= 0 || errno != EAGAIN) break;
  }
  return fd;
}

// A path as it is now, through whatever links there are; empty when it cannot be told.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(path, error);
  return error ? fs::path() : real;
}

void refuse_unsafe(const fs::path& folder, const char* what) {
  const bool kernels = lies_within(folder, "/proc") || lies_within(folder, "/sys") ||
                       (lies_within(folder, "/dev") && (!lies_within(folder, "/dev/shm") || folder == "/dev/shm"));
  if (folder == "/" || kernels) {
    throw std::invalid_argument(folder.string() + " cannot be " + what +
                                ": the sandbox could not keep anything from it");
  }
}

// What git reads commands from. The folder .git itself may be written, or nothing could be committed.
void add_git_rules(const fs::path& folder, std::vector<PathRule>& rules) {
  for (const char* name : {".git/hooks", ".git/config", ".git/commondir", ".git/config.worktree"}) {
    rules.push_back({folder / name, Access::read});
  }
  std::error_code error;
  if (fs::is_regular_file(fs::symlink_status(folder / ".git", error))) rules.push_back({folder / ".git", Access::read});
}

}  // namespace

fs::path real_path_of(int fd) {
  char target[PATH_MAX];
  const ssize_t n = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target);
  return n <= 0 ? fs::path() : fs::path(std::string(target, static_cast<size_t>(n)));
}

fs::path home_folder() {
  if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/') return home;
  passwd entry{};
  passwd* found = nullptr;
  char buffer[4096];
  if (::getpwuid_r(::getuid(), &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr) return found->pw_dir;
  return {};
}

std::vector<fs::path> own_folders() {
  std::vector<fs::path> out;
  const fs::path home = home_folder();
  const auto add = [&](const char* variable, const char* fallback) {
    const char* set = std::getenv(variable);
    if (set != nullptr && set[0] == '/') out.push_back(fs::path(set) / "corvid");
    if (!home.empty()) out.push_back(home / fallback / "corvid");
  };
  add("XDG_CONFIG_HOME", ".config");
  add("XDG_DATA_HOME", ".local/share");
  add("XDG_CACHE_HOME", ".cache");
  return out;
}

PathRules::PathRules(const fs::path& workdir, const Policy& policy) : workdir_(workdir) {
  refuse_unsafe(workdir, "the working folder");
  rules_.push_back({workdir, Access::write});
  add_git_rules(workdir, rules_);
  for (const fs::path& folder : policy.write_dirs) {
    const fs::path real = resolved(folder);
    refuse_unsafe(real, "a writable folder");
    rules_.push_back({real, Access::write});
    add_git_rules(real, rules_);
  }
  for (const fs::path& folder : policy.read_dirs) {
    if (const fs::path real = resolved(folder); real.is_absolute()) rules_.push_back({real, Access::read});
  }
  const auto hide = [&](const std::vector<fs::path>& paths, bool is_file) {
    for (const fs::path& path : paths) {
      if (const fs::path real = resolved(path); real.is_absolute()) rules_.push_back({real, Access::outside, is_file});
    }
  };
  hide(own_folders(), false);
  hide(policy.hidden_folders, false);
  hide(policy.hidden_paths, true);
  std::stable_sort(rules_.begin(), rules_.end(), [](const PathRule& a, const PathRule& b) {
    return std::distance(a.path.begin(), a.path.end()) < std::distance(b.path.begin(), b.path.end());
  });
}

Access PathRules::access(const fs::path& real_path) const {
  Access found = Access::outside;
  for (const PathRule& rule : rules_) {
    if (lies_within(real_path, rule.path)) found = rule.access;
  }
  return found;
}

bool PathRules::find_root(const fs::path& path, Root& root) const {
  if (!path.is_absolute()) {
    root = {workdir_, path};
    return true;
  }
  bool found = false;
  for (const PathRule& rule : rules_) {
    if (rule.access == Access::outside || !lies_within(path, rule.path)) continue;
    std::error_code error;
    if (!fs::is_directory(rule.path, error)) continue;  // a protected file: reached from the folder above it
    auto [rest, unused] = std::mismatch(path.begin(), path.end(), rule.path.begin(), rule.path.end());
    fs::path relative;
    for (; rest != path.end(); ++rest) relative /= *rest;
    root = {rule.path, relative};
    found = true;
  }
  return found;
}

int PathRules::open_raw(const fs::path& path, int flags) const {
  if (path.empty()) return errno = ENOENT, -1;
  if (path.native().find('\0') != std::string::npos) return errno = EINVAL, -1;
  Root root;
  int failure = EXDEV;
  if (find_root(path, root)) {
    const Fd folder(::open(root.folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return -1;
    const int fd = open_in(folder.get(), root.relative, flags);
    if (fd >= 0 || errno != EXDEV) return fd;
  }
  // An absolute link, or another spelling of a visible folder: look where it leads, then walk there without any link,
  // so that a link made meanwhile cannot lead out.
  const fs::path real = resolved(path.is_absolute() ? path : workdir_ / path);
  if (real.empty() || access(real) == Access::outside || !find_root(real, root)) return errno = failure, -1;
  const Fd folder(::open(root.folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return -1;
  return open_in(folder.get(), root.relative, flags, RESOLVE_NO_SYMLINKS);
}

int PathRules::open(const fs::path& path, int flags, unsigned mode) const {
  // Opened as it stands, checked, and only then truncated: a protected file is not harmed by being looked at.
  Fd fd(open_raw(path, (flags & ~(O_CREAT | O_TRUNC | O_EXCL)) | O_NONBLOCK | O_NOCTTY));
  if (!fd && errno == ENOENT && (flags & O_CREAT) != 0) {
    int error = 0;
    const Place where = place(path, false, error);
    if (error != 0) return errno = error, -1;
    return ::openat(where.folder.get(), where.name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode);
  }
  if (!fd) return -1;
  const Access allowed = access(real_path_of(fd.get()));
  if (allowed == Access::outside) return errno = EXDEV, -1;
  if (is_write(flags) && allowed != Access::write) return errno = EROFS, -1;
  if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return errno = EEXIST, -1;
  if ((flags & O_TRUNC) != 0 && ::ftruncate(fd.get(), 0) != 0) return -1;
  return fd.release();
}

bool PathRules::make_folders(const fs::path& path, int& error) const {
  fs::path prefix;
  for (const fs::path& part : path) {
    const fs::path parent = prefix.empty() ? fs::path(".") : prefix;
    prefix /= part;
    if (prefix == "/" || part.empty()) continue;
    if (const Fd there(open_raw(prefix, O_PATH)); there) continue;
    if (errno == EXDEV && path.is_absolute()) continue;  // above the visible folders; what lies beneath decides
    if (errno != ENOENT) return error = errno, false;
    const Fd folder(open_raw(parent, O_PATH | O_DIRECTORY));
    if (!folder) return error = errno, false;
    const Access allowed = access(real_path_of(folder.get()) / part);
    if (allowed != Access::write) return error = allowed == Access::read ? EROFS : EXDEV, false;
    if (::mkdirat(folder.get(), part.c_str(), 0777) != 0 && errno != EEXIST) return error = errno, false;
  }
  return true;
}

PathRules::Place PathRules::place(const fs::path& path, bool make_parents, int& error) const {
  error = 0;
  Place out;
  const auto fail = [&](int code) {
    error = code;
    return Place{};
  };
  fs::path real;
  if (const Fd found(open_raw(path, O_PATH)); found) {
    struct stat info {};
    if (::fstat(found.get(), &info) != 0) return fail(errno);
    real = real_path_of(found.get());
    if (access(real) == Access::outside) return fail(EXDEV);
    if (S_ISDIR(info.st_mode)) return fail(EISDIR);
    if (!S_ISREG(info.st_mode)) return fail(ENXIO);
    out.exists = true;
    out.mode = info.st_mode & 07777;
  } else if (errno != ENOENT) {
    return fail(errno);
  } else {
    const fs::path name = path.filename();
    if (name.empty() || name == "." || name == "..") return fail(make_parents ? EISDIR : ENOENT);
    if (make_parents && !make_folders(path.parent_path(), error)) return fail(error);
    const Fd folder(open_raw(path.has_parent_path() ? path.parent_path() : fs::path("."), O_PATH | O_DIRECTORY));
    if (!folder) return fail(errno);
    struct stat info {};
    if (::fstatat(folder.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return fail(ELOOP);
    real = real_path_of(folder.get()) / name;
  }
  const Access allowed = access(real);
  if (allowed != Access::write) return fail(allowed == Access::read ? EROFS : EXDEV);
  out.name = real.filename();
  out.folder = Fd(open_raw(real.parent_path(), O_PATH | O_DIRECTORY));
  if (!out.folder) return fail(errno);
  return out;
}

}  // namespace corvid::tools
