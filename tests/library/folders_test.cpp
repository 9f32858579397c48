// What an engine and a store keep in folders, and what tools see of these.
#include <sys/stat.h>

#include <functional>

#include "library_test.h"

namespace {

namespace fs = std::filesystem;
using corvid_test::kCount;
using corvid_test::LibraryTest;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(LibraryTest, ThePrefixFolderSparesTheNextEngineTheInstructions) {
  const auto cached = [&] {
    const corvid::Engine engine(corvid::Model::shipped(), {.threads = 2, .prefix_folder = folder_ / "prefix"});
    corvid::Session session = corvid::Session::start(engine, *store_, corvid::Agent(), {.workdir = folder_ / "work"});
    // What the first turn found; later turns find what they evaluated themselves.
    int64_t found = -1;
    corvid::Agent agent;
    session.run(kCount, {.on_event = [&](const corvid::Event& event) {
                  if (std::holds_alternative<corvid::ToolCallEvent>(event) && found < 0) found = engine.stats().tokens;
                }});
    return found;
  };
  const int64_t first = cached(), second = cached();
  EXPECT_LT(second, first / 2);
  EXPECT_FALSE(fs::is_empty(folder_ / "prefix"));
}

// What is kept where a link in the session's folder led when it was opened: hidden there, and read there, also when a
// command has turned the link elsewhere.
TEST_F(LibraryTest, FoldersBehindLinksAreHiddenWhereTheyAre) {
  fs::create_directories(folder_ / "work/real");
  fs::create_directory_symlink("real", folder_ / "work/link");
  const corvid::Store store(folder_ / "work/link/agents.db", {.session_folder = folder_ / "work/link/kept"});
  EXPECT_EQ(store.file(), fs::canonical(folder_) / "work/real/agents.db");
  const mode_t mask = ::umask(002);
  {
    corvid::Session session = corvid::Session::start(*engine_, store, corvid::Agent(), {.workdir = folder_ / "work"});
    session.call_tool("shell", R"({"command":"rm link; mkdir other; ln -s other link"})");
    session.run(kCount);
  }
  ::umask(mask);
  EXPECT_EQ(fs::status(folder_ / "work/real/kept").permissions(), fs::perms::owner_all);
  EXPECT_FALSE(fs::is_empty(folder_ / "work/real/kept"));
  EXPECT_TRUE(fs::is_empty(folder_ / "work/other"));
}

// What a resumed session restores instead of reading it again.
TEST_F(LibraryTest, TheSessionFolderSparesAResumedSessionItsHistory) {
  const corvid::StoreOptions options{.session_folder = folder_ / "work/kept"};
  const corvid::Store store(folder_ / "work/agents.db", options);
  const auto evaluated_by = [&](const std::function<void(const corvid::Engine&)>& work) {
    const corvid::Engine engine(corvid::Model::shipped(), {.threads = 2});
    work(engine);
    return engine.stats().tokens;
  };
  std::string id, answer;
  evaluated_by([&](const corvid::Engine& engine) {
    corvid::Session session = corvid::Session::start(engine, store, corvid::Agent(), {.workdir = folder_ / "work"});
    session.run(kCount);
    id = session.id();
  });
  const auto resume = [&](const corvid::Store& with, const corvid::Engine& engine) {
    // A copy of the store, so that both go on from the same messages.
    answer = corvid::Session::resume(engine, with, corvid::Agent(), id).run("how many md files are in notes?").answer;
  };
  for (const char* suffix : {"", "-wal"}) {
    if (fs::exists((folder_ / "work/agents.db") += suffix))
      fs::copy_file((folder_ / "work/agents.db") += suffix, (folder_ / "copy.db") += suffix);
  }
  const int64_t restored = evaluated_by([&](const corvid::Engine& engine) { resume(store, engine); });
  EXPECT_THAT(answer, HasSubstr("1"));
  const std::string restored_answer = answer;
  const int64_t read =
      evaluated_by([&](const corvid::Engine& engine) { resume(corvid::Store(folder_ / "copy.db"), engine); });
  EXPECT_EQ(answer, restored_answer);
  EXPECT_LT(restored, read / 2);
  // The tools of a session in the folder around it do not see it, nor the store beside it.
  corvid::Session session = corvid::Session::start(*engine_, store, corvid::Agent(), {.workdir = folder_ / "work"});
  const std::string list = R"({"command":"ls kept; cat agents.db; ls -A kept | wc -l"})";
  EXPECT_THAT(session.call_tool("shell", list).text, StartsWith("0"));
  EXPECT_NE(session.call_tool("write_file", R"({"path":"kept/x.kv","content":"x"})").status, corvid::ToolStatus::ok);
  EXPECT_FALSE(fs::is_empty(folder_ / "work/kept"));
  store.remove(id);
  EXPECT_TRUE(fs::is_empty(folder_ / "work/kept"));
}

TEST_F(LibraryTest, ToolsDoNotSeeThePrefixFolderInTheirOwn) {
  const corvid::Engine engine(corvid::Model::shipped(), {.threads = 2, .prefix_folder = folder_ / "work/prefix"});
  corvid::Session session = corvid::Session::start(engine, *store_, corvid::Agent(), {.workdir = folder_ / "work"});
  session.run(kCount);
  EXPECT_FALSE(fs::is_empty(folder_ / "work/prefix"));
  EXPECT_EQ(session.call_tool("shell", R"({"command":"ls -A prefix | wc -l"})").text, "0");
  session.call_tool("shell", R"({"command":"echo x > prefix/planted.kv; rm -rf prefix/*; mv prefix elsewhere"})");
  EXPECT_NE(session.call_tool("write_file", R"({"path":"prefix/planted.kv","content":"x"})").status,
            corvid::ToolStatus::ok);
  EXPECT_FALSE(fs::exists(folder_ / "work/prefix/planted.kv"));
  EXPECT_FALSE(fs::is_empty(folder_ / "work/prefix"));
}

}  // namespace
