// Arguments against the part of JSON Schema that tools use: type, properties, required, enum, items and
// additionalProperties. Other keywords are not looked at. Unknown arguments are errors unless a schema allows them.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "tools/tool.h"

namespace corvid::tools {

// JSON text as an object. Throws std::invalid_argument saying what it is instead; nesting beyond 64 is refused unread.
Json parse_arguments(std::string_view text);

// What is wrong with the arguments, for the model: `shell needs "command" (string)`. Nothing when they fit.
std::optional<std::string> check_arguments(const ToolSpec& spec, const Json& args);

// The same for any value, which messages call `name`.
std::optional<std::string> check_value(const std::string& name, const Json& schema, const Json& value);

}  // namespace corvid::tools
