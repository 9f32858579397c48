#include "model/utf8.h"

#include <algorithm>

namespace corvid::model {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

int utf8_length(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return kUtf8Invalid;
  const size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (bytes.size() < 2) return kUtf8Cut;
  // The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF.
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return kUtf8Invalid;
  for (size_t i = 2; i < length; ++i) {
    if (i >= bytes.size()) return kUtf8Cut;
    if (!is_continuation(bytes[i])) return kUtf8Invalid;
  }
  return static_cast<int>(length);
}

char32_t utf8_decode(std::string_view bytes, int length) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(bytes[i])); };
  switch (length) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
}

void utf8_append(std::string& text, char32_t code) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F)), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  }
}

size_t utf8_last(std::string_view bytes) {
  for (size_t length = 1; length <= std::min<size_t>(4, bytes.size()); ++length) {
    const size_t start = bytes.size() - length;
    if (is_continuation(bytes[start])) continue;
    return utf8_length(bytes.substr(start)) == static_cast<int>(length) ? start : bytes.size();
  }
  return bytes.size();
}

bool is_white_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

std::string Utf8Stream::push(std::string_view bytes) {
  waiting_ += bytes;
  std::string out;
  size_t pos = 0;
  while (pos < waiting_.size()) {
    const std::string_view rest = std::string_view(waiting_).substr(pos);
    const int length = utf8_length(rest);
    if (length == kUtf8Cut) break;
    if (length == kUtf8Invalid) {
      out += kReplacement;
      ++pos;
    } else {
      out += rest.substr(0, static_cast<size_t>(length));
      pos += static_cast<size_t>(length);
    }
  }
  waiting_.erase(0, pos);
  return out;
}

std::string Utf8Stream::finish() {
  std::string out;
  if (!waiting_.empty()) out = kReplacement;
  waiting_.clear();
  return out;
}

}  // namespace corvid::model
