// With 64 rows, x is as many bytes as 64 rows of weights. The kernels for fewer rows read it through the first-level
// cache whenever they need it, and then wait for it; here a thread keeps both on their way through the copy engine, and
// sixteen warps multiply. A stage has 64 columns, a step of the others' sums: they are split among warps and added in
// the same order as there, so a row has the same bits.
#include "kernels/launch.cuh"
#include "kernels/products/dependent.cuh"
#include "kernels/products/ring.h"
#include "kernels/products/stream.cuh"
#include "kernels/products/wide.cuh"

namespace corvid::kernels {
namespace {

constexpr int kWarps = 16, kThreads = (kWarps + 4) * 32;  // those that multiply, and a warpgroup to copy
constexpr int kRows = 64;                                 // of x, in a block
constexpr int kRowBytes = kWideStageK * 2;                // of a row in a stage
constexpr int kMaxStages = 16, kRingBytes = 224 << 10;
constexpr int kMaxProducts = 8;

// What a block computes of a product. Sums in one or two parts: each part has eight warps or more, with a panel each
// and all rows of x. In four or eight: each part has so few that they share the rows of x, each with all of the block's
// panels, kFewestPanels to kMostPanels: as many as let the blocks end together. (Of eight parts no more than four, for
// want of registers.)
constexpr int kFewestPanels = 3, kMostPanels = 5;
CORVID_HOST_DEVICE constexpr bool shares_panels(int log_split) { return log_split >= 2; }
int weight_rows(int log_split, int panels) {
  return (log_split == 3   ? std::min(panels, 4)
          : log_split == 2 ? panels
                           : kWarps >> log_split) *
         static_cast<int>(kPanelRows);
}

struct RingArgs {
  struct One {
    void* y;
    int n, first_piece, log_split, rows;  // rows: of weights, in a block
    Product::Out out;
  };
  CUtensorMap x, w[kMaxProducts];
  One all[kMaxProducts];
  int count, pieces, rows, parts, steps, stages, stage_bytes;  // parts: of 64 rows of x
};

struct Barriers {
  uint64_t full[kMaxStages], empty[kMaxStages], over;
};

struct Where {
  int which, block, first_row;
};
__device__ Where place_of_piece(const RingArgs& a, int piece) {
  int which = 0;
  while (which + 1 < a.count && piece >= a.all[which + 1].first_piece) ++which;
  const int in = piece - a.all[which].first_piece;
  return {which, in / a.parts, in % a.parts * kRows};
}

struct Position {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void advance(int by, int stages) {
    for (stage += by; stage >= stages; stage -= stages) parity ^= 1;
  }
};

__device__ void produce(const RingArgs& a, unsigned char* ring, Barriers& b) {
  Position at;
  bool was_split = false;
  uint32_t over = 0;
  for (int piece = static_cast<int>(blockIdx.x); piece < a.pieces; piece += static_cast<int>(gridDim.x)) {
    const Where p = place_of_piece(a, piece);
    const RingArgs::One& one = a.all[p.which];
    if (was_split) ptx::wait(&b.over, over), over ^= 1;  // parts are added through the ring's memory
    was_split = one.log_split > 0;
    const auto copy_w = [&](int step, const Position& to) {
      ptx::arrive_expecting(&b.full[to.stage], (one.rows + kRows) * kRowBytes);
      copy_box(ring + to.stage * a.stage_bytes, a.w[p.which], step * kWideStageK, p.block * one.rows,
               &b.full[to.stage]);
    };
    const auto copy_x = [&](int step, const Position& to) {
      copy_box(ring + to.stage * a.stage_bytes + one.rows * kRowBytes, a.x, step * kWideStageK, p.first_row,
               &b.full[to.stage]);
    };
    int step = 0;
    if (piece ==
        static_cast<int>(blockIdx.x)) {  // the ring is empty, and weights are there whatever kernels are under way
      const int first = min(a.stages, a.steps);
      for (step = 0; step < first; ++step) copy_w(step, {step, 0});
      wait_for_previous();
      for (step = 0; step < first; ++step) copy_x(step, {step, 0});
      at.advance(first, a.stages);
    }
    for (; step < a.steps; ++step, at.advance(1, a.stages)) {
      ptx::wait(&b.empty[at.stage], at.parity ^ 1);
      copy_w(step, at);
      copy_x(step, at);
    }
  }
}

__device__ void put(const RingArgs::One& one, int64_t at, float v) {
  if (one.out == Product::Out::bf16)
    static_cast<__nv_bfloat16*>(one.y)[at] = __float2bfloat16_rn(v);
  else if (one.out == Product::Out::f32)
    static_cast<float*>(one.y)[at] = v;
  else
    static_cast<float*>(one.y)[at] += v;
}

// Of eight rows the one that lanes 4 g to 4 g + 3 have: eight lanes in a row then read, of rows whose chunks of 16
// bytes are permuted by their number, from all banks. And back.
__device__ int row_of(int g) { return g % 2 * 4 + g / 2; }
__device__ int number_of(int row) { return row % 4 * 2 + row / 4; }

__device__ uint4 load_shared(const unsigned char* from) { return *reinterpret_cast<const uint4*>(from); }

// kTiles: of eight rows of x, for a warp.
template <int kPanels, int kTiles>
__device__ void multiply_piece(const RingArgs& a, const Where& p, unsigned char* ring, Barriers& b, Position at) {
  const RingArgs::One& one = a.all[p.which];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int own_row = row_of(lane / 4);
  const int parts = 1 << one.log_split, part = warp & (parts - 1), of_part = warp >> one.log_split;
  const int own_panel = kTiles * 8 == kRows ? of_part * kPanels : 0;
  const int own_tile = kTiles * 8 == kRows ? 0 : of_part * kTiles;
  float sum[kPanels][kTiles][4] = {};
  at.advance(part, a.stages);
  for (int step = part; step < a.steps; step += parts, at.advance(parts, a.stages)) {
    ptx::wait(&b.full[at.stage], at.parity);
    const unsigned char* stage = ring + at.stage * a.stage_bytes + own_row * kRowBytes;
    const unsigned char* w = stage + own_panel * static_cast<int>(kPanelRows) * kRowBytes;
    const unsigned char* x = stage + (one.rows + own_tile * 8) * kRowBytes;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int chunk = ((j * 4 + lane % 4) ^ own_row) * 16;
      uint4 xs[kTiles];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) xs[n] = load_shared(x + n * 8 * kRowBytes + chunk);
#pragma unroll
      for (int i = 0; i < kPanels; ++i) {
        const uint4 low = load_shared(w + i * static_cast<int>(kPanelRows) * kRowBytes + chunk);
        const uint4 high = load_shared(w + (i * static_cast<int>(kPanelRows) + 8) * kRowBytes + chunk);
#pragma unroll
        for (int n = 0; n < kTiles; ++n) mma(sum[i][n], low.x, high.x, low.y, high.y, xs[n].x, xs[n].y);
#pragma unroll
        for (int n = 0; n < kTiles; ++n) mma(sum[i][n], low.z, high.z, low.w, high.w, xs[n].z, xs[n].w);
      }
    }
    __syncwarp();
    if (lane == 0) ptx::arrive(&b.empty[at.stage], parts);
  }
  wait_for_previous();

  const int first = p.block * one.rows;
  if (parts == 1) {
#pragma unroll
    for (int i = 0; i < kPanels; ++i)
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int j = first + (own_panel + i) * static_cast<int>(kPanelRows) + c / 2 * 8 + own_row;
          const int r = p.first_row + (own_tile + n) * 8 + row_of(lane % 4 * 2 + c % 2);
          if (j < one.n && r < a.rows) put(one, int64_t{r} * one.n + j, 0.0F + sum[i][n][c]);
        }
    return;
  }
  const auto sync = [] { asm volatile("bar.sync 1, %0;" ::"n"(kWarps * 32) : "memory"); };
  auto* sums = reinterpret_cast<float*>(ring);  // [warp][panel][tile][4][lane]
  sync();                                       // all stages have been read
#pragma unroll
  for (int i = 0; i < kPanels; ++i)
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int c = 0; c < 4; ++c) sums[((((warp * kPanels) + i) * kTiles + n) * 4 + c) * 32 + lane] = sum[i][n][c];
  sync();
  const int rows = kTiles * 8 == kRows ? one.rows : kPanels * static_cast<int>(kPanelRows);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < rows * kRows; i += kWarps * 32) {
    const int row = i % rows, column = i / rows, panel = row / static_cast<int>(kPanelRows), tile = column / 8;
    if (first + row >= one.n || p.first_row + column >= a.rows) continue;
    const int holder = number_of(row % 8) * 4 + number_of(column % 8) / 2;
    const int c = row % 16 / 8 * 2 + number_of(column % 8) % 2;
    const int holders = kTiles * 8 == kRows ? panel / kPanels : tile / kTiles;
    float total = 0;
    for (int q = 0; q < parts; ++q) {
      const int from = (holders << one.log_split) + q;
      total += sums[(((from * kPanels + panel % kPanels) * kTiles + tile % kTiles) * 4 + c) * 32 + holder];
    }
    put(one, int64_t{p.first_row + column} * one.n + first + row, total);
  }
  ptx::fence_for_engines();
}

__global__ __launch_bounds__(kThreads, 1) void ring_kernel(const __grid_constant__ RingArgs a) {
  extern __shared__ unsigned char raw[];
  __shared__ Barriers b;
  unsigned char* ring = raw + (1024 - ptx::shared_address(raw) % 1024) % 1024;
  if (threadIdx.x == 0) {
    ptx::init_barrier(&b.over, kWarps);
    init_ring(b.full, b.empty, kWarps);
  }
  __syncthreads();
  start_next();
  if (threadIdx.x >= kWarps * 32) {
    ptx::release_registers<24>();
    if (threadIdx.x == kWarps * 32) produce(a, ring, b);
    return;
  }
  ptx::claim_registers<112>();
  Position at;
  for (int piece = static_cast<int>(blockIdx.x); piece < a.pieces; piece += static_cast<int>(gridDim.x)) {
    const Where p = place_of_piece(a, piece);
    const RingArgs::One& one = a.all[p.which];
    if (!shares_panels(one.log_split))
      multiply_piece<1, 8>(a, p, ring, b, at);
    else if (one.log_split == 3)
      one.rows == 3 * kPanelRows ? multiply_piece<3, 4>(a, p, ring, b, at) : multiply_piece<4, 4>(a, p, ring, b, at);
    else if (one.rows == 3 * kPanelRows)
      multiply_piece<3, 2>(a, p, ring, b, at);
    else if (one.rows == 4 * kPanelRows)
      multiply_piece<4, 2>(a, p, ring, b, at);
    else
      multiply_piece<5, 2>(a, p, ring, b, at);
    at.advance(a.steps, a.stages);
    __syncwarp();
    if (one.log_split > 0 && threadIdx.x % 32 == 0) ptx::arrive(&b.over);
  }
}

int64_t blocks_of(const DeviceMatrix& w, int panels) {
  const int64_t rows = panels_of(w.n) * kPanelRows, in_block = weight_rows(log_split_of(w), panels);
  return (rows + in_block - 1) / in_block;
}
int64_t blocks_of(std::span<const Product> all, int panels) {
  int64_t blocks = 0;
  for (const Product& p : all)
    if (p.w.format == DeviceFormat::bf16) blocks += blocks_of(p.w, panels);
  return blocks;
}
// That many for a block, that the multiprocessors have done all soonest: a round takes as long as its weights and its
// rows of x take to come.
int panels_of_block(std::span<const Product> all, int64_t parts) {
  const auto time = [&, at_once = cuda::multiprocessors()](int panels) {
    return (blocks_of(all, panels) * parts + at_once - 1) / at_once * (panels + 2);
  };
  int best = kFewestPanels;
  for (int panels = kFewestPanels + 1; panels <= kMostPanels; ++panels)
    if (time(panels) < time(best)) best = panels;
  return best;
}

}  // namespace

bool has_ring(std::span<const Product> all, int64_t rows) {
  return rows > 32 && rows <= kStreamRows && all[0].w.k % kWideStageK == 0 && blocks_of(all, 4) >= 64;
}

void cuda::ring_products(const uint16_t* x, int64_t rows, std::span<const Product> all, CUstream_st* stream) {
  RingArgs a{};
  int most_rows = 0, most_parts = 0;
  const auto flush = [&] {
    if (a.count == 0) return;
    a.stage_bytes = (most_rows + kRows) * kRowBytes;
    // A multiple of the parts, so that a stage is always the same warps': they wait for a phase of its barrier, which
    // can be told from the one before only by who has waited for that. Boxes may come in another order than they were
    // asked for in.
    a.stages = std::min(kMaxStages, kRingBytes / a.stage_bytes) / most_parts * most_parts;
    constexpr int kSharedBytes = kRingBytes + 1024;
    allow(ring_kernel, kSharedBytes);
    launch("products of some rows", ring_kernel,
           {.grid = dim3(static_cast<unsigned>(std::min(a.pieces, multiprocessors()))),
            .threads = kThreads,
            .shared_bytes = kSharedBytes,
            .stream = stream,
            .may_begin_early = true},
           a);
    a.count = a.pieces = most_rows = most_parts = 0;
  };
  a.rows = static_cast<int>(rows), a.parts = static_cast<int>((rows + kRows - 1) / kRows);
  const int in_blocks = panels_of_block(all, a.parts);
  // Apart, so that there are stages for all parts of a sum.
  for (const bool shares : {true, false}) {
    for (const Product& p : all) {
      const int log_split = log_split_of(p.w), in_block = weight_rows(log_split, in_blocks);
      if (p.w.n == 0 || p.w.format != DeviceFormat::bf16 || shares_panels(log_split) != shares) continue;
      const int64_t panels = panels_of(p.w.n);
      if (a.count == 0) a.x = map_of(x, p.w.k, p.w.k, rows, kRows), a.steps = static_cast<int>(p.w.k / 64);
      a.w[a.count] = map_of(p.w.data, p.w.k, p.w.k, panels * kPanelRows, in_block);
      a.all[a.count++] = {p.y.of[0], static_cast<int>(p.w.n), a.pieces, log_split, in_block, p.out};
      a.pieces += static_cast<int>(blocks_of(p.w, in_blocks)) * a.parts;
      most_rows = std::max(most_rows, in_block), most_parts = std::max(most_parts, 1 << log_split);
      if (a.count == kMaxProducts) flush();
    }
    flush();
  }
}

}  // namespace corvid::kernels
