// One timeline of tokens with its KV cache: what a session holds of a model.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/model.h"

namespace corvid::model {

// automatic and sparse follow the model file (MSA layers select blocks); dense attends to every position everywhere.
enum class Attention : uint8_t { automatic, sparse, dense };

// Used by one thread at a time. The Model and the Exec must outlive it (the Model is shared).
class Sequence {
 public:
  // Throws std::invalid_argument when max_tokens < 1. Memory grows with the tokens held, page by page.
  Sequence(std::shared_ptr<const Model> model, kernels::Exec& exec, int64_t max_tokens,
           Attention attention = Attention::automatic);
  Sequence(Sequence&&) noexcept;
  Sequence& operator=(Sequence&&) noexcept;
  ~Sequence();

  // Makes the sequence hold exactly `prompt`: keeps the common prefix, evaluates the rest in chunks. Returns the number
  // of tokens kept (at most prompt.size() - 1: the last token is always evaluated, so that logits() is its output).
  // Throws std::length_error when prompt is longer than max_tokens, std::invalid_argument for an empty prompt or an id
  // outside the vocabulary.
  int64_t sync(std::span<const Token> prompt);
  void append(Token token);
  std::span<const float> logits() const;  // [vocab], of the last token; valid until the next sync or append
  std::span<const Token> tokens() const;
  int64_t max_tokens() const;

  // For measurement and golden tests: evaluates `prompt` from nothing and calls back with the logits at `positions`.
  // Row i of the result is [vocab] of positions[i].
  std::vector<std::vector<float>> logits_at(std::span<const Token> prompt, std::span<const int64_t> positions);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::model
