// Up to 192 rows of x times 256 rows of weights in a block, the weights being the first operand, so that the rows of x
// need only be a multiple of 32. One thread feeds a ring of stages through the copy engine; two warpgroups multiply, 2
// x 64 rows of weights each. Blocks stay, and take piece after piece, so that the next piece's stages arrive during
// this one's end.
//
// Pieces go through the weights for eight tiles of rows at a time, which the level-2 cache then holds. Weights of an
// expert with no more than 192 rows are read once: with tiles of 128 the second tile of half of the experts read them
// again, and 4,096 rows of MiniMax-M3 took 8.9 ms on an H100.
#include <cudaTypedefs.h>
#include <cuda_bf16.h>

#include <algorithm>

#include "kernels/cuda_check.h"
#include "kernels/feed_forward/activate.cuh"
#include "kernels/products/dependent.cuh"
#include "kernels/products/wgmma.cuh"
#include "kernels/products/wide.h"

namespace corvid::kernels {
namespace {

constexpr int kStages = 4, kStageK = 64, kWeightRows = 256;
constexpr int kBox = 32;       // rows of x that are copied at once
constexpr int kThreads = 384;  // a warpgroup to copy, two to multiply
constexpr int kWeightBytes = kWeightRows * kStageK * 2, kBoxBytes = kBox * kStageK * 2;
constexpr int kTileGroup = 8;
constexpr int64_t kPlainTile = 128;  // with one matrix for all rows, as fast and more even

struct alignas(1024) Stage {
  unsigned char w[4][kWeightBytes / 4];  // 64 rows each: two of the first warpgroup, two of the second
  unsigned char x[kWideTile / kBox][kBoxBytes];
};
struct Shared {
  Stage stages[kStages];
  uint64_t full[kStages], empty[kStages];
};

struct WideArgs {
  CUtensorMap first, second, x;
  const ExpertTile* tiles;
  const int32_t* n_tiles;
  int tile;                                                 // rows of a tile without a plan
  int max_tiles, positions, n, expert_rows, steps, blocks;  // blocks of weight rows of an expert
  void* y;
  WideProduct::Out out;
  Activation act;
};

// Piece `i` of the call: a tile, and which rows of the weights.
struct Piece {
  ExpertTile tile;
  int block;
};
__device__ Piece piece_of(const WideArgs& a, int i, int n_tiles) {
  const int group = i / (kTileGroup * a.blocks), in_group = i % (kTileGroup * a.blocks);
  const int tiles = min(kTileGroup, n_tiles - group * kTileGroup), tile = group * kTileGroup + in_group % tiles;
  if (a.tiles != nullptr) return {a.tiles[tile], in_group / tiles};
  return {{0, tile * a.tile, min(a.tile, a.positions - tile * a.tile)}, in_group / tiles};
}

struct Ring {
  int stage = 0, parity = 0;
  __device__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

__device__ void produce(const WideArgs& a, Shared& shared, int n_tiles) {
  Ring at;
  const bool is_pair = a.out == WideProduct::Out::activated;
  for (int i = static_cast<int>(blockIdx.x); i < n_tiles * a.blocks; i += static_cast<int>(gridDim.x)) {
    const Piece piece = piece_of(a, i, n_tiles);
    const int row = piece.tile.expert * a.expert_rows + piece.block * (is_pair ? kWeightRows / 2 : kWeightRows);
    const int boxes = (piece.tile.count + kBox - 1) / kBox;
    for (int step = 0; step < a.steps; ++step, at.next()) {
      Stage& s = shared.stages[at.stage];
      uint64_t* full = &shared.full[at.stage];
      barrier_wait(&shared.empty[at.stage], at.parity ^ 1);
      barrier_expect(full, kWeightBytes + boxes * kBoxBytes);
      const int k = step * kStageK;
      copy_box(s.w[0], a.first, k, row, full);
      copy_box(s.w[1], is_pair ? a.second : a.first, k, is_pair ? row : row + 64, full);
      copy_box(s.w[2], a.first, k, is_pair ? row + 64 : row + 128, full);
      copy_box(s.w[3], is_pair ? a.second : a.first, k, is_pair ? row + 64 : row + 192, full);
      for (int box = 0; box < boxes; ++box) copy_box(s.x[box], a.x, k, piece.tile.first + box * kBox, full);
    }
  }
}

// Writes the first `kColumns` rows of x of a piece. `channel`: of the warp's first row of weights; sums as wgmma has
// them.
template <int kColumns>
__device__ void write_bf16(const WideArgs& a, const ExpertTile& tile, int channel, int lane,
                           const float (&sum)[kColumns / 2]) {
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const __nv_bfloat162 two = __floats2bfloat162_rn(sum[j * 4 + half * 2], sum[j * 4 + half * 2 + 1]);
      const uint32_t pair = transpose(*reinterpret_cast<const uint32_t*>(&two));
      const int row = j * 8 + lane / 4, column = channel + half * 8 + lane % 4 * 2;
      if (row >= tile.count || column >= a.n) continue;
      auto* to = static_cast<uint16_t*>(a.y) + (int64_t{tile.first} + row) * a.n + column;
      if (a.n % 2 == 0) {
        *reinterpret_cast<uint32_t*>(to) = pair;
      } else {
        to[0] = static_cast<uint16_t>(pair);
        if (column + 1 < a.n) to[1] = static_cast<uint16_t>(pair >> 16);
      }
    }
}
template <int kColumns>
__device__ void write_floats(const WideArgs& a, const ExpertTile& tile, int channel, int lane,
                             const float (&sum)[kColumns / 2]) {
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = i / 4 * 8 + lane % 4 * 2 + i % 2, column = channel + i % 4 / 2 * 8 + lane / 4;
    if (row >= tile.count || column >= a.n) continue;
    float* to = static_cast<float*>(a.y) + (int64_t{tile.first} + row) * a.n + column;
    *to = a.out == WideProduct::Out::add_f32 ? *to + sum[i] : sum[i];
  }
}

template <int kColumns>
__device__ void multiply_piece(const WideArgs& a, Shared& shared, const Piece& piece, Ring& at) {
  const int thread = static_cast<int>(threadIdx.x) - 128, group = thread / 128, lane = thread % 32;
  float sum[2][kColumns / 2];
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) sum[0][i] = sum[1][i] = 0;
  int before = -1;
  for (int step = 0; step < a.steps; ++step, at.next()) {
    Stage& s = shared.stages[at.stage];
    barrier_wait(&shared.full[at.stage], at.parity);
    const uint64_t w0 = wgmma_operand(s.w[group * 2]), w1 = wgmma_operand(s.w[group * 2 + 1]), x = wgmma_operand(s.x);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kStageK / 16; ++k) {  // 16 numbers are 32 bytes: two units of an operand's address
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
  if (a.out == WideProduct::Out::activated) {
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sum[0][i] = activate(sum[0][i], sum[1][i], a.act);
    return write_bf16<kColumns>(a, piece.tile, piece.block * (kWeightRows / 2) + group * 64 + in_group, lane, sum[0]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int channel = piece.block * kWeightRows + (group * 2 + half) * 64 + in_group;
    if (a.out == WideProduct::Out::bf16)
      write_bf16<kColumns>(a, piece.tile, channel, lane, sum[half]);
    else
      write_floats<kColumns>(a, piece.tile, channel, lane, sum[half]);
  }
}

__global__ __launch_bounds__(kThreads, 1) void wide_kernel(const __grid_constant__ WideArgs a) {
  extern __shared__ unsigned char raw[];
  auto& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(raw) + 1023) / 1024 * 1024);
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) barrier_init(&shared.full[s], 1), barrier_init(&shared.empty[s], 8);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  wait_for_previous();
  start_next();
  const int n_tiles = a.n_tiles != nullptr ? *a.n_tiles : a.max_tiles;
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) produce(a, shared, n_tiles);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    Ring at;
    for (int i = static_cast<int>(blockIdx.x); i < n_tiles * a.blocks; i += static_cast<int>(gridDim.x)) {
      const Piece piece = piece_of(a, i, n_tiles);
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

// Rows of `columns` bf16 numbers, `stride` apart, in boxes of 64 columns.
CUtensorMap map_of(const void* data, int64_t columns, int64_t stride, int64_t rows, uint32_t box_rows) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    cuda::check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
                "cuTensorMapEncodeTiled");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  }();
  CUtensorMap map;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride * 2)};
  const cuuint32_t box[] = {kStageK, box_rows}, steps[] = {1, 1};
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), sizes, strides,
                                 box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(result));
  return map;
}

}  // namespace

void cuda::wide_product(const WideProduct& a, CUstream_st* stream) {
  const int64_t columns = padded_k(DeviceFormat::bf16, a.first.k), rows = panels_of(a.first.n) * kPanelRows;
  const auto map = [&](const DeviceMatrix& w) { return map_of(w.data, columns, columns, w.n_experts * rows, 64); };
  const bool is_pair = a.out == WideProduct::Out::activated;
  const int block_rows = is_pair ? kWeightRows / 2 : kWeightRows;
  const WideArgs args{
      .first = map(a.first),
      .second = is_pair ? map(a.second) : CUtensorMap{},
      .x = map_of(a.x, a.first.k, a.first.k, a.positions, kBox),
      .tiles = a.tiles,
      .n_tiles = a.n_tiles,
      .tile = static_cast<int>(kPlainTile),
      .max_tiles = static_cast<int>(a.tiles != nullptr ? a.max_tiles : (a.positions + kPlainTile - 1) / kPlainTile),
      .positions = static_cast<int>(a.positions),
      .n = static_cast<int>(a.first.n),
      .expert_rows = static_cast<int>(rows),
      .steps = static_cast<int>(columns / kStageK),
      .blocks = static_cast<int>((a.first.n + block_rows - 1) / block_rows),
      .y = a.y,
      .out = a.out,
      .act = a.act};
  int device = 0, processors = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "device");
  constexpr int kSharedBytes = sizeof(Shared) + 1024;
  check(cudaFuncSetAttribute(wide_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes), "wide_product");
  launch_dependent(wide_kernel, dim3(static_cast<unsigned>(std::min(processors, args.max_tiles * args.blocks))),
                   dim3(kThreads), kSharedBytes, stream, args);
}

}  // namespace corvid::kernels
