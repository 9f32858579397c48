#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
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

constexpr size_t kLarge = kernels::kLargePage;

// Maps the file; a larger one so that a large page begins where it does.
void* map(int fd, size_t size) {
  if (size < kLarge) return mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  void* const room = mmap(nullptr, size + kLarge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return room;
  auto* const begin = static_cast<std::byte*>(room);
  std::byte* const at = begin + (kLarge - reinterpret_cast<uintptr_t>(begin) % kLarge) % kLarge;
  void* const data = mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
  const int error = errno;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::byte* const end = data == MAP_FAILED ? begin : at + (size + page - 1) / page * page;
  if (data != MAP_FAILED && at > begin) munmap(begin, static_cast<size_t>(at - begin));
  munmap(end, static_cast<size_t>(begin + size + kLarge - end));
  errno = error;
  return data;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& file) : name_(file) {
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
  void* data = map(fd_, static_cast<size_t>(info.st_size));
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
    : name_(std::move(other.name_)),
      fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(name_, other.name_);
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

void MappedFile::copy_into_memory(size_t begin, size_t end, kernels::Pool& pool) {
  begin = begin / kLarge * kLarge;
  end = std::min(size_, (end + kLarge - 1) / kLarge * kLarge);
  if (begin >= end) return;
  std::byte* const at = const_cast<std::byte*>(data_) + begin;
  const auto can_not = [&](int reason) {
    throw std::system_error(reason, std::generic_category(), "can't read into memory: " + name_.string());
  };
  if (mmap(at, end - begin, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    can_not(errno);
  kernels::prefer_large_pages(at, static_cast<int64_t>(end - begin));
  std::atomic<int> error{0};
  std::atomic<bool> too_short{false};
  pool.run(static_cast<int64_t>((end - begin + kLarge - 1) / kLarge), [&](int64_t piece, int) {
    size_t from = begin + static_cast<size_t>(piece) * kLarge;
    for (const size_t to = std::min(end, from + kLarge); from < to;) {
      const ssize_t n = pread(fd_, const_cast<std::byte*>(data_) + from, to - from, static_cast<off_t>(from));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) error = errno;
      if (n == 0) too_short = true;
      if (n <= 0) return;
      from += static_cast<size_t>(n);
    }
  });
  if (error != 0) can_not(error);
  if (too_short) fail(name_.string(), ": want ", size_, " bytes, found fewer: it was shortened while it was read");
  mprotect(at, end - begin, PROT_READ);
}

}  // namespace corvid::model
