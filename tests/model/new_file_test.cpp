#include "model/new_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

void write(const std::filesystem::path& path, std::string_view text) {
  NewFile file(path);
  file.write(text);
  file.finish();
}

TEST(NewFileTest, ReplacesAFileWhole) {
  test::TempDir dir;
  dir.write("out", "before");
  {
    NewFile file(dir / "out");
    file.write("half");
    EXPECT_EQ(dir.read("out"), "before");
  }
  EXPECT_EQ(dir.read("out"), "before");
  write(dir / "out", "after");
  EXPECT_EQ(dir.read("out"), "after");
}

TEST(NewFileTest, WritesThroughALink) {
  test::TempDir dir;
  dir.write("target", "before");
  std::filesystem::create_symlink("target", dir / "link");
  write(dir / "link", "after");
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
  EXPECT_EQ(dir.read("target"), "after");
}

TEST(NewFileTest, LeavesAPipeOrAFolderWhereItIs) {
  test::TempDir dir;
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(test::message_of([&] { write(dir / "pipe", "x"); }), testing::HasSubstr("found a device or a pipe"));
  EXPECT_TRUE(std::filesystem::is_fifo(dir / "pipe"));
  EXPECT_THAT(test::message_of([&] { write(dir.path(), "x"); }), testing::HasSubstr("found a folder"));
}

}  // namespace
}  // namespace corvid::model
