// A session: one conversation of an agent in a folder, stored message by message.
//
//   corvid::Engine engine(corvid::Model::shipped());
//   corvid::Store store("agents.db");
//   corvid::Session session = corvid::Session::start(engine, store, corvid::Agent(), {.workdir = "/home/mia/garden"});
//   corvid::Result result = session.run("how many txt files are in notes?");
#pragma once
#include <chrono>
#include <corvid/agent.hpp>
#include <corvid/engine.hpp>
#include <corvid/event.hpp>
#include <corvid/export.hpp>
#include <corvid/store.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace corvid {
inline namespace v1 {

struct SessionOptions {
  std::filesystem::path workdir = ".";  // the tools' folder; a resumed session's when it is "."
  int64_t context = 0;                  // tokens; 0: 32,768, or what the model was made for when that is less
  bool project_notes = true;            // the folder's AGENTS.md is added to the instructions
};

// Which calls the host is asked about: none; those that can change something, which are all but corvid's own read_file
// and list_dir (a function of the host's counts, also one behind these two names: what it does only the host knows);
// all.
enum class Approve : uint8_t { never, risky, always };

struct RunOptions {
  std::stop_token stop = {};  // requested: the run ends soon as interrupted, the session stays whole
  // The run ends as a limit then, if the agent's own limit does not come first.
  std::optional<std::chrono::steady_clock::time_point> deadline = {};
  EventHandler on_event = {};  // on the run's thread, unless there is a `dispatch`; what it throws ends the run
  Dispatch dispatch = {};      // hands the calls of on_event over; the functions given to it must not outlive the host
  Approve approve = Approve::never;
  // True: run it. On the run's thread, and may take as long as a person needs. Without it what needs an approval is
  // denied.
  std::function<bool(const ToolCall&)> ask = {};
};

class Run;

// Used by one thread at a time: a call while another one runs throws std::logic_error. Sessions are independent of each
// other; those of one engine share its model, memory and passes.
class CORVID_API Session {
 public:
  // Throws std::invalid_argument for a folder that cannot be given to tools or numbers out of range, std::runtime_error
  // for the store, or a model without a chat format.
  static Session start(const Engine& engine, const Store& store, const Agent& agent,
                       const SessionOptions& options = {});
  // Goes on with a stored session (an id, the unambiguous beginning of one, or "last"). Instructions, declarations of
  // tools and sampler are the stored ones; of the agent its policy, limits and the host's functions count. Throws
  // std::runtime_error when there is no such session, std::invalid_argument when it had a tool that the agent lacks.
  static Session resume(const Engine& engine, const Store& store, const Agent& agent, std::string_view id,
                        const SessionOptions& options = {});
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  // The last handle, which a Run has too, leaves the session's keys and values in StoreOptions::session_folder.
  ~Session();

  const std::string& id() const noexcept;
  const std::filesystem::path& workdir() const noexcept;
  std::vector<Message> messages() const;  // not while a run is going on

  // Appends the prompt and works until the model answers, a limit is reached, or a stop is requested. Blocks; uses the
  // caller's thread. Whatever goes wrong in a run is in its result. Throws std::invalid_argument for an empty prompt.
  Result run(std::string_view prompt, const RunOptions& options = {});
  // The same on a thread of its own, with all signals blocked.
  Run begin(std::string_view prompt, const RunOptions& options = {});
  // One call by hand, through the same checks and the same policy as the model's. Not stored. Never throws for what can
  // be wrong with a call.
  ToolResult call_tool(std::string_view name, std::string_view arguments, std::stop_token stop = {});

  struct Impl;

 private:
  friend class Run;
  explicit Session(std::shared_ptr<Impl> impl) noexcept;
  std::shared_ptr<Impl> impl_;
};

// A run that goes on. Its events, when the options had no on_event, are read one after the other:
//
//   corvid::Run run = session.begin("how many txt files are in notes?");
//   for (const corvid::Event& event : run) show(event);
//   corvid::Result result = run.wait();
//
// The session must not be used before the run has ended; it may be destroyed. Used by one thread at a time, but for
// cancel().
class CORVID_API Run {
 public:
  Run(Run&&) noexcept;
  Run& operator=(Run&&) noexcept;
  ~Run();  // cancels and waits; from within a handler of this run it only cancels

  std::optional<Event> next();  // blocks; nothing after the DoneEvent
  // The next event if it comes in time, and nothing otherwise.
  std::optional<Event> next_for(std::chrono::milliseconds time);
  bool is_done() const noexcept;  // true: wait() returns at once
  Result wait();                  // blocks; events that were not read are dropped
  void cancel() noexcept;         // from any thread

  class Iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = Event;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    explicit Iterator(Run& run) : run_(&run), event_(run.next()) {}
    const Event& operator*() const { return *event_; }
    const Event* operator->() const { return &*event_; }
    Iterator& operator++() {
      event_ = run_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const noexcept { return !event_; }

   private:
    Run* run_ = nullptr;
    std::optional<Event> event_;
  };
  Iterator begin() { return Iterator(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  struct Impl;

 private:
  friend class Session;
  explicit Run(std::shared_ptr<Impl> impl) noexcept;
  std::shared_ptr<Impl> impl_;
};

}  // namespace v1
}  // namespace corvid
