// What a run tells while it goes, and what it amounts to in the end. Plain values: a host may keep them, or hand them
// to another thread.
#pragma once
#include <corvid/export.hpp>
#include <corvid/message.hpp>
#include <corvid/tool.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace corvid {
inline namespace v1 {

enum class Status : uint8_t { completed, limit, error, interrupted };

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double prefill_ms = 0, decode_ms = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;
  double tool_ms = 0;
};

struct ToolUse {
  ToolCall call;
  ToolStatus status = ToolStatus::ok;
  std::optional<int> exit_code;  // of a command
  double duration_ms = 0;
};

struct Result {
  std::string session_id;
  Status status = Status::error;
  std::string answer;
  std::string error;  // empty when completed; otherwise why it was not
  int64_t turns = 0;  // replies of the model
  std::vector<ToolUse> tool_calls;
  Usage usage;  // sums over the turns
};

// The run begins; `notice` says what a resume had to change.
struct SessionEvent {
  std::string session_id;
  bool is_resumed = false;
  std::string notice;
};
// The assistant writes; whole UTF-8 characters.
struct TokenEvent {
  std::string text;
};
// About to run; its message is stored.
struct ToolCallEvent {
  ToolCall call;
};
// Stored; `text` is what the model will read.
struct ToolResultEvent {
  ToolUse use;
  std::string text;
};
// Stored as message number `seq` of the session.
struct MessageEvent {
  int64_t seq = 0;
  Message message;
};
// The last one of a run.
struct DoneEvent {
  Result result;
};
using Event = std::variant<SessionEvent, TokenEvent, ToolCallEvent, ToolResultEvent, MessageEvent, DoneEvent>;

using EventHandler = std::function<void(const Event&)>;
// Takes a function and calls it later, once, in the order given, on whatever thread the host likes: an event loop's
// post().
using Dispatch = std::function<void(std::function<void()>)>;

CORVID_API const char* to_text(Status status) noexcept;      // completed, limit, error, interrupted
CORVID_API const char* to_text(ToolStatus status) noexcept;  // ok, error, denied, timeout
CORVID_API const char* to_text(Role role) noexcept;          // system, user, assistant, tool

// The objects of `corvid run --output json` and `--output jsonl`, one line without its newline.
CORVID_API std::string to_json(const Result& result);
CORVID_API std::string to_json(const Event& event);

}  // namespace v1
}  // namespace corvid
