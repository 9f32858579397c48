// The kernel of wide.cu, for all shapes.
#pragma once
#include <algorithm>
#include <limits>
#include <span>

#include "kernels/products/wide_parts.cuh"
#include "kernels/products/wide_write.cuh"

namespace corvid::kernels {

template <class S>
class Producer {
 public:
  __device__ Producer(const WideArgs<S>& a, typename S::Memory& shared, int rank)
      : a_(a), shared_(shared), rank_(rank), is_pair_(a.tasks[0].out == WideProduct::Out::activated) {}

  __device__ void run() {
    const int steps = a_.tasks[0].steps;
    // Where there is no plan to wait for, the first weights come while the kernel before ends.
    const int early = a_.tasks[0].n_tiles == nullptr ? min(kStages, steps) : 0;
    if (early > 0) {
      const Part piece = Parts<S>(a_, shared_, tiles_of(a_), rank_).now();
      for (int step = 0; step < early; ++step) copy_weights(piece, step, step);
      wait_for_previous();
      for (int step = 0; step < early; ++step) copy_x(piece, step, step);
    } else {
      wait_for_previous();
    }
    Ring<kStages> at;
    for (int step = 0; step < early; ++step) at.next();
    Parts<S> parts(a_, shared_, tiles_of(a_), rank_);
    for (int first = early; parts.has_one(); parts.next(), first = 0) {
      parts.ask();
      for (int step = first; step < steps; ++step, at.next()) {
        ptx::wait(&shared_.empty[at.stage], at.parity ^ 1);
        copy_weights(parts.now(), step, at.stage);
        copy_x(parts.now(), step, at.stage);
        if (step == min(1, steps - 1)) parts.send();
      }
    }
  }

 private:
  static constexpr uint16_t kAll = (1 << S::kCluster) - 1;
  static constexpr int kSlice = kWeightBox / (S::kShare == Share::weights ? S::kCluster : 1);  // rows of this block

  __device__ static int boxes_of(const Part& piece) { return (piece.tile.count + kBox - 1) / kBox; }
  // Says what comes of both.
  __device__ void copy_weights(const Part& piece, int step, int stage) {
    auto& s = shared_.stages[stage];
    uint64_t* full = &shared_.full[stage];
    ptx::arrive_expecting(full, S::kGroups * S::kEach * kWeightBoxBytes + boxes_of(piece) * kBoxBytes);
    const int row = piece.tile.expert * a_.expert_rows + piece.block * (is_pair_ ? S::kRows / 2 : S::kRows);
#pragma unroll
    for (int box = 0; box < S::kGroups * S::kEach; ++box) {
      constexpr int kHalf = S::kGroups * S::kEach / 2;
      const bool is_second = is_pair_ && (S::kPairs ? box >= kHalf : box % 2 == 1);
      const CUtensorMap& from = is_second ? a_.second : a_.first[piece.matrix];
      const int first = row + (!is_pair_ ? box : S::kPairs ? box % kHalf : box / 2) * kWeightBox;
      if constexpr (S::kShare == Share::weights)
        copy_box_to(kAll, s.w[box] + rank_ * kSlice * kWideStageK * 2, from, step * kWideStageK, first + rank_ * kSlice,
                    full, a_.w_policy);
      else
        copy_box(s.w[box], from, step * kWideStageK, first, full, a_.w_policy);
    }
  }
  __device__ void copy_x(const Part& piece, int step, int stage) {
    auto& s = shared_.stages[stage];
    uint64_t* full = &shared_.full[stage];
    const int boxes = boxes_of(piece);
    for (int box = S::kShare == Share::x ? rank_ : 0; box < boxes; box += S::kShare == Share::x ? S::kCluster : 1) {
      if constexpr (S::kShare == Share::x)
        copy_box_to(kAll, s.x[box], a_.x, step * kWideStageK, piece.tile.first + box * kBox, full, a_.x_policy);
      else
        copy_box(s.x[box], a_.x, step * kWideStageK, piece.tile.first + box * kBox, full, a_.x_policy);
    }
  }

  const WideArgs<S>& a_;
  typename S::Memory& shared_;
  const int rank_;
  const bool is_pair_;
};

// This warp needs the stage no more: said to all blocks that write to it.
template <class S>
__device__ void release(typename S::Memory& shared, int stage, int lane) {
  if (lane < S::kCluster) ptx::arrive_at(&shared.empty[stage], static_cast<uint32_t>(lane));
}

template <class S, int kColumns>
__device__ void multiply_piece(const WideArgs<S>& a, typename S::Memory& shared, const Part& piece, Ring<kStages>& at) {
  const WideTask& task = a.tasks[piece.matrix];
  const int thread = static_cast<int>(threadIdx.x) - 128, group = thread / 128, lane = thread % 32;
  float sum[S::kEach][kColumns / 2];
#pragma unroll
  for (int m = 0; m < S::kEach; ++m)
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sum[m][i] = 0;
  int before = -1;
  for (int step = 0; step < a.tasks[0].steps; ++step, at.next()) {
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
  const bool is_pair = task.out == WideProduct::Out::activated;
  const int channel = piece.block * (is_pair ? S::kRows / 2 : S::kRows) + group * (is_pair ? 1 : S::kEach) * kWeightBox;
  ptx::sync_warpgroup(group + 1);
  if (is_pair) {
    if constexpr (S::kEach == 2) {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) sum[0][i] = activate(sum[0][i], sum[1][i], task.act);
      write_bf16_lines<1, kColumns>(task, piece.tile, channel, group, between,
                                    *reinterpret_cast<const float(*)[1][kColumns / 2]>(&sum[0]));
    }
  } else if (task.out == WideProduct::Out::bf16) {
    write_bf16_lines<S::kEach, kColumns>(task, piece.tile, channel, group, between, sum);
  } else {
    write_float_lines<S::kEach, kColumns>(task, piece.tile, channel, group, between, sum);
  }
  ptx::fence_for_engines();
  __syncwarp();
  release<S>(shared, before, lane);
}

// 64 rows of x times 128 of gate and 128 of up, one behind the other, of which a thread then has the same channels.
template <class S>
__device__ void multiply_pairs(const WideArgs<S>& a, typename S::Memory& shared, const Part& piece, Ring<kStages>& at) {
  const WideTask& task = a.tasks[0];
  const int thread = static_cast<int>(threadIdx.x) - 128, group = thread / 128, lane = thread % 32;
  constexpr int kColumns = S::kRows, kBoxes = 64 / kBox;
  float sum[kColumns / 2];
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) sum[i] = 0;
  int before = -1;
  for (int step = 0; step < task.steps; ++step, at.next()) {
    auto& s = shared.stages[at.stage];
    ptx::wait(&shared.full[at.stage], at.parity);
    const uint64_t w = ptx::operand(ptx::shared_address(s.w)),
                   x = ptx::operand(ptx::shared_address(s.x[group * kBoxes]));
    ptx::begin_products();
#pragma unroll
    for (int k = 0; k < kWideStageK / 16; ++k) wgmma<kColumns>(sum, x + k * 2, w + k * 2);
    ptx::commit_products();
    ptx::wait_products<1>();
    if (before >= 0) release<S>(shared, before, lane);
    before = at.stage;
  }
  ptx::wait_products<0>();
  ptx::arrived(sum);
  float m[kColumns / 4];
#pragma unroll
  for (int i = 0; i < kColumns / 4; ++i) m[i] = activate(sum[i], sum[i + kColumns / 4], task.act);
  ptx::sync_warpgroup(group + 1);
  write_bf16_rows(task, piece.tile, group * 64, piece.block * (kColumns / 2), shared.stages[before].x[group * kBoxes],
                  m);
  ptx::fence_for_engines();
  __syncwarp();
  release<S>(shared, before, lane);
}

// The next larger product that there is code for.
template <class S>
CORVID_HOST_DEVICE constexpr int next_columns(int columns) {
  if (S::kMost == 256) return columns < 64 ? 64 : columns + 64;
  return columns < 64 ? 64 : columns < 128 ? 128 : columns == 160 ? 192 : columns + 16;
}

// With as few columns as do, kColumns or more.
template <class S, int kColumns>
__device__ void multiply_some(const WideArgs<S>& a, typename S::Memory& shared, const Part& piece, Ring<kStages>& at) {
  const int first = S::kPairs ? (static_cast<int>(threadIdx.x) - 128) / 128 * 64 : 0;  // of this warpgroup's rows
  if (piece.tile.count <= first) {
    for (int step = 0; step < a.tasks[0].steps; ++step, at.next()) {
      ptx::wait(&shared.full[at.stage], at.parity);
      release<S>(shared, at.stage, static_cast<int>(threadIdx.x) % 32);
    }
  } else if constexpr (S::kPairs) {
    multiply_pairs<S>(a, shared, piece, at);
  } else if (kColumns == S::kMost || piece.tile.count <= kColumns) {
    multiply_piece<S, kColumns>(a, shared, piece, at);
  } else if constexpr (kColumns < S::kMost) {
    multiply_some<S, next_columns<S>(kColumns)>(a, shared, piece, at);
  }
}

template <class S>
__global__ __launch_bounds__(S::kThreads, 1) void wide_kernel(const __grid_constant__ WideArgs<S> a) {
  extern __shared__ unsigned char raw[];
  auto& shared = *reinterpret_cast<typename S::Memory*>((reinterpret_cast<uintptr_t>(raw) + 1023) / 1024 * 1024);
  if (threadIdx.x == 0) {
    for (uint64_t& barrier : shared.given_full) ptx::init_barrier(&barrier, 1);
    init_ring(shared.full, shared.empty, S::kCluster * S::kGroups * 4);
  }
  const auto rank = static_cast<int>(ptx::cluster_rank());
  ptx::sync_cluster();
  start_next();
  if (threadIdx.x < 128) {
    ptx::release_registers<40>();
    if (threadIdx.x == 0) Producer<S>(a, shared, rank).run();
  } else {
    ptx::claim_registers<232>();
    wait_for_previous();
    Ring<kStages> at;
    for (Parts<S> parts(a, shared, tiles_of(a), rank); parts.has_one(); parts.next())
      multiply_some<S, 32>(a, shared, parts.now(), at);
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

// Of one x, at most S::kMatrices products.
template <class S>
void launch_wide(std::span<const WideProduct> all, int tile, CUstream_st* stream) {
  const WideProduct& a = all.front();
  const int64_t columns = padded_k(DeviceFormat::bf16, a.first.k), expert_rows = panels_of(a.first.n) * kPanelRows;
  const bool is_pair = a.out == WideProduct::Out::activated;
  const auto map = [&](const DeviceMatrix& w) {
    return map_of(w.data, columns, columns, w.n_experts * panels_of(w.n) * kPanelRows,
                  S::kShare == Share::weights ? kWeightBox / S::kCluster : kWeightBox);
  };
  WideArgs<S> args{.tasks = {},
                   .first = {},
                   .second = is_pair ? map(a.second) : CUtensorMap{},
                   .x = map_of(a.x, a.first.k, a.first.k, a.positions, kBox),
                   .first_block = {},
                   .taken = a.taken,
                   .expert_rows = static_cast<int>(expert_rows),
                   .w_policy = kPolicyNormal,
                   .x_policy = S::kShare == Share::x && a.tiles != nullptr ? kPolicyLast : kPolicyNormal};
  int blocks = 0;
  for (int m = 0; m < S::kMatrices; ++m) {
    args.first_block[m] = std::numeric_limits<int>::max();
    if (m >= std::ssize(all)) continue;
    args.tasks[m] = wide_task(all[m], tile, is_pair ? S::kRows / 2 : S::kRows);
    args.first[m] = map(all[m].first);
    args.first_block[m] = blocks;
    blocks += S::kShare == Share::x ? (args.tasks[m].blocks + S::kCluster - 1) / S::kCluster : args.tasks[m].blocks;
  }
  args.tasks[0].blocks = blocks;
  if (S::kShare == Share::weights) args.tasks[0].group = 4;
  constexpr int kSharedBytes = sizeof(typename S::Memory) + 1024;
  cuda::allow(wide_kernel<S>, kSharedBytes);
  const int clusters = std::min(clusters_at_once<S>(kSharedBytes), args.tasks[0].max_tiles * blocks);
  cuda::launch("wide_product", wide_kernel<S>,
               {.grid = dim3(static_cast<unsigned>(clusters * S::kCluster)),
                .threads = S::kThreads,
                .shared_bytes = kSharedBytes,
                .stream = stream,
                .cluster = S::kCluster,
                .may_begin_early = true},
               args);
}

using SharesX = Shape<Share::x, 2, 2, 192, 1>;
using SharesWeights = Shape<Share::weights, 2, 2, 192, 1>;
using Pairs = Shape<Share::weights, 2, 2, 128, 1, true>;
using Dense = Shape<Share::x, 2, 1, 256, kMostWide>;

}  // namespace corvid::kernels
