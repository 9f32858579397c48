// Made-up models, and what a token of a model costs.
#include "model/random_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "model/gguf.h"
#include "model/model.h"
#include "model/sequence.h"
#include "model/token_cost.h"
#include "tests/support/small_shape.h"
#include "tests/support/temp_dir.h"

namespace corvid::model {
namespace {

using test::small_shape;

// The logits after three tokens behind `depth` made-up ones.
std::vector<float> logits_of(const std::shared_ptr<const Model>& model, int64_t depth = 0) {
  kernels::Exec exec(2);
  Sequence sequence(model, exec, depth + 3);
  sequence.make_up(depth);
  for (const Token token : {5, 17, 199}) sequence.append(token);
  return {sequence.logits().begin(), sequence.logits().end()};
}

TEST(RandomModel, AFileIsTheSameModelAsInMemory) {
  const test::TempDir dir;
  for (const Family* family : all_families()) {
    for (const TensorType type : {TensorType::f32, TensorType::q8_0}) {
      RandomShape shape = small_shape(*family);
      shape.type = type;
      const auto file = dir / "made-up.gguf";
      const int64_t bytes = RandomModel(shape).write(file);
      EXPECT_EQ(bytes, static_cast<int64_t>(std::filesystem::file_size(file)));
      const auto made_up = Model::make_up(shape), loaded = Model::load(file);
      EXPECT_EQ(loaded->config().n_layers(), 3);
      const std::vector<float> logits = logits_of(made_up);
      EXPECT_EQ(logits, logits_of(loaded)) << family->architecture;
      EXPECT_EQ(logits_of(made_up, 100), logits_of(loaded, 100)) << family->architecture;
      EXPECT_TRUE(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
      shape.seed = 2;
      EXPECT_NE(logits, logits_of(Model::make_up(shape)));
      EXPECT_NE(made_up->fingerprint(), Model::make_up(shape)->fingerprint());
    }
  }
}

// Larger than a large page, so that the embedding stays in the file and the rest does not.
TEST(RandomModel, WeightsCopiedIntoMemoryAreTheSameModel) {
  const test::TempDir dir;
  RandomShape shape = small_shape(kMiniMaxM3);
  shape.vocab = 60'000;
  const auto file = dir / "made-up.gguf";
  ASSERT_GT(RandomModel(shape).write(file), 3 * kernels::kLargePage);
  const auto mapped = Model::load(file, {.memory = WeightMemory::mapped}),
             copied = Model::load(file, {.memory = WeightMemory::copied});
  EXPECT_EQ(copied->fingerprint(), mapped->fingerprint());
  EXPECT_EQ(logits_of(copied, 100), logits_of(mapped, 100));
}

// As large models are by default.
TEST(RandomModel, WeightsCopiedMeanwhileAreTheSameModelAndThenNotTheFileAnyMore) {
  const test::TempDir dir;
  RandomShape shape = small_shape(kMiniMaxM3);
  shape.vocab = 60'000;
  const auto file = dir / "made-up.gguf";
  const int64_t bytes = RandomModel(shape).write(file);
  EXPECT_EQ(Model::load(file, {.least_copied = bytes + 1})->memory_left(), std::nullopt);
  const auto mapped = Model::load(file, {.memory = WeightMemory::mapped}),
             copied = Model::load(file, {.least_copied = bytes});
  EXPECT_GT(copied->memory_left(), 0);
  const std::vector<float> wanted = logits_of(mapped, 100);
  EXPECT_EQ(logits_of(copied, 100), wanted);  // maybe not copied yet
  copied->wait_until_copied();
  EXPECT_EQ(logits_of(copied, 100), wanted);

  // All but the header and the embedding, which stays mapped.
  const Gguf gguf = Gguf::open(file);
  const auto* begin = gguf.find("token_embd.weight")->data.data() + gguf.find("token_embd.weight")->data.size();
  std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(begin - gguf.header().data());
  const std::string zeros(static_cast<size_t>(bytes - (begin - gguf.header().data())), '\0');
  out.write(zeros.data(), std::ssize(zeros)).flush();
  EXPECT_NE(logits_of(mapped, 100), wanted);
  EXPECT_EQ(logits_of(copied, 100), wanted);
}

TEST(RandomModel, TheMadeUpCacheMakesTheSelectionMatter) {
  const auto model = Model::make_up(small_shape(kMiniMaxM3));
  kernels::Exec exec(2);
  std::vector<std::vector<float>> logits;
  for (const Attention attention : {Attention::sparse, Attention::dense}) {
    Sequence sequence(model, exec, 101, attention);
    sequence.make_up(100);
    EXPECT_EQ(sequence.tokens().size(), 100);
    EXPECT_THAT(sequence.logits(), testing::IsEmpty());
    sequence.append(1);
    logits.emplace_back(sequence.logits().begin(), sequence.logits().end());
  }
  EXPECT_NE(logits[0], logits[1]);
}

TEST(TokenCost, IsWhatACountByHandGives) {
  const RandomShape shape = small_shape(kMiniMaxM3);
  const auto model = Model::make_up(shape);
  const auto cost = [&](int64_t first, int64_t count, int64_t batch, bool dense) {
    return token_cost(model->config(), model->weights(), first, count, batch, dense);
  };
  constexpr double kQ8 = 34.0 / 32;  // bytes of a number
  // A layer's four projections; the dense layer; two layers with router, shared expert and the index key's projection.
  const double attention = (64.0 * 128 + 2 * 64 * 64 + 128 * 64) * kQ8;
  const double weights = 3 * attention + 3 * 64 * 128 * kQ8 + 2 * (6 * 64 * 4.0 + 3 * 64 * 96 * kQ8 + 32 * 64 * 4.0);

  const TokenCost short_one = cost(9, 1, 1, false);  // 10 positions: two blocks, none to choose from
  EXPECT_DOUBLE_EQ(short_one.expert_bytes, 2 * 2 * 3 * 64 * 96 * kQ8);
  EXPECT_EQ(short_one.weight_bytes, weights);
  EXPECT_EQ(short_one.output_bytes, 200 * 64 * kQ8);
  EXPECT_EQ(short_one.kv_bytes, 3 * 10 * 2 * 64 * 4);
  EXPECT_EQ(short_one.index_bytes, 0);

  const TokenCost long_one = cost(100, 1, 1, false);  // position 100 is the fifth of its block
  EXPECT_EQ(long_one.weight_bytes, weights + 2 * 64 * 64 * 4.0);
  EXPECT_EQ(long_one.kv_bytes, (101 + 2 * (2 * 8 + 5)) * 2 * 64 * 4);
  EXPECT_EQ(long_one.index_bytes, 2 * 101 * 32 * 4);
  const TokenCost rounded = token_cost(model->config(), model->weights(), 100, 1, 1, false, kernels::Format::q8_0);
  EXPECT_DOUBLE_EQ(rounded.weight_bytes, long_one.weight_bytes - 2 * (32 + 64) * 64 * (4 - kQ8));  // index matrices

  const TokenCost dense = cost(100, 1, 1, true);
  EXPECT_EQ(dense.kv_bytes, 3 * 101 * 2 * 64 * 4);
  EXPECT_EQ(dense.index_bytes, 0);
  EXPECT_DOUBLE_EQ(cost(9, 3, 1, true).kv_bytes, 3 * 11 * 2 * 64 * 4);  // the mean of positions 9, 10 and 11

  const TokenCost pair = cost(9, 1, 2, false);
  EXPECT_DOUBLE_EQ(pair.output_bytes, short_one.output_bytes / 2);
  EXPECT_DOUBLE_EQ(pair.kv_bytes, short_one.kv_bytes);
  EXPECT_DOUBLE_EQ(pair.expert_bytes / short_one.expert_bytes, (1 - 4.0 / 9) / 2 * 3);  // 10 of 18 experts, not 6
  EXPECT_DOUBLE_EQ(pair.multiply_adds, short_one.multiply_adds);
}

}  // namespace
}  // namespace corvid::model
