// The file tools: exact texts, and no way out of the working folder.
#include "tools/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "tests/support/temp_dir.h"
#include "tools/toolbox.h"

namespace corvid::tools {
namespace {

namespace fs = std::filesystem;

class FileToolTest : public testing::Test {
 protected:
  ToolResult call(const std::string& tool, const Json& args, Policy policy = {}) const {
    return make_toolbox(Sandbox(dir.path(), std::move(policy))).run(tool, args.dump(), {});
  }
  std::string text(const std::string& tool, const Json& args, Policy policy = {}) const {
    return call(tool, args, std::move(policy)).text;
  }
  std::string read(const std::string& path) const { return text("read_file", {{"path", path}}); }
  std::string write(const std::string& path) const { return text("write_file", {{"path", path}, {"content", "x"}}); }

  test::TempDir dir;
};

TEST_F(FileToolTest, ReadShowsLinesAsTheyAre) {
  dir.write("a.txt", "one\n  two\r\nthree\n");
  EXPECT_EQ(read("a.txt"), "one\n  two\r\nthree");
  EXPECT_EQ(read((dir / "a.txt").string()), "one\n  two\r\nthree");
  EXPECT_EQ(text("read_file", {{"path", "a.txt"}, {"numbers", true}}), "1: one\n2:   two\r\n3: three");
  EXPECT_EQ(text("read_file", {{"path", "a.txt"}, {"offset", 2}, {"limit", 1}}), "  two\r\n[lines 2-2 of 3]");
  EXPECT_EQ(text("read_file", {{"path", "a.txt"}, {"offset", 3}, {"numbers", true}}), "3: three\n[lines 3-3 of 3]");
  EXPECT_EQ(text("read_file", {{"path", "a.txt"}, {"limit", 3}}), "one\n  two\r\nthree");
  dir.write("open.txt", "no end");
  EXPECT_EQ(read("open.txt"), "no end");
}

TEST_F(FileToolTest, ReadSaysWhatIsNotALine) {
  dir.write("empty", "");
  dir.write("zero", std::string("a\0b", 3));
  dir.write("latin1", "caf\xe9\n");
  dir.write("cut", "abc\xe2\x82");
  fs::create_directory(dir / "folder");
  mkfifo((dir / "pipe").c_str(), 0600);
  EXPECT_EQ(read("empty"), "[empty file]");
  EXPECT_EQ(read("zero"), "[binary file, 3 bytes]");
  EXPECT_EQ(read("latin1"), "[binary file, 5 bytes]");
  EXPECT_EQ(read("cut"), "[binary file, 5 bytes]");
  EXPECT_EQ(read("nope.txt"), "[error: no such file: nope.txt]");
  EXPECT_EQ(read("folder"), "[error: folder is a folder]");
  EXPECT_EQ(read("pipe"), "[error: pipe is not a regular file]");
  EXPECT_EQ(read(""), "[error: no such file: ]");
  EXPECT_EQ(text("read_file", {{"path", "latin1"}, {"offset", 0}}), "[error: \"offset\" must be at least 1, found 0]");
  dir.write("one", "1\n");
  EXPECT_EQ(text("read_file", {{"path", "one"}, {"offset", 5}}),
            "[error: \"offset\" 5 is past the end: one has 1 line]");
}

TEST_F(FileToolTest, ReadStopsAtTheCapOnALineEnd) {
  Policy policy;
  policy.output_limit_bytes = 100;
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "line " + std::to_string(i) + "\n";
  dir.write("long", lines);
  const std::string seen = text("read_file", {{"path", "long"}}, policy);
  EXPECT_THAT(seen, testing::StartsWith("line 0\nline 1\n"));
  EXPECT_THAT(seen, testing::EndsWith("line 12\n[lines 1-13 of 1000]"));
  dir.write("wide", std::string(50'000, 'w') + "\nnext\n");
  EXPECT_EQ(text("read_file", {{"path", "wide"}}, policy),
            std::string(50, 'w') + "\n[... 49901 bytes cut ...]\n" + std::string(49, 'w') + "\n[lines 1-1 of 2]");
}

TEST_F(FileToolTest, WriteMakesFoldersAndKeepsTheModeOfAFile) {
  EXPECT_EQ(text("write_file", {{"path", "a/b/c.txt"}, {"content", "h\xc3\xa9llo\n"}}), "wrote 7 bytes to a/b/c.txt");
  EXPECT_EQ(dir.read("a/b/c.txt"), "h\xc3\xa9llo\n");
  fs::permissions(dir.write("run.sh", "old"), fs::perms(0751));
  EXPECT_EQ(write("run.sh"), "wrote 1 bytes to run.sh");
  EXPECT_EQ(fs::status(dir / "run.sh").permissions(), fs::perms(0751));
  EXPECT_EQ(write((dir / "abs.txt").string()), "wrote 1 bytes to " + (dir / "abs.txt").string());
  fs::create_symlink("a/b/c.txt", dir / "link");
  EXPECT_EQ(write("link"), "wrote 1 bytes to link");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(dir.read("a/b/c.txt"), "x");
  EXPECT_EQ(write("a"), "[error: a is a folder]");
  int left = 0;
  for (const auto& entry : fs::recursive_directory_iterator(dir.path())) left += entry.path().extension() == ".tmp";
  EXPECT_EQ(left, 0);
}

TEST_F(FileToolTest, EditReplacesExactlyWhatWasMeant) {
  dir.write("conf", "port = 80\nhost = a\nhost = b\n");
  const auto edit = [&](const Json& more) {
    Json args = {{"path", "conf"}};
    args.update(more);
    return text("edit_file", args);
  };
  EXPECT_EQ(edit({{"old", "port = 80"}, {"new", "port = 8080"}}), "replaced 1 time in conf");
  EXPECT_EQ(edit({{"old", "host"}, {"new", "name"}}),
            "[error: the old text stands 2 times in conf; give more of it, or set all]");
  EXPECT_EQ(edit({{"old", "host"}, {"new", "name"}, {"all", true}}), "replaced 2 times in conf");
  EXPECT_EQ(dir.read("conf"), "port = 8080\nname = a\nname = b\n");
  EXPECT_EQ(edit({{"old", "prt = 8080\nname"}, {"new", "x"}}),
            "[error: the old text is not in conf; the nearest line is: port = 8080]");
  EXPECT_EQ(edit({{"old", ""}, {"new", "x"}}), "[error: \"old\" must not be empty]");
  EXPECT_EQ(text("edit_file", {{"path", "nope"}, {"old", "a"}, {"new", "b"}}), "[error: no such file: nope]");
}

TEST_F(FileToolTest, ListIsSortedByBytesWithKindsAndSizes) {
  EXPECT_EQ(text("list_dir", Json::object()), "[empty folder]");
  dir.write("b.txt", "12345");
  dir.write("B.txt", "");
  dir.write(".hidden", "x");
  dir.write("sub/inner.txt", "abc");
  dir.write("sub/deep/x", "");
  fs::create_symlink("b.txt", dir / "link");
  EXPECT_EQ(text("list_dir", Json::object()), ".hidden 1\nB.txt 0\nb.txt 5\nlink -> b.txt\nsub/");
  EXPECT_EQ(text("list_dir", {{"depth", 2}}),
            ".hidden 1\nB.txt 0\nb.txt 5\nlink -> b.txt\nsub/\nsub/deep/\nsub/inner.txt 3");
  EXPECT_EQ(text("list_dir", {{"path", "sub"}}), "deep/\ninner.txt 3");
  EXPECT_EQ(text("list_dir", {{"path", "b.txt"}}), "[error: b.txt is not a folder]");
  EXPECT_EQ(text("list_dir", {{"path", "nope"}}), "[error: no such file: nope]");
  dir.write("sub/new\nline", "");
  EXPECT_EQ(text("list_dir", {{"path", "sub"}}), "deep/\ninner.txt 3\nnew\\nline 0");
}

TEST_F(FileToolTest, NothingLeadsOutOfTheWorkingFolder) {
  test::TempDir outside;
  outside.write("secret", "private");
  fs::create_symlink(outside / "secret", dir / "file");
  fs::create_symlink(outside.path(), dir / "folder");
  fs::create_symlink("../" + outside.path().filename().string(), dir / "relative");
  fs::create_symlink("/proc/self/root", dir / "magic");
  fs::create_symlink("/proc/self/cwd", dir / "cwd");
  const std::string secret = (outside / "secret").string();
  for (const std::string& path : {std::string("file"), std::string("folder/secret"), std::string("relative/secret"),
                                  "magic" + secret, secret, "../" + outside.path().filename().string() + "/secret",
                                  dir.path().string() + "/../" + outside.path().filename().string() + "/secret",
                                  dir.path().string() + "-evil/secret", std::string("/etc/passwd"),
                                  std::string("/proc/self/environ"), "/proc/self/root" + secret}) {
    const std::string want = "[denied: " + path + " is outside the working folder]";
    EXPECT_EQ(read(path), want);
    EXPECT_EQ(write(path), want);
    EXPECT_EQ(text("edit_file", {{"path", path}, {"old", "p"}, {"new", "q"}}), want);
    EXPECT_EQ(call("read_file", {{"path", path}}).status, Status::denied);
  }
  for (const std::string path : {"folder", "relative", "magic", "..", "/", "/etc"}) {
    EXPECT_EQ(text("list_dir", {{"path", path}}), "[denied: " + path + " is outside the working folder]");
    EXPECT_THAT(write(path + "/new"), testing::StartsWith("[denied: ")) << path;
  }
  EXPECT_EQ(outside.read("secret"), "private");
  EXPECT_FALSE(fs::exists(outside / "new"));
}

TEST_F(FileToolTest, AnAbsoluteLinkWithinTheFolderMayBeFollowed) {
  dir.write("data/a.txt", "inside\n");
  fs::create_symlink(dir / "data", dir / "link");
  EXPECT_EQ(read("link/a.txt"), "inside");
  EXPECT_EQ(write("link/b.txt"), "wrote 1 bytes to link/b.txt");
  EXPECT_EQ(dir.read("data/b.txt"), "x");
}

TEST_F(FileToolTest, ALinkThatIsSwappedDuringTheCallNeverLeadsOut) {
  test::TempDir outside;
  outside.write("d/f", "private");
  dir.write("real/f", "inside");
  fs::create_symlink("real", dir / "d");
  std::stop_source done;
  std::jthread swapper([&, stop = done.get_token()] {
    while (!stop.stop_requested()) {
      fs::create_symlink(outside / "d", dir / "next");
      fs::rename(dir / "next", dir / "d");
      fs::create_symlink("real", dir / "next");
      fs::rename(dir / "next", dir / "d");
    }
  });
  const Sandbox box(dir.path(), {});
  const std::unique_ptr<Tool> reader = make_read_file(), writer = make_write_file();
  for (int i = 0; i < 2000; ++i) {
    EXPECT_THAT(reader->run({{"path", "d/f"}}, box, {}).text, testing::Not(testing::HasSubstr("private")));
    writer->run({{"path", "d/w"}, {"content", "x"}}, box, {});
  }
  done.request_stop();
  swapper.join();
  EXPECT_FALSE(fs::exists(outside / "d/w"));
}

TEST_F(FileToolTest, GitsHooksAndConfigurationAreProtectedAlsoWhenAbsent) {
  for (const std::string path :
       {".git/hooks/pre-commit", ".git/config", ".git/commondir", "./.git//config", "sub/../.git/config"}) {
    fs::create_directories(dir / "sub");
    EXPECT_EQ(write(path), "[denied: " + path + " is protected from writing]");
    EXPECT_FALSE(fs::is_regular_file(dir / path));
  }
  fs::create_directories(dir / ".git/hooks");
  fs::create_symlink(".git/hooks", dir / "h");
  EXPECT_EQ(write("h/post-commit"), "[denied: h/post-commit is protected from writing]");
  EXPECT_EQ(write(".git/description"), "wrote 1 bytes to .git/description");
}

TEST_F(FileToolTest, FoldersOfThePolicyAreReachedByTheirFullPath) {
  test::TempDir reference, results;
  reference.write("table", "data");
  Policy policy;
  policy.read_dirs = {reference.path()};
  policy.write_dirs = {results.path()};
  policy.hidden_paths = {dir / "corvid.db"};
  dir.write("corvid.db", "trajectory");
  const std::string table = (reference / "table").string(), yes = (results / "yes").string();
  EXPECT_EQ(text("read_file", {{"path", table}}, policy), "data");
  EXPECT_EQ(text("write_file", {{"path", table}, {"content", "x"}}, policy),
            "[denied: " + table + " is protected from writing]");
  EXPECT_EQ(text("write_file", {{"path", yes}, {"content", "x"}}, policy), "wrote 1 bytes to " + yes);
  EXPECT_EQ(text("read_file", {{"path", "corvid.db"}}, policy), "[denied: corvid.db is outside the working folder]");
}

TEST_F(FileToolTest, AFileWithoutPermissionIsSaidToBeSo) {
  fs::permissions(dir.write("locked", "x"), fs::perms(0));
  if (access((dir / "locked").c_str(), R_OK) == 0) GTEST_SKIP() << "root may read everything";
  EXPECT_EQ(read("locked"), "[error: locked: Permission denied]");
  EXPECT_EQ(write("locked"), "[error: locked: Permission denied]");
}

TEST_F(FileToolTest, NamesMayBeStrange) {
  for (const std::string name : {"-rf", "two words", "$(x)", "\xe2\x82\xac", ".corvid"}) {
    EXPECT_EQ(write(name), "wrote 1 bytes to " + name);
    EXPECT_EQ(read(name), "x");
  }
  EXPECT_EQ(write("line\nbreak"), "wrote 1 bytes to line\\nbreak");
  EXPECT_EQ(text("read_file", {{"path", std::string("a\0b", 3)}}), "[error: a\\x00b: Invalid argument]");
  EXPECT_EQ(read(std::string(300, 'n')), "[error: " + std::string(300, 'n') + ": File name too long]");
}

}  // namespace
}  // namespace corvid::tools
