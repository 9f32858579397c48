#include "model/gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "model/error.h"

static_assert(std::endian::native == std::endian::little, "GGUF is little-endian, and read as it stands");

namespace corvid::model {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1 << 16;
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kMaxName = 65535;      // bytes of a key or of a tensor's name
constexpr uint64_t kMinEntryBytes = 13;   // a key of no bytes with a one-byte value
constexpr uint64_t kMinTensorBytes = 32;  // a name of no bytes with one dimension

template <typename T>
T load(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

}  // namespace

// Reads the header front to back; every step first makes sure that the file goes on so far.
struct Gguf::Cursor {
  std::span<const std::byte> bytes;
  const std::string& file;
  size_t at = 0;

  uint64_t left() const { return bytes.size() - at; }

  void need(uint64_t count, std::string_view what) const {
    if (count > left()) {
      fail(file, ": ", what, " at byte ", at, ": want ", count, " bytes, found ", left(), " up to the end of the file");
    }
  }
  template <typename T>
  T take(std::string_view what) {
    need(sizeof(T), what);
    const T value = load<T>(bytes, at);
    at += sizeof(T);
    return value;
  }
  std::string_view take_text(std::string_view what, uint64_t longest) {
    const auto length = take<uint64_t>(what);
    if (length > longest) fail(file, ": ", what, ": want at most ", longest, " bytes, found ", length);
    need(length, what);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + at, length);
    at += length;
    return text;
  }
};

Gguf Gguf::open(const std::filesystem::path& file) { return Gguf(file); }

Gguf::Gguf(const std::filesystem::path& file) : file_(file), name_(file.filename().string()) {
  Cursor cursor{file_.bytes(), name_};
  if (cursor.left() < 4 || std::memcmp(cursor.bytes.data(), "GGUF", 4) != 0) {
    fail(name_, ": not a GGUF file: want it to begin with \"GGUF\"");
  }
  cursor.at = 4;
  const auto version = cursor.take<uint32_t>("version");
  if (version == __builtin_bswap32(kVersion)) fail(name_, ": version: want a little-endian file, found big-endian");
  if (version != kVersion) fail(name_, ": version: want ", kVersion, ", found ", version);
  const auto n_tensors = cursor.take<uint64_t>("number of tensors");
  const auto n_keys = cursor.take<uint64_t>("number of keys");
  if (n_tensors > cursor.left() / kMinTensorBytes) {
    fail(name_, ": number of tensors: found ", n_tensors, ", more than ", cursor.left(), " bytes can hold");
  }
  if (n_keys > cursor.left() / kMinEntryBytes) {
    fail(name_, ": number of keys: found ", n_keys, ", more than ", cursor.left(), " bytes can hold");
  }
  for (uint64_t i = 0; i < n_keys; ++i) {
    const std::string_view key = cursor.take_text(concat("name of key ", i), kMaxName);
    const size_t begin = cursor.at;
    Value value = read_value(cursor, key);
    value.begin = begin;
    value.end = cursor.at;
    if (!values_.emplace(key, value).second) fail(name_, ": key ", printable(key), ": found twice");
  }
  read_tensors(cursor, n_tensors);
}

size_t Gguf::bytes_of(Kind kind) {
  switch (kind) {
    case Kind::u8:
    case Kind::i8:
    case Kind::boolean:
      return 1;
    case Kind::u16:
    case Kind::i16:
      return 2;
    case Kind::u32:
    case Kind::i32:
    case Kind::f32:
      return 4;
    case Kind::u64:
    case Kind::i64:
    case Kind::f64:
      return 8;
    case Kind::text:
    case Kind::array:
      return 0;  // not of one size
  }
  return 0;
}

std::string_view Gguf::name_of(Kind kind) {
  constexpr std::string_view kNames[] = {"u8",   "i8",   "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "text", "array", "u64", "i64", "f64"};
  return kNames[static_cast<size_t>(kind)];
}

Gguf::Value Gguf::read_value(Cursor& cursor, std::string_view key) const {
  const std::string what = concat("key ", printable(key));
  const auto take_kind = [&] {
    const auto number = cursor.take<uint32_t>(what);
    if (number > static_cast<uint32_t>(Kind::f64)) fail(name_, ": ", what, ": want a type below 13, found ", number);
    return static_cast<Kind>(number);
  };
  Value value{take_kind(), false, 1, 0};
  if (value.kind == Kind::array) {
    value.is_array = true;
    value.kind = take_kind();
    if (value.kind == Kind::array) fail(name_, ": ", what, ": an array of arrays is not supported");
    value.count = cursor.take<uint64_t>(what);
  }
  value.at = cursor.at;
  if (value.kind == Kind::text) {
    if (value.count > cursor.left() / sizeof(uint64_t)) {
      fail(name_, ": ", what, ": found ", value.count, " texts, more than ", cursor.left(), " bytes can hold");
    }
    for (uint64_t i = 0; i < value.count; ++i) cursor.take_text(what, std::numeric_limits<uint64_t>::max());
    return value;
  }
  const size_t each = bytes_of(value.kind);
  if (value.count > cursor.left() / each) {
    fail(name_, ": ", what, ": want ", value.count, " values of ", each, " bytes, found ", cursor.left(),
         " bytes up to the end of the file");
  }
  cursor.at += value.count * each;
  return value;
}

void Gguf::read_tensors(Cursor& cursor, uint64_t count) {
  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    tensor.name = cursor.take_text(concat("name of tensor ", i), kMaxName);
    const std::string what = concat("tensor ", printable(tensor.name));
    const auto n_dims = cursor.take<uint32_t>(what);
    if (n_dims < 1 || n_dims > kMaxDims)
      fail(name_, ": ", what, ": want 1 to ", kMaxDims, " dimensions, found ", n_dims);
    for (uint32_t d = 0; d < n_dims; ++d) {
      const auto dim = cursor.take<uint64_t>(what);
      if (dim < 1 || dim > uint64_t{std::numeric_limits<int64_t>::max()}) {
        fail(name_, ": ", what, ": dimension ", d, ": found ", dim);
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dim));
    }
    const auto type = cursor.take<uint32_t>(what);
    if (!tensor_layout(type)) fail(name_, ": ", what, ": type ", tensor_type_text(type), " is not supported");
    tensor.type = static_cast<TensorType>(type);
    offsets.push_back(cursor.take<uint64_t>(what));
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) fail(name_, ": ", what, ": found twice");
    tensors_.push_back(std::move(tensor));
  }
  header_bytes_ = cursor.at;

  uint64_t alignment = kDefaultAlignment;
  if (has("general.alignment")) {
    alignment = static_cast<uint64_t>(integer("general.alignment", 8, kMaxAlignment));
    if (!std::has_single_bit(alignment)) fail(name_, ": key general.alignment: want a power of two, found ", alignment);
  }
  const uint64_t data_at = (cursor.at + alignment - 1) / alignment * alignment;  // far from overflow: inside the file
  const uint64_t data_bytes = cursor.bytes.size() > data_at ? cursor.bytes.size() - data_at : 0;
  std::vector<size_t> order(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    const std::string what = concat(name_, ": tensor ", printable(tensor.name));
    const TensorLayout layout = tensor_layout(tensor.type);
    const std::optional<int64_t> bytes = tensor_bytes(tensor.type, tensor.shape);
    if (!bytes && tensor.shape.back() % layout.group != 0) {
      fail(what, ": want rows of a multiple of ", layout.group, " for ", layout.name, ", found ", tensor.shape.back());
    }
    if (!bytes) fail(what, ": ", shape_text(tensor.shape), " is too large");
    const auto size = static_cast<uint64_t>(*bytes);
    if (offsets[i] % alignment != 0)
      fail(what, ": want an offset that is a multiple of ", alignment, ", found ", offsets[i]);
    if (offsets[i] > data_bytes || size > data_bytes - offsets[i]) {
      fail(what, ": want ", size, " bytes at offset ", offsets[i], ", found ", data_bytes, " bytes of tensor data");
    }
    tensor.data = cursor.bytes.subspan(data_at + offsets[i], size);
    order[i] = i;
  }
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return offsets[a] < offsets[b]; });
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor &before = tensors_[order[i - 1]], &after = tensors_[order[i]];
    if (offsets[order[i - 1]] + before.data.size() > offsets[order[i]]) {
      fail(name_, ": tensors ", printable(before.name), " and ", printable(after.name), " overlap");
    }
  }
}

const Gguf::Value& Gguf::value(std::string_view key, bool array, std::string_view wanted) const {
  const auto found = values_.find(key);
  if (found == values_.end()) fail(name_, ": key ", key, " is missing: want ", wanted);
  const Value& value = found->second;
  if (value.is_array != array) {
    fail(name_, ": key ", key, ": want ", wanted, ", found ", value.is_array ? "an array of " : "",
         name_of(value.kind));
  }
  return value;
}

std::string_view Gguf::text(std::string_view key) const {
  const Value& found = value(key, false, "a text");
  if (found.kind != Kind::text) fail(name_, ": key ", key, ": want a text, found ", name_of(found.kind));
  Cursor cursor{file_.bytes(), name_, found.at};
  return cursor.take_text(key, std::numeric_limits<uint64_t>::max());
}

bool Gguf::boolean(std::string_view key) const {
  const Value& found = value(key, false, "a bool");
  if (found.kind != Kind::boolean) fail(name_, ": key ", key, ": want a bool, found ", name_of(found.kind));
  return integer_at(key, found.kind, found.at, 0, 1) != 0;
}

int64_t Gguf::integer(std::string_view key, int64_t min, int64_t max) const {
  const Value& found = value(key, false, "an integer");
  if (found.kind == Kind::boolean) fail(name_, ": key ", key, ": want an integer, found bool");
  return integer_at(key, found.kind, found.at, min, max);
}

int64_t Gguf::integer_at(std::string_view key, Kind kind, size_t at, int64_t min, int64_t max) const {
  const std::span<const std::byte> bytes = file_.bytes();
  const auto checked = [&](auto number) {
    if (std::cmp_less(number, min) || std::cmp_greater(number, max)) {
      fail(name_, ": key ", key, ": want ", min, " to ", max, ", found ", +number);
    }
    return static_cast<int64_t>(number);
  };
  switch (kind) {
    case Kind::u8:
    case Kind::boolean:
      return checked(load<uint8_t>(bytes, at));
    case Kind::i8:
      return checked(load<signed char>(bytes, at));
    case Kind::u16:
      return checked(load<uint16_t>(bytes, at));
    case Kind::i16:
      return checked(load<int16_t>(bytes, at));
    case Kind::u32:
      return checked(load<uint32_t>(bytes, at));
    case Kind::i32:
      return checked(load<int32_t>(bytes, at));
    case Kind::u64:
      return checked(load<uint64_t>(bytes, at));
    case Kind::i64:
      return checked(load<int64_t>(bytes, at));
    case Kind::f32:
    case Kind::f64:
    case Kind::text:
    case Kind::array:
      break;
  }
  fail(name_, ": key ", key, ": want an integer, found ", name_of(kind));
}

double Gguf::number(std::string_view key, double min, double max) const {
  const Value& found = value(key, false, "a number");
  double number = 0;
  if (found.kind == Kind::f32) {
    number = load<float>(file_.bytes(), found.at);
  } else if (found.kind == Kind::f64) {
    number = load<double>(file_.bytes(), found.at);
  } else if (bytes_of(found.kind) == 0 || found.kind == Kind::boolean) {
    fail(name_, ": key ", key, ": want a number, found ", name_of(found.kind));
  } else {
    constexpr int64_t kFar = std::numeric_limits<int64_t>::max();
    number = static_cast<double>(integer_at(key, found.kind, found.at, -kFar, kFar));
  }
  if (!(number >= min && number <= max)) fail(name_, ": key ", key, ": want ", min, " to ", max, ", found ", number);
  return number;
}

bool Gguf::is_array(std::string_view key) const {
  const auto found = values_.find(key);
  return found != values_.end() && found->second.is_array;
}

std::vector<std::string_view> Gguf::texts(std::string_view key) const {
  const Value& found = value(key, true, "an array of texts");
  if (found.kind != Kind::text) fail(name_, ": key ", key, ": want an array of texts, found of ", name_of(found.kind));
  Cursor cursor{file_.bytes(), name_, found.at};
  std::vector<std::string_view> texts;
  texts.reserve(found.count);  // open() has walked over that many
  for (uint64_t i = 0; i < found.count; ++i) {
    texts.push_back(cursor.take_text(key, std::numeric_limits<uint64_t>::max()));
  }
  return texts;
}

std::vector<int64_t> Gguf::integers(std::string_view key, int64_t min, int64_t max) const {
  const Value& found = value(key, true, "an array of integers");
  std::vector<int64_t> numbers;
  if (bytes_of(found.kind) == 0)
    fail(name_, ": key ", key, ": want an array of integers, found of ", name_of(found.kind));
  numbers.reserve(found.count);
  for (uint64_t i = 0; i < found.count; ++i) {
    numbers.push_back(integer_at(key, found.kind, found.at + i * bytes_of(found.kind), min, max));
  }
  return numbers;
}

std::string_view Gguf::encoded(std::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) fail(name_, ": key ", key, " is missing");
  return {reinterpret_cast<const char*>(file_.bytes().data()) + found->second.begin,
          found->second.end - found->second.begin};
}

std::vector<std::string> Gguf::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : values_) keys.push_back(key);
  return keys;
}

const GgufTensor* Gguf::find(std::string_view tensor) const {
  const auto found = tensor_index_.find(tensor);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace corvid::model
