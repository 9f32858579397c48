#include "model/index_weights.h"

#include <gtest/gtest.h>

#include <functional>
#include <span>
#include <vector>

#include "kernels/kv_pages/kv_pages.h"
#include "kernels/matmul/matmul.h"
#include "model/backend.h"
#include "model/model.h"
#include "tests/support/backends.h"
#include "tests/support/sequences.h"

namespace corvid::model {
namespace {

using kernels::Format;
using kernels::Matrix;
using test::made_of;
using test::TinyCheckpoint;

std::vector<float> times(const Matrix& w, int64_t n, int64_t k, kernels::Exec& exec) {
  const std::vector<float> x = test::random_floats(k, 7);
  std::vector<float> y(static_cast<size_t>(n));
  kernels::matmul({x.data(), w, y.data(), 1, n, k}, exec);
  return y;
}

TEST(IndexWeights, AreThoseOfTheFileInQ8WhereKeysAre) {
  const auto model = made_of({});
  const Config& c = model->config();
  for (const kernels::Isa isa : kernels::available_isas()) {
    kernels::Exec exec(2, isa);
    const IndexWeights rounded(c, model->weights(), Format::q8_0, exec);
    for (int64_t i = 1; i < c.n_layers(); ++i) {
      const auto layer = model->weights().layer(i);
      const auto expect_rounded = [&](const Matrix& found, const Matrix& stored, int64_t rows) {
        ASSERT_EQ(stored.format, Format::f32);
        EXPECT_EQ(kernels::plain_format(found.format), Format::q8_0);
        std::vector<char> row(static_cast<size_t>(rows * kernels::row_bytes(Format::q8_0, c.dim)));
        kernels::encode_row(Format::q8_0, static_cast<const float*>(stored.data), rows * c.dim, row.data());
        EXPECT_EQ(times(found, rows, c.dim, exec), times({row.data(), Format::q8_0}, rows, c.dim, exec));
      };
      expect_rounded(rounded.q(i, *layer), layer->index_q, c.n_index_heads * c.index_dim);
      expect_rounded(rounded.k(i, *layer), layer->index_k, c.index_dim);
    }
    const auto dense = model->weights().layer(0);
    EXPECT_EQ(rounded.q(0, *dense).data, nullptr);
  }
}

TEST(IndexWeights, StayWhereKeysAreKeptMoreExactlyOrRowsAreNoWholeBlocks) {
  kernels::Exec exec(1);
  const auto expect_stored = [&](const Model& model, const IndexWeights& weights) {
    const auto layer = model.weights().layer(1);
    EXPECT_EQ(weights.q(1, *layer).data, layer->index_q.data);
    EXPECT_EQ(weights.k(1, *layer).data, layer->index_k.data);
  };
  const auto model = made_of({});
  expect_stored(*model, {});
  for (const Format keys : {Format::f32, Format::bf16})
    expect_stored(*model, IndexWeights(model->config(), model->weights(), keys, exec));
  const auto odd = made_of({.dim = 40});
  expect_stored(*odd, IndexWeights(odd->config(), odd->weights(), Format::q8_0, exec));
}

// The index keys of a prompt that is evaluated `step` tokens at a time.
std::vector<float> index_keys(const Config& c, int64_t step, const std::function<void(const Segment&)>& evaluate) {
  const std::vector<Token> tokens = test::prompt_of(60);
  KvCache cache(c, nullptr, Format::f16);
  cache.prepare(0, std::ssize(tokens));
  for (int64_t first = 0; first < std::ssize(tokens); first += step)
    evaluate(
        {std::span(tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(step)), first, &cache, false, {}});
  std::vector<float> keys;
  for (int64_t layer = 1; layer < c.n_layers(); ++layer)
    for (int64_t pos = 0; pos < std::ssize(tokens); ++pos)
      for (int64_t i = 0; i < c.index_dim; ++i)
        keys.push_back(kernels::key_at(cache.layer(layer).index_keys[static_cast<size_t>(pos / cache.block())], 0,
                                       pos % cache.block(), i, c.index_dim, cache.block(), cache.index_format()));
  return keys;
}

TEST(IndexWeights, EnginesUseThemAndKeysHaveTheSameBitsHoweverAPromptIsCut) {
  const auto model = made_of({});
  const Config& c = model->config();
  for (const kernels::Isa isa : kernels::available_isas()) {
    kernels::Exec exec(2, isa), single(1, isa);
    Activations activations(c, 60);
    const auto forward_with = [&](const IndexWeights& weights) {
      return [&](const Segment& s) { forward(c, model->weights(), {&s, 1}, activations, exec, weights); };
    };
    const IndexWeights rounded(c, model->weights(), Format::q8_0, exec), none;
    const std::vector<float> wanted = index_keys(c, 60, forward_with(rounded));
    EXPECT_NE(index_keys(c, 60, forward_with(none)), wanted);
    const auto backend = Backend::create(model, single, nullptr, Format::f16);
    for (const int64_t step : {1, 4, 60})
      EXPECT_EQ(index_keys(c, step, [&](const Segment& s) { backend->forward({&s, 1}); }), wanted) << step;
  }
}

}  // namespace
}  // namespace corvid::model
