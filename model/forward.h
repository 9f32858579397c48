// The forward pass: tokens in, logits out, keys and values into the cache.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/exec.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace corvid::model {

// Rows of one pass that keep all processors busy while the activations stay in cache.
inline constexpr int64_t kChunkRows = 512;

// What lies between the layers, for up to `rows` tokens at a time. Reused by every pass of a sequence.
struct Activations {
  Activations() = default;
  Activations(const Config& config, int64_t rows);

  int64_t rows = 0;
  kernels::Buffer x, h;                        // [rows, dim]: the residual stream, and its norm
  kernels::Buffer q, attended;                 // [rows, n_heads * head_dim]
  kernels::Buffer k, v;                        // [rows, n_kv_heads * head_dim]
  kernels::Buffer index_q, index_k;            // [rows, n_index_heads * index_dim], [rows, index_dim]
  kernels::Buffer cos_sin;                     // [rows, rotary_dim]
  kernels::Buffer router;                      // [rows, n_experts]
  kernels::Buffer expert_ids, expert_weights;  // [rows, top_k]
  std::vector<int64_t> pos;                    // [rows]
  std::vector<int32_t> block_ids,
      block_counts;  // [rows, n_kv_heads, blocks], [rows, n_kv_heads]; grow with the context
};

struct Pass {
  std::span<const Token> tokens;  // all inside the vocabulary; at most Activations::rows
  int64_t first = 0;              // position of tokens[0]; the cache holds everything before it, and has place for all
  bool dense = false;             // attend to every position in every layer
  std::span<const int64_t> wanted;  // rows of `tokens` whose logits are wanted, ascending
  float* logits = nullptr;          // [wanted, vocab]
};

// The same tokens at the same positions give the same bits however they are cut into passes.
void forward(const Config& config, const Weights& weights, const Pass& pass, KvCache& cache, Activations& activations,
             kernels::Exec& exec);

}  // namespace corvid::model
