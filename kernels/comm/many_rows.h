// The sum of many rows that the GPUs have dealt among them (dealt_rows.h), and its norm, on one of them.
//
// Each GPU's kernels have written their partials of this GPU's rows into its mail. A GPU says that it has come this
// far, waits until all have, adds up its own rows, and writes their norms to all; then it says so, and waits again, so
// that behind this kernel every norm is there, and every GPU's mail may be written anew.
#pragma once
#include <cstdint>

#include "kernels/comm/dealt_rows.h"

struct CUstream_st;

namespace corvid::kernels {

// One for each GPU, zeros to begin with. Words that others write, and how often.
struct ManyRowsFlags {
  uint32_t came[kMostGpus], done[kMostGpus];
  uint32_t calls, blocks;
};

struct ManyRows {
  const uint16_t* mail;  // [gpus][most_rows, dim] bf16, rows that are this GPU's
  int64_t most_rows;
  float* x;                         // [all rows, dim], of which this GPU's are added to
  const float* w;                   // null: no norm
  uint16_t* h[kMostGpus];           // of each GPU: [all rows, dim]
  ManyRowsFlags* flags[kMostGpus];  // of each
  int rows, rank, gpus, dim;        // this GPU's rows
  float eps;
  bool may_start_next;  // the next kernel's blocks find a place beside this one's
};

namespace cuda {
void sum_many_rows(const ManyRows& a, int most_blocks, CUstream_st* stream);
}

// How long a GPU waits for another: looks that take more than a minute. Then it is an error here too.
constexpr int kMostLooks = 1 << 27;

}  // namespace corvid::kernels
