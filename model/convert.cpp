#include "model/convert.h"

#include <algorithm>
#include <memory>

#include "model/error.h"
#include "model/gguf.h"
#include "model/json_file.h"
#include "model/tokenizer.h"

namespace corvid::model {
namespace {

constexpr uint32_t kGatingSigmoid = 2;
constexpr uint32_t kQuantizationVersion = 2;
constexpr int32_t kUnusedToken = 5;

// llama.cpp's number for "mostly this type".
uint32_t file_type(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return 0;
    case TensorType::f16:
      return 1;
    case TensorType::q8_0:
      return 7;
    case TensorType::bf16:
      return 32;
    default:
      throw std::invalid_argument(concat("type ", tensor_layout(type).name, ": can't be written yet"));
  }
}

// How many layers at the front have a dense feed-forward.
size_t leading_dense(const Config& c) {
  const auto moe = [](const Config::Layer& layer) { return layer.moe; };
  return static_cast<size_t>(std::find_if(c.layers.begin(), c.layers.end(), moe) - c.layers.begin());
}

void write_config(GgufWriter& out, const Config& c, TensorType type, const Note& note) {
  const auto key = [&](const char* name) { return c.architecture + "." + name; };
  const auto u32 = [&](const char* name, int64_t value) { out.set_u32(key(name), static_cast<uint32_t>(value)); };
  out.set_text("general.architecture", c.architecture);
  out.set_text("general.name", c.name);
  out.set_u32("general.file_type", file_type(type));
  if (type == TensorType::q8_0) out.set_u32("general.quantization_version", kQuantizationVersion);
  u32("vocab_size", c.vocab_size);
  u32("context_length", c.context_length);
  u32("embedding_length", c.dim);
  u32("block_count", c.n_layers());
  u32("leading_dense_block_count", static_cast<int64_t>(leading_dense(c)));
  u32("feed_forward_length", c.has_dense_ffn() ? c.dense_ffn : c.expert_ffn);
  u32("attention.head_count", c.n_heads);
  u32("attention.head_count_kv", c.n_kv_heads);
  u32("attention.key_length", c.head_dim);
  u32("attention.value_length", c.head_dim);
  out.set_f32(key("attention.layer_norm_rms_epsilon"), c.norm_eps);
  u32("rope.dimension_count", c.rotary_dim);
  out.set_f32(key("rope.freq_base"), static_cast<float>(c.rope_theta));
  if (c.has_moe()) {
    u32("expert_count", c.n_experts);
    u32("expert_used_count", c.top_k);
    u32("expert_feed_forward_length", c.expert_ffn);
    // Readers that do not know the shared width take it for this many times a routed expert's.
    const bool multiple = c.shared_ffn % c.expert_ffn == 0;
    u32("expert_shared_count", multiple ? c.shared_ffn / c.expert_ffn : 1);
    if (c.shared_ffn > 0) u32("expert_shared_feed_forward_length", c.shared_ffn);
    out.set_f32(key("expert_weights_scale"), c.routed_scale);
    out.set_bool(key("expert_weights_norm"), true);
    out.set_u32(key("expert_gating_func"), kGatingSigmoid);
  }
  if (c.has_sparse_attention()) {
    u32("attention.indexer.head_count", c.n_index_heads);
    u32("attention.indexer.key_length", c.index_dim);
    u32("attention.indexer.top_k", c.top_blocks);
    u32("attention.indexer.block_size", c.block);
    u32("attention.indexer.local_blocks", c.local_blocks);
  }

  std::vector<bool> sparse, moe;
  bool usual = true;
  for (size_t i = 0; i < c.layers.size(); ++i) {
    sparse.push_back(c.layers[i].sparse_attention);
    moe.push_back(c.layers[i].moe);
    usual = usual && sparse[i] == (i >= leading_dense(c)) && moe[i] == sparse[i];
  }
  if (!usual) {
    out.set_bools(kSparseLayersKey, sparse);
    out.set_bools(kMoeLayersKey, moe);
    if (note) note("layers in an unusual order: other programs than corvid will not read this file rightly");
  }
  if (c.swiglu_alpha != kSwigluAlpha || c.swiglu_limit != kSwigluLimit) {
    out.set_f32(kSwigluAlphaKey, c.swiglu_alpha);
    out.set_f32(kSwigluLimitKey, c.swiglu_limit);
    if (note) note("unusual swigluoai constants: other programs than corvid will not read this file rightly");
  }
}

void write_tokenizer(GgufWriter& out, const Config& c, const std::filesystem::path& folder, const Note& note) {
  if (c.bos) out.set_u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(*c.bos));
  if (c.eos) out.set_u32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(*c.eos));
  const std::filesystem::path file = folder / "tokenizer.json";
  if (!std::filesystem::exists(file)) {
    out.set_text("tokenizer.ggml.model", "none");
    if (note) note("no tokenizer.json: the file will have no tokenizer");
    return;
  }
  Tokenizer::Tables tables = Tokenizer::from_json_file(file).tables();
  if (std::cmp_greater(tables.tokens.size(), c.vocab_size)) {
    fail("tokenizer.json: want at most ", c.vocab_size, " tokens as in config.json, found ", tables.tokens.size());
  }
  // The embedding may have more rows than there are tokens; llama.cpp wants a name for each.
  while (std::cmp_less(tables.tokens.size(), c.vocab_size)) {
    tables.tokens.push_back(concat("[PAD", tables.tokens.size(), "]"));
    tables.types.push_back(kUnusedToken);
  }
  out.set_text("tokenizer.ggml.model", "gpt2");
  out.set_text("tokenizer.ggml.pre", tables.pre == PreTokenizer::o200k ? "minimax-m2" : "qwen2");
  out.set_texts("tokenizer.ggml.tokens", tables.tokens);
  out.set_i32s("tokenizer.ggml.token_type", tables.types);
  out.set_texts("tokenizer.ggml.merges", tables.merges);
  if (const auto text = folder / "chat_template.jinja"; std::filesystem::exists(text)) {
    out.set_text("tokenizer.chat_template", read_whole(text));
  }
}

}  // namespace

TensorType parse_weight_type(std::string_view text) {
  for (const TensorType type : {TensorType::f32, TensorType::f16, TensorType::bf16, TensorType::q8_0}) {
    if (text == tensor_layout(type).name) return type;
  }
  for (const TensorType type : {TensorType::q4_0, TensorType::q4_k, TensorType::q6_k}) {
    if (text == tensor_layout(type).name) {
      throw std::invalid_argument(concat("type ", text, ": not supported yet, want f32, f16, bf16 or q8_0"));
    }
  }
  throw std::invalid_argument(concat("type: want f32, f16, bf16 or q8_0, found ", printable(text)));
}

int64_t convert(const std::filesystem::path& folder, const std::filesystem::path& file, TensorType type,
                const Note& note) {
  const Checkpoint checkpoint = Checkpoint::open(folder, note);
  GgufWriter out;
  write_config(out, checkpoint.config(), type, note);
  write_tokenizer(out, checkpoint.config(), folder, note);
  for (const PlannedTensor& tensor : checkpoint.tensors()) {
    const TensorType stored = tensor.stored_as(type);
    if (!tensor.keep_f32 && stored != type && note) {
      note(concat(tensor.name, ": rows of ", tensor.shape.back(), " do not fit ", tensor_layout(type).name,
                  ", stored as ", tensor_layout(stored).name));
    }
    out.add(tensor.name, stored, tensor.shape,
            [&tensor, stored](const GgufWriter::Sink& sink) { tensor.read(stored, sink); });
  }
  return out.write(file);
}

}  // namespace corvid::model
