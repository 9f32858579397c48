// Models for tests of the plumbing around a model: real checkpoints of the M3 architecture, a few KB, whose every next
// token follows from the last one alone (all layers add nothing), so that what they say is known.
#pragma once
#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/tokenizer.h"

namespace corvid::test {

// Writes config.json, model.safetensors and tokenizer.json (that of tests/golden/tokenizer-minimax) into `folder`. The
// model answers `answer`, special tokens and all, to everything; with `loops` it begins again at the end and never
// stops. No token of the answer may come twice. Returns `folder`.
inline std::filesystem::path write_tiny_model(const std::filesystem::path& folder, const std::string& answer,
                                              bool loops = false) {
  namespace fs = std::filesystem;
  constexpr int64_t dim = 64, ffn = 32, heads = 2, head_dim = 32;
  fs::create_directories(folder);
  const fs::path tokenizer_file = fs::path(CORVID_GOLDEN_DIR) / "tokenizer-minimax/tokenizer.json";
  fs::copy_file(tokenizer_file, folder / "tokenizer.json", fs::copy_options::overwrite_existing);
  const model::Tokenizer tokenizer = model::Tokenizer::from_json_file(tokenizer_file);
  const int64_t vocab = tokenizer.vocab_size();

  std::vector<model::Token> chain = tokenizer.encode(answer, true);
  std::map<model::Token, model::Token> next;
  next[tokenizer.special("</mm:think>").value()] = chain.front();  // the last token of a prompt
  for (size_t i = 0; i < chain.size(); ++i) {
    const model::Token after = i + 1 < chain.size() ? chain[i + 1]
                               : loops              ? chain.front()
                                                    : tokenizer.special("[e~[").value();
    if (!next.emplace(chain[i], after).second)
      throw std::invalid_argument("tiny model: a token comes twice in: " + answer);
  }

  // Random signs: two rows' product is near 0, a row's with itself is dim, so next's row of the output wins by far.
  std::vector<float> embedding(static_cast<size_t>(vocab * dim)), output(embedding.size());
  uint64_t state = 7;
  for (float& x : embedding) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    x = (state >> 63) != 0 ? 1.0f : -1.0f;
  }
  for (const auto& [token, after] : next) {
    for (int64_t i = 0; i < dim; ++i) {
      output[static_cast<size_t>(after * dim + i)] += embedding[static_cast<size_t>(token * dim + i)];
    }
  }
  const auto zeros = [](int64_t n) { return std::vector<float>(static_cast<size_t>(n)); };
  const std::string layer = "model.layers.0.";
  const std::vector<std::tuple<std::string, std::vector<int64_t>, std::vector<float>>> tensors = {
      {"lm_head.weight", {vocab, dim}, output},
      {"model.embed_tokens.weight", {vocab, dim}, embedding},
      {"model.norm.weight", {dim}, zeros(dim)},
      {layer + "input_layernorm.weight", {dim}, zeros(dim)},
      {layer + "post_attention_layernorm.weight", {dim}, zeros(dim)},
      {layer + "mlp.gate_up_proj.weight", {2 * ffn, dim}, zeros(2 * ffn * dim)},
      {layer + "mlp.down_proj.weight", {dim, ffn}, zeros(dim * ffn)},
      {layer + "self_attn.q_proj.weight", {heads * head_dim, dim}, zeros(heads * head_dim * dim)},
      {layer + "self_attn.k_proj.weight", {head_dim, dim}, zeros(head_dim * dim)},
      {layer + "self_attn.v_proj.weight", {head_dim, dim}, zeros(head_dim * dim)},
      {layer + "self_attn.o_proj.weight", {dim, heads * head_dim}, zeros(heads * head_dim * dim)},
      {layer + "self_attn.q_norm.weight", {head_dim}, zeros(head_dim)},
      {layer + "self_attn.k_norm.weight", {head_dim}, zeros(head_dim)},
  };
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  size_t offset = 0;
  for (const auto& [name, shape, data] : tensors) {
    const size_t end = offset + data.size() * sizeof(float);
    header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  const std::string text = header.dump();
  const uint64_t size = text.size();
  static_assert(std::endian::native == std::endian::little);
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), sizeof size);
  file << text;
  for (const auto& [name, shape, data] : tensors) {
    file.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size() * sizeof(float)));
  }
  const nlohmann::ordered_json config = {{"architectures", {"MiniMaxM3VLForCausalLM"}},
                                         {"model_type", "minimax_m3_vl_text"},
                                         {"num_hidden_layers", 1},
                                         {"layer_types", {"full_attention"}},
                                         {"mlp_layer_types", {"dense"}},
                                         {"vocab_size", vocab},
                                         {"max_position_embeddings", 1 << 20},
                                         {"hidden_size", dim},
                                         {"num_attention_heads", heads},
                                         {"num_key_value_heads", 1},
                                         {"head_dim", head_dim},
                                         {"rotary_dim", 16},
                                         {"rope_theta", 10000.0},
                                         {"rms_norm_eps", 1e-6},
                                         {"dense_intermediate_size", ffn},
                                         {"hidden_act", "silu"},
                                         {"swiglu_alpha", 1.702},
                                         {"swiglu_limit", 7.0},
                                         {"tie_word_embeddings", false},
                                         {"bos_token_id", tokenizer.special("]~!b[").value()},
                                         {"eos_token_id", tokenizer.special("[e~[").value()}};
  std::ofstream(folder / "config.json") << config.dump(1);
  return folder;
}

}  // namespace corvid::test
