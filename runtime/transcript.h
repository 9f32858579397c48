// The messages of one session: append() stores a message, then tells the watchers. It only grows.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/store.h"

namespace corvid::runtime {

class Transcript {
 public:
  // `entries` are what the store already holds of the session. The store must outlive the transcript.
  Transcript(Store& store, std::string session_id, std::vector<Entry> entries);

  // Throws StoreError when the message could not be stored; then it is not part of the transcript and nobody heard of
  // it.
  void append(Entry entry);

  using EntryWatcher = std::function<void(int64_t seq, Entry)>;
  void watch(EntryWatcher watcher);

  std::span<const model::Message> messages() const { return messages_; }
  const std::string& session_id() const { return session_id_; }
  // Calls of the last assistant message that no later message answers.
  std::vector<model::Call> unanswered_calls() const;
  // Forgets the generated tokens in memory (the store keeps them): another model would read them as other text.
  void drop_tokens();

 private:
  Store& store_;
  std::string session_id_;
  std::vector<model::Message> messages_;
  std::vector<EntryWatcher> watchers_;
};

}  // namespace corvid::runtime
