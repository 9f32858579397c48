// A session of a host: everything that it needs, alive as long as any handle to it.
#pragma once
#include <set>

#include "agents/embed/parts.h"
#include "runtime/local_chat.h"
#include "tools/toolbox.h"

namespace corvid {
inline namespace v1 {

struct [[gnu::visibility("hidden")]] Session::Impl {
  Impl(std::shared_ptr<Engine::Impl> engine_in, const Store::Impl& store_in, const Agent::Impl& agent,
       const std::filesystem::path& workdir);
  ~Impl();  // keeps what a resume can use

  using Emit = std::function<void(const runtime::Event&)>;
  // Between claim() and release(): one run, on the calling thread. `emit` may be empty.
  Result run(std::string prompt, const RunOptions& options, std::stop_token stop, const Emit& emit);

  // The session is one thread's from claim() to release(). Throws std::logic_error while it is another's. A run that
  // has told its DoneEvent is as good as over, and is waited for: the host that hears of it may call at once.
  void claim();
  void release() noexcept;

  std::shared_ptr<Engine::Impl> engine;
  runtime::Store store;
  std::optional<runtime::SessionCache> cache;
  runtime::Limits limits;
  std::set<std::string, std::less<>> host_functions;  // names of tools that are the host's
  tools::Toolbox toolbox;
  std::optional<runtime::LocalChat> chat;
  std::optional<runtime::Session> session;
  Emit emit;  // of the run that is going on
  bool has_run = false;

 private:
  enum class Use : uint8_t { free, claimed, ending };

  std::mutex mutex_;
  std::condition_variable released_;
  Use use_ = Use::free;
  std::thread::id user_;
};

// Claims a session for a scope.
class [[gnu::visibility("hidden")]] Claim {
 public:
  explicit Claim(Session::Impl & session) : session_(session) { session_.claim(); }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() { session_.release(); }

 private:
  Session::Impl& session_;
};

// Calls the host's handler, or hands the call over.
void deliver(const RunOptions& options, Event event);

// Throws std::invalid_argument for a prompt without text.
std::string checked_prompt(std::string_view prompt);

}  // namespace v1
}  // namespace corvid
