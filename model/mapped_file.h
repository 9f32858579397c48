// A file mapped read-only into memory.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>

#include "kernels/exec.h"

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

  // Puts a copy of [begin, end), and of what shares a large page with its ends, into the place of the mapping, in large
  // pages of this process's own: they are read faster (kLargePage), are not shared with other processes, and what
  // becomes of the file does not matter any more. Views stay as they are; nobody may read them meanwhile. Throws
  // std::system_error when memory is short or the file can't be read, std::runtime_error when it has become shorter;
  // then the content is lost.
  void copy_into_memory(size_t begin, size_t end, kernels::Pool& pool);

 private:
  std::filesystem::path name_;
  int fd_ = -1;
  const std::byte* data_ = nullptr;  // null for an empty file; files of a large page and more lie on one
  size_t size_ = 0;
};

}  // namespace corvid::model
