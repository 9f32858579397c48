// Text on its way to the model: valid UTF-8, bounded in size, with what was cut said.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace corvid::tools {

// Bytes that are no UTF-8 (overlong forms and surrogates included) and NULs become U+FFFD, one for each bad byte.
std::string to_valid_utf8(std::string_view bytes);

// Whether a stream of bytes is text: UTF-8 without a NUL. Fed in pieces of any size.
class TextCheck {
 public:
  void feed(std::string_view bytes) noexcept;
  bool is_text() const noexcept { return ok_ && pending_ == 0; }  // of all that was fed
  bool failed() const noexcept { return !ok_; }                   // no later piece can mend it

 private:
  bool ok_ = true;
  int pending_ = 0;                         // continuation bytes still to come
  unsigned char low_ = 0x80, high_ = 0xbf;  // what the next one may be
};
bool is_text(std::string_view bytes) noexcept;
// The place of the first byte that makes `bytes` no text; their size when they are.
size_t first_bad_byte(std::string_view bytes) noexcept;

// Keeps the head and the tail of a stream in bounded memory: at most `limit` bytes of it, half from each end.
class HeadTail {
 public:
  explicit HeadTail(int64_t limit);
  void append(std::string_view bytes);
  int64_t total() const noexcept { return total_; }
  // The stream, or its head, a line `[... N bytes cut ...]`, and its tail. Cuts fall between UTF-8 characters.
  std::string text() const;

 private:
  size_t head_limit_, tail_limit_;
  int64_t total_ = 0;
  std::string head_;
  std::string tail_;  // at most twice tail_limit_, trimmed from the front now and then
};
std::string cut_middle(std::string_view text, int64_t limit);

// A path or name for a one-line message: control bytes are written \n, \t or \xNN, the rest stays.
std::string one_line(std::string_view text);

// "30 s", "1.5 s"
std::string seconds_text(int64_t ms);

}  // namespace corvid::tools
