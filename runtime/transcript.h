// The messages of one session: append() stores a message, then tells the watchers. It only grows.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/store.h"

namespace corvid::runtime {

Entry user_entry(std::string text);
Entry assistant_entry(model::Message message, const Usage& usage);
// The result of a call, or, without a call_id, a note of the runtime to the model.
Entry tool_entry(std::string text, std::string call_id = {}, std::optional<CallResult> result = {});

class Transcript {
 public:
  // `entries` are what the store already holds of the session. Tokens that another model than `model_fingerprint`
  // generated are left out: this one would read them as other text. The store must outlive the transcript.
  Transcript(Store& store, std::string session_id, std::string model_fingerprint, std::vector<Entry> entries);

  // Throws StoreError when the message could not be stored; then it is not part of the transcript and nobody heard of
  // it.
  void append(Entry entry);

  using EntryWatcher = std::function<void(int64_t seq, Entry)>;
  void watch(EntryWatcher watcher);

  std::span<const model::Message> messages() const { return messages_; }
  const std::string& session_id() const { return session_id_; }
  // The call with this id; null when there is none. Valid until the next append.
  const model::Call* call(std::string_view id) const;
  // Calls of the last assistant message that no later message answers.
  std::vector<model::Call> unanswered_calls() const;

 private:
  Store& store_;
  std::string session_id_, model_fingerprint_;
  std::vector<model::Message> messages_;
  std::vector<EntryWatcher> watchers_;
};

}  // namespace corvid::runtime
