// MiniMax-M2: full attention with norms over the whole width of q and k, experts in every layer, a sigmoid router with
// a bias for the choice.
#include "model/config.h"
#include "model/error.h"
#include "model/json_keys.h"

namespace corvid::model {
namespace {

void read_json(const JsonKeys& keys, Config& c) {
  for (Config::Layer& layer : c.layers) layer = {false, true};
  if (const nlohmann::json* types = keys.find({"attn_type_list"})) {
    const std::vector<bool> full =
        keys.flags("attn_type_list", *types, c.n_layers(), "linear_attention", "full_attention");
    for (size_t i = 0; i < full.size(); ++i) {
      if (!full[i]) fail(keys.file(), ": attn_type_list: layer ", i, ": linear attention is not supported");
    }
  }
  keys.only({"qk_norm_type"}, {"per_layer"});
  keys.only({"hidden_act"}, {"silu"});
  keys.only({"scoring_func"}, {"sigmoid"});
  keys.only({"shared_intermediate_size", "n_shared_experts"}, {0});
  c.expert_ffn = keys.integer({"intermediate_size"}, 1, kMaxWidth);
  c.routed_scale = static_cast<float>(keys.number_or({"routed_scaling_factor"}, 1, 1e-6, 1e6));
  c.routing_bias = keys.boolean_or({"use_routing_bias"}, true);
}

}  // namespace

const Family kMiniMaxM2 = {.architecture = "minimax-m2",
                           .model_types = "minimax_m2",
                           .model_type = "minimax_m2",
                           .class_name = "MiniMaxM2",
                           .whole_qk_norms = true,
                           .routing_bias = true,
                           .read_json = read_json};

}  // namespace corvid::model
