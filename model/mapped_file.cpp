#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "kernels/exec.h"
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

constexpr size_t kPiece = 8 * kLarge;  // that is copied at a time

// Address space of `size` bytes from a large page on, with memory to read and write; it may be moved away. Null, with
// errno, when there is none.
class Room {
 public:
  explicit Room(size_t size) : bytes_(size + kLarge) {
    void* const found =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) return;
    begin_ = static_cast<std::byte*>(found);
    at_ = begin_ + (kLarge - reinterpret_cast<uintptr_t>(begin_) % kLarge) % kLarge;
    size_ = (size + page() - 1) / page() * page();
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  // Gives back what lies around the bytes; these too, unless they were moved away or taken.
  ~Room() {
    if (begin_ == nullptr) return;
    unmap(begin_, at_);
    unmap(at_ + size_, begin_ + bytes_);
    if (is_owner_) unmap(at_, at_ + size_);
  }
  std::byte* at() const { return at_; }
  void release() { is_owner_ = false; }

 private:
  static size_t page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
  static void unmap(std::byte* begin, std::byte* end) {
    if (begin < end) munmap(begin, static_cast<size_t>(end - begin));
  }
  size_t bytes_, size_ = 0;
  std::byte *begin_ = nullptr, *at_ = nullptr;
  bool is_owner_ = true;
};

// Maps the file; a larger one so that a large page begins where it does.
void* map(int fd, size_t size) {
  if (size < kLarge) return mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  Room room(size);
  if (room.at() == nullptr) return MAP_FAILED;
  void* const data = mmap(room.at(), size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
  if (data != MAP_FAILED) room.release();
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

void MappedFile::copy_into_memory(size_t begin, size_t end, const std::stop_token& stop) {
  begin = begin / kLarge * kLarge;
  end = std::min(size_, (end + kLarge - 1) / kLarge * kLarge);
  for (; begin < end && !stop.stop_requested(); begin += kPiece) copy_piece(begin, std::min(end, begin + kPiece));
}

void MappedFile::copy_piece(size_t begin, size_t end) {
  const size_t size = end - begin;
  const auto check = [&](bool holds) {
    if (!holds) throw std::system_error(errno, std::generic_category(), "can't read into memory: " + name_.string());
  };
  Room room(size);
  check(room.at() != nullptr);
  kernels::prefer_large_pages(room.at(), static_cast<int64_t>(size));
  for (size_t done = 0; done < size;) {
    const ssize_t n = pread(fd_, room.at() + done, size - done, static_cast<off_t>(begin + done));
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0);
    if (n == 0) fail(name_.string(), ": want ", size_, " bytes, found fewer: it was shortened while it was read");
    done += static_cast<size_t>(n);
  }
  check(mprotect(room.at(), size, PROT_READ) == 0);
  // In one step: who reads meanwhile finds either the mapping or the copy.
  void* const to = const_cast<std::byte*>(data_) + begin;
  check(mremap(room.at(), size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED);
  room.release();
}

}  // namespace corvid::model
