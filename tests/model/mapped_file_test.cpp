#include "model/mapped_file.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "tests/support/temp_dir.h"

namespace corvid::model {
namespace {

std::string bytes_of(size_t n) {
  std::string bytes(n, '\0');
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<char>(i * 7 + i / 4096 * 13);
  return bytes;
}

std::string content(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, BytesAreReadFromTheFileUntilItIsTooShort) {
  const test::TempDir dir;
  const std::string before = bytes_of(70'000);
  const auto path = dir.write("file", before);
  MappedFile file(path);
  std::string read(5000, ' ');
  const auto into = std::as_writable_bytes(std::span(read));
  EXPECT_TRUE(file.read(file.bytes().data() + 64'321, into));
  EXPECT_TRUE(read == before.substr(64'321, 5000));
  std::filesystem::resize_file(path, 66'000);
  EXPECT_FALSE(file.read(file.bytes().data() + 64'321, into));
  EXPECT_FALSE(file.read(file.bytes().data() + 66'000, into));
}

// Of the mapping that begins at `data`, what is in this process's memory.
int64_t mapped_kib(const std::byte* data) {
  std::ifstream in("/proc/self/smaps");
  bool is_here = false;
  for (std::string line; std::getline(in, line);) {
    uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%zx-%zx ", &begin, &end) == 2)
      is_here = reinterpret_cast<uintptr_t>(data) >= begin && reinterpret_cast<uintptr_t>(data) < end;
    if (is_here && line.starts_with("Rss:")) return std::stoll(line.substr(4));
  }
  return -1;
}

TEST(MappedFile, WhatIsForgottenLeavesMemoryAndComesBack) {
  const test::TempDir dir;
  const std::string bytes = bytes_of(2 << 20);
  const MappedFile file(dir.write("file", bytes));
  EXPECT_TRUE(content(file) == bytes);
  EXPECT_EQ(mapped_kib(file.bytes().data()), 2048);
  file.forget(file.bytes().subspan((1 << 20) + 100, (1 << 20) - 100));
  EXPECT_LE(mapped_kib(file.bytes().data()), 1024);  // less where pages are large
  EXPECT_TRUE(content(file) == bytes);
  file.forget(file.bytes());
  EXPECT_EQ(mapped_kib(file.bytes().data()), 0);
  EXPECT_TRUE(content(file) == bytes);
}

}  // namespace
}  // namespace corvid::model
