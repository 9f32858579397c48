// A file that appears complete or not at all.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace corvid::model {

// Written under a name of its own beside `file`, which it replaces in finish(); removed when that is not reached. Any
// number of threads and processes may write the same file: the last one stays.
class NewFile {
 public:
  enum class Access : uint8_t { umask, owner };  // who may read it: those the umask lets, or this user alone
  // All of these throw std::system_error naming the file (no space, no permission); the first also std::runtime_error
  // when there is something else than a regular file. A link is followed.
  explicit NewFile(std::filesystem::path file, Access access = Access::umask);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void pad(int64_t alignment);  // zeros up to a multiple of it
  // A `durable` file is on the disk when this returns; another may be torn by a power failure soon after.
  void finish(bool durable = true);
  int64_t size() const { return size_; }

 private:
  [[noreturn]] void failed(const char* what) const;

  std::filesystem::path file_, part_;
  int fd_ = -1;
  int64_t size_ = 0;
  bool finished_ = false;
};

}  // namespace corvid::model
