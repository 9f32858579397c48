// What a tool is: a specification that the model sees, and a run that never throws for the ordinary failures of its
// task.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>

namespace corvid::tools {

using Json = nlohmann::ordered_json;

class Sandbox;

enum class Status : uint8_t { ok, failed, bad_args, denied, timed_out, cancelled };

// What the outside sees of a status (product.md's JSON): ok, error, denied, timeout.
const char* to_text(Status status);

struct ToolSpec {
  std::string name;         // [a-z_][a-z0-9_]*
  std::string description;  // one line
  Json parameters;          // JSON Schema, type object
};

struct ToolResult {
  Status status = Status::ok;
  std::string text;              // for the model
  Json detail = Json::object();  // for the store: exit_code, bytes, full sizes before a cut, ...
};

// Open to users of the library. run() may be called from several threads at once.
class Tool {
 public:
  virtual ~Tool() = default;
  virtual const ToolSpec& spec() const noexcept = 0;
  // `args` has passed the check against the schema. A stop request ends it soon with Status::cancelled.
  virtual ToolResult run(const Json& args, const Sandbox& box, std::stop_token stop) = 0;
};

}  // namespace corvid::tools
