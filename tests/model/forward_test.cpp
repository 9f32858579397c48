// The engine's law: a token's logits are the same bits whatever shares its pass, however its prompt is cut, and however
// many threads there are.
#include "model/forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/support/sequences.h"

namespace corvid::model {
namespace {

using test::fresh_rows;
using test::made_of;
using test::prompt_of;
using test::TinyCheckpoint;

struct Timeline {
  std::vector<Token> prompt;
  bool dense;
  KvCache cache;
  int64_t done = 0;
  std::vector<float> logits = {};  // [done, vocab]
};

// Passes of random segments, from one token to all of a prompt, until every timeline is through.
void evaluate_in_random_passes(const Model& model, std::vector<Timeline>& timelines, int threads, uint64_t seed) {
  const Config& config = model.config();
  kernels::Exec exec(threads);
  Activations activations(config, kChunkRows);
  const auto random = [&seed](int64_t below) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return static_cast<int64_t>((seed >> 33) % static_cast<uint64_t>(below));
  };
  for (bool is_left = true; is_left;) {
    is_left = false;
    std::vector<Segment> batch;
    int64_t room = kChunkRows;
    std::vector<int64_t> all(kChunkRows);
    std::iota(all.begin(), all.end(), 0);
    for (Timeline& t : timelines) {
      const int64_t left = std::min(std::ssize(t.prompt) - t.done, room);
      if (left == 0) continue;
      is_left = true;
      if (random(3) == 0) continue;
      const int64_t n = random(2) == 0 ? 1 : 1 + random(left);
      t.cache.prepare(t.done, t.done + n);
      t.logits.resize(static_cast<size_t>((t.done + n) * config.vocab_size));
      batch.push_back({std::span(t.prompt).subspan(static_cast<size_t>(t.done), static_cast<size_t>(n)), t.done,
                       &t.cache, t.dense, std::span(all).first(static_cast<size_t>(n)),
                       t.logits.data() + t.done * config.vocab_size});
      // Most rows of a prompt are of no interest: then the last layer drops them.
      if (n > 4 && random(2) == 0) batch.back().wanted = batch.back().wanted.first(0);
      if (batch.back().wanted.empty()) std::fill(t.logits.begin() + t.done * config.vocab_size, t.logits.end(), NAN);
      t.done += n;
      room -= n;
    }
    if (!batch.empty()) forward(config, model.weights(), batch, activations, exec);
  }
}

TEST(Forward, ABatchEqualsItsSequencesAlone) {
  const std::vector<TinyCheckpoint> shapes = {
      {},
      {.heads = 8, .kv_heads = 4, .index_heads = 2, .block = 16, .top_blocks = 2},
      {.dim = 40,
       .heads = 3,
       .kv_heads = 3,
       .head_dim = 10,
       .rotary_dim = 6,
       .index_heads = 1,
       .index_dim = 12,
       .block = 5,
       .top_blocks = 4,
       .local_blocks = 2,
       .dense_ffn = 33,
       .experts = 5,
       .top_k = 3,
       .expert_ffn = 17,
       .shared_ffn = 9},
      {.sparse = {1, 0, 1, 1}, .moe = {1, 1, 0, 1}},
      {.sparse = {0, 0}, .moe = {0, 0}}};
  for (const TinyCheckpoint& shape : shapes) {
    const auto model = made_of(shape);
    for (const int threads : {1, 2, 3}) {
      std::vector<Timeline> timelines;
      for (const int64_t length : {1, 7, 24, 65, 130, 40})
        timelines.push_back({prompt_of(length, static_cast<uint64_t>(length)), length == 40, KvCache(model->config())});
      evaluate_in_random_passes(*model, timelines, threads, static_cast<uint64_t>(threads));
      const auto vocab = static_cast<size_t>(model->config().vocab_size);
      size_t compared = 0;
      for (const Timeline& t : timelines) {
        const auto alone = fresh_rows(model, t.prompt, t.dense ? Attention::dense : Attention::automatic);
        for (size_t i = 0; i < alone.size(); ++i) {
          const std::vector<float> row(t.logits.begin() + static_cast<int64_t>(i * vocab),
                                       t.logits.begin() + static_cast<int64_t>((i + 1) * vocab));
          if (std::isnan(row[0])) continue;  // was not wanted
          ++compared;
          ASSERT_EQ(row, alone[i]) << "position " << i << " of " << alone.size() << ", " << threads << " threads, "
                                   << shape.config().dump();
        }
      }
      EXPECT_GT(compared, 50u);
    }
  }
}

}  // namespace
}  // namespace corvid::model
