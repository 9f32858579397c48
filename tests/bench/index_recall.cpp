// How many of the blocks that MSA chooses with index keys in f32 it chooses with keys that are rounded, and weights
// that are rounded with them (model/index_weights.h).
//
//   index_recall MODEL TEXT_FILE [TOKENS]
//
// Whole passes over the text's first tokens, so that what a rounded key changes in one layer reaches the next ones.
// Choices are read where a pass leaves them: of the last of its layers, and so of models cut off behind each layer.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "model/forward.h"
#include "model/model.h"

namespace corvid::bench {
namespace {

using kernels::Format;
using model::Token;

// For each layer that chooses, then each row and head that has more blocks than it may choose: the chosen ones.
std::vector<std::vector<std::set<int32_t>>> choices(const model::Model& model, const std::vector<Token>& tokens,
                                                    Format index, kernels::Exec& exec) {
  const model::Config& c = model.config();
  model::KvCache cache(c, nullptr, {Format::f32, index});
  model::Activations activations(c, model::kChunkRows);
  const model::IndexWeights index_weights(c, model.weights(), index, exec);
  std::vector<std::vector<std::set<int32_t>>> found(c.layers.size());
  std::vector<float> logits(static_cast<size_t>(model::kChunkRows * c.vocab_size));
  for (int64_t first = 0; first < std::ssize(tokens); first += model::kChunkRows) {
    const int64_t count = std::min(model::kChunkRows, std::ssize(tokens) - first);
    cache.prepare(first, first + count);
    std::vector<int64_t> wanted;
    for (int64_t i = 0; i < count; ++i) wanted.push_back(i);
    const std::span<const Token> chunk =
        std::span(tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    const model::Segment segment{
        .tokens = chunk, .first = first, .cache = &cache, .wanted = wanted, .logits = logits.data()};
    for (size_t layer = 0; layer < c.layers.size(); ++layer) {
      if (!c.layers[layer].sparse_attention) continue;
      model::Config cut = c;
      cut.layers.resize(layer + 1);
      model::forward(cut, model.weights(), {&segment, 1}, activations, exec, index_weights);
      if (first + count <= c.top_blocks * c.block) continue;
      for (int64_t r = 0; r < count; ++r) {
        if ((first + r) / c.block < c.top_blocks) continue;
        for (int64_t h = 0; h < c.n_kv_heads; ++h) {
          const int32_t* ids = activations.block_ids.data() + (r * c.n_kv_heads + h) * c.top_blocks;
          found[layer].emplace_back(ids, ids + activations.block_counts[static_cast<size_t>(r * c.n_kv_heads + h)]);
        }
      }
    }
  }
  return found;
}

int run(const std::string& file, const std::string& text_file, size_t most) {
  const auto model = model::Model::load(file);
  std::ifstream in(text_file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::vector<Token> tokens = model->tokenizer().encode(text, false);
  tokens.resize(std::min(tokens.size(), most));
  kernels::Exec exec;
  const auto exact = choices(*model, tokens, Format::f32, exec);
  for (const Format format : {Format::bf16, Format::q8_0}) {
    const auto rounded = choices(*model, tokens, format, exec);
    double same = 0, all = 0, worst = 1;
    for (size_t layer = 0; layer < exact.size(); ++layer) {
      double hits = 0, wanted = 0;
      for (size_t i = 0; i < exact[layer].size(); ++i) {
        for (const int32_t id : exact[layer][i]) hits += rounded[layer][i].contains(id) ? 1 : 0;
        wanted += static_cast<double>(exact[layer][i].size());
      }
      if (wanted > 0) worst = std::min(worst, hits / wanted);
      same += hits;
      all += wanted;
    }
    std::printf("%s: %zu tokens, index keys in %s: %.2f%% of the blocks that f32 chooses, in the worst layer %.2f%%\n",
                model->name().c_str(), tokens.size(), kernels::format_name(format), 100 * same / all, 100 * worst);
  }
  return 0;
}

}  // namespace
}  // namespace corvid::bench

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fputs("usage: index_recall MODEL TEXT_FILE [TOKENS]\n", stderr);
    return 2;
  }
  try {
    return corvid::bench::run(argv[1], argv[2], argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 8000);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "index_recall: %s\n", error.what());
    return 1;
  }
}
