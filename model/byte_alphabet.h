// GPT-2's printable alphabet: vocabularies of byte-level BPE are stored with each byte as one visible character
// ("Ġ" is a space). Bytes 0x21..0x7E, 0xA1..0xAC and 0xAE..0xFF stand for themselves; the other 68 are U+0100 onwards.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace corvid::model {

// The bytes that `text` stands for; nothing when a character is outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);
std::string to_byte_alphabet(std::string_view bytes);

}  // namespace corvid::model
