// The tables of the store, and how a file comes to hold them.
#pragma once
#include <chrono>
#include <filesystem>

#include "runtime/sqlite.h"

namespace corvid::runtime {

// Raised with every change of a table. A file of a newer version is refused.
constexpr int kSchemaVersion = 1;

// Opens or creates a store: private to its user, in WAL mode, with the current schema. Any number of processes may do
// so at once. Throws StoreError when the file cannot be made or written, is no SQLite database, another program's,
// corrupt, or of a newer schema.
Database open_database(const std::filesystem::path& file, std::chrono::milliseconds busy);

// Whether the schema of a store is in `database` ("main", or the name of an attached one, whose file is `file`); false
// for an empty file. Throws StoreError for everything else that may be there.
bool is_store(Database& db, const std::string& database, const std::string& file, const char* wanted);

}  // namespace corvid::runtime
