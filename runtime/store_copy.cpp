// Sessions that are copied: forks within a store, and what another store holds.
#include <sqlite3.h>

#include "runtime/schema.h"
#include "runtime/store.h"

namespace corvid::runtime {

namespace {

// How the columns of a table stand in the schema, but for those that a copy may change.
constexpr const char* kHead =
    "created_ms, workdir, agent, model_name, model_fingerprint, instructions, tools, thinking, sampler";
constexpr const char* kMessage =
    "created_ms, role, text, reasoning, tokens, model_fingerprint, call_id, prompt_tokens, cached_tokens, "
    "completion_tokens, prefill_ms, decode_ms";

// The other store's file, as the schema `other` of this connection.
class Attached {
 public:
  Attached(Database& db, const std::filesystem::path& file, const char* wanted) : db_(db) {
    Statement(db, "ATTACH DATABASE ? AS other", wanted).bind(file.string()).run();
  }
  Attached(const Attached&) = delete;
  ~Attached() { sqlite3_exec(db_.handle(), "DETACH DATABASE other", nullptr, nullptr, nullptr); }

 private:
  Database& db_;
};

class Merge {
 public:
  Merge(Database& db, const char* wanted) : db_(db), wanted_(wanted) {}

  MergeResult run() {
    Statement all(db_, "SELECT id FROM other.sessions ORDER BY id", wanted_);
    std::vector<std::string> ids;
    while (all.step()) ids.push_back(all.text(0));
    for (const std::string& id : ids) take(id);
    // A parent may come from another file, and later.
    for (const std::string& id : taken_) {
      run("UPDATE main.sessions SET parent = theirs.parent FROM other.sessions theirs WHERE main.sessions.id = ?"
          " AND theirs.id = main.sessions.id AND main.sessions.parent IS NULL"
          " AND theirs.parent IN (SELECT id FROM main.sessions)",
          id);
    }
    return std::move(result_);
  }

 private:
  int64_t run(const std::string& sql, const std::string& id = {}) {
    Statement statement(db_, sql, wanted_);
    if (!id.empty()) statement.bind(id);
    statement.run();
    return sqlite3_changes(db_.handle());
  }
  int64_t number(const std::string& sql, const std::string& id) {
    Statement statement(db_, sql, wanted_);
    statement.bind(id).step();
    return statement.is_null(0) ? -1 : statement.integer(0);
  }

  void take(const std::string& id) {
    const bool is_new = number("SELECT count(*) FROM main.sessions WHERE id = ?", id) == 0;
    if (is_new) {
      run("INSERT INTO main.sessions SELECT id, created_ms, updated_ms, workdir, agent, model_name, model_fingerprint,"
          " instructions, tools, thinking, sampler, status, NULL FROM other.sessions WHERE id = ?",
          id);
    } else if (const std::string reason = conflict(id); !reason.empty()) {
      result_.conflicts.push_back({id, reason});
      return;
    }
    taken_.push_back(id);
    const int64_t copied = copy(id);
    ++(is_new ? result_.added : copied > 0 ? result_.continued : result_.unchanged);
  }

  // Why one is no beginning of the other; nothing when it is.
  std::string conflict(const std::string& id) {
    const std::string head(kHead);
    if (number("SELECT count(*) FROM (SELECT " + head + " FROM main.sessions WHERE id = ?1 UNION SELECT " + head +
                   " FROM other.sessions WHERE id = ?1)",
               id) != 1)
      return "another session has this id";
    const std::string message = "seq, " + std::string(kMessage);
    const int64_t seq = number("SELECT min(seq) FROM (SELECT " + message +
                                   " FROM other.messages WHERE session = ?1 EXCEPT SELECT " + message +
                                   " FROM main.messages WHERE session = ?1) JOIN main.messages ours USING (seq)"
                                   " WHERE ours.session = ?1",
                               id);
    return seq < 0 ? "" : "message " + std::to_string(seq) + " is another one";
  }

  // What is not here yet. Returns the number of rows that changed.
  int64_t copy(const std::string& id) {
    const int64_t have = number("SELECT count(*) FROM main.messages WHERE session = ?", id);
    const std::string rest = " WHERE session = ? AND seq >= " + std::to_string(have);
    int64_t changes = run("INSERT INTO main.messages SELECT * FROM other.messages" + rest, id);
    changes += run("INSERT INTO main.calls SELECT * FROM other.calls" + rest, id);
    changes += run("INSERT INTO main.results SELECT * FROM other.results" + rest, id);
    changes += run(
        "INSERT INTO main.runs (session, first_seq, started_ms, ended_ms, status, end, error)"
        " SELECT session, first_seq, started_ms, ended_ms, status, end, error FROM other.runs theirs WHERE session = ?"
        " AND NOT EXISTS (SELECT 1 FROM main.runs ours WHERE ours.session = theirs.session"
        " AND ours.first_seq = theirs.first_seq AND ours.started_ms = theirs.started_ms) ORDER BY id",
        id);
    changes +=
        run("UPDATE main.runs SET ended_ms = theirs.ended_ms, status = theirs.status, end = theirs.end,"
            " error = theirs.error FROM other.runs theirs WHERE main.runs.session = ? AND theirs.session = "
            "main.runs.session"
            " AND theirs.first_seq = main.runs.first_seq AND theirs.started_ms = main.runs.started_ms"
            " AND main.runs.ended_ms IS NULL AND theirs.ended_ms IS NOT NULL",
            id);
    changes += run(
        "UPDATE main.sessions SET updated_ms = theirs.updated_ms, status = theirs.status FROM other.sessions theirs"
        " WHERE main.sessions.id = ? AND theirs.id = main.sessions.id AND theirs.updated_ms > main.sessions.updated_ms",
        id);
    return changes;
  }

  Database& db_;
  const char* wanted_;
  MergeResult result_;
  std::vector<std::string> taken_;  // sessions that are not in conflict
};

}  // namespace

std::string Store::fork(std::string_view id, int64_t messages) {
  constexpr const char* kWanted = "fork a session";
  const SessionRecord record = find(id);
  SessionRecord child = record;
  child.parent = record.id;
  const std::string child_id = create(child);
  try {
    Transaction transaction(db_, Transaction::Kind::write, kWanted);
    Statement count(db_, "SELECT count(*) FROM messages WHERE session = ?", kWanted);
    count.bind(record.id).step();
    const int64_t all = count.integer(0);
    if (messages > all)
      throw StoreError(db_.file() + ": fork a session: want at most " + std::to_string(all) + " messages of " +
                           record.id + ", found " + std::to_string(messages),
                       0);
    if (messages < 0) messages = all;
    Statement parted(db_,
                     "SELECT calls.seq, results.seq FROM calls JOIN results ON results.session = calls.session AND"
                     " results.call_id = calls.id WHERE calls.session = ?1 AND calls.seq < ?2 AND results.seq >= ?2"
                     " ORDER BY results.seq DESC LIMIT 1",
                     kWanted);
    if (parted.bind(record.id).bind(messages).step())
      throw StoreError(db_.file() + ": fork a session: a call of message " + std::to_string(parted.integer(0)) +
                           " has its result in message " + std::to_string(parted.integer(1)) +
                           ": want both or neither, found " + std::to_string(messages) + " messages to keep",
                       0);
    for (const std::string table : {"messages", "calls", "results"}) {
      const std::string columns = table == "messages" ? std::string("seq, ") + kMessage
                                  : table == "calls"  ? "id, seq, idx, name, args"
                                                      : "call_id, seq, status, exit_code, duration_ms, detail";
      const std::string sql = "INSERT INTO " + table + " (session, " + columns + ") SELECT ?1, " + columns + " FROM " +
                              table + " WHERE session = ?2 AND seq < ?3";
      Statement(db_, sql, kWanted).bind(child_id).bind(record.id).bind(messages).run();
    }
    transaction.commit();
  } catch (...) {
    remove(child_id);
    throw;
  }
  return child_id;
}

MergeResult Store::merge(const std::filesystem::path& file) {
  const std::string wanted = "merge " + file.string();
  const auto refuse = [&](const std::string& reason) {
    throw StoreError(db_.file() + ": " + wanted + ": " + reason, 0);
  };
  std::error_code failure;
  if (!std::filesystem::is_regular_file(file, failure)) refuse("want a store, found no file");
  if (std::filesystem::equivalent(file, db_.file(), failure)) refuse("want another store, found this one itself");
  const Attached attached(db_, file, wanted.c_str());
  MergeResult result;
  if (!is_store(db_, "other", file.string(), wanted.c_str()))
    return result;  // made a moment ago, or just before a kill
  Transaction transaction(db_, Transaction::Kind::write, wanted.c_str());
  result = Merge(db_, wanted.c_str()).run();
  transaction.commit();
  return result;
}

}  // namespace corvid::runtime
