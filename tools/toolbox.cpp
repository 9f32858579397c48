#include "tools/toolbox.h"

#include <stdexcept>
#include <utility>

#include "tools/file.h"
#include "tools/http.h"
#include "tools/results.h"
#include "tools/schema.h"
#include "tools/shell.h"
#include "tools/text.h"

namespace corvid::tools {
namespace {

std::string names_of(const std::vector<std::unique_ptr<Tool>>& tools) {
  std::string out;
  for (const auto& tool : tools) out += (out.empty() ? "" : ", ") + tool->spec().name;
  return out;
}

ToolResult call(Tool& tool, std::string_view args, const Sandbox& box, std::stop_token stop) {
  Json parsed;
  try {
    parsed = parse_arguments(args);
  } catch (const std::invalid_argument& error) {
    return bad_args(error.what());
  }
  if (const auto problem = check_arguments(tool.spec(), parsed)) return bad_args(*problem);
  if (stop.stop_requested()) return cancelled();
  try {
    return tool.run(parsed, box, stop);
  } catch (const SandboxRefused& refused) {
    return denied("commands cannot be confined here: " + std::string(refused.what()));
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

}  // namespace

const char* to_text(Status status) {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::denied:
      return "denied";
    case Status::timed_out:
      return "timeout";
    case Status::failed:
    case Status::bad_args:
    case Status::cancelled:
      break;
  }
  return "error";
}

Toolbox::Toolbox(Sandbox sandbox) : sandbox_(std::move(sandbox)) {}

void Toolbox::add(std::unique_ptr<Tool> tool) {
  for (const auto& known : tools_) {
    if (known->spec().name == tool->spec().name)
      throw std::invalid_argument("there is a tool named " + tool->spec().name + " already");
  }
  tools_.push_back(std::move(tool));
}

void Toolbox::replace(std::unique_ptr<Tool> tool) {
  for (auto& known : tools_) {
    if (known->spec().name != tool->spec().name) continue;
    known = std::move(tool);
    return;
  }
  throw std::invalid_argument("no tool named " + one_line(tool->spec().name) + "; the tools are " + names_of(tools_));
}

std::vector<ToolSpec> Toolbox::specs() const {
  std::vector<ToolSpec> out;
  for (const auto& tool : tools_) out.push_back(tool->spec());
  return out;
}

ToolResult Toolbox::run(std::string_view name, std::string_view args, std::stop_token stop) {
  ToolResult result = bad_args("no tool named " + one_line(name) + "; the tools are " + names_of(tools_));
  for (const auto& tool : tools_) {
    if (tool->spec().name == name) {
      result = call(*tool, args, sandbox_, stop);
      break;
    }
  }
  result.text = to_valid_utf8(result.text);
  return result;
}

Toolbox make_toolbox(Sandbox sandbox, const std::vector<std::string>& names) {
  static const std::vector<std::pair<std::string, std::unique_ptr<Tool> (*)()>> kMakers = {
      {"shell", make_shell},         {"read_file", make_read_file}, {"write_file", make_write_file},
      {"edit_file", make_edit_file}, {"list_dir", make_list_dir},   {"http_request", make_http_request}};
  Toolbox box(std::move(sandbox));
  if (names.empty()) {
    for (const auto& [unused, make] : kMakers) box.add(make());
  }
  for (const std::string& name : names) {
    bool found = false;
    std::string known;
    for (const auto& [maker_name, make] : kMakers) {
      known += (known.empty() ? "" : ", ") + maker_name;
      if (maker_name != name) continue;
      box.add(make());
      found = true;
    }
    if (!found) throw std::invalid_argument("no tool named " + name + "; the tools are " + known);
  }
  return box;
}

}  // namespace corvid::tools
