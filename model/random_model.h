// Models made up from a shape, for measuring: the sizes of a real one, and weights, keys and values that mean nothing.
// The same shape gives the same bytes on every machine.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/exec.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/tensor_type.h"
#include "model/weights.h"

namespace corvid::model {

// The defaults are the files that docs/performance.md measures: 1.4 billion weights, 0.3 of them active.
struct RandomShape {
  const Family* family = nullptr;
  TensorType type = TensorType::q8_0;  // of every matrix that is ever rounded (mix.h)
  int64_t seed = 1;
  int64_t vocab = 32000, context = 65536, dim = 1024, layers = 16;
  int64_t heads = 16, kv_heads = 4, head_dim = 128, rotary = 0;  // rotary 0: as in the family's released models
  int64_t experts = 32, top_k = 4, ffn = 768;                    // ffn: of one expert
  // Of families that select blocks: leading layers with a dense feed-forward and full attention, and the index branch.
  int64_t dense_layers = 1, dense_ffn = 3072, shared = 1;  // shared: experts that every token takes
  int64_t index_heads = 0, index_dim = 128, block = 128, top_blocks = 16, local_blocks = 1;  // heads 0: one per KV head

  // Throws std::runtime_error when the sizes do not fit together.
  Config config() const;
};

// The numbers of a shape by the names that people give them.
struct ShapeKey {
  std::string_view name;
  int64_t RandomShape::*value;
  int64_t min, max;
  bool sparse_only = false;  // means something only in families that select blocks
};
std::span<const ShapeKey> shape_keys();

class RandomModel {
 public:
  explicit RandomModel(const RandomShape& shape);  // throws as config() does

  const Config& config() const { return config_; }
  // All tensors, in `memory`, which must outlive the table. With `held_rows` above 0 only the first so many rows of a
  // matrix, a multiple of 16, all experts' counted together (Weights::held_rows): what a GPU needs no copy of on the
  // host.
  TensorTable load(std::vector<kernels::Buffer>& memory, int64_t held_rows = 0) const;
  // As a GGUF file without a tokenizer; atomic. Returns its size. Throws std::system_error naming the file.
  int64_t write(const std::filesystem::path& file) const;

 private:
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<int64_t> shape;  // outermost first
    float deviation;             // of its numbers, whose mean is 0; 0: all are 1
  };
  class Palette;
  void add(const std::string& name, std::vector<int64_t> shape, double deviation);

  RandomShape shape_;
  Config config_;
  std::vector<Tensor> tensors_;
};

// Fills the first `n_tokens` positions of an empty cache: keys, index keys and values as large as normalised ones are,
// no two keys alike. Reading a cache takes as long whatever is in it, and this takes seconds where evaluating a prompt
// takes minutes. Throws as KvCache::prepare does.
void fill_cache(const Config& config, int64_t n_tokens, KvCache& cache, kernels::Exec& exec);

}  // namespace corvid::model
