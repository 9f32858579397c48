// What the tensors of a file are stored as: one type for all matrices, or one of llama.cpp's mixes, which give more
// bits to the tensors whose rounding is felt most.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "model/tensor_type.h"

namespace corvid::model {

// Norms, biases, the router and the index branch are never rounded: they are small, and decide what is computed.
bool is_kept_f32(std::string_view tensor, std::span<const int64_t> shape);

// The layer of "blk.7.attn_v.weight"; nothing for a tensor of no layer.
std::optional<int64_t> layer_of(std::string_view tensor);

struct Mix {
  Mix(TensorType type);  // all matrices of one type

  // f32, f16, bf16, q8_0, q4_0, q4_k_s, q4_k_m (or q4_k), q5_k_s, q5_k_m (or q5_k), q6_k or mxfp4, as --type spells it.
  // Throws std::invalid_argument for any other.
  static Mix parse(std::string_view text);

  // What a tensor, by its name in GGUF, becomes. float32 when it is kept; otherwise the type of its role, or q8_0 or
  // f16 where its rows are no whole number of that type's groups: then `fits` is false. `is_output`: the output matrix,
  // also when it is the embedding.
  struct Choice {
    TensorType type;
    bool fits;
  };
  Choice choose(std::string_view tensor, std::span<const int64_t> shape, int64_t n_layers, bool is_output) const;

  std::string name;
  uint32_t file_type;  // llama.cpp's number for it
  TensorType experts;  // of the routed experts
  TensorType others;   // of what has no role below
  TensorType output;
  TensorType
      more;  // of attn_v and ffn_down in the layers that get more bits: about half of them, first and last included
};

}  // namespace corvid::model
