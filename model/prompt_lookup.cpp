#include "model/prompt_lookup.h"

#include <algorithm>
#include <utility>

namespace corvid::model {
namespace {

constexpr int64_t kMostCandidates = 16;  // earlier occurrences looked at, in each index
constexpr int64_t kLongestMatch = 32;    // tokens; which of two longer matches is longer says little

// Lengths of matches from which each chance holds, and a guess of what it is, until it is learnt from what is accepted.
constexpr std::array<int64_t, 8> kFrom = {2, 3, 4, 5, 7, 10, 16, 32};
constexpr std::array<double, 8> kChances = {0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95};
constexpr double kLearningRate = 1.0 / 16;

// What a further row costs in a pass, in passes of one row: measured on the model that ships, whose rows choose experts
// of their own. In larger models, which wait for memory, it is less.
constexpr double kRowCost = 0.45;
constexpr double kLeastGain = 1.05;  // below it a guess is not worth the risk

size_t kind_of(int64_t match_length) {
  return static_cast<size_t>(std::upper_bound(kFrom.begin() + 1, kFrom.end(), match_length) - kFrom.begin() - 1);
}

}  // namespace

PromptLookup::PromptLookup() : indices_{Index{4}, Index{2}}, chances_(kChances) {}

void PromptLookup::sync(std::span<const Token> tokens) {
  const auto differ = std::mismatch(tokens.begin(), tokens.end(), tokens_.begin(), tokens_.end()).first;
  const auto kept = static_cast<size_t>(differ - tokens.begin());
  while (tokens_.size() > kept) drop_last();
  for (const Token token : tokens.subspan(kept)) add(token);
}

void PromptLookup::push(Token token) {
  if (const Match match = find(); match.end >= 0) {
    double& chance = chances_[kind_of(match.length)];
    chance += kLearningRate * ((following(match, 0, {}) == token ? 1.0 : 0.0) - chance);
  }
  add(token);
}

std::vector<Token> PromptLookup::draft(int64_t most, int64_t others) const {
  std::vector<Token> guess;
  const Match match = find();
  if (match.end < 0) return guess;
  // A right guess makes the match longer, and the next one likelier.
  // Tokens of all for the time of the pass, against those without guesses.
  const double cost = 1 + kRowCost * static_cast<double>(others), plain = (1 + static_cast<double>(others)) / cost;
  double tokens = 1 + static_cast<double>(others), all_right = 1, best_gain = kLeastGain;
  size_t best_size = 0;
  while (std::ssize(guess) < most) {
    all_right *= chances_[kind_of(match.length + std::ssize(guess))];
    tokens += all_right;
    guess.push_back(following(match, std::ssize(guess), guess));
    const double gain = tokens / (cost + kRowCost * static_cast<double>(guess.size())) / plain;
    if (gain > best_gain) best_gain = gain, best_size = guess.size();
  }
  guess.resize(best_size);
  return guess;
}

void PromptLookup::add(Token token) {
  tokens_.push_back(token);
  const int64_t end = std::ssize(tokens_) - 1;
  for (Index& index : indices_) {
    index.before.push_back(-1);
    if (end + 1 < index.size) continue;
    const auto [place, is_new] = index.last.try_emplace(hash_at(end, index.size), static_cast<int32_t>(end));
    if (!is_new) index.before.back() = std::exchange(place->second, static_cast<int32_t>(end));
  }
}

void PromptLookup::drop_last() {
  const int64_t end = std::ssize(tokens_) - 1;
  for (Index& index : indices_) {
    const int32_t before = index.before.back();
    index.before.pop_back();
    if (end + 1 < index.size) continue;
    if (before >= 0) {
      index.last[hash_at(end, index.size)] = before;
    } else {
      index.last.erase(hash_at(end, index.size));
    }
  }
  tokens_.pop_back();
}

// Two runs may share a hash, which costs a comparison.
uint64_t PromptLookup::hash_at(int64_t last, int64_t size) const {
  uint64_t hash = 0;
  for (int64_t i = last - size + 1; i <= last; ++i) {
    hash = (hash ^ static_cast<uint64_t>(tokens_[static_cast<size_t>(i)])) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 29;
  }
  return hash;
}

PromptLookup::Match PromptLookup::find() const {
  const int64_t last = std::ssize(tokens_) - 1;
  Match best;
  for (const Index& index : indices_) {
    int64_t end = last < 0 ? -1 : index.before.back();
    for (int64_t i = 0; i < kMostCandidates && end >= 0; ++i) {
      int64_t length = 0;
      while (length < kLongestMatch && length <= end &&
             tokens_[static_cast<size_t>(end - length)] == tokens_[static_cast<size_t>(last - length)])
        ++length;
      if (length >= index.size && length > best.length) best = {end, length};
      end = index.before[static_cast<size_t>(end)];
    }
    if (best.end >= 0) break;
  }
  return best;
}

// Token `i` behind a match. Where the text ends the guess goes on, as a loop would.
Token PromptLookup::following(const Match& match, int64_t i, std::span<const Token> guess) const {
  const int64_t at = match.end + 1 + i, size = std::ssize(tokens_);
  return at < size ? tokens_[static_cast<size_t>(at)] : guess[static_cast<size_t>(at - size)];
}

}  // namespace corvid::model
