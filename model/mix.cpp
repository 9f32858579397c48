#include "model/mix.h"

#include <charconv>
#include <stdexcept>

#include "model/error.h"

namespace corvid::model {
namespace {

struct Row {
  std::string_view name;
  uint32_t file_type;
  TensorType experts, others, output, more;
};

constexpr Row kRows[] = {
    {"f32", 0, TensorType::f32, TensorType::f32, TensorType::f32, TensorType::f32},
    {"f16", 1, TensorType::f16, TensorType::f16, TensorType::f16, TensorType::f16},
    {"bf16", 32, TensorType::bf16, TensorType::bf16, TensorType::bf16, TensorType::bf16},
    {"q8_0", 7, TensorType::q8_0, TensorType::q8_0, TensorType::q8_0, TensorType::q8_0},
    {"q4_0", 2, TensorType::q4_0, TensorType::q4_0, TensorType::q6_k, TensorType::q4_0},
    {"q4_k_m", 15, TensorType::q4_k, TensorType::q4_k, TensorType::q6_k, TensorType::q6_k},
    {"q4_k_s", 14, TensorType::q4_k, TensorType::q4_k, TensorType::q6_k, TensorType::q4_k},
    {"q5_k_m", 17, TensorType::q5_k, TensorType::q5_k, TensorType::q6_k, TensorType::q6_k},
    {"q5_k_s", 16, TensorType::q5_k, TensorType::q5_k, TensorType::q6_k, TensorType::q5_k},
    {"q6_k", 18, TensorType::q6_k, TensorType::q6_k, TensorType::q6_k, TensorType::q6_k},
    {"mxfp4", 38, TensorType::mxfp4, TensorType::q8_0, TensorType::q8_0, TensorType::q8_0},
};

// llama.cpp's choice: the first and the last eighth, and every third layer between.
bool gets_more_bits(int64_t layer, int64_t n_layers) {
  const int64_t eighth = n_layers / 8;
  return layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace

std::optional<int64_t> layer_of(std::string_view tensor) {
  int64_t layer = 0;
  if (!tensor.starts_with("blk.")) return std::nullopt;
  const char* begin = tensor.data() + 4;
  const auto [end, error] = std::from_chars(begin, tensor.data() + tensor.size(), layer);
  return error == std::errc() && end != begin ? std::optional(layer) : std::nullopt;
}

bool is_kept_f32(std::string_view tensor, std::span<const int64_t> shape) {
  return shape.size() == 1 || contains(tensor, ".indexer.") || contains(tensor, ".ffn_gate_inp.");
}

Mix::Mix(TensorType type) : name(tensor_layout(type).name), experts(type), others(type), output(type), more(type) {
  file_type = 0;
  for (const Row& row : kRows) {
    if (row.experts == type) {
      file_type = row.file_type;
      break;
    }
  }
}

Mix Mix::parse(std::string_view text) {
  const std::string_view wanted = text == "q4_k" ? "q4_k_m" : text == "q5_k" ? "q5_k_m" : text;
  std::string known;
  for (const Row& row : kRows) {
    if (row.name != wanted) {
      known += concat(known.empty() ? "" : ", ", row.name);
      continue;
    }
    Mix mix(row.experts);
    mix.name = row.name;
    mix.file_type = row.file_type;
    mix.others = row.others;
    mix.output = row.output;
    mix.more = row.more;
    return mix;
  }
  throw std::invalid_argument(concat("type: want one of ", known, "; found ", printable(text)));
}

Mix::Choice Mix::choose(std::string_view tensor, std::span<const int64_t> shape, int64_t n_layers,
                        bool is_output) const {
  if (is_kept_f32(tensor, shape)) return {TensorType::f32, true};
  const bool is_expert = contains(tensor, "_exps.");
  TensorType type = is_output ? output : is_expert ? experts : others;
  if (const std::optional<int64_t> layer = layer_of(tensor); layer && gets_more_bits(*layer, n_layers)) {
    // mxfp4 keeps its experts: there the other tensors have more bits already.
    const bool felt = contains(tensor, ".attn_v.") || contains(tensor, ".ffn_down");
    if (felt && experts == others) type = more;
  }
  if (shape.back() % tensor_layout(type).group == 0) return {type, true};
  const bool fits_q8 = shape.back() % tensor_layout(TensorType::q8_0).group == 0;
  return {fits_q8 ? TensorType::q8_0 : TensorType::f16, false};
}

}  // namespace corvid::model
