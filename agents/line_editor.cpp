#include "agents/line_editor.h"

#include <histedit.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <iostream>

namespace corvid::agents {

namespace {

constexpr int kHistoryLines = 1000;
volatile sig_atomic_t interrupted = 0;

void on_interrupt(int) { interrupted = 1; }

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
}

bool LineEditor::is_interactive() const { return impl_->editor != nullptr; }

std::optional<std::string> LineEditor::next() {
  if (impl_->editor == nullptr) {
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  // Without SA_RESTART the read ends with EINTR, and el_gets returns.
  struct sigaction action {
  }, before{};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, &before);
  std::optional<std::string> line;
  for (;;) {
    interrupted = 0;
    int count = 0;
    const char* text = el_gets(impl_->editor, &count);
    if (interrupted != 0) {
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
