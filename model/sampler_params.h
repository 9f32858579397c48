// How the next token is chosen, as a user sets it: names and meanings are llama.cpp's.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace corvid::model {

// Added to the logit of a token. `token`: an id in decimal digits, or a text, each of whose tokens is meant. A bias of
// -infinity rules the token out.
struct LogitBias {
  std::string token;
  float bias = 0;
  bool operator==(const LogitBias&) const = default;
};

// Logits are changed in this order: logit_bias, the repetition penalties, DRY. Of what comes out, `temperature` 0 takes
// the highest; otherwise temperature divides it, and min_p (relative to the likeliest token), top_k and top_p say what
// may be drawn. Penalties look at the tokens of prompt and reply alike.
struct SamplerParams {
  float temperature = 0;
  int64_t top_k = 0;  // 0: off
  float top_p = 1;    // 0: the likeliest token alone
  float min_p = 0;
  uint64_t seed = 1;
  // A token that stands among the last `repeat_last_n` (0: none, -1: all): its logit is divided by repeat_penalty when
  // it is positive and multiplied otherwise, then loses presence_penalty, and frequency_penalty for each time.
  float repeat_penalty = 1;
  int64_t repeat_last_n = 64;
  float presence_penalty = 0, frequency_penalty = 0;
  // DRY (p-e-w): when the end of the text stood there before, n >= dry_allowed_length tokens of it, the token that came
  // next then loses dry_multiplier * dry_base ^ (n - dry_allowed_length). No match reaches over a sequence breaker, and
  // a token that holds one loses nothing.
  float dry_multiplier = 0, dry_base = 1.75f;  // multiplier 0: off
  int64_t dry_allowed_length = 2;
  int64_t dry_penalty_last_n = -1;  // tokens looked at; 0: none, -1: all
  std::vector<std::string> dry_sequence_breakers = {"\n", ":", "\"", "*"};
  std::vector<LogitBias> logit_bias = {};
  std::vector<std::string> stop = {};  // texts that end an answer (stop_strings.h)
  bool operator==(const SamplerParams&) const = default;
};

// One line for each number among the parameters: from it come the agent file's keys, the flags, the store's JSON and
// the range checks. The seed is not among them: it is no range of doubles.
struct SamplerNumber {
  const char* name;
  double least, most;
  const char* help;
  std::variant<float SamplerParams::*, int64_t SamplerParams::*> field;

  bool is_whole() const { return field.index() == 1; }
  double get(const SamplerParams& params) const;
  void set(SamplerParams& params, double value) const;
};
std::span<const SamplerNumber> sampler_numbers();

// Returns `params`. Throws std::invalid_argument naming the parameter out of range, what was wanted and found.
const SamplerParams& checked(const SamplerParams& params);

}  // namespace corvid::model
