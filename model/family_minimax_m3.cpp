// MiniMax-M3: block-sparse attention, swigluoai, leading dense layers, shared experts. Two spellings of its config.json
// are known: the flat one and the released checkpoint's.
#include "model/config.h"
#include "model/error.h"
#include "model/json_keys.h"

namespace corvid::model {
namespace {

using nlohmann::json;

void read_layers(const JsonKeys& keys, Config& c) {
  std::vector<bool> moe, sparse(c.layers.size(), false);
  if (const json* types = keys.find({"mlp_layer_types"})) {
    moe = keys.flags("mlp_layer_types", *types, c.n_layers(), "dense", "sparse");
  } else if (const json* frequency = keys.find({"moe_layer_freq"})) {
    moe = keys.flags("moe_layer_freq", *frequency, c.n_layers(), "dense", "sparse");
  } else {
    fail(keys.file(), ": key mlp_layer_types or moe_layer_freq is missing");
  }
  if (const json* types = keys.find({"layer_types"})) {
    sparse = keys.flags("layer_types", *types, c.n_layers(), "full_attention", "minimax_m3_sparse");
  } else if (!keys.boolean_or({"sparse_attention_config.use_sparse_attention"}, true)) {
    // every layer attends to all positions
  } else if (const json* frequency = keys.find({"sparse_attention_config.sparse_attention_freq"})) {
    sparse = keys.flags("sparse_attention_freq", *frequency, c.n_layers(), "full_attention", "minimax_m3_sparse");
  } else {
    fail(keys.file(), ": key layer_types or sparse_attention_config.sparse_attention_freq is missing");
  }
  for (size_t i = 0; i < c.layers.size(); ++i) c.layers[i] = {sparse[i], moe[i]};
  if (const json* disabled = keys.find({"sparse_attention_config.sparse_disable_index_value"})) {
    const std::vector<bool> off = keys.flags("sparse_disable_index_value", *disabled, c.n_layers(), "0", "1");
    for (size_t i = 0; i < off.size(); ++i) {
      if (sparse[i] && !off[i])
        fail(keys.file(), ": sparse_disable_index_value: layer ", i, ": index values are not supported");
    }
  }
}

void read_json(const JsonKeys& keys, Config& c) {
  read_layers(keys, c);
  keys.only({"qk_norm_type"}, {"per_head"});
  keys.only({"use_gemma_norm"}, {true});
  if (c.has_sparse_attention()) {
    c.n_index_heads = keys.integer({"index_n_heads", "sparse_attention_config.sparse_num_index_heads"}, 1, kMaxHeads);
    c.index_dim = keys.integer({"index_head_dim", "sparse_attention_config.sparse_index_dim"}, 1, kMaxHeadDim);
    c.block = keys.integer({"index_block_size", "sparse_attention_config.sparse_block_size"}, 1, kMaxBlock);
    c.top_blocks = keys.integer({"index_topk_blocks", "sparse_attention_config.sparse_topk_blocks"}, 1, kMaxContext);
    c.local_blocks =
        keys.integer_or({"index_local_blocks", "sparse_attention_config.sparse_local_block"}, 1, 1, kMaxContext);
    keys.only({"sparse_attention_config.sparse_init_block"}, {0});
    keys.only({"sparse_attention_config.sparse_score_type"}, {"max"});
  }
  if (c.has_dense_ffn()) c.dense_ffn = keys.integer({"dense_intermediate_size"}, 1, kMaxWidth);
  if (c.has_moe()) {
    c.expert_ffn = keys.integer({"intermediate_size"}, 1, kMaxWidth);
    const int64_t n_shared = keys.integer_or({"n_shared_experts"}, 1, 0, 64);
    c.shared_ffn = n_shared == 0 ? 0 : n_shared * keys.integer({"shared_intermediate_size"}, 1, kMaxWidth);
    c.routed_scale = static_cast<float>(keys.number_or({"routed_scaling_factor"}, 1, 1e-6, 1e6));
    c.routing_bias = keys.boolean_or({"use_routing_bias"}, true);
    keys.only({"scoring_func"}, {"sigmoid"});
  }
  // hidden_act says "silu" in one spelling, though the activation is swigluoai in both: only its constants count.
  keys.only({"hidden_act"}, {"swigluoai", "silu"});
  c.swiglu_alpha = static_cast<float>(keys.number_or({"swiglu_alpha"}, kSwigluAlpha, 0, 1e6));
  c.swiglu_limit = static_cast<float>(keys.number_or({"swiglu_limit"}, kSwigluLimit, 1e-6, 1e30));
  keys.only({"swiglu_beta"}, {1.0});
}

}  // namespace

const Family kMiniMaxM3 = {.architecture = "minimax-m3",
                           .model_types = "minimax_m3_vl or minimax_m3_vl_text",
                           .model_type = "minimax_m3",
                           .class_name = "MiniMaxM3",
                           .one_plus_norms = true,
                           .sparse_attention = true,
                           .routing_bias = true,
                           .shared_experts = true,
                           .activation = kernels::Activation::Kind::swigluoai,
                           .read_json = read_json};

}  // namespace corvid::model
