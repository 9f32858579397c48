// A session: one transcript with its model and tools. Starts, resumes, runs prompts.
//
//   Store store(file);
//   LocalChat chat(model, exec, {prompt, sampler});
//   Session session = Session::start(store, {.workdir = ..., .agent = "default", ...}, chat, tools);
//   session.watch([](Event event) { ... });
//   RunResult result = session.run("how many txt files are in notes?", {}, stop);
#pragma once
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "runtime/events.h"
#include "runtime/loop.h"
#include "runtime/store.h"

namespace corvid::runtime {

struct RunOptions {
  Limits limits;
  Approver approver;
  std::shared_ptr<Meter> meter;  // null: nobody else needs to know what is spent
};

// Used by one thread at a time. The store, the chat and the toolbox must outlive it.
class Session {
 public:
  // Stores a new session; `record` needs no id, times or status. Throws StoreError.
  static Session start(Store& store, SessionRecord record, Chat& chat, tools::Toolbox& tools);
  // Goes on with a stored session (`record` from Store::find; `chat` made from its prompt and sampler). Calls that a
  // killed process left unanswered get the result "[error: interrupted]". When `model_fingerprint`, the model behind
  // `chat`, is not the stored one, generated tokens are dropped and messages are rendered from their text.
  static Session resume(Store& store, SessionRecord record, Chat& chat, tools::Toolbox& tools,
                        std::string_view model_fingerprint);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  void watch(Watcher watcher);
  // Appends `prompt` as the user's message and runs until the model answers, a limit is reached or `stop` is requested.
  // Never throws for what happens in a run: a failure becomes RunStatus::error with its message, because the caller
  // needs the session's id and what was spent just then. Throws std::invalid_argument for a prompt without text.
  RunResult run(std::string prompt, const RunOptions& options = {}, std::stop_token stop = {});

  const SessionRecord& record() const;
  const std::string& notice() const;  // what a resume had to change; empty for nothing
  std::span<const model::Message> messages() const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::runtime
