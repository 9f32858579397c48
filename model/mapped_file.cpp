#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "model/asan.h"
#include "model/error.h"

// With AddressSanitizer a read behind the file's end is found although the rest of its last page is mapped.
#ifdef CORVID_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace corvid::model {
namespace {

void forbid_the_rest_of_the_page([[maybe_unused]] const std::byte* data, [[maybe_unused]] size_t size) {
#ifdef CORVID_ASAN
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  ASAN_POISON_MEMORY_REGION(data + size, (page - size % page) % page);
#endif
}

void allow_the_rest_of_the_page([[maybe_unused]] const std::byte* data, [[maybe_unused]] size_t size) {
#ifdef CORVID_ASAN
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  ASAN_UNPOISON_MEMORY_REGION(data + size, (page - size % page) % page);
#endif
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& file) {
  fd_ = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block here
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "can't open " + file.string());
  struct stat info {};
  const bool known = fstat(fd_, &info) == 0;
  const int error = errno;
  if (!known || !S_ISREG(info.st_mode)) {
    close(fd_);
    if (!known) throw std::system_error(error, std::generic_category(), "can't stat " + file.string());
    fail(file.string(), ": want a file, found ", S_ISDIR(info.st_mode) ? "a folder" : "something else");
  }
  if (info.st_size == 0) return;
  void* data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_SHARED, fd_, 0);
  if (data == MAP_FAILED) {
    const int reason = errno;
    close(fd_);
    throw std::system_error(reason, std::generic_category(), "can't map " + file.string());
  }
  data_ = static_cast<const std::byte*>(data);
  size_ = static_cast<size_t>(info.st_size);
  forbid_the_rest_of_the_page(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (fd_ >= 0) close(fd_);
  if (!data_) return;
  allow_the_rest_of_the_page(data_, size_);
  munmap(const_cast<std::byte*>(data_), size_);
}

bool MappedFile::read(const std::byte* from, std::span<std::byte> to) const noexcept {
  for (auto at = static_cast<off_t>(from - data_); !to.empty();) {
    const ssize_t n = pread(fd_, to.data(), to.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    to = to.subspan(static_cast<size_t>(n));
    at += n;
  }
  return true;
}

void MappedFile::forget(std::span<const std::byte> bytes) const noexcept {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto begin = static_cast<size_t>(bytes.data() - data_) / page * page;
  const auto end = static_cast<size_t>(bytes.data() - data_) + bytes.size();
  if (begin < end) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace corvid::model
