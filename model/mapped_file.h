// A file mapped read-only into memory.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <stop_token>

namespace corvid::model {

// The pages are shared with the page cache, so opening costs nothing and untouched parts are never read. A file that
// another program shortens while it is mapped ends this one with SIGBUS: model files are replaced, not rewritten.
class MappedFile {
 public:
  // Throws std::system_error naming the file when it can't be opened, std::runtime_error when it is no regular file.
  explicit MappedFile(const std::filesystem::path& file);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

  // Copies the bytes at `from`, a place in bytes(), by a system call: bytes that are looked at where they are mapped
  // count as this process's memory, with 64 KiB around them. False when the file can't be read any more.
  bool read(const std::byte* from, std::span<std::byte> to) const noexcept;

  // Puts a copy of [begin, end), and of what shares a large page with its ends, into the place of the mapping, piece by
  // piece until a stop, in large pages of this process's own: they are read faster (kernels::kLargePage), are not
  // shared with other processes, and what becomes of the file does not matter to them. Views stay valid, and any thread
  // may read meanwhile. Throws std::system_error when memory is short or the file can't be read, std::runtime_error
  // when it has become shorter; the rest then stays mapped.
  void copy_into_memory(size_t begin, size_t end, const std::stop_token& stop = {});

 private:
  void copy_piece(size_t begin, size_t end);

  std::filesystem::path name_;
  int fd_ = -1;
  const std::byte* data_ = nullptr;  // null for an empty file; files of a large page and more lie on one
  size_t size_ = 0;
};

}  // namespace corvid::model
