#include "model/inspect.h"

#include <algorithm>

#include "model/error.h"
#include "model/weights.h"

namespace corvid::model {

using Json = nlohmann::ordered_json;

Json info(const Model& model) {
  const Config& c = model.config();
  const auto count = [&](auto holds) { return std::count_if(c.layers.begin(), c.layers.end(), holds); };
  Json json = {{"architecture", c.architecture},
               {"name", c.name},
               {"vocab_size", c.vocab_size},
               {"context_length", c.context_length},
               {"dim", c.dim},
               {"layers", c.n_layers()},
               {"sparse_attention_layers", count([](const Config::Layer& l) { return l.sparse_attention; })},
               {"moe_layers", count([](const Config::Layer& l) { return l.moe; })},
               {"heads", c.n_heads},
               {"kv_heads", c.n_kv_heads},
               {"head_dim", c.head_dim},
               {"rotary_dim", c.rotary_dim},
               {"rope_theta", c.rope_theta}};
  if (c.has_sparse_attention()) {
    json["index_heads"] = c.n_index_heads;
    json["index_dim"] = c.index_dim;
    json["block"] = c.block;
    json["top_blocks"] = c.top_blocks;
    json["local_blocks"] = c.local_blocks;
  }
  if (c.has_dense_ffn()) json["dense_ffn"] = c.dense_ffn;
  if (c.has_moe()) {
    json["experts"] = c.n_experts;
    json["experts_per_token"] = c.top_k;
    json["expert_ffn"] = c.expert_ffn;
    json["shared_ffn"] = c.shared_ffn;
  }
  json["weight_bytes"] = model.weights().matrix_bytes;
  json["tokenizer"] = model.has_tokenizer();
  json["fingerprint"] = model.fingerprint();
  return json;
}

Json logits_report(std::shared_ptr<const Model> model, kernels::Exec& exec, std::span<const Token> prompt,
                   std::span<const int64_t> positions, int64_t n_greedy, Attention attention) {
  if (n_greedy < 0) throw std::invalid_argument(concat("greedy: want a number from 0, found ", n_greedy));
  if (prompt.empty()) throw std::invalid_argument("prompt: want at least one token, found none");
  std::vector<int64_t> places(positions.begin(), positions.end());
  if (places.empty()) places.push_back(std::ssize(prompt) - 1);
  Sequence sequence(std::move(model), exec, std::ssize(prompt) + n_greedy + 1, attention);
  Json json = {{"positions", places},
               {"logits", sequence.logits_at(prompt, places)},
               {"greedy", Json::array()},
               {"greedy_last_logits", Json::array()}};
  for (int64_t i = 0; i < n_greedy; ++i) {
    const std::span<const float> logits = sequence.logits();
    const auto best = static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    json["greedy"].push_back(best);
    if (i == n_greedy - 1) {
      json["greedy_last_logits"] = std::vector<float>(logits.begin(), logits.end());
    } else {
      sequence.append(best);
    }
  }
  return json;
}

}  // namespace corvid::model
