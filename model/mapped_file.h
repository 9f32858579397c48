// A file mapped read-only into memory.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>

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

  // The pages of these bytes, part of bytes(), leave this process's memory. Who looks at them brings them back.
  void forget(std::span<const std::byte> bytes) const noexcept;

 private:
  int fd_ = -1;
  const std::byte* data_ = nullptr;  // null for an empty file
  size_t size_ = 0;
};

}  // namespace corvid::model
