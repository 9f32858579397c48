#include "model/new_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "model/error.h"

namespace corvid::model {
namespace {

std::filesystem::path part_of(const std::filesystem::path& file) {
  static std::atomic<int> count{0};  // threads of this process may write the same file
  return file.string() + concat(".part-", getpid(), "-", count++);
}

// Where to put it: a link stays, and what it names is replaced.
std::filesystem::path target_of(std::filesystem::path file) {
  const std::filesystem::file_status found = std::filesystem::status(file);
  if (!std::filesystem::exists(found)) return file;
  if (!std::filesystem::is_regular_file(found)) {
    throw std::runtime_error(concat(file.string(), ": want a new file or one to replace, found ",
                                    std::filesystem::is_directory(found) ? "a folder" : "a device or a pipe"));
  }
  return std::filesystem::canonical(file);
}

}  // namespace

NewFile::NewFile(std::filesystem::path file, Access access) : file_(target_of(std::move(file))), part_(part_of(file_)) {
  fd_ =
      open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, access == Access::owner ? 0600 : 0666);
  if (fd_ < 0) failed("can't create ");
}

NewFile::~NewFile() {
  if (fd_ >= 0) close(fd_);
  if (!finished_) unlink(part_.c_str());
}

void NewFile::write(std::span<const std::byte> bytes) {
  size_ += static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) failed("can't write ");
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void NewFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void NewFile::pad(int64_t alignment) {
  write(std::string(static_cast<size_t>((alignment - size_ % alignment) % alignment), '\0'));
}

void NewFile::finish(bool durable) {
  if (durable && fsync(fd_) != 0) failed("can't write ");
  if (const int fd = std::exchange(fd_, -1); close(fd) != 0) failed("can't write ");
  if (std::rename(part_.c_str(), file_.c_str()) != 0) failed("can't replace ");
  finished_ = true;
}

void NewFile::failed(const char* what) const {
  throw std::system_error(errno, std::generic_category(), what + file_.string());
}

}  // namespace corvid::model
