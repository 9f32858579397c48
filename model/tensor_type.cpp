#include "model/tensor_type.h"

#include <stdexcept>
#include <utility>

namespace corvid::model {

std::optional<TensorLayout> tensor_layout(uint32_t type_number) {
  switch (static_cast<TensorType>(type_number)) {
    case TensorType::f32:
      return TensorLayout{"f32", 1, 4};
    case TensorType::f16:
      return TensorLayout{"f16", 1, 2};
    case TensorType::q4_0:
      return TensorLayout{"q4_0", 32, 18};
    case TensorType::q4_1:
      return TensorLayout{"q4_1", 32, 20};
    case TensorType::q5_0:
      return TensorLayout{"q5_0", 32, 22};
    case TensorType::q5_1:
      return TensorLayout{"q5_1", 32, 24};
    case TensorType::q8_0:
      return TensorLayout{"q8_0", 32, 34};
    case TensorType::q8_1:
      return TensorLayout{"q8_1", 32, 36};
    case TensorType::q2_k:
      return TensorLayout{"q2_k", 256, 84};
    case TensorType::q3_k:
      return TensorLayout{"q3_k", 256, 110};
    case TensorType::q4_k:
      return TensorLayout{"q4_k", 256, 144};
    case TensorType::q5_k:
      return TensorLayout{"q5_k", 256, 176};
    case TensorType::q6_k:
      return TensorLayout{"q6_k", 256, 210};
    case TensorType::q8_k:
      return TensorLayout{"q8_k", 256, 292};
    case TensorType::i8:
      return TensorLayout{"i8", 1, 1};
    case TensorType::i16:
      return TensorLayout{"i16", 1, 2};
    case TensorType::i32:
      return TensorLayout{"i32", 1, 4};
    case TensorType::i64:
      return TensorLayout{"i64", 1, 8};
    case TensorType::f64:
      return TensorLayout{"f64", 1, 8};
    case TensorType::bf16:
      return TensorLayout{"bf16", 1, 2};
    case TensorType::mxfp4:
      return TensorLayout{"mxfp4", 32, 17};
    case TensorType::f8_e4m3:
      break;
  }
  return std::nullopt;
}

TensorLayout tensor_layout(TensorType type) {
  if (type == TensorType::f8_e4m3) return {"f8_e4m3", kernels::kF8Block, sizeof(kernels::BlockF8)};
  const std::optional<TensorLayout> layout = tensor_layout(static_cast<uint32_t>(type));
  if (!layout) throw std::invalid_argument("tensor type: not one of the enumerators");
  return *layout;
}

std::string tensor_type_text(uint32_t type_number) {
  constexpr std::pair<uint32_t, std::string_view> kOthers[] = {
      {16, "iq2_xxs"}, {17, "iq2_xs"}, {18, "iq3_xxs"}, {19, "iq1_s"}, {20, "iq4_nl"}, {21, "iq3_s"},
      {22, "iq2_s"},   {23, "iq4_xs"}, {29, "iq1_m"},   {34, "tq1_0"}, {35, "tq2_0"},  {40, "nvfp4"}};
  const std::string number = std::to_string(type_number);
  if (const auto layout = tensor_layout(type_number)) return std::string(layout->name) + " (" + number + ")";
  for (const auto& [other, name] : kOthers) {
    if (other == type_number) return std::string(name) + " (" + number + ")";
  }
  return number;
}

std::optional<kernels::Format> kernel_format(TensorType type) {
  using kernels::Format;
  switch (type) {
    case TensorType::f32:
      return Format::f32;
    case TensorType::f16:
      return Format::f16;
    case TensorType::bf16:
      return Format::bf16;
    case TensorType::q8_0:
      return Format::q8_0;
    case TensorType::q4_0:
      return Format::q4_0;
    case TensorType::mxfp4:
      return Format::mxfp4;
    case TensorType::q4_k:
      return Format::q4_k;
    case TensorType::q5_k:
      return Format::q5_k;
    case TensorType::q6_k:
      return Format::q6_k;
    case TensorType::f8_e4m3:
      return Format::f8_e4m3;
    default:
      return std::nullopt;
  }
}

std::optional<int64_t> tensor_bytes(TensorType type, std::span<const int64_t> shape) {
  const TensorLayout layout = tensor_layout(type);
  if (shape.empty() || shape.back() < 1 || shape.back() % layout.group != 0) return std::nullopt;
  int64_t bytes = shape.back() / layout.group;
  if (__builtin_mul_overflow(bytes, layout.bytes, &bytes)) return std::nullopt;
  for (const int64_t dim : shape.first(shape.size() - 1)) {
    if (dim < 1 || __builtin_mul_overflow(bytes, dim, &bytes)) return std::nullopt;
  }
  return bytes;
}

}  // namespace corvid::model
