// How several GPUs share a model (tensor parallelism): which heads, rows and columns each of them has.
//
//   attention     KV heads with their query heads and, where blocks are selected, their index head; of the output
//                 matrix the columns of those heads. Each GPU has the keys and values of its heads, and all index keys.
//   feed-forward  a part of the width of every expert, the shared and the dense ones too: rows of gate and up, columns
//                 of down. So each token's work is even whatever experts it takes, and at batch 1 each GPU reads its
//                 part of the bytes; of 8 whole experts the fuller of two GPUs would have 5.1 on average. Where a
//                 format's blocks don't allow such a cut (Q4_K has 256 columns in one) a GPU has whole experts instead;
//                 parts of block fp8 that cut its blocks are bf16 where that is not possible either.
//   logits        rows of the vocabulary.
//   everything else (norms, router, embedding, index keys' matrix) each GPU has whole.
//
// Behind the attention's output and behind the feed-forward the GPUs' sums are added up (kernels/comm/all_reduce.h),
// and before norms over all heads together (MiniMax-M2's) the sums of their squares.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device_matrix/part.h"
#include "model/config.h"
#include "model/weights.h"

namespace corvid::model {

// One of the GPUs that share a model; alone it has everything.
struct GpuShare {
  int64_t index = 0, count = 1;
  bool whole_experts = false;

  // The part of `whole`, a multiple of count, that this one has.
  int64_t first(int64_t whole) const { return whole / count * index; }
  int64_t size(int64_t whole) const { return whole / count; }
  // Logits: whole panels of rows, so that a tied output matrix is a part of the embedding.
  int64_t first_logit(int64_t vocab) const;
  int64_t logits(int64_t vocab) const;

  // The sizes that this GPU computes with: heads, widths, logits. Routing is over all experts.
  Config config(const Config& whole) const;
};

// The shares of so many GPUs; throws std::runtime_error where share_obstacle() has something to say.
std::vector<GpuShare> shares_of(const Config& config, const Weights& weights, int64_t gpus);
// What of a model does not divide among so many GPUs.
std::optional<std::string> share_obstacle(const Config& config, const Weights& weights, int64_t gpus);

// Which part of a matrix a GPU has.
enum class Cut : uint8_t { whole, rows, columns, experts, logits };
kernels::MatrixPart part_of(const GpuShare& share, Cut cut, int64_t n, int64_t k, int64_t n_experts);

}  // namespace corvid::model
