// UTF-8 as the Unicode standard has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once
#include <string>
#include <string_view>

namespace corvid::model {

constexpr int kUtf8Invalid = 0;
constexpr int kUtf8Cut = -1;

// Length (1..4) of the sequence at the start of `bytes`; kUtf8Invalid when none starts there; kUtf8Cut when `bytes`
// ends inside what could become one. `bytes` is not empty.
int utf8_length(std::string_view bytes);

// The code point of a valid sequence of `length` bytes.
char32_t utf8_decode(std::string_view bytes, int length);

// Appends one code point.
void utf8_append(std::string& text, char32_t code);

// The start of the last sequence of non-empty `bytes`; bytes.size() when it does not end with a valid sequence.
size_t utf8_last(std::string_view bytes);

// Unicode's White_Space property.
bool is_white_space(char32_t code);
// True when `text` holds nothing but space, tab, carriage return and line feed.
bool is_blank(std::string_view text);

// Turns a stream of bytes into valid UTF-8: what is no UTF-8 becomes U+FFFD, a sequence cut at the end waits.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();  // what waited, as U+FFFD

 private:
  std::string waiting_;
};

}  // namespace corvid::model
