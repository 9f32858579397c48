// The shape of a made-up model that a test evaluates in no time.
#pragma once
#include "model/random_model.h"

namespace corvid::test {

// Dense layers and experts; where the family has sparse attention, blocks so small that some are left out soon.
inline model::RandomShape small_shape(const model::Family& family) {
  return {.family = &family,
          .vocab = 200,
          .dim = 64,
          .layers = 3,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 32,
          .experts = 6,
          .top_k = 2,
          .ffn = 96,
          .dense_ffn = 128,
          .index_dim = 32,
          .block = 8,
          .top_blocks = 3};
}

}  // namespace corvid::test
