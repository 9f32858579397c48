// The tensors of a model, bound by name with their exact shapes: where and as they lie in the file. Passes on the CPU
// use copies of them once there are some (weight_copies.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/exec.h"
#include "kernels/format.h"
#include "model/config.h"
#include "model/tensor_type.h"

namespace corvid::model {

struct TensorView {
  TensorType type = TensorType::f32;
  std::vector<int64_t> shape;       // outermost first
  std::span<const std::byte> data;  // tensor_bytes(type, shape) bytes
};
using TensorTable = std::map<std::string, TensorView, std::less<>>;  // by GGUF's tensor names

class WeightCopies;

// Const after bind(); shared by any number of threads. The memory behind the table must outlive it.
struct Weights {
  struct Layer {
    const float* attn_norm = nullptr;                              // [dim]
    kernels::Matrix q, k, v, attn_output;                          // [heads * head_dim, dim]; output transposed
    const float *q_norm = nullptr, *k_norm = nullptr;              // [head_dim], or [heads * head_dim]
    kernels::Matrix index_q, index_k;                              // [n_index_heads * index_dim, dim], [index_dim, dim]
    const float *index_q_norm = nullptr, *index_k_norm = nullptr;  // [index_dim]
    const float* ffn_norm = nullptr;                               // [dim]
    kernels::Matrix gate, up, down;                                // dense: [ffn, dim] twice, [dim, ffn]
    kernels::Matrix router;                                        // [n_experts, dim]
    const float* router_bias = nullptr;                            // [n_experts]; null in families without
    kernels::Matrix expert_gate, expert_up, expert_down;           // [n_experts, ffn, dim] twice, [n_experts, dim, ffn]
    kernels::Matrix shared_gate, shared_up, shared_down;           // as dense
    // In copies each gate may be the up beside it as well, which is null then (kernels/expert_ffn/expert_ffn.h).
  };
  // What comes after the layers.
  struct End {
    const float* norm = nullptr;  // [dim]
    kernels::Matrix output;       // [vocab, dim]
  };
  // The tensors of a layer, as files name and shape them.
  struct LayerMatrix {
    const char* name;
    kernels::Matrix Layer::*place;
    std::vector<int64_t> shape;
  };
  struct LayerVector {
    const char* name;
    const float* Layer::*place;
    int64_t size;
  };
  static std::vector<LayerMatrix> matrices_of(const Config& config, int64_t layer);
  static std::vector<LayerVector> vectors_of(const Config& config, int64_t layer);

  kernels::Matrix embedding;  // [vocab, dim]
  // Reads bytes of the embedding that lies in a file (MappedFile::read); null where it lies in memory.
  std::function<bool(const std::byte* from, std::span<std::byte> to)> read_embedding;
  std::vector<Layer> layers;
  const float* output_norm = nullptr;  // [dim]
  kernels::Matrix output;              // [vocab, dim]; the embedding again when they are tied
  // Of a model that is made up for a GPU: so many rows of a matrix are held, all experts' counted together, and the
  // others are the same again (RandomModel::load). 0: all are there.
  int64_t held_rows = 0;
  std::shared_ptr<WeightCopies> copies;  // null: there will be none

  // What a pass on the CPU uses now: copies, in the order of the kernels, or what lies in the file. The same numbers,
  // and the same bits of every product. To be held as long as it is used.
  std::shared_ptr<const Layer> layer(int64_t i) const;
  std::shared_ptr<const End> end() const;

  // Throws std::runtime_error naming `file`, the tensor, wanted and found; for a tensor of a layer that the family does
  // not know too. Other parts of a model (vision, prediction modules after the last layer) are ignored.
  static Weights bind(const Config& config, const TensorTable& tensors, const std::string& file);

 private:
  std::vector<kernels::Buffer> decoded_;  // vectors that the file does not hold as float32
};

}  // namespace corvid::model
