#include "model/penalties.h"

#include <algorithm>
#include <cfloat>
#include <charconv>
#include <stdexcept>

#include "model/error.h"

namespace corvid::model {
namespace {

// The last `count` tokens, all for -1.
std::span<const Token> last_of(std::span<const Token> history, int64_t count) {
  return count < 0 || count >= std::ssize(history) ? history : history.last(static_cast<size_t>(count));
}

bool is_id(std::string_view text) { return text.find_first_not_of("0123456789") == std::string_view::npos; }

}  // namespace

Penalties::Penalties(const SamplerParams& params, const Tokenizer* tokenizer) : params_(params), tokenizer_(tokenizer) {
  const auto need_tokenizer = [&](const char* name) {
    if (tokenizer == nullptr) throw std::invalid_argument(concat(name, ": want a model with a tokenizer, found none"));
  };
  for (const LogitBias& entry : params.logit_bias) {
    if (!is_id(entry.token)) {
      need_tokenizer("logit_bias");
      for (const Token token : tokenizer->encode(entry.token, true)) bias_.emplace_back(token, entry.bias);
      continue;
    }
    Token token = 0;
    const char* end = entry.token.data() + entry.token.size();
    const bool fits = std::from_chars(entry.token.data(), end, token).ec == std::errc();
    if (!fits || (tokenizer != nullptr && token >= tokenizer->vocab_size())) {
      throw std::invalid_argument(concat("logit_bias: want an id of the vocabulary, found ", entry.token));
    }
    bias_.emplace_back(token, entry.bias);
  }
  has_repetition_ = params.repeat_last_n != 0 &&
                    (params.repeat_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0);
  has_dry_ = params.dry_multiplier != 0 && params.dry_penalty_last_n != 0;
  if (!has_dry_ || params.dry_sequence_breakers.empty()) return;
  need_tokenizer("dry_sequence_breakers");
  holds_breaker_.resize(static_cast<size_t>(tokenizer->vocab_size()));
  for (const std::string& breaker : params.dry_sequence_breakers) {
    longest_breaker_ = std::max(longest_breaker_, breaker.size());
    for (size_t i = 0; i < holds_breaker_.size(); ++i) {
      if (tokenizer->piece(static_cast<Token>(i)).find(breaker) != std::string_view::npos) holds_breaker_[i] = true;
    }
  }
}

void Penalties::apply(std::span<float> logits, std::span<const Token> history) const {
  for (const auto& [token, bias] : bias_) {
    if (static_cast<size_t>(token) >= logits.size()) {
      throw std::invalid_argument(concat("logit_bias: want an id below ", logits.size(), ", found ", token));
    }
    logits[static_cast<size_t>(token)] += bias;
  }
  if (has_repetition_) repetition(logits, last_of(history, params_.repeat_last_n));
  if (has_dry_) dry(logits, last_of(history, params_.dry_penalty_last_n));
}

void Penalties::repetition(std::span<float> logits, std::span<const Token> window) const {
  std::vector<Token> tokens(window.begin(), window.end());
  std::sort(tokens.begin(), tokens.end());
  for (auto first = tokens.begin(); first != tokens.end();) {
    const auto last = std::upper_bound(first, tokens.end(), *first);
    float& logit = logits[static_cast<size_t>(*first)];
    logit = logit > 0 ? logit / params_.repeat_penalty : logit * params_.repeat_penalty;
    logit -= static_cast<float>(last - first) * params_.frequency_penalty + params_.presence_penalty;
    first = last;
  }
}

void Penalties::dry(std::span<float> logits, std::span<const Token> window) const {
  const int64_t reach = tokens_since_breaker(window);
  if (reach < params_.dry_allowed_length) return;
  const std::vector<int64_t> matched = common_ends(window, reach);
  // [vocab]: the longest match that a token would extend.
  std::vector<int64_t> longest(logits.size());
  for (int64_t back = 1; back < std::ssize(window); ++back) {
    int64_t& length = longest[static_cast<size_t>(window[window.size() - static_cast<size_t>(back)])];
    length = std::max(length, matched[static_cast<size_t>(back)]);
  }
  for (size_t i = 0; i < longest.size(); ++i) {
    if (longest[i] < params_.dry_allowed_length || (i < holds_breaker_.size() && holds_breaker_[i])) continue;
    // Powers by multiplication: pow() differs between platforms. A penalty beyond all floats would be NaN at last.
    float penalty = params_.dry_multiplier;
    for (int64_t n = longest[i]; n > params_.dry_allowed_length && penalty < FLT_MAX / 200 && params_.dry_base > 1; --n)
      penalty *= params_.dry_base;
    logits[i] -= penalty;
  }
}

// How many tokens follow the last one in which a breaker ends; it may begin in tokens before that one.
int64_t Penalties::tokens_since_breaker(std::span<const Token> window) const {
  const int64_t count = std::ssize(window);
  if (longest_breaker_ == 0) return count;
  const auto piece = [&](int64_t i) -> std::string_view {
    const Token token = window[static_cast<size_t>(i)];
    return static_cast<size_t>(token) < holds_breaker_.size() ? tokenizer_->piece(token) : "";
  };
  for (int64_t i = count - 1; i >= 0; --i) {
    std::string text(piece(i));
    if (!text.empty() && holds_breaker_[static_cast<size_t>(window[static_cast<size_t>(i)])]) return count - 1 - i;
    size_t before = 0;
    for (int64_t k = i - 1; k >= 0 && before + 1 < longest_breaker_; --k) {
      text.insert(0, piece(k));
      before += piece(k).size();
    }
    for (const std::string& breaker : params_.dry_sequence_breakers) {
      const size_t first = before + 1 > breaker.size() ? before + 1 - breaker.size() : 0;  // the first that ends in i
      if (text.find(breaker, first) != std::string::npos) return count - 1 - i;
    }
  }
  return count;
}

std::vector<int64_t> common_ends(std::span<const Token> text, int64_t most) {
  // The Z algorithm on the reversed text.
  const int64_t n = std::ssize(text);
  const auto at = [&](int64_t i) { return text[static_cast<size_t>(n - 1 - i)]; };
  std::vector<int64_t> z(text.size());
  for (int64_t i = 1, left = 0, right = 0; i < n; ++i) {
    int64_t& length = z[static_cast<size_t>(i)];
    if (i < right) length = std::min(right - i, z[static_cast<size_t>(i - left)]);
    while (i + length < n && at(length) == at(i + length)) ++length;
    if (i + length > right) left = i, right = i + length;
  }
  for (int64_t& length : z) length = std::min(length, most);
  return z;
}

}  // namespace corvid::model
