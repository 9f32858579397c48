// The rows of a batch as the GPU's attention kernels see them: which sequence each belongs to, where it stands there,
// and in which pages that sequence's keys and values lie.
//
//   slot s of the pool      begins s * page_bytes behind a layer's base pointer; it holds one block of positions
//     keys, values          [n_kv_heads][block][head_dim] bf16, row-major
//     index keys            [block][index_dim] bf16, or e4m3 (saturating, no scale)
//   pages[seq][b]           the slot of the block of positions [b * block, (b + 1) * block) of a sequence
//
// Base pointers and page_bytes are multiples of 128 bytes. Positions of a page that are not stored yet may hold
// anything, NaN included. Everything that depends on lengths is read on the device, so that a captured graph can be
// replayed with new values in the same arrays; max_keys only sizes the grids, and what it covers in vain returns at
// once. seq, pos and pages are not written by a kernel just before, and of a sequence at most its last `rows` positions
// are: the others are read while that kernel may still run.
#pragma once
#include <cstdint>
#include <span>

namespace corvid::kernels {

// Rows [row, row + rows) of a batch: consecutive positions of one sequence, all below max_keys. What is worth tiles of
// many queries that share keys: some 64 rows and more.
struct PrefillRun {
  int64_t row, rows, max_keys;
};

struct PagedRows {
  const int32_t* seq;    // [rows], device: the row's line of `pages`
  const int32_t* pos;    // [rows], device: the row's position, and the last that it sees; < 0: an idle row
  const int32_t* pages;  // [sequences, max_pages], device
  int64_t rows;
  int64_t max_pages;
  int64_t decode_rows;                 // rows [0, decode_rows): any sequences and positions, several of one allowed
  int64_t max_keys;                    // decode rows have pos < max_keys
  std::span<const PrefillRun> runs{};  // host memory: the other rows, each in exactly one run; no idle rows in them
};

}  // namespace corvid::kernels
