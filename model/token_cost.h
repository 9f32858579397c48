// What one token costs: the bytes that must be read for it and the multiplications, from the model's sizes alone. No
// program can decode faster than these bytes come out of memory.
#pragma once
#include <cstdint>

#include "model/config.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace corvid::model {

// Means over the tokens asked for. Norms and what stays in the caches between two layers are left out: together less
// than a hundredth.
struct TokenCost {
  double expert_bytes = 0;  // the routed experts that a token takes
  double weight_bytes = 0;  // all other matrices between embedding and output
  double output_bytes = 0;  // the output matrix
  double kv_bytes = 0;      // keys and values of the positions attended to
  double index_bytes = 0;   // index keys of the positions among which blocks are chosen
  double multiply_adds = 0;

  double bytes() const { return expert_bytes + weight_bytes + output_bytes + kv_bytes + index_bytes; }
};

// Tokens at positions [first, first + count), each with its logits, in passes of `batch` tokens of as many sequences:
// these share the weights that they read, and the experts as far as independent choices coincide.
TokenCost token_cost(const Config& config, const Weights& weights, int64_t first, int64_t count, int64_t batch,
                     bool dense, CacheFormat cache_format = {});

}  // namespace corvid::model
