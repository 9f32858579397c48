// The http_request tool: one HTTP exchange under the host policy, shown to the model or saved to a file.
#pragma once
#include <memory>

#include "tools/tool.h"

namespace corvid::tools {

std::unique_ptr<Tool> make_http_request();

}  // namespace corvid::tools
