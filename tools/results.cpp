#include "tools/results.h"

#include <cerrno>
#include <system_error>

#include "tools/text.h"

namespace corvid::tools {
namespace {

ToolResult bracketed(Status status, std::string_view kind, std::string_view what) {
  return {status, '[' + std::string(kind) + ": " + std::string(what) + ']', Json::object()};
}

}  // namespace

ToolResult bad_args(std::string_view what) { return bracketed(Status::bad_args, "error", what); }
ToolResult failed(std::string_view what) { return bracketed(Status::failed, "error", what); }
ToolResult denied(std::string_view what) { return bracketed(Status::denied, "denied", what); }
ToolResult cancelled() { return {Status::cancelled, "[cancelled]", Json::object()}; }

ToolResult path_failure(int error, const std::string& path) {
  const std::string name = one_line(path);
  switch (error) {
    case ENOENT:
      return failed("no such file: " + name);
    case EISDIR:
      return failed(name + " is a folder");
    case ENXIO:
      return failed(name + " is not a regular file");
    case EXDEV:
      return denied(name + " is outside the working folder");
    case EROFS:
      return denied(name + " is protected from writing");
    default:
      return failed(name + ": " + std::generic_category().message(error));
  }
}

std::string without_final_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

void end_line(std::string& text) {
  if (!text.empty() && text.back() != '\n') text += '\n';
}

ToolSpec make_spec(std::string name, std::string description, Json properties, Json required) {
  Json parameters = Json::object();
  parameters["type"] = "object";
  parameters["properties"] = std::move(properties);
  parameters["required"] = std::move(required);
  return {std::move(name), std::move(description), std::move(parameters)};
}

}  // namespace corvid::tools
