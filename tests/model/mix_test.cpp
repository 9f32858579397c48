// Mixes of weight types, and quantize(): a model's matrices in fewer bits.
#include "model/mix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/convert.h"
#include "model/gguf_files.h"
#include "model/recode.h"
#include "model/sequence.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_checkpoint.h"

namespace corvid::model {
namespace {

using test::message_of;
using test::TempDir;
using test::TinyCheckpoint;
using testing::HasSubstr;

TensorType chosen(const Mix& mix, const char* tensor, std::vector<int64_t> shape, int64_t n_layers = 16) {
  return mix.choose(tensor, shape, n_layers, std::string_view(tensor) == "output.weight").type;
}

TEST(Mix, KMixesGiveMoreBitsWhereLlamaCppDoes) {
  const Mix mix = Mix::parse("q4_k_m");
  EXPECT_EQ(mix.file_type, 15U);
  EXPECT_EQ(Mix::parse("q4_k").name, "q4_k_m");
  EXPECT_EQ(chosen(mix, "blk.5.attn_q.weight", {256, 256}), TensorType::q4_k);
  EXPECT_EQ(chosen(mix, "token_embd.weight", {256, 256}), TensorType::q4_k);
  EXPECT_EQ(chosen(mix, "output.weight", {256, 256}), TensorType::q6_k);
  std::vector<int> more;
  for (int i = 0; i < 16; ++i) {
    const std::string name = "blk." + std::to_string(i) + ".ffn_down_exps.weight";
    const TensorType type = chosen(mix, name.c_str(), {4, 256, 256});
    if (type == TensorType::q6_k) more.push_back(i);
    EXPECT_EQ(chosen(mix, ("blk." + std::to_string(i) + ".attn_v.weight").c_str(), {256, 256}), type);
  }
  EXPECT_THAT(more, testing::ElementsAre(0, 1, 4, 7, 10, 13, 14, 15));
}

TEST(Mix, WhatDecidesStaysFloat32) {
  const Mix mix(TensorType::q4_0);
  EXPECT_EQ(chosen(mix, "blk.1.attn_norm.weight", {256}), TensorType::f32);
  EXPECT_EQ(chosen(mix, "blk.1.ffn_gate_inp.weight", {8, 256}), TensorType::f32);
  EXPECT_EQ(chosen(mix, "blk.1.indexer.q_proj.weight", {64, 256}), TensorType::f32);
  EXPECT_EQ(chosen(mix, "blk.1.exp_probs_b.bias", {8}), TensorType::f32);
}

TEST(Mix, RowsThatDoNotFitGetMoreBits) {
  const Mix mix = Mix::parse("q6_k");
  EXPECT_EQ(chosen(mix, "blk.1.attn_q.weight", {256, 96}), TensorType::q8_0);
  EXPECT_EQ(chosen(mix, "blk.1.attn_q.weight", {256, 33}), TensorType::f16);
  const std::vector<int64_t> shape{256, 96};
  EXPECT_FALSE(mix.choose("blk.1.attn_q.weight", shape, 4, false).fits);
}

TEST(Mix, Mxfp4IsForRoutedExperts) {
  const Mix mix = Mix::parse("mxfp4");
  EXPECT_EQ(chosen(mix, "blk.0.ffn_down_exps.weight", {4, 64, 64}), TensorType::mxfp4);
  EXPECT_EQ(chosen(mix, "blk.0.ffn_down_shexp.weight", {64, 64}), TensorType::q8_0);
  EXPECT_EQ(chosen(mix, "blk.0.attn_v.weight", {64, 64}), TensorType::q8_0);
}

TEST(Mix, AnUnknownNameIsToldWhatThereIs) {
  EXPECT_EQ(message_of([] { Mix::parse("int3"); }),
            "type: want one of f32, f16, bf16, q8_0, q4_0, q4_k_m, q4_k_s, q5_k_m, q5_k_s, q6_k, mxfp4; found int3");
}

class QuantizeTest : public testing::Test {
 protected:
  QuantizeTest() {
    TinyCheckpoint{.vocab = 64, .dim = 256, .dense_ffn = 256, .experts = 3, .expert_ffn = 256, .shared_ffn = 256}.write(
        dir_);
    convert(dir_.path(), dir_ / "f32.gguf", TensorType::f32);
  }
  std::vector<float> logits(const std::string& file) {
    kernels::Exec exec(2);
    Sequence sequence(Model::load(dir_ / file), exec, 16);
    sequence.sync(std::vector<Token>{3, 1, 4, 1, 5, 9});
    return {sequence.logits().begin(), sequence.logits().end()};
  }
  TempDir dir_;
};

TEST_F(QuantizeTest, EveryMixComputesNearlyTheSame) {
  const std::vector<float> exact = logits("f32.gguf");
  const std::pair<const char*, double> limits[] = {{"f16", 0.002}, {"bf16", 0.02}, {"q8_0", 0.03}, {"q6_k", 0.1},
                                                   {"q5_k", 0.2},  {"q4_k", 0.35}, {"q4_0", 0.5},  {"mxfp4", 0.5}};
  double before = 0;
  for (const auto& [type, limit] : limits) {
    quantize(dir_ / "f32.gguf", dir_ / "small.gguf", Mix::parse(type));
    const std::vector<float> found = logits("small.gguf");
    double error = 0, size = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      error += std::pow(double(found[i]) - exact[i], 2);
      size += double(exact[i]) * exact[i];
    }
    EXPECT_LT(std::sqrt(error / size), limit) << type;
    EXPECT_GT(error, 0) << type;
    before = error;
  }
  EXPECT_GT(before, 0);
}

TEST_F(QuantizeTest, KeysGoAlongAndTypesAreTheMixs) {
  quantize(dir_ / "f32.gguf", dir_ / "small.gguf", Mix::parse("q4_k_m"));
  const Gguf from = Gguf::open(dir_ / "f32.gguf"), to = Gguf::open(dir_ / "small.gguf");
  EXPECT_EQ(from.keys(), to.keys());
  for (const std::string& key : from.keys()) {
    if (key == "general.file_type") continue;
    EXPECT_EQ(from.encoded(key), to.encoded(key)) << key;
  }
  EXPECT_EQ(to.integer("general.file_type", 0, 99), 15);
  EXPECT_EQ(to.find("blk.1.attn_q.weight")->type, TensorType::q4_k);
  EXPECT_EQ(to.find("output.weight")->type, TensorType::q6_k);
  EXPECT_EQ(to.find("blk.2.ffn_down_exps.weight")->type, TensorType::q6_k);
  EXPECT_EQ(to.find("blk.1.indexer.k_proj.weight")->type, TensorType::f32);
  // Converting straight to the type gives the same bytes.
  convert(dir_.path(), dir_ / "straight.gguf", Mix::parse("q4_k_m"));
  const Gguf straight = Gguf::open(dir_ / "straight.gguf");
  for (const GgufTensor& tensor : straight.tensors()) {
    const GgufTensor* other = to.find(tensor.name);
    ASSERT_EQ(tensor.type, other->type) << tensor.name;
    EXPECT_TRUE(std::equal(tensor.data.begin(), tensor.data.end(), other->data.begin(), other->data.end()));
  }
}

TEST_F(QuantizeTest, BackToFloat32KeepsTheRoundedWeights) {
  std::vector<std::string> notes;
  quantize(dir_ / "f32.gguf", dir_ / "small.gguf", Mix(TensorType::q5_k));
  quantize(dir_ / "small.gguf", dir_ / "back.gguf", TensorType::f32, [&](const std::string& n) { notes.push_back(n); });
  // Where rows did not fit they are q8_0, which is multiplied in integers: nearly the same sums.
  const std::vector<float> back = logits("back.gguf"), small = logits("small.gguf");
  for (size_t i = 0; i < small.size(); ++i) EXPECT_NEAR(back[i], small[i], 1e-3) << i;
  EXPECT_THAT(notes, testing::Contains(HasSubstr("tensors were rounded before")));
}

TEST_F(QuantizeTest, WhatIsWrongIsNamed) {
  dir_.write("cut.gguf", dir_.read("f32.gguf").substr(0, 5000));
  EXPECT_THAT(message_of([&] { quantize(dir_ / "cut.gguf", dir_ / "out.gguf", TensorType::q8_0); }),
              HasSubstr("cut.gguf: "));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out.gguf"));
}

}  // namespace
}  // namespace corvid::model
