// A thin RAII layer over SQLite's C API: a connection, a prepared statement, a transaction. Every failure throws a
// StoreError that names the file, what was wanted and what SQLite found.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace corvid::runtime {

class StoreError : public std::runtime_error {
 public:
  StoreError(const std::string& message, int sqlite_code) : std::runtime_error(message), code_(sqlite_code) {}
  int code() const noexcept { return code_; }  // SQLite's extended result code; 0 when SQLite had no complaint

 private:
  int code_;
};

// One connection; used by one thread at a time.
class Database {
 public:
  // Opens or creates `file` for reading and writing. `busy` is how long a statement waits for another's lock.
  Database(const std::filesystem::path& file, std::chrono::milliseconds busy);
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;
  ~Database();

  void exec(const char* sql, const char* wanted);        // one or more statements without parameters
  int64_t integer(const char* sql, const char* wanted);  // first column of the first row
  sqlite3* handle() const noexcept { return db_; }
  const std::string& file() const noexcept { return file_; }
  // Throws the StoreError for `code`, the last result on this connection; `wanted` is what was being done.
  [[noreturn]] void fail(int code, std::string_view wanted) const;

 private:
  sqlite3* db_ = nullptr;
  std::string file_;
  std::chrono::milliseconds busy_;
};

// A prepared statement. Parameters are bound in order, columns are read by number, from 0.
class Statement {
 public:
  // `wanted` is kept for error messages: a literal such as "append a message".
  Statement(Database& db, std::string_view sql, const char* wanted);
  Statement(const Statement&) = delete;
  ~Statement();

  Statement& bind(int64_t value);
  Statement& bind(double value);
  Statement& bind(std::string_view text);
  Statement& bind_blob(std::span<const std::byte> bytes);
  Statement& bind_null();
  template <class T>
  Statement& bind(const std::optional<T>& value) {
    return value ? bind(*value) : bind_null();
  }

  bool step();  // true: a row is there to be read
  void run();   // for statements without rows
  bool is_null(int column) const;
  int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  std::span<const std::byte> blob(int column) const;  // valid until the next step

 private:
  void check(int code) const;
  Database& db_;
  const char* wanted_;
  sqlite3_stmt* stmt_ = nullptr;
  int bound_ = 0;
};

// BEGIN ... commit(); rolled back when it is left without a commit. A read sees one moment of the file. A write takes
// the lock at once (BEGIN IMMEDIATE): one that reads first and upgrades later can fail with a stale snapshot, which no
// waiting cures.
class Transaction {
 public:
  enum class Kind : uint8_t { read, write };
  Transaction(Database& db, Kind kind, const char* wanted);
  Transaction(const Transaction&) = delete;
  ~Transaction();
  void commit();

 private:
  Database& db_;
  const char* wanted_;
  bool is_open_ = true;
};

}  // namespace corvid::runtime
