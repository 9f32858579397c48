// How this folder says that a file is bad: one message that names the thing, what was wanted and what was found.
#pragma once
#include <cstdint>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace corvid::model {

template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw std::runtime_error(concat(parts...));
}

// A name out of a file, safe to print: control and non-ASCII bytes are escaped, and a long name is cut.
inline std::string printable(std::string_view name) {
  constexpr size_t kLongest = 100;
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const char c : name.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      text += c;
    } else {
      text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return name.size() > kLongest ? text + "..." : text;
}

inline std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t dim : shape) {
    if (text.size() > 1) text += ',';
    text += std::to_string(dim);
  }
  text += ']';
  return text;
}

}  // namespace corvid::model
