// GPUs that share a model, against one alone: the same snapshots, and nearly the same numbers. SKIPPED where there is
// none.
#include "model/gpu_group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <vector>

#include "model/chat_format.h"
#include "model/gpu_backend.h"
#include "model/random_model.h"
#include "model/sampler.h"
#include "model/sequence.h"
#include "tests/support/golden_chat.h"
#include "tests/support/gpu_model.h"
#include "tests/support/sequences.h"
#include "tests/support/temp_dir.h"

namespace corvid::model {
namespace {

using test::copy;
using test::difference;
using test::golden;
using test::GpuShareTest;
using test::GpuTest;
using test::kCutTolerance;
using test::prompt_of;
using test::TempDir;

// Those that share a model, against one alone: the same snapshots, and nearly the same numbers.
INSTANTIATE_TEST_SUITE_P(Gpus, GpuShareTest, testing::Values(std::vector{0, 0}, std::vector{0, 1}),
                         [](const auto& instance) { return instance.param[1] == 0 ? "in_two_shares" : "on_two"; });

TEST_P(GpuShareTest, SnapshotsGoFromOneGpuToSeveralAndBack) {
  const TempDir dir;
  const auto model = golden("minimax-m3");
  Sequence alone(engine(model), 300), shared(engine(model, 256 << 20, GetParam()), 300);
  const std::vector<Token> prompt = prompt_of(150, 4, 500);
  for (Sequence* from : {&alone, &shared}) {
    Sequence* const to = from == &alone ? &shared : &alone;
    from->truncate(0);
    from->sync(prompt);
    from->save(dir / "one.kv", 150);
    to->restore(dir / "one.kv");
    to->save(dir / "other.kv", 150);
    Sequence again(engine(model, 256 << 20, from == &alone ? std::vector{0} : GetParam()), 300);
    again.restore(dir / "other.kv");  // by both ways, and still what it was
    for (Sequence* s : {from, to, &again}) s->append(7);
    EXPECT_EQ(copy(from->logits()), copy(again.logits()));
    EXPECT_LT(difference(from->logits(), to->logits()), kCutTolerance);
  }
}

TEST_P(GpuShareTest, EveryWeightFormatComesCloseToOneGpus) {
  const std::vector<Token> prompt = prompt_of(200, 3, 250);
  for (const TensorType type : {TensorType::bf16, TensorType::q8_0, TensorType::q4_k, TensorType::q6_k}) {
    for (const int64_t ffn : {512, 256}) {  // in halves; of formats with blocks of 256 whole experts
      RandomShape shape{.family = &kMiniMaxM3, .type = type, .vocab = 250, .context = 1024, .dim = 256, .layers = 3};
      shape.heads = 8, shape.kv_heads = 2, shape.head_dim = 64, shape.experts = 8, shape.top_k = 2, shape.ffn = ffn;
      shape.dense_ffn = 512, shape.index_dim = 64, shape.shared = ffn == 512 ? 1 : 2;
      const auto model = Model::make_up(shape);
      Sequence alone(engine(model), 300), shared(engine(model, 256 << 20, GetParam()), 300);
      double apart = 0;
      for (Sequence* s : {&alone, &shared}) s->sync(prompt);
      apart = difference(alone.logits(), shared.logits());
      for (const Token token : {1, 2, 3}) {
        for (Sequence* s : {&alone, &shared}) s->append(token);
        apart = std::max(apart, difference(alone.logits(), shared.logits()));
      }
      EXPECT_LT(apart, kCutTolerance) << tensor_layout(type).name << ' ' << ffn;
      EXPECT_GT(apart, 0) << tensor_layout(type).name << ' ' << ffn;
    }
  }
}

// Rows that are dealt out several times over, and more of them wanted than are computed at once; of one layer, whose
// rows nobody has added up. All experts are taken, so that there are no close calls.
TEST_P(GpuShareTest, EveryRowOfAPromptComesCloseToOneGpus) {
  const std::vector<Token> prompt = prompt_of(1000, 3, 250);
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < std::ssize(prompt); i += 3) positions.push_back(i);
  for (const int64_t layers : {1, 3}) {
    RandomShape shape{.family = &kQwen3Moe, .type = TensorType::bf16, .vocab = 250, .context = 2048, .dim = 256};
    shape.layers = layers, shape.heads = 8, shape.kv_heads = 2, shape.head_dim = 64;
    shape.experts = 2, shape.top_k = 2, shape.ffn = 256;
    const auto model = Model::make_up(shape);
    Sequence alone(engine(model), 1100), shared(engine(model, 256 << 20, GetParam()), 1100);
    const auto wanted = alone.logits_at(prompt, positions), found = shared.logits_at(prompt, positions);
    for (size_t i = 0; i < positions.size(); ++i)
      EXPECT_LT(difference(wanted[i], found[i]), kCutTolerance) << layers << " layers, position " << positions[i];
  }
}

// Greedy replies of the model that ships. Told the same tokens, so that one close call is counted once.
TEST_P(GpuShareTest, TheModelThatShipsChoosesTheTokensThatItDoesOnOne) {
  const auto model = Model::load(std::filesystem::path(CORVID_SOURCE_DIR) / "configs/models/corvid-small.gguf");
  Sequence alone(engine(model), 2048), shared(engine(model, 256 << 20, GetParam()), 2048);
  const ChatFormat format(model->tokenizer());
  Message asked;
  asked.role = Role::user;
  asked.text = "how many lines of notes.txt contain ERROR? Write the number into report.txt";
  const std::vector<Token> tokens = format.render(test::golden_prompt(), std::span(&asked, 1));
  for (Sequence* s : {&alone, &shared}) s->sync(tokens);
  int n_apart = 0, n_close = 0;
  for (int i = 0; i < 200; ++i) {
    std::vector<float> logits = copy(alone.logits());
    const Token token = best_of(logits);
    if (token != best_of(shared.logits())) {
      ++n_apart;
      std::ranges::nth_element(logits, logits.begin() + 1, std::greater());
      n_close += logits[0] - logits[1] < 0.1F;
    }
    for (Sequence* s : {&alone, &shared}) s->append(token);
  }
  std::printf("%d of 200 tokens are others, %d of them close calls\n", n_apart, n_close);
  EXPECT_EQ(n_apart, n_close);
  EXPECT_LE(n_apart, 10);
}

TEST_F(GpuTest, AModelThatDoesNotDivideIsRefused) {
  const std::vector<int> three{0, 0, 0};
  EXPECT_EQ(gpu_obstacle(*golden("minimax-m3"), three), "want key-value heads that 3 GPUs can share evenly, found 2");
}

}  // namespace
}  // namespace corvid::model
