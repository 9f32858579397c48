// The forward pass: tokens in, logits out, keys and values into the cache.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/exec.h"
#include "model/config.h"
#include "model/index_weights.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace corvid::model {

// Rows of one pass that keep all processors busy while the activations stay in cache.
inline constexpr int64_t kChunkRows = 512;

// Blocks that a row attends to in models without a choice of their own, when they are to choose (page_select.h).
inline constexpr int64_t kTopPages = 16;

// What lies between the layers, for up to `rows` tokens at a time. Reused by every pass.
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
  std::vector<int32_t> block_ids;              // [rows, n_kv_heads, top_blocks]; made when first needed
  std::vector<int32_t> block_counts;           // [rows, n_kv_heads]
  std::vector<float> logits;                   // [wanted, vocab], when several segments want some
};

// What one sequence has evaluated in a pass.
struct Segment {
  std::span<const Token> tokens;    // all inside the vocabulary
  int64_t first = 0;                // position of tokens[0]
  KvCache* cache = nullptr;         // holds everything before `first`, and has place for all; no two segments' the same
  bool dense = false;               // attend to every position in every layer
  std::span<const int64_t> wanted;  // places in `tokens` whose logits are wanted, ascending
  float* logits = nullptr;          // [wanted, vocab]
  Token* best = nullptr;            // [wanted], instead of logits, which are null then: the likeliest token (best_of())
};

// Evaluates all segments, which want logits, as one batch of rows, at most Activations::rows. The same tokens at the
// same positions give the same bits however they are cut into passes, and whatever else is in the pass. Throws
// std::bad_alloc when memory is short; the positions of this pass hold anything then. `index_weights`: those of the
// format in which the caches keep index keys.
void forward(const Config& config, const Weights& weights, std::span<const Segment> batch, Activations& activations,
             kernels::Exec& exec, const IndexWeights& index_weights = {});

}  // namespace corvid::model
