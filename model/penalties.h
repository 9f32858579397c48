// What changes logits before a token is drawn: biases, repetition penalties, DRY (sampler_params.h has the
// definitions).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/sampler_params.h"
#include "model/tokenizer.h"

namespace corvid::model {

class Penalties {
 public:
  // `params` are checked already. Texts need `tokenizer`, which must outlive this object: throws std::invalid_argument
  // naming the parameter when it is null, and for an id outside its vocabulary.
  Penalties(const SamplerParams& params, const Tokenizer* tokenizer);

  bool are_off() const { return bias_.empty() && !has_repetition_ && !has_dry_; }
  // logits: [vocab], changed in place. history: prompt and reply up to here. Plain float arithmetic in a fixed order,
  // so the same bits on every platform. Throws std::invalid_argument for a bias outside the vocabulary.
  void apply(std::span<float> logits, std::span<const Token> history) const;

 private:
  void repetition(std::span<float> logits, std::span<const Token> window) const;
  void dry(std::span<float> logits, std::span<const Token> window) const;
  int64_t tokens_since_breaker(std::span<const Token> window) const;

  SamplerParams params_;
  const Tokenizer* tokenizer_;
  std::vector<std::pair<Token, float>> bias_;
  std::vector<bool> holds_breaker_;  // [vocab]: tokens that hold a whole breaker
  size_t longest_breaker_ = 0;       // in bytes
  bool has_repetition_ = false, has_dry_ = false;
};

// z[i]: how many tokens the texts that end with text and with text[0..n-i) have in common at their ends, for 0 < i < n,
// counted to `most` at the most; z[0] = 0. O(n).
std::vector<int64_t> common_ends(std::span<const Token> text, int64_t most);

}  // namespace corvid::model
