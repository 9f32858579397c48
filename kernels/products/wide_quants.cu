// Up to 128 rows of x times 128 rows of quantised weights in a block. A warp has a panel of 16 rows (or half a panel of
// gate and half of up): it loads a tile ahead, makes bf16 numbers of the quants, scales them, and multiplies from its
// registers what the copy engine brings of x. The weights are rounded to bf16, scaled, where the kernels for few rows
// scale sums.
//
// 4,096 rows on an H100: 390 to 440 TFLOP/s, where the kernels for few rows had 90 to 110.
#include <algorithm>

#include "kernels/products/tiles.cuh"
#include "kernels/products/wide.cuh"

namespace corvid::kernels {
namespace {

constexpr int kStages = 8;
constexpr int kTile = 128;
constexpr int kBoxes = kTile / kBox;

struct alignas(1024) Stage {
  unsigned char x[kBoxes][kBoxBytes];
};
struct Shared {
  Stage stages[kStages];
  uint64_t full[kStages], empty[kStages];
};

struct QuantArgs {
  WideTask task;
  CUtensorMap x;
  const unsigned char *first, *second;  // second: up, or null
  int panels, k;                        // of an expert
};

__device__ void produce(const QuantArgs& a, Shared& shared, int n_tiles) {
  Ring<kStages> at;
  for (int i = static_cast<int>(blockIdx.x); i < n_tiles * a.task.blocks; i += static_cast<int>(gridDim.x)) {
    const Piece piece = piece_of(a.task, i, n_tiles);
    const int boxes = (piece.tile.count + kBox - 1) / kBox;
    for (int step = 0; step < a.task.steps; ++step, at.next()) {
      uint64_t* full = &shared.full[at.stage];
      ptx::wait(&shared.empty[at.stage], at.parity ^ 1);
      ptx::arrive_expecting(full, boxes * kBoxBytes);
      for (int box = 0; box < boxes; ++box)
        copy_box(shared.stages[at.stage].x[box], a.x, step * kWideStageK, piece.tile.first + box * kBox, full);
    }
  }
}

__device__ uint32_t fused(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// Group j of a half of the rows, scaled. The scale is two bf16 numbers, so that the product is rounded as if by one.
template <DeviceFormat kFormat>
__device__ void scaled(const Step<kFormat>& step, int j, int half, uint32_t (&p)[4]) {
  step.quants(j, half, p);
  uint32_t high = 0, low = 0, less = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i == 0 || (i == 2 && kFormat == DeviceFormat::q6_k)) {
      const float scale = step.scale(j, half, i / 2);
      high = pair_of(scale, scale);
      const float rest = scale - __uint_as_float(high << 16);
      low = pair_of(rest, rest);
      if constexpr (kFormat == DeviceFormat::q4_k) {
        const float min = -step.min(j, half);
        less = pair_of(min, min);
      }
    }
    if constexpr (kFormat == DeviceFormat::q4_k)
      p[i] = fused(p[i], high, fused(p[i], low, less));
    else
      p[i] = fused(p[i], high, multiply(p[i], low));
  }
}

template <DeviceFormat kFormat, int kColumns>
__device__ void multiply_piece(const QuantArgs& a, Shared& shared, const Piece& piece, Ring<kStages>& at) {
  using S = Step<kFormat>;
  constexpr int kGroups = S::kGroups;
  const int warp = static_cast<int>(threadIdx.x) / 32 - 4, lane = static_cast<int>(threadIdx.x) % 32;
  const bool is_pair = a.second != nullptr;
  // Panel of the expert; the last again beyond it, whose results are not written.
  const int panel = min(is_pair ? piece.block * 4 + warp / 2 : piece.block * 8 + warp, a.panels - 1);
  const int64_t offset = (int64_t{piece.tile.expert} * a.panels + panel) * panel_bytes(kFormat, a.k);
  const unsigned char *first = a.first + offset, *second = is_pair ? a.second + offset : first;
  const int first_half = is_pair ? warp % 2 : 0, second_half = is_pair ? warp % 2 : 1;
  const auto load = [&](S& s, int step) {
    s.load_half(0, first, first_half, step, lane), s.load_half(1, second, second_half, step, lane);
  };

  float sum[kColumns / 2];
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) sum[i] = 0;
  const auto steps = static_cast<int>(steps_of<kFormat>(a.k));
  S ahead[2];
  load(ahead[0], 0);
  uint32_t p[2][2][4];  // one group is multiplied while the next is made
  int before = -1;
  for (int step = 0; step < steps;) {
#pragma unroll
    for (int now = 0; now < 2; ++now) {
      if (step + 1 < steps) load(ahead[1 - now], step + 1);
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        uint32_t(&q)[2][4] = p[j % 2];
        scaled<kFormat>(ahead[now], j, 0, q[0]), scaled<kFormat>(ahead[now], j, 1, q[1]);
        if (j % 2 == 0) ptx::wait(&shared.full[at.stage], at.parity);
        const uint64_t x = ptx::operand(ptx::shared_address(&shared.stages[at.stage])) + j % 2 * 4;
        ptx::begin_products();
        wgmma_from_registers<kColumns>(sum, q[0][0], q[1][0], q[0][1], q[1][1], x);
        wgmma_from_registers<kColumns>(sum, q[0][2], q[1][2], q[0][3], q[1][3], x + 2);
        ptx::commit_products();
        ptx::wait_products<1>();
        // Now the group before is done, and its registers may change.
        if (j > 0 || step > 0)
          asm volatile("" ::"r"(p[(j + 1) % 2][0][0]), "r"(p[(j + 1) % 2][0][1]), "r"(p[(j + 1) % 2][0][2]),
                       "r"(p[(j + 1) % 2][0][3]), "r"(p[(j + 1) % 2][1][0]), "r"(p[(j + 1) % 2][1][1]),
                       "r"(p[(j + 1) % 2][1][2]), "r"(p[(j + 1) % 2][1][3]));
        if (j % 2 == 0 && before >= 0 && lane == 0) ptx::arrive(&shared.empty[before]);
        if (j % 2 == 1) before = at.stage, at.next();
      }
      if (++step >= steps) break;
    }
  }
  ptx::wait_products<0>();
  if (lane == 0) ptx::arrive(&shared.empty[before]);

  if (is_pair) {
#pragma unroll
    for (int i = 0; i < kColumns / 8; ++i)
#pragma unroll
      for (int c = 0; c < 2; ++c) sum[i * 4 + c] = activate(sum[i * 4 + c], sum[i * 4 + 2 + c], a.task.act);
    write_bf16<kColumns, 1>(a.task, piece.tile, piece.block * 64 + warp * 8, lane, sum);
  } else if (const int channel = piece.block * 128 + warp * 16; a.task.out == WideProduct::Out::bf16) {
    write_bf16<kColumns>(a.task, piece.tile, channel, lane, sum);
  } else {
    write_floats<kColumns>(a.task, piece.tile, channel, lane, sum);
  }
}

template <DeviceFormat kFormat>
__global__ __launch_bounds__(kWideThreads, 1) void quants_kernel(const __grid_constant__ QuantArgs a) {
  extern __shared__ unsigned char raw[];
  auto& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(raw) + 1023) / 1024 * 1024);
  if (threadIdx.x == 0) init_ring(shared.full, shared.empty, 8);
  __syncthreads();
  wait_for_previous();
  start_next();
  const int n_tiles = a.task.n_tiles != nullptr ? *a.task.n_tiles : a.task.max_tiles;
  if (threadIdx.x < 128) {
    ptx::release_registers<40>();
    if (threadIdx.x == 0) produce(a, shared, n_tiles);
  } else {
    ptx::claim_registers<232>();
    Ring<kStages> at;
    for (int i = static_cast<int>(blockIdx.x); i < n_tiles * a.task.blocks; i += static_cast<int>(gridDim.x)) {
      const Piece piece = piece_of(a.task, i, n_tiles);
      if (piece.tile.count <= 32)
        multiply_piece<kFormat, 32>(a, shared, piece, at);
      else if (piece.tile.count <= 64)
        multiply_piece<kFormat, 64>(a, shared, piece, at);
      else
        multiply_piece<kFormat, 128>(a, shared, piece, at);
    }
  }
}

}  // namespace

void cuda::wide_quants(const WideProduct& a, CUstream_st* stream) {
  const bool is_pair = a.out == WideProduct::Out::activated;
  const QuantArgs args{.task = wide_task(a, kTile, is_pair ? 64 : 128),
                       .x = map_of(a.x, a.first.k, a.first.k, a.positions, kBox),
                       .first = static_cast<const unsigned char*>(a.first.data),
                       .second = is_pair ? static_cast<const unsigned char*>(a.second.data) : nullptr,
                       .panels = static_cast<int>(panels_of(a.first.n)),
                       .k = static_cast<int>(a.first.k)};
  auto* kernel = a.first.format == DeviceFormat::q8_0   ? quants_kernel<DeviceFormat::q8_0>
                 : a.first.format == DeviceFormat::q4_k ? quants_kernel<DeviceFormat::q4_k>
                 : a.first.format == DeviceFormat::q6_k ? quants_kernel<DeviceFormat::q6_k>
                                                        : quants_kernel<DeviceFormat::f8_e4m3>;
  constexpr int kSharedBytes = sizeof(Shared) + 1024;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes), "wide_quants");
  launch_dependent(kernel,
                   dim3(static_cast<unsigned>(std::min(multiprocessors(), args.task.max_tiles * args.task.blocks))),
                   dim3(kWideThreads), kSharedBytes, stream, args);
}

}  // namespace corvid::kernels
