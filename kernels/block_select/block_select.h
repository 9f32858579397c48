// MSA's choice of key blocks: for each row and index head, the blocks whose best key scores highest.
//
//   S(r,h,b)  = max over the keys j of block b with j <= pos[r] of <q[r,h], key[j]>
//   local     = the last local_blocks blocks that the row sees: always chosen, and each takes one of the top_k slots
//   nb        = pos[r] / block + 1, the blocks that the row sees
//   chosen    = the min(top_k, nb) first blocks by (local first, S descending, block id ascending)
//
//   Shapes   q: [rows, n_heads, dim]; key_pages: key pages of one head (kv_pages.h) in `format`; pos: [rows], host
//            memory; ids: [rows, n_heads, top_k] ascending, filled up with -1; counts: [rows, n_heads].
//   Needs    rows >= 0; n_heads, dim, block >= 1; 1 <= local_blocks <= top_k; 0 <= pos[r] < n_keys, every page that a
//            row sees present. Blocks are anchored to position 0.
//   Numbers  Scores in float32, |S - exact| <= block_select_tolerance(dim) * max_j sum_i |q_i key_ji|; a choice may
//            differ from the exact one only among blocks whose scores lie that close. NaN scores count as -inf. Rows
//            that see at most top_k blocks choose all of them and compute no scores. Keys in f16 and bf16 become
//            float32 exactly, in registers. Where keys are in q8_0, queries are rounded to 8 bits too (query8.h), and
//            32 products at a time are summed exactly: "exact" is about keys and queries as they meet.
//   Order    A row's choice depends on that row, the keys it sees and the tier alone; with q8_0 not on the tier either.
//   Memory   Scores of [rows, n_heads, nb] and queries in 8 bits, some 4 MiB at once; never rows x keys.
//   Tried    Bounds of blocks and of parts of them, to leave unread what cannot win: with the model that ships they
//            are more bytes than they save (docs/attention.md), so all is read.
#pragma once
#include <cfloat>
#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/kv_pages/kv_pages.h"

namespace corvid::kernels {

struct BlockSelect {
  const float* q;
  const PageHeads* key_pages;
  const int64_t* pos;
  int32_t* ids;
  int32_t* counts;
  int64_t rows, n_heads, dim, block, n_keys, top_k, local_blocks;
  Format format = Format::f32;  // of the keys
};

constexpr double block_select_tolerance(int64_t dim) { return (double(dim) + 4) * FLT_EPSILON; }

void block_select(const BlockSelect& a, Exec& exec);  // CPU only for now
// The rows of several sequences, each with pages of its own, in one go: the threads meet once and share all the work.
void block_select(std::span<const BlockSelect> all, Exec& exec);
namespace cpu {
void block_select(std::span<const BlockSelect> all, Isa isa, Pool& pool);
}
// scores: [rows, n_heads, blocks] with blocks = ceil(n_keys / block); -inf where a row sees nothing, +inf for local
// blocks.
namespace ref {
void block_select(const BlockSelect& a, int32_t* ids, int32_t* counts, double* scores);
}

}  // namespace corvid::kernels
