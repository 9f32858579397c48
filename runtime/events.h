// What a run tells its watchers while it goes, and what it amounts to in the end. Plain values, no references into the
// session: a watcher may keep them or hand them to another thread.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "model/message.h"
#include "runtime/chat.h"
#include "tools/tool.h"

namespace corvid::runtime {

using Json = tools::Json;

// How a run ended, as the loop sees it. A failure (a thrown exception) is no End.
enum class End : uint8_t {
  answered,
  turn_limit,
  token_limit,
  call_limit,
  time_limit,
  context_limit,  // the transcript outgrew the model's context
  loop_limit,     // the same call gave the same result again and again
  cancelled,
};
const char* to_text(End end);

// How a run ended, as users see it. The one table from End is in events.cpp.
enum class RunStatus : uint8_t { completed, limit, error, interrupted };
RunStatus status_of(End end);
const char* to_text(RunStatus status);
const char* to_text(model::Role role);  // system, user, assistant, tool
int exit_code(RunStatus status);        // completed 0, error 1, limit 3, interrupted 130

struct ToolCallRecord {
  model::Call call;
  tools::Status status = tools::Status::ok;
  std::optional<int> exit_code;  // of a command
  double duration_ms = 0;
};

struct RunResult {
  std::string session_id;
  RunStatus status = RunStatus::error;
  std::string answer;  // the last message when it is the assistant's and calls nothing, also when it was cut; or empty
  std::string error;   // empty when completed; otherwise why it was not, for people
  int64_t turns = 0;   // replies of the model
  std::vector<ToolCallRecord> tool_calls;
  // Sums over the run's turns. A turn's prompt holds the turns before it, so prompt_tokens grows faster than the
  // transcript; prompt_tokens - cached_tokens is what was evaluated.
  Usage usage;
  double tool_ms = 0;
};

// The run has started; `notice` says what a resume had to change (the model is another one, a call was cut short).
struct SessionEvent {
  std::string session_id;
  bool is_resumed = false;
  std::string notice;
};
struct TokenEvent {
  Piece piece;
};  // of the assistant, as it comes
struct ToolCallEvent {
  model::Call call;
};  // about to run; its message is stored
struct ToolResultEvent {
  ToolCallRecord record;
  std::string text;
};  // stored; `text` is what the model will see
struct MessageEvent {
  int64_t seq = 0;
  model::Message message;
};  // stored as message `seq` of the session
struct DoneEvent {
  RunResult result;
};
using Event = std::variant<SessionEvent, TokenEvent, ToolCallEvent, ToolResultEvent, MessageEvent, DoneEvent>;
using Watcher = std::function<void(Event)>;

// The object that `--output json` prints and one line of `--output jsonl` (product's keys; "error" is there when the
// status is not completed, "exit_code" when the tool ran a command).
Json to_json(const RunResult& result);
Json to_json(const Event& event);
// One line without its newline. Bytes that are not UTF-8 become U+FFFD.
std::string to_line(const Json& json);

}  // namespace corvid::runtime
