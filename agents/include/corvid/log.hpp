// Where the library's remarks go: to the host, or nowhere. It never writes to standard output or standard error.
#pragma once
#include <cstdint>
#include <functional>
#include <string_view>

namespace corvid {
inline namespace v1 {

enum class LogLevel : uint8_t { debug, info, warning, error };

// One line without a newline, UTF-8, valid during the call. Called from any thread, also from several at once. What it
// throws is swallowed.
using Logger = std::function<void(LogLevel level, std::string_view line)>;

}  // namespace v1
}  // namespace corvid
