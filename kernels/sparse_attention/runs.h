// Attention of runs: which kernels serve them, and what these keep in their workspace.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/sparse_attention/paged.h"

namespace corvid::kernels {

// Sparse attention of a run goes by blocks of keys: each is loaded once for all the queries that chose it, and a
// query's shares meet at the end. At most this many rows at a time, because of the shares' memory.
constexpr int64_t kShareRows = 4096;
constexpr int64_t kItemQueries = 128;  // of one block of keys, for one block of threads

constexpr bool can_share_blocks(const PagedAttention& a) {
  const int64_t group = a.n_heads / a.n_kv_heads;
  return a.head_dim == 128 && a.block == 128 && group <= 64 && 64 % group == 0;
}

// Offsets in bytes of the parts of the workspace, for `rows` rows that see less than max_keys keys.
struct Shares {
  int64_t rows, lists, entries, items;  // lists: (kv head, block); entries: (row, kv head, slot)
  int64_t results = 0, weights, counts, offsets, item_count, item_list, places, entry_list, end;

  constexpr Shares(const PagedAttention& a, int64_t rows_, int64_t max_keys)
      : rows(rows_),
        lists(a.n_kv_heads * ((max_keys + a.block - 1) / a.block)),
        entries(rows_ * a.n_kv_heads * a.top_k),
        items(lists + entries / kItemQueries) {
    const auto behind = [](int64_t begin, int64_t bytes) { return (begin + bytes + 127) / 128 * 128; };
    weights = behind(results, rows * a.n_heads * a.top_k * a.head_dim * 2);
    counts = behind(weights, rows * a.n_heads * a.top_k * 4);
    offsets = behind(counts, lists * 4);
    item_count = behind(offsets, lists * 4);
    item_list = behind(item_count, 4);
    places = behind(item_list, items * 16);
    entry_list = behind(places, entries * 4);
    end = behind(entry_list, entries * 4);
  }
};

constexpr bool can_flash(const PagedAttention& a) { return a.head_dim == 128 && a.block == 128; }

// Runs that no kernel of their own serves go through the decode kernels, this many rows at a time.
constexpr int64_t kDecodeRows = 256;

namespace cuda {
void attend_run_by_blocks(const PagedAttention& a, const PrefillRun& run, CUstream_st* stream);
// Of the rows at positions before `end`.
void attend_run_densely(const PagedAttention& a, const PrefillRun& run, int64_t end, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
