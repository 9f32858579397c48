// Tools of the host: a name, what it is for, a JSON Schema of its arguments, and a function.
//
//   corvid::Tool stock{"stock", "How many of an article are in store",
//                      R"({"type":"object","properties":{"article":{"type":"string"}},"required":["article"]})",
//                      [&](const corvid::ToolRequest& request) -> corvid::ToolResult {
//                        return std::to_string(warehouse.count(*request.text("article")));
//                      }};
#pragma once
#include <corvid/export.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

namespace corvid {
inline namespace v1 {

enum class ToolStatus : uint8_t { ok, failed, bad_args, denied, timed_out, cancelled };

struct ToolResult {
  ToolResult() = default;
  ToolResult(std::string text_in) : text(std::move(text_in)) {}
  ToolResult(const char* text_in) : text(text_in) {}
  ToolResult(ToolStatus status_in, std::string text_in) : status(status_in), text(std::move(text_in)) {}

  ToolStatus status = ToolStatus::ok;
  std::string text;    // what the model reads; bytes that are no UTF-8 become U+FFFD
  std::string detail;  // a JSON object for the store; empty for none
};

// One call of a tool, valid until the tool's function returns.
class CORVID_API ToolRequest {
 public:
  ToolRequest(const ToolRequest&) = delete;
  ToolRequest& operator=(const ToolRequest&) = delete;

  std::string_view name() const noexcept;
  std::string_view arguments() const noexcept;  // a JSON object that has passed the check against the schema
  // An argument by its name; nothing when it is not there or of another type. text() gives other values than strings as
  // JSON.
  std::optional<std::string> text(std::string_view argument) const;
  std::optional<double> number(std::string_view argument) const;
  std::optional<int64_t> integer(std::string_view argument) const;
  std::optional<bool> flag(std::string_view argument) const;

  const std::filesystem::path& workdir() const noexcept;  // the session's, a real path
  const std::stop_token& stop() const noexcept;           // requested: return soon

  struct Impl;
  explicit ToolRequest(const Impl& impl) noexcept : impl_(impl) {}

 private:
  const Impl& impl_;
};

// Runs on the thread of the session's run; at the same time for several sessions of one agent. What it throws becomes
// a failed result with the exception's message.
using ToolFunction = std::function<ToolResult(const ToolRequest&)>;

struct Tool {
  std::string name;         // [a-z_][a-z0-9_]*
  std::string description;  // one line
  std::string parameters;   // JSON Schema as text, of type object: type, properties, required, enum, items are checked
  ToolFunction run;
};

}  // namespace v1
}  // namespace corvid
