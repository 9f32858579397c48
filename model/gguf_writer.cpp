#include <algorithm>
#include <cstring>
#include <utility>

#include "model/error.h"
#include "model/gguf.h"
#include "model/new_file.h"

namespace corvid::model {
namespace {

constexpr uint32_t kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kText = 8, kArray = 9;
constexpr int64_t kAlignment = 32;

template <typename T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& bytes, std::string_view text) {
  put<uint64_t>(bytes, text.size());
  bytes += text;
}

int64_t aligned(int64_t at) { return (at + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

void GgufWriter::set(const std::string& key, std::string bytes) {
  const auto same = [&](const Entry& entry) { return entry.key == key; };
  const auto found = std::find_if(entries_.begin(), entries_.end(), same);
  if (found != entries_.end()) {
    found->bytes = std::move(bytes);
  } else {
    entries_.push_back({key, std::move(bytes)});
  }
}

void GgufWriter::set_u32(const std::string& key, uint32_t value) {
  std::string bytes;
  put(bytes, kU32);
  put(bytes, value);
  set(key, std::move(bytes));
}

void GgufWriter::set_f32(const std::string& key, float value) {
  std::string bytes;
  put(bytes, kF32);
  put(bytes, value);
  set(key, std::move(bytes));
}

void GgufWriter::set_bool(const std::string& key, bool value) {
  std::string bytes;
  put(bytes, kBool);
  put<uint8_t>(bytes, value);
  set(key, std::move(bytes));
}

void GgufWriter::set_text(const std::string& key, std::string_view value) {
  std::string bytes;
  put(bytes, kText);
  put_text(bytes, value);
  set(key, std::move(bytes));
}

void GgufWriter::set_texts(const std::string& key, std::span<const std::string> values) {
  std::string bytes;
  put(bytes, kArray);
  put(bytes, kText);
  put<uint64_t>(bytes, values.size());
  for (const std::string& value : values) put_text(bytes, value);
  set(key, std::move(bytes));
}

void GgufWriter::set_i32s(const std::string& key, std::span<const int32_t> values) {
  std::string bytes;
  put(bytes, kArray);
  put(bytes, kI32);
  put<uint64_t>(bytes, values.size());
  for (const int32_t value : values) put(bytes, value);
  set(key, std::move(bytes));
}

void GgufWriter::set_bools(const std::string& key, const std::vector<bool>& values) {
  std::string bytes;
  put(bytes, kArray);
  put(bytes, kBool);
  put<uint64_t>(bytes, values.size());
  for (const bool value : values) put<uint8_t>(bytes, value);
  set(key, std::move(bytes));
}

void GgufWriter::set_encoded(const std::string& key, std::string_view encoded) { set(key, std::string(encoded)); }

void GgufWriter::add(const std::string& name, TensorType type, std::vector<int64_t> shape, Source source) {
  for (const Tensor& tensor : tensors_) {
    if (tensor.name == name) throw std::invalid_argument(concat("tensor ", name, ": added twice"));
  }
  const std::optional<int64_t> bytes = tensor_bytes(type, shape);
  if (!bytes || shape.size() > 4) {
    throw std::invalid_argument(
        concat("tensor ", name, ": shape ", shape_text(shape), " does not fit type ", tensor_layout(type).name));
  }
  if (!tensor_layout(static_cast<uint32_t>(type))) {
    throw std::invalid_argument(concat("tensor ", name, ": type ", tensor_layout(type).name, " is not of GGUF files"));
  }
  tensors_.push_back({name, type, std::move(shape), *bytes, std::move(source)});
}

std::string GgufWriter::header() const {
  std::string bytes = "GGUF";
  put<uint32_t>(bytes, 3);
  put<uint64_t>(bytes, tensors_.size());
  put<uint64_t>(bytes, entries_.size());
  for (const Entry& entry : entries_) {
    put_text(bytes, entry.key);
    bytes += entry.bytes;
  }
  int64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    put_text(bytes, tensor.name);
    put<uint32_t>(bytes, static_cast<uint32_t>(tensor.shape.size()));
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) {
      put<uint64_t>(bytes, static_cast<uint64_t>(*dim));
    }
    put<uint32_t>(bytes, static_cast<uint32_t>(tensor.type));
    put<uint64_t>(bytes, static_cast<uint64_t>(offset));
    offset += aligned(tensor.bytes);
  }
  return bytes;
}

int64_t GgufWriter::write(const std::filesystem::path& file) const {
  NewFile out(file);
  out.write(header());
  out.pad(kAlignment);
  for (const Tensor& tensor : tensors_) {
    const int64_t begin = out.size();
    tensor.source([&](std::span<const std::byte> bytes) { out.write(bytes); });
    if (out.size() - begin != tensor.bytes) {
      throw std::logic_error(concat("tensor ", tensor.name, ": want ", tensor.bytes, " bytes from its source, found ",
                                    out.size() - begin));
    }
    out.pad(kAlignment);
  }
  out.finish();
  return out.size();
}

}  // namespace corvid::model
