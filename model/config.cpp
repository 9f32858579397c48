#include "model/config.h"

#include <algorithm>

#include "model/error.h"
#include "model/json_file.h"
#include "model/json_keys.h"

namespace corvid::model {
namespace {

using nlohmann::json;

constexpr const Family* kFamilies[] = {&kMiniMaxM3, &kMiniMaxM2, &kQwen3Moe};

// The family by its model_type or class name; an unknown one is named.
const Family& family_of(const JsonKeys& keys) {
  std::string type, first_class;
  if (const auto found = keys.root().find("model_type"); found != keys.root().end() && found->is_string()) {
    type = found->get<std::string>();
  }
  const auto classes = keys.root().find("architectures");
  if (classes != keys.root().end() && classes->is_array() && !classes->empty() && classes->front().is_string()) {
    first_class = classes->front().get<std::string>();
  }
  std::string known;
  for (const Family* family : kFamilies) {
    if (type.starts_with(family->model_type) || first_class.starts_with(family->class_name)) return *family;
    known += concat(known.empty() ? "" : ", ", family->model_types);
  }
  if (type.empty()) type = first_class;
  fail(keys.file(), ": model_type: ", type.empty() ? "is missing" : "\"" + printable(type) + "\" is not supported",
       ", want ", known);
}

bool any_layer(const Config& c, bool (*holds)(const Config::Layer&)) {
  return std::any_of(c.layers.begin(), c.layers.end(), holds);
}

}  // namespace

std::span<const Family* const> all_families() { return kFamilies; }

bool Config::has_sparse_attention() const {
  return any_layer(*this, [](const Layer& l) { return l.sparse_attention; });
}
bool Config::has_moe() const {
  return any_layer(*this, [](const Layer& l) { return l.moe; });
}
bool Config::has_dense_ffn() const {
  return any_layer(*this, [](const Layer& l) { return !l.moe; });
}

// What no single number shows: how they fit together.
void Config::check(const std::string& file) const {
  const Config& c = *this;
  const auto want = [&](bool holds, const auto&... message) {
    if (!holds) fail(file, ": ", message...);
  };
  want(c.n_heads % c.n_kv_heads == 0, "heads: want a multiple of ", c.n_kv_heads, " key-value heads, found ",
       c.n_heads);
  want(c.rotary_dim % 2 == 0 && c.rotary_dim <= c.head_dim, "rotated dimensions: want an even number up to ",
       c.head_dim, ", found ", c.rotary_dim);
  if (c.has_sparse_attention()) {
    want(c.n_kv_heads % c.n_index_heads == 0, "index heads: want a divisor of ", c.n_kv_heads,
         " key-value heads, found ", c.n_index_heads);
    want(c.index_dim >= c.rotary_dim, "index head size: want at least the ", c.rotary_dim,
         " rotated dimensions, found ", c.index_dim);
    want(c.local_blocks <= c.top_blocks, "local blocks: want at most the ", c.top_blocks, " selected blocks, found ",
         c.local_blocks);
  }
  if (c.has_moe()) want(c.top_k <= c.n_experts, "experts per token: want at most ", c.n_experts, ", found ", c.top_k);
}

Config Config::from_json_file(const std::filesystem::path& path) {
  const json root = read_json_object(path);
  const JsonKeys keys(path.filename().string(), root);
  Config c;
  c.family = &family_of(keys);
  c.layers.resize(static_cast<size_t>(keys.integer({"num_hidden_layers"}, 1, kMaxLayers)));
  c.vocab_size = keys.integer({"vocab_size"}, 1, kMaxVocab);
  c.context_length = keys.integer({"max_position_embeddings"}, 1, kMaxContext);
  c.dim = keys.integer({"hidden_size"}, 1, kMaxWidth);

  c.n_heads = keys.integer({"num_attention_heads"}, 1, kMaxHeads);
  c.n_kv_heads = keys.integer({"num_key_value_heads"}, 1, kMaxHeads);
  c.head_dim = keys.integer_or({"head_dim"}, c.dim / c.n_heads, 1, kMaxHeadDim);
  if (keys.find({"rope_parameters.partial_rotary_factor", "partial_rotary_factor"})) {
    const double share = keys.number({"rope_parameters.partial_rotary_factor", "partial_rotary_factor"}, 0, 1);
    c.rotary_dim = static_cast<int64_t>(static_cast<double>(c.head_dim) * share);
  } else {
    c.rotary_dim = keys.integer_or({"rotary_dim"}, c.head_dim, 0, kMaxHeadDim);
  }
  if (c.rotary_dim < 2) fail(keys.file(), ": rotary_dim: want at least 2, found ", c.rotary_dim);
  c.rope_theta = keys.number({"rope_parameters.rope_theta", "rope_theta"}, 1, 1e12);
  c.norm_eps = static_cast<float>(keys.number({"rms_norm_eps"}, 1e-12, 1));
  keys.only({"rope_parameters.rope_type"}, {"default"});
  keys.only({"rope_scaling.rope_type", "rope_scaling.type"}, {"default"});
  keys.only({"use_qk_norm"}, {true});
  keys.only({"attention_output_gate"}, {false});
  if (keys.find({"sliding_window"})) keys.only({"use_sliding_window"}, {false});

  c.family->read_json(keys, c);
  if (c.has_moe()) {
    c.n_experts = keys.integer({"num_local_experts", "num_experts"}, 1, kMaxExperts);
    c.top_k = keys.integer({"num_experts_per_tok"}, 1, kMaxExperts);
  }

  const auto top_tied = root.find("tie_word_embeddings");
  c.tied_output = keys.boolean_or({"tie_word_embeddings"}, false) || (top_tied != root.end() && *top_tied == true);
  const auto token = [&](const char* key) -> std::optional<Token> {
    const json* value = keys.find({key});
    if (value && value->is_array()) value = value->empty() ? nullptr : &value->front();
    if (!value || !value->is_number_integer() || *value < 0 || *value >= c.vocab_size) return std::nullopt;
    return value->get<Token>();
  };
  c.bos = token("bos_token_id");
  c.eos = token("eos_token_id");
  c.check(keys.file());
  return c;
}

}  // namespace corvid::model
