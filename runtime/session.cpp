#include "runtime/session.h"

#include <stdexcept>
#include <utility>

namespace corvid::runtime {

using model::Role;

struct Session::Impl {
  Impl(Store& store_in, SessionRecord record_in, Chat& chat_in, tools::Toolbox& tools_in,
       const std::string& fingerprint, std::vector<Entry> entries)
      : store(store_in),
        record(std::move(record_in)),
        chat(chat_in),
        tools(tools_in),
        log(store_in, record.id, fingerprint, std::move(entries)) {
    log.watch([this](int64_t seq, Entry entry) { on_append(seq, std::move(entry)); });
  }

  void emit(Event event) {
    for (const Watcher& watcher : watchers) watcher(event);
  }

  void on_append(int64_t seq, Entry entry) {
    if (entry.result) {
      const model::Call* call = log.call(entry.message.call_id);
      ToolCallRecord made{*call, entry.result->status, entry.result->exit_code, entry.result->duration_ms};
      result.tool_calls.push_back(made);
      result.tool_ms += made.duration_ms;
      emit(ToolResultEvent{std::move(made), entry.message.text});
    }
    emit(MessageEvent{seq, std::move(entry.message)});
  }

  void on_usage(const Usage& usage) {
    Usage& sum = result.usage;
    ++result.turns;
    sum.prompt_tokens += usage.prompt_tokens;
    sum.cached_tokens += usage.cached_tokens;
    sum.completion_tokens += usage.completion_tokens;
    sum.prefill_ms += usage.prefill_ms;
    sum.decode_ms += usage.decode_ms;
    sum.drafted_tokens += usage.drafted_tokens;
    sum.accepted_tokens += usage.accepted_tokens;
  }

  // A transcript is well formed when every call has a result; a run that failed or was killed may have left some open.
  size_t close_open_calls() {
    const std::vector<model::Call> open = log.unanswered_calls();
    CallResult result_of_open;
    result_of_open.status = tools::Status::cancelled;
    for (const model::Call& call : open) log.append(tool_entry("[error: interrupted]", call.id, result_of_open));
    return open.size();
  }

  Store& store;
  SessionRecord record;
  Chat& chat;
  tools::Toolbox& tools;
  Transcript log;
  std::vector<Watcher> watchers;
  std::string notice;
  bool is_resumed = false;
  RunResult result;  // of the run that is going on
};

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Session Session::start(Store& store, SessionRecord record, Chat& chat, tools::Toolbox& tools) {
  record = store.find(store.create(record));
  const std::string fingerprint = record.model_fingerprint;
  return Session(std::make_unique<Impl>(store, std::move(record), chat, tools, fingerprint, std::vector<Entry>()));
}

Session Session::resume(Store& store, SessionRecord record, Chat& chat, tools::Toolbox& tools,
                        std::string_view model_fingerprint) {
  std::vector<Entry> entries = store.load(record.id);
  auto impl =
      std::make_unique<Impl>(store, std::move(record), chat, tools, std::string(model_fingerprint), std::move(entries));
  impl->is_resumed = true;
  if (impl->record.model_fingerprint != model_fingerprint)
    impl->notice = "the session was begun with another model (" + impl->record.model_name + ", " +
                   impl->record.model_fingerprint + "; now " + std::string(model_fingerprint) +
                   "): its messages are read from their text";
  if (const size_t n = impl->close_open_calls())
    impl->notice += std::string(impl->notice.empty() ? "" : "; ") + std::to_string(n) +
                    (n == 1 ? " tool call was" : " tool calls were") + " cut short when the last run ended";
  return Session(std::move(impl));
}

void Session::watch(Watcher watcher) { impl_->watchers.push_back(std::move(watcher)); }
const SessionRecord& Session::record() const { return impl_->record; }
const std::string& Session::notice() const { return impl_->notice; }
std::span<const model::Message> Session::messages() const { return impl_->log.messages(); }

RunResult Session::run(std::string prompt, const RunOptions& options, std::stop_token stop) {
  if (prompt.find_first_not_of(" \t\r\n") == std::string::npos)
    throw std::invalid_argument("prompt: want a task, found nothing");
  Impl& s = *impl_;
  RunResult& result = s.result = {};
  result.session_id = s.record.id;
  const char* end = "failed";
  std::optional<int64_t> run_id;
  const auto guarded = [&](const auto& step) {
    try {
      step();
    } catch (const std::exception& e) {
      if (result.status != RunStatus::error || result.error.empty()) result.error = e.what();
      result.status = RunStatus::error;
    }
  };
  guarded([&] {
    s.emit(SessionEvent{s.record.id, s.is_resumed, s.notice});
    s.close_open_calls();
    run_id = s.store.begin_run(s.record.id, int64_t(s.log.messages().size()));
    s.log.append(user_entry(std::move(prompt)));
    Hooks hooks;
    hooks.on_piece = [&](Piece piece) { s.emit(TokenEvent{std::move(piece)}); };
    hooks.on_call = [&](const model::Call& call) { s.emit(ToolCallEvent{call}); };
    hooks.on_usage = [&](const Usage& usage) { s.on_usage(usage); };
    hooks.approver = options.approver;
    hooks.meter = options.meter.get();
    const Outcome outcome = runtime::run(s.log, s.chat, s.tools, options.limits, hooks, std::move(stop));
    result.status = status_of(outcome.end);
    result.error = outcome.reason;
    end = to_text(outcome.end);
  });
  // The answer may be there although the run failed after it.
  if (const auto messages = s.log.messages(); result.turns > 0 && !messages.empty())
    if (const model::Message& last = messages.back(); last.role == Role::assistant && last.calls.empty())
      result.answer = last.text;
  guarded([&] {
    if (run_id) s.store.end_run(*run_id, result.status, end, result.error);
  });
  s.is_resumed = true;  // a second run goes on with what the first left
  s.notice.clear();
  guarded([&] { s.emit(DoneEvent{result}); });
  return result;
}

}  // namespace corvid::runtime
