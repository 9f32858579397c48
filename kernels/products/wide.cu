// Up to 192 rows of x times 256 rows of weights in a block, the weights being the first operand, so that the rows of x
// need only be a multiple of 32. One thread feeds a ring of stages through the copy engine; two warpgroups multiply, 2
// x 64 rows of weights each. Blocks stay, and take piece after piece, so that the next piece's stages arrive during
// this one's end.
//
// Pieces go through the weights for eight tiles of rows at a time, which the level-2 cache then holds. Weights of an
// expert with no more than 192 rows are read once: with tiles of 128, half of the experts' second tiles read them
// again, and 4,096 rows of MiniMax-M3 took 8.9 ms on an H100 in place of 6.4. There its memory is what binds: 17 GB
// at 2.9 TB/s. Hints to the cache (weights out first, x last) made it slower, and so did tile after tile of experts in
// place of eight.
#include <algorithm>

#include "kernels/products/wide.cuh"

namespace corvid::kernels {
namespace {

constexpr int kStages = 4, kWeightRows = 256;
constexpr int kWeightBytes = kWeightRows * kWideStageK * 2;

struct alignas(1024) Stage {
  unsigned char w[4][kWeightBytes / 4];  // 64 rows each: two of the first warpgroup, two of the second
  unsigned char x[wide_tile(DeviceFormat::bf16) / kBox][kBoxBytes];
};
struct Shared {
  Stage stages[kStages];
  uint64_t full[kStages], empty[kStages];
};

struct WideArgs {
  WideTask task;
  CUtensorMap first, second, x;
  int expert_rows;
};

__device__ void produce(const WideArgs& a, Shared& shared, int n_tiles) {
  Ring<kStages> at;
  const bool is_pair = a.task.out == WideProduct::Out::activated;
  for (int i = static_cast<int>(blockIdx.x); i < n_tiles * a.task.blocks; i += static_cast<int>(gridDim.x)) {
    const Piece piece = piece_of(a.task, i, n_tiles);
    const int row = piece.tile.expert * a.expert_rows + piece.block * (is_pair ? kWeightRows / 2 : kWeightRows);
    const int boxes = (piece.tile.count + kBox - 1) / kBox;
    for (int step = 0; step < a.task.steps; ++step, at.next()) {
      Stage& s = shared.stages[at.stage];
      uint64_t* full = &shared.full[at.stage];
      barrier_wait(&shared.empty[at.stage], at.parity ^ 1);
      barrier_expect(full, kWeightBytes + boxes * kBoxBytes);
      const int k = step * kWideStageK;
      copy_box(s.w[0], a.first, k, row, full);
      copy_box(s.w[1], is_pair ? a.second : a.first, k, is_pair ? row : row + 64, full);
      copy_box(s.w[2], a.first, k, is_pair ? row + 64 : row + 128, full);
      copy_box(s.w[3], is_pair ? a.second : a.first, k, is_pair ? row + 64 : row + 192, full);
      for (int box = 0; box < boxes; ++box) copy_box(s.x[box], a.x, k, piece.tile.first + box * kBox, full);
    }
  }
}

template <int kColumns>
__device__ void multiply_piece(const WideArgs& a, Shared& shared, const Piece& piece, Ring<kStages>& at) {
  const int thread = static_cast<int>(threadIdx.x) - 128, group = thread / 128, lane = thread % 32;
  float sum[2][kColumns / 2];
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) sum[0][i] = sum[1][i] = 0;
  int before = -1;
  for (int step = 0; step < a.task.steps; ++step, at.next()) {
    Stage& s = shared.stages[at.stage];
    barrier_wait(&shared.full[at.stage], at.parity);
    const uint64_t w0 = wgmma_operand(s.w[group * 2]), w1 = wgmma_operand(s.w[group * 2 + 1]), x = wgmma_operand(s.x);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kWideStageK / 16; ++k) {  // 16 numbers are 32 bytes: two units of an operand's address
      wgmma<kColumns>(sum[0], w0 + k * 2, x + k * 2);
      wgmma<kColumns>(sum[1], w1 + k * 2, x + k * 2);
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (before >= 0 && lane == 0) barrier_arrive(&shared.empty[before]);
    before = at.stage;
  }
  wgmma_wait<0>();
  if (lane == 0) barrier_arrive(&shared.empty[before]);

  const int in_group = thread % 128 / 32 * 16;
  if (a.task.out == WideProduct::Out::activated) {
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sum[0][i] = activate(sum[0][i], sum[1][i], a.task.act);
    return write_bf16<kColumns>(a.task, piece.tile, piece.block * (kWeightRows / 2) + group * 64 + in_group, lane,
                                sum[0]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int channel = piece.block * kWeightRows + (group * 2 + half) * 64 + in_group;
    if (a.task.out == WideProduct::Out::bf16)
      write_bf16<kColumns>(a.task, piece.tile, channel, lane, sum[half]);
    else
      write_floats<kColumns>(a.task, piece.tile, channel, lane, sum[half]);
  }
}

__global__ __launch_bounds__(kWideThreads, 1) void wide_kernel(const __grid_constant__ WideArgs a) {
  extern __shared__ unsigned char raw[];
  auto& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(raw) + 1023) / 1024 * 1024);
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) barrier_init(&shared.full[s], 1), barrier_init(&shared.empty[s], 8);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  wait_for_previous();
  start_next();
  const int n_tiles = a.task.n_tiles != nullptr ? *a.task.n_tiles : a.task.max_tiles;
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) produce(a, shared, n_tiles);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    Ring<kStages> at;
    for (int i = static_cast<int>(blockIdx.x); i < n_tiles * a.task.blocks; i += static_cast<int>(gridDim.x)) {
      const Piece piece = piece_of(a.task, i, n_tiles);
      switch ((piece.tile.count + kBox - 1) / kBox) {
        case 1:
          multiply_piece<32>(a, shared, piece, at);
          break;
        case 2:
          multiply_piece<64>(a, shared, piece, at);
          break;
        case 3:
          multiply_piece<96>(a, shared, piece, at);
          break;
        case 4:
          multiply_piece<128>(a, shared, piece, at);
          break;
        case 5:
          multiply_piece<160>(a, shared, piece, at);
          break;
        default:
          multiply_piece<192>(a, shared, piece, at);
      }
    }
  }
}

}  // namespace

void cuda::wide_product(const WideProduct& a, CUstream_st* stream) {
  if (a.first.format != DeviceFormat::bf16) return wide_quants(a, stream);
  const int64_t columns = padded_k(DeviceFormat::bf16, a.first.k), rows = panels_of(a.first.n) * kPanelRows;
  const auto map = [&](const DeviceMatrix& w) { return map_of(w.data, columns, columns, w.n_experts * rows, 64); };
  const bool is_pair = a.out == WideProduct::Out::activated;
  const WideArgs args{.task = wide_task(a, kPlainTile, is_pair ? kWeightRows / 2 : kWeightRows),
                      .first = map(a.first),
                      .second = is_pair ? map(a.second) : CUtensorMap{},
                      .x = map_of(a.x, a.first.k, a.first.k, a.positions, kBox),
                      .expert_rows = static_cast<int>(rows)};
  constexpr int kSharedBytes = sizeof(Shared) + 1024;
  check(cudaFuncSetAttribute(wide_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes), "wide_product");
  launch_dependent(wide_kernel,
                   dim3(static_cast<unsigned>(std::min(multiprocessors(), args.task.max_tiles * args.task.blocks))),
                   dim3(kWideThreads), kSharedBytes, stream, args);
}

}  // namespace corvid::kernels
