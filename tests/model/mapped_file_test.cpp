#include "model/mapped_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

#include "kernels/exec.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

constexpr size_t kLarge = kernels::kLargePage;

std::string bytes_of(size_t n) {
  std::string bytes(n, '\0');
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<char>(i * 7 + i / 4096 * 13);
  return bytes;
}

std::string content(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, ACopyStandsWhereTheMappingDidAndIsNotTheFileAnyMore) {
  const test::TempDir dir;
  for (const size_t size : {size_t{1}, size_t{5000}, kLarge - 1, kLarge, 3 * kLarge + 123}) {
    const std::string before = bytes_of(size);
    const auto path = dir.write("file", before);
    MappedFile file(path);
    const std::byte* const at = file.bytes().data();
    if (size >= kLarge) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % kLarge, 0);
    }
    EXPECT_TRUE(content(file) == before) << size;
    file.copy_into_memory(0, size);
    EXPECT_EQ(file.bytes().data(), at);
    std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << "other";  // in the same file
    EXPECT_TRUE(content(file) == before) << size;
    MappedFile moved = std::move(file);
    EXPECT_TRUE(content(moved) == before) << size;
  }
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

// What is left out is the file still: a change of it is seen. Ends are taken with the large page that they lie in.
TEST(MappedFile, ARangeTakesTheLargePagesOfItsEndsAlong) {
  const test::TempDir dir;
  const auto path = dir.write("file", bytes_of(5 * kLarge + 10));
  MappedFile file(path);
  file.copy_into_memory(kLarge + 5, 2 * kLarge + 1);
  file.copy_into_memory(5 * kLarge + 1, 5 * kLarge + 10);
  file.copy_into_memory(6 * kLarge, 7 * kLarge);
  const std::string before = content(file);
  EXPECT_TRUE(before == bytes_of(5 * kLarge + 10));
  std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
  out << std::string(5 * kLarge + 10, '!');
  out.close();
  const std::string after = content(file);
  for (size_t page = 0; page < 6; ++page) {
    const bool is_copied = page == 1 || page == 2 || page == 5;
    const size_t first = page * kLarge, n = std::min(kLarge, after.size() - first);
    EXPECT_TRUE(after.substr(first, n) == (is_copied ? before.substr(first, n) : std::string(n, '!'))) << page;
  }
}

TEST(MappedFile, AFileThatWasShortenedMeanwhileIsNamed) {
  const test::TempDir dir;
  const auto path = dir.write("short.gguf", bytes_of(2 * kLarge));
  MappedFile file(path);
  std::filesystem::resize_file(path, kLarge + 17);
  const std::string message = test::message_of([&] { file.copy_into_memory(0, 2 * kLarge); });
  EXPECT_EQ(message, path.string() + ": want 4194304 bytes, found fewer: it was shortened while it was read");
  // What the file still has is mapped still.
  EXPECT_TRUE(std::string(reinterpret_cast<const char*>(file.bytes().data()), kLarge) == bytes_of(kLarge));
}

TEST(MappedFile, ReadersSeeTheSameBytesWhileTheyAreCopied) {
  const test::TempDir dir;
  const std::string before = bytes_of(40 * kLarge + 77);
  MappedFile file(dir.write("file", before));
  std::atomic<bool> is_done{false};
  std::atomic<int> wrong{0}, rounds{0};
  std::vector<std::jthread> readers;
  for (int i = 0; i < 2; ++i)
    readers.emplace_back([&] {
      do {
        if (content(file) != before) ++wrong;
        ++rounds;
      } while (!is_done);
    });
  while (rounds == 0) std::this_thread::yield();
  file.copy_into_memory(0, before.size());
  is_done = true;
  readers.clear();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(content(file) == before);
}

TEST(MappedFile, AStopLeavesTheRestMapped) {
  const test::TempDir dir;
  const auto path = dir.write("file", bytes_of(2 * kLarge));
  MappedFile file(path);
  std::stop_source stop;
  stop.request_stop();
  file.copy_into_memory(0, 2 * kLarge, stop.get_token());
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << "other";
  EXPECT_EQ(content(file).substr(0, 5), "other");
}

}  // namespace
}  // namespace corvid::model
