// block_select on the GPU: for rows of a batch, over pages (paged_rows.h). The rule is block_select.h's, word for word.
//
//   Shapes   device memory: q: [rows, n_heads, dim] bf16; index_keys: slot 0's index keys of this layer, [block, dim]
//            in `format`; ids: [rows, n_heads, top_k] ascending, filled up with -1; counts: [rows, n_heads]. An idle
//            row gets counts of 0 and ids of -1.
//   Needs    n_heads, dim, block >= 1, dim a multiple of 16 and at most 256, block a multiple of 16, 1 <= local_blocks
//            <= top_k <= 64; every page that a row sees present.
//   Numbers  Products of bf16 are exact, sums float32: block_select_tolerance(dim) holds for the keys as stored.
//   Against
//            e4m3 keys, q is taken to half precision, which is exact for 2^-14 <= |q| <= 65504.
//   Order    A row's choice depends on that row, the keys it sees, and whether it is a decode row or in a run.
//   Memory   `workspace`: block_select_workspace() bytes, 128-byte aligned, contents don't matter before or after.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/block_select/block_select.h"
#include "kernels/paged_rows.h"

struct CUstream_st;  // cudaStream_t without CUDA's headers

namespace corvid::kernels {

enum class IndexFormat : uint8_t { bf16, e4m3 };

struct PagedBlockSelect {
  PagedRows rows;
  const uint16_t* q;
  const std::byte* index_keys;
  int64_t page_bytes;
  int32_t* ids;
  int32_t* counts;
  int64_t n_heads, dim, block, top_k, local_blocks;
  IndexFormat format = IndexFormat::bf16;
  std::byte* workspace = nullptr;
};

// Of the shape alone: pointers may be null. Grows with decode_rows * max_keys, bounded for runs; a size that serves
// max_keys and rows serves less of either.
int64_t block_select_workspace(const PagedBlockSelect& a);

namespace cuda {
void block_select(const PagedBlockSelect& a, CUstream_st* stream);
}

}  // namespace corvid::kernels
