// Where sessions are kept: one SQLite file, the same that the program `corvid` reads with --db FILE.
#pragma once
#include <chrono>
#include <corvid/export.hpp>
#include <corvid/message.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace corvid {
inline namespace v1 {

struct SessionInfo {
  std::string id;
  std::chrono::system_clock::time_point created, updated;
  std::filesystem::path workdir;
  std::string agent, model;
  std::string status;  // new, running, completed, limit, error, interrupted
  std::string prompt;  // the first one
  int64_t messages = 0;
};

struct StoreOptions {
  // What the model made of the last sessions is kept in this folder, so that a resumed one need not read its history
  // again: at most 16 files and 1 GiB, written when a session that has run is destroyed. It is as private as the store,
  // has to be this user's alone, and tools cannot look into it. Replies are the same without it. Empty: nothing is
  // kept.
  std::filesystem::path session_folder = {};
};

// Any number of threads and processes may use a file at once. A copy is another handle to the same connection; every
// session opens one of its own.
class CORVID_API Store {
 public:
  // Opens or creates the file (readable by this user alone) and its parent folders. Throws std::runtime_error when that
  // is not possible or the file is something else.
  explicit Store(const std::filesystem::path& file);
  Store(const std::filesystem::path& file, const StoreOptions& options);

  const std::filesystem::path& file() const noexcept;        // absolute, links resolved
  std::vector<SessionInfo> list(int64_t limit = 100) const;  // last touched first; a negative limit: all
  // `id`: an id, the unambiguous beginning of one, or "last". Throws std::runtime_error when there is none.
  std::vector<Message> messages(std::string_view id) const;
  void remove(std::string_view id) const;  // with what is kept of it in session_folder

  struct Impl;

 private:
  friend class Session;
  std::shared_ptr<Impl> impl_;
};

}  // namespace v1
}  // namespace corvid
