// Lines from a person: with editing and history on a terminal, as they come from a pipe.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace corvid::agents {

// Used by one thread. On a terminal Ctrl-C drops the line that is being typed; at an empty line and at Ctrl-D
// next() gives nothing.
class LineEditor {
 public:
  // The history is kept in `history_file` (terminal only), which may be missing or not writable.
  LineEditor(std::string prompt, std::filesystem::path history_file);
  ~LineEditor();
  std::optional<std::string> next();
  bool is_interactive() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::agents
