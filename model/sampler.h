// Chooses the next token from logits. Temperature 0 is greedy: the highest logit, the lower id on a tie.
#pragma once
#include <cstdint>
#include <span>

#include "model/message.h"

namespace corvid::model {

// Temperature comes first, then min_p (relative to the likeliest token), top_k, top_p over what is left.
struct SamplerParams {
  float temperature = 0;  // >= 0
  int64_t top_k = 0;      // 0: off
  float top_p = 1;        // (0, 1]
  float min_p = 0;        // [0, 1)
  uint64_t seed = 1;
};

// Deterministic: the same parameters, logits and number of earlier calls give the same token on every platform (the
// generator is our own counter-based one, not std::mt19937 with an implementation-defined distribution).
class Sampler {
 public:
  explicit Sampler(const SamplerParams& params);  // throws std::invalid_argument naming the parameter out of range
  // logits: [vocab], 1 <= vocab <= 2^23. -inf rules a token out. NaN, and a maximum that is not finite, throw
  // std::runtime_error.
  Token sample(std::span<const float> logits);

 private:
  SamplerParams params_;
  uint64_t draws_ = 0;
};

}  // namespace corvid::model
