// What the kernels of attention on a GPU are told of their call, whichever they are.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/sparse_attention/paged.h"

namespace corvid::kernels {

struct AttentionArgs {
  const int32_t* seq;
  const int32_t* pos;
  const int32_t* pages;
  const uint16_t* q;
  const std::byte* keys;
  const std::byte* values;
  uint16_t* o;
  int64_t page_bytes;
  int max_pages, n_heads, n_kv_heads;
  float scale_log2;  // scale / log(2)
};

inline AttentionArgs attention_args(const PagedAttention& a) {
  return {a.rows.seq,
          a.rows.pos,
          a.rows.pages,
          a.q,
          a.keys,
          a.values,
          a.o,
          a.page_bytes,
          static_cast<int>(a.rows.max_pages),
          static_cast<int>(a.n_heads),
          static_cast<int>(a.n_kv_heads),
          a.scale * 1.44269504F};
}

}  // namespace corvid::kernels
