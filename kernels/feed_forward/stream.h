// The feed-forward products of few rows, each weight read from memory once: gate and up with the activation, and down.
#pragma once
#include <cstdint>

#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/feed_forward/plan.h"
#include "kernels/products/products.h"

namespace corvid::kernels {

// Positions of a tile for products of so many rows, with the rows evenly spread over the experts.
int64_t stream_tile(int64_t rows, int64_t top_k, int64_t n_experts);

// For each position: its row of `x` times the matrices of its expert. Without a plan (tiles == nullptr): one expert,
// and the positions are the rows.
struct ExpertStream {
  const uint16_t* x;
  DeviceMatrix first, second;                // gate and up; or down alone
  const void *shared_first, *shared_second;  // of the expert after the last, or null; the same shape and format
  ExpertPlan plan;
  bool gather;  // the row of x is the position's row, not the position
  int64_t rows, tile, max_tiles, top_k;
  uint16_t* m;  // [positions, n] bf16: act(gate, up)
  float* out;   // [positions, n] float32: down
  bool add;     // out += the result
  Activation act;
  bool is_rounded;      // x is on the grid of products/grid.cuh
  bool rounds = false;  // m goes there, too: may_round()
};

// Whether gate and up, with `slots` experts for each row, can round what they make: 32 numbers are in one block.
bool may_round(const DeviceMatrix& gate, int64_t slots);

namespace cuda {
void expert_stream(const ExpertStream& a, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
