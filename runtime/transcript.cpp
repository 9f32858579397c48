#include "runtime/transcript.h"

#include <algorithm>
#include <utility>

namespace corvid::runtime {

using model::Role;

Entry user_entry(std::string text) {
  Entry entry;
  entry.message.role = Role::user;
  entry.message.text = std::move(text);
  return entry;
}

Entry assistant_entry(model::Message message, const Usage& usage) {
  Entry entry;
  entry.message = std::move(message);
  entry.message.role = Role::assistant;
  entry.usage = usage;
  return entry;
}

Entry tool_entry(std::string text, std::string call_id, std::optional<CallResult> result) {
  Entry entry;
  entry.message.role = Role::tool;
  entry.message.text = std::move(text);
  entry.message.call_id = std::move(call_id);
  entry.result = std::move(result);
  return entry;
}

Transcript::Transcript(Store& store, std::string session_id, std::string model_fingerprint, std::vector<Entry> entries)
    : store_(store), session_id_(std::move(session_id)), model_fingerprint_(std::move(model_fingerprint)) {
  messages_.reserve(entries.size());
  for (Entry& entry : entries) {
    if (entry.model_fingerprint != model_fingerprint_) entry.message.tokens.clear();
    messages_.push_back(std::move(entry.message));
  }
}

void Transcript::append(Entry entry) {
  if (entry.message.role == Role::assistant) entry.model_fingerprint = model_fingerprint_;
  const int64_t seq = int64_t(messages_.size());
  store_.append(session_id_, seq, entry);
  messages_.push_back(entry.message);
  for (const EntryWatcher& watcher : watchers_) watcher(seq, entry);
}

void Transcript::watch(EntryWatcher watcher) { watchers_.push_back(std::move(watcher)); }

const model::Call* Transcript::call(std::string_view id) const {
  for (auto message = messages_.rbegin(); message != messages_.rend(); ++message)
    for (const model::Call& call : message->calls)
      if (call.id == id) return &call;
  return nullptr;
}

std::vector<model::Call> Transcript::unanswered_calls() const {
  const auto last = std::find_if(messages_.rbegin(), messages_.rend(),
                                 [](const model::Message& m) { return m.role == Role::assistant; });
  if (last == messages_.rend()) return {};
  std::vector<model::Call> open = last->calls;
  for (auto message = last.base(); message != messages_.end(); ++message)
    std::erase_if(open, [&](const model::Call& call) { return call.id == message->call_id; });
  return open;
}

}  // namespace corvid::runtime
