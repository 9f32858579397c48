// Forks, and merges of stores: real SQLite files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "runtime/replay.h"
#include "runtime/store.h"
#include "runtime/transcript.h"
#include "tests/support/scripted_chat.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"

namespace corvid::runtime {
namespace {

using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kAll = -1;

SessionRecord record_of(const std::string& instructions) {
  SessionRecord record;
  record.workdir = "/home/ann";
  record.agent = "default";
  record.model_fingerprint = "m1";
  record.prompt.instructions = instructions;
  return record;
}

Entry reply_entry(std::string text, std::vector<model::Token> tokens, std::vector<model::Call> calls = {}) {
  model::Message message;
  message.text = std::move(text);
  message.tokens = std::move(tokens);
  message.calls = std::move(calls);
  Entry entry = assistant_entry(std::move(message), {100, 90, 3, 1.5, 2.5});
  entry.model_fingerprint = "m1";
  return entry;
}

// A user's message, a call, its result, an answer.
std::string make_session(Store& store, const std::string& instructions) {
  const std::string id = store.create(record_of(instructions));
  const int64_t run = store.begin_run(id, 0);
  store.append(id, 0, user_entry("how many?"));
  store.append(id, 1, reply_entry("", {1, 2, 3}, {{"call_1", "shell", "{\"command\":\"ls\"}"}}));
  store.append(id, 2, tool_entry("a\nb", "call_1", CallResult{tools::Status::ok, Json{{"exit_code", 0}}, 0, 3.5}));
  store.append(id, 3, reply_entry("2", {4, 5}));
  store.end_run(run, RunStatus::completed, "answered", "");
  return id;
}

// Everything of a session that a reader can see, as text.
std::string seen(Store& store, const std::string& id) {
  std::string text;
  const SessionRecord record = store.find(id);
  text += record.id + record.status + record.parent + std::to_string(record.updated_ms) + record.prompt.instructions;
  for (const Entry& entry : store.load(id)) {
    text += "\n" + std::to_string(entry.created_ms) + entry.message.text + entry.message.call_id +
            entry.model_fingerprint + (entry.usage ? std::to_string(entry.usage->decode_ms) : "") +
            (entry.result ? entry.result->detail.dump() : "");
    for (const model::Token token : entry.message.tokens) text += " " + std::to_string(token);
    for (const model::Call& call : entry.message.calls) text += call.id + call.name + call.args;
  }
  return text;
}

int64_t count_runs(const std::filesystem::path& file) {
  Database db(file, std::chrono::seconds(5));
  return db.integer("SELECT count(*) FROM runs WHERE ended_ms IS NOT NULL", "count the runs");
}

class Merge : public testing::Test {
 protected:
  TempDir dir;
  Store main{dir / "main.db"}, part{dir / "part.db"};
};

TEST_F(Merge, TakesSessionsOverWholeAndTwiceGivesNothingTwice) {
  const std::string own = make_session(main, "own"), one = make_session(part, "one"), two = make_session(part, "two");
  const MergeResult first = main.merge(dir / "part.db");
  EXPECT_EQ(first.added, 2);
  EXPECT_THAT(first.conflicts, testing::IsEmpty());
  EXPECT_EQ(seen(main, one), seen(part, one));
  EXPECT_EQ(seen(main, two), seen(part, two));
  EXPECT_EQ(count_runs(dir / "main.db"), 3);
  const MergeResult again = main.merge(dir / "part.db");
  EXPECT_EQ(again.added + again.continued, 0);
  EXPECT_EQ(again.unchanged, 2);
  EXPECT_EQ(main.list(-1).size(), 3u);
  EXPECT_EQ(count_runs(dir / "main.db"), 3);
  EXPECT_EQ(main.load(own).size(), 4u);
}

TEST_F(Merge, ASessionThatWentOnIsContinuedAndOneThatIsBehindChangesNothing) {
  const std::string id = part.create(record_of("x"));
  const int64_t run = part.begin_run(id, 0);
  part.append(id, 0, user_entry("how many?"));
  part.append(id, 1, reply_entry("", {1}, {{"call_1", "shell", "{}"}}));
  EXPECT_EQ(main.merge(dir / "part.db").added, 1);
  EXPECT_EQ(main.find(id).status, "running");
  part.append(id, 2, tool_entry("b", "call_1", CallResult{}));
  part.append(id, 3, reply_entry("1", {4}));
  part.end_run(run, RunStatus::completed, "answered", "");
  EXPECT_EQ(main.merge(dir / "part.db").continued, 1);
  EXPECT_EQ(seen(main, id), seen(part, id));
  EXPECT_EQ(count_runs(dir / "main.db"), 1);
  // The other way round: what is ahead stays.
  main.append(id, 4, user_entry("and now?"));
  const std::string before = seen(main, id);
  EXPECT_EQ(main.merge(dir / "part.db").unchanged, 1);
  EXPECT_EQ(seen(main, id), before);
}

TEST_F(Merge, NamesConflictsAndTakesTheOthers) {
  const std::string id = make_session(part, "x");
  main.merge(dir / "part.db");
  main.append(id, 4, user_entry("here"));
  part.append(id, 4, user_entry("there"));
  part.append(id, 5, reply_entry("yes", {7}));
  const std::string other = make_session(part, "y");
  const std::string before = seen(main, id);
  const MergeResult result = main.merge(dir / "part.db");
  ASSERT_EQ(result.conflicts.size(), 1u);
  EXPECT_EQ(result.conflicts[0].session, id);
  EXPECT_EQ(result.conflicts[0].reason, "message 4 is another one");
  EXPECT_EQ(result.added, 1);
  EXPECT_EQ(seen(main, id), before);
  EXPECT_EQ(seen(main, other), seen(part, other));

  Database db(dir / "part.db", std::chrono::seconds(5));
  Statement(db, "UPDATE sessions SET instructions = 'z' WHERE id = ?", "change it").bind(other).run();
  const MergeResult second = main.merge(dir / "part.db");
  ASSERT_EQ(second.conflicts.size(), 2u);
  EXPECT_EQ(second.conflicts[1].reason, "another session has this id");
}

TEST_F(Merge, ParentsAreKeptWhateverTheOrderOfTheFiles) {
  const std::string parent = make_session(part, "x");
  Store third(dir / "third.db");
  third.merge(dir / "part.db");
  const std::string child = third.fork(parent);
  third.remove(parent);  // as if it had begun elsewhere: only the child is left, without its parent
  {
    Database db(dir / "third.db", std::chrono::seconds(5));
    db.exec("PRAGMA foreign_keys = OFF", "set the parent");
    Statement(db, "UPDATE sessions SET parent = ?", "set the parent").bind(parent).run();
  }
  main.merge(dir / "third.db");
  EXPECT_EQ(main.find(child).parent, "");
  main.merge(dir / "part.db");
  main.merge(dir / "third.db");
  EXPECT_EQ(main.find(child).parent, parent);
}

TEST_F(Merge, RefusesWhatIsNoStore) {
  dir.write("text.db", std::string(4096, 'x'));
  EXPECT_THAT(test::message_of([&] { main.merge(dir / "text.db"); }), HasSubstr("merge " + (dir / "text.db").string()));
  EXPECT_THAT(test::message_of([&] { main.merge(dir / "none.db"); }), HasSubstr("want a store, found no file"));
  EXPECT_THAT(test::message_of([&] { main.merge(dir / "main.db"); }), HasSubstr("found this one itself"));
  {
    Database db(dir / "foreign.db", std::chrono::seconds(5));
    db.exec("CREATE TABLE sessions (id)", "make it");
  }
  EXPECT_THAT(test::message_of([&] { main.merge(dir / "foreign.db"); }), HasSubstr("another program's database"));
  dir.write("empty.db", "");
  EXPECT_EQ(main.merge(dir / "empty.db").added, 0);  // of a process killed just after it began
  make_session(part, "x");
  EXPECT_EQ(main.merge(dir / "part.db").added, 1);  // nothing is left attached
}

TEST_F(Merge, AForkBeginsWithItsParentsMessages) {
  const std::string id = make_session(main, "x");
  const std::string whole = main.fork(id), part_of_it = main.fork(id, 3), none = main.fork(id, 0);
  EXPECT_EQ(main.find(whole).parent, id);
  EXPECT_EQ(main.load(whole).size(), 4u);
  EXPECT_EQ(main.load(whole)[1].message.tokens, (std::vector<model::Token>{1, 2, 3}));
  EXPECT_EQ(main.load(whole)[2].result->detail, (Json{{"exit_code", 0}}));
  EXPECT_EQ(main.load(part_of_it).size(), 3u);
  EXPECT_EQ(main.load(none).size(), 0u);
  main.append(part_of_it, 3, user_entry("otherwise"));
  EXPECT_EQ(main.load(id)[3].message.text, "2");
  EXPECT_THAT(test::message_of([&] { main.fork(id, 2); }),
              HasSubstr("a call of message 1 has its result in message 2"));
  EXPECT_THAT(test::message_of([&] { main.fork(id, 5); }), HasSubstr("want at most 4 messages"));
  EXPECT_EQ(main.list(-1).size(), 4u);  // the refused ones left nothing
}

TEST_F(Merge, AReplaySaysWhichRepliesAreTheSame) {
  const std::string id = make_session(main, "x");
  main.append(id, 4, user_entry("again"));
  Entry foreign = reply_entry("old", {9});
  foreign.model_fingerprint = "m0";
  main.append(id, 5, foreign);
  main.append(id, 6, user_entry("cut"));
  main.append(id, 7, reply_entry("a cut rep", {}));
  test::ScriptedChat chat;
  const auto replies = [&](const std::string& text, std::vector<model::Token> tokens) {
    Reply reply;
    reply.message.text = text;
    reply.message.tokens = std::move(tokens);
    chat.gives(std::move(reply));
  };
  replies("", {1, 2, 3});
  replies("3", {4, 6});
  replies("a cut rep", {});
  std::vector<int64_t> told;
  const std::vector<ReplayedReply> found =
      replay(chat, main.load(id), "m1", [&](const ReplayedReply& reply) { told.push_back(reply.seq); }, {});
  EXPECT_THAT(told, ElementsAre(1, 3, 5, 7));
  using Verdict = ReplayedReply::Verdict;
  EXPECT_EQ(found[0].verdict, Verdict::same);
  EXPECT_EQ(found[1].verdict, Verdict::different);
  EXPECT_EQ(found[1].differs_at, 1);
  EXPECT_EQ(found[2].verdict, Verdict::foreign);
  EXPECT_EQ(found[3].verdict, Verdict::same);
  // The stored history is what the model sees, also behind a reply that differs; another model's tokens are not.
  ASSERT_EQ(chat.seen.size(), 3u);
  EXPECT_EQ(chat.seen[2][3].tokens, (std::vector<model::Token>{4, 5}));
  EXPECT_THAT(chat.seen[2][5].tokens, testing::IsEmpty());
  EXPECT_THAT(chat.max_tokens_seen, ElementsAre(3, 3, 3));
}

}  // namespace
}  // namespace corvid::runtime
