#include "runtime/store.h"

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <set>
#include <thread>

#include "runtime/schema.h"
#include "runtime/transcript.h"
#include "tests/support/child.h"
#include "tests/support/temp_dir.h"

namespace corvid::runtime {
namespace {

using test::Child;
using test::TempDir;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

SessionRecord example_record() {
  SessionRecord record;
  record.workdir = "/home/ann/notes";
  record.agent = "default";
  record.model_name = "tiny.gguf";
  record.model_fingerprint = "00ff";
  record.prompt.instructions = "You do chores.\nNothing else.";
  record.prompt.tools = {{"shell", "Run it", Json::parse(R"({"type":"object","properties":{"b":{},"a":{}}})")}};
  record.prompt.thinking = model::Thinking::adaptive;
  record.sampler = {0.7f, 40, 0.9f, 0.05f, 18446744073709551615u, 1.1f, -1, 0.5f, 0.25f, 0.8f, 2, 3, 1000};
  record.sampler.dry_sequence_breakers = {"\n"};
  record.sampler.logit_bias = {{"42", -1.5f}, {"Sure", -std::numeric_limits<float>::infinity()}};
  record.sampler.stop = {"\n\n", "END"};
  return record;
}

Entry example_call() {
  model::Message message;
  message.text = "Let me look.";
  message.reasoning = "hmm";
  message.calls = {{"call_1", "shell", R"({"command":"ls"})"}, {"call_2", "list_dir", "{}"}};
  message.tokens = {0, 1, 4095, -1, 2147483647};
  return assistant_entry(message, {100, 90, 12, 1.5, 2.5});
}

CallResult example_result() { return {tools::Status::failed, Json{{"exit_code", 2}, {"bytes", 17}}, 2, 12.25}; }

// The message of the StoreError that `step` throws.
template <class Step>
std::string error_of(const Step& step) {
  try {
    step();
  } catch (const StoreError& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(StoreTest, GivesBackASessionAsItWasStored) {
  const TempDir dir;
  const std::string odd_bytes("a zero \0 and \xff stay", 19);
  const Entry call = example_call();
  std::string id;
  {
    Store store(dir / "corvid.db");
    id = store.create(example_record());
    store.append(id, 0, user_entry(odd_bytes));
    store.append(id, 1, call);
    store.append(id, 2, tool_entry("no such file\n[exit code 2]", "call_1", example_result()));
    store.append(id, 3, tool_entry("[error: the call could not be read]"));
  }
  Store store(dir / "corvid.db");
  const SessionRecord record = store.find(id);
  const SessionRecord wanted = example_record();
  EXPECT_EQ(record.id, id);
  EXPECT_EQ(record.workdir, wanted.workdir);
  EXPECT_EQ(record.agent, wanted.agent);
  EXPECT_EQ(record.model_name, wanted.model_name);
  EXPECT_EQ(record.model_fingerprint, wanted.model_fingerprint);
  EXPECT_EQ(record.prompt.instructions, wanted.prompt.instructions);
  ASSERT_EQ(record.prompt.tools.size(), 1u);
  EXPECT_EQ(record.prompt.tools[0].parameters.dump(), wanted.prompt.tools[0].parameters.dump()) << "key order counts";
  EXPECT_EQ(record.prompt.thinking, wanted.prompt.thinking);
  EXPECT_EQ(record.sampler, wanted.sampler);
  EXPECT_EQ(record.status, "new");
  EXPECT_EQ(record.parent, "");

  const std::vector<Entry> entries = store.load(id);
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[0].message.role, model::Role::user);
  EXPECT_EQ(entries[0].message.text, odd_bytes);
  EXPECT_FALSE(entries[0].usage);
  EXPECT_EQ(entries[1].message.role, model::Role::assistant);
  EXPECT_EQ(entries[1].message.text, call.message.text);
  EXPECT_EQ(entries[1].message.reasoning, call.message.reasoning);
  EXPECT_EQ(entries[1].message.tokens, call.message.tokens);
  ASSERT_EQ(entries[1].message.calls.size(), 2u);
  EXPECT_EQ(entries[1].message.calls[0].id, "call_1");
  EXPECT_EQ(entries[1].message.calls[0].args, R"({"command":"ls"})");
  EXPECT_EQ(entries[1].message.calls[1].name, "list_dir");
  ASSERT_TRUE(entries[1].usage);
  EXPECT_EQ(entries[1].usage->cached_tokens, 90);
  EXPECT_EQ(entries[1].usage->decode_ms, 2.5);
  ASSERT_TRUE(entries[2].result);
  EXPECT_EQ(entries[2].message.call_id, "call_1");
  EXPECT_EQ(entries[2].result->status, tools::Status::failed);
  EXPECT_EQ(entries[2].result->exit_code, 2);
  EXPECT_EQ(entries[2].result->duration_ms, 12.25);
  EXPECT_EQ(entries[2].result->detail.dump(), R"({"exit_code":2,"bytes":17})");
  EXPECT_EQ(entries[3].message.call_id, "");
  EXPECT_FALSE(entries[3].result);
}

TEST(StoreTest, IsPrivateToItsUserAndInWalMode) {
  const TempDir dir;
  const std::filesystem::path file = dir / "a/b/corvid.db";
  Store store(file);
  struct stat found {};
  ASSERT_EQ(stat(file.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  Database db(file, std::chrono::seconds(1));
  Statement mode(db, "PRAGMA journal_mode", "test");
  ASSERT_TRUE(mode.step());
  EXPECT_EQ(mode.text(0), "wal");
}

TEST(StoreTest, IdsAreShortUniqueAndSortByAge) {
  const TempDir dir;
  Store store(dir / "corvid.db");
  std::set<std::string> ids;
  for (int i = 0; i < 200; ++i) ids.insert(store.create(example_record()));
  EXPECT_EQ(ids.size(), 200u);
  for (const std::string& id : ids) EXPECT_THAT(id, MatchesRegex("[0-9a-hjkmnp-tv-z]{13}"));
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const std::string newer = store.create(example_record());
  EXPECT_GT(newer, *ids.rbegin());
}

TEST(StoreTest, FindsASessionByPrefixAndTheOneLastTouched) {
  const TempDir dir;
  Store store(dir / "corvid.db");
  const std::string first = store.create(example_record());
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const std::string second = store.create(example_record());
  EXPECT_EQ(store.find("last").id, second);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  store.append(first, 0, user_entry("hello"));
  EXPECT_EQ(store.find("last").id, first);

  size_t common = 0;
  while (first[common] == second[common]) ++common;
  EXPECT_EQ(store.find(second.substr(0, common + 1)).id, second);
  const std::string ambiguous = error_of([&] { store.find(first.substr(0, common)); });
  EXPECT_THAT(ambiguous, HasSubstr(first));
  EXPECT_THAT(ambiguous, HasSubstr(second));
  EXPECT_THAT(error_of([&] { store.find("nope%"); }), HasSubstr("there is no session nope%"));
  EXPECT_THAT(error_of([&] { store.find(""); }), HasSubstr("want an id"));
}

TEST(StoreTest, ListsTheLastTouchedFirstWithItsFirstPrompt) {
  const TempDir dir;
  Store store(dir / "corvid.db");
  const std::string first = store.create(example_record());
  store.append(first, 0, user_entry("count the files"));
  store.append(first, 1, example_call());
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const std::string second = store.create(example_record());
  const std::vector<SessionSummary> list = store.list();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].id, second);
  EXPECT_EQ(list[1].id, first);
  EXPECT_EQ(list[1].prompt, "count the files");
  EXPECT_EQ(list[1].messages, 2);
  EXPECT_EQ(list[1].agent, "default");
  EXPECT_EQ(store.list(1).size(), 1u);
}

TEST(StoreTest, RemovesASessionWithAllThatBelongsToIt) {
  const TempDir dir;
  Store store(dir / "corvid.db");
  const std::string id = store.create(example_record());
  store.begin_run(id, 0);
  store.append(id, 0, user_entry("x"));
  store.append(id, 1, example_call());
  store.append(id, 2, tool_entry("ok", "call_1", example_result()));
  const std::string kept = store.create(example_record());
  store.remove(id);
  EXPECT_THAT(error_of([&] { store.remove(id); }), HasSubstr("there is no session " + id));
  EXPECT_EQ(store.find(kept).id, kept);
  Database db(dir / "corvid.db", std::chrono::seconds(1));
  for (const char* table : {"messages", "calls", "results", "runs"})
    EXPECT_EQ(db.integer((std::string("SELECT count(*) FROM ") + table).c_str(), "count"), 0) << table;
}

TEST(StoreTest, AForkRemembersItsParentUntilItIsRemoved) {
  const TempDir dir;
  Store store(dir / "corvid.db");
  SessionRecord record = example_record();
  record.parent = store.create(record);
  const std::string fork = store.create(record);
  EXPECT_EQ(store.find(fork).parent, record.parent);
  store.remove(record.parent);
  EXPECT_EQ(store.find(fork).parent, "");
}

TEST(StoreTest, RunsLeaveTheirEndAndAKilledOneIsClosedByTheNext) {
  const TempDir dir;
  Store store(dir / "corvid.db");
  const std::string id = store.create(example_record());
  const int64_t killed = store.begin_run(id, 0);
  EXPECT_EQ(store.find(id).status, "running");
  const int64_t run = store.begin_run(id, 1);
  EXPECT_NE(run, killed);
  store.end_run(run, RunStatus::limit, "turn_limit", "the limit of 20 turns was reached");
  EXPECT_EQ(store.find(id).status, "limit");
  Database db(dir / "corvid.db", std::chrono::seconds(1));
  Statement row(db, "SELECT status, end FROM runs ORDER BY id", "test");
  ASSERT_TRUE(row.step());
  EXPECT_EQ(row.text(0) + " " + row.text(1), "interrupted killed");
  ASSERT_TRUE(row.step());
  EXPECT_EQ(row.text(0) + " " + row.text(1), "limit turn_limit");
}

TEST(StoreTest, RefusesAMessageOutOfTurnAndAResultWithoutItsCall) {
  const TempDir dir;
  Store store(dir / "corvid.db");
  const std::string id = store.create(example_record());
  store.append(id, 0, user_entry("x"));
  EXPECT_THAT(error_of([&] { store.append(id, 0, user_entry("y")); }), HasSubstr("want to append message 0, found 1"));
  EXPECT_THAT(error_of([&] { store.append(id, 2, user_entry("y")); }), HasSubstr("want to append message 2, found 1"));
  EXPECT_THAT(error_of([&] { store.append("nosuch", 0, user_entry("y")); }), HasSubstr("there is no session nosuch"));
  EXPECT_THAT(error_of([&] { store.append(id, 1, tool_entry("r", "call_7", example_result())); }), HasSubstr("call_7"));
  store.append(id, 1, example_call());
  store.append(id, 2, tool_entry("r", "call_1", example_result()));
  EXPECT_THAT(error_of([&] { store.append(id, 3, tool_entry("r", "call_1", example_result())); }),
              HasSubstr("unanswered call"));
  EXPECT_EQ(store.load(id).size(), 3u) << "a refused message leaves nothing behind";
}

TEST(StoreTest, HoldsALargeTranscript) {
  const TempDir dir;
  Store store(dir / "corvid.db");
  const std::string id = store.create(example_record());
  const std::string text(200'000, 'x');
  for (int64_t seq = 0; seq < 100; ++seq) store.append(id, seq, user_entry(text));
  const std::vector<Entry> entries = store.load(id);
  ASSERT_EQ(entries.size(), 100u);
  EXPECT_EQ(entries.back().message.text, text);
}

TEST(StoreTest, AKillBetweenTwoAppendsLosesNothingThatWasAppended) {
  const TempDir dir;
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Child child([&] {
    Store store(dir / "corvid.db");
    const std::string id = store.create(example_record());
    for (int64_t seq = 0;; ++seq) {
      store.append(id, seq, user_entry(std::to_string(seq)));
      if (write(ends[1], &seq, sizeof seq) != ssize_t(sizeof seq)) return 1;  // said only after it was appended
    }
  });
  close(ends[1]);
  int64_t last = -1;
  while (last < 50) ASSERT_EQ(read(ends[0], &last, sizeof last), ssize_t(sizeof last));
  child.kill(SIGKILL);
  EXPECT_EQ(child.wait(), 128 + SIGKILL);
  for (int64_t said = 0; read(ends[0], &said, sizeof said) == ssize_t(sizeof said);) last = said;
  close(ends[0]);

  Store store(dir / "corvid.db");
  const std::vector<Entry> entries = store.load(store.find("last").id);
  ASSERT_GE(int64_t(entries.size()), last + 1);
  for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(entries[i].message.text, std::to_string(i));
  Database db(dir / "corvid.db", std::chrono::seconds(1));
  Statement check(db, "PRAGMA integrity_check", "test");
  ASSERT_TRUE(check.step());
  EXPECT_EQ(check.text(0), "ok");
}

TEST(StoreTest, SeveralProcessesCreateAndWriteOneStoreAtOnce) {
  const TempDir dir;
  constexpr int kProcesses = 4;
  constexpr int64_t kMessages = 40;
  {
    std::vector<std::unique_ptr<Child>> children;
    for (int i = 0; i < kProcesses; ++i)
      children.push_back(std::make_unique<Child>([&] {
        Store store(dir / "corvid.db", std::chrono::seconds(60));
        const std::string id = store.create(example_record());
        for (int64_t seq = 0; seq < kMessages; ++seq) store.append(id, seq, user_entry(id));
        return int64_t(store.load(id).size()) == kMessages ? 0 : 1;
      }));
    for (const auto& child : children) EXPECT_EQ(child->wait(), 0);
  }
  Store store(dir / "corvid.db");
  const std::vector<SessionSummary> list = store.list();
  ASSERT_EQ(list.size(), size_t(kProcesses));
  for (const SessionSummary& session : list) {
    EXPECT_EQ(session.messages, kMessages);
    EXPECT_EQ(session.prompt, session.id);
  }
}

TEST(StoreTest, ThreadsWithAStoreEachWriteAtOnce) {
  const TempDir dir;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        Store store(dir / "corvid.db", std::chrono::seconds(60));
        const std::string id = store.create(example_record());
        for (int64_t seq = 0; seq < 20; ++seq) store.append(id, seq, user_entry(id));
      });
  }
  Store store(dir / "corvid.db");
  ASSERT_EQ(store.list().size(), 4u);
  for (const SessionSummary& session : store.list()) EXPECT_EQ(session.messages, 20);
}

TEST(StoreTest, APausedReaderDoesNotBlockAWriter) {
  const TempDir dir;
  Store store(dir / "corvid.db", std::chrono::milliseconds(0));
  const std::string id = store.create(example_record());
  store.append(id, 0, user_entry("x"));
  Database db(dir / "corvid.db", std::chrono::milliseconds(0));
  Statement reader(db, "SELECT text FROM messages", "read");
  ASSERT_TRUE(reader.step());
  store.append(id, 1, user_entry("y"));
  EXPECT_EQ(store.load(id).size(), 2u);
}

TEST(StoreTest, SaysThatAnotherProcessHoldsTheLock) {
  const TempDir dir;
  Store store(dir / "corvid.db", std::chrono::milliseconds(20));
  const std::string id = store.create(example_record());
  Database other(dir / "corvid.db", std::chrono::milliseconds(0));
  Transaction held(other, Transaction::Kind::write, "hold the lock");
  EXPECT_EQ(error_of([&] { store.append(id, 0, user_entry("x")); }),
            (dir / "corvid.db").string() + ": append a message: locked by another process (waited 20 ms)");
}

TEST(StoreTest, RefusesAFolderThatCannotBeWritten) {
  // Not even root can make a file in /proc.
  EXPECT_THAT(error_of([] { Store("/proc/corvid.db"); }), HasSubstr("/proc/corvid.db: create the store: "));
  const TempDir dir;
  dir.write("plain", "");
  EXPECT_THAT(error_of([&] { Store(dir / "plain/corvid.db"); }), HasSubstr("plain/corvid.db: make the folder "));
}

TEST(StoreTest, RefusesAReadOnlyFolderAsAnOrdinaryUser) {
  const TempDir dir;
  { Store(dir / "there.db"); }
  std::filesystem::permissions(dir / "there.db", std::filesystem::perms(0444));
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0555));
  const auto open_both = [&] {
    // File permissions do not bind root, who has to become somebody else first.
    if (geteuid() == 0 && (setgroups(0, nullptr) != 0 || setgid(65534) != 0 || setuid(65534) != 0)) return 98;
    const std::string fresh = error_of([&] { Store(dir / "new.db"); });
    if (fresh != (dir / "new.db").string() + ": create the store: Permission denied") return 1;
    const std::string there = error_of([&] { Store(dir / "there.db"); });
    return there.find("there.db: ") != std::string::npos ? 0 : 2;
  };
  const int status = Child(open_both).wait();
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  if (status == 98) GTEST_SKIP() << "cannot become another user here";
  EXPECT_EQ(status, 0);
}

TEST(StoreTest, RefusesAFileThatIsNoDatabase) {
  const TempDir dir;
  const auto file = dir.write(
      "corvid.db", "This is a shopping list: bread, cheese, a bag of sunflower seeds.\n" + std::string(5000, '-'));
  EXPECT_THAT(error_of([&] { Store{file}; }), HasSubstr("want an SQLite database, found something else"));
  EXPECT_THAT(dir.read("corvid.db"), StartsWith("This is a shopping list")) << "the file is left alone";
}

TEST(StoreTest, RefusesAnotherProgramsDatabase) {
  const TempDir dir;
  { Database(dir / "other.db", std::chrono::seconds(1)).exec("CREATE TABLE birds (name TEXT)", "test"); }
  EXPECT_THAT(error_of([&] { Store(dir / "other.db"); }), HasSubstr("want a corvid store, found another program's"));
}

TEST(StoreTest, RefusesANewerSchema) {
  const TempDir dir;
  { Store(dir / "corvid.db"); }
  { Database(dir / "corvid.db", std::chrono::seconds(1)).exec("PRAGMA user_version = 7", "test"); }
  EXPECT_EQ(error_of([&] { Store(dir / "corvid.db"); }),
            (dir / "corvid.db").string() + ": want schema version 1 or older, found 7: a newer corvid wrote it");
}

TEST(StoreTest, ATruncatedOrOverwrittenStoreIsAnErrorAndNeverACrash) {
  const TempDir dir;
  std::string id;
  {
    Store store(dir / "corvid.db");
    id = store.create(example_record());
    for (int64_t seq = 0; seq < 60; ++seq) store.append(id, seq, user_entry(std::string(3000, 'x')));
    Database(dir / "corvid.db", std::chrono::seconds(1)).exec("PRAGMA wal_checkpoint(TRUNCATE)", "test");
  }
  const std::string whole = dir.read("corvid.db");
  ASSERT_GT(whole.size(), 100'000u);
  const auto used = [&](const std::string& bytes) {
    dir.write("damaged.db", bytes);
    std::filesystem::remove(dir / "damaged.db-wal");
    std::filesystem::remove(dir / "damaged.db-shm");
    return error_of([&] {
      Store store(dir / "damaged.db");
      store.load(id);
      store.append(id, 60, user_entry("y"));
    });
  };
  EXPECT_EQ(used(whole), "nothing was thrown");
  for (const size_t size : {size_t(50), size_t(4096), size_t(8192), whole.size() / 2})
    EXPECT_THAT(used(whole.substr(0, size)), HasSubstr("damaged.db: ")) << size << " bytes";
  std::string overwritten = whole;
  for (size_t i = 4096; i < overwritten.size(); ++i) overwritten[i] = char(i * 131);
  EXPECT_THAT(used(overwritten), HasSubstr("the database is corrupt"));
  // Any page may be the damaged one: an error or an answer, never a crash.
  for (size_t page = 0; page * 4096 < whole.size(); page += 3) {
    std::string one = whole;
    for (size_t i = page * 4096 + 100; i < (page + 1) * 4096 && i < one.size(); ++i) one[i] = char(i * 37);
    used(one);
  }
}

// In a child: puts a disk of one megabyte over `dir`, in a mount namespace that ends with the child. False where that
// is not allowed.
bool mount_small_disk(const std::filesystem::path& dir) {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(uid == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) != 0) return false;
  if (uid != 0) {  // without a mapping nobody could own a file there
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << uid << ' ' << uid << " 1";
    std::ofstream("/proc/self/gid_map") << gid << ' ' << gid << " 1";
  }
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", dir.c_str(), "tmpfs", 0, "size=1m") == 0;
}

TEST(StoreTest, AFullDiskIsAnErrorAndLosesNothingOlder) {
  const TempDir dir;
  const auto fill_the_disk = [&] {
    if (!mount_small_disk(dir.path())) return 98;
    Store store(dir / "corvid.db");
    const std::string id = store.create(example_record());
    int64_t seq = 0;
    const std::string error = error_of([&] {
      for (; seq < 1000; ++seq) store.append(id, seq, user_entry(std::string(20'000, 'x')));
    });
    if (error != (dir / "corvid.db").string() + ": append a message: the disk is full") return 1;
    return int64_t(Store(dir / "corvid.db").load(id).size()) == seq && seq > 5 ? 0 : 2;
  };
  const int status = Child(fill_the_disk).wait();
  if (status == 98) GTEST_SKIP() << "cannot mount a small disk here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace corvid::runtime
