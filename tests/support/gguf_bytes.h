// A small GGUF file put together byte by byte, so that a test can write what no writer would.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace corvid::test {

template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
inline std::string gguf_text(std::string_view text) { return raw<uint64_t>(text.size()) + std::string(text); }
inline std::string gguf_u32(std::string_view key, uint32_t value) {
  return gguf_text(key) + raw<uint32_t>(4) + raw(value);
}
inline std::string gguf_tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                               uint64_t offset) {
  std::string bytes = gguf_text(name) + raw(static_cast<uint32_t>(dims.size()));
  for (const uint64_t dim : dims) bytes += raw(dim);
  return bytes + raw(type) + raw(offset);
}

// Magic, version, counts, then `keys` and `tensors` as they are, padding to 32 bytes, and `data_bytes` zeros.
inline std::string gguf_file(uint64_t n_keys, const std::string& keys, uint64_t n_tensors, const std::string& tensors,
                             size_t data_bytes, uint32_t version = 3) {
  std::string bytes = "GGUF" + raw(version) + raw(n_tensors) + raw(n_keys) + keys + tensors;
  bytes.resize((bytes.size() + 31) / 32 * 32, '\0');
  return bytes + std::string(data_bytes, '\0');
}

}  // namespace corvid::test
