// What `corvid model info` and `corvid model logits` show.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "kernels/exec.h"
#include "model/sequence.h"

namespace corvid::model {

// Architecture, name, shape and sizes: {"architecture", "name", "vocab_size", "context_length", "dim", "layers", ...,
// "weight_bytes", "tokenizer", "fingerprint"}.
nlohmann::ordered_json info(const Model& model);

// {"positions": [..], "logits": [[..]..], "greedy": [..ids..], "greedy_last_logits": [..]}: the prompt's logits at
// `positions` (none: its last), then n_greedy tokens, each the one with the highest logit (the lower id on a tie), and
// the logits from which the last of them was taken; "greedy_last_logits" is empty when n_greedy is 0.
// Throws std::invalid_argument for an empty prompt, an id outside the vocabulary, a position outside the prompt, or
// n_greedy < 0.
nlohmann::ordered_json logits_report(std::shared_ptr<const Model> model, kernels::Exec& exec,
                                     std::span<const Token> prompt, std::span<const int64_t> positions,
                                     int64_t n_greedy, Attention attention);

}  // namespace corvid::model
