// The kernel of wide.cu, for all shapes.
#pragma once
#include <algorithm>

#include "kernels/products/wide.cuh"
#include "kernels/products/wide_write.cuh"

namespace corvid::kernels {
enum class Share : uint8_t { x, weights };  // what the blocks of a cluster have in common

constexpr int kStages = 4;
constexpr int kWeightBox = 64;  // rows of weights of an instruction
constexpr int kWeightBoxBytes = kWeightBox * kWideStageK * 2;

// kGroups warpgroups multiply, with kEach boxes of weights each and up to kMost rows of x.
template <Share kSharedPart, int kWarpgroups, int kBoxes, int kMostRows>
struct Shape {
  static constexpr Share kShare = kSharedPart;
  static constexpr int kCluster = 2, kGroups = kWarpgroups, kEach = kBoxes, kMost = kMostRows;
  static constexpr int kRows = kGroups * kEach * kWeightBox;  // of weights, in a block
  static constexpr int kThreads = (kGroups + 1) * 128;

  struct alignas(1024) Stage {
    unsigned char w[kGroups * kEach][kWeightBoxBytes];
    unsigned char x[kMost / kBox][kBoxBytes];
  };
  struct Memory {
    Stage stages[kStages];
    uint64_t full[kStages], empty[kStages];
  };
};

struct WideArgs {
  WideTask task;
  CUtensorMap first, second, x;
  int expert_rows;
  uint64_t w_policy, x_policy;
};

// What of piece `i` is this block's: some of the tile's rows, maybe none, or the next block of weights.
template <class S>
__device__ Piece part_of(const WideTask& a, int i, int n_tiles, int rank) {
  Piece piece = piece_of(a, i, n_tiles);
  if constexpr (S::kShare == Share::weights) {
    const int count = piece.tile.count, each = ((count + S::kCluster - 1) / S::kCluster + 15) / 16 * 16;
    const int from = min(rank * each, count);
    piece.tile.first += from, piece.tile.count = min(each, count - from);
  } else {
    piece.block = piece.block * S::kCluster + rank;
  }
  return piece;
}

template <class S>
__device__ void produce(const WideArgs& a, typename S::Memory& shared, int n_tiles, int rank) {
  constexpr uint16_t kAll = (1 << S::kCluster) - 1;
  constexpr int kSlice = kWeightBox / (S::kShare == Share::weights ? S::kCluster : 1);  // rows that this block fetches
  Ring<kStages> at;
  const bool is_pair = a.task.out == WideProduct::Out::activated;
  const int clusters = static_cast<int>(gridDim.x) / S::kCluster;
  for (int i = static_cast<int>(blockIdx.x) / S::kCluster; i < n_tiles * a.task.blocks; i += clusters) {
    const Piece piece = part_of<S>(a.task, i, n_tiles, rank);
    const int row = piece.tile.expert * a.expert_rows + piece.block * (is_pair ? S::kRows / 2 : S::kRows);
    const int boxes = (piece.tile.count + kBox - 1) / kBox;
    for (int step = 0; step < a.task.steps; ++step, at.next()) {
      auto& s = shared.stages[at.stage];
      uint64_t* full = &shared.full[at.stage];
      ptx::wait(&shared.empty[at.stage], at.parity ^ 1);
      ptx::arrive_expecting(full, S::kGroups * S::kEach * kWeightBoxBytes + boxes * kBoxBytes);
      const int k = step * kWideStageK;
#pragma unroll
      for (int box = 0; box < S::kGroups * S::kEach; ++box) {
        const CUtensorMap& from = is_pair && box % 2 == 1 ? a.second : a.first;
        const int first = row + (is_pair ? box / 2 : box) * kWeightBox;
        if constexpr (S::kShare == Share::weights)
          copy_box_to(kAll, s.w[box] + rank * kSlice * kWideStageK * 2, from, k, first + rank * kSlice, full,
                      a.w_policy);
        else
          copy_box(s.w[box], from, k, first, full, a.w_policy);
      }
      if constexpr (S::kShare == Share::x) {
        for (int box = rank; box < boxes; box += S::kCluster)
          copy_box_to(kAll, s.x[box], a.x, k, piece.tile.first + box * kBox, full, a.x_policy);
      } else {
        for (int box = 0; box < boxes; ++box)
          copy_box(s.x[box], a.x, k, piece.tile.first + box * kBox, full, a.x_policy);
      }
    }
  }
}

// This warp needs the stage no more: said to all blocks that write to it.
template <class S>
__device__ void release(typename S::Memory& shared, int stage, int lane) {
  if (lane < S::kCluster) ptx::arrive_at(&shared.empty[stage], static_cast<uint32_t>(lane));
}

template <class S, int kColumns>
__device__ void multiply_piece(const WideArgs& a, typename S::Memory& shared, const Piece& piece, Ring<kStages>& at) {
  const int thread = static_cast<int>(threadIdx.x) - 128, group = thread / 128, lane = thread % 32;
  float sum[S::kEach][kColumns / 2];
#pragma unroll
  for (int m = 0; m < S::kEach; ++m)
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sum[m][i] = 0;
  int before = -1;
  for (int step = 0; step < a.task.steps; ++step, at.next()) {
    auto& s = shared.stages[at.stage];
    ptx::wait(&shared.full[at.stage], at.parity);
    const uint64_t w = ptx::operand(ptx::shared_address(s.w[group * S::kEach])),
                   x = ptx::operand(ptx::shared_address(s.x));
    ptx::begin_products();
#pragma unroll
    for (int k = 0; k < kWideStageK / 16; ++k)  // 16 numbers are 32 bytes: two units of an operand's address
#pragma unroll
      for (int m = 0; m < S::kEach; ++m) wgmma<kColumns>(sum[m], w + m * (kWeightBoxBytes / 16) + k * 2, x + k * 2);
    ptx::commit_products();
    ptx::wait_products<1>();
    if (before >= 0) release<S>(shared, before, lane);
    before = at.stage;
  }
  ptx::wait_products<0>();
#pragma unroll
  for (int m = 0; m < S::kEach; ++m) ptx::arrived(sum[m]);

  // The last stage's weights of this warpgroup: when its four warps are done, the results go through there.
  unsigned char* between = shared.stages[before].w[group * S::kEach];
  const bool is_pair = a.task.out == WideProduct::Out::activated;
  const int channel = piece.block * (is_pair ? S::kRows / 2 : S::kRows) + group * (is_pair ? 1 : S::kEach) * kWeightBox;
  ptx::sync_warpgroup(group + 1);
  if (is_pair) {
    if constexpr (S::kEach == 2) {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) sum[0][i] = activate(sum[0][i], sum[1][i], a.task.act);
      write_bf16_lines<1, kColumns>(a.task, piece.tile, channel, group, between,
                                    *reinterpret_cast<const float(*)[1][kColumns / 2]>(&sum[0]));
    }
  } else if (a.task.out == WideProduct::Out::bf16) {
    write_bf16_lines<S::kEach, kColumns>(a.task, piece.tile, channel, group, between, sum);
  } else {
    write_float_lines<S::kEach, kColumns>(a.task, piece.tile, channel, group, between, sum);
  }
  ptx::fence_for_engines();
  __syncwarp();
  release<S>(shared, before, lane);
}

// The next larger product that there is code for.
CORVID_HOST_DEVICE constexpr int next_columns(int columns) {
  return columns < 64 ? 64 : columns < 128 ? 128 : columns == 160 ? 192 : columns + 16;
}

// With as few columns as do, kColumns or more.
template <class S, int kColumns>
__device__ void multiply_some(const WideArgs& a, typename S::Memory& shared, const Piece& piece, Ring<kStages>& at) {
  if (piece.tile.count == 0) {
    for (int step = 0; step < a.task.steps; ++step, at.next()) {
      ptx::wait(&shared.full[at.stage], at.parity);
      release<S>(shared, at.stage, static_cast<int>(threadIdx.x) % 32);
    }
  } else if (kColumns == S::kMost || piece.tile.count <= kColumns) {
    multiply_piece<S, kColumns>(a, shared, piece, at);
  } else if constexpr (kColumns < S::kMost) {
    multiply_some<S, next_columns(kColumns)>(a, shared, piece, at);
  }
}

template <class S>
__global__ __launch_bounds__(S::kThreads, 1) void wide_kernel(const __grid_constant__ WideArgs a) {
  extern __shared__ unsigned char raw[];
  auto& shared = *reinterpret_cast<typename S::Memory*>((reinterpret_cast<uintptr_t>(raw) + 1023) / 1024 * 1024);
  if (threadIdx.x == 0) init_ring(shared.full, shared.empty, S::kCluster * S::kGroups * 4);
  const auto rank = static_cast<int>(ptx::cluster_rank());
  ptx::sync_cluster();
  wait_for_previous();
  start_next();
  const int n_tiles = a.task.n_tiles != nullptr ? *a.task.n_tiles : a.task.max_tiles;
  if (threadIdx.x < 128) {
    ptx::release_registers<40>();
    if (threadIdx.x == 0) produce<S>(a, shared, n_tiles, rank);
  } else {
    if constexpr (S::kGroups == 2)
      ptx::claim_registers<232>();
    else
      ptx::claim_registers<152>();
    Ring<kStages> at;
    const int clusters = static_cast<int>(gridDim.x) / S::kCluster, end = n_tiles * a.task.blocks;
    int i = static_cast<int>(blockIdx.x) / S::kCluster;
    Piece next = i < end ? part_of<S>(a.task, i, n_tiles, rank) : Piece{};
    while (i < end) {
      const Piece piece = next;
      i += clusters;
      if (i < end) next = part_of<S>(a.task, i, n_tiles, rank);  // read during this piece's products
      multiply_some<S, 32>(a, shared, piece, at);
    }
  }
  __syncwarp();
  ptx::sync_cluster();  // others may still write here, and say that they need no more
}

// Of the current device. Blocks stay until all is done, so one more would begin when the others have ended.
template <class S>
int clusters_at_once(int shared_bytes) {
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {S::kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(S::kCluster), config.blockDim = dim3(S::kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.attrs = &cluster, config.numAttrs = 1;
  int count = 0;
  cuda::check(cudaOccupancyMaxActiveClusters(&count, wide_kernel<S>, &config), "clusters");
  return count;
}

template <class S>
void launch_wide(const WideProduct& a, int tile, CUstream_st* stream) {
  const int64_t columns = padded_k(DeviceFormat::bf16, a.first.k), rows = panels_of(a.first.n) * kPanelRows;
  const bool is_pair = a.out == WideProduct::Out::activated;
  const auto map = [&](const DeviceMatrix& w) {
    return map_of(w.data, columns, columns, w.n_experts * rows,
                  S::kShare == Share::weights ? kWeightBox / S::kCluster : kWeightBox);
  };
  WideArgs args{.task = wide_task(a, tile, is_pair ? S::kRows / 2 : S::kRows),
                .first = map(a.first),
                .second = is_pair ? map(a.second) : CUtensorMap{},
                .x = map_of(a.x, a.first.k, a.first.k, a.positions, kBox),
                .expert_rows = static_cast<int>(rows),
                .w_policy = kPolicyNormal,
                .x_policy = S::kShare == Share::x && a.tiles != nullptr ? kPolicyLast : kPolicyNormal};
  if (S::kShare == Share::weights) args.task.group = 4;
  if (S::kShare == Share::x) args.task.blocks = (args.task.blocks + S::kCluster - 1) / S::kCluster;
  constexpr int kSharedBytes = sizeof(typename S::Memory) + 1024;
  cuda::allow(wide_kernel<S>, kSharedBytes);
  const int clusters = std::min(clusters_at_once<S>(kSharedBytes), args.task.max_tiles * args.task.blocks);
  cuda::launch("wide_product", wide_kernel<S>,
               {.grid = dim3(static_cast<unsigned>(clusters * S::kCluster)),
                .threads = S::kThreads,
                .shared_bytes = kSharedBytes,
                .stream = stream,
                .cluster = S::kCluster,
                .may_begin_early = true},
               args);
}

using SharesX = Shape<Share::x, 2, 2, 192>;
using SharesWeights = Shape<Share::weights, 2, 2, 192>;
using Narrow = Shape<Share::weights, 3, 1, 128>;

}  // namespace corvid::kernels
