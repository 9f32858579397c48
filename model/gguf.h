// GGUF version 3, the model file of llama.cpp and of corvid: read by mmap, and written.
//
//   "GGUF" | version u32 | number of tensors u64 | number of keys u64
//   keys:    name | type u32 | value              (texts: length u64, bytes; arrays: element type u32, count u64, ...)
//   tensors: name | n dims u32 | dims u64, fastest first | type u32 | offset u64 into the data
//   padding to the alignment, then the data; each tensor begins at a multiple of the alignment
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/mapped_file.h"
#include "model/tensor_type.h"

namespace corvid::model {

struct GgufTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<int64_t> shape;  // outermost first: [rows, columns]; the file has them the other way round
  std::span<const std::byte> data;
};

// An open file. Const after open(); any number of threads may read it. Views live as long as this object.
class Gguf {
 public:
  // Every count, length, offset and size is checked against the file before it is used. Throws std::system_error when
  // the file can't be read, std::runtime_error naming file, thing, wanted and found when its content is wrong.
  static Gguf open(const std::filesystem::path& file);

  // As MappedFile's.
  bool read(const std::byte* from, std::span<std::byte> to) const noexcept { return file_.read(from, to); }
  void forget(std::span<const std::byte> bytes) const noexcept { file_.forget(bytes); }
  bool has_byte(const std::byte* at) const noexcept {
    return at >= file_.bytes().data() && at < file_.bytes().data() + file_.bytes().size();
  }

  const std::string& name() const { return name_; }  // the file's name, for messages
  // Everything before the tensor data: changes with any key, tensor name, shape or offset.
  std::span<const std::byte> header() const { return file_.bytes().first(header_bytes_); }
  int64_t file_bytes() const { return static_cast<int64_t>(file_.bytes().size()); }

  // The accessors throw std::runtime_error when the key is missing, has another type, or is out of range.
  bool has(std::string_view key) const { return values_.find(key) != values_.end(); }
  std::string_view text(std::string_view key) const;
  bool boolean(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t min, int64_t max) const;  // any integer type
  double number(std::string_view key, double min, double max) const;      // any float or integer type; never NaN
  bool is_array(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key, int64_t min, int64_t max) const;  // any integer type, or bool
  std::vector<std::string> keys() const;
  std::string_view encoded(std::string_view key) const;  // type and value as they stand in the file

  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in the order of the file
  const GgufTensor* find(std::string_view tensor) const;               // null when there is none of this name

 private:
  enum class Kind : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };
  struct Value {
    Kind kind;  // of an array: of its elements
    bool is_array;
    uint64_t count;             // 1 for a single value
    size_t at;                  // where the (first) value stands in the file
    size_t begin = 0, end = 0;  // of type and value together
  };
  struct Cursor;
  explicit Gguf(const std::filesystem::path& file);
  Value read_value(Cursor& cursor, std::string_view key) const;
  void read_tensors(Cursor& cursor, uint64_t count);
  const Value& value(std::string_view key, bool array, std::string_view wanted) const;
  int64_t integer_at(std::string_view key, Kind kind, size_t at, int64_t min, int64_t max) const;
  static size_t bytes_of(Kind kind);
  static std::string_view name_of(Kind kind);

  MappedFile file_;
  std::string name_;
  size_t header_bytes_ = 0;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

// Collects keys and tensors, then writes them in one go. Tensor data is asked for when it is written, so that a file
// may be larger than memory.
class GgufWriter {
 public:
  using Sink = std::function<void(std::span<const std::byte>)>;  // takes the next bytes of a tensor
  using Source = std::function<void(const Sink&)>;               // gives all bytes of a tensor, in order

  // A key is written where it was first set; setting it again replaces its value.
  void set_u32(const std::string& key, uint32_t value);
  void set_f32(const std::string& key, float value);
  void set_bool(const std::string& key, bool value);
  void set_text(const std::string& key, std::string_view value);
  void set_texts(const std::string& key, std::span<const std::string> values);
  void set_i32s(const std::string& key, std::span<const int32_t> values);
  void set_bools(const std::string& key, const std::vector<bool>& values);
  void set_encoded(const std::string& key, std::string_view encoded);  // from Gguf::encoded

  // `shape` is outermost first, 1 to 4 dimensions. Throws std::invalid_argument when the name is taken or the shape
  // does not fit the type.
  void add(const std::string& name, TensorType type, std::vector<int64_t> shape, Source source);

  // Atomic: the file appears complete or not at all. Throws std::system_error naming the file (no space, no
  // permission), std::logic_error when a source gave another number of bytes than its tensor has. Returns the size.
  int64_t write(const std::filesystem::path& file) const;

 private:
  struct Entry {
    std::string key;
    std::string bytes;  // type and value as they stand in the file
  };
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<int64_t> shape;
    int64_t bytes;
    Source source;
  };
  void set(const std::string& key, std::string bytes);
  std::string header() const;

  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
};

}  // namespace corvid::model
