#include "model/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "model/gguf.h"
#include "model/json_file.h"
#include "model/model.h"
#include "model/recode.h"
#include "tests/support/sequences.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_checkpoint.h"

namespace corvid::model {
namespace {

using test::message_of;
using test::TempDir;
using test::TinyCheckpoint;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> floats(const GgufTensor& tensor) {
  EXPECT_EQ(tensor.type, TensorType::f32) << tensor.name;
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

// The made-up checkpoint as a file of the given type; its notes go to `notes`.
Gguf converted(const TinyCheckpoint& shape, TensorType type, std::vector<std::string>* notes = nullptr) {
  const TempDir dir;
  shape.write(dir);
  convert(dir.path(), dir / "model.gguf", type, [&](const std::string& note) {
    if (notes) notes->push_back(note);
  });
  return Gguf::open(dir / "model.gguf");
}

TEST(Convert, WritesLlamaCppsKeysAndNames) {
  const Gguf file = converted({}, TensorType::q8_0);
  EXPECT_EQ(file.text("general.architecture"), "minimax-m3");
  EXPECT_EQ(file.integer("general.file_type", 0, 99), 7);
  EXPECT_EQ(file.integer("general.quantization_version", 0, 99), 2);
  EXPECT_EQ(file.text("tokenizer.ggml.model"), "none");
  const std::map<std::string, int64_t> wanted = {{"vocab_size", 96},
                                                 {"context_length", 4096},
                                                 {"embedding_length", 64},
                                                 {"block_count", 3},
                                                 {"leading_dense_block_count", 1},
                                                 {"feed_forward_length", 96},
                                                 {"expert_feed_forward_length", 32},
                                                 {"expert_count", 6},
                                                 {"expert_used_count", 2},
                                                 {"expert_shared_count", 2},
                                                 {"expert_shared_feed_forward_length", 64},
                                                 {"expert_gating_func", 2},
                                                 {"attention.head_count", 4},
                                                 {"attention.head_count_kv", 2},
                                                 {"attention.key_length", 16},
                                                 {"attention.value_length", 16},
                                                 {"rope.dimension_count", 8},
                                                 {"attention.indexer.head_count", 2},
                                                 {"attention.indexer.key_length", 16},
                                                 {"attention.indexer.top_k", 3},
                                                 {"attention.indexer.block_size", 8},
                                                 {"attention.indexer.local_blocks", 1}};
  for (const auto& [key, value] : wanted) EXPECT_EQ(file.integer("minimax-m3." + key, 0, 1 << 20), value) << key;
  EXPECT_TRUE(file.boolean("minimax-m3.expert_weights_norm"));
  EXPECT_EQ(file.number("minimax-m3.expert_weights_scale", 0, 9), 2);
  EXPECT_FALSE(file.has(kSparseLayersKey));
  EXPECT_FALSE(file.has(kSwigluAlphaKey));

  const auto expect = [&](const char* name, TensorType type, std::vector<int64_t> shape) {
    const GgufTensor* tensor = file.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(tensor->type, type) << name;
    EXPECT_EQ(tensor->shape, shape) << name;
  };
  expect("token_embd.weight", TensorType::q8_0, {96, 64});
  expect("output.weight", TensorType::q8_0, {96, 64});
  expect("output_norm.weight", TensorType::f32, {64});
  expect("blk.0.ffn_gate.weight", TensorType::q8_0, {96, 64});
  expect("blk.0.ffn_down.weight", TensorType::q8_0, {64, 96});
  expect("blk.1.attn_q.weight", TensorType::q8_0, {64, 64});
  expect("blk.1.attn_q_norm.weight", TensorType::f32, {16});
  expect("blk.1.indexer.q_proj.weight", TensorType::f32, {32, 64});
  expect("blk.1.indexer.k_norm.weight", TensorType::f32, {16});
  expect("blk.1.ffn_gate_inp.weight", TensorType::f32, {6, 64});
  expect("blk.1.exp_probs_b.bias", TensorType::f32, {6});
  expect("blk.1.ffn_gate_exps.weight", TensorType::q8_0, {6, 32, 64});
  expect("blk.1.ffn_down_exps.weight", TensorType::q8_0, {6, 64, 32});
  expect("blk.2.ffn_up_shexp.weight", TensorType::q8_0, {64, 64});
  EXPECT_EQ(file.tensors().size(), 3U + 11 + 2 * 20);
}

TEST(Convert, AddsOneToEveryNormAndToNothingElse) {
  const TempDir dir;
  const TinyCheckpoint shape;
  shape.write(dir);
  convert(dir.path(), dir / "model.gguf", TensorType::f32);
  const Gguf file = Gguf::open(dir / "model.gguf");
  const SafeTensors source = SafeTensors::open(dir.path());
  const auto original = [&](const char* name) {
    std::vector<float> values(source.find(name)->data.size() / sizeof(float));
    std::memcpy(values.data(), source.find(name)->data.data(), values.size() * sizeof(float));
    return values;
  };
  const std::pair<const char*, const char*> norms[] = {
      {"output_norm.weight", "model.norm.weight"},
      {"blk.1.attn_norm.weight", "model.layers.1.input_layernorm.weight"},
      {"blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight"},
      {"blk.1.attn_q_norm.weight", "model.layers.1.self_attn.q_norm.weight"},
      {"blk.1.attn_k_norm.weight", "model.layers.1.self_attn.k_norm.weight"},
      {"blk.1.indexer.q_norm.weight", "model.layers.1.self_attn.indexer.q_norm.weight"},
      {"blk.1.indexer.k_norm.weight", "model.layers.1.self_attn.indexer.k_norm.weight"}};
  for (const auto& [name, from] : norms) {
    std::vector<float> wanted = original(from);
    for (float& value : wanted) value += 1;
    EXPECT_EQ(floats(*file.find(name)), wanted) << name;
  }
  EXPECT_EQ(floats(*file.find("blk.1.exp_probs_b.bias")), original("model.layers.1.mlp.gate.e_score_correction_bias"));
  EXPECT_EQ(floats(*file.find("blk.1.indexer.k_proj.weight")),
            original("model.layers.1.self_attn.indexer.k_proj.weight"));
}

TEST(Convert, SplitsFusedGateAndUpByExpert) {
  const TempDir dir;
  const TinyCheckpoint shape;
  shape.write(dir);
  convert(dir.path(), dir / "model.gguf", TensorType::f32);
  const Gguf file = Gguf::open(dir / "model.gguf");
  const SafeTensors source = SafeTensors::open(dir.path());
  const auto* fused =
      reinterpret_cast<const char*>(source.find("model.layers.2.mlp.experts.gate_up_proj")->data.data());
  const auto* gate = reinterpret_cast<const char*>(file.find("blk.2.ffn_gate_exps.weight")->data.data());
  const auto* up = reinterpret_cast<const char*>(file.find("blk.2.ffn_up_exps.weight")->data.data());
  const size_t one = 32 * 64 * sizeof(float);
  for (size_t e = 0; e < 6; ++e) {
    EXPECT_EQ(std::memcmp(gate + e * one, fused + 2 * e * one, one), 0) << e;
    EXPECT_EQ(std::memcmp(up + e * one, fused + (2 * e + 1) * one, one), 0) << e;
  }
}

TEST(Convert, BothLayoutsAndAnyNumberOfFilesGiveTheSameTensors) {
  TinyCheckpoint shape;
  const Gguf flat = converted(shape, TensorType::f32);
  shape.flat = false;
  shape.shards = 5;
  std::vector<std::string> notes;
  const Gguf released = converted(shape, TensorType::f32, &notes);
  ASSERT_EQ(flat.tensors().size(), released.tensors().size());
  for (const GgufTensor& tensor : flat.tensors()) {
    const GgufTensor* other = released.find(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    EXPECT_EQ(tensor.shape, other->shape) << tensor.name;
    EXPECT_TRUE(std::equal(tensor.data.begin(), tensor.data.end(), other->data.begin(), other->data.end()))
        << tensor.name;
  }
  EXPECT_THAT(notes, testing::Contains("skipped 1 tensor of vision_tower: not part of the language model"));
}

TEST(Convert, TheGoldenCheckpointsDifferOnlyInLayout) {
  const TempDir dir;
  const std::filesystem::path golden = CORVID_GOLDEN_DIR;
  convert(golden / "minimax-m3", dir / "a.gguf", TensorType::f32);
  convert(golden / "minimax-m3-vl", dir / "b.gguf", TensorType::f32);
  const Gguf a = Gguf::open(dir / "a.gguf"), b = Gguf::open(dir / "b.gguf");
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const GgufTensor& tensor : a.tensors()) {
    const GgufTensor* other = b.find(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    EXPECT_TRUE(std::equal(tensor.data.begin(), tensor.data.end(), other->data.begin(), other->data.end()))
        << tensor.name;
  }
}

TEST(Convert, RowsThatDoNotFitTheTypeBecomeHalfPrecisionWithANote) {
  std::vector<std::string> notes;
  const Gguf file = converted({.expert_ffn = 33}, TensorType::q8_0, &notes);
  EXPECT_EQ(file.find("blk.1.ffn_down_exps.weight")->type, TensorType::f16);
  EXPECT_EQ(file.find("blk.1.ffn_up_exps.weight")->type, TensorType::q8_0);
  EXPECT_THAT(notes, testing::Contains("blk.1.ffn_down_exps.weight: rows of 33 do not fit q8_0, stored as f16"));
}

TEST(Convert, ATiedOutputMatrixIsWrittenOut) {
  const Gguf file = converted({.tied = true}, TensorType::f32);
  EXPECT_EQ(floats(*file.find("output.weight")), floats(*file.find("token_embd.weight")));
}

// As large as the released models': the last ids are embedded and scored like the first, tied or not.
TEST(Convert, AVocabularyOf200000IsEmbeddedAndScoredToItsEnd) {
  constexpr Token kLast = 200'063;
  const std::vector<Token> last{1, kLast}, first{1, 0};
  for (const bool tied : {false, true}) {
    const TempDir dir;
    TinyCheckpoint{.vocab = kLast + 1, .dim = 32, .sparse = {0}, .moe = {0}, .tied = tied}.write(dir);
    convert(dir.path(), dir / "model.gguf", TensorType::f32);
    const auto folder = Model::load(dir.path()), file = Model::load(dir / "model.gguf");
    const std::vector<float> logits = test::fresh(file, last);
    ASSERT_EQ(logits.size(), size_t{kLast} + 1);
    EXPECT_EQ(logits, test::fresh(folder, last));
    EXPECT_NE(logits, test::fresh(file, first));
    EXPECT_NE(logits[kLast], 0);
    EXPECT_NE(logits[kLast], logits[kLast - 1]);
  }
}

TEST(Convert, AModelWithoutARoutingBiasGetsZeros) {
  const TempDir dir;
  TinyCheckpoint{}.write(dir);
  nlohmann::json config = TinyCheckpoint{}.config();
  config["use_routing_bias"] = false;
  dir.write("config.json", config.dump());
  convert(dir.path(), dir / "model.gguf", TensorType::f32);
  EXPECT_EQ(floats(*Gguf::open(dir / "model.gguf").find("blk.1.exp_probs_b.bias")), std::vector<float>(6, 0.0F));
}

TEST(Convert, TheTokenizerGoesAlongAndSplitsTextTheSame) {
  constexpr char kText[] = "Héllo, world!  x1234\n\t]~b]user naïve 你好 \xff";
  for (const char* name : {"tokenizer-minimax", "tokenizer-qwen"}) {
    const TempDir dir;
    TinyCheckpoint{.vocab = 1504}.write(dir);  // four rows more than there are tokens
    std::filesystem::copy_file(std::filesystem::path(CORVID_GOLDEN_DIR) / name / "tokenizer.json",
                               dir / "tokenizer.json");
    dir.write("chat_template.jinja", "{{ messages }}");
    convert(dir.path(), dir / "model.gguf", TensorType::f16);
    const Gguf file = Gguf::open(dir / "model.gguf");
    EXPECT_EQ(file.text("tokenizer.ggml.model"), "gpt2");
    EXPECT_EQ(file.text("tokenizer.ggml.pre"), name == std::string("tokenizer-qwen") ? "qwen2" : "minimax-m2");
    EXPECT_EQ(file.texts("tokenizer.ggml.tokens").size(), 1504U);
    EXPECT_EQ(file.texts("tokenizer.ggml.tokens").back(), "[PAD1503]");
    EXPECT_EQ(file.integer("tokenizer.ggml.eos_token_id", 0, 9), 2);
    EXPECT_EQ(file.text("tokenizer.chat_template"), "{{ messages }}");
    const auto folder = Model::load(dir.path()), converted = Model::load(dir / "model.gguf");
    for (const bool special : {false, true}) {
      const std::vector<Token> tokens = converted->tokenizer().encode(kText, special);
      EXPECT_EQ(tokens, folder->tokenizer().encode(kText, special));
      EXPECT_EQ(converted->tokenizer().decode(tokens), kText);
    }
  }
}

TEST(Convert, ATokenizerLargerThanTheEmbeddingIsNamed) {
  const TempDir dir;
  TinyCheckpoint{}.write(dir);
  std::filesystem::copy_file(std::filesystem::path(CORVID_GOLDEN_DIR) / "tokenizer-qwen" / "tokenizer.json",
                             dir / "tokenizer.json");
  EXPECT_EQ(message_of([&] { convert(dir.path(), dir / "model.gguf", TensorType::f32); }),
            "tokenizer.json: want at most 96 tokens as in config.json, found 1500");
}

TEST(Convert, WhatIsMissingWrongOrUnknownIsNamed) {
  const auto error = [](const std::function<void(nlohmann::json&)>& change) {
    const TempDir dir;
    TinyCheckpoint{}.write(dir);
    std::string bytes = dir.read("model.safetensors");
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
    change(header);
    const std::string text = header.dump();
    dir.write("model.safetensors", test::raw<uint64_t>(text.size()) + text + bytes.substr(8 + length));
    const std::string converting = message_of([&] { convert(dir.path(), dir / "model.gguf", TensorType::f32); });
    EXPECT_EQ(message_of([&] { Model::load(dir.path()); }), converting);
    EXPECT_FALSE(std::filesystem::exists(dir / "model.gguf"));
    return converting;
  };
  const std::string router = "model.layers.1.mlp.gate.weight";
  EXPECT_THAT(error([&](auto& h) { h.erase(router); }), HasSubstr("tensor " + router + " is missing: want [6,64]"));
  const std::string bias = "model.layers.1.mlp.gate.e_score_correction_bias";
  EXPECT_THAT(error([&](auto& h) { h.erase(bias); }), HasSubstr("tensor " + bias));
  EXPECT_THAT(error([&](auto& h) { h[router]["shape"] = {64, 6}; }), HasSubstr(router + ": want [6,64], found [64,6]"));
  EXPECT_THAT(error([&](auto& h) { h[router]["dtype"] = "I32"; }),
              HasSubstr("dtype I32 is not supported, want F32, F16, BF16 or F8_E4M3"));
  EXPECT_THAT(error([&](auto& h) {
                h["model.layers.1.self_attn.q_proj.bias"] = h["model.norm.weight"];
                h.erase("model.norm.weight");
                h["model.norm.weight"] = {{"dtype", "F32"}, {"shape", {0}}, {"data_offsets", {0, 0}}};
              }),
              HasSubstr("model.norm.weight: want [64], found [0]"));
  EXPECT_THAT(
      error([&](auto& h) {
        h["model.layers.1.self_attn.q_proj.bias"] = {{"dtype", "F32"}, {"shape", {0}}, {"data_offsets", {0, 0}}};
      }),
      HasSubstr("q_proj.bias: not known to this architecture"));
}

// Makes 8-bit floats of one matrix of the checkpoint in `dir`, with scales for blocks of 32 x 48; returns what it holds
// then.
std::vector<float> make_fp8(const TempDir& dir, const std::string& name, const std::string& scales_name) {
  const SafeTensors source = SafeTensors::open(dir.path());
  nlohmann::json header;
  std::string data;
  std::vector<float> wanted;
  const auto add = [&](const std::string& tensor, const char* dtype, std::vector<int64_t> shape,
                       const std::string& bytes) {
    header[tensor] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  };
  for (const auto& [tensor, value] : source.tensors()) {
    if (tensor != name) {
      add(tensor, value.dtype.c_str(), value.shape,
          {reinterpret_cast<const char*>(value.data.data()), value.data.size()});
      continue;
    }
    const int64_t rows = value.shape[0], columns = value.shape[1];
    std::string bytes, scales;
    const auto scale_of = [&](int64_t row, int64_t column) {
      return 0.01F * static_cast<float>(1 + row / 32 * ((columns + 47) / 48) + column / 48);
    };
    for (int64_t i = 0; i < rows * columns; ++i) {
      const auto code = static_cast<uint8_t>(i * 37 % 127);  // every code but NaN
      bytes += static_cast<char>(code);
      wanted.push_back(kernels::f8_e4m3_to_f32(code) * scale_of(i / columns, i % columns));
    }
    for (int64_t row = 0; row < rows; row += 32) {
      for (int64_t column = 0; column < columns; column += 48) scales += test::raw(scale_of(row, column));
    }
    add(name, "F8_E4M3", value.shape, bytes);
    add(scales_name, "F32", {(rows + 31) / 32, (columns + 47) / 48}, scales);
  }
  const std::string text = header.dump();
  dir.write("model.safetensors", test::raw<uint64_t>(text.size()) + text + data);
  return wanted;
}

// Beside half precision, which has too little range for them.
TEST(Convert, EightBitFloatsAreBf16InMemory) {
  for (const auto& [dtype, widest] : {std::pair("F16", TensorType::f32), {"BF16", TensorType::bf16}}) {
    const TempDir dir;
    TinyCheckpoint source;
    source.dtype = dtype;
    source.write(dir);
    const std::string name = "model.layers.1.self_attn.q_proj.weight";
    make_fp8(dir, name, name + "_scale_inv");
    nlohmann::json config = source.config();
    config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {32, 48}}};
    dir.write("config.json", config.dump());
    const Checkpoint checkpoint = Checkpoint::open(dir.path(), {});
    EXPECT_EQ(checkpoint.widest_type(), widest) << dtype;
    for (const auto& tensor : checkpoint.tensors()) {
      if (tensor.name != "blk.1.attn_q.weight") continue;
      EXPECT_EQ(tensor.source_type(), TensorType::bf16) << dtype;
    }
  }
}

TEST(Convert, BlocksOfEightBitFloatsAreMultipliedByTheirScales) {
  const TempDir dir;
  TinyCheckpoint{}.write(dir);
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  const std::vector<float> wanted = make_fp8(dir, name, name + "_scale_inv");
  nlohmann::json config = TinyCheckpoint{}.config();
  config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {32, 48}}};
  dir.write("config.json", config.dump());
  convert(dir.path(), dir / "model.gguf", TensorType::f32);
  EXPECT_EQ(floats(*Gguf::open(dir / "model.gguf").find("blk.1.attn_q.weight")), wanted);
  EXPECT_EQ(Model::load(dir.path())->config().n_layers(), 3);
  EXPECT_EQ(Checkpoint::open(dir.path(), {}).widest_type(), TensorType::f32);

  config["quantization_config"]["weight_block_size"] = {128, 128};
  dir.write("config.json", config.dump());
  EXPECT_THAT(message_of([&] { Model::load(dir.path()); }), HasSubstr(name + "_scale_inv: want [1,1], found [2,2]"));
  config["quantization_config"]["weight_block_size"] = {0, 128};
  dir.write("config.json", config.dump());
  EXPECT_THAT(message_of([&] { Model::load(dir.path()); }), HasSubstr("weight_block_size: want two numbers from 1"));
  config["quantization_config"] = {{"quant_method", "gptq"}};
  dir.write("config.json", config.dump());
  EXPECT_THAT(message_of([&] { Model::load(dir.path()); }), HasSubstr("quant_method: \"gptq\" is not supported"));
  config["quantization_config"] = "fp8";
  dir.write("config.json", config.dump());
  EXPECT_THAT(message_of([&] { Model::load(dir.path()); }),
              HasSubstr("quantization_config: want an object, found \"fp8\""));
}

TEST(Convert, EightBitFloatsWithoutScalesAreNamed) {
  const TempDir dir;
  TinyCheckpoint{}.write(dir);
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  make_fp8(dir, name, "other.scale");
  EXPECT_THAT(message_of([&] { Model::load(dir.path()); }), HasSubstr("tensor " + name + "_scale_inv is missing"));
}

TEST(Convert, FamiliesWriteLlamaCppsKeysAndTensors) {
  const TempDir dir;
  const std::filesystem::path golden = CORVID_GOLDEN_DIR;
  convert(golden / "minimax-m2", dir / "m2.gguf", TensorType::bf16);
  const Gguf m2 = Gguf::open(dir / "m2.gguf");
  EXPECT_EQ(m2.text("general.architecture"), "minimax-m2");
  EXPECT_EQ(m2.integer("minimax-m2.expert_gating_func", 0, 9), 2);
  EXPECT_EQ(m2.find("blk.1.attn_q_norm.weight")->shape, std::vector<int64_t>{256});
  EXPECT_EQ(m2.find("blk.1.attn_k_norm.weight")->shape, std::vector<int64_t>{64});
  EXPECT_NE(m2.find("blk.1.exp_probs_b.bias"), nullptr);
  EXPECT_FALSE(m2.has("minimax-m2.expert_shared_count"));
  convert(golden / "qwen3-moe", dir / "qwen.gguf", TensorType::bf16);
  const Gguf qwen = Gguf::open(dir / "qwen.gguf");
  EXPECT_EQ(qwen.text("general.architecture"), "qwen3moe");
  EXPECT_EQ(qwen.integer("qwen3moe.expert_gating_func", 0, 9), 1);
  EXPECT_EQ(qwen.find("blk.1.attn_q_norm.weight")->shape, std::vector<int64_t>{32});
  EXPECT_EQ(qwen.find("blk.1.exp_probs_b.bias"), nullptr);
}

// A GGUF file of the made-up model, with its keys and tensors changed on the way.
class BrokenModel {
 public:
  BrokenModel() {
    TinyCheckpoint{}.write(dir_);
    convert(dir_.path(), dir_ / "model.gguf", TensorType::f32);
    bytes_ = dir_.read("model.gguf");
  }
  // Replaces one text of the header by another of the same length.
  std::string error(const std::string& from, const std::string& to) const {
    std::string bytes = bytes_;
    const size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    EXPECT_EQ(from.size(), to.size());
    bytes.replace(at, to.size(), to);
    dir_.write("bad.gguf", bytes);
    return message_of([&] { Model::load(dir_ / "bad.gguf"); });
  }
  std::string cut(size_t length) const {
    dir_.write("bad.gguf", bytes_.substr(0, length));
    return message_of([&] { Model::load(dir_ / "bad.gguf"); });
  }
  size_t size() const { return bytes_.size(); }

 private:
  TempDir dir_;
  std::string bytes_;
};

TEST(Model, AMissingOrMisshapenTensorOrKeyIsNamed) {
  const BrokenModel model;
  EXPECT_EQ(model.error("blk.1.ffn_gate_inp.weight", "blk.1.ffn_gate_xxx.weight"),
            "bad.gguf: tensor blk.1.ffn_gate_inp.weight is missing: want [6,64]");
  const auto dims = [](uint64_t columns, uint64_t rows) {
    return "blk.1.ffn_gate_inp.weight" + test::raw<uint32_t>(2) + test::raw(columns) + test::raw(rows);
  };
  EXPECT_EQ(model.error(dims(64, 6), dims(6, 64)),
            "bad.gguf: tensor blk.1.ffn_gate_inp.weight: want [6,64], found [64,6]");
  EXPECT_EQ(model.error("minimax-m3.expert_count", "minimax-m3.expert_xxxxx"),
            "bad.gguf: key minimax-m3.expert_count is missing: want an integer");
  EXPECT_EQ(model.error(test::gguf_u32("minimax-m3.expert_count", 6), test::gguf_u32("minimax-m3.expert_count", 5000)),
            "bad.gguf: key minimax-m3.expert_count: want 1 to 4096, found 5000");
  EXPECT_EQ(
      model.error(test::gguf_u32("minimax-m3.embedding_length", 64), test::gguf_u32("minimax-m3.embedding_length", 96)),
      "bad.gguf: tensor token_embd.weight: want [96,96], found [96,64]");
}

TEST(Model, WhatIsNotSupportedIsNamed) {
  const BrokenModel model;
  const auto typed = [](uint32_t type) {
    return "blk.1.ffn_gate_inp.weight" + test::raw<uint32_t>(2) + test::raw<uint64_t>(64) + test::raw<uint64_t>(6) +
           test::raw(type);
  };
  EXPECT_EQ(model.error(typed(0), typed(20)),
            "bad.gguf: tensor blk.1.ffn_gate_inp.weight: type iq4_nl (20) is not supported");
  EXPECT_EQ(model.error(typed(0), typed(26)), "bad.gguf: tensor blk.1.ffn_gate_inp.weight: type i32 is not supported");
  // A bias would change every result.
  EXPECT_EQ(model.error("blk.1.ffn_up_shexp.weight", "blk.1.ffn_up_shexp.biases"),
            "bad.gguf: tensor blk.1.ffn_up_shexp.weight is missing: want [64,64]");
  EXPECT_EQ(model.error(test::gguf_u32("minimax-m3.expert_gating_func", 2),
                        test::gguf_u32("minimax-m3.expert_gating_func", 1)),
            "bad.gguf: key minimax-m3.expert_gating_func: 1 is not supported, want 2");
  const TempDir dir;
  TinyCheckpoint{}.write(dir);
  convert(dir.path(), dir / "model.gguf", TensorType::f32);
  const Gguf file = Gguf::open(dir / "model.gguf");
  GgufWriter out;
  for (const std::string& key : file.keys()) out.set_encoded(key, file.encoded(key));
  for (const GgufTensor& tensor : file.tensors()) {
    out.add(tensor.name, tensor.type, tensor.shape, [&](const GgufWriter::Sink& sink) { sink(tensor.data); });
  }
  const std::vector<float> bias(64);
  out.add("blk.2.attn_q.bias", TensorType::f32, {64},
          [&](const GgufWriter::Sink& sink) { sink(std::as_bytes(std::span(bias))); });
  out.write(dir / "biased.gguf");
  EXPECT_EQ(message_of([&] { Model::load(dir / "biased.gguf"); }),
            "biased.gguf: tensor blk.2.attn_q.bias: not known to minimax-m3");
}

TEST(Model, AFileCutAnywhereIsAnError) {
  const BrokenModel model;
  for (size_t length = 0; length < model.size() - 64; length += 997) {
    EXPECT_THAT(model.cut(length), HasSubstr("bad.gguf: ")) << length;
  }
}

// Tensors of `file` in two files as llama.cpp splits them, with all keys in the first.
void split(const Gguf& file, const TempDir& dir) {
  for (int part = 0; part < 2; ++part) {
    GgufWriter out;
    out.set_u32("split.no", static_cast<uint32_t>(part));
    out.set_u32("split.count", 2);
    out.set_u32("split.tensors.count", static_cast<uint32_t>(file.tensors().size()));
    for (const std::string& key : file.keys()) {
      if (part == 0) out.set_encoded(key, file.encoded(key));
    }
    for (size_t i = static_cast<size_t>(part); i < file.tensors().size(); i += 2) {
      const GgufTensor& tensor = file.tensors()[i];
      out.add(tensor.name, tensor.type, tensor.shape, [&](const GgufWriter::Sink& sink) { sink(tensor.data); });
    }
    out.write(dir / ("m-0000" + std::to_string(part + 1) + "-of-00002.gguf"));
  }
}

TEST(Model, ASplitModelIsReadThroughAnyOfItsFiles) {
  const TempDir dir;
  split(converted({}, TensorType::f32), dir);
  EXPECT_EQ(Model::load(dir / "m-00001-of-00002.gguf")->fingerprint(),
            Model::load(dir / "m-00002-of-00002.gguf")->fingerprint());
  EXPECT_EQ(Model::load(dir / "m-00002-of-00002.gguf")->config().n_layers(), 3);
  quantize(dir / "m-00002-of-00002.gguf", dir / "one.gguf", TensorType::q8_0);
  EXPECT_EQ(Model::load(dir / "one.gguf")->config().n_layers(), 3);
  std::filesystem::copy_file(dir / "m-00001-of-00002.gguf", dir / "other.gguf");
  EXPECT_THAT(message_of([&] { Model::load(dir / "other.gguf"); }),
              HasSubstr("want a file name that ends with -00001-of-00002.gguf"));
  std::filesystem::remove(dir / "m-00002-of-00002.gguf");
  EXPECT_THAT(message_of([&] { Model::load(dir / "m-00001-of-00002.gguf"); }), HasSubstr("m-00002-of-00002.gguf"));
}

TEST(Model, AFolderWithoutACheckpointSaysWhatIsWanted) {
  const TempDir dir;
  EXPECT_THAT(message_of([&] { Model::load(dir.path()); }),
              HasSubstr("want a GGUF file, or a folder with config.json"));
  EXPECT_THAT(message_of([&] { Model::load(dir / "absent.gguf"); }), HasSubstr("absent.gguf"));
}

TEST(Model, WithoutATokenizerItSaysSoWhenOneIsNeeded) {
  const TempDir dir;
  TinyCheckpoint{}.write(dir);
  convert(dir.path(), dir / "model.gguf", TensorType::f32);
  for (const auto& path : {dir.path(), dir / "model.gguf"}) {
    const auto model = Model::load(path);
    EXPECT_FALSE(model->has_tokenizer());
    EXPECT_EQ(message_of([&] { model->tokenizer(); }),
              model->name() + ": has no tokenizer, so it can't be used with text");
  }
}

TEST(Model, TheFingerprintFollowsTheHeader) {
  const TempDir dir;
  TinyCheckpoint shape;
  shape.write(dir);
  convert(dir.path(), dir / "a.gguf", TensorType::f32);
  convert(dir.path(), dir / "b.gguf", TensorType::f32);
  convert(dir.path(), dir / "c.gguf", TensorType::f16);
  EXPECT_EQ(Model::load(dir / "a.gguf")->fingerprint(), Model::load(dir / "b.gguf")->fingerprint());
  EXPECT_NE(Model::load(dir / "a.gguf")->fingerprint(), Model::load(dir / "c.gguf")->fingerprint());
  EXPECT_EQ(Model::load(dir / "a.gguf")->name(), "a.gguf");
}

}  // namespace
}  // namespace corvid::model
