// Keys and values that the program keeps: a resumed session's on disk, many agents' in memory under a budget.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "tests/support/home.h"
#include "tests/support/tiny_model.h"

namespace corvid {
namespace {

namespace fs = std::filesystem;
using test::Finished;
using test::Home;
using test::Json;
using testing::HasSubstr;

constexpr const char* kAnswer = "Nothing to do.";

class CacheCommand : public testing::Test {
 protected:
  Json run(std::vector<std::string> words) const {
    words.insert(words.begin(), {"run", "--output", "json", "--model", model_});
    const Finished finished = home.corvid(words);
    EXPECT_EQ(finished.status, 0) << finished.err;
    return finished.status == 0 ? Json::parse(finished.last_line()) : Json{};
  }
  // Of a resumed run: prompt tokens found in the cache.
  int64_t resumed(const Json& session) const {
    const Json json = run({"--resume", session["session_id"], "and now?"});
    EXPECT_EQ(json["answer"], kAnswer);
    return json["usage"]["cached_tokens"];
  }
  // All that a session holds after its run, whose last token was never evaluated.
  static int64_t held(const Json& session) {
    return session["usage"]["prompt_tokens"].get<int64_t>() + session["usage"]["completion_tokens"].get<int64_t>() - 1;
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    const fs::path folder = home / "home/.cache/corvid/sessions";
    if (fs::exists(folder))
      for (const fs::directory_entry& entry : fs::directory_iterator(folder)) found.push_back(entry.path());
    return found;
  }

  Home home;
  const std::string model_ = test::write_tiny_model(home / "answering", kAnswer).string();
};

TEST_F(CacheCommand, AResumedSessionRestoresItsCache) {
  const Json first = run({"hello"}), other = run({"hello there"});
  ASSERT_EQ(files().size(), 2u);
  struct stat info {};
  ASSERT_EQ(stat(files()[0].c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(resumed(first), held(first));
  EXPECT_EQ(files().size(), 2u) << "its new state in the place of the old one";
  EXPECT_EQ(resumed(other), held(other));
  // A chat goes on with it as well, and leaves its own.
  const Finished chat =
      home.corvid({"sessions", "resume", "--model", model_, first["session_id"].get<std::string>()}, "more\n");
  EXPECT_EQ(chat.status, 0) << chat.err;
  EXPECT_GT(resumed(first), 2 * held(first) - held(other));
}

TEST_F(CacheCommand, WithoutTheFileOrWithADamagedOneTheHistoryIsReadAgain) {
  const Json session = run({"hello"});
  ASSERT_EQ(files().size(), 1u);
  const fs::path file = files()[0];
  fs::resize_file(file, fs::file_size(file) - 1);
  EXPECT_LT(resumed(session), held(session));  // instructions and tools alone
  EXPECT_EQ(files().size(), 1u);
  fs::remove(file);
  EXPECT_LT(resumed(session), held(session));
  home.environment["CORVID_CACHE"] = "off";
  EXPECT_EQ(resumed(session), 0);
  const Json unkept = run({"hello"});
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(CacheCommand, WhatIsRemovedFromTheStoreIsRemovedHere) {
  const Json session = run({"hello"}), other = run({"hello"});
  EXPECT_EQ(files().size(), 2u);
  EXPECT_EQ(home.corvid({"sessions", "rm", session["session_id"]}).status, 0);
  ASSERT_EQ(files().size(), 1u);
  EXPECT_THAT(files()[0].filename().string(), testing::StartsWith(other["session_id"].get<std::string>()));
}

TEST_F(CacheCommand, TheBudgetIsAFlagOrAKeyAndSaysWhatItLacks) {
  const auto fails = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"run", "--model", model_});
    words.emplace_back("hello");
    return home.corvid(words);
  };
  for (const char* size : {"lots", "-1", "0", "1.5GiB", "10GB", "99999999999GiB"}) {
    const Finished wrong = fails({"--cache-memory", size});
    EXPECT_EQ(wrong.status, 2);
    EXPECT_THAT(wrong.err, HasSubstr("--cache-memory: want a size from 1 to ")) << size;
  }
  const Finished small = fails({"--cache-memory", "64KiB"});
  EXPECT_EQ(small.status, 3);
  EXPECT_THAT(small.err, HasSubstr("does not fit the memory for keys and values"));
  home.write("config/corvid/config.yaml", "cache_memory: 64KiB\n");
  EXPECT_EQ(fails({}).status, 3);
  EXPECT_EQ(fails({"--cache-memory", "4MiB"}).status, 0);
  home.write("config/corvid/config.yaml", "cache_memory: some\n");
  EXPECT_THAT(fails({}).err, HasSubstr("config.yaml:1:15: cache_memory: want a size from 1 to "));
}

// Twelve agents at once, each with a prompt of its own that takes more than a third of the memory: they take turns.
TEST_F(CacheCommand, ManyAgentsInLittleMemoryDoWhatTheyDoInMuch) {
  std::string inputs;
  for (int i = 0; i < 12; ++i) {
    inputs += "  - { n: " + std::to_string(i) + ", text: \"";
    for (int word = 0; word < 900; ++word) inputs += std::to_string((word + 7) * (i + 3) % 1000) + " ";
    inputs += "\" }\n";
  }
  home.write("work/w.yaml", "version: 1\nmodel: { path: " + model_ + " }\nconcurrency: 12\ninputs:\n" + inputs +
                                "tasks:\n  say:\n    prompt: \"${{ input.n }}: ${{ input.text }}\"\n"
                                "    checks: [ { answer_equals: Nothing to do. } ]\n");
  const auto answers = [&](const std::string& memory) {
    const Finished finished = home.corvid({"batch", "w.yaml", "--out", memory, "--cache-memory", memory});
    EXPECT_EQ(finished.status, 0) << finished.err;
    std::vector<std::string> all;
    std::istringstream lines(home.read("work/" + memory + "/results.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const Json row = Json::parse(line);
      all.push_back(row["status"].get<std::string>() + " " + row["answer"].get<std::string>() + " " +
                    row["completion_tokens"].dump());
    }
    return all;
  };
  const std::vector<std::string> much = answers("1GiB");
  EXPECT_EQ(much.size(), 12u);
  EXPECT_EQ(answers("1200KiB"), much);
}

}  // namespace
}  // namespace corvid
