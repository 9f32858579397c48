#include "tools/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "tools/fd.h"
#include "tools/reaper.h"
#include "tools/text.h"

namespace corvid::tools {
namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using asio::posix::stream_descriptor;
using boost::system::error_code;
namespace {

constexpr auto kSweep = std::chrono::milliseconds(50);         // between two counts of processes
constexpr auto kDeathLimit = std::chrono::milliseconds(2000);  // for a killed tree to vanish, on a loaded machine

[[noreturn]] void fail(int code, const std::string& what) {
  throw std::system_error(code, std::generic_category(), what);
}

// By number: glibc 2.36 declares its wrappers without extern "C".
int open_pidfd(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }
void kill_pidfd(int fd) { ::syscall(SYS_pidfd_send_signal, fd, SIGKILL, nullptr, 0); }

struct Pipe {
  Fd read, write;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail(errno, "pipe");
    read.reset(ends[0]), write.reset(ends[1]);
  }
};

std::vector<char*> pointers(const std::vector<std::string>& list) {
  std::vector<char*> out;
  for (const std::string& item : list) out.push_back(const_cast<char*>(item.c_str()));
  out.push_back(nullptr);
  return out;
}

// Every descriptor but those in `fds` is closed in the child. `fds` is {ours, its}, and each its is small.
pid_t spawn(const Launch& what, const std::vector<std::pair<int, int>>& fds) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  std::vector<Fd> moved;  // out of the way of the numbers that are assigned
  int last = 2;
  for (const auto& [ours, its] : fds) moved.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, 64));
  for (size_t i = 0; i < fds.size(); ++i) {
    posix_spawn_file_actions_adddup2(&actions, moved[i].get(), fds[i].second);
    last = std::max(last, fds[i].second);
  }
  posix_spawn_file_actions_addclosefrom_np(&actions, last + 1);
  posix_spawn_file_actions_addchdir_np(&actions, what.folder.c_str());
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  // A session of its own: the terminal's Ctrl-C reaches us alone, and we decide what becomes of the command.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  const std::vector<char*> argv = pointers(what.argv), env = pointers(what.env);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, what.program.c_str(), &actions, &attributes, argv.data(), env.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) fail(error, what.program.string());
  return pid;
}

void set_limit(pid_t pid, __rlimit_resource what, rlim_t value) {
  rlimit limit{};
  if (::prlimit(pid, what, nullptr, &limit) != 0) return;
  limit.rlim_max = std::min(limit.rlim_max, value);
  limit.rlim_cur = std::min(limit.rlim_cur, limit.rlim_max);
  ::prlimit(pid, what, &limit, nullptr);
}

// Threads and processes in the pid namespace of `init`, through its own /proc; 0 when that cannot be seen.
int64_t count_tasks(pid_t init) {
  DIR* const list = ::opendir(("/proc/" + std::to_string(init) + "/root/proc").c_str());
  if (list == nullptr) return 0;
  int64_t count = 0;
  while (const dirent* entry = ::readdir(list)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    struct stat info {};
    const std::string tasks = std::string(entry->d_name) + "/task";
    // The link count of a task folder is its number of threads, and two.
    if (::fstatat(::dirfd(list), tasks.c_str(), &info, 0) == 0) count += static_cast<int64_t>(info.st_nlink) - 2;
  }
  ::closedir(list);
  return count;
}

class Run {
 public:
  explicit Run(const Launch& what) : what_(what), out_(what.output_limit_bytes), err_(what.output_limit_bytes) {}

  // Only on the way of an exception is the child still there.
  ~Run() {
    if (child_ <= 0 || child_gone_) return;
    kill_tree();
    ::waitpid(child_, nullptr, 0);
  }

  Outcome run(std::stop_token stop) {
    started_ = Clock::now();
    start();
    watch_child();
    if (what_.timeout) {
      timer_.expires_after(*what_.timeout);
      timer_.async_wait([this](error_code error) {
        if (!error) end(SpawnResult::End::timed_out);
      });
    }
    if (!what_.capture) pass_signals();
    const std::stop_callback on_stop(stop, [this] { asio::post(io_, [this] { end(SpawnResult::End::cancelled); }); });
    io_.run();
    SpawnResult& result = outcome_.result;
    result.out = out_.text(), result.err = err_.text();
    result.out_bytes = out_.total(), result.err_bytes = err_.total();
    return std::move(outcome_);
  }

 private:
  void start() {
    std::optional<Pipe> out, err;
    Fd null;
    int in_fd = 0, out_fd = 1, err_fd = 2;
    if (what_.capture) {
      if (what_.input < 0) null.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      out.emplace(), err.emplace();
      in_fd = what_.input < 0 ? null.get() : what_.input, out_fd = out->write.get(), err_fd = err->write.get();
    }
    if (what_.confined) {
      Pipe info, block;
      std::vector<std::pair<int, int>> fds = {{in_fd, 0}, {out_fd, 1}, {err_fd, 2}};
      fds.insert(fds.end(), what_.extra_fds.begin(), what_.extra_fds.end());
      fds.insert(fds.end(), {{info.write.get(), kInfoFd}, {block.read.get(), kBlockFd}});
      child_ = spawn(what_, fds);
      block_ = std::move(block.write);
      info_.assign(info.read.release());
      info_.native_non_blocking(true);
      read_info();
    } else {
      const std::vector<char*> argv = pointers(what_.argv), env = pointers(what_.env);
      child_ = start_reaper({what_.program.c_str(), argv.data(), env.data(), what_.folder.c_str(), in_fd, out_fd,
                             err_fd, what_.max_file_bytes});
    }
    if (what_.capture) {
      out_pipe_.assign(out->read.release());
      err_pipe_.assign(err->read.release());
      open_pipes_ = 2;
      drain(out_pipe_, out_, out_buffer_);
      drain(err_pipe_, err_, err_buffer_);
    }
  }

  void drain(stream_descriptor& pipe, HeadTail& kept, std::vector<char>& buffer) {
    pipe.async_read_some(asio::buffer(buffer), [this, &pipe, &kept, &buffer](error_code error, size_t n) {
      kept.append({buffer.data(), n});
      if (!error) return drain(pipe, kept, buffer);
      if (--open_pipes_ == 0 && tree_gone_) timer_.cancel();
    });
  }

  // {"child-pid": 1234, ...}: bubblewrap's child, the init of the new pid namespace.
  void read_info() {
    info_.async_read_some(asio::buffer(info_buffer_), [this](error_code error, size_t n) {
      if (error) return;  // bubblewrap gave up; its exit says so
      info_text_.append(info_buffer_.data(), n);
      const size_t key = info_text_.find("\"child-pid\":"), close = info_text_.find('}');
      if (key == std::string::npos || close == std::string::npos) return read_info();
      hold(static_cast<pid_t>(std::strtol(info_text_.c_str() + key + 12, nullptr, 10)));
    });
  }

  // bubblewrap has not reaped this process, so that its number is still its own.
  void hold(pid_t init) {
    if (child_gone_) return;
    init_ = init;
    init_fd_.reset(open_pidfd(init));
    if (!init_fd_) fail(errno, "pidfd_open");
    set_limit(init, RLIMIT_CORE, 0);
    set_limit(init, RLIMIT_FSIZE, static_cast<rlim_t>(what_.max_file_bytes));
    set_limit(init, RLIMIT_NOFILE, 4096);
    // Counted within the new user namespace, so what the user runs elsewhere does not matter. It does not bind uid 0:
    // there the sweep is all there is.
    set_limit(init, RLIMIT_NPROC, static_cast<rlim_t>(what_.max_processes));
    outcome_.started = true;
    if (ending_) return kill_tree();
    (void)!::write(block_.get(), "1", 1);
    block_.reset();
    sweep();
  }

  void sweep() {
    sweep_timer_.expires_after(kSweep);
    sweep_timer_.async_wait([this](error_code error) {
      if (error || child_gone_) return;
      if (what_.max_processes > 0 && count_tasks(init_) > what_.max_processes) {
        outcome_.too_many_processes = true;
        ending_ = true;
        return kill_tree();
      }
      sweep();
    });
  }

  void pass_signals() {
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) signals_.add(number);
    wait_signal();
  }
  void wait_signal() {
    signals_.async_wait([this](error_code error, int number) {
      if (error) return;
      // The command is in its init's process group. The init itself has no handlers, so only SIGKILL would end it.
      if (init_ > 0) ::kill(-init_, number);
      if (!what_.confined) ::kill(-child_, number);
      wait_signal();
    });
  }

  void watch_child() {
    child_fd_.assign(open_pidfd(child_));
    child_fd_.async_wait(stream_descriptor::wait_read, [this](error_code error) {
      if (!error) child_ended();
    });
  }

  void child_ended() {
    int status = 0;
    pid_t reaped = -1;
    while ((reaped = ::waitpid(child_, &status, 0)) < 0 && errno == EINTR) {
    }
    child_gone_ = true;
    SpawnResult& result = outcome_.result;
    if (reaped == child_)
      result.exit_code = exit_code(status);
    else
      result.exit_code = told_exit_code();
    result.duration = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - started_);
    if (what_.confined && !init_fd_) outcome_.started = false;
    timer_.cancel();
    sweep_timer_.cancel();
    error_code ignored;
    signals_.cancel(ignored);
    if (info_.is_open()) info_.close(ignored);
    if (!init_fd_) return tree_gone();
    kill_pidfd(init_fd_.get());
    // A dead init is seen only after every process of its namespace is dead.
    init_watch_.assign(init_fd_.release());
    init_watch_.async_wait(stream_descriptor::wait_read, [this](error_code) {
      timer_.cancel();
      tree_gone();
    });
    timer_.expires_after(kDeathLimit);
    timer_.async_wait([this](error_code error) {
      error_code unused;
      if (!error) init_watch_.cancel(unused);
    });
  }

  // The host that we are a library of took the status away: it ignores SIGCHLD, or waits for any child. bubblewrap has
  // written it too, as the last it did.
  int told_exit_code() {
    for (ssize_t n = 1; info_.is_open() && n > 0;) {
      n = ::read(info_.native_handle(), info_buffer_.data(), info_buffer_.size());
      if (n > 0) info_text_.append(info_buffer_.data(), static_cast<size_t>(n));
    }
    constexpr std::string_view kKey = "\"exit-code\":";
    const size_t key = info_text_.find(kKey);
    if (key == std::string::npos) return SpawnResult::kUnknownExit;
    return static_cast<int>(std::strtol(info_text_.c_str() + key + kKey.size(), nullptr, 10));
  }

  // Nothing of ours can write any more; what is in the pipes is read at once, and a pipe that a stranger holds open is
  // given up.
  void tree_gone() {
    tree_gone_ = true;
    if (open_pipes_ == 0) return;
    timer_.expires_after(std::chrono::milliseconds(500));
    timer_.async_wait([this](error_code) {
      error_code unused;
      if (out_pipe_.is_open()) out_pipe_.cancel(unused);
      if (err_pipe_.is_open()) err_pipe_.cancel(unused);
    });
  }

  void end(SpawnResult::End why) {
    if (ending_ || child_gone_) return;
    ending_ = true;
    outcome_.result.end = why;
    kill_tree();
  }

  void kill_tree() {
    if (init_fd_) kill_pidfd(init_fd_.get());
    ::kill(child_, what_.confined ? SIGKILL : kReaperKill);
  }

  const Launch& what_;
  Outcome outcome_;
  asio::io_context io_{1};
  asio::steady_timer timer_{io_}, sweep_timer_{io_};
  asio::signal_set signals_{io_};
  stream_descriptor out_pipe_{io_}, err_pipe_{io_}, info_{io_}, child_fd_{io_}, init_watch_{io_};
  std::vector<char> out_buffer_ = std::vector<char>(65536), err_buffer_ = std::vector<char>(65536);
  std::array<char, 1024> info_buffer_{};
  std::string info_text_;
  HeadTail out_, err_;
  Clock::time_point started_;
  pid_t child_ = -1, init_ = -1;  // the child is ours to reap, so its number stays its own until then
  Fd init_fd_, block_;
  int open_pipes_ = 0;
  bool ending_ = false, child_gone_ = false, tree_gone_ = false;
};

}  // namespace

Outcome launch(const Launch& what, std::stop_token stop) { return Run(what).run(stop); }

}  // namespace corvid::tools
