#include "agents/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>

namespace corvid::agents {

using runtime::Json;

std::string to_output_line(const Json& json) {
  if (!is_terminal(STDOUT_FILENO)) return runtime::to_line(json);
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string describe_call(const model::Call& call, size_t width) {
  const Json args = Json::parse(call.args, nullptr, false);
  std::string argument = call.args;
  if (args.is_object()) {
    argument.clear();
    for (const char* key : {"command", "method", "url", "path", "agent"}) {
      const auto found = args.find(key);
      if (found == args.end() || !found->is_string()) continue;
      argument += (argument.empty() ? "" : " ") + found->get<std::string>();
    }
    if (argument.empty() && !args.empty()) argument = args.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  return one_line(call.name, 40) + (argument.empty() ? "" : "  " + one_line(argument, width));
}

Progress::Progress(bool streams) : streams_(streams), colour_(wants_colour(STDERR_FILENO)) {}

void Progress::end_line() {
  if (!in_line_) return;
  std::cout << std::endl;
  in_line_ = false;
}

void Progress::show(const runtime::Event& event) {
  if (const auto* session = std::get_if<runtime::SessionEvent>(&event)) {
    if (!session->notice.empty())
      std::cerr << coloured("corvid: " + plain(session->notice), Colour::yellow, colour_) << "\n";
  } else if (const auto* token = std::get_if<runtime::TokenEvent>(&event)) {
    if (!streams_) return;
    const std::string text = filter_.push(token->piece.text);
    if (text.empty()) return;
    std::cout << text << std::flush;
    has_text_ = true;
    in_line_ = !text.ends_with('\n');
  } else if (const auto* message = std::get_if<runtime::MessageEvent>(&event)) {
    if (message->message.role != model::Role::assistant) return;
    is_answered_ = has_text_;
    has_text_ = false;
    filter_.finish();
    end_line();
  } else if (const auto* done = std::get_if<runtime::ToolResultEvent>(&event)) {
    const runtime::ToolCallRecord& record = done->record;
    const bool is_ok = record.status == tools::Status::ok;
    const int width = std::max(20, std::min(terminal_columns(STDERR_FILENO), 160) - 40);
    std::string status = tools::to_text(record.status);
    if (record.exit_code && *record.exit_code != 0) status += " (exit " + std::to_string(*record.exit_code) + ")";
    char ms[32];
    std::snprintf(ms, sizeof ms, "%.0f ms", record.duration_ms);
    std::cerr << coloured("· ", Colour::dim, colour_) << describe_call(record.call, static_cast<size_t>(width)) << "  "
              << coloured(status, is_ok ? Colour::green : Colour::red, colour_) << "  "
              << coloured(ms, Colour::dim, colour_) << std::endl;
  }
}

void Progress::print_answer(const runtime::RunResult& result) {
  end_line();
  if ((streams_ && is_answered_) || result.answer.empty()) return;
  std::cout << (streams_ ? plain(result.answer) : result.answer);
  if (!result.answer.ends_with('\n')) std::cout << '\n';
  std::cout.flush();
}

void Progress::print_end(const runtime::RunResult& result) {
  end_line();
  if (!result.error.empty()) {
    const bool is_failure = result.status == runtime::RunStatus::error;
    const std::string status(runtime::to_text(result.status));
    std::cerr << coloured("corvid: ", is_failure ? Colour::red : Colour::yellow, colour_) << status
              << (result.error == status ? "" : ": " + plain(result.error)) << "\n";
  }
  char time[64];
  std::snprintf(time, sizeof time, "%.0f ms model, %.0f ms tools", result.usage.prefill_ms + result.usage.decode_ms,
                result.tool_ms);
  std::cerr << coloured("session " + result.session_id + ": " + std::to_string(result.turns) +
                            (result.turns == 1 ? " turn, " : " turns, ") +
                            std::to_string(result.usage.completion_tokens) + " tokens, " + time,
                        Colour::dim, colour_)
            << std::endl;
}

}  // namespace corvid::agents
