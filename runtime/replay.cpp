#include "runtime/replay.h"

#include <algorithm>

namespace corvid::runtime {

namespace {

using model::Message;

bool is_same_call(const model::Call& a, const model::Call& b) {
  return a.id == b.id && a.name == b.name && a.args == b.args;
}

// The tokens are the whole reply; one that was cut has none.
bool is_same(const Message& stored, const Message& found) {
  if (!stored.tokens.empty()) return stored.tokens == found.tokens;
  return stored.text == found.text && stored.reasoning == found.reasoning &&
         std::ranges::equal(stored.calls, found.calls, is_same_call);
}

}  // namespace

std::vector<ReplayedReply> replay(Chat& chat, const std::vector<Entry>& entries, std::string_view model_fingerprint,
                                  const std::function<void(const ReplayedReply&)>& on_reply, std::stop_token stop) {
  std::vector<ReplayedReply> replies;
  std::vector<Message> messages;
  for (const Entry& entry : entries) {
    const Message& stored = entry.message;
    const bool is_foreign = stored.role == model::Role::assistant && entry.model_fingerprint != model_fingerprint;
    if (stored.role == model::Role::assistant) {
      ReplayedReply reply;
      reply.seq = int64_t(messages.size());
      reply.stored = stored;
      reply.tokens = entry.usage ? entry.usage->completion_tokens : int64_t(stored.tokens.size());
      if (is_foreign) {
        reply.verdict = ReplayedReply::Verdict::foreign;
      } else {
        // As many tokens as there were: a reply that was cut then ends at the same place.
        reply.found = chat.reply(messages, std::max<int64_t>(1, reply.tokens), {}, stop).message;
        if (stop.stop_requested()) return replies;
        if (!is_same(stored, reply.found)) reply.verdict = ReplayedReply::Verdict::different;
        const auto [theirs, ours] = std::ranges::mismatch(stored.tokens, reply.found.tokens);
        reply.differs_at = theirs - stored.tokens.begin();
      }
      if (on_reply) on_reply(reply);
      replies.push_back(std::move(reply));
    }
    messages.push_back(stored);
    if (is_foreign) messages.back().tokens.clear();  // of another vocabulary, maybe: as Transcript does
  }
  return replies;
}

}  // namespace corvid::runtime
