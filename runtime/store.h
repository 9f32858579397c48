// The trajectory store: every session with its messages, calls and results, in one SQLite file.
//
//   sessions 1--n messages 1--n calls 1--1 results      runs: one row for each run() of a session
//
// Everything is appended, in one transaction a message, before it is acted on: the assistant's message with its calls
// before a tool runs, a result (a `tool` message and its row in results) before the model sees it. A process that is
// killed loses nothing that was appended. Several processes may use one file: WAL, writers wait for each other up to
// `busy`. The text of a result stands in its message alone.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_format.h"
#include "model/message.h"
#include "model/sampler_params.h"
#include "runtime/chat.h"
#include "runtime/events.h"
#include "runtime/sqlite.h"
#include "tools/tool.h"

namespace corvid::runtime {

// What a session was started with: enough to resume or replay it.
struct SessionRecord {
  std::string id;                          // made by Store::create
  int64_t created_ms = 0, updated_ms = 0;  // since 1970, UTC
  std::filesystem::path workdir;
  std::string agent;
  std::string model_name, model_fingerprint;
  model::Prompt prompt;
  model::SamplerParams sampler;
  std::string status = "new";  // new | running | completed | limit | error | interrupted, of its last run;
                               // a killed process leaves "running" until the session is resumed
  std::string parent;          // the session this was forked from, or that asked; empty for none
};

struct SessionSummary {
  std::string id;
  int64_t created_ms = 0, updated_ms = 0;
  std::filesystem::path workdir;
  std::string agent, model_name, status;
  std::string prompt;  // the first user message
  int64_t messages = 0;
};

struct CallResult {
  tools::Status status = tools::Status::ok;
  Json detail = Json::object();
  std::optional<int> exit_code;
  double duration_ms = 0;
};

// One line of a transcript. Two kinds of `tool` message: with a call_id it answers that call and has a `result`;
// without one it is a note of the runtime to the model (a call that could not be read, an empty answer).
struct Entry {
  model::Message message;
  std::optional<Usage> usage;        // assistant only
  std::optional<CallResult> result;  // tool with a call_id only
  std::string model_fingerprint;     // assistant only: whose tokens they are
  int64_t created_ms = 0;            // set by Store::append
};

// What a merge came to.
struct MergeResult {
  int64_t added = 0;      // sessions that were not there
  int64_t continued = 0;  // that had gone on since they were last merged
  int64_t unchanged = 0;  // that hold nothing new
  struct Conflict {
    std::string session, reason;
  };
  std::vector<Conflict> conflicts;  // left as they were
};

// One connection to the file; used by one thread at a time. Threads open a Store each.
class Store {
 public:
  // Opens or creates the file and its parent folders. Throws StoreError when that is not possible, when the file is no
  // SQLite database, another program's, corrupt, or of a newer schema.
  explicit Store(const std::filesystem::path& file, std::chrono::milliseconds busy = std::chrono::seconds(5));

  // Stores `record` under a new id and returns the id: 13 characters of lower-case base32, time first, so that ids sort
  // by age.
  std::string create(const SessionRecord& record);
  // Appends message number `seq` (from 0) of a session. Throws StoreError when another process already wrote that
  // number, and when a result names no unanswered call.
  void append(std::string_view session, int64_t seq, const Entry& entry);
  // A run begins (the session's status becomes "running") and ends. An earlier run that never ended is closed as
  // interrupted.
  int64_t begin_run(std::string_view session, int64_t first_seq);
  void end_run(int64_t run, RunStatus status, std::string_view end, std::string_view error);

  // The session with this id or the only one whose id begins so; "last" is the one last touched. Throws StoreError when
  // there is none, and naming the candidates when there are several.
  SessionRecord find(std::string_view id_or_prefix);
  std::vector<Entry> load(std::string_view id);
  std::vector<SessionSummary> list(int64_t limit = 100);  // last touched first; a negative limit: all
  void remove(std::string_view id);                       // with everything that belongs to it

  // A new session that begins with the first `messages` messages of this one (negative: all of them), with its folder,
  // agent, model, prompt and sampler. Returns its id. Throws StoreError when there are fewer messages, and when a call
  // would be parted from its result.
  std::string fork(std::string_view id, int64_t messages = -1);
  // Takes over the sessions of another store under their ids, in one transaction: those that are not here, and of those
  // that are what they have gone on by. The same file again changes nothing. A session that went on otherwise in each
  // store is a conflict. The other file is only read. Throws StoreError when it is none, or this one.
  MergeResult merge(const std::filesystem::path& file);

  const std::string& file() const noexcept { return db_.file(); }

 private:
  Database db_;
};

}  // namespace corvid::runtime
