// The tools of one agent: look-up by name, argument check, exceptions turned into results.
#pragma once
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "tools/sandbox.h"
#include "tools/tool.h"

namespace corvid::tools {

class Toolbox {
 public:
  explicit Toolbox(Sandbox sandbox);
  Toolbox(Toolbox&&) noexcept = default;

  void add(std::unique_ptr<Tool> tool);  // throws std::invalid_argument when the name is taken
  // In the place of the tool that has this one's name; throws std::invalid_argument when there is none.
  void replace(std::unique_ptr<Tool> tool);
  std::vector<ToolSpec> specs() const;  // in the order added
  const Sandbox& sandbox() const noexcept { return sandbox_; }

  // Never throws for what a model can do wrong: an unknown tool, arguments that are no JSON or do not fit the schema,
  // a tool that throws, all become a ToolResult whose text says what was wanted and found.
  ToolResult run(std::string_view name, std::string_view args, std::stop_token stop);

 private:
  Sandbox sandbox_;
  std::vector<std::unique_ptr<Tool>> tools_;
};

// shell, read_file, write_file, edit_file, list_dir, http_request: the names in `names`, in that order; all six when it
// is empty. Throws std::invalid_argument naming an unknown tool and the known ones.
Toolbox make_toolbox(Sandbox sandbox, const std::vector<std::string>& names = {});

}  // namespace corvid::tools
