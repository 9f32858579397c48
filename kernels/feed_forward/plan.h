// Which rows each expert of a call has: the rows sorted by expert, and the pieces of work that this makes. On the
// device.
//
//   A pair is a row and one of its slots; the pairs of this GPU's experts have the positions 0, 1, ... in the order of
//   (expert, row). With a shared expert, counted as expert n_experts, each row has one slot more, and the pairs of that
//   slot come last.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace corvid::kernels {

// Up to `tile` consecutive positions of one expert.
struct ExpertTile {
  int32_t expert, first, count;
};

struct ExpertPlan {
  int32_t* n_tiles;   // [4 + n_experts]; behind it, the position of each expert's first pair, the end, and two zeros
  ExpertTile* tiles;  // [max_tiles]; ascending by expert
  int32_t* rows;      // [positions]: the row at a position
  int32_t* pos;       // [rows, slots]: the position of a pair, -1 where the expert is another GPU's
};

struct ExpertPlanShape {
  int64_t rows, top_k, n_experts, tile;
  bool shared;

  int64_t plan_numbers() const { return 4 + n_experts; }  // at ExpertPlan::n_tiles
  int64_t slots() const { return top_k + (shared ? 1 : 0); }
  int64_t positions() const { return rows * slots(); }
  int64_t max_tiles() const {
    const int64_t pairs = rows * top_k, in_use = pairs < n_experts ? pairs : n_experts;
    return in_use + pairs / tile + (shared ? (rows + tile - 1) / tile : 0);
  }
};

namespace cuda {
// ids: [rows, top_k], as in FeedForward.
void plan_experts(const int32_t* ids, int64_t first_expert, const ExpertPlanShape& shape, const ExpertPlan& plan,
                  CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
