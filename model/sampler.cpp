#include "model/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace corvid::model {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014) as a function of seed and counter: draw n needs no state but n.
uint64_t random_bits(uint64_t seed, uint64_t counter) {
  uint64_t z = seed + (counter + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

// Evenly among 0..bound-1; bound >= 1. Draws that fall outside are drawn again, from a stream of this draw's own.
uint64_t random_below(uint64_t bound, uint64_t seed, uint64_t draw) {
  const uint64_t stream = random_bits(seed, draw);
  const int unused_bits = std::countl_zero((bound - 1) | 1);
  for (uint64_t attempt = 0;; ++attempt) {
    const uint64_t value = random_bits(stream, attempt) >> unused_bits;
    if (value < bound) return value;
  }
}

// Weight of the likeliest token. 2^23 tokens of this weight fit a uint64_t.
constexpr uint64_t kFullWeight = uint64_t{1} << 40;

// e^x * 2^40 for x <= 0, in integers but for one IEEE multiplication: libm's exp() differs between platforms in the
// last bits, which is enough to choose another token. Relative error of large weights below 1e-8.
uint64_t weight_of(double x) {
  constexpr double kLog2E = 1.4426950408889634;
  if (x < -64) return 0;  // e^-64 * 2^40 < 1
  // e^x = 2^fraction / 2^shift with fraction in [0, 1), here in units of 2^-32.
  const auto y = static_cast<int64_t>(std::floor(x * kLog2E * 0x1p32));
  const auto shift = static_cast<uint64_t>(-(y >> 32));
  const auto fraction = static_cast<uint64_t>(y & 0xFFFFFFFF);
  // ln(2)^k / k! in units of 2^-30, k from 10 down to 0 (Taylor). The sum stays below 2^31, so no product overflows.
  constexpr uint64_t kTerms[] = {8,        109,      1419,      16377,     165394,    1431680,
                                 10327387, 59597083, 257941248, 744261118, 1073741824};
  uint64_t sum = 0;
  for (const uint64_t term : kTerms) sum = (sum * fraction >> 32) + term;
  return shift > 63 ? 0 : sum << 10 >> shift;
}

struct Candidate {
  uint64_t weight;
  float logit;
  Token token;
};

bool is_likelier(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

}  // namespace

Token best_of(std::span<const float> logits) {
  if (logits.empty()) throw std::invalid_argument("logits: want at least one, found none");
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]))
      throw std::runtime_error("logits: want numbers, found NaN at token " + std::to_string(i));
    if (logits[i] > logits[best]) best = i;
  }
  if (std::isinf(logits[best])) {
    throw std::runtime_error("logits: want a finite maximum, found an infinite one at token " + std::to_string(best));
  }
  return static_cast<Token>(best);
}

Sampler::Sampler(const SamplerParams& params, const Tokenizer* tokenizer)
    : params_(checked(params)), penalties_(params, tokenizer) {}

Token Sampler::sample(std::span<const float> logits, std::span<const Token> history) {
  const uint64_t draw = draws_++;
  if (penalties_.are_off()) return choose(logits, draw);
  changed_.assign(logits.begin(), logits.end());
  penalties_.apply(changed_, history);
  return choose(changed_, draw);
}

Token Sampler::choose(std::span<const float> logits, uint64_t draw) const {
  const Token best = best_of(logits);
  if (params_.temperature == 0) return best;

  const double max = logits[static_cast<size_t>(best)];
  const auto min_weight =
      std::max<uint64_t>(1, static_cast<uint64_t>(params_.min_p * static_cast<double>(kFullWeight)));
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < logits.size(); ++i) {
    const uint64_t weight = weight_of((logits[i] - max) / params_.temperature);
    if (weight >= min_weight) candidates.push_back({weight, logits[i], static_cast<Token>(i)});
  }
  if (params_.top_k > 0 && static_cast<size_t>(params_.top_k) < candidates.size()) {
    const auto end = candidates.begin() + params_.top_k;
    std::nth_element(candidates.begin(), end, candidates.end(), is_likelier);
    candidates.erase(end, candidates.end());
    std::sort(candidates.begin(), candidates.end(), is_likelier);  // nth_element's order is the platform's own
  }
  uint64_t total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  if (params_.top_p < 1) {
    // Only the few likeliest are put in order: a large vocabulary is not worth sorting for each token.
    const double enough = static_cast<double>(params_.top_p) * static_cast<double>(total);
    const auto is_less_likely = [](const Candidate& a, const Candidate& b) { return is_likelier(b, a); };
    std::vector<Candidate> covering;
    total = 0;
    std::make_heap(candidates.begin(), candidates.end(), is_less_likely);
    while (!candidates.empty() && (covering.empty() || static_cast<double>(total) < enough)) {
      std::pop_heap(candidates.begin(), candidates.end(), is_less_likely);
      covering.push_back(candidates.back());
      total += candidates.back().weight;
      candidates.pop_back();
    }
    candidates = std::move(covering);
  }
  uint64_t point = random_below(total, params_.seed, draw);
  for (const Candidate& candidate : candidates) {
    if (point < candidate.weight) return candidate.token;
    point -= candidate.weight;
  }
  return best;  // not reached: the weights add up to more than `point`
}

Logprobs logprobs(std::span<const float> logits, Token chosen, int64_t n_top) {
  const double max = logits[static_cast<size_t>(best_of(logits))];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  const double log_sum = max + std::log(sum);
  const auto entry = [&](Token token) -> Logprobs::Entry {
    return {token, logits[static_cast<size_t>(token)] - log_sum};
  };
  Logprobs result{entry(chosen), {}};
  if (n_top == 0) return result;
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isfinite(logits[i])) candidates.push_back({0, logits[i], static_cast<Token>(i)});
  }
  const auto end = candidates.begin() + std::min<int64_t>(n_top, std::ssize(candidates));
  std::partial_sort(candidates.begin(), end, candidates.end(), is_likelier);
  for (auto at = candidates.begin(); at != end; ++at) result.top.push_back(entry(at->token));
  return result;
}

}  // namespace corvid::model
