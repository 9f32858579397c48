#include "model/weights.h"

#include <functional>
#include <optional>
#include <set>

#include "model/error.h"
#include "model/mix.h"
#include "model/weight_copies.h"

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

std::vector<Weights::LayerMatrix> Weights::matrices_of(const Config& c, int64_t layer) {
  const int64_t q_rows = c.n_heads * c.head_dim, kv_rows = c.n_kv_heads * c.head_dim;
  const Config::Layer& kind = c.layers[static_cast<size_t>(layer)];
  std::vector<LayerMatrix> all{{"attn_q", &Layer::q, {q_rows, c.dim}},
                               {"attn_k", &Layer::k, {kv_rows, c.dim}},
                               {"attn_v", &Layer::v, {kv_rows, c.dim}},
                               {"attn_output", &Layer::attn_output, {c.dim, q_rows}}};
  if (kind.sparse_attention) {
    all.push_back({"indexer.q_proj", &Layer::index_q, {c.n_index_heads * c.index_dim, c.dim}});
    all.push_back({"indexer.k_proj", &Layer::index_k, {c.index_dim, c.dim}});
  }
  if (!kind.moe) {
    all.push_back({"ffn_gate", &Layer::gate, {c.dense_ffn, c.dim}});
    all.push_back({"ffn_up", &Layer::up, {c.dense_ffn, c.dim}});
    all.push_back({"ffn_down", &Layer::down, {c.dim, c.dense_ffn}});
    return all;
  }
  all.push_back({"ffn_gate_inp", &Layer::router, {c.n_experts, c.dim}});
  all.push_back({"ffn_gate_exps", &Layer::expert_gate, {c.n_experts, c.expert_ffn, c.dim}});
  all.push_back({"ffn_up_exps", &Layer::expert_up, {c.n_experts, c.expert_ffn, c.dim}});
  all.push_back({"ffn_down_exps", &Layer::expert_down, {c.n_experts, c.dim, c.expert_ffn}});
  if (c.shared_ffn == 0) return all;
  all.push_back({"ffn_gate_shexp", &Layer::shared_gate, {c.shared_ffn, c.dim}});
  all.push_back({"ffn_up_shexp", &Layer::shared_up, {c.shared_ffn, c.dim}});
  all.push_back({"ffn_down_shexp", &Layer::shared_down, {c.dim, c.shared_ffn}});
  return all;
}

std::vector<Weights::LayerVector> Weights::vectors_of(const Config& c, int64_t layer) {
  const Config::Layer& kind = c.layers[static_cast<size_t>(layer)];
  const bool whole = c.family->whole_qk_norms;
  std::vector<LayerVector> all{{"attn_norm.weight", &Layer::attn_norm, c.dim},
                               {"attn_q_norm.weight", &Layer::q_norm, whole ? c.n_heads * c.head_dim : c.head_dim},
                               {"attn_k_norm.weight", &Layer::k_norm, whole ? c.n_kv_heads * c.head_dim : c.head_dim},
                               {"ffn_norm.weight", &Layer::ffn_norm, c.dim}};
  if (kind.sparse_attention) {
    all.push_back({"indexer.q_norm.weight", &Layer::index_q_norm, c.index_dim});
    all.push_back({"indexer.k_norm.weight", &Layer::index_k_norm, c.index_dim});
  }
  if (kind.moe && c.family->routing_bias) all.push_back({"exp_probs_b.bias", &Layer::router_bias, c.n_experts});
  return all;
}

Weights Weights::bind(const Config& c, const TensorTable& tensors, const std::string& file) {
  Weights w;
  Binder bind(tensors, file, w.decoded_);
  const int64_t q_rows = c.n_heads * c.head_dim, kv_rows = c.n_kv_heads * c.head_dim;
  w.embedding = bind.matrix("token_embd.weight", {c.vocab_size, c.dim});
  w.output_norm = bind.vector("output_norm.weight", c.dim);
  w.output = c.tied_output ? w.embedding : bind.matrix("output.weight", {c.vocab_size, c.dim});
  for (int64_t i = 0; i < c.n_layers(); ++i) {
    const auto name = [&](const std::string& part) { return concat("blk.", i, ".", part); };
    Layer& l = w.layers.emplace_back();
    const bool together = bind.has(name("attn_qkv.weight"));  // the three below each other, as some converters do
    if (together) {
      l.q = bind.matrix(name("attn_qkv.weight"), {q_rows + 2 * kv_rows, c.dim});
      l.k = rows_from(l.q, q_rows, c.dim);
      l.v = rows_from(l.q, q_rows + kv_rows, c.dim);
    }
    for (const LayerMatrix& m : matrices_of(c, i))
      if ((l.*m.place).data == nullptr) l.*m.place = bind.matrix(name(m.name + std::string(".weight")), m.shape);
    for (const LayerVector& v : vectors_of(c, i)) l.*v.place = bind.vector(name(v.name), v.size);
  }
  bind.refuse_the_rest(c);
  return w;
}

std::shared_ptr<const Weights::Layer> Weights::layer(int64_t i) const {
  if (copies != nullptr) return copies->layer(i);
  return {std::shared_ptr<void>(), &layers[static_cast<size_t>(i)]};  // owns nothing
}

std::shared_ptr<const Weights::End> Weights::end() const {
  return copies != nullptr ? copies->end() : std::make_shared<const End>(End{output_norm, output});
}

}  // namespace corvid::model
