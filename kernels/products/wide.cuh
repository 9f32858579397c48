// What the kernels of wide products share: pieces of work, the ring of stages, how results are written.
#pragma once
#include <cudaTypedefs.h>
#include <cuda_bf16.h>

#include <string>

#include "kernels/cuda_check.h"
#include "kernels/feed_forward/activate.cuh"
#include "kernels/launch.cuh"
#include "kernels/products/dependent.cuh"
#include "kernels/products/wgmma.cuh"
#include "kernels/products/wide.h"

namespace corvid::kernels {

constexpr int kWideStageK = 64;  // columns of x in a stage
constexpr int kBox = 32;         // rows of x that are copied at once
constexpr int kBoxBytes = kBox * kWideStageK * 2;
constexpr int kWideThreads = 384;  // a warpgroup to copy, two to multiply

struct WideTask {
  const ExpertTile* tiles;
  const int32_t* n_tiles;
  int tile;   // rows of a tile without a plan
  int group;  // tiles that are done for a block of weights before the next
  int max_tiles, positions, n;
  int steps;   // stages of a piece
  int blocks;  // of weight rows, of an expert
  DealtRows<void> y;
  WideProduct::Out out;
  Activation act;
  XOrder order;
};

// Rows of y, at most kDealtRows from one of them on: they are one GPU's, or two GPUs'.
template <class T>
class RowsOfY {
 public:
  __device__ RowsOfY(const WideTask& a, int first) : n_(a.n), border_((first / kDealtRows + 1) * kDealtRows) {
    const auto base = [&](int row) {  // of a row, where row 0 would be
      return static_cast<T*>(a.y.of[a.y.owner(row)]) + (a.y.place(row) - row) * n_;
    };
    before_ = base(first), behind_ = a.y.gpus > 1 ? base(border_) : before_;
  }
  __device__ T* operator[](int row) const { return (row < border_ ? before_ : behind_) + row * n_; }

 private:
  int64_t n_;
  int border_;
  T *before_, *behind_;
};

// Piece `i` of the call: a tile, and which rows of the weights.
struct Piece {
  ExpertTile tile;
  int block;
};
__device__ inline Piece piece_of(const WideTask& a, int i, int n_tiles) {
  const int group = i / (a.group * a.blocks), in_group = i % (a.group * a.blocks);
  const int tiles = min(a.group, n_tiles - group * a.group), tile = group * a.group + in_group % tiles;
  if (a.tiles != nullptr) return {a.tiles[tile], in_group / tiles};
  return {{0, tile * a.tile, min(a.tile, a.positions - tile * a.tile)}, in_group / tiles};
}

// Where column `column` of a row lies, an even one with its successor behind it.
__device__ inline int place_of(XOrder order, int column) {
  const int in = column % 32;
  if (order == XOrder::plain) return column;
  const int four = order == XOrder::eights ? in / 8 : in % 16 / 4;  // of the lanes that share a row
  const int instruction = order == XOrder::eights ? in % 8 / 4 : in / 16;
  return column - in + instruction * 16 + in % 4 / 2 * 8 + four * 2;
}

// A stage of a ring is full when the bytes have come that its one producer has announced, and empty when all `readers`
// need it no more. One thread calls this before the block, or the cluster, is synchronised.
template <int kStages>
__device__ void init_ring(uint64_t (&full)[kStages], uint64_t (&empty)[kStages], int readers) {
  for (int s = 0; s < kStages; ++s) ptx::init_barrier(&full[s], 1), ptx::init_barrier(&empty[s], readers);
  ptx::publish_barriers();
}
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// Writes the first `kColumns` rows of x of a piece. `channel`: of the warp's first row of weights; sums as wgmma has
// them.
// kHalves: only the first 8 of the warp's 16, or all.
template <int kColumns, int kHalves = 2>
__device__ void write_bf16(const WideTask& a, const ExpertTile& tile, int channel, int lane,
                           const float (&sum)[kColumns / 2]) {
  static_assert(kColumns <= kDealtRows);
  const RowsOfY<uint16_t> y(a, tile.first);
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const __nv_bfloat162 two = __floats2bfloat162_rn(sum[j * 4 + half * 2], sum[j * 4 + half * 2 + 1]);
      const uint32_t pair = transpose(*reinterpret_cast<const uint32_t*>(&two));
      const int row = j * 8 + lane / 4, column = channel + half * 8 + lane % 4 * 2;
      if (row >= tile.count || column >= a.n) continue;
      auto* to = y[tile.first + row] + place_of(a.order, column);
      if (a.n % 2 == 0) {
        *reinterpret_cast<uint32_t*>(to) = pair;
      } else {
        to[0] = static_cast<uint16_t>(pair);
        if (column + 1 < a.n) to[1] = static_cast<uint16_t>(pair >> 16);
      }
    }
}
template <int kColumns>
__device__ void write_floats(const WideTask& a, const ExpertTile& tile, int channel, int lane,
                             const float (&sum)[kColumns / 2]) {
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = i / 4 * 8 + lane % 4 * 2 + i % 2, column = channel + i % 4 / 2 * 8 + lane / 4;
    if (row >= tile.count || column >= a.n) continue;
    float* to = static_cast<float*>(a.y.of[0]) + (int64_t{tile.first} + row) * a.n + column;
    *to = a.out == WideProduct::Out::add_f32 ? *to + sum[i] : sum[i];
  }
}

// bf16 numbers: sizes and boxes from the numbers that lie side by side on, strides in bytes from the next dimension on.
template <int kDimensions>
CUtensorMap tensor_map(const void* data, const int64_t (&sizes)[kDimensions], const int64_t (&strides)[kDimensions - 1],
                       const int64_t (&box)[kDimensions], CUtensorMapSwizzle swizzle) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    cuda::check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
                "cuTensorMapEncodeTiled");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  }();
  cuuint64_t all_sizes[kDimensions], all_strides[kDimensions - 1];
  cuuint32_t boxes[kDimensions], steps[kDimensions];
  for (int i = 0; i < kDimensions; ++i) {
    all_sizes[i] = static_cast<cuuint64_t>(sizes[i]), boxes[i] = static_cast<cuuint32_t>(box[i]), steps[i] = 1;
    if (i > 0) all_strides[i - 1] = static_cast<cuuint64_t>(strides[i - 1]);
  }
  CUtensorMap map;
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kDimensions, const_cast<void*>(data),
                                 all_sizes, all_strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(result));
  return map;
}
// Rows of `columns` numbers, `stride` apart, in boxes of 64 columns.
inline CUtensorMap map_of(const void* data, int64_t columns, int64_t stride, int64_t rows, int64_t box_rows) {
  return tensor_map<2>(data, {columns, rows}, {stride * 2}, {kWideStageK, box_rows}, CU_TENSOR_MAP_SWIZZLE_128B);
}

inline WideTask wide_task(const WideProduct& a, int tile, int block_rows) {
  const bool has_plan = a.tiles != nullptr;
  return {.tiles = a.tiles,
          .n_tiles = a.n_tiles,
          .tile = tile,
          .group = 8,
          .max_tiles = static_cast<int>(has_plan ? a.max_tiles : (a.positions + tile - 1) / tile),
          .positions = static_cast<int>(a.positions),
          .n = static_cast<int>(a.first.n),
          .steps = static_cast<int>(padded_k(a.first.format, a.first.k) / kWideStageK),
          .blocks = static_cast<int>((a.first.n + block_rows - 1) / block_rows),
          .y = a.y,
          .out = a.out,
          .act = a.act,
          .order = a.order};
}

}  // namespace corvid::kernels
