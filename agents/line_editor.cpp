#include "agents/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>
#include <iostream>

namespace corvid::agents {

namespace {

constexpr int kHistoryLines = 1000;
// Counts the SIGINTs that came: a read of the terminal alone would miss one that comes just before.
int interrupts = -1;
// Bytes that were typed before the editor had the terminal, and are still to be read.
int typed_ahead = 0;

void on_interrupt(int) {
  const int before = errno;
  (void)!eventfd_write(interrupts, 1);
  errno = before;
}

bool take_interrupt() {
  eventfd_t count = 0;
  return eventfd_read(interrupts, &count) == 0;
}

// libedit's way to get a character: 1, or 0 at the end, or -1 with errno, EINTR at Ctrl-C.
int read_key(EditLine*, wchar_t* key) {
  mbstate_t state{};
  for (;;) {
    pollfd fds[2] = {{interrupts, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    if (fds[0].revents != 0) {
      errno = EINTR;
      return -1;
    }
    char byte = 0;
    const ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got <= 0) return static_cast<int>(got);
    if (typed_ahead > 0) {
      --typed_ahead;
      if (byte == 0) byte = '\x04';  // the terminal's line mode turned Ctrl-D into a NUL
    }
    const size_t length = mbrtowc(key, &byte, 1, &state);
    if (length == static_cast<size_t>(-2)) continue;  // more bytes of the character are to come
    if (length == static_cast<size_t>(-1)) *key = L'?';
    return 1;
  }
}

}  // namespace

struct LineEditor::Impl {
  std::string prompt;
  std::filesystem::path history_file;
  EditLine* editor = nullptr;
  History* history = nullptr;
  HistEvent event{};
};

LineEditor::LineEditor(std::string prompt, std::filesystem::path history_file) : impl_(std::make_unique<Impl>()) {
  impl_->prompt = std::move(prompt);
  impl_->history_file = std::move(history_file);
  if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1) return;
  interrupts = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (interrupts < 0) return;
  std::setlocale(LC_CTYPE, "C.UTF-8");  // by which libedit takes the terminal's bytes for characters
  impl_->editor = el_init("corvid", stdin, stdout, stderr);
  if (impl_->editor == nullptr) return;
  el_set(impl_->editor, EL_CLIENTDATA, impl_.get());
  using Prompt = char* (*)(EditLine*);
  const Prompt show = [](EditLine* editor) -> char* {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return static_cast<Impl*>(self)->prompt.data();
  };
  el_set(impl_->editor, EL_PROMPT, show);
  el_set(impl_->editor, EL_EDITOR, "emacs");
  el_set(impl_->editor, EL_SIGNAL, 0);
  el_set(impl_->editor, EL_GETCFN, read_key);
  impl_->history = history_init();
  if (impl_->history == nullptr) return;
  history(impl_->history, &impl_->event, H_SETSIZE, kHistoryLines);
  history(impl_->history, &impl_->event, H_SETUNIQUE, 1);
  history(impl_->history, &impl_->event, H_LOAD, impl_->history_file.c_str());
  el_set(impl_->editor, EL_HIST, history, impl_->history);
}

LineEditor::~LineEditor() {
  if (impl_->history != nullptr) {
    const mode_t mask = umask(077);  // what was typed is private
    history(impl_->history, &impl_->event, H_SAVE, impl_->history_file.c_str());
    umask(mask);
    history_end(impl_->history);
  }
  if (impl_->editor != nullptr) el_end(impl_->editor);
  if (interrupts >= 0) close(interrupts);
  interrupts = -1;
}

bool LineEditor::is_interactive() const { return impl_->editor != nullptr; }

std::optional<std::string> LineEditor::next() {
  if (impl_->editor == nullptr) {
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  struct sigaction action {
  }, before{};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, &before);
  std::optional<std::string> line;
  for (;;) {
    int count = 0;
    el_set(impl_->editor, EL_PREP_TERM, 1);  // before the prompt is shown: who sees it may type
    if (ioctl(STDIN_FILENO, FIONREAD, &typed_ahead) != 0) typed_ahead = 0;
    const char* text = el_gets(impl_->editor, &count);
    if (take_interrupt()) {
      std::cout << "^C" << std::endl;
      el_reset(impl_->editor);
      continue;
    }
    if (text == nullptr || count <= 0) break;
    line.emplace(text, static_cast<size_t>(count));
    while (line->ends_with('\n') || line->ends_with('\r')) line->pop_back();
    if (impl_->history != nullptr && line->find_first_not_of(' ') != std::string::npos) {
      history(impl_->history, &impl_->event, H_ENTER, line->c_str());
    }
    break;
  }
  sigaction(SIGINT, &before, nullptr);
  return line;
}

}  // namespace corvid::agents
