// What tests of evaluation share: models of made-up weights, prompts of made-up tokens, logits to compare.
#pragma once
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "model/sequence.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace corvid::test {

inline std::shared_ptr<const model::Model> made_of(const TinyCheckpoint& shape) {
  const TempDir dir;
  shape.write(dir);
  return model::Model::load(dir.path());  // the files stay mapped when the folder is gone
}

inline std::vector<model::Token> prompt_of(int64_t count, uint64_t seed = 5, int64_t vocab = 96) {
  std::vector<model::Token> tokens;
  for (uint64_t state = seed; std::ssize(tokens) < count;) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    tokens.push_back(static_cast<model::Token>((state >> 33) % static_cast<uint64_t>(vocab)));
  }
  return tokens;
}

inline std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }
inline std::vector<model::Token> copy(std::span<const model::Token> values) { return {values.begin(), values.end()}; }

// The logits after `prompt`, evaluated at once.
inline std::vector<float> fresh(const std::shared_ptr<const model::Model>& model, std::span<const model::Token> prompt,
                                model::Attention attention = model::Attention::automatic) {
  kernels::Exec exec(2);
  model::Sequence sequence(model, exec, std::ssize(prompt), attention);
  sequence.sync(prompt);
  return copy(sequence.logits());
}

// The logits of every token of `prompt`, evaluated at once.
inline std::vector<std::vector<float>> fresh_rows(const std::shared_ptr<const model::Model>& model,
                                                  std::span<const model::Token> prompt,
                                                  model::Attention attention = model::Attention::automatic) {
  kernels::Exec exec(2);
  model::Sequence sequence(model, exec, std::ssize(prompt), attention);
  std::vector<int64_t> positions(prompt.size());
  std::iota(positions.begin(), positions.end(), 0);
  return sequence.logits_at(prompt, positions);
}

}  // namespace corvid::test
