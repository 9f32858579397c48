// Chat over model/: renders the messages, keeps what the KV cache already holds, samples until the turn ends.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "model/chat_format.h"
#include "model/model.h"
#include "model/sampler.h"
#include "model/sequence.h"
#include "runtime/chat.h"
#include "runtime/prefix_cache.h"
#include "runtime/session_cache.h"

namespace corvid::runtime {

struct LocalChatOptions {
  model::Prompt prompt;
  model::SamplerParams sampler;
  std::optional<int64_t> logprobs;  // with each token its log-probability, and those of so many likeliest ones
  int64_t speculate = 16;           // tokens guessed ahead, at most (model/prompt_lookup.h); 0: none
  int64_t context = 0;              // tokens; 0: what the model was made for
  model::Attention attention = model::Attention::automatic;
  model::CacheFormat cache_format = kernels::Format::f16;  // in an engine of its own
  std::function<void()> on_first_token;  // called once; for work that would have slowed down the wait for it
  std::optional<PrefixCache> prefixes;   // where instructions and tools are looked up, and stored after the first reply
};

// Used by one thread at a time; any number of chats of one engine at once.
class LocalChat final : public Chat {
 public:
  // Throws std::invalid_argument for parameters out of range, std::runtime_error when the model has no tokenizer or one
  // without the chat format's special tokens.
  LocalChat(std::shared_ptr<model::Engine> engine, LocalChatOptions options);
  // With an engine of its own, on threads that the caller lends: `exec` must outlive it.
  LocalChat(std::shared_ptr<const model::Model> model, kernels::Exec& exec, LocalChatOptions options);
  ~LocalChat() override;

  // A stop is honoured between tokens, and between chunks of the prompt. Stop strings are looked for in the answer's
  // text, not in calls or reasoning. A reply that was cut or stopped, by either, has no `tokens`: it is put back from
  // its text. Sampling depends on the seed and the messages alone, so that a resumed
  // session goes on as the first one would have. Throws std::length_error when the messages do not fit the context.
  Reply reply(std::span<const model::Message> messages, int64_t max_tokens, const OnPiece& on_piece,
              std::stop_token stop) override;

  // Takes over, before the first reply, what store() left of a session, so that its history need not be read again;
  // does nothing where there is nothing. What replies say does not depend on it.
  void restore(const SessionCache& cache, std::string_view session);
  void store(const SessionCache& cache, std::string_view session) const;

  int64_t context() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::runtime
