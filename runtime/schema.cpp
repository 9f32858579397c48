#include "runtime/schema.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <thread>

namespace corvid::runtime {

namespace {

constexpr int64_t kApplicationId = 0x63727664;  // "crvd": tells our file from another program's

constexpr const char* kSchema = R"sql(
CREATE TABLE sessions (
  id                TEXT PRIMARY KEY,
  created_ms        INTEGER NOT NULL,
  updated_ms        INTEGER NOT NULL,
  workdir           TEXT NOT NULL,
  agent             TEXT NOT NULL,
  model_name        TEXT NOT NULL,
  model_fingerprint TEXT NOT NULL,
  instructions      TEXT NOT NULL,
  tools             TEXT NOT NULL,  -- JSON: [{name, description, parameters}]
  thinking          TEXT NOT NULL CHECK (thinking IN ('disabled', 'enabled', 'adaptive')),
  sampler           TEXT NOT NULL,  -- JSON: the parameters by name (sampler_json.h)
  status            TEXT NOT NULL,
  parent            TEXT REFERENCES sessions (id) ON DELETE SET NULL
) STRICT;
CREATE INDEX sessions_by_update ON sessions (updated_ms);
CREATE INDEX sessions_by_parent ON sessions (parent);

CREATE TABLE messages (
  session           TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  seq               INTEGER NOT NULL,
  created_ms        INTEGER NOT NULL,
  role              TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
  text              TEXT NOT NULL,
  reasoning         TEXT NOT NULL,
  tokens            BLOB,     -- int32, little-endian: what the model generated
  model_fingerprint TEXT,     -- of the model that generated them
  call_id           TEXT,     -- of a tool message: the call it answers; NULL for a note of the runtime
  prompt_tokens     INTEGER,  -- from here: usage, of an assistant message
  cached_tokens     INTEGER,
  completion_tokens INTEGER,
  prefill_ms        REAL,
  decode_ms         REAL,
  PRIMARY KEY (session, seq)
) STRICT;

CREATE TABLE calls (
  session TEXT NOT NULL,
  id      TEXT NOT NULL,
  seq     INTEGER NOT NULL,  -- the message it stands in
  idx     INTEGER NOT NULL,  -- its place there
  name    TEXT NOT NULL,
  args    TEXT NOT NULL,     -- JSON as the model wrote it
  PRIMARY KEY (session, id),
  UNIQUE (session, seq, idx),
  FOREIGN KEY (session, seq) REFERENCES messages (session, seq) ON DELETE CASCADE
) STRICT;

CREATE TABLE results (
  session     TEXT NOT NULL,
  call_id     TEXT NOT NULL,
  seq         INTEGER NOT NULL,  -- the message that holds its text
  status      TEXT NOT NULL CHECK (status IN ('ok', 'failed', 'bad_args', 'denied', 'timed_out', 'cancelled')),
  exit_code   INTEGER,
  duration_ms REAL NOT NULL,
  detail      TEXT NOT NULL,     -- JSON
  PRIMARY KEY (session, call_id),
  UNIQUE (session, seq),
  FOREIGN KEY (session, call_id) REFERENCES calls (session, id) ON DELETE CASCADE,
  FOREIGN KEY (session, seq) REFERENCES messages (session, seq) ON DELETE CASCADE
) STRICT;

CREATE TABLE runs (
  id         INTEGER PRIMARY KEY,
  session    TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  first_seq  INTEGER NOT NULL,  -- of its user message
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER,           -- NULL while it goes on, and after a kill
  status     TEXT,              -- completed | limit | error | interrupted
  end        TEXT,              -- answered, turn_limit, ..., killed
  error      TEXT
) STRICT;
CREATE INDEX runs_by_session ON runs (session);
)sql";

// The file belongs to its user alone: transcripts hold what the user's files hold. mknod makes it without a descriptor:
// closing one would drop the locks that another thread's connection has on the file by then.
std::filesystem::path prepared(const std::filesystem::path& file) {
  std::error_code error;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), error);
  if (error)
    throw StoreError(file.string() + ": make the folder " + file.parent_path().string() + ": " + error.message(), 0);
  if (mknod(file.c_str(), S_IFREG | 0600, 0) != 0 && errno != EEXIST)
    throw StoreError(file.string() + ": create the store: " + std::strerror(errno), 0);
  return file;
}

constexpr const char* kWanted = "open the store";

// The switch to WAL needs the file alone, and does not wait by itself when two processes create a store at once. The
// file remembers it. Where shared memory is not to be had (some network file systems) SQLite stays with its rollback
// journal, which keeps every promise but speed.
void switch_to_wal(Database& db, std::chrono::milliseconds busy) {
  const auto deadline = std::chrono::steady_clock::now() + busy;
  for (;;) {
    try {
      return db.exec("PRAGMA journal_mode = WAL", kWanted);
    } catch (const StoreError& e) {
      if ((e.code() & 0xff) != SQLITE_BUSY || std::chrono::steady_clock::now() >= deadline) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

void create_schema(Database& db) {
  Transaction transaction(db, Transaction::Kind::write, kWanted);
  if (is_store(db, "main", db.file(), kWanted)) return;  // another process was faster
  db.exec(kSchema, kWanted);
  db.exec(("PRAGMA application_id = " + std::to_string(kApplicationId)).c_str(), kWanted);
  db.exec(("PRAGMA user_version = " + std::to_string(kSchemaVersion)).c_str(), kWanted);
  transaction.commit();
}

}  // namespace

bool is_store(Database& db, const std::string& database, const std::string& file, const char* wanted) {
  const auto number = [&](const std::string& sql) { return db.integer(sql.c_str(), wanted); };
  const int64_t version = number("PRAGMA " + database + ".user_version");
  const int64_t application = number("PRAGMA " + database + ".application_id");
  const bool is_empty = version == 0 && number("SELECT count(*) FROM " + database + ".sqlite_master") == 0;
  if (application != kApplicationId && !is_empty)
    throw StoreError(file + ": want a corvid store, found another program's database", 0);
  if (version > kSchemaVersion)
    throw StoreError(file + ": want schema version " + std::to_string(kSchemaVersion) + " or older, found " +
                         std::to_string(version) + ": a newer corvid wrote it",
                     0);
  return version == kSchemaVersion;
}

Database open_database(const std::filesystem::path& file, std::chrono::milliseconds busy) {
  Database db(prepared(file), busy);
  // In WAL mode NORMAL survives a kill of the process at any moment; a power cut may take the last messages with it,
  // never the file.
  db.exec("PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF", kWanted);
  bool is_ours;
  {
    Transaction moment(db, Transaction::Kind::read, kWanted);  // another process may be creating the schema just now
    is_ours = is_store(db, "main", db.file(), kWanted);
    moment.commit();
  }
  if (sqlite3_db_readonly(db.handle(), "main") == 1)
    throw StoreError(db.file() + ": want a writable file, found a read-only one", SQLITE_READONLY);
  if (!is_ours) {
    switch_to_wal(db, busy);
    create_schema(db);
  }
  return db;
}

}  // namespace corvid::runtime
