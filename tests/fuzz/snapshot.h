// What the snapshot target and its seeds agree on: the model, and where the header's fields end (model/kv_snapshot.h).
#pragma once
#include "tests/support/sequences.h"

namespace corvid::fuzz {

inline constexpr size_t kSnapshotFields = 40, kSnapshotHeader = 4096;
inline constexpr int64_t kSnapshotMaxTokens = 12;

// Small, with a sparse layer after a dense one; blocks of four positions.
inline test::TinyCheckpoint snapshot_model() {
  return {.vocab = 16,
          .dim = 16,
          .heads = 2,
          .kv_heads = 1,
          .head_dim = 8,
          .rotary_dim = 4,
          .index_heads = 1,
          .index_dim = 8,
          .block = 4,
          .top_blocks = 2,
          .dense_ffn = 16,
          .experts = 2,
          .top_k = 1,
          .expert_ffn = 16,
          .shared_ffn = 16,
          .sparse = {0, 1},
          .moe = {0, 1}};
}

}  // namespace corvid::fuzz
