// The results that tools share, and the wording of their failures: one line in square brackets.
#pragma once
#include <string>
#include <string_view>

#include "tools/tool.h"

namespace corvid::tools {

ToolResult bad_args(std::string_view what);  // [error: ...]
ToolResult failed(std::string_view what);    // [error: ...]
ToolResult denied(std::string_view what);    // [denied: ...]
ToolResult cancelled();                      // [cancelled]

// What errno says of a path that a tool could not open: no such file, outside the working folder, ...
ToolResult path_failure(int error, const std::string& path);

// Takes one final newline away, as tool results have none.
std::string without_final_newline(std::string text);

// The text with a line end, unless it is empty, so that a line may follow.
void end_line(std::string& text);

// A tool whose specification never changes.
class SpecTool : public Tool {
 public:
  explicit SpecTool(ToolSpec spec) : spec_(std::move(spec)) {}
  const ToolSpec& spec() const noexcept override { return spec_; }

 private:
  ToolSpec spec_;
};

// {"type":"object","properties":...,"required":...}
ToolSpec make_spec(std::string name, std::string description, Json properties, Json required);

}  // namespace corvid::tools
