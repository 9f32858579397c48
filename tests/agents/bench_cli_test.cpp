// corvid model bench: what it prints; never how fast it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/home.h"

namespace corvid {
namespace {

using test::Finished;
using test::Home;
using test::Json;
using testing::HasSubstr;

const std::string kTiny =
    "minimax-m3:layers=2,dim=64,heads=4,kv_heads=2,head_dim=32,experts=6,top_k=2,ffn=96,dense_ffn=128,vocab=200,"
    "index_dim=32,block=8,top_blocks=3";

TEST(BenchCommand, PrintsEveryCaseAsJson) {
  const Home home;
  const Finished result =
      home.corvid({"model", "bench", "--random", kTiny, "--prompt", "20", "--gen", "3", "--depth", "0,100",
                   "--attention", "sparse,dense", "--repeat", "2", "--threads", "2", "--output", "json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["model"], "random minimax-m3 q8_0");
  EXPECT_EQ(json["architecture"], "minimax-m3");
  EXPECT_EQ(json["threads"], 2);
  EXPECT_GT(json["load_ms"], 0);
  EXPECT_GT(json["first_token_ms"], json["load_ms"]);
  EXPECT_GT(json["peak_bytes"], 1 << 20);
  std::vector<std::string> cases;
  for (const Json& one : json["results"]) {
    cases.push_back(one["phase"].get<std::string>() + " " + one["attention"].get<std::string>() + " " +
                    one["depth"].dump() + " " + one["tokens"].dump());
    EXPECT_EQ(one["batch"], 1);
    EXPECT_EQ(one["samples"].size(), 2);
    EXPECT_GT(one["tokens_per_second"], 0);
    EXPECT_GT(one["memory_bytes_per_second"], 0);
    EXPECT_GT(one["multiply_adds_per_second"], 0);
    EXPECT_EQ(one.contains("bytes_per_token"), one["phase"] == "decode");
  }
  EXPECT_THAT(cases, testing::ElementsAre("prefill sparse 0 20", "decode sparse 0 3", "prefill sparse 100 20",
                                          "decode sparse 100 3", "prefill dense 0 20", "decode dense 0 3",
                                          "prefill dense 100 20", "decode dense 100 3"));
  const Json decode = json["results"][3];
  double total = 0;
  for (const char* part : {"experts", "weights", "output", "kv", "index_keys"}) {
    EXPECT_GT(decode["bytes_per_token"][part], 0) << part;
    total += decode["bytes_per_token"][part].get<double>();
  }
  EXPECT_DOUBLE_EQ(decode["bytes_per_token"]["total"].get<double>(), total);
  EXPECT_DOUBLE_EQ(decode["memory_share"].get<double>(),
                   decode["tokens_per_second"].get<double>() * total / decode["memory_bytes_per_second"].get<double>());
}

TEST(BenchCommand, ComparesWithAttendingToEverything) {
  const Home home;
  const Finished result =
      home.corvid({"model", "bench", "--random", kTiny, "--prompt", "20", "--gen", "3", "--depth", "0,100",
                   "--attention", "sparse,dense,m2", "--repeat", "1", "--threads", "2", "--output", "json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json json = Json::parse(result.out);
  std::vector<std::string> kinds, ratios;
  for (const Json& one : json["results"])
    if (one["phase"] == "decode") kinds.push_back(one["attention"].get<std::string>() + " " + one["depth"].dump());
  EXPECT_THAT(kinds, testing::ElementsAre("sparse 0", "sparse 100", "dense 0", "dense 100", "m2 0", "m2 100"));
  for (const Json& one : json["ratios"]) {
    EXPECT_GT(one["time"], 0);
    if (one["phase"] == "decode") ratios.push_back(one["of"].get<std::string>() + " " + one["depth"].dump());
  }
  EXPECT_THAT(ratios, testing::ElementsAre("dense 0", "m2 0", "dense 100", "m2 100"));
  // Twice as many key-value heads, of keys and values alone.
  EXPECT_EQ(json["results"][11]["bytes_per_token"]["kv"].get<double>(),
            4 * json["results"][7]["bytes_per_token"]["kv"].get<double>());
}

TEST(BenchCommand, DecodesSeveralSequencesAtOnce) {
  const Home home;
  const Finished result = home.corvid({"model", "bench", "--random", kTiny, "--prompt", "0", "--gen", "4", "--depth",
                                       "50", "--batch", "1,3", "--repeat", "1", "--threads", "2", "--output", "json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json results = Json::parse(result.out)["results"];
  ASSERT_EQ(results.size(), 2);
  EXPECT_EQ(results[0]["batch"], 1);
  EXPECT_EQ(results[0]["rows_per_pass"], 1);
  EXPECT_EQ(results[1]["batch"], 3);
  EXPECT_GE(results[1]["rows_per_pass"], 1);  // how many share a pass depends on who comes when
  EXPECT_LE(results[1]["rows_per_pass"], 3);
  EXPECT_LT(results[1]["bytes_per_token"]["output"], results[0]["bytes_per_token"]["output"]);
}

TEST(BenchCommand, ATableHasARowForEachCaseAndAFileOrAFolderWillDo) {
  const Home home;
  const std::string file = (home / "made-up.gguf").string();
  const Finished saved = home.corvid({"model", "bench", "--random", kTiny, "--save", file});
  ASSERT_EQ(saved.status, 0) << saved.err;
  EXPECT_THAT(saved.err, HasSubstr("bytes"));
  for (const std::string& model : {file, std::string(CORVID_GOLDEN_DIR) + "/qwen3-moe"}) {
    const Finished result = home.corvid({"model", "bench", model, "--prompt", "7", "--gen", "3", "--repeat", "1"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("\nprefill 7 "));
    EXPECT_THAT(result.out, HasSubstr("\ndecode 3 "));
  }
}

TEST(BenchCommand, NamesWhatIsWrong) {
  const Home home;
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "want MODEL or --random SHAPE, and not both"},
      {{"missing.gguf"}, "no such file or folder: missing.gguf"},
      {{"--random", "minimax-m4"}, "found \"minimax-m4\"; did you mean \"minimax-m3\"?"},
      {{"--random", "qwen3-30b-a3b:type=q4_1"}, "found \"q4_1\"; did you mean \"q4_0\"?"},
      {{"--random", "qwen3moe:layer=2"}, "found \"layer\"; did you mean \"layers\"?"},
      {{"--random", "qwen3moe:block=2"}, "--random: key: want type, layers"},  // only for families that select blocks
      {{"--random", "qwen3moe:layers"}, "--random: want KEY=VALUE, found \"layers\""},
      {{"--random", "qwen3moe:layers=0"}, "--random: layers: want a whole number from 1 to 1000, found \"0\""},
      {{"--random", "qwen3moe:type=q8_1"}, "found \"q8_1\"; did you mean \"q8_0\"?"},
      {{"--random", "qwen3moe:heads=6"}, "--random: qwen3moe: heads: want a multiple of 4"},
      {{"--random", kTiny, "--attention", "sparse,all"}, "--attention: want sparse, dense or m2"},
      {{CORVID_GOLDEN_DIR, "--attention", "m2"}, "--attention m2 is for a made-up model"},
      {{"--random", kTiny, "--prompt", "0", "--gen", "0"}, "nothing is left to measure"},
      {{"--random", kTiny, "--batch", "0"}, "--batch: want whole numbers from 1"},
      {{"--random", kTiny, "--depth", "-1"}, "--depth: want whole numbers from 0"},
      {{CORVID_GOLDEN_DIR, "--save", "x.gguf"}, "--random is missing"},
  };
  for (const auto& [flags, message] : cases) {
    std::vector<std::string> words{"model", "bench"};
    words.insert(words.end(), flags.begin(), flags.end());
    const Finished result = home.corvid(words);
    EXPECT_EQ(result.status, 2) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
}

}  // namespace
}  // namespace corvid
