#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <utility>

#include "model/error.h"
#include "model/gguf.h"
#include "model/json_file.h"

namespace corvid::model {
namespace {

using nlohmann::json;

// Far above any model of this family, and far below what could overflow a product of two.
constexpr int64_t kMaxLayers = 1000;
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxContext = int64_t{1} << 31;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxBlock = 4096;  // a page of the KV cache is made whole, so it must stay small

// What no single number shows: how they fit together. `file` names the file.
void check(const Config& c, const std::string& file) {
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

// Looks up config.json's keys, of which several spellings may stand for one thing.
class JsonKeys {
 public:
  JsonKeys(std::string file, const json& root) : file_(std::move(file)) {
    const auto text = root.find("text_config");
    text_ = text != root.end() && text->is_object() ? &*text : &root;
    root_ = &root;
  }

  // The value of the first spelling that is there and not null. "a.b" is key b of the object a.
  const json* find(std::initializer_list<const char*> spellings) const {
    for (const std::string spelling : spellings) {
      const size_t dot = spelling.find('.');
      const json* object = text_;
      if (dot != std::string::npos) {
        const auto inner = text_->find(spelling.substr(0, dot));
        if (inner == text_->end() || !inner->is_object()) continue;
        object = &*inner;
      }
      const auto value = object->find(dot == std::string::npos ? spelling : spelling.substr(dot + 1));
      if (value != object->end() && !value->is_null()) return &*value;
    }
    return nullptr;
  }
  int64_t integer(std::initializer_list<const char*> spellings, int64_t min, int64_t max) const {
    const json& value = required(spellings);
    const bool fits = value.is_number_unsigned() ? std::cmp_less_equal(value.get<uint64_t>(), max)
                                                 : value.is_number_integer() && value.get<int64_t>() <= max;
    if (!fits || value.get<int64_t>() < min)
      wrong(*spellings.begin(), concat("an integer from ", min, " to ", max), value);
    return value.get<int64_t>();
  }
  int64_t integer_or(std::initializer_list<const char*> spellings, int64_t fallback, int64_t min, int64_t max) const {
    return find(spellings) ? integer(spellings, min, max) : fallback;
  }
  double number(std::initializer_list<const char*> spellings, double min, double max) const {
    const json& value = required(spellings);
    if (!value.is_number() || !(value.get<double>() >= min && value.get<double>() <= max)) {
      wrong(*spellings.begin(), concat("a number from ", min, " to ", max), value);
    }
    return value.get<double>();
  }
  double number_or(std::initializer_list<const char*> spellings, double fallback, double min, double max) const {
    return find(spellings) ? number(spellings, min, max) : fallback;
  }
  bool boolean_or(std::initializer_list<const char*> spellings, bool fallback) const {
    const json* value = find(spellings);
    if (value && !value->is_boolean()) wrong(*spellings.begin(), "true or false", *value);
    return value ? value->get<bool>() : fallback;
  }
  // Some options are only known in one setting: any other is an error. Absent is fine.
  void only(std::initializer_list<const char*> spellings, std::initializer_list<json> supported) const {
    const json* value = find(spellings);
    if (!value || std::find(supported.begin(), supported.end(), *value) != supported.end()) return;
    fail(file_, ": ", *spellings.begin(), ": ", printable(value->dump()), " is not supported, want ",
         supported.begin()->dump());
  }
  // One flag per layer, from a list of names or of numbers.
  std::vector<bool> flags(const char* key, const json& list, int64_t n_layers, const char* off, const char* on) const {
    if (!list.is_array() || std::cmp_not_equal(list.size(), n_layers)) {
      fail(file_, ": ", key, ": want a list of ", n_layers, " entries, one per layer, found ",
           list.is_array() ? concat(list.size(), " entries") : std::string(list.type_name()));
    }
    std::vector<bool> flags;
    for (const json& entry : list) {
      const bool is_off = entry == off || entry == 0 || entry == false,
                 is_on = entry == on || entry == 1 || entry == true;
      if (!is_off && !is_on) {
        fail(file_, ": ", key, ": want ", off, " (0) or ", on, " (1), found ", printable(entry.dump()));
      }
      flags.push_back(is_on);
    }
    return flags;
  }
  const std::string& file() const { return file_; }
  const json& root() const { return *root_; }

 private:
  const json& required(std::initializer_list<const char*> spellings) const {
    if (const json* value = find(spellings)) return *value;
    std::string names;
    for (const char* spelling : spellings) names += (names.empty() ? "" : " or ") + std::string(spelling);
    fail(file_, ": key ", names, " is missing");
  }
  [[noreturn]] void wrong(const char* key, const std::string& wanted, const json& found) const {
    fail(file_, ": ", key, ": want ", wanted, ", found ", printable(found.dump()));
  }

  std::string file_;
  const json* root_;
  const json* text_;
};

// The family by its model_type or class name; an unknown one is named.
void require_minimax_m3(const JsonKeys& keys) {
  std::string found;
  const auto type = keys.root().find("model_type");
  if (type != keys.root().end() && type->is_string()) found = type->get<std::string>();
  const auto classes = keys.root().find("architectures");
  std::string first_class;
  if (classes != keys.root().end() && classes->is_array() && !classes->empty() && classes->front().is_string()) {
    first_class = classes->front().get<std::string>();
  }
  if (found.starts_with("minimax_m3") || first_class.starts_with("MiniMaxM3")) return;
  if (found.empty()) found = first_class;
  fail(keys.file(), ": model_type: ", found.empty() ? "is missing" : "\"" + printable(found) + "\" is not supported",
       ", want minimax_m3_vl or minimax_m3_vl_text");
}

void read_json_layers(const JsonKeys& keys, Config& c) {
  const int64_t n_layers = keys.integer({"num_hidden_layers"}, 1, kMaxLayers);
  c.layers.resize(static_cast<size_t>(n_layers));
  std::vector<bool> moe, sparse(c.layers.size(), false);
  if (const json* types = keys.find({"mlp_layer_types"})) {
    moe = keys.flags("mlp_layer_types", *types, n_layers, "dense", "sparse");
  } else if (const json* frequency = keys.find({"moe_layer_freq"})) {
    moe = keys.flags("moe_layer_freq", *frequency, n_layers, "dense", "sparse");
  } else {
    fail(keys.file(), ": key mlp_layer_types or moe_layer_freq is missing");
  }
  if (const json* types = keys.find({"layer_types"})) {
    sparse = keys.flags("layer_types", *types, n_layers, "full_attention", "minimax_m3_sparse");
  } else if (!keys.boolean_or({"sparse_attention_config.use_sparse_attention"}, true)) {
    // every layer attends to all positions
  } else if (const json* frequency = keys.find({"sparse_attention_config.sparse_attention_freq"})) {
    sparse = keys.flags("sparse_attention_freq", *frequency, n_layers, "full_attention", "minimax_m3_sparse");
  } else {
    fail(keys.file(), ": key layer_types or sparse_attention_config.sparse_attention_freq is missing");
  }
  for (size_t i = 0; i < c.layers.size(); ++i) c.layers[i] = {sparse[i], moe[i]};
  if (const json* disabled = keys.find({"sparse_attention_config.sparse_disable_index_value"})) {
    const std::vector<bool> off = keys.flags("sparse_disable_index_value", *disabled, n_layers, "0", "1");
    for (size_t i = 0; i < off.size(); ++i) {
      if (sparse[i] && !off[i])
        fail(keys.file(), ": sparse_disable_index_value: layer ", i, ": index values are not supported");
    }
  }
}

bool any_layer(const Config& c, bool (*holds)(const Config::Layer&)) {
  return std::any_of(c.layers.begin(), c.layers.end(), holds);
}

}  // namespace

bool Config::has_sparse_attention() const {
  return any_layer(*this, [](const Layer& l) { return l.sparse_attention; });
}
bool Config::has_moe() const {
  return any_layer(*this, [](const Layer& l) { return l.moe; });
}
bool Config::has_dense_ffn() const {
  return any_layer(*this, [](const Layer& l) { return !l.moe; });
}

Config Config::from_json_file(const std::filesystem::path& path) {
  const json root = read_json_object(path);
  const JsonKeys keys(path.filename().string(), root);
  require_minimax_m3(keys);
  Config c;
  c.architecture = "minimax-m3";
  read_json_layers(keys, c);
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
  keys.only({"rope_parameters.rope_type", "rope_scaling.rope_type", "rope_scaling.type"}, {"default"});
  keys.only({"use_qk_norm"}, {true});
  keys.only({"qk_norm_type"}, {"per_head"});
  keys.only({"attention_output_gate"}, {false});
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
    c.n_experts = keys.integer({"num_local_experts", "num_experts"}, 1, kMaxExperts);
    c.top_k = keys.integer({"num_experts_per_tok"}, 1, kMaxExperts);
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
  check(c, keys.file());
  return c;
}

Config Config::from_gguf(const Gguf& file) {
  Config c;
  c.architecture = file.text("general.architecture");
  if (c.architecture != "minimax-m3") {
    fail(file.name(), ": general.architecture: \"", printable(c.architecture), "\" is not supported, want minimax-m3");
  }
  if (file.has("general.name")) c.name = file.text("general.name");
  const auto key = [&](const char* name) { return c.architecture + "." + name; };
  const auto integer = [&](const char* name, int64_t min, int64_t max) { return file.integer(key(name), min, max); };
  const auto integer_or = [&](const char* name, int64_t fallback, int64_t min, int64_t max) {
    return file.has(key(name)) ? integer(name, min, max) : fallback;
  };
  // Head counts may be a list with an entry per layer; in this family all are the same.
  const auto heads = [&](const char* name) {
    if (!file.is_array(key(name))) return integer(name, 1, kMaxHeads);
    const std::vector<int64_t> counts = file.integers(key(name), 1, kMaxHeads);
    if (counts.empty() || std::any_of(counts.begin(), counts.end(), [&](int64_t n) { return n != counts[0]; })) {
      fail(file.name(), ": key ", key(name), ": want the same number for every layer");
    }
    return counts[0];
  };

  c.layers.resize(static_cast<size_t>(integer("block_count", 1, kMaxLayers)));
  const int64_t n_dense = integer_or("leading_dense_block_count", 0, 0, c.n_layers());
  for (int64_t i = n_dense; i < c.n_layers(); ++i) c.layers[static_cast<size_t>(i)] = {true, true};
  const auto read_flags = [&](const char* name, bool Config::Layer::*flag) {
    if (!file.has(name)) return;
    const std::vector<int64_t> flags = file.integers(name, 0, 1);
    if (flags.size() != c.layers.size()) {
      fail(file.name(), ": key ", name, ": want ", c.layers.size(), " entries, found ", flags.size());
    }
    for (size_t i = 0; i < flags.size(); ++i) c.layers[i].*flag = flags[i] != 0;
  };
  read_flags(kSparseLayersKey, &Config::Layer::sparse_attention);
  read_flags(kMoeLayersKey, &Config::Layer::moe);

  if (file.has(key("vocab_size"))) {
    c.vocab_size = integer("vocab_size", 1, kMaxVocab);
  } else if (const GgufTensor* embedding = file.find("token_embd.weight")) {
    c.vocab_size = embedding->shape[0];
  } else {
    fail(file.name(), ": key ", key("vocab_size"), " is missing");
  }
  if (c.vocab_size > kMaxVocab) fail(file.name(), ": vocabulary: want at most ", kMaxVocab, ", found ", c.vocab_size);
  c.context_length = integer("context_length", 1, kMaxContext);
  c.dim = integer("embedding_length", 1, kMaxWidth);
  c.n_heads = heads("attention.head_count");
  c.n_kv_heads = file.has(key("attention.head_count_kv")) ? heads("attention.head_count_kv") : c.n_heads;
  c.head_dim = integer_or("attention.key_length", c.dim / c.n_heads, 1, kMaxHeadDim);
  if (c.head_dim < 1) fail(file.name(), ": key ", key("attention.key_length"), " is missing");
  if (const int64_t values = integer_or("attention.value_length", c.head_dim, 1, kMaxHeadDim); values != c.head_dim) {
    fail(file.name(), ": key ", key("attention.value_length"), ": want ", c.head_dim, " as for keys, found ", values);
  }
  c.rotary_dim = integer_or("rope.dimension_count", c.head_dim, 2, kMaxHeadDim);
  c.rope_theta = file.number(key("rope.freq_base"), 1, 1e12);
  c.norm_eps = static_cast<float>(file.number(key("attention.layer_norm_rms_epsilon"), 1e-12, 1));
  if (file.has(key("rope.scaling.type")) && file.text(key("rope.scaling.type")) != "none") {
    fail(file.name(), ": key ", key("rope.scaling.type"), ": \"", printable(file.text(key("rope.scaling.type"))),
         "\" is not supported, want none");
  }
  if (c.has_sparse_attention()) {
    c.n_index_heads = integer("attention.indexer.head_count", 1, kMaxHeads);
    c.index_dim = integer("attention.indexer.key_length", 1, kMaxHeadDim);
    c.top_blocks = integer("attention.indexer.top_k", 1, kMaxContext);
    c.block = integer("attention.indexer.block_size", 1, kMaxBlock);
    c.local_blocks = integer_or("attention.indexer.local_blocks", 1, 1, kMaxContext);
  }
  if (c.has_dense_ffn()) c.dense_ffn = integer("feed_forward_length", 1, kMaxWidth);
  if (c.has_moe()) {
    c.n_experts = integer("expert_count", 1, kMaxExperts);
    c.top_k = integer("expert_used_count", 1, kMaxExperts);
    c.expert_ffn = integer("expert_feed_forward_length", 1, kMaxWidth);
    const int64_t n_shared = integer_or("expert_shared_count", 0, 0, 64);
    c.shared_ffn = integer_or("expert_shared_feed_forward_length", n_shared * c.expert_ffn, 0, 64 * kMaxWidth);
    if (n_shared == 0) c.shared_ffn = 0;
    if (file.has(key("expert_weights_scale"))) {
      c.routed_scale = static_cast<float>(file.number(key("expert_weights_scale"), 1e-6, 1e6));
    }
    integer_or("expert_gating_func", 2, 2, 2);  // sigmoid
    if (file.has(key("expert_weights_norm")) && !file.boolean(key("expert_weights_norm"))) {
      fail(file.name(), ": key ", key("expert_weights_norm"), ": false is not supported, want true");
    }
  }
  const auto constant = [&](const char* name, float fallback, double min, double max) {
    return file.has(name) ? static_cast<float>(file.number(name, min, max)) : fallback;
  };
  c.swiglu_alpha = constant(kSwigluAlphaKey, kSwigluAlpha, 0, 1e6);
  c.swiglu_limit = constant(kSwigluLimitKey, kSwigluLimit, 1e-6, 1e30);
  c.tied_output = file.find("output.weight") == nullptr;
  const auto token = [&](const char* name) -> std::optional<Token> {
    if (!file.has(name)) return std::nullopt;
    const int64_t id = file.integer(name, std::numeric_limits<int32_t>::min(), std::numeric_limits<uint32_t>::max());
    return id >= 0 && id < c.vocab_size ? std::optional(static_cast<Token>(id)) : std::nullopt;
  };
  c.bos = token("tokenizer.ggml.bos_token_id");
  c.eos = token("tokenizer.ggml.eos_token_id");
  check(c, file.name());
  return c;
}

}  // namespace corvid::model
