// What a person sees of a run: a compact line on standard error for each tool call, the answer on standard output.
#pragma once
#include <string>

#include "agents/terminal.h"
#include "runtime/events.h"

namespace corvid::agents {

// One line of JSON; on a terminal everything beyond ASCII is escaped, so that no control character can reach it.
std::string to_output_line(const runtime::Json& json);

// "shell  ls notes/*.txt | wc -l": the call's most telling argument, plain and short.
std::string describe_call(const model::Call& call, size_t width);

class Progress {
 public:
  // With `streams`, the assistant's text goes to standard output as it comes; otherwise print_answer() prints it whole.
  explicit Progress(bool streams);
  void show(const runtime::Event& event);
  void print_answer(const runtime::RunResult& result);
  void print_end(const runtime::RunResult& result);  // why it ended, and how to go on

 private:
  void end_line();
  bool streams_;
  bool colour_;
  bool in_line_ = false;      // text stands on the terminal without its newline
  bool has_text_ = false;     // of the message that is coming
  bool is_answered_ = false;  // the last message was shown
  PlainText filter_;
};

}  // namespace corvid::agents
