#include "runtime/snapshot_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include "model/hash.h"

namespace corvid::runtime {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSuffix = ".kv";
constexpr std::chrono::hours kAbandoned{1};  // a file that is still being written is younger

bool is_ours_alone(const fs::path& folder) {
  struct stat info {};
  return stat(folder.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
         (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

}  // namespace

SnapshotFolder::SnapshotFolder(fs::path folder, std::string program, Bounds bounds)
    : folder_(std::move(folder)), program_(std::move(program)), bounds_(bounds) {}

uint64_t SnapshotFolder::maker(const model::Sequence& sequence) const {
  return model::xxh64(sequence.identity(), model::xxh64(program_));
}

fs::path SnapshotFolder::file_of(const std::string& name) const { return folder_ / (name + kSuffix); }

bool SnapshotFolder::restore(const std::string& name, model::Sequence& sequence) const noexcept try {
  if (!is_ours_alone(folder_)) return false;
  const fs::path file = file_of(name);
  try {
    sequence.restore(file);
  } catch (const std::system_error&) {  // most often: there is none
    return false;
  } catch (const std::runtime_error&) {
    std::error_code ignored;
    fs::remove(file, ignored);
    return false;
  }
  touch(name);
  return true;
} catch (const std::exception&) {
  return false;
}

bool SnapshotFolder::touch(const std::string& name) const noexcept try {
  return is_ours_alone(folder_) && utimensat(AT_FDCWD, file_of(name).c_str(), nullptr, 0) == 0;
} catch (const std::exception&) {
  return false;
}

void SnapshotFolder::store(const std::string& name, int64_t n_tokens, const model::Sequence& sequence) const noexcept
    try {
  if (sequence.cache_bytes(n_tokens) > bounds_.bytes) return;
  fs::create_directories(folder_.parent_path());
  ::mkdir(folder_.c_str(), 0700);  // or it is there
  if (!is_ours_alone(folder_)) return;
  sequence.save(file_of(name), n_tokens);
  prune(file_of(name));
} catch (const std::exception&) {
}

void SnapshotFolder::remove(std::string_view beginning, const std::string& except) const noexcept try {
  std::error_code ignored;
  for (const fs::directory_entry& found : fs::directory_iterator(folder_, ignored)) {
    const fs::path& file = found.path();
    if (file.filename().string().starts_with(beginning) && file.stem() != except) fs::remove(file, ignored);
  }
} catch (const std::exception&) {
}

void SnapshotFolder::prune(const fs::path& stored) const {
  struct Entry {
    fs::file_time_type used;
    int64_t bytes;
    fs::path file;
  };
  std::vector<Entry> entries;
  std::error_code ignored;  // another process may prune as well
  for (const fs::directory_entry& found : fs::directory_iterator(folder_)) {
    fs::file_time_type used = found.last_write_time(ignored);
    if (ignored) continue;
    if (found.path() == stored) used = fs::file_time_type::max();  // others may have been used in the same tick
    if (found.path().extension() == kSuffix) {
      entries.push_back({used, static_cast<int64_t>(found.file_size(ignored)), found.path()});
    } else if (used < fs::file_time_type::clock::now() - kAbandoned) {
      fs::remove(found.path(), ignored);  // what a killed process left
    }
  }
  std::ranges::sort(entries, std::greater(), &Entry::used);
  int64_t files = 0, bytes = 0;
  for (const Entry& entry : entries) {
    bytes += entry.bytes;
    if (++files > bounds_.files || bytes > bounds_.bytes) fs::remove(entry.file, ignored);
  }
}

}  // namespace corvid::runtime
