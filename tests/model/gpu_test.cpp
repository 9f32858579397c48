// The backend of a GPU: the reference's logits, and the laws that sequences keep there. SKIPPED where there is no GPU.
// The same for GPUs that share a model: two, where there are, and two shares on one.
#include "kernels/gpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <thread>

#include "kernels/comm/all_reduce.h"
#include "model/backend.h"
#include "model/chat_format.h"
#include "model/error.h"
#include "model/gpu_backend.h"
#include "model/gpu_weights.h"
#include "model/json_file.h"
#include "model/random_model.h"
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
using test::GpuShareTest;
using test::GpuTest;
using test::kCutTolerance;
using test::kFamilies;
using test::message_of;
using test::prompt_of;
using test::TempDir;

// What the reference implementation (transformers on a GPU) itself loses against its float32 logits, which reach 4.6,
// when it computes in bf16: the largest difference at each of prefill_positions. Where it is large, another expert or
// another block was chosen.
const std::map<std::string, std::vector<double>> kReferenceInBf16 = {
    {"minimax-m3", {0.0315, 0.0328, 0.0415, 0.0529, 0.0644, 0.1405, 0.0615, 0.0970, 0.3462, 0.0521, 0.1017, 0.3908}},
    {"minimax-m2", {0.0242, 0.0239, 0.0263, 0.1250, 0.1055, 0.1102, 0.0779, 0.0523, 0.0511, 1.3036, 0.0393, 0.0472}},
    {"qwen3-moe", {0.0208, 0.0301, 0.0307, 0.0244, 0.0281, 0.0252, 0.0240, 0.0258, 0.0316, 0.0330, 0.0625, 0.0297}}};
double allowed(double reference_in_bf16) { return 0.05 + 1.5 * reference_in_bf16; }

Token best(std::span<const float> logits) {
  return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

struct GpuCase {
  std::string family, place;
  std::vector<int> gpus;
};
void PrintTo(const GpuCase& c, std::ostream* out) { *out << c.family << c.place; }

class GpuFamilyTest : public GpuTest, public testing::WithParamInterface<GpuCase> {
 protected:
  void SetUp() override {
    if (const auto obstacle = kernels::cuda::gpu_obstacle(GetParam().gpus)) GTEST_SKIP() << *obstacle;
    if (const auto obstacle = kernels::AllReduce::obstacle(GetParam().gpus)) GTEST_SKIP() << *obstacle;
  }
  static std::string family() { return GetParam().family; }
  static std::shared_ptr<Engine> engine(std::shared_ptr<const Model> model, int64_t cache_bytes = 256 << 20) {
    return GpuTest::engine(std::move(model), cache_bytes, GetParam().gpus);
  }
};

std::vector<GpuCase> gpu_cases() {
  std::vector<GpuCase> cases;
  for (const std::string family : kFamilies) {
    cases.push_back({family, "", {0}});
    cases.push_back({family, "_on_two", {0, 1}});
    cases.push_back({family, "_in_two_shares", {0, 0}});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Golden, GpuFamilyTest, testing::ValuesIn(gpu_cases()), [](const auto& instance) {
  std::string name = instance.param.family + instance.param.place;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(GpuFamilyTest, LogitsAreTheReferencesAsFarAsBf16Goes) {
  const nlohmann::json expected = read_json_object(concat(CORVID_GOLDEN_DIR, "/", family(), "/expected.json"));
  const std::vector<int64_t> positions = expected["prefill_positions"];
  const std::vector<std::vector<float>> wanted = expected["prefill_logits"];
  const std::vector<double>& in_bf16 = kReferenceInBf16.at(family());
  Sequence sequence(engine(golden(family())), 300);
  const auto logits = sequence.logits_at(expected["prompt"].get<std::vector<Token>>(), positions);
  ASSERT_EQ(logits.size(), in_bf16.size());
  std::printf("%s%s:", family().c_str(), GetParam().place.c_str());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double apart = difference(logits[i], wanted[i]);
    EXPECT_LT(apart, allowed(in_bf16[i])) << "position " << positions[i];
    EXPECT_GT(apart, 1e-4) << "the CPU's numbers, not a GPU's";
    std::printf(" %.4f", apart);
  }
  std::printf("\n");
}

TEST_P(GpuFamilyTest, GreedyDecodingGivesTheReferencesTokens) {
  const nlohmann::json expected = read_json_object(concat(CORVID_GOLDEN_DIR, "/", family(), "/expected.json"));
  const std::vector<Token> prompt = expected["prompt"], greedy = expected["greedy"];
  Sequence sequence(engine(golden(family())), 300);
  sequence.sync(prompt);
  size_t same = 0;
  for (const Token token : greedy) {  // told the reference's tokens, so that one close call is counted once
    same += best(sequence.logits()) == token;
    sequence.append(token);
  }
  std::printf("%s: %zu of %zu greedy tokens\n", family().c_str(), same, greedy.size());
  EXPECT_GE(4 * same, 3 * greedy.size());
}

TEST_P(GpuFamilyTest, TheLikeliestTokensAreThoseOfTheLogits) {
  Sequence with_logits(engine(golden(family())), 300);
  with_logits.sync(prompt_of(40, 3, 500));
  Sequence with_best = with_logits.fork();  // the same bits
  const std::vector<Token> more = prompt_of(30, 7, 500);
  for (size_t first = 0, count = 1; first + count <= more.size(); first += count, count = count % 4 + 1) {
    const std::span<const Token> some = std::span(more).subspan(first, count);
    ASSERT_TRUE(with_logits.extend(some));
    ASSERT_TRUE(with_best.extend_best(some));
    EXPECT_TRUE(with_best.logits().empty());
    for (size_t i = 0; i < count; ++i)
      EXPECT_EQ(with_best.best(int64_t(i)), best(with_logits.logits(int64_t(i)))) << first << " and " << i;
    EXPECT_THROW(with_best.best(int64_t(count)), std::invalid_argument);
  }
}

TEST_P(GpuFamilyTest, APromptAtOnceIsCloseToItsTokensOneByOne) {
  const auto on = engine(golden(family()));
  const std::vector<Token> prompt = prompt_of(60, 3, 500);  // no block is left out
  Sequence at_once(on, 300), one_by_one(on, 300);
  for (const Token token : prompt) one_by_one.append(token);
  at_once.sync(prompt);
  const double apart = difference(at_once.logits(), one_by_one.logits());
  EXPECT_LT(apart, kCutTolerance);
}

TEST_P(GpuFamilyTest, ReplaysAndForksGiveTheSameBits) {
  const auto model = golden(family());
  const TempDir dir;
  std::vector<std::vector<float>> seen;
  for (int time = 0; time < 2; ++time) {
    const auto on = engine(model);
    Sequence sequence(on, 400);
    sequence.sync(prompt_of(150, 4, 500));
    sequence.save(dir / "s.kv", 150);
    Sequence fork = sequence.fork(), restored(on, 400);
    restored.restore(dir / "s.kv");
    std::filesystem::remove(dir / "s.kv");
    for (const Token token : prompt_of(20, 6, 500)) {
      for (Sequence* s : {&sequence, &fork, &restored}) s->append(token);
      EXPECT_EQ(copy(sequence.logits()), copy(fork.logits()));
      EXPECT_EQ(copy(sequence.logits()), copy(restored.logits()));
    }
    seen.push_back(copy(sequence.logits()));
    // Apart from here on: a fork that writes into a shared page has copied it.
    sequence.append(7);
    fork.append(8);
    restored.append(7);
    EXPECT_EQ(copy(sequence.logits()), copy(restored.logits()));
    EXPECT_NE(copy(sequence.logits()), copy(fork.logits()));
  }
  EXPECT_EQ(seen[0], seen[1]);
}

TEST_P(GpuFamilyTest, WhatWasTakenBackLeavesNoTrace) {
  const auto model = golden(family());
  Sequence sequence(engine(model), 400), other(engine(model), 400);  // which share no pages, so they cut alike
  sequence.sync(prompt_of(140, 4, 500));
  sequence.extend(prompt_of(9, 5, 500));
  sequence.truncate(142);
  other.sync(prompt_of(140, 4, 500));
  other.extend(prompt_of(9, 5, 500));
  other.truncate(140);
  other.extend(prompt_of(2, 5, 500));
  for (Sequence* s : {&sequence, &other}) s->append(3);
  EXPECT_EQ(copy(sequence.logits()), copy(other.logits()));
}

// A row's bits don't depend on what shares the pass: one token of each of many sequences, a few of one, chunks of
// prompts of others.
TEST_P(GpuFamilyTest, ABatchGivesEachSequenceTheBitsThatItHasAlone) {
  const auto model = golden(family());
  const Config& c = model->config();
  kernels::Exec exec(kernels::Device::cuda);
  const auto backend = Backend::create(model, exec, KvPool::create(256 << 20), kernels::Format::bf16, GetParam().gpus);
  std::vector<std::vector<Token>> prompts;
  for (const int64_t length : {1, 7, 24, 65, 130, 200, 40, 300})
    prompts.push_back(prompt_of(length, uint64_t(length), 500));
  // Each step: how many tokens of each sequence are evaluated; short and long ones together.
  const auto evaluate = [&](bool together) {
    std::vector<KvCache> caches;
    for (size_t i = 0; i < prompts.size(); ++i) caches.emplace_back(c, backend->pool(), kernels::Format::bf16);
    std::vector<std::vector<float>> rows(prompts.size());
    std::vector<int64_t> done(prompts.size());
    const std::vector<int64_t> all = [] {
      std::vector<int64_t> places(300);
      std::iota(places.begin(), places.end(), 0);
      return places;
    }();
    for (uint64_t step = 0;; ++step) {
      std::vector<Segment> batch;
      for (size_t i = 0; i < prompts.size(); ++i) {
        const int64_t wish = std::array<int64_t, 5>{1, 20, 5, 97, 17}[(step + i) % 5];
        const int64_t n = std::min(wish, std::ssize(prompts[i]) - done[i]);
        if (n == 0) continue;
        caches[i].prepare(done[i], done[i] + n);
        std::vector<float>& out = rows[i];
        if (out.empty()) out.resize(prompts[i].size() * size_t(c.vocab_size));
        batch.push_back({std::span(prompts[i]).subspan(size_t(done[i]), size_t(n)), done[i], &caches[i], i == 6,
                         std::span(all).first(size_t(n)), out.data() + done[i] * c.vocab_size});
        done[i] += n;
        if (!together) {
          backend->forward(batch);
          batch.clear();
        }
      }
      if (!batch.empty()) backend->forward(batch);
      if (std::equal(done.begin(), done.end(), prompts.begin(),
                     [](int64_t n, const std::vector<Token>& prompt) { return n == std::ssize(prompt); }))
        return rows;
    }
  };
  const auto alone = evaluate(false), together = evaluate(true);
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(alone[i], together[i]) << prompts[i].size() << " tokens";
}

// Sequences of an engine with too little memory: evicted, evaluated again, prefixes shared; and each within rounding of
// what it says alone.
TEST_P(GpuFamilyTest, RandomLivesOnOneEngineComeOutAsAlone) {
  const auto model = golden(family());
  const int64_t page = [&] {
    Sequence probe(engine(model), 10);
    return probe.cache_bytes(1);
  }();
  const int64_t block = model->config().block != 0 ? model->config().block : kDefaultBlock;
  const auto on = engine(model, 3 * ((64 + block - 1) / block) * page);  // place for half of them
  struct Seen {
    std::vector<Token> tokens;
    std::vector<float> logits;
  };
  std::vector<std::vector<Seen>> seen(6);
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < seen.size(); ++i) {
      threads.emplace_back([&, i] {
        uint64_t seed = i;
        const auto random = [&seed](int64_t below) {
          seed = seed * 6364136223846793005U + 1442695040888963407U;
          return static_cast<int64_t>((seed >> 33) % static_cast<uint64_t>(below));
        };
        Sequence sequence(on, 64);
        for (int step = 0; step < 12; ++step) {
          std::vector<Token> tokens = copy(sequence.tokens());
          if (tokens.empty() || random(3) == 0) {
            tokens.resize(size_t(random(std::ssize(tokens) + 1)));
            const auto more = prompt_of(1 + random(60 - std::ssize(tokens)), seed % 3, 500);  // often the same
            tokens.insert(tokens.end(), more.begin(), more.end());
            sequence.sync(tokens);
          } else if (std::ssize(tokens) < 55) {
            sequence.extend(prompt_of(1 + random(8), seed, 500));
          } else {
            sequence.truncate(random(50));
            sequence.append(5);
          }
          seen[i].push_back({copy(sequence.tokens()), copy(sequence.logits())});
        }
      });
    }
  }
  int n_moments = 0, n_far = 0;
  Sequence alone(engine(model), 64);
  for (const auto& life : seen) {
    for (const Seen& moment : life) {
      alone.truncate(0);
      alone.sync(moment.tokens);
      const double apart = difference(alone.logits(), moment.logits);
      ++n_moments;
      n_far += !(apart < kCutTolerance);  // a close call between two experts fell the other way
      EXPECT_LT(apart, 3);
    }
  }
  EXPECT_LE(20 * n_far, n_moments);
  std::printf("%s: %d of %d moments are more than %.2f apart, %lld evictions\n", family().c_str(), n_far, n_moments,
              kCutTolerance, static_cast<long long>(on->stats().evictions));
}

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

// Blocks chosen by index keys in e4m3: some others than by bf16's, so that logits differ where that matters, and are
// the reference's elsewhere. While every block is chosen nothing differs.
TEST_F(GpuTest, IndexKeysInE4m3ChooseNearlyTheSame) {
  const auto model = golden("minimax-m3");
  const nlohmann::json expected = read_json_object(concat(CORVID_GOLDEN_DIR, "/minimax-m3/expected.json"));
  const std::vector<int64_t> positions = expected["prefill_positions"];
  const std::vector<std::vector<float>> wanted = expected["prefill_logits"];
  const auto on = Engine::create(
      model, {.device = kernels::Device::cuda, .cache_bytes = 256 << 20, .cache_format = CacheFormat::of_gpu(true)});
  Sequence sequence(on, 300), bf16(engine(model), 300);
  EXPECT_NE(sequence.identity(), bf16.identity());
  EXPECT_LT(sequence.cache_bytes(200), bf16.cache_bytes(200));
  const std::vector<Token> prompt = expected["prompt"];
  const auto logits = sequence.logits_at(prompt, positions), plain = bf16.logits_at(prompt, positions);
  int64_t n_close = 0;
  std::printf("e4m3 index:");
  for (size_t i = 0; i < logits.size(); ++i) {
    const double apart = difference(logits[i], wanted[i]);
    n_close += apart < allowed(kReferenceInBf16.at("minimax-m3")[i]);
    EXPECT_LT(apart, 1.5) << "position " << positions[i];
    std::printf(" %.4f (%.4f)", apart, difference(logits[i], plain[i]));
  }
  std::printf("\n");
  EXPECT_GE(4 * n_close, 3 * std::ssize(logits));

  // A snapshot, a fork and steps from there: the same bits.
  const TempDir dir;
  sequence.save(dir / "s.kv", std::ssize(prompt) - 1);
  Sequence restored(on, 300), fork = sequence.fork();
  restored.restore(dir / "s.kv");
  fork.truncate(std::ssize(prompt) - 1);
  for (const Token token : {prompt.back(), Token{5}, Token{9}}) {
    restored.append(token);
    fork.append(token);
    EXPECT_EQ(copy(restored.logits()), copy(fork.logits()));
  }
  EXPECT_THAT(message_of([&] { bf16.restore(dir / "s.kv"); }), testing::HasSubstr("e4m3"));
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
      replied.push_back(best(sequence.logits()));
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
    const Token token = best(logits);
    if (token != best(shared.logits())) {
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
