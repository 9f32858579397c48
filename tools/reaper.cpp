#include "tools/reaper.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>

namespace corvid::tools {
namespace {

void set_limit(__rlimit_resource what, rlim_t value) {
  const rlimit limit{value, value};
  ::setrlimit(what, &limit);
}

[[noreturn]] void start_program(const ReaperArgs& args, const sigset_t& none) {
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_FSIZE, static_cast<rlim_t>(args.max_file_bytes));
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(args.program, args.argv, args.env);
  const char* reason = std::strerror(errno);
  (void)!::write(2, reason, std::strlen(reason));
  ::_exit(127);
}

// Kills the direct children; what they leave becomes a direct child in turn and falls in the next round.
void kill_children() {
  const int list = ::open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  if (list < 0) return;
  char text[4096];
  pid_t pid = 0;
  for (ssize_t n; (n = ::read(list, text, sizeof text)) > 0;) {
    for (ssize_t i = 0; i < n; ++i) {
      if (text[i] >= '0' && text[i] <= '9') {
        pid = pid * 10 + (text[i] - '0');
      } else if (pid > 0) {
        ::kill(pid, SIGKILL);
        pid = 0;
      }
    }
  }
  if (pid > 0) ::kill(pid, SIGKILL);
  ::close(list);
}

[[noreturn]] void reap(const ReaperArgs& args, pid_t corvid) {
  ::setsid();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::prctl(PR_SET_PDEATHSIG, kReaperKill);
  if (::getppid() != corvid) ::_exit(1);  // it died before it could be watched
  for (int number = 1; number < 32; ++number) ::signal(number, SIG_DFL);
  sigset_t all, none, watched;
  ::sigfillset(&all);
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);  // signals meant for the program's group must not end its reaper
  ::sigemptyset(&watched);
  ::sigaddset(&watched, SIGCHLD);
  ::sigaddset(&watched, kReaperKill);
  // Moved out of the way first: one of them may already be 0, 1 or 2.
  const int in = ::fcntl(args.in, F_DUPFD, 10), out = ::fcntl(args.out, F_DUPFD, 10),
            err = ::fcntl(args.err, F_DUPFD, 10);
  ::dup2(in, 0), ::dup2(out, 1), ::dup2(err, 2);
  ::close_range(3, ~0U, 0);
  if (::chdir(args.folder) != 0) ::_exit(126);
  const pid_t program = ::fork();
  if (program == 0) start_program(args, none);
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);  // or the pipes would never end
  int code = program < 0 ? 126 : -1;
  while (code < 0) {
    if (::sigwaitinfo(&watched, nullptr) == kReaperKill) code = 128 + SIGKILL;
    int status = 0;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid == program) code = exit_code(status);
    }
  }
  for (int round = 0; round < 2000; ++round) {
    kill_children();
    pid_t pid;
    while ((pid = ::waitpid(-1, nullptr, WNOHANG)) > 0) {
    }
    if (pid < 0 && errno == ECHILD) break;
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
  ::_exit(code);
}

}  // namespace

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

pid_t start_reaper(const ReaperArgs& args) {
  const pid_t corvid = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) reap(args, corvid);
  return pid;
}

}  // namespace corvid::tools
