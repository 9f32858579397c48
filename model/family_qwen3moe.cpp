// Qwen3-MoE: full attention, norms head by head, a softmax router; a layer may have a dense feed-forward instead of
// experts.
#include <algorithm>
#include <set>

#include "model/config.h"
#include "model/error.h"
#include "model/json_keys.h"

namespace corvid::model {
namespace {

using nlohmann::json;

void read_json(const JsonKeys& keys, Config& c) {
  std::set<int64_t> dense;
  if (const json* layers = keys.find({"mlp_only_layers"})) {
    const auto is_layer = [&](const json& i) { return i.is_number_integer() && i >= 0 && i < c.n_layers(); };
    if (!layers->is_array() || !std::all_of(layers->begin(), layers->end(), is_layer)) {
      fail(keys.file(), ": mlp_only_layers: want a list of layers below ", c.n_layers(), ", found ",
           printable(layers->dump()));
    }
    for (const json& i : *layers) dense.insert(i.get<int64_t>());
  }
  const int64_t step = keys.integer_or({"decoder_sparse_step"}, 1, 1, kMaxLayers);
  for (int64_t i = 0; i < c.n_layers(); ++i) {
    c.layers[static_cast<size_t>(i)] = {false, (i + 1) % step == 0 && !dense.contains(i)};
  }
  keys.only({"hidden_act"}, {"silu"});
  keys.only({"attention_bias"}, {false});
  keys.only({"use_sliding_window"}, {false});
  if (c.has_dense_ffn()) c.dense_ffn = keys.integer({"intermediate_size"}, 1, kMaxWidth);
  if (c.has_moe()) c.expert_ffn = keys.integer({"moe_intermediate_size"}, 1, kMaxWidth);
  c.normalised_weights = keys.boolean_or({"norm_topk_prob"}, false);  // as the reference takes it when it is absent
  c.routing_bias = false;
}

}  // namespace

const Family kQwen3Moe = {.architecture = "qwen3moe",
                          .model_types = "qwen3_moe",
                          .model_type = "qwen3_moe",
                          .class_name = "Qwen3Moe",
                          .tied_output = true,
                          .gating = kernels::Gating::softmax,
                          .read_json = read_json};

}  // namespace corvid::model
