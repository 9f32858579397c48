// Config's keys in GGUF: llama.cpp's, read and written.
#include <algorithm>
#include <limits>

#include "model/config.h"
#include "model/error.h"
#include "model/gguf.h"

namespace corvid::model {
namespace {

// llama.cpp's numbers for the router's function.
int64_t gating_number(kernels::Gating gating) { return gating == kernels::Gating::softmax ? 1 : 2; }

const Family& family_of(const Gguf& file) {
  const std::string_view name = file.text("general.architecture");
  std::string known;
  for (const Family* family : all_families()) {
    if (family->architecture == name) return *family;
    known += concat(known.empty() ? "" : ", ", family->architecture);
  }
  fail(file.name(), ": general.architecture: \"", printable(name), "\" is not supported, want ", known);
}

// The keys of one architecture: "minimax-m3.block_count" is block_count here.
class Keys {
 public:
  Keys(const Gguf& file, std::string_view architecture) : file_(file), prefix_(concat(architecture, ".")) {}

  std::string full(const char* name) const { return prefix_ + name; }
  bool has(const char* name) const { return file_.has(full(name)); }
  int64_t integer(const char* name, int64_t min, int64_t max) const { return file_.integer(full(name), min, max); }
  int64_t integer_or(const char* name, int64_t fallback, int64_t min, int64_t max) const {
    return has(name) ? integer(name, min, max) : fallback;
  }
  double number(const char* name, double min, double max) const { return file_.number(full(name), min, max); }
  bool boolean_or(const char* name, bool fallback) const { return has(name) ? file_.boolean(full(name)) : fallback; }
  // Head counts may be a list with an entry per layer; in these families all are the same.
  int64_t heads(const char* name) const {
    if (!file_.is_array(full(name))) return integer(name, 1, kMaxHeads);
    const std::vector<int64_t> counts = file_.integers(full(name), 1, kMaxHeads);
    if (counts.empty() || std::any_of(counts.begin(), counts.end(), [&](int64_t n) { return n != counts[0]; })) {
      fail(file_.name(), ": key ", full(name), ": want the same number for every layer");
    }
    return counts[0];
  }
  // Options that change what is computed, known in one setting alone.
  void only_zero(const char* name) const {
    if (!has(name)) return;
    if (const double value = number(name, -1e30, 1e30); value != 0) {
      fail(file_.name(), ": key ", full(name), ": ", value, " is not supported, want 0");
    }
  }

 private:
  const Gguf& file_;
  std::string prefix_;
};

void read_layers(const Gguf& file, const Keys& keys, Config& c) {
  c.layers.resize(static_cast<size_t>(keys.integer("block_count", 1, kMaxLayers)));
  const int64_t n_dense = keys.integer_or("leading_dense_block_count", 0, 0, c.n_layers());
  for (int64_t i = n_dense; i < c.n_layers(); ++i) {
    c.layers[static_cast<size_t>(i)] = {c.family->sparse_attention, true};
  }
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
}

void read_vocabulary(const Gguf& file, const Keys& keys, Config& c) {
  if (keys.has("vocab_size")) {
    c.vocab_size = keys.integer("vocab_size", 1, kMaxVocab);
  } else if (const GgufTensor* embedding = file.find("token_embd.weight")) {
    c.vocab_size = embedding->shape[0];
  } else if (file.has("tokenizer.ggml.tokens")) {  // the first of several files may hold no tensor
    c.vocab_size = static_cast<int64_t>(file.texts("tokenizer.ggml.tokens").size());
  } else {
    fail(file.name(), ": key ", keys.full("vocab_size"), " is missing");
  }
  if (c.vocab_size < 1 || c.vocab_size > kMaxVocab) {
    fail(file.name(), ": vocabulary: want 1 to ", kMaxVocab, " tokens, found ", c.vocab_size);
  }
  const auto token = [&](const char* name) -> std::optional<Token> {
    if (!file.has(name)) return std::nullopt;
    const int64_t id = file.integer(name, std::numeric_limits<int32_t>::min(), std::numeric_limits<uint32_t>::max());
    return id >= 0 && id < c.vocab_size ? std::optional(static_cast<Token>(id)) : std::nullopt;
  };
  c.bos = token("tokenizer.ggml.bos_token_id");
  c.eos = token("tokenizer.ggml.eos_token_id");
}

void read_experts(const Gguf& file, const Keys& keys, Config& c) {
  c.n_experts = keys.integer("expert_count", 1, kMaxExperts);
  c.top_k = keys.integer("expert_used_count", 1, kMaxExperts);
  c.expert_ffn = keys.integer("expert_feed_forward_length", 1, kMaxWidth);
  const int64_t n_shared = keys.integer_or("expert_shared_count", 0, 0, 64);
  c.shared_ffn = keys.integer_or("expert_shared_feed_forward_length", n_shared * c.expert_ffn, 0, 64 * kMaxWidth);
  if (n_shared == 0) c.shared_ffn = 0;
  if (keys.has("expert_weights_scale")) {
    // 0 is how some files say "none".
    const auto scale = static_cast<float>(keys.number("expert_weights_scale", 0, 1e6));
    if (scale != 0) c.routed_scale = scale;
  }
  const int64_t gating = gating_number(c.family->gating);
  if (const int64_t found = keys.integer_or("expert_gating_func", gating, 0, 100); found != gating) {
    fail(file.name(), ": key ", keys.full("expert_gating_func"), ": ", found, " is not supported, want ", gating);
  }
  c.normalised_weights = keys.boolean_or("expert_weights_norm", true);
  keys.only_zero("expert_group_used_count");
}

// How many layers at the front have a dense feed-forward.
size_t leading_dense(const Config& c) {
  const auto moe = [](const Config::Layer& layer) { return layer.moe; };
  return static_cast<size_t>(std::find_if(c.layers.begin(), c.layers.end(), moe) - c.layers.begin());
}

}  // namespace

Config Config::from_gguf(const Gguf& file) {
  Config c;
  c.family = &family_of(file);
  if (file.has("general.name")) c.name = file.text("general.name");
  const Keys keys(file, c.architecture());
  read_layers(file, keys, c);
  read_vocabulary(file, keys, c);
  c.context_length = keys.integer("context_length", 1, kMaxContext);
  c.dim = keys.integer("embedding_length", 1, kMaxWidth);
  c.n_heads = keys.heads("attention.head_count");
  c.n_kv_heads = keys.has("attention.head_count_kv") ? keys.heads("attention.head_count_kv") : c.n_heads;
  c.head_dim = keys.integer_or("attention.key_length", c.dim / c.n_heads, 1, kMaxHeadDim);
  if (c.head_dim < 1) fail(file.name(), ": key ", keys.full("attention.key_length"), " is missing");
  const int64_t values = keys.integer_or("attention.value_length", c.head_dim, 1, kMaxHeadDim);
  if (values != c.head_dim) {
    fail(file.name(), ": key ", keys.full("attention.value_length"), ": want ", c.head_dim, " as for keys, found ",
         values);
  }
  c.rotary_dim = keys.integer_or("rope.dimension_count", c.head_dim, 2, kMaxHeadDim);
  c.rope_theta = keys.number("rope.freq_base", 1, 1e12);
  c.norm_eps = static_cast<float>(keys.number("attention.layer_norm_rms_epsilon", 1e-12, 1));
  const std::string scaling = keys.full("rope.scaling.type");
  if (file.has(scaling) && file.text(scaling) != "none") {
    fail(file.name(), ": key ", scaling, ": \"", printable(file.text(scaling)), "\" is not supported, want none");
  }
  keys.only_zero("attention.sliding_window");
  if (c.has_sparse_attention()) {
    c.n_index_heads = keys.integer("attention.indexer.head_count", 1, kMaxHeads);
    c.index_dim = keys.integer("attention.indexer.key_length", 1, kMaxHeadDim);
    c.top_blocks = keys.integer("attention.indexer.top_k", 1, kMaxContext);
    c.block = keys.integer("attention.indexer.block_size", 1, kMaxBlock);
    c.local_blocks = keys.integer_or("attention.indexer.local_blocks", 1, 1, kMaxContext);
  }
  if (c.has_dense_ffn()) c.dense_ffn = keys.integer("feed_forward_length", 1, kMaxWidth);
  if (c.has_moe()) read_experts(file, keys, c);
  const auto constant = [&](const char* name, float fallback, double min, double max) {
    return file.has(name) ? static_cast<float>(file.number(name, min, max)) : fallback;
  };
  c.swiglu_alpha = constant(kSwigluAlphaKey, kSwigluAlpha, 0, 1e6);
  c.swiglu_limit = constant(kSwigluLimitKey, kSwigluLimit, 1e-6, 1e30);
  c.tied_output = file.find("output.weight") == nullptr;
  c.check(file.name());
  return c;
}

void Config::to_gguf(GgufWriter& out, const Note& note) const {
  const auto key = [&](const char* key_name) { return concat(architecture(), ".", key_name); };
  const auto u32 = [&](const char* key_name, int64_t value) {
    out.set_u32(key(key_name), static_cast<uint32_t>(value));
  };
  const auto others_fail = [&](const char* what) {
    if (note) note(concat(what, ": other programs than corvid will not read this file rightly"));
  };
  out.set_text("general.architecture", architecture());
  out.set_text("general.name", name);
  u32("vocab_size", vocab_size);
  u32("context_length", context_length);
  u32("embedding_length", dim);
  u32("block_count", n_layers());
  if (family->sparse_attention) u32("leading_dense_block_count", static_cast<int64_t>(leading_dense(*this)));
  u32("feed_forward_length", has_dense_ffn() ? dense_ffn : expert_ffn);
  u32("attention.head_count", n_heads);
  u32("attention.head_count_kv", n_kv_heads);
  u32("attention.key_length", head_dim);
  u32("attention.value_length", head_dim);
  out.set_f32(key("attention.layer_norm_rms_epsilon"), norm_eps);
  u32("rope.dimension_count", rotary_dim);
  out.set_f32(key("rope.freq_base"), static_cast<float>(rope_theta));
  if (has_moe()) {
    u32("expert_count", n_experts);
    u32("expert_used_count", top_k);
    u32("expert_feed_forward_length", expert_ffn);
    if (family->shared_experts) {
      // Readers that do not know the shared width take it for this many times a routed expert's.
      const bool multiple = shared_ffn % expert_ffn == 0;
      u32("expert_shared_count", multiple ? shared_ffn / expert_ffn : 1);
    }
    if (shared_ffn > 0) u32("expert_shared_feed_forward_length", shared_ffn);
    out.set_f32(key("expert_weights_scale"), routed_scale);
    out.set_bool(key("expert_weights_norm"), normalised_weights);
    u32("expert_gating_func", gating_number(family->gating));
    if (!normalised_weights) others_fail("weights of the chosen experts that are not normalised");
  }
  if (has_sparse_attention()) {
    u32("attention.indexer.head_count", n_index_heads);
    u32("attention.indexer.key_length", index_dim);
    u32("attention.indexer.top_k", top_blocks);
    u32("attention.indexer.block_size", block);
    u32("attention.indexer.local_blocks", local_blocks);
  }

  std::vector<bool> sparse, moe;
  bool usual = family->sparse_attention || leading_dense(*this) == 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    sparse.push_back(layers[i].sparse_attention);
    moe.push_back(layers[i].moe);
    usual = usual && moe[i] == (i >= leading_dense(*this)) && sparse[i] == (moe[i] && family->sparse_attention);
  }
  if (!usual) {
    out.set_bools(kSparseLayersKey, sparse);
    out.set_bools(kMoeLayersKey, moe);
    others_fail("layers in an unusual order");
  }
  if (family->activation == kernels::Activation::Kind::swigluoai &&
      (swiglu_alpha != kSwigluAlpha || swiglu_limit != kSwigluLimit)) {
    out.set_f32(kSwigluAlphaKey, swiglu_alpha);
    out.set_f32(kSwigluLimitKey, swiglu_limit);
    others_fail("unusual swigluoai constants");
  }
}

}  // namespace corvid::model
