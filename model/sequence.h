// One timeline of tokens with its KV cache: what a session holds of a model.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "model/engine.h"
#include "model/kv_pool.h"
#include "model/model.h"

namespace corvid::model {

// automatic follows the model file (MSA layers select blocks, others attend to everything); dense attends to every
// position everywhere. sparse selects blocks also in a model that was trained to attend to everything: by bounds of
// their keys (kernels/page_select), which is less exact and reads less.
enum class Attention : uint8_t { automatic, sparse, dense };

// Used by one thread at a time; sequences of one engine by as many threads as there are. A call queues its tokens and
// returns when they are evaluated. A stop is honoured between two passes: the call returns then, and the sequence holds
// what was evaluated so far.
class Sequence {
 public:
  // Throws std::invalid_argument when max_tokens < 1. Memory grows with the tokens held, page by page.
  Sequence(std::shared_ptr<Engine> engine, int64_t max_tokens, Attention attention = Attention::automatic);
  // With an engine of its own, on threads that the caller lends; `pool` null: memory without a limit.
  Sequence(std::shared_ptr<const Model> model, kernels::Exec& exec, int64_t max_tokens,
           Attention attention = Attention::automatic, std::shared_ptr<KvPool> pool = nullptr,
           CacheFormat cache_format = {});
  Sequence(Sequence&&) noexcept;
  Sequence& operator=(Sequence&&) noexcept;
  ~Sequence();

  // Makes the sequence hold exactly `prompt`: keeps the common prefix, or what another sequence of the engine has of
  // it, and evaluates the rest in chunks. Returns the number of tokens found in a cache (at most prompt.size() - 1: the
  // last token is always evaluated, so that logits() is its output). After a stop tokens() is a beginning of `prompt`.
  // Throws std::length_error when prompt is longer than max_tokens or than the engine's memory, before any work,
  // std::invalid_argument for an empty prompt or an id outside the vocabulary; std::bad_alloc when memory is short:
  // then too it holds what was evaluated.
  int64_t sync(std::span<const Token> prompt, const std::stop_token& stop = {});
  // False after a stop: the token is not held then. Throws as sync does.
  bool append(Token token, const std::stop_token& stop = {});
  // Evaluates several tokens at once, for the price of little more than one, and keeps the logits of each: what
  // verifying guessed tokens takes. False after a stop. Throws as sync does.
  bool extend(std::span<const Token> tokens, const std::stop_token& stop = {});
  // The same, but keeps of each row the likeliest token alone, best_of() its logits, which stay where they are
  // computed: what greedy decoding needs. logits() are empty then.
  bool extend_best(std::span<const Token> tokens, const std::stop_token& stop = {});
  Token best(int64_t i) const;  // of the i-th token of the last extend_best; throws as logits(i) does
  // Forgets all but the first `n_tokens` tokens; logits() are those of the last one kept, or empty when they are not
  // held any more. Throws std::invalid_argument unless 0 <= n_tokens <= tokens().size().
  void truncate(int64_t n_tokens);
  std::span<const float> logits() const;  // [vocab], of the last token; valid until the next call that is not const
  // [vocab], of the i-th token of the last extend (or of the one token of sync and append). Throws
  // std::invalid_argument for a token that is not held any more.
  std::span<const float> logits(int64_t i) const;
  std::span<const Token> tokens() const;
  int64_t max_tokens() const;
  int64_t fitting_tokens() const;  // no more than max_tokens(), nor than the engine's memory is for

  // Makes an empty sequence hold `prefix` when another one of the engine does: without evaluation, and with its pages.
  // False, and nothing changed, when none does. logits() are empty then until the next sync or append.
  bool adopt(std::span<const Token> prefix);
  // Nothing follows soon: the next pass need not wait for this sequence to come back.
  void rest();
  // How many other sequences the engine's last pass served: a row more costs them time, too.
  int64_t company() const;

  // A sequence of the same engine that holds the same; cache pages are shared until either writes to one, which it
  // copies then.
  Sequence fork() const;

  // What the bits of the cached keys and values depend on besides the tokens: model, format, kernels' tier, attention.
  std::string identity() const;
  int64_t cache_bytes(int64_t n_tokens) const;  // of the pages of so many tokens
  // Writes the first `n_tokens` tokens with their pages (kv_snapshot.h). Throws std::invalid_argument when fewer are
  // held, std::system_error naming the file.
  void save(const std::filesystem::path& file, int64_t n_tokens) const;
  // Makes the sequence hold what a file holds; logits() are empty until the next sync or append. Bit for bit what an
  // evaluation would have left. Throws as read_snapshot does, and then changes nothing.
  void restore(const std::filesystem::path& file);

  // For measuring: makes the sequence hold `n_tokens` made-up tokens, with keys and values that no evaluation gave
  // (random_model.h). logits() are empty until the next sync or append. Throws std::length_error as sync does.
  void make_up(int64_t n_tokens);
  // For measuring: on a GPU, a decode step of the last tokens of sequences of one engine, once more, and where its time
  // goes. Nothing on the CPU, or where one holds no token. Nobody else uses them meanwhile.
  static std::optional<StepProfile> profile_step(std::span<Sequence> sequences);
  // For measurement and golden tests: evaluates `prompt` from nothing and calls back with the logits at `positions`.
  // Row i of the result is [vocab] of positions[i].
  std::vector<std::vector<float>> logits_at(std::span<const Token> prompt, std::span<const int64_t> positions);

 private:
  struct Impl;
  explicit Sequence(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::model
