// corvid model on golden checkpoints and on files that are wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/support/home.h"
#include "tests/support/tiny_model.h"

namespace corvid {
namespace {

using test::Finished;
using test::Home;
using test::Json;
using testing::HasSubstr;
using testing::IsEmpty;

std::string golden(const std::string& name) { return std::string(CORVID_GOLDEN_DIR) + "/" + name; }

Json read_json(const std::string& file) { return Json::parse(std::ifstream(file)); }

std::string id_list(const Json& ids) {
  std::string text = ids.dump();
  return text.substr(1, text.size() - 2);
}

double largest_difference(const Json& a, const Json& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i].get<double>() - b[i].get<double>()));
  return largest;
}

TEST(ModelCommand, ConvertedGoldenLogitsAndGreedyTokensAreTheReferences) {
  const Home home;
  const std::string file = (home / "m3.gguf").string();
  const Finished converted = home.corvid({"model", "convert", golden("minimax-m3"), file, "--type", "f32"});
  ASSERT_EQ(converted.status, 0) << converted.err;
  EXPECT_THAT(converted.out, IsEmpty());
  const Json expected = read_json(golden("minimax-m3/expected.json"));
  for (const std::string& model : {file, golden("minimax-m3")}) {
    const Finished result =
        home.corvid({"model", "logits", model, "--prompt-ids", id_list(expected["prompt"]), "--positions",
                     id_list(expected["prefill_positions"]), "--greedy", "24", "--output", "json"});
    ASSERT_EQ(result.status, 0) << result.err;
    const Json json = Json::parse(result.out);
    EXPECT_EQ(json["positions"], expected["prefill_positions"]);
    ASSERT_EQ(json["logits"].size(), expected["prefill_logits"].size());
    for (size_t i = 0; i < json["logits"].size(); ++i) {
      EXPECT_LT(largest_difference(json["logits"][i], expected["prefill_logits"][i]), 1e-3) << i;
    }
    EXPECT_EQ(json["greedy"], expected["greedy"]);
    EXPECT_LT(largest_difference(json["greedy_last_logits"], expected["greedy_last_logits"]), 1e-3);
  }
  const Finished dense =
      home.corvid({"model", "logits", file, "--prompt-ids", id_list(expected["prompt"]), "--attention", "dense"});
  const Json json = Json::parse(dense.out);
  EXPECT_EQ(json["positions"], Json::array({199}));  // the last one, when none is named
  EXPECT_EQ(json["greedy"], Json::array());
  EXPECT_GT(largest_difference(json["logits"][0], expected["prefill_logits"].back()), 1e-3);  // the selection matters
}

TEST(ModelCommand, LogitsAreThoseOfTheCacheTypeAskedForAndExactWithoutOne) {
  const Home home;
  const auto logits = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"model", "logits", golden("minimax-m2"), "--prompt-ids", "1,2,3,4,5"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished result = home.corvid(words);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  EXPECT_EQ(logits({}), logits({"--cache-type", "f32"}));
  EXPECT_NE(logits({}), logits({"--cache-type", "f16"}));
  EXPECT_NE(logits({"--cache-type", "q8_0"}), logits({"--cache-type", "f16"}));
  EXPECT_EQ(logits({"--index-type", "f32"}), logits({}));
  EXPECT_EQ(home.corvid({"model", "logits", golden("minimax-m2"), "--prompt-ids", "1", "--cache-type", "q4_0"}).status,
            2);
}

TEST(ModelCommand, LogitsNameWhatIsWrongWithTheRequest) {
  const Home home;
  const std::string model = golden("minimax-m3");
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--prompt-ids", "1,512"}, "--prompt-ids: want ids from 0 to 511, found 512"},
      {{"--prompt-ids", "1,-1"}, "--prompt-ids: want whole numbers from 0"},
      {{"--prompt-ids", "1,2", "--positions", "2"}, "--positions: want whole numbers from 0 to 1"},
      {{}, "--prompt-ids is missing"},
  };
  for (const auto& [flags, message] : cases) {
    std::vector<std::string> words{"model", "logits", model};
    words.insert(words.end(), flags.begin(), flags.end());
    const Finished result = home.corvid(words);
    EXPECT_EQ(result.status, 2) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
}

TEST(ModelCommand, QuantizeRoundsTheMatricesAndInfoTellsTheirTypes) {
  const Home home;
  const std::string file = (home / "m2.gguf").string(), small = (home / "small.gguf").string();
  ASSERT_EQ(home.corvid({"model", "convert", golden("minimax-m2"), file}).status, 0);
  const Json before = Json::parse(home.corvid({"model", "info", file, "--output", "json"}).out);
  EXPECT_EQ(before["tensor_types"]["bf16"], 2 + 3 * 7);
  for (const std::string& from : {file, golden("minimax-m2")}) {
    const Finished result = home.corvid({"model", "quantize", from, small, "--type", "q4_0"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("bytes, matrices as q4_0"));
    const Json after = Json::parse(home.corvid({"model", "info", small, "--output", "json"}).out);
    EXPECT_EQ(after["tensor_types"]["q4_0"], 1 + 3 * 7);  // all but the output matrix
    EXPECT_EQ(after["tensor_types"]["f32"], before["tensor_types"]["f32"]);
    EXPECT_EQ(home.corvid({"model", "logits", small, "--prompt-ids", "1,2,3"}).status, 0);
  }
  EXPECT_EQ(home.corvid({"model", "quantize", file, small}).status, 2);
  EXPECT_EQ(home.corvid({"model", "quantize", file, small, "--type", "q3_k"}).status, 2);
  home.write("bad.gguf", home.read("m2.gguf").substr(0, 4000));
  const Finished bad =
      home.corvid({"model", "quantize", (home / "bad.gguf").string(), (home / "out.gguf").string(), "--type", "q8_0"});
  EXPECT_EQ(bad.status, 1);
  EXPECT_THAT(bad.err, testing::StartsWith("corvid: bad.gguf: "));
}

TEST(ModelCommand, InfoTellsTheShape) {
  const Home home;
  const Json json = Json::parse(home.corvid({"model", "info", golden("minimax-m3"), "--output", "json"}).out);
  EXPECT_EQ(json["architecture"], "minimax-m3");
  EXPECT_EQ(json["vocab_size"], 512);
  EXPECT_EQ(json["layers"], 4);
  EXPECT_THAT(home.corvid({"model", "info", golden("minimax-m3")}).out, HasSubstr("vocab_size"));
}

class TokenizeCommand : public testing::TestWithParam<std::string> {};

TEST_P(TokenizeCommand, GivesTheGoldenIdsAndTheBytesBack) {
  const Home home;
  const std::string folder = golden(GetParam());
  const Json cases = read_json(folder + "/cases.json");
  for (size_t i = 0; i < cases.size(); i += 9) {  // the tokenizer's own tests take them all
    const auto text = cases[i]["text"].get<std::string>();
    const Finished ids = home.corvid({"model", "tokenize", folder}, text);
    ASSERT_EQ(ids.status, 0) << ids.err;
    EXPECT_EQ(Json::parse(ids.out), cases[i]["ids"]) << text;
    EXPECT_EQ(home.corvid({"model", "tokenize", folder, "--decode"}, ids.out).out, text);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, TokenizeCommand, testing::Values("tokenizer-minimax", "tokenizer-qwen"),
                         [](const auto& instance) { return instance.param == "tokenizer-qwen" ? "Qwen" : "MiniMax"; });

TEST(ModelCommand, TokenizeKeepsAnyBytesAndReadsSpecialTokensOnlyWhenAllowed) {
  const Home home;
  const std::string folder = golden("tokenizer-minimax");
  const std::string bytes("a\0\xff\xfe\r\n\x1b[1m ]~b]", 15);
  for (const char* flag : {"--no-special", "--decode"}) {
    const bool is_plain = std::string(flag) == "--no-special";
    std::vector<std::string> words{"model", "tokenize", folder};
    if (is_plain) words.push_back(flag);
    const Finished ids = home.corvid(words, bytes);
    EXPECT_EQ(Json::parse(ids.out).back() == 1495, !is_plain);
    EXPECT_EQ(home.corvid({"model", "tokenize", folder, "--decode"}, ids.out).out, bytes);
  }
  EXPECT_EQ(home.corvid({"model", "tokenize", folder}, "").out, "[]\n");
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  for (const std::string& wrong : {std::string("hello"), std::string("[1, \"x\"]"), std::string("[99999999]"),
                                   std::string("[-1]"), std::string("[1.5]"), std::string(), deep}) {
    const Finished result = home.corvid({"model", "tokenize", folder, "--decode"}, wrong);
    EXPECT_EQ(result.status, 2) << wrong.substr(0, 20);
    EXPECT_THAT(result.err, HasSubstr("standard input: want"));
  }
}

TEST(ModelCommand, AFileThatIsWrongGivesOneMessageThatNamesIt) {
  const Home home;
  const std::string good = (home / "good.gguf").string();
  ASSERT_EQ(home.corvid({"model", "convert", test::write_tiny_model(home / "tiny", "Done.").string(), good}).status, 0);
  const std::string bytes = home.read("good.gguf");
  home.write("cut.gguf", bytes.substr(0, bytes.size() / 2));
  home.write("header.gguf", bytes.substr(0, 100));
  home.write("empty.gguf", "");
  home.write("text.gguf", "hello, this is no model\n");
  std::string counts = bytes;
  for (size_t i = 8; i < 24; ++i) counts[i] = '\x7f';  // absurd numbers of tensors and keys
  home.write("counts.gguf", counts);
  std::string offset = bytes;
  const size_t name = offset.find("output_norm.weight");
  ASSERT_NE(name, std::string::npos);
  for (size_t i = 0; i < 8; ++i) offset[name + 18 + 4 + 8 + 4 + i] = '\x7f';  // after n_dims, one dimension, the type
  home.write("offset.gguf", offset);
  home.write("folder/config.json", "{}");
  for (const char* bad :
       {"cut.gguf", "header.gguf", "empty.gguf", "text.gguf", "counts.gguf", "offset.gguf", "folder"}) {
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {"model", "info", (home / bad).string()}, {"run", "--model", (home / bad).string(), "hello"}}) {
      const Finished result = home.corvid(words);
      EXPECT_EQ(result.status, 1) << bad;
      EXPECT_THAT(result.out, IsEmpty());
      EXPECT_THAT(result.err, testing::StartsWith("corvid: "));
      EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
      const std::string named = std::string(bad) == "folder" ? "config.json" : bad;
      EXPECT_THAT(result.err, HasSubstr(named));
    }
  }
  EXPECT_EQ(home.corvid({"model", "info", "/nowhere.gguf"}).status, 2);
  EXPECT_EQ(home.corvid({"model", "info", (home / "good.gguf").string()}).status, 0);
}

TEST(ModelCommand, AModelWithoutATokenizerSaysSo) {
  const Home home;
  const Finished run = home.corvid({"run", "--model", golden("minimax-m3"), "hello"});
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.err, HasSubstr("tokenizer"));
  const Finished tokenize = home.corvid({"model", "tokenize", golden("minimax-m3")}, "hello");
  EXPECT_EQ(tokenize.status, 1);
  EXPECT_THAT(tokenize.err, HasSubstr("tokenizer.json"));
}

}  // namespace
}  // namespace corvid
