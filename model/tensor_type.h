// The number formats that tensors have, with ggml's type numbers; f8_e4m3 is in no GGUF file, and has none of those.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kernels/format.h"

namespace corvid::model {

enum class TensorType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q8_1 = 9,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  q8_k = 15,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  bf16 = 30,
  mxfp4 = 39,
  f8_e4m3 = 0x10000,  // blocks of a Hugging Face checkpoint as kernels/format.h keeps them in memory
};

// A row is stored as whole groups of `group` numbers in `bytes` bytes each.
struct TensorLayout {
  std::string_view name;  // lower case, as --type spells it
  int64_t group;
  int64_t bytes;
};

// Nothing for a type number that is not in the list above, or that of f8_e4m3.
std::optional<TensorLayout> tensor_layout(uint32_t type_number);
TensorLayout tensor_layout(TensorType type);

// For messages: "iq4_nl (20)", also of ggml's types that are not in the list.
std::string tensor_type_text(uint32_t type_number);

// How the kernels know it; nothing for a type that they do not compute with.
std::optional<kernels::Format> kernel_format(TensorType type);

// Bytes of a tensor, or nothing when a dimension is below 1, the row is no whole number of groups, or the size
// overflows. `shape` is outermost first: its last entry is the row.
std::optional<int64_t> tensor_bytes(TensorType type, std::span<const int64_t> shape);

}  // namespace corvid::model
