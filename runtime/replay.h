// Replays a stored session: the model answers the stored prompts and tool results once more, no tool runs, and every
// reply is compared with the stored one, token by token.
#pragma once
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/chat.h"
#include "runtime/store.h"

namespace corvid::runtime {

struct ReplayedReply {
  enum class Verdict : uint8_t {
    same,       // the same tokens; of a reply that was cut, and whose tokens are not kept, the same text and calls
    different,  // other ones
    foreign,    // another model wrote it: not replayed
  };
  int64_t seq = 0;  // of its message
  Verdict verdict = Verdict::same;
  int64_t tokens = 0;      // of the stored reply
  int64_t differs_at = 0;  // the first token that is another one; only when both replies' tokens are known
  model::Message stored, found;
};

// `entries` as the store has them; `chat` made from the session's prompt and sampler, over the model with this
// fingerprint, its cache in the formats in which the session was spoken: the store does not name them. Each reply is
// made from the stored messages before it, so that one that differs does not spoil those behind it. Calls back after
// each. After a stop the replies so far are returned.
std::vector<ReplayedReply> replay(Chat& chat, const std::vector<Entry>& entries, std::string_view model_fingerprint,
                                  const std::function<void(const ReplayedReply&)>& on_reply, std::stop_token stop);

}  // namespace corvid::runtime
