#include "model/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/byte_alphabet.h"
#include "model/gguf.h"
#include "model/utf8.h"
#include "tests/support/temp_dir.h"

namespace corvid::model {
namespace {

using nlohmann::json;

const std::filesystem::path kGolden = CORVID_GOLDEN_DIR;

std::string read(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A small deterministic generator for test data.
uint32_t next(uint32_t& state) { return (state = state * 1664525u + 1013904223u) >> 8; }

std::string random_bytes(uint32_t& state, size_t length) {
  std::string bytes;
  while (bytes.size() < length) {
    // Mostly text, so that merges, white space and broken sequences meet.
    const uint32_t kind = next(state) % 4;
    if (kind == 0) bytes += static_cast<char>(next(state));
    if (kind == 1) bytes += " \n\tab'1"[next(state) % 7];
    if (kind == 2) bytes += "the";
    if (kind == 3) bytes += std::string_view("\xF0\x9F\x98\x80").substr(0, 1 + next(state) % 4);
  }
  return bytes;
}

// The smallest tokenizer.json: every byte (its id is its value), and what the test adds.
json byte_level_json() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[to_byte_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  return {{"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
}

class TokenizerTest : public testing::Test {
 protected:
  Tokenizer load(const std::string& content) {
    return Tokenizer::from_json_file(dir_.write("tokenizer.json", content));
  }
  Tokenizer load(const json& content) { return load(content.dump()); }
  static Tokenizer golden(const std::string& name) {
    return Tokenizer::from_json_file(kGolden / name / "tokenizer.json");
  }
  // Writes a tokenizer into a GGUF file and reads it back.
  Tokenizer through_gguf(const Tokenizer& tokenizer) {
    const Tokenizer::Tables tables = tokenizer.tables();
    GgufWriter writer;
    writer.set_text("tokenizer.ggml.model", "gpt2");
    writer.set_text("tokenizer.ggml.pre", tables.pre == PreTokenizer::o200k ? "minimax-m2" : "qwen2");
    writer.set_texts("tokenizer.ggml.tokens", tables.tokens);
    writer.set_i32s("tokenizer.ggml.token_type", tables.types);
    writer.set_texts("tokenizer.ggml.merges", tables.merges);
    writer.write(dir_.path() / "tokenizer.gguf");
    return Tokenizer::from_gguf(Gguf::open(dir_.path() / "tokenizer.gguf"));
  }
  // The message of the error that loading gives.
  std::string error(const json& content) {
    try {
      load(content);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "no error";
  }

  test::TempDir dir_;
};

TEST_F(TokenizerTest, GivesTheReferencesTokensForEveryGoldenCase) {
  for (const char* name : {"tokenizer-minimax", "tokenizer-qwen"}) {
    const Tokenizer tokenizer = golden(name);
    const Tokenizer from_gguf = through_gguf(tokenizer);
    const json cases = json::parse(read(kGolden / name / "cases.json"));
    ASSERT_EQ(cases.size(), 110u);
    for (const json& c : cases) {
      const auto text = c["text"].get<std::string>();
      const auto ids = c["ids"].get<std::vector<Token>>();
      EXPECT_EQ(tokenizer.encode(text, true), ids) << name << ": " << c["text"];
      EXPECT_EQ(from_gguf.encode(text, true), ids) << name << " as GGUF: " << c["text"];
      EXPECT_EQ(tokenizer.decode(ids), text);
    }
  }
}

TEST_F(TokenizerTest, GivesBackAnyBytes) {
  for (const char* name : {"tokenizer-minimax", "tokenizer-qwen"}) {
    const Tokenizer tokenizer = golden(name);
    uint32_t state = 1;
    for (size_t i = 0; i < 300; ++i) {
      const std::string bytes = random_bytes(state, i);
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes, true)), bytes);
      EXPECT_EQ(tokenizer.decode(tokenizer.encode_plain(bytes)), bytes);
    }
  }
}

TEST_F(TokenizerTest, TurnsBytesThatAreNotUtf8IntoByteTokens) {
  const Tokenizer tokenizer = golden("tokenizer-minimax");
  const std::vector<Token> hello = tokenizer.encode("Hello", true);
  for (const std::string bad : {"\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFF", "\xE4\xBD"}) {
    std::vector<Token> want = hello;
    for (const char byte : bad) want.push_back(tokenizer.encode(std::string(1, byte), true)[0]);
    want.insert(want.end(), hello.begin(), hello.end());
    EXPECT_EQ(tokenizer.encode("Hello" + bad + "Hello", true), want);
  }
}

TEST_F(TokenizerTest, MakesNoSpecialTokenOfTextUnlessAsked) {
  const Tokenizer tokenizer = golden("tokenizer-minimax");
  const std::string text = "x ]~b]user\n[e~[ ]<]minimax[>[<tool_call> </mm:think>";
  const std::vector<Token> with = tokenizer.encode(text, true), without = tokenizer.encode(text, false);
  const auto is_special = [&](Token token) { return tokenizer.is_special(token); };
  EXPECT_EQ(std::count_if(with.begin(), with.end(), is_special), 4);
  EXPECT_EQ(std::count_if(without.begin(), without.end(), is_special), 0);
  EXPECT_EQ(tokenizer.decode(with), text);
  EXPECT_EQ(tokenizer.decode(without), text);
  EXPECT_EQ(tokenizer.special("[e~["), std::optional<Token>(1496));
  EXPECT_EQ(tokenizer.special("[e~"), std::nullopt);
}

TEST_F(TokenizerTest, FindsAddedTokensAsTheirFlagsSay) {
  json file = byte_level_json();
  const auto add = [&](int id, const char* text, json flags) {
    flags.update({{"id", id}, {"content", text}});
    file["added_tokens"].push_back(flags);
  };
  add(256, "<a>", {{"special", true}});
  add(257, "<a><b>", {{"special", true}});
  add(258, "word", {{"special", false}, {"single_word", true}});
  add(259, "<l>", {{"special", true}, {"lstrip", true}});
  add(260, "<r>", {{"special", true}, {"rstrip", true}});
  add(261, "a>", {{"special", false}, {"normalized", true}});
  const Tokenizer t = load(file);
  const auto ids = [&](std::string_view text) { return t.encode(text, true); };
  EXPECT_EQ(ids("<a><b><a>"), (std::vector<Token>{257, 256})) << "the longest at a place wins";
  EXPECT_EQ(ids("word,sword \xC3\xA9word"),
            (std::vector<Token>{258, ',', 's', 'w', 'o', 'r', 'd', ' ', 0xC3, 0xA9, 'w', 'o', 'r', 'd'}));
  EXPECT_EQ(ids("x \xE3\x80\x80<l> y"), (std::vector<Token>{'x', 259, ' ', 'y'}));
  EXPECT_EQ(ids("x <r> \ny"), (std::vector<Token>{'x', ' ', 260, 'y'}));
  EXPECT_EQ(t.encode("<a> word a>", false), (std::vector<Token>{'<', 261, ' ', 258, ' ', 261}))
      << "what is not special is found either way";
  EXPECT_EQ(t.encode_plain("<a> word").size(), 8u);
  EXPECT_FALSE(t.is_special(258));
}

TEST_F(TokenizerTest, UsesAPreTokenizerOfTheFilesOwn) {
  json file = byte_level_json();
  file["pre_tokenizer"] = json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "[0-9]|x+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  file["model"]["vocab"].update({{"12", 256}, {"ab", 257}});
  file["model"]["merges"] = {"1 2", json::array({"a", "b"})};
  const Tokenizer t = load(file);
  EXPECT_EQ(t.encode("12ab", true), (std::vector<Token>{'1', '2', 257})) << "1 and 2 are two words";
  EXPECT_THROW(t.tables(), std::runtime_error);
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a+)+$";
  EXPECT_THROW(load(file).encode(std::string(5000, 'a') + "b", true), std::runtime_error) << "backtracks without end";
  // Each place of a text may cost as much as the text, not a constant that adds up to minutes.
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(?:a|a)+$|.";
  EXPECT_THROW(load(file).encode(std::string(18, 'a') + "b" + std::string(3000, 'c'), true), std::runtime_error);
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = R"(\s*\n|\s+(?!\S)|.)";  // goes back over the spaces
  EXPECT_EQ(load(file).encode(std::string(200'000, ' '), true), std::vector<Token>(200'000, ' '));
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "a(";
  EXPECT_NE(error(file).find("found a( ("), std::string::npos) << error(file);
}

TEST_F(TokenizerTest, TakesAWholeWordBeforeMergesWhenTheFileSaysSo) {
  json file = byte_level_json();
  file["model"]["vocab"].update({{"bc", 256}, {"abc", 257}});
  file["model"]["merges"] = {"b c"};
  EXPECT_EQ(load(file).encode("abc", true), (std::vector<Token>{'a', 256}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(file).encode("abc", true), (std::vector<Token>{257}));
}

TEST_F(TokenizerTest, FillsGapsBetweenIdsWithUnusedTokens) {
  json file = byte_level_json();
  file["model"]["vocab"]["ab"] = 258;
  file["model"]["merges"] = {"a b"};
  file["added_tokens"] = {{{"id", 260}, {"content", "<x>"}, {"special", true}}};
  const Tokenizer tokenizer = load(file);
  EXPECT_EQ(tokenizer.vocab_size(), 261);
  EXPECT_EQ(tokenizer.encode("ab<x>[PAD257]", true).size(), 10u) << "an unused token is no text's";
  EXPECT_EQ(tokenizer.piece(257), "[PAD257]");
  file["pre_tokenizer"] = json::parse(read(kGolden / "tokenizer-qwen" / "tokenizer.json"))["pre_tokenizer"];
  EXPECT_EQ(load(file).tables().types[259], 5);
}

TEST_F(TokenizerTest, MergesHalfAMegabyteOfOneWord) {
  const Tokenizer tokenizer = golden("tokenizer-minimax");
  // Quadratic merging would take hours here.
  for (const std::string unit : {"a", "abcdefghij", " ", "A", "\xE4\xBD\xA0"}) {
    std::string text;
    while (text.size() < 500'000) text += unit;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, true)), text);
  }
}

TEST_F(TokenizerTest, SurvivesAGgufRoundTripWithTypesAndMerges) {
  const Tokenizer tokenizer = golden("tokenizer-qwen");
  const Tokenizer::Tables before = tokenizer.tables(), after = through_gguf(tokenizer).tables();
  EXPECT_EQ(after.pre, PreTokenizer::qwen2);
  EXPECT_EQ(after.tokens, before.tokens);
  EXPECT_EQ(after.merges, before.merges);
  EXPECT_EQ(after.types, before.types);
  EXPECT_EQ(before.merges[0], "\xC4\xA0 \xC4\xA0");
  EXPECT_EQ(before.types[1496], 1);
  EXPECT_EQ(before.types[1497], 3);
}

TEST_F(TokenizerTest, NamesWhatIsWrongInTokenizerJson) {
  const json good = byte_level_json();
  EXPECT_EQ(error(good), "no error");
  const auto with = [&](const char* pointer, json value) {
    json file = good;
    file[json::json_pointer(pointer)] = std::move(value);
    return error(file);
  };
  const std::string name = (dir_.path() / "tokenizer.json").string() + ": ";
  EXPECT_EQ(with("/model", 1), name + "model: want an object, found 1");
  EXPECT_EQ(with("/model/type", "Unigram"), name + "model.type: want BPE, found \"Unigram\"");
  json deep = json::object();
  for (int i = 0; i < 100; ++i) deep = {{"type", "Sequence"}, {"normalizers", {std::move(deep)}}};
  EXPECT_EQ(with("/normalizer", deep), name + "want JSON with at most 64 levels of nesting, found 202");
  EXPECT_EQ(with("/model/vocab", {1}), name + "model.vocab: want an object of tokens with their ids");
  EXPECT_EQ(with("/model/vocab/a", {1}), name + "token a: want an id, found a list or an object");
  EXPECT_EQ(with("/model/vocab", json::array()), name + "model.vocab: want an object, found []");
  EXPECT_EQ(with("/model/vocab/a", "1"), name + "token a: want an id, found \"1\"");
  EXPECT_EQ(with("/model/vocab/a", -1), name + "token a: want an id, found -1");
  EXPECT_EQ(with("/model/vocab/a", 98), name + "token b: want an id of its own, found 98 of a");
  EXPECT_EQ(with("/model/vocab/a", 4'000'000'000),
            name + "token a: want an id below 66048 in a vocabulary of 256, found 4000000000");
  EXPECT_EQ(with("/model/merges", {"a b"}), name + "merge a + b: want tokens, found no token ab");
  EXPECT_EQ(with("/model/merges", {"ab"}), name + "model.merges: want two texts, found \"ab\"");
  EXPECT_EQ(with("/model/merges", json::array({json::array({"a", "b", "c"})})),
            name + "model.merges: want two texts, found \"c\" after 0 merges");
  EXPECT_EQ(with("/model/byte_fallback", true), name + "model.byte_fallback: want false, found true");
  EXPECT_EQ(with("/normalizer", {{"type", "Lowercase"}}), name + "normalizer: want none or NFC, found Lowercase");
  EXPECT_EQ(with("/pre_tokenizer", {{"type", "Whitespace"}}),
            name + "pre_tokenizer: want Split or ByteLevel, found Whitespace");
  EXPECT_EQ(with("/added_tokens", {{{"id", 97}, {"content", "<x>"}}}),
            name + "token <x>: want an id of its own, found 97 of a");
  json no_newline = good;
  no_newline["model"]["vocab"].erase(to_byte_alphabet("\n"));
  no_newline["model"]["vocab"]["new"] = 10;
  EXPECT_EQ(error(no_newline), name + "vocabulary: want a token for each of the 256 bytes, found none for byte 10");
  EXPECT_THROW(Tokenizer::from_json_file(dir_.path() / "absent.json"), std::system_error);
}

TEST_F(TokenizerTest, MeetsEveryDamagedFileWithAnErrorOrAWorkingTokenizer) {
  json file = byte_level_json();
  file["model"]["vocab"].update({{"ab", 256}});
  file["model"]["merges"] = {"a b"};
  file["added_tokens"] = {{{"id", 257}, {"content", "<x>"}, {"special", true}}};
  file["pre_tokenizer"] = json::parse(read(kGolden / "tokenizer-minimax" / "tokenizer.json"))["pre_tokenizer"];
  const std::string good = file.dump();
  uint32_t state = 7;
  int loaded = 0;
  for (int i = 0; i < 900; ++i) {
    std::string bad = good;
    if (i % 3 == 0) {
      bad.resize(next(state) % good.size());
    } else {
      for (int flips = 0; flips < i % 3; ++flips)
        bad[next(state) % bad.size()] ^= static_cast<char>(1 << next(state) % 7);
    }
    try {
      const Tokenizer tokenizer = load(bad);
      tokenizer.encode("ab <x> \xFF\n", true);
      ++loaded;
    } catch (const std::runtime_error& e) {
      EXPECT_NE(std::string(e.what()), "");
    }
  }
  EXPECT_GT(loaded, 0);
  EXPECT_LT(loaded, 900);
}

TEST_F(TokenizerTest, NamesWhatIsWrongInAGguf) {
  const Tokenizer::Tables tables = golden("tokenizer-minimax").tables();
  const auto gguf_error = [&](const std::function<void(GgufWriter&)>& change) -> std::string {
    GgufWriter writer;
    writer.set_text("tokenizer.ggml.model", "gpt2");
    writer.set_text("tokenizer.ggml.pre", "minimax-m2");
    writer.set_texts("tokenizer.ggml.tokens", tables.tokens);
    writer.set_i32s("tokenizer.ggml.token_type", tables.types);
    writer.set_texts("tokenizer.ggml.merges", tables.merges);
    change(writer);
    writer.write(dir_.path() / "t.gguf");
    try {
      Tokenizer::from_gguf(Gguf::open(dir_.path() / "t.gguf"));
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "no error";
  };
  const std::vector<std::string> no_pair = {"ab"}, unknown = {"zzz yyy"};
  const std::vector<int32_t> short_types = {1, 1};
  EXPECT_EQ(gguf_error([](GgufWriter&) {}), "no error");
  EXPECT_EQ(gguf_error([](GgufWriter& w) { w.set_text("tokenizer.ggml.model", "llama"); }),
            "t.gguf: tokenizer.ggml.model: want gpt2 (byte-level BPE), found llama");
  EXPECT_EQ(gguf_error([](GgufWriter& w) { w.set_text("tokenizer.ggml.pre", "x\ny"); }),
            "t.gguf: tokenizer.ggml.pre: want minimax-m2, gpt-4o or qwen2, found x\\x0ay");
  EXPECT_EQ(gguf_error([&](GgufWriter& w) { w.set_texts("tokenizer.ggml.merges", no_pair); }),
            "t.gguf: tokenizer.ggml.merges: want \"left right\", found ab");
  EXPECT_EQ(gguf_error([&](GgufWriter& w) { w.set_texts("tokenizer.ggml.merges", unknown); }),
            "t.gguf: merge zzz + yyy: want tokens, found no token zzz");
  EXPECT_EQ(gguf_error([&](GgufWriter& w) { w.set_i32s("tokenizer.ggml.token_type", short_types); }),
            "t.gguf: tokenizer.ggml.token_type: want 1500 entries, one a token, found 2");
}

TEST_F(TokenizerTest, RefusesIdsOutsideTheVocabulary) {
  const Tokenizer tokenizer = golden("tokenizer-qwen");
  EXPECT_EQ(tokenizer.vocab_size(), 1500);
  for (const Token id : {-1, 1500, 2'000'000'000}) {
    EXPECT_THROW(tokenizer.decode(std::array{id}), std::invalid_argument);
    EXPECT_FALSE(tokenizer.is_special(id));
  }
}

TEST(Utf8StreamTest, WaitsForCutSequencesAndReplacesBrokenOnes) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xE4\xBD"), "a");
  EXPECT_EQ(stream.push("\xA0z"), "\xE4\xBD\xA0z");
  EXPECT_EQ(stream.push("\xFF\xF0\x9F"), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace corvid::model
