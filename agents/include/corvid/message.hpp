// The transcript's unit: what was said, by whom, and which tools were called.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace corvid {
inline namespace v1 {

enum class Role : uint8_t { system, user, assistant, tool };

struct ToolCall {
  std::string id;  // unique within a session: "call_1", "call_2", ...
  std::string name;
  std::string arguments;  // a JSON object as text, as the model wrote it
};

struct Message {
  Role role = Role::user;
  std::string text;             // UTF-8
  std::string reasoning;        // assistant only
  std::vector<ToolCall> calls;  // assistant only
  std::string call_id;          // tool only: the call that this answers; empty for a note of the library's
};

}  // namespace v1
}  // namespace corvid
