#include "runtime/sqlite.h"

#include <sqlite3.h>

#include <cstring>
#include <utility>

namespace corvid::runtime {

namespace {

// What SQLite found, in words that tell a person what to do about it.
std::string describe(sqlite3* db, int code, std::chrono::milliseconds busy) {
  const int os_error = db ? sqlite3_system_errno(db) : 0;
  const std::string os = os_error ? std::string(": ") + std::strerror(os_error) : "";
  switch (code & 0xff) {
    case SQLITE_BUSY:
      return "locked by another process (waited " + std::to_string(busy.count()) + " ms)";
    case SQLITE_FULL:
      return "the disk is full";
    case SQLITE_NOTADB:
      return "want an SQLite database, found something else";
    case SQLITE_CORRUPT:
      return "the database is corrupt (" + std::string(db ? sqlite3_errmsg(db) : sqlite3_errstr(code)) +
             "); sqlite3's .recover may save what is left";
    case SQLITE_CANTOPEN:
      return "cannot be opened for writing" + os;
    case SQLITE_READONLY:
      return "want a writable file in a writable folder, found a read-only one";
    case SQLITE_IOERR:
      return std::string(sqlite3_errstr(code)) + os;
    default:
      return db ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  }
}

}  // namespace

Database::Database(const std::filesystem::path& file, std::chrono::milliseconds busy)
    : file_(file.string()), busy_(busy) {
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  if (const int code = sqlite3_open_v2(file_.c_str(), &db_, flags, nullptr); code != SQLITE_OK) {
    const std::string found = describe(db_, code, busy_);
    sqlite3_close_v2(db_);
    throw StoreError(file_ + ": open the store: " + found, code);
  }
  sqlite3_busy_timeout(db_, int(busy_.count()));
}

Database::Database(Database&& other) noexcept
    : db_(std::exchange(other.db_, nullptr)), file_(std::move(other.file_)), busy_(other.busy_) {}

Database& Database::operator=(Database&& other) noexcept {
  std::swap(db_, other.db_);
  std::swap(file_, other.file_);
  std::swap(busy_, other.busy_);
  return *this;
}

Database::~Database() { sqlite3_close_v2(db_); }

void Database::exec(const char* sql, const char* wanted) {
  if (const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr); code != SQLITE_OK) fail(code, wanted);
}

int64_t Database::integer(const char* sql, const char* wanted) {
  Statement query(*this, sql, wanted);
  return query.step() ? query.integer(0) : 0;
}

void Database::fail(int code, std::string_view wanted) const {
  throw StoreError(file_ + ": " + std::string(wanted) + ": " + describe(db_, code, busy_), code);
}

Statement::Statement(Database& db, std::string_view sql, const char* wanted) : db_(db), wanted_(wanted) {
  check(sqlite3_prepare_v2(db_.handle(), sql.data(), int(sql.size()), &stmt_, nullptr));
}

Statement::~Statement() { sqlite3_finalize(stmt_); }

void Statement::check(int code) const {
  if (code != SQLITE_OK) db_.fail(code, wanted_);
}

Statement& Statement::bind(int64_t value) {
  check(sqlite3_bind_int64(stmt_, ++bound_, value));
  return *this;
}

Statement& Statement::bind(double value) {
  check(sqlite3_bind_double(stmt_, ++bound_, value));
  return *this;
}

Statement& Statement::bind(std::string_view text) {
  // A null pointer would bind NULL, and an empty view may hold one.
  check(sqlite3_bind_text64(stmt_, ++bound_, text.empty() ? "" : text.data(), text.size(), SQLITE_TRANSIENT,
                            SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind_blob(std::span<const std::byte> bytes) {
  check(sqlite3_bind_blob64(stmt_, ++bound_, bytes.empty() ? static_cast<const void*>("") : bytes.data(), bytes.size(),
                            SQLITE_TRANSIENT));
  return *this;
}

Statement& Statement::bind_null() {
  check(sqlite3_bind_null(stmt_, ++bound_));
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(stmt_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) db_.fail(code, wanted_);
  return false;
}

void Statement::run() {
  while (step()) {
  }
}

bool Statement::is_null(int column) const { return sqlite3_column_type(stmt_, column) == SQLITE_NULL; }
int64_t Statement::integer(int column) const { return sqlite3_column_int64(stmt_, column); }
double Statement::real(int column) const { return sqlite3_column_double(stmt_, column); }

std::string Statement::text(int column) const {
  const unsigned char* text = sqlite3_column_text(stmt_, column);
  return text ? std::string(reinterpret_cast<const char*>(text), size_t(sqlite3_column_bytes(stmt_, column)))
              : std::string();
}

std::span<const std::byte> Statement::blob(int column) const {
  const void* bytes = sqlite3_column_blob(stmt_, column);
  return {static_cast<const std::byte*>(bytes), bytes ? size_t(sqlite3_column_bytes(stmt_, column)) : 0};
}

Transaction::Transaction(Database& db, Kind kind, const char* wanted) : db_(db), wanted_(wanted) {
  db_.exec(kind == Kind::write ? "BEGIN IMMEDIATE" : "BEGIN", wanted_);
}

Transaction::~Transaction() {
  // SQLite has rolled back by itself after some errors; then there is nothing left to do.
  if (is_open_ && !sqlite3_get_autocommit(db_.handle()))
    sqlite3_exec(db_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  db_.exec("COMMIT", wanted_);
  is_open_ = false;
}

}  // namespace corvid::runtime
