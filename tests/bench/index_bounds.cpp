// How much of the index keys block selection could leave unread, if bounds of the keys lay beside them:
//
//   index_bounds                               keys made up: random, in clusters, a walk, adversarial
//   index_bounds MODEL TEXT_FILE [TOKENS]      of the model's layers, at the end of each half of the text
//
// A part of a block need not be read when no head's bound for it reaches the lowest score that this head chooses. That
// score is known here before anything is read, which is the best that any order of reading can come to; `seeded` has
// to do with the lowest of the scores that last row's choice has now. Bounds are a ball (centre and radius) or a box
// (least and greatest key of each dimension), of parts of 16 keys up to eight blocks, kept in bf16; their bytes are set
// against those saved.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/kv_pages/kv_pages.h"
#include "model/forward.h"
#include "model/model.h"

namespace corvid::bench {
namespace {

constexpr int64_t kParts[] = {16, 32, 128, 1024};

struct Setting {
  int64_t dim, heads, block, top_k;
};

struct Query {
  int64_t pos;
  std::vector<float> q;  // [heads, dim]
};

struct Count {
  double unread_by_head = 0, unread = 0, seeded = 0;  // keys
};

struct Bounds {
  int64_t part;
  bool is_box;
  std::vector<float> first, second;  // centre and radius, or least and greatest
  Count count;

  double bytes_share(const Setting& s) const { return double(is_box ? 2 * s.dim : s.dim + 1) / double(part * s.dim); }
};

float dot(const float* a, const float* b, int64_t n) {
  float sum[16] = {};
  for (int64_t i = 0; i + 16 <= n; i += 16)
    for (int64_t k = 0; k < 16; ++k) sum[k] += a[i + k] * b[i + k];
  float all = 0;
  for (const float s : sum) all += s;
  for (int64_t i = n / 16 * 16; i < n; ++i) all += a[i] * b[i];
  return all;
}

std::vector<Bounds> bounds_of(const Setting& s, const std::vector<float>& keys) {
  std::vector<Bounds> all;
  const int64_t n = std::ssize(keys) / s.dim;
  for (const int64_t part : kParts)
    for (const bool is_box : {false, true}) {
      Bounds b{part, is_box, {}, {}, {}};
      for (int64_t first = 0; first + part <= n; first += part) {
        std::vector<float> low(size_t(s.dim), INFINITY), high(size_t(s.dim), -INFINITY), centre(size_t(s.dim), 0);
        for (int64_t j = first; j < first + part; ++j)
          for (int64_t i = 0; i < s.dim; ++i) {
            const float k = keys[size_t(j * s.dim + i)];
            low[size_t(i)] = std::min(low[size_t(i)], k);
            high[size_t(i)] = std::max(high[size_t(i)], k);
            centre[size_t(i)] += k / float(part);
          }
        float radius = 0;
        for (int64_t j = first; j < first + part; ++j) {
          float square = 0;
          for (int64_t i = 0; i < s.dim; ++i) {
            const float d = keys[size_t(j * s.dim + i)] - centre[size_t(i)];
            square += d * d;
          }
          radius = std::max(radius, std::sqrt(square));
        }
        const std::vector<float>& one = is_box ? low : centre;
        b.first.insert(b.first.end(), one.begin(), one.end());
        if (is_box)
          b.second.insert(b.second.end(), high.begin(), high.end());
        else
          b.second.push_back(radius);
      }
      all.push_back(std::move(b));
    }
  return all;
}

float bound(const Setting& s, const Bounds& b, int64_t part, const float* q) {
  const float* first = b.first.data() + part * s.dim;
  if (!b.is_box) return dot(q, first, s.dim) + std::sqrt(dot(q, q, s.dim)) * b.second[size_t(part)];
  float sum = 0;
  for (int64_t i = 0; i < s.dim; ++i) sum += std::max(q[i] * first[i], q[i] * b.second[size_t(part * s.dim + i)]);
  return sum;
}

// Adds up over queries, which come in order; returns the keys that a full scan reads.
double measure(const Setting& s, const std::vector<float>& keys, const std::vector<Query>& queries,
               std::vector<Bounds>& bounds) {
  double scanned = 0;
  std::vector<std::vector<int64_t>> before(static_cast<size_t>(s.heads));  // what the last query chose
  for (const Query& query : queries) {
    const int64_t blocks = query.pos / s.block;  // all but the local one
    std::vector<float> lowest(static_cast<size_t>(s.heads)), seed(static_cast<size_t>(s.heads), -INFINITY);
    for (int64_t h = 0; h < s.heads; ++h) {
      const float* q = query.q.data() + h * s.dim;
      std::vector<std::pair<float, int64_t>> scores;
      for (int64_t b = 0; b < blocks; ++b) {
        float best = -INFINITY;
        for (int64_t j = b * s.block; j < (b + 1) * s.block; ++j)
          best = std::max(best, dot(q, keys.data() + j * s.dim, s.dim));
        scores.emplace_back(best, b);
      }
      std::vector<int64_t>& chosen = before[size_t(h)];
      if (!chosen.empty()) {
        seed[size_t(h)] = INFINITY;
        for (const int64_t b : chosen) seed[size_t(h)] = std::min(seed[size_t(h)], scores[size_t(b)].first);
      }
      std::ranges::nth_element(scores, scores.begin() + s.top_k - 2, std::greater());
      lowest[size_t(h)] = scores[size_t(s.top_k - 2)].first;  // the local block takes one place
      chosen.clear();
      for (int64_t i = 0; i < s.top_k - 1; ++i) chosen.push_back(scores[size_t(i)].second);
    }
    for (Bounds& b : bounds)
      for (int64_t part = 0; (part + 1) * b.part <= blocks * s.block; ++part) {
        int64_t heads = 0;
        bool seeded = true;
        for (int64_t h = 0; h < s.heads; ++h) {
          const float most = bound(s, b, part, query.q.data() + h * s.dim);
          heads += most < lowest[size_t(h)] ? 1 : 0;
          seeded = seeded && most < seed[size_t(h)];
        }
        b.count.unread_by_head += double(heads * b.part) / double(s.heads);
        b.count.unread += heads == s.heads ? double(b.part) : 0;
        b.count.seeded += seeded ? double(b.part) : 0;
      }
    scanned += double(blocks * s.block);
  }
  return scanned;
}

void print(const std::string& name, const Setting& s, const std::vector<Bounds>& bounds, double scanned) {
  std::printf("%s\n%8s %6s %18s %18s %10s %14s\n", name.c_str(), "keys", "bound", "unread, one head",
              "unread, all heads", "seeded", "bounds' bytes");
  for (const Bounds& b : bounds)
    std::printf("%8lld %6s %17.1f%% %17.1f%% %9.1f%% %13.1f%%\n", static_cast<long long>(b.part),
                b.is_box ? "box" : "ball", 100 * b.count.unread_by_head / scanned, 100 * b.count.unread / scanned,
                100 * b.count.seeded / scanned, 100 * b.bytes_share(s));
  std::fflush(stdout);
}

void made_up(const std::string& name, const std::function<float(int64_t key, int64_t i, float noise)>& key) {
  const Setting s{128, 4, 128, 16};
  constexpr int64_t kKeys = 131072, kQueries = 16;
  std::mt19937 random(7);
  std::normal_distribution<float> bell;
  std::vector<float> keys(static_cast<size_t>(kKeys * s.dim));
  for (int64_t j = 0; j < kKeys; ++j)
    for (int64_t i = 0; i < s.dim; ++i) keys[size_t(j * s.dim + i)] = key(j, i, bell(random));
  std::vector<Query> queries;
  for (int64_t n = 0; n < kQueries; ++n) {  // each much like the one before
    Query query{kKeys - kQueries + n, std::vector<float>(size_t(s.heads * s.dim))};
    for (size_t i = 0; i < query.q.size(); ++i)
      query.q[i] = n == 0 ? bell(random) : 0.95F * queries.back().q[i] + 0.31F * bell(random);
    queries.push_back(std::move(query));
  }
  std::vector<Bounds> bounds = bounds_of(s, keys);
  const double scanned = measure(s, keys, queries, bounds);
  print(name + ", 131,072 keys", s, bounds, scanned);
}

void made_up() {
  std::mt19937 random(11);
  std::normal_distribution<float> bell;
  const auto numbers = [&](int64_t n) {
    std::vector<float> all(static_cast<size_t>(n * 128));
    for (float& x : all) x = bell(random);
    return all;
  };
  const std::vector<float> centres = numbers(1024);
  made_up("random keys", [](int64_t, int64_t, float noise) { return noise; });
  made_up("four blocks in a row share a centre, 0.8 of a key",
          [&](int64_t j, int64_t i, float noise) { return 0.8F * centres[size_t(j / 512 * 128 + i)] + 0.6F * noise; });
  made_up("the same, 0.99 of a key", [&](int64_t j, int64_t i, float noise) {
    return 0.99F * centres[size_t(j / 512 * 128 + i)] + 0.14F * noise;
  });
  std::vector<float> at(128, 0);
  made_up("a walk, each key 0.99 of the one before",
          [&](int64_t, int64_t i, float noise) { return at[size_t(i)] = 0.99F * at[size_t(i)] + 0.14F * noise; });
  made_up("adversarial: 0.99 of a centre, but each 16th key its opposite", [&](int64_t j, int64_t i, float noise) {
    return (j % 16 == 5 ? -0.99F : 0.99F) * centres[size_t(j / 512 * 128 + i)] + 0.14F * noise;
  });
}

void of_model(const std::string& file, const std::string& text_file, size_t most) {
  const auto model = model::Model::load(file);
  std::ifstream in(text_file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::vector<model::Token> tokens = model->tokenizer().encode(text, /*parse_special=*/true);
  tokens.resize(std::min(tokens.size(), most));
  const model::Config& c = model->config();
  const Setting s{c.index_dim, c.n_index_heads, c.block, c.top_blocks};
  kernels::Exec exec;
  model::KvCache cache(c, nullptr, {kernels::Format::f32, kernels::Format::f32});
  model::Activations activations(c, model::kChunkRows);
  std::vector<float> logits(size_t(model::kChunkRows * c.vocab_size));
  std::vector<int64_t> wanted(size_t{model::kChunkRows}), halves;
  std::iota(wanted.begin(), wanted.end(), 0);
  for (int64_t n = std::ssize(tokens); n >= 2 * s.top_k * s.block; n /= 2) halves.push_back(n);
  for (int64_t first = 0; first < std::ssize(tokens);) {
    int64_t end = std::min(first + model::kChunkRows, std::ssize(tokens));
    for (const int64_t half : halves)
      if (first < half && half < end) end = half;
    const bool is_measured = std::ranges::count(halves, end) > 0;
    cache.prepare(first, end);
    const model::Segment segment{.tokens = std::span(tokens).subspan(size_t(first), size_t(end - first)),
                                 .first = first,
                                 .cache = &cache,
                                 .wanted = std::span(wanted).first(size_t(end - first)),
                                 .logits = logits.data()};
    std::vector<Bounds> sums;
    double scanned = 0;
    for (size_t layer = is_measured ? 0 : c.layers.size() - 1; layer < c.layers.size(); ++layer) {
      // A pass leaves the queries of its last layer: hence one of a model cut off behind each.
      model::Config cut = c;
      cut.layers.resize(layer + 1);
      model::forward(cut, model->weights(), {&segment, 1}, activations, exec);
      if (!is_measured || !c.layers[layer].sparse_attention) continue;
      std::vector<float> keys;
      for (int64_t j = 0; j < end; ++j)
        for (int64_t i = 0; i < s.dim; ++i)
          keys.push_back(kernels::key_at(cache.layer(int64_t(layer)).index_keys[size_t(j / s.block)], 0, j % s.block, i,
                                         s.dim, s.block));
      std::vector<Query> queries;
      for (int64_t r = std::max<int64_t>(0, end - first - 16); r < end - first; ++r) {
        const float* q = activations.index_q.as() + r * s.heads * s.dim;
        queries.push_back({first + r, std::vector<float>(q, q + s.heads * s.dim)});
      }
      std::vector<Bounds> bounds = bounds_of(s, keys);
      scanned += measure(s, keys, queries, bounds);
      for (size_t i = 0; i < bounds.size(); ++i) {
        if (sums.size() == i) sums.push_back({bounds[i].part, bounds[i].is_box, {}, {}, {}});
        sums[i].count.unread_by_head += bounds[i].count.unread_by_head;
        sums[i].count.unread += bounds[i].count.unread;
        sums[i].count.seeded += bounds[i].count.seeded;
      }
    }
    if (is_measured)
      print(model->name() + ", " + std::to_string(end) + " tokens, all layers that choose", s, sums, scanned);
    first = end;
  }
}

}  // namespace
}  // namespace corvid::bench

int main(int argc, char** argv) {
  try {
    if (argc == 1)
      corvid::bench::made_up();
    else if (argc == 3 || argc == 4)
      corvid::bench::of_model(argv[1], argv[2], argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 32000);
    else
      throw std::invalid_argument("want no arguments, or MODEL TEXT_FILE [TOKENS]");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "index_bounds: %s\n", error.what());
    return 1;
  }
}
