// All that the loop knows of a model.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>

#include "model/message.h"

namespace corvid::runtime {

struct Usage {
  int64_t prompt_tokens = 0;  // tokens of the prompt
  int64_t cached_tokens = 0;  // of these, found in the KV cache
  int64_t completion_tokens = 0;
  double prefill_ms = 0, decode_ms = 0;
};

struct Reply {
  model::Message message;
  Usage usage;
  bool is_cut = false;  // ended by max_tokens or the context, not by the model
  std::string error;    // markup that was no valid call; empty otherwise
};

// One conversation's model. Used by one thread at a time.
class Chat {
 public:
  virtual ~Chat() = default;
  using OnText = std::function<void(std::string_view)>;
  // The assistant's next message. `on_text` gets visible text as it is certain. On a stop request it returns soon with
  // what was generated so far. Throws for failures (std::length_error: the messages do not fit the context).
  virtual Reply reply(std::span<const model::Message> messages, int64_t max_tokens, const OnText& on_text,
                      std::stop_token stop) = 0;
};

}  // namespace corvid::runtime
