// Hugging Face checkpoints of made-up weights, small enough to evaluate thousands of tokens in a test.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/format.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_dir.h"

namespace corvid::test {

struct TinyCheckpoint {
  int64_t vocab = 96, dim = 64, heads = 4, kv_heads = 2, head_dim = 16, rotary_dim = 8;
  int64_t index_heads = 2, index_dim = 16, block = 8, top_blocks = 3, local_blocks = 1;
  int64_t dense_ffn = 96, experts = 6, top_k = 2, expert_ffn = 32, shared_ffn = 64;
  std::vector<int> sparse = {0, 1, 1}, moe = {0, 1, 1};
  bool tied = false;
  bool flat = true;           // keys and names of the flat layout; otherwise those of the released checkpoint
  std::string dtype = "F32";  // F32, F16 or BF16
  int shards = 1;
  uint64_t seed = 1;

  nlohmann::json config() const {
    nlohmann::json text = {{"vocab_size", vocab},
                           {"hidden_size", dim},
                           {"num_hidden_layers", sparse.size()},
                           {"num_attention_heads", heads},
                           {"num_key_value_heads", kv_heads},
                           {"head_dim", head_dim},
                           {"max_position_embeddings", 4096},
                           {"rms_norm_eps", 1e-6},
                           {"dense_intermediate_size", dense_ffn},
                           {"intermediate_size", expert_ffn},
                           {"shared_intermediate_size", shared_ffn},
                           {"num_local_experts", experts},
                           {"num_experts_per_tok", top_k},
                           {"routed_scaling_factor", 2.0},
                           {"swiglu_alpha", 1.702},
                           {"swiglu_limit", 7.0},
                           {"tie_word_embeddings", tied},
                           {"bos_token_id", 1},
                           {"eos_token_id", 2}};
    if (flat) {
      for (const int on : sparse) text["layer_types"].push_back(on ? "minimax_m3_sparse" : "full_attention");
      for (const int on : moe) text["mlp_layer_types"].push_back(on ? "sparse" : "dense");
      text["rope_parameters"] = {{"rope_theta", 10000.0},
                                 {"rope_type", "default"},
                                 {"partial_rotary_factor", double(rotary_dim) / double(head_dim)}};
      text["index_n_heads"] = index_heads;
      text["index_head_dim"] = index_dim;
      text["index_block_size"] = block;
      text["index_topk_blocks"] = top_blocks;
      text["index_local_blocks"] = local_blocks;
      text["hidden_act"] = "silu";
      text["model_type"] = "minimax_m3_vl_text";
      return text;
    }
    text["moe_layer_freq"] = moe;
    text["rope_theta"] = 10000;
    text["rotary_dim"] = rotary_dim;
    text["partial_rotary_factor"] = double(rotary_dim) / double(head_dim);
    text["hidden_act"] = "swigluoai";
    text["use_qk_norm"] = true;
    text["qk_norm_type"] = "per_head";
    text["use_gemma_norm"] = true;
    text["scoring_func"] = "sigmoid";
    text["n_shared_experts"] = 1;
    text["num_mtp_modules"] = 7;
    text["model_type"] = "minimax_m2";
    text["sparse_attention_config"] = {{"use_sparse_attention", true},
                                       {"sparse_index_dim", index_dim},
                                       {"sparse_num_index_heads", index_heads},
                                       {"sparse_topk_blocks", top_blocks},
                                       {"sparse_block_size", block},
                                       {"sparse_score_type", "max"},
                                       {"sparse_init_block", 0},
                                       {"sparse_local_block", local_blocks},
                                       {"sparse_attention_freq", sparse},
                                       {"sparse_disable_index_value", sparse}};
    return {{"model_type", "minimax_m3_vl"},
            {"text_config", text},
            {"architectures", {"MiniMaxM3SparseForConditionalGeneration"}}};
  }

  // The same seed gives the same weights in either layout.
  void write(const TempDir& dir) const {
    struct Tensor {
      std::string name;
      std::vector<int64_t> shape;
      std::vector<float> values;
    };
    std::vector<Tensor> tensors;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, std::vector<float> values) {
      tensors.push_back({(flat ? "" : "language_model.") + name, std::move(shape), std::move(values)});
    };
    uint64_t state = seed;
    const auto random = [&](int64_t count, double size) {
      std::vector<float> values(static_cast<size_t>(count));
      for (float& value : values) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        value = static_cast<float>((static_cast<double>(state >> 40) / double(1 << 23) - 1) * size);
      }
      return values;
    };
    const auto matrix = [&](int64_t rows, int64_t columns) {
      return random(rows * columns, 1.7 / std::sqrt(double(columns)));
    };
    const auto linear = [&](const std::string& name, int64_t rows, int64_t columns) {
      add(name, {rows, columns}, matrix(rows, columns));
    };
    const auto norm = [&](const std::string& name, int64_t size) { add(name, {size}, random(size, 0.3)); };
    const auto join = [](std::vector<float> a, const std::vector<float>& b) {
      a.insert(a.end(), b.begin(), b.end());
      return a;
    };
    const auto gated = [&](const std::string& in, int64_t ffn) {
      const std::vector<float> gate = matrix(ffn, dim), up = matrix(ffn, dim);
      if (flat) {
        add(in + "gate_up_proj.weight", {2 * ffn, dim}, join(gate, up));
      } else {
        add(in + "gate_proj.weight", {ffn, dim}, gate);
        add(in + "up_proj.weight", {ffn, dim}, up);
      }
      linear(in + "down_proj.weight", dim, ffn);
    };

    linear("model.embed_tokens.weight", vocab, dim);
    norm("model.norm.weight", dim);
    const std::vector<float> head = matrix(vocab, dim);
    if (!tied) add("lm_head.weight", {vocab, dim}, head);
    for (size_t i = 0; i < sparse.size(); ++i) {
      const std::string in = "model.layers." + std::to_string(i) + ".", attn = in + "self_attn.";
      const std::string ffn = in + (flat ? "mlp." : "block_sparse_moe."), index = attn + (flat ? "indexer." : "index_");
      norm(in + "input_layernorm.weight", dim);
      norm(in + "post_attention_layernorm.weight", dim);
      linear(attn + "q_proj.weight", heads * head_dim, dim);
      linear(attn + "k_proj.weight", kv_heads * head_dim, dim);
      linear(attn + "v_proj.weight", kv_heads * head_dim, dim);
      linear(attn + "o_proj.weight", dim, heads * head_dim);
      norm(attn + "q_norm.weight", head_dim);
      norm(attn + "k_norm.weight", head_dim);
      if (sparse[i]) {
        linear(index + "q_proj.weight", index_heads * index_dim, dim);
        linear(index + "k_proj.weight", index_dim, dim);
        norm(index + "q_norm.weight", index_dim);
        norm(index + "k_norm.weight", index_dim);
      }
      if (!moe[i]) {
        gated(ffn, dense_ffn);
        continue;
      }
      linear(ffn + "gate.weight", experts, dim);
      add(ffn + (flat ? "gate." : "") + "e_score_correction_bias", {experts}, random(experts, 0.2));
      std::vector<float> gate_up, down;
      for (int64_t e = 0; e < experts; ++e) {
        const std::vector<float> gate = matrix(expert_ffn, dim), up = matrix(expert_ffn, dim),
                                 out = matrix(dim, expert_ffn);
        if (flat) {
          gate_up = join(std::move(gate_up), join(gate, up));
          down = join(std::move(down), out);
          continue;
        }
        const std::string one = ffn + "experts." + std::to_string(e) + ".";
        add(one + "w1.weight", {expert_ffn, dim}, gate);
        add(one + "w2.weight", {dim, expert_ffn}, out);
        add(one + "w3.weight", {expert_ffn, dim}, up);
      }
      if (flat) {
        add(ffn + "experts.gate_up_proj", {experts, 2 * expert_ffn, dim}, gate_up);
        add(ffn + "experts.down_proj", {experts, dim, expert_ffn}, down);
      }
      gated(ffn + "shared_experts.", shared_ffn);
    }
    if (!flat) tensors.push_back({"vision_tower.patch.weight", {4, 4}, random(16, 1)});

    dir.write("config.json", config().dump());
    nlohmann::json index;
    for (int shard = 0; shard < shards; ++shard) {
      const std::string file = shards == 1 ? "model.safetensors" : "model-" + std::to_string(shard) + ".safetensors";
      nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
      std::string data;
      for (size_t i = static_cast<size_t>(shard); i < tensors.size(); i += static_cast<size_t>(shards)) {
        const size_t begin = data.size();
        for (const float value : tensors[i].values) {
          if (dtype == "F32") data += raw(value);
          if (dtype == "F16") data += raw(kernels::f32_to_f16(value));
          if (dtype == "BF16") data += raw(kernels::f32_to_bf16(value));
        }
        header[tensors[i].name] = {
            {"dtype", dtype}, {"shape", tensors[i].shape}, {"data_offsets", {begin, data.size()}}};
        index["weight_map"][tensors[i].name] = file;
      }
      const std::string text = header.dump();
      dir.write(file, raw<uint64_t>(text.size()) + text + data);
    }
    if (shards > 1) dir.write("model.safetensors.index.json", index.dump());
  }
};

}  // namespace corvid::test
