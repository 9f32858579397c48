// XXH64, the 64-bit xxHash (github.com/Cyan4973/xxHash, doc/xxhash_spec.md): finds damage, and tells contents apart.
// It reads at memory speed with nothing but multiplications, so it needs no library and no instruction set; it is no
// protection against someone who wants two contents to look the same.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace corvid::model {

// A hash of several parts is chained: the hash of one part is the seed of the next.
uint64_t xxh64(std::span<const std::byte> bytes, uint64_t seed = 0);
uint64_t xxh64(std::string_view text, uint64_t seed = 0);

std::string hex(uint64_t number);  // 16 digits

}  // namespace corvid::model
