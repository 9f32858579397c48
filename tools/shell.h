// The shell tool: a bash command in the sandbox, in the working folder.
#pragma once
#include <memory>

#include "tools/tool.h"

namespace corvid::tools {

std::unique_ptr<Tool> make_shell();

}  // namespace corvid::tools
