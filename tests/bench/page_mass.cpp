// How much of what dense attention looks at lies in the blocks that are chosen without training:
//
//   page_mass MODEL [TOKENS [TEXT_FILE]]      (default: 8000 tokens, random ones without a text)
//
// The model attends to everything in every layer, also one that was trained to select blocks; beside it stand, for rows
// spread over all positions where there is something to choose, the shares of attention (after softmax, mean over rows
// and query heads) that fall into as many blocks: chosen by bounds of the keys (page_select), the first and the last
// ones, and the best ones, by hindsight.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/page_select/page_select.h"
#include "model/forward.h"
#include "model/model.h"

namespace corvid::bench {
namespace {

using model::Token;

constexpr int64_t kRowStep = 61;  // of the rows that are looked at

struct Shares {
  double chosen = 0, window = 0, best = 0;
  int64_t count = 0;
};

// Of one query head: the share of its attention in each block.
std::vector<double> block_shares(const model::Config& c, const model::KvCache& cache, int64_t layer, const float* q,
                                 int64_t kv_head, int64_t pos) {
  std::vector<double> scores(static_cast<size_t>(pos + 1));
  double most = -INFINITY;
  for (int64_t j = 0; j <= pos; ++j) {
    const kernels::PageHeads& page = cache.layer(layer).keys[static_cast<size_t>(j / cache.block())];
    double sum = 0;
    for (int64_t i = 0; i < c.head_dim; ++i)
      sum += double(q[i]) * kernels::key_at(page, kv_head, j % cache.block(), i, c.head_dim, cache.block());
    scores[static_cast<size_t>(j)] = sum / std::sqrt(double(c.head_dim));
    most = std::max(most, scores[static_cast<size_t>(j)]);
  }
  std::vector<double> shares(static_cast<size_t>(pos / cache.block() + 1));
  double total = 0;
  for (int64_t j = 0; j <= pos; ++j) {
    const double weight = std::exp(scores[static_cast<size_t>(j)] - most);
    shares[static_cast<size_t>(j / cache.block())] += weight;
    total += weight;
  }
  for (double& share : shares) share /= total;
  return shares;
}

void add_row(const model::Config& c, const model::KvCache& cache, int64_t layer, const float* q, int64_t pos,
             const int32_t* ids, Shares& sums) {
  const int64_t group = c.n_heads / c.n_kv_heads;
  for (int64_t kv = 0; kv < c.n_kv_heads; ++kv) {
    std::vector<std::vector<double>> heads;
    std::vector<double> together(static_cast<size_t>(pos / cache.block() + 1));
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      heads.push_back(block_shares(c, cache, layer, q + h * c.head_dim, kv, pos));
      for (size_t b = 0; b < together.size(); ++b) together[b] += heads.back()[b];
    }
    const auto n_blocks = static_cast<int32_t>(together.size()), top = static_cast<int32_t>(model::kTopPages);
    std::vector<int32_t> chosen(ids + kv * top, ids + (kv + 1) * top), window{0}, best(together.size());
    for (int32_t b = n_blocks - top + 1; b < n_blocks; ++b) window.push_back(b);
    std::iota(best.begin(), best.end(), 0);
    std::ranges::sort(best, std::greater(), [&](int32_t b) { return together[static_cast<size_t>(b)]; });
    best.resize(static_cast<size_t>(top));
    const auto share = [](const std::vector<double>& shares, const std::vector<int32_t>& blocks) {
      double sum = 0;
      for (const int32_t b : blocks) sum += shares[static_cast<size_t>(b)];
      return sum;
    };
    for (const std::vector<double>& shares : heads) {
      sums.chosen += share(shares, chosen);
      sums.window += share(shares, window);
      sums.best += share(shares, best);
      ++sums.count;
    }
  }
}

// By layer. A pass leaves the queries of its last layer: hence one of a model cut off behind each.
std::vector<Shares> measure(const model::Model& model, const model::Config& c, const std::vector<Token>& tokens) {
  kernels::Exec exec;
  model::KvCache cache(c, nullptr, kernels::Format::f32, /*bounds=*/true);
  model::Activations activations(c, model::kChunkRows);
  std::vector<Shares> all(c.layers.size());
  std::vector<float> logits(static_cast<size_t>(model::kChunkRows * c.vocab_size));
  std::vector<int64_t> wanted(static_cast<size_t>(model::kChunkRows));
  std::iota(wanted.begin(), wanted.end(), 0);
  for (int64_t first = 0; first < std::ssize(tokens); first += model::kChunkRows) {
    const int64_t count = std::min(model::kChunkRows, std::ssize(tokens) - first);
    cache.prepare(first, first + count);
    const model::Segment segment{
        .tokens = std::span(tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count)),
        .first = first,
        .cache = &cache,
        .dense = true,
        .wanted = std::span(wanted).first(static_cast<size_t>(count)),
        .logits = logits.data()};
    const bool is_last_only = first + count <= model::kTopPages * cache.block();  // nothing to choose yet
    for (int64_t layer = is_last_only ? c.n_layers() - 1 : 0; layer < c.n_layers(); ++layer) {
      model::Config cut = c;
      cut.layers.resize(static_cast<size_t>(layer + 1));
      model::forward(cut, model.weights(), {&segment, 1}, activations, exec);
      for (int64_t r = 0; r < count; ++r) {
        const int64_t pos = first + r;
        if (pos % kRowStep != 0 || pos / cache.block() < model::kTopPages) continue;
        const float* q = activations.q.as() + r * c.n_heads * c.head_dim;
        std::vector<int32_t> ids(static_cast<size_t>(c.n_kv_heads * model::kTopPages)),
            counts(static_cast<size_t>(c.n_kv_heads));
        const kernels::PageSelect choice{q,
                                         cache.layer(layer).bounds.data(),
                                         &pos,
                                         ids.data(),
                                         counts.data(),
                                         1,
                                         c.n_heads,
                                         c.n_kv_heads,
                                         c.head_dim,
                                         cache.block(),
                                         first + count,
                                         model::kTopPages};
        kernels::page_select({&choice, 1}, exec);
        add_row(c, cache, layer, q, pos, ids.data(), all[static_cast<size_t>(layer)]);
      }
    }
  }
  return all;
}

int run(const std::string& file, size_t n_tokens, const char* text_file) {
  const auto model = model::Model::load(file);
  model::Config c = model->config();
  for (model::Config::Layer& layer : c.layers) layer.sparse_attention = false;
  std::vector<Token> tokens;
  if (text_file != nullptr) {
    std::ifstream in(text_file, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    tokens = model->tokenizer().encode(text, false);
    tokens.resize(std::min(tokens.size(), n_tokens));
  }
  for (uint64_t state = 1; text_file == nullptr && tokens.size() < n_tokens;) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    tokens.push_back(static_cast<Token>((state >> 33) % static_cast<uint64_t>(c.vocab_size)));
  }
  std::printf("%s, %zu %s: share of attention in %lld blocks\n%6s %10s %16s %10s\n", model->name().c_str(),
              tokens.size(), text_file != nullptr ? "tokens of a text" : "random tokens",
              static_cast<long long>(model::kTopPages), "layer", "by bounds", "first and last", "best");
  Shares sums;
  const std::vector<Shares> layers = measure(*model, c, tokens);
  for (size_t i = 0; i < layers.size(); ++i) {
    const Shares& s = layers[i];
    const auto n = static_cast<double>(s.count);
    std::printf("%6zu %9.1f%% %15.1f%% %9.1f%%\n", i, 100 * s.chosen / n, 100 * s.window / n, 100 * s.best / n);
    sums.chosen += s.chosen, sums.window += s.window, sums.best += s.best, sums.count += s.count;
  }
  const auto n = static_cast<double>(sums.count);
  std::printf("%6s %9.1f%% %15.1f%% %9.1f%%\n", "all", 100 * sums.chosen / n, 100 * sums.window / n,
              100 * sums.best / n);
  return 0;
}

}  // namespace
}  // namespace corvid::bench

int main(int argc, char** argv) {
  const size_t n_tokens = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 8000;
  if (argc < 2 || n_tokens < 2200) {
    std::fputs("usage: page_mass MODEL [TOKENS, at least 2200 [TEXT_FILE]]\n", stderr);
    return 2;
  }
  try {
    return corvid::bench::run(argv[1], n_tokens, argc > 3 ? argv[3] : nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "page_mass: %s\n", error.what());
    return 1;
  }
}
