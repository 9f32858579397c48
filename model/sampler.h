// Chooses the next token from logits.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "model/penalties.h"
#include "model/sampler_params.h"
#include "model/tokenizer.h"

namespace corvid::model {

// Deterministic: the same parameters, logits, history and number of earlier calls give the same token on every
// platform. The generator is our own counter-based one (std::mt19937's distributions are the implementation's), e^x is
// computed in integers (libm's last bits differ), and what is left of floating point is IEEE's, without contraction.
class Sampler {
 public:
  // Throws std::invalid_argument naming the parameter out of range. `tokenizer` is for the parameters that are texts
  // (Penalties); it must outlive the sampler.
  explicit Sampler(const SamplerParams& params, const Tokenizer* tokenizer = nullptr);
  // logits: [vocab], 1 <= vocab <= 2^23. -inf rules a token out. NaN, and a maximum that is not finite, throw
  // std::runtime_error. history: prompt and reply up to here, which the penalties look at. Temperature 0 takes the
  // highest logit, the lower id on a tie. One call makes one draw, whatever the parameters.
  Token sample(std::span<const float> logits, std::span<const Token> history = {});
  // Whether sample() is best_of(), whatever the logits and the history are.
  bool is_greedy() const { return params_.temperature == 0 && penalties_.are_off(); }

 private:
  Token choose(std::span<const float> logits, uint64_t draw) const;

  SamplerParams params_;
  Penalties penalties_;
  std::vector<float> changed_;  // [vocab], logits after the penalties
  uint64_t draws_ = 0;
};

// The highest logit, the lower id on a tie. Throws as sample() does.
Token best_of(std::span<const float> logits);

// Natural logarithms of probabilities that the model itself gives: softmax of the logits, before biases, penalties and
// temperature.
struct Logprobs {
  struct Entry {
    Token token;
    double logprob;
  };
  Entry chosen;
  std::vector<Entry> top;  // likeliest first, the lower id on a tie; tokens that are ruled out are left out
};
Logprobs logprobs(std::span<const float> logits, Token chosen, int64_t n_top);

}  // namespace corvid::model
