// All that the loop knows of a model.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "model/message.h"

namespace corvid::runtime {

struct Usage {
  int64_t prompt_tokens = 0;  // tokens of the prompt
  int64_t cached_tokens = 0;  // of these, found in the KV cache
  int64_t completion_tokens = 0;
  double prefill_ms = 0, decode_ms = 0;
  int64_t drafted_tokens = 0;   // guessed ahead and verified
  int64_t accepted_tokens = 0;  // of these, those that were right
};

struct Reply {
  model::Message message;
  Usage usage;
  bool is_cut = false;      // ended by max_tokens or the context, not by the model
  bool is_stopped = false;  // ended by a stop string; the text before it is the answer, also when that is nothing
  std::string error;        // markup that was no valid call; empty otherwise
};

// A token as a watcher sees it. The text is the token's bytes, which may be part of a character.
struct TokenLogprob {
  model::Token id = 0;
  std::string text;
  double logprob = 0;  // natural logarithm of the probability that the model gives, before sampling changes it
};
struct TokenLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // likeliest first
};

// What a reply says as it goes.
struct Piece {
  std::string text;                       // visible text that is certain by now
  std::optional<TokenLogprobs> logprobs;  // when asked for: of each token, and the text is then often empty
};

// One conversation's model. Used by one thread at a time.
class Chat {
 public:
  virtual ~Chat() = default;
  using OnPiece = std::function<void(Piece)>;
  // The assistant's next message; `on_piece` gets what is visible as it is certain. On a stop request it returns soon
  // with what was generated so far. Throws for failures (std::length_error: the messages do not fit the context).
  virtual Reply reply(std::span<const model::Message> messages, int64_t max_tokens, const OnPiece& on_piece,
                      std::stop_token stop) = 0;
};

}  // namespace corvid::runtime
