#include "model/byte_alphabet.h"

#include <array>

#include "model/utf8.h"

namespace corvid::model {
namespace {

constexpr int kLast = 0x143;  // the alphabet's highest code point

struct Alphabet {
  std::array<char32_t, 256> code{};       // byte -> code point
  std::array<int16_t, kLast + 1> byte{};  // code point -> byte, -1 when outside
};

constexpr Alphabet make_alphabet() {
  Alphabet a;
  for (int16_t& byte : a.byte) byte = -1;
  char32_t next = 0x100;
  for (int16_t b = 0; b < 256; ++b) {
    const bool is_visible = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    const char32_t code = is_visible ? static_cast<char32_t>(b) : next++;
    a.code[static_cast<size_t>(b)] = code;
    a.byte[code] = b;
  }
  return a;
}

constexpr Alphabet kAlphabet = make_alphabet();
static_assert(kAlphabet.byte[kLast] == 0xAD);

}  // namespace

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const int length = utf8_length(text);
    if (length <= 0) return std::nullopt;
    const char32_t code = utf8_decode(text, length);
    if (code > kLast || kAlphabet.byte[code] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[code]);
    text.remove_prefix(static_cast<size_t>(length));
  }
  return bytes;
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) utf8_append(text, kAlphabet.code[static_cast<unsigned char>(byte)]);
  return text;
}

}  // namespace corvid::model
