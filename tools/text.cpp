#include "tools/text.h"

#include <algorithm>
#include <cstdio>

namespace corvid::tools {
namespace {

// Length of the well-formed UTF-8 character at the start of `s` (Unicode 15, table 3-7), or 0.
size_t character_length(std::string_view s) noexcept {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xc2 && lead <= 0xdf   ? 2
                        : lead >= 0xe0 && lead <= 0xef ? 3
                        : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                       : 0;
  if (length == 0 || s.size() < length) return 0;
  const unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  }
  return length;
}

bool is_continuation(char c) noexcept { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

}  // namespace

std::string to_valid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = bytes[0] == '\0' ? 0 : character_length(bytes);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      bytes.remove_prefix(1);
    } else {
      out += bytes.substr(0, length);
      bytes.remove_prefix(length);
    }
  }
  return out;
}

void TextCheck::feed(std::string_view bytes) noexcept {
  for (const char c : bytes) {
    if (!ok_) return;
    const auto b = static_cast<unsigned char>(c);
    if (pending_ > 0) {
      ok_ = b >= low_ && b <= high_;
      low_ = 0x80, high_ = 0xbf;
      --pending_;
    } else if (b == 0) {
      ok_ = false;
    } else if (b >= 0x80) {
      ok_ = b >= 0xc2 && b <= 0xf4;
      pending_ = b >= 0xf0 ? 3 : b >= 0xe0 ? 2 : 1;
      low_ = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
      high_ = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    }
  }
}

bool is_text(std::string_view bytes) noexcept {
  TextCheck check;
  check.feed(bytes);
  return check.is_text();
}

size_t first_bad_byte(std::string_view bytes) noexcept {
  TextCheck check;
  for (size_t i = 0; i < bytes.size(); ++i) {
    check.feed(bytes.substr(i, 1));
    if (check.failed()) return i;
  }
  return check.is_text() ? bytes.size() : bytes.size() - 1;
}

HeadTail::HeadTail(int64_t limit)
    : head_limit_(static_cast<size_t>(std::max<int64_t>(limit, 0)) / 2),
      tail_limit_(static_cast<size_t>(std::max<int64_t>(limit, 0)) - head_limit_) {}

void HeadTail::append(std::string_view bytes) {
  total_ += static_cast<int64_t>(bytes.size());
  const size_t room = head_limit_ - head_.size();
  head_ += bytes.substr(0, room);
  bytes.remove_prefix(std::min(room, bytes.size()));
  if (bytes.size() > tail_limit_) bytes.remove_prefix(bytes.size() - tail_limit_), tail_.clear();
  tail_ += bytes;
  // Trimmed only when it has doubled, so that a flood of small pieces costs one move for each tail_limit_ bytes.
  if (tail_.size() > 2 * tail_limit_) tail_.erase(0, tail_.size() - tail_limit_);
}

std::string HeadTail::text() const {
  std::string_view tail = tail_;
  if (tail.size() > tail_limit_) tail.remove_prefix(tail.size() - tail_limit_);
  if (total_ == static_cast<int64_t>(head_.size() + tail.size())) return head_ + std::string(tail);
  std::string_view head = head_;
  // The head may end within a character: go back to its first byte, and drop it unless it is complete.
  size_t start = head.size();
  while (start > 0 && head.size() - start < 3 && is_continuation(head[start - 1])) --start;
  if (start > 0 && static_cast<unsigned char>(head[start - 1]) >= 0xc0 &&
      character_length(head.substr(start - 1)) == 0) {
    head.remove_suffix(head.size() - (start - 1));
  }
  for (int i = 0; i < 3 && !tail.empty() && is_continuation(tail[0]); ++i) tail.remove_prefix(1);
  const int64_t cut = total_ - static_cast<int64_t>(head.size() + tail.size());
  std::string out(head);
  if (!out.empty() && out.back() != '\n') out += '\n';
  out += "[... " + std::to_string(cut) + " bytes cut ...]\n";
  out += tail;
  return out;
}

std::string cut_middle(std::string_view text, int64_t limit) {
  HeadTail kept(limit);
  kept.append(text);
  return kept.text();
}

std::string one_line(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto b = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (b < 0x20 || b == 0x7f) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", b);
      out += hex;
    } else {
      out += c;
    }
  }
  return out;
}

std::string seconds_text(int64_t ms) {
  std::string out = std::to_string(ms / 1000);
  if (ms % 1000 != 0) {
    std::string fraction = std::to_string(1000 + ms % 1000).substr(1);
    while (fraction.back() == '0') fraction.pop_back();
    out += "." + fraction;
  }
  return out + " s";
}

}  // namespace corvid::tools
