#include "model/sampler_params.h"

#include <cmath>
#include <stdexcept>

#include "model/error.h"

namespace corvid::model {
namespace {

using P = SamplerParams;

constexpr double kMostTokens = 1'000'000;

constexpr SamplerNumber kNumbers[] = {
    {"temperature", 0, 100, "0 takes the likeliest token", &P::temperature},
    {"top_k", 0, kMostTokens, "draw among the N likeliest tokens (0: off)", &P::top_k},
    {"top_p", 0, 1, "draw among the likeliest tokens that make up this share", &P::top_p},
    {"min_p", 0, 1, "drop tokens below this share of the likeliest one's probability", &P::min_p},
    {"repeat_penalty", 0.01, 100, "divides the logits of tokens seen lately (1: off)", &P::repeat_penalty},
    {"repeat_last_n", -1, kMostTokens, "how many tokens are lately (default: 64; -1: all)", &P::repeat_last_n},
    {"presence_penalty", -100, 100, "taken from the logits of tokens seen lately", &P::presence_penalty},
    {"frequency_penalty", -100, 100, "taken for each time that they were seen", &P::frequency_penalty},
    {"dry_multiplier", 0, 100, "penalty for going on as before (0: off)", &P::dry_multiplier},
    {"dry_base", 1, 100, "what each further repeated token multiplies it by (default: 1.75)", &P::dry_base},
    {"dry_allowed_length", 1, kMostTokens, "repeated tokens that cost least (default: 2)", &P::dry_allowed_length},
    {"dry_penalty_last_n", -1, kMostTokens, "tokens searched for repetition (default: -1, all)",
     &P::dry_penalty_last_n},
};

void require_texts(const std::vector<std::string>& texts, const char* name) {
  for (const std::string& text : texts) {
    if (text.empty())
      throw std::invalid_argument(concat(name, ": want texts of at least one byte, found an empty one"));
  }
}

}  // namespace

double SamplerNumber::get(const SamplerParams& params) const {
  return std::visit([&](auto member) { return static_cast<double>(params.*member); }, field);
}

void SamplerNumber::set(SamplerParams& params, double value) const {
  if (is_whole()) {
    params.*std::get<1>(field) = static_cast<int64_t>(value);
  } else {
    params.*std::get<0>(field) = static_cast<float>(value);
  }
}

std::span<const SamplerNumber> sampler_numbers() { return kNumbers; }

const SamplerParams& checked(const SamplerParams& params) {
  for (const SamplerNumber& number : kNumbers) {
    const double value = number.get(params);
    // A bound that is no float, such as 0.01, is compared as the float that it becomes.
    SamplerParams least, most;
    number.set(least, number.least);
    number.set(most, number.most);
    if (value >= number.get(least) && value <= number.get(most)) continue;
    const auto text = [&](double x) { return number.is_whole() ? concat(static_cast<int64_t>(x)) : concat(x); };
    throw std::invalid_argument(concat(number.name, ": want a ", number.is_whole() ? "whole number" : "number",
                                       " from ", text(number.least), " to ", text(number.most), ", found ",
                                       text(value)));
  }
  require_texts(params.dry_sequence_breakers, "dry_sequence_breakers");
  require_texts(params.stop, "stop");
  for (const LogitBias& entry : params.logit_bias) {
    if (entry.token.empty()) throw std::invalid_argument("logit_bias: want a token's id or text, found nothing");
    if (std::isnan(entry.bias) || entry.bias > 1000 || (entry.bias < -1000 && std::isfinite(entry.bias))) {
      throw std::invalid_argument(
          concat("logit_bias: ", entry.token, ": want a number from -1000 to 1000 or -infinity, found ", entry.bias));
    }
  }
  return params;
}

}  // namespace corvid::model
