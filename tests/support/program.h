// The real program, run as a user runs it: a process of its own with its own home folder, through pipes or a terminal.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/support/temp_dir.h"

namespace corvid::test {

struct Finished {
  int status = -1;  // exit status, 128 + signal, or -1 when it had to be killed after a minute
  std::string out, err;

  std::string last_line() const {
    std::string text = out;
    while (text.ends_with('\n')) text.pop_back();
    return text.substr(text.find_last_of('\n') + 1);
  }
};

// A running program. With `on_terminal` its stdin, stdout and stderr are one terminal of 100 columns, and everything
// that it prints is in `out`.
class Program {
 public:
  struct Setup {
    std::filesystem::path folder = ".";
    std::map<std::string, std::string> environment;  // the only variables that it gets
    std::string input;
    bool on_terminal = false;
  };

  Program(std::vector<std::string> words, Setup setup) : input_(std::move(setup.input)) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, terminal = -1;
    winsize size{};
    size.ws_col = 100;
    size.ws_row = 40;
    if (setup.on_terminal) {
      if (openpty(&in_, &terminal, nullptr, nullptr, &size) != 0)
        throw std::system_error(errno, std::generic_category(), "openpty");
    } else if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) {
      throw std::system_error(errno, std::generic_category(), "pipe");
    }
    std::vector<std::string> variables;
    for (const auto& [name, value] : setup.environment) variables.push_back(name + "=" + value);
    std::vector<char*> argv, envp;
    for (std::string& word : words) argv.push_back(word.data());
    for (std::string& variable : variables) envp.push_back(variable.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    const std::string folder = setup.folder.string();
    pid_ = fork();
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ == 0) {
      if (terminal >= 0) {
        close(in_);
        login_tty(terminal);
      } else {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
      }
      if (chdir(folder.c_str()) != 0) _exit(126);
      execve(argv[0], argv.data(), envp.data());
      _exit(127);
    }
    if (terminal >= 0) {
      close(terminal);
      out_ = in_;
    } else {
      close(in[0]);
      close(out[1]);
      close(err[1]);
      in_ = in[1];
      out_ = out[0];
      err_ = err[0];
      fcntl(in_, F_SETFL, O_NONBLOCK);
    }
  }
  Program(const Program&) = delete;
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    for (const int fd : {in_, out_ == in_ ? -1 : out_, err_}) {
      if (fd >= 0) close(fd);
    }
  }

  void type(const std::string& text) { input_ += text; }
  void signal(int number) const { ::kill(pid_, number); }
  const Finished& so_far() const { return finished_; }

  // Reads until `text` stands in what was printed (of both streams) after `from`; false when the program ends first or
  // a minute passes.
  bool wait_for(const std::string& text, size_t from = 0) {
    const auto holds = [&] {
      return finished_.out.find(text, std::min(from, finished_.out.size())) != std::string::npos ||
             finished_.err.find(text) != std::string::npos;
    };
    while (!holds()) {
      if (!step()) return holds();
    }
    return true;
  }

  // Sends what is left of the input, closes it (a pipe; on a terminal the input must have ended the program), and reads
  // until the end.
  Finished wait() {
    is_closing_ = true;
    while (step()) {
    }
    int status = 0;
    if (is_late()) ::kill(pid_, SIGKILL);
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    finished_.status = is_late() ? -1 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return finished_;
  }

 private:
  bool is_late() const { return std::chrono::steady_clock::now() > deadline_; }

  // One round of poll; false when all output has ended or the time is over.
  bool step() {
    if (is_late()) return false;
    const bool is_pipe = in_ != out_;
    if (is_pipe && is_closing_ && input_.empty() && in_ >= 0) {
      close(in_);
      in_ = -1;
    }
    pollfd fds[3] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}, {input_.empty() ? -1 : in_, POLLOUT, 0}};
    if (out_ < 0 && err_ < 0) return false;
    if (poll(fds, 3, 200) <= 0) return true;
    if (fds[2].revents != 0) {
      const ssize_t sent = write(in_, input_.data(), input_.size());
      if (sent > 0)
        input_.erase(0, static_cast<size_t>(sent));
      else if (errno != EAGAIN)
        input_.clear();  // it no longer reads
    }
    take(fds[0], out_, finished_.out);
    take(fds[1], err_, finished_.err);
    return true;
  }

  void take(const pollfd& ready, int& fd, std::string& text) {
    if (ready.revents == 0) return;
    char buffer[65536];
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got > 0) {
      text.append(buffer, static_cast<size_t>(got));
      return;
    }
    if (fd == in_) in_ = -1;  // a terminal whose other side is gone
    close(fd);
    fd = -1;
  }

  pid_t pid_ = -1;
  int in_ = -1, out_ = -1, err_ = -1;
  std::string input_;
  bool is_closing_ = false;
  Finished finished_;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::now() + std::chrono::seconds(60);
};

}  // namespace corvid::test
