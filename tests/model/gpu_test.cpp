// The backend of a GPU beside the CPU's, and what sequences may ask of it. SKIPPED where there is no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "model/backend.h"
#include "model/chat_format.h"
#include "model/error.h"
#include "model/gpu_backend.h"
#include "model/gpu_weights.h"
#include "model/json_file.h"
#include "model/random_model.h"
#include "model/sampler.h"
#include "model/sequence.h"
#include "tests/support/golden_chat.h"
#include "tests/support/gpu_model.h"
#include "tests/support/sequences.h"
#include "tests/support/throws.h"

namespace corvid::model {
namespace {

using test::copy;
using test::difference;
using test::golden;
using test::GpuTest;
using test::message_of;
using test::prompt_of;
using test::TempDir;

TEST_F(GpuTest, SparseIsDenseWhileEveryBlockIsChosen) {
  const auto on = engine(golden("minimax-m3"));  // blocks of 16, of which 4 are read
  Sequence sparse(on, 300), dense(on, 300, Attention::dense);
  const std::vector<Token> prompt = prompt_of(90, 5, 500);
  double most = 0, later = 0;
  for (size_t i = 0; i < prompt.size(); ++i) {
    sparse.append(prompt[i]);
    dense.append(prompt[i]);
    double& apart = i < 64 ? most : later;
    apart = std::max(apart, difference(sparse.logits(), dense.logits()));
  }
  EXPECT_LT(most, 0.05);
  EXPECT_GT(later, most);
}

TEST_F(GpuTest, AnotherDevicesSnapshotIsRefused) {
  const TempDir dir;
  const auto model = golden("minimax-m3");
  kernels::Exec exec(2);
  Sequence on_cpu(model, exec, 50), on_gpu(engine(model), 50);
  on_cpu.sync(prompt_of(20));
  on_cpu.save(dir / "cpu.kv", 20);
  on_gpu.sync(prompt_of(20));
  on_gpu.save(dir / "gpu.kv", 20);
  EXPECT_THAT(message_of([&] { on_gpu.restore(dir / "cpu.kv"); }),
              testing::AllOf(testing::HasSubstr("want a snapshot of "), testing::HasSubstr(" bf16 bf16 cuda sparse")));
  EXPECT_THAT(message_of([&] { on_cpu.restore(dir / "gpu.kv"); }), testing::HasSubstr(" bf16 bf16 cuda sparse"));
}

TEST_F(GpuTest, ChoosingWithoutTrainingIsRefused) {
  const auto on = engine(golden("qwen3-moe"));
  EXPECT_EQ(message_of([&] { Sequence(on, 50, Attention::sparse); }),
            "attention sparse: on a GPU want a model that selects blocks, found qwen3moe");
}

TEST_F(GpuTest, ARestoredSessionTakesPagesThatNobodyUses) {
  const auto on = engine(golden("minimax-m3"), 1 << 20);
  const TempDir dir;
  Sequence first(on, 100'000);
  first.sync(prompt_of(40, 3, 500));
  first.save(dir / "s.kv", 40);
  first.append(7);
  const std::vector<float> wanted = copy(first.logits());
  const int64_t page = first.cache_bytes(1), fit = (1 << 20) / page * 16;
  Sequence other(on, 100'000);
  other.sync(prompt_of(fit, 5, 500));                           // all pages
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // nobody uses it any more
  Sequence restored(on, 100);
  restored.restore(dir / "s.kv");
  restored.append(7);
  EXPECT_EQ(copy(restored.logits()), wanted);
}

TEST_F(GpuTest, CacheMemoryIsCountedAndComesBack) {
  const auto on = engine(golden("minimax-m3"), 1 << 20);
  Sequence sequence(on, 100'000);
  const int64_t page = sequence.cache_bytes(1), fit = (1 << 20) / page * 16;
  EXPECT_THROW(sequence.sync(prompt_of(fit + 1)), std::length_error);
  for (int time = 0; time < 3; ++time) {
    sequence.sync(prompt_of(fit, uint64_t(time)));
    Sequence other(on, 100);
    other.sync(prompt_of(20));  // takes the pages of the first, which nobody uses
  }
}

// Weights in every format of files: as good as the same rounding on the CPU.
TEST_F(GpuTest, EveryWeightFormatComesCloseToTheCpu) {
  const std::vector<Token> prompt = prompt_of(50, 3, 250);
  for (const TensorType type : {TensorType::f32, TensorType::f16, TensorType::bf16, TensorType::q8_0, TensorType::q4_0,
                                TensorType::q4_k, TensorType::q5_k, TensorType::q6_k, TensorType::mxfp4}) {
    RandomShape shape{.family = &kMiniMaxM3, .type = type, .vocab = 256, .context = 1024, .dim = 256, .layers = 3};
    shape.heads = 4, shape.kv_heads = 2, shape.head_dim = 64, shape.experts = 8, shape.top_k = 2, shape.ffn = 256;
    shape.dense_ffn = 256, shape.index_dim = 64;
    const auto model = Model::make_up(shape);
    kernels::Exec exec(2);
    Sequence on_cpu(model, exec, 100), on_gpu(engine(model), 100);
    on_cpu.sync(prompt);
    on_gpu.sync(prompt);
    const double apart = difference(on_cpu.logits(), on_gpu.logits());
    EXPECT_LT(apart, 0.15) << tensor_layout(type).name;
    // A model of which the host holds the first rows only is as large.
    EXPECT_EQ(GpuWeights::bytes(model->config(), Model::make_up(shape, true)->weights()),
              GpuWeights::bytes(model->config(), model->weights()));
  }
}

// One row of a model with heads of 128 has kernels of its own, recorded for every 128 tokens of a short past: the bits
// of two rows, which have none, where a recording ends and where they all end, also when an earlier one is replayed.
TEST_F(GpuTest, OneRowHasTheBitsOfTwoWhereverItsRecordingsEnd) {
  RandomShape shape{.family = &kQwen3Moe, .type = TensorType::q8_0, .vocab = 256, .context = 2048, .dim = 256};
  shape.layers = 2, shape.heads = 8, shape.kv_heads = 2, shape.head_dim = 128;
  shape.experts = 8, shape.top_k = 2, shape.ffn = 256;
  const auto model = Model::make_up(shape);
  kernels::Exec exec(kernels::Device::cuda);
  const auto backend = Backend::create(model, exec, KvPool::create(64 << 20), kernels::Format::bf16);
  const std::vector<Token> tokens = prompt_of(1540, 3, 250);
  constexpr int64_t kSteps = 5, kVocab = 256, kFirst[] = {0};
  // The logits of the tokens from `first` on, one by one, of the first of n sequences alike.
  const auto logits = [&](size_t n, int64_t first) {
    std::vector<KvCache> caches;
    std::vector<std::vector<float>> out(n, std::vector<float>(kSteps * kVocab));
    for (size_t i = 0; i < n; ++i) {
      caches.emplace_back(model->config(), backend->pool(), kernels::Format::bf16);
      caches[i].prepare(0, first);
      backend->forward(
          std::vector<Segment>{{std::span(tokens).first(size_t(first)), 0, &caches[i], false, {}, nullptr}});
    }
    for (int64_t step = 0; step < kSteps; ++step) {
      std::vector<Segment> batch;
      for (size_t i = 0; i < n; ++i) {
        caches[i].prepare(first + step, first + step + 1);
        batch.push_back({std::span(tokens).subspan(size_t(first + step), 1), first + step, &caches[i], false, kFirst,
                         out[i].data() + step * kVocab});
      }
      backend->forward(batch);
    }
    return out[0];
  };
  for (const int64_t first : {1533, 125, 253, 1405, 125}) EXPECT_EQ(logits(1, first), logits(2, first)) << first;
}

// The model that ships, asked for each chore of the suite: its first reply, greedily, as on the CPU.
TEST_F(GpuTest, TheModelThatShipsAnswersChoresAsOnTheCpu) {
  const std::filesystem::path root(CORVID_SOURCE_DIR);
  const auto model = Model::load(root / "configs/models/corvid-small.gguf");
  const ChatFormat format(model->tokenizer());
  const Prompt prompt = test::golden_prompt();
  kernels::Exec exec(0);
  Sequence on_cpu(model, exec, 8192, Attention::automatic, nullptr, kernels::Format::bf16), on_gpu(engine(model), 8192);
  const auto reply = [&](Sequence& sequence, std::span<const Token> tokens) {
    sequence.sync(tokens);
    ReplyParser parser(format, prompt, "call_", 1);
    std::vector<Token> replied;
    while (replied.size() < 80 && !parser.is_done()) {
      replied.push_back(best_of(sequence.logits()));
      parser.push(replied.back());
      sequence.append(replied.back());
    }
    return replied;
  };
  size_t n_replies = 0, n_same = 0, n_tokens = 0;
  for (const auto& file : std::filesystem::directory_iterator(root / "tests/eval/tasks")) {
    const nlohmann::json task = read_json_object(file.path());
    Message asked;
    asked.role = Role::user;
    asked.text = (task.contains("prompt") ? task["prompt"] : task["prompts"][0]).get<std::string>();
    const std::vector<Token> tokens = format.render(prompt, std::span(&asked, 1));
    const std::vector<Token> wanted = reply(on_cpu, tokens), found = reply(on_gpu, tokens);
    ++n_replies;
    n_tokens += wanted.size();
    n_same += wanted == found;
    if (wanted != found) {
      const auto apart = std::mismatch(wanted.begin(), wanted.end(), found.begin(), found.end()).first;
      std::printf("%s: apart from token %td of %zu on\n", file.path().stem().c_str(), apart - wanted.begin(),
                  wanted.size());
    }
  }
  std::printf("%zu of %zu replies are the same, of %zu tokens\n", n_same, n_replies, n_tokens);
  EXPECT_EQ(n_replies, 40U);
  EXPECT_GE(10 * n_same, 9 * n_replies);
}

TEST_F(GpuTest, AProfileNamesThePartsOfAStep) {
  const auto on = engine(golden("minimax-m3"));
  std::vector<Sequence> sequences;
  for (int i = 0; i < 3; ++i) sequences.emplace_back(on, 100);
  Sequence& sequence = sequences[0];
  EXPECT_FALSE(Sequence::profile_step(sequences));
  sequence.append(1);
  const auto before = copy(sequence.logits());
  const auto profile = Sequence::profile_step(std::span(sequences).first(1));
  ASSERT_TRUE(profile);
  EXPECT_EQ(profile->rows, 1);
  EXPECT_GT(profile->ms, 0);
  std::vector<std::string> names;
  for (const StepProfile::Part& part : profile->parts) names.push_back(part.name);
  EXPECT_THAT(names, testing::UnorderedElementsAre("embedding", "norms", "projections", "heads", "sparse attention",
                                                   "dense attention", "attention output", "router", "experts",
                                                   "dense feed-forward", "logits"));
  sequences[1].sync(prompt_of(40, 3, 500));
  sequences[2].sync(prompt_of(70, 4, 500));
  sequences[2].append(5);
  EXPECT_EQ(Sequence::profile_step(sequences)->rows, 3);
  sequence.truncate(0);
  sequence.append(1);
  EXPECT_EQ(copy(sequence.logits()), before);
}

}  // namespace
}  // namespace corvid::model
