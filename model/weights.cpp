#include "model/weights.h"

#include <functional>
#include <optional>
#include <set>

#include "model/error.h"
#include "model/mix.h"

namespace corvid::model {
namespace {

using kernels::Matrix;

// Finds tensors and checks them; every complaint goes through here.
class Binder {
 public:
  Binder(const TensorTable& tensors, const std::string& file, std::vector<kernels::Buffer>& decoded)
      : tensors_(tensors), file_(file), decoded_(decoded) {}

  bool has(const std::string& name) const { return tensors_.find(name) != tensors_.end(); }

  Matrix matrix(const std::string& name, std::vector<int64_t> shape) {
    const TensorView& tensor = find(name, shape);
    return {tensor.data.data(), *kernel_format(tensor.type)};
  }
  // Norms and biases, as float32.
  const float* vector(const std::string& name, int64_t size) {
    const TensorView& tensor = find(name, {size});
    if (tensor.type == TensorType::f32 && reinterpret_cast<uintptr_t>(tensor.data.data()) % alignof(float) == 0) {
      return reinterpret_cast<const float*>(tensor.data.data());
    }
    kernels::Buffer& copy = decoded_.emplace_back(size * int64_t{sizeof(float)});
    kernels::decode_row(*kernel_format(tensor.type), tensor.data.data(), size, copy.as());
    return copy.as();
  }

  // A tensor of the language model that nothing above asked for would change the result if it were left out.
  void refuse_the_rest(const Config& config) const {
    for (const auto& [name, tensor] : tensors_) {
      if (used_.contains(name)) continue;
      const std::optional<int64_t> layer = layer_of(name);
      if ((layer && *layer < config.n_layers()) || name.starts_with("rope_") || name.starts_with("output")) {
        fail(file_, ": tensor ", printable(name), ": not known to ", config.architecture());
      }
    }
  }

 private:
  const TensorView& find(const std::string& name, const std::vector<int64_t>& shape) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail(file_, ": tensor ", name, " is missing: want ", shape_text(shape));
    const TensorView& tensor = found->second;
    if (tensor.shape != shape) {
      fail(file_, ": tensor ", name, ": want ", shape_text(shape), ", found ", shape_text(tensor.shape));
    }
    if (!kernel_format(tensor.type)) {
      fail(file_, ": tensor ", name, ": type ", tensor_layout(tensor.type).name, " is not supported");
    }
    used_.insert(name);
    return tensor;
  }

  const TensorTable& tensors_;
  const std::string& file_;
  std::vector<kernels::Buffer>& decoded_;
  std::set<std::string, std::less<>> used_;
};

// Rows [first, ...) of a matrix with rows of `columns` numbers.
Matrix rows_from(const Matrix& all, int64_t first, int64_t columns) {
  return {static_cast<const std::byte*>(all.data) + first * kernels::row_bytes(all.format, columns), all.format};
}

}  // namespace

Weights Weights::bind(const Config& c, const TensorTable& tensors, const std::string& file) {
  Weights w;
  Binder bind(tensors, file, w.decoded_);
  const int64_t q_rows = c.n_heads * c.head_dim, kv_rows = c.n_kv_heads * c.head_dim;
  w.embedding = bind.matrix("token_embd.weight", {c.vocab_size, c.dim});
  w.output_norm = bind.vector("output_norm.weight", c.dim);
  w.output = c.tied_output ? w.embedding : bind.matrix("output.weight", {c.vocab_size, c.dim});
  for (int64_t i = 0; i < c.n_layers(); ++i) {
    const auto name = [&](const char* part) { return concat("blk.", i, ".", part); };
    Layer& l = w.layers.emplace_back();
    l.attn_norm = bind.vector(name("attn_norm.weight"), c.dim);
    if (bind.has(name("attn_qkv.weight"))) {  // the three below each other, as some converters write them
      l.q = bind.matrix(name("attn_qkv.weight"), {q_rows + 2 * kv_rows, c.dim});
      l.k = rows_from(l.q, q_rows, c.dim);
      l.v = rows_from(l.q, q_rows + kv_rows, c.dim);
    } else {
      l.q = bind.matrix(name("attn_q.weight"), {q_rows, c.dim});
      l.k = bind.matrix(name("attn_k.weight"), {kv_rows, c.dim});
      l.v = bind.matrix(name("attn_v.weight"), {kv_rows, c.dim});
    }
    l.attn_output = bind.matrix(name("attn_output.weight"), {c.dim, q_rows});
    l.q_norm = bind.vector(name("attn_q_norm.weight"), c.family->whole_qk_norms ? q_rows : c.head_dim);
    l.k_norm = bind.vector(name("attn_k_norm.weight"), c.family->whole_qk_norms ? kv_rows : c.head_dim);
    if (c.layers[static_cast<size_t>(i)].sparse_attention) {
      l.index_q = bind.matrix(name("indexer.q_proj.weight"), {c.n_index_heads * c.index_dim, c.dim});
      l.index_k = bind.matrix(name("indexer.k_proj.weight"), {c.index_dim, c.dim});
      l.index_q_norm = bind.vector(name("indexer.q_norm.weight"), c.index_dim);
      l.index_k_norm = bind.vector(name("indexer.k_norm.weight"), c.index_dim);
    }
    l.ffn_norm = bind.vector(name("ffn_norm.weight"), c.dim);
    if (!c.layers[static_cast<size_t>(i)].moe) {
      l.gate = bind.matrix(name("ffn_gate.weight"), {c.dense_ffn, c.dim});
      l.up = bind.matrix(name("ffn_up.weight"), {c.dense_ffn, c.dim});
      l.down = bind.matrix(name("ffn_down.weight"), {c.dim, c.dense_ffn});
      continue;
    }
    l.router = bind.matrix(name("ffn_gate_inp.weight"), {c.n_experts, c.dim});
    if (c.family->routing_bias) l.router_bias = bind.vector(name("exp_probs_b.bias"), c.n_experts);
    l.expert_gate = bind.matrix(name("ffn_gate_exps.weight"), {c.n_experts, c.expert_ffn, c.dim});
    l.expert_up = bind.matrix(name("ffn_up_exps.weight"), {c.n_experts, c.expert_ffn, c.dim});
    l.expert_down = bind.matrix(name("ffn_down_exps.weight"), {c.n_experts, c.dim, c.expert_ffn});
    if (c.shared_ffn == 0) continue;
    l.shared_gate = bind.matrix(name("ffn_gate_shexp.weight"), {c.shared_ffn, c.dim});
    l.shared_up = bind.matrix(name("ffn_up_shexp.weight"), {c.shared_ffn, c.dim});
    l.shared_down = bind.matrix(name("ffn_down_shexp.weight"), {c.dim, c.shared_ffn});
  }
  bind.refuse_the_rest(c);
  return w;
}

}  // namespace corvid::model
