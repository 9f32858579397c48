#include <algorithm>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/launch.cuh"
#include "kernels/products/dependent.cuh"
#include "kernels/products/products.h"
#include "kernels/products/ring.h"
#include "kernels/products/split.h"
#include "kernels/products/stream.cuh"
#include "kernels/products/wide.h"
#include "kernels/rms_norm/norm_row.cuh"

namespace corvid::kernels {
namespace {

bool is_wide(const DeviceMatrix& w, int64_t rows) { return rows > kStreamRows && has_wide(w.format, w.k); }

constexpr int kMaxProducts = kSplits;  // of a launch

struct StreamProducts {
  struct One {
    const unsigned char* w;
    void* y;
    int n, panels, first_block, log_split, first_step, end_step;
    Product::Out out;
  };
  const uint16_t* x;
  int64_t k;
  int rows, count = 0;
  bool is_rounded = false;
  const float *sums = nullptr, *norm = nullptr;  // not null: x is the norm of the row `sums` by these weights
  float eps = 0;
  uint16_t* h = nullptr;  // not null: where the norm goes, too
  bool rounds = false;    // the norm counts as rounded to the grid of grid.cuh, where bf16 does not ask for it
  One all[kMaxProducts] = {};
};

// Panels of a warp: with many rows of x two, which halves how often x is read; q4_k has no registers for that.
CORVID_HOST_DEVICE constexpr int warp_panels(DeviceFormat format, int tiles) {
  return tiles < 4 || format == DeviceFormat::q4_k ? 1 : 2;
}

template <DeviceFormat kFormat, int kTiles, bool kRounds>
__global__ __launch_bounds__(kStreamThreads,
                             kTiles <= 2 ? 2 : 1) void stream_kernel(const __grid_constant__ StreamProducts a) {
  constexpr int kPanels = warp_panels(kFormat, kTiles);
  start_next();
  int which = 0;
  while (which + 1 < a.count && static_cast<int>(blockIdx.x) >= a.all[which + 1].first_block) ++which;
  const StreamProducts::One& one = a.all[which];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int block = static_cast<int>(blockIdx.x) - one.first_block, in_block = block_panels(one.log_split);
  const int first_row = static_cast<int>(blockIdx.y) * kTiles * 8;

  const uint16_t* x[kTiles];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int row = first_row + n * 8 + lane / 4;
    x[n] = row < a.rows ? a.x + row * a.k : nullptr;
  }
  float sum[kPanels][kTiles][4] = {};
  // The warps' panels p are the p-th run of in_block panels of the block, so that a run's outputs lie side by side.
  const int first_panel = block * in_block * kPanels + (warp >> one.log_split);
  if (first_panel < one.panels) {
    const unsigned char* panels[kPanels];
#pragma unroll
    for (int p = 0; p < kPanels; ++p)  // the last again, where there is none
      panels[p] = one.w + min(first_panel + p * in_block, one.panels - 1) * panel_bytes(kFormat, a.k);
    const int parts = 1 << one.log_split;
    stream<kFormat, kTiles, kPanels, kAhead<kFormat, kPanels>, false, kRounds>(
        panels, x, a.k, one.first_step + (warp & (parts - 1)), one.end_step, parts, sum, lane,
        [] { wait_for_previous(); }, [] {});
  }
  wait_for_previous();
#pragma unroll
  for (int p = 0; p < kPanels; ++p) {
    if (p > 0) __syncthreads();
    reduce<kTiles, 1>(*reinterpret_cast<const float(*)[1][kTiles][4]>(&sum[p]), one.log_split,
                      [&](int row, int column, const float(&total)[1]) {
                        const int j = (block * kPanels + p) * in_block * 16 + row, r = first_row + column;
                        if (j >= one.n || r >= a.rows) return;
                        const int64_t at = int64_t{r} * one.n + j;
                        if (one.out == Product::Out::bf16)
                          static_cast<__nv_bfloat16*>(one.y)[at] = __float2bfloat16_rn(total[0]);
                        else if (one.out == Product::Out::f32)
                          static_cast<float*>(one.y)[at] = total[0];
                        else
                          static_cast<float*>(one.y)[at] += total[0];
                      });
  }
}

// One row of x, for q8_0 (as integers) and bf16: it goes to shared memory, so that only one reading of it is waited
// for, and the most weights that registers hold are on their way meanwhile. The other columns of the tensor cores' tile
// repeat the row.
constexpr int64_t kMostRowBytes = 48 << 10;

// kNorms: the row is normalised here.
template <DeviceFormat kFormat, bool kNorms>
__global__ __launch_bounds__(kStreamThreads, 2) void row_kernel(const __grid_constant__ StreamProducts a) {
  extern __shared__ __align__(16) unsigned char row[];
  __shared__ float parts[kStreamWarps][kPanelRows];
  [[maybe_unused]] __shared__ float squares[NormRow::kSums];
  start_next();
  int which = 0;
  while (which + 1 < a.count && static_cast<int>(blockIdx.x) >= a.all[which + 1].first_block) ++which;
  const StreamProducts::One& one = a.all[which];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const auto k = static_cast<int>(a.k), padded = static_cast<int>(padded_k(kFormat, k));
  const int n_parts = 1 << one.log_split, in_block = block_panels(one.log_split);
  const int first_panel = (static_cast<int>(blockIdx.x) - one.first_block) * in_block;
  const int panel = first_panel + (warp >> one.log_split), j = first_panel * static_cast<int>(kPanelRows) + thread;
  const bool has_output = thread < in_block * kPanelRows && j < one.n;
  float before = 0;
  [[maybe_unused]] NormRow norm;
  if constexpr (kNorms) norm.load_weights(a.norm, k);
  const auto begin = [&] {
    wait_for_previous();
    if (has_output && one.out == Product::Out::add_f32) before = static_cast<const float*>(one.y)[j];
    if constexpr (kNorms) {
      norm.load(a.sums, k);
      const uint4 bits = norm.bits(squares, k, a.eps);
      put_in_row<kFormat>(padded, row, NormRow::first(), a.rounds ? on_grid(bits) : bits);
      if (a.h != nullptr && blockIdx.x == 0 && NormRow::first() < k)
        *reinterpret_cast<uint4*>(a.h + NormRow::first()) = bits;
      __syncthreads();
    } else {
      stage_row<kFormat>(kStreamThreads, padded, row, [&](int i) { return i < k ? a.x + i : nullptr; });
    }
  };
  float sum[1][2] = {};
  // No steps for a warp without a panel, which takes part in begin()'s barrier all the same.
  const bool has_panel = panel < one.panels;
  const unsigned char* const panels[1] = {one.w + (has_panel ? panel : 0) * panel_bytes(kFormat, k)};
  stream_row<kFormat, 1, kAheadOfRow, true>(panels, row, 0, padded, padded,
                                            has_panel ? one.first_step + (warp & (n_parts - 1)) : one.end_step,
                                            one.end_step, n_parts, sum, lane, begin);
  if (lane % 4 == 0) parts[warp][lane / 4] = sum[0][0], parts[warp][lane / 4 + 8] = sum[0][1];
  __syncthreads();
  if (!has_output) return;
  float each[kStreamWarps], total = 0;
#pragma unroll  // so that all are asked for before the first is added
  for (int part = 0; part < kStreamWarps; ++part)
    if (part < n_parts) each[part] = parts[(thread / kPanelRows << one.log_split) + part][thread % kPanelRows];
#pragma unroll
  for (int part = 0; part < kStreamWarps; ++part)
    if (part < n_parts) total += each[part];
  if (one.out == Product::Out::bf16)
    static_cast<__nv_bfloat16*>(one.y)[j] = __float2bfloat16_rn(total);
  else
    static_cast<float*>(one.y)[j] = before + total;
}

int tiles_of(int64_t rows) { return rows <= 8 ? 1 : rows <= 16 ? 2 : rows <= 32 ? 4 : 8; }
int blocks_of(DeviceFormat format, int panels, int log_split, int64_t rows) {
  const int in_block = block_panels(log_split) * warp_panels(format, tiles_of(rows));
  return (panels + in_block - 1) / in_block;
}

template <DeviceFormat kFormat, bool kRounds>
auto stream_kernel_of(int tiles) {
  return tiles == 1   ? stream_kernel<kFormat, 1, kRounds>
         : tiles == 2 ? stream_kernel<kFormat, 2, kRounds>
         : tiles == 4 ? stream_kernel<kFormat, 4, kRounds>
                      : stream_kernel<kFormat, 8, kRounds>;
}

// is_small: not worth a change of what L1 has.
template <DeviceFormat kFormat>
void launch(const StreamProducts& a, int blocks, CUstream_st* stream, bool is_small = false) {
  if constexpr (kFormat == DeviceFormat::q8_0 || kFormat == DeviceFormat::bf16) {
    if (const int64_t bytes = row_bytes_of<kFormat>(padded_k(kFormat, a.k)); a.rows == 1 && bytes <= kMostRowBytes) {
      auto* kernel = a.norm != nullptr ? row_kernel<kFormat, true> : row_kernel<kFormat, false>;
      const dim3 grid(static_cast<unsigned>(blocks));
      if (kFormat == DeviceFormat::q8_0) cuda::want_shared_memory(kernel);
      if (kFormat == DeviceFormat::q8_0 || is_small)
        launch_dependent(kernel, grid, dim3(kStreamThreads), static_cast<size_t>(bytes), stream, a);
      else
        launch_with_cache(kernel, grid, dim3(kStreamThreads), static_cast<size_t>(bytes), stream, a);
      return;
    }
  }
  const int tiles = tiles_of(a.rows);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>((a.rows + tiles * 8 - 1) / (tiles * 8)));
  auto* kernel = stream_kernel_of<kFormat, false>(tiles);
  if constexpr (is_on_grid(kFormat))
    if (!a.is_rounded) kernel = stream_kernel_of<kFormat, true>(tiles);
  if (is_small)
    launch_dependent(kernel, grid, dim3(kStreamThreads), 0, stream, a);
  else
    launch_with_cache(kernel, grid, dim3(kStreamThreads), 0, stream, a);
}

template <DeviceFormat kFormat>
void stream_products(const uint16_t* x, int64_t rows, std::span<const Product> all, CUstream_st* stream,
                     bool is_rounded = false, const RmsNormRows* norm = nullptr) {
  StreamProducts a{.x = x, .k = all[0].w.k, .rows = static_cast<int>(rows), .is_rounded = is_rounded};
  if (norm != nullptr) a.sums = norm->x, a.norm = norm->w, a.eps = norm->eps;
  int blocks = 0;
  const auto flush = [&] {
    if (blocks > 0) launch<kFormat>(a, blocks, stream);
    a.count = blocks = 0;
  };
  for (const Product& p : all) {
    if (p.w.format != kFormat || p.w.n == 0 || is_wide(p.w, rows)) continue;
    const auto panels = static_cast<int>(panels_of(p.w.n));
    const int log_split = log_split_of(p.w);
    a.all[a.count++] = {
        static_cast<const unsigned char*>(p.w.data), p.y.of[0], static_cast<int>(p.w.n), panels, blocks, log_split, 0,
        static_cast<int>(steps_of<kFormat>(p.w.k)),  p.out};
    blocks += blocks_of(kFormat, panels, log_split, rows);
    if (a.count == kMaxProducts) flush();
  }
  flush();
}

WideProduct::Out wide_out(Product::Out out) {
  return out == Product::Out::bf16  ? WideProduct::Out::bf16
         : out == Product::Out::f32 ? WideProduct::Out::f32
                                    : WideProduct::Out::add_f32;
}

}  // namespace

int log_split_of(const DeviceMatrix& w) { return log_split_of(panels_of(w.n), w.k); }

// x in another order, for the formats that want one.
int64_t ordered_bytes(int64_t rows, int64_t k) { return (rows * k * 2 + 255) / 256 * 256; }

int64_t products_workspace_bytes(std::span<const Product> all, int64_t rows) {
  int64_t bytes = 0;
  for (const XOrder order : {XOrder::eights, XOrder::fours})
    if (std::any_of(all.begin(), all.end(),
                    [&](const Product& p) { return is_wide(p.w, rows) && x_order(p.w.format) == order; }))
      bytes += ordered_bytes(rows, all[0].w.k);
  return bytes;
}

namespace {

void check_products(int64_t rows, std::span<const Product> all) {
  require(rows >= 0 && !all.empty(), "products: want rows >= 0 and a product, found ", rows, " and ", all.size());
  for (const Product& p : all)
    require(p.w.n_experts == 1 && p.w.n >= 0 && p.w.k >= 8 && p.w.k % 8 == 0 && p.w.k == all[0].w.k,
            "products: want one matrix of rows of ", all[0].w.k, " numbers, a multiple of 8, found ", p.w.n_experts,
            " of ", p.w.k);
  for (const Product& p : all)
    require(p.y.gpus == 1 || (p.out == Product::Out::bf16 && is_wide(p.w, rows)), "products: want bf16 and more than ",
            kStreamRows, " rows where they are dealt out, found ", rows);
}

// Whether every block makes the norm for itself: they are few enough that this costs less than a launch.
bool can_norm(const RmsNormRows& norm, int64_t blocks) {
  constexpr int kMostBlocks = 512;
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  return norm.rows == 1 && !norm.rounds && norm.dim <= NormRow::kMostDim && blocks <= kMostBlocks && aligned(norm.x) &&
         aligned(norm.w);
}
bool can_norm(const RmsNormRows& norm, std::span<const Product> all) {
  int64_t blocks = 0;
  for (const Product& p : all) {
    if (p.w.format != DeviceFormat::q8_0 && p.w.format != DeviceFormat::bf16) return false;
    blocks += blocks_of(p.w.format, static_cast<int>(panels_of(p.w.n)), log_split_of(p.w), 1);
  }
  return can_norm(norm, blocks);
}

constexpr int kLogSplit = 3;  // of a part of split_product()
int split_blocks(const DeviceMatrix& w, int64_t rows) {
  return blocks_of(DeviceFormat::bf16, static_cast<int>(panels_of(w.n)), kLogSplit, rows);
}
StreamProducts split_of(const uint16_t* x, int64_t rows, const DeviceMatrix& w, float* y) {
  StreamProducts a{.x = x, .k = w.k, .rows = static_cast<int>(rows), .count = kSplits};
  const auto panels = static_cast<int>(panels_of(w.n)), steps = static_cast<int>(steps_of<DeviceFormat::bf16>(w.k));
  for (int s = 0; s < kSplits; ++s)
    a.all[s] = {static_cast<const unsigned char*>(w.data),
                y + s * rows * w.n,
                static_cast<int>(w.n),
                panels,
                s * split_blocks(w, rows),
                kLogSplit,
                steps * s / kSplits,
                steps * (s + 1) / kSplits,
                Product::Out::f32};
  return a;
}

}  // namespace

void cuda::split_product(const uint16_t* x, int64_t rows, const DeviceMatrix& w, float* y, CUstream_st* stream,
                         bool rounds) {
  require(!rounds || rows <= 8, "split_product: want at most 8 rows to round, found ", rows);
  const StreamProducts a = split_of(x, rows, w, y);
  const int blocks = kSplits * split_blocks(w, rows);
  if (!rounds) return launch<DeviceFormat::bf16>(a, blocks, stream, true);
  launch_dependent(stream_kernel<DeviceFormat::bf16, 1, true>, dim3(static_cast<unsigned>(blocks)),
                   dim3(kStreamThreads), 0, stream, a);
}

void cuda::norm_split_product(const RmsNormRows& norm, const DeviceMatrix& w, float* y, CUstream_st* stream,
                              bool rounds) {
  const int blocks = kSplits * split_blocks(w, norm.rows);
  if (reinterpret_cast<uintptr_t>(norm.h) % 16 != 0 || !can_norm(norm, blocks)) {
    rms_norm_rows(norm, stream);
    return split_product(norm.h, norm.rows, w, y, stream, rounds);
  }
  StreamProducts a = split_of(nullptr, 1, w, y);
  a.sums = norm.x, a.norm = norm.w, a.eps = norm.eps, a.h = norm.h, a.rounds = rounds;
  launch<DeviceFormat::bf16>(a, blocks, stream, true);
}

void cuda::norm_products(const RmsNormRows& norm, std::span<const Product> all, void* workspace, CUstream_st* stream) {
  check_products(norm.rows, all);
  require(norm.dim == all[0].w.k, "norm_products: want rows of ", all[0].w.k, " numbers, found ", norm.dim);
  for (const Product& p : all)
    require(p.y.of[0] != norm.x && p.y.of[0] != norm.h, "norm_products: want y apart from the norm's rows");
  if (!can_norm(norm, all)) {
    rms_norm_rows(norm, stream);
    return products(norm.h, norm.rows, all, workspace, stream, norm.rounds);
  }
  stream_products<DeviceFormat::bf16>(nullptr, 1, all, stream, false, &norm);
  stream_products<DeviceFormat::q8_0>(nullptr, 1, all, stream, false, &norm);
}

void cuda::products(const uint16_t* x, int64_t rows, std::span<const Product> all, void* workspace, CUstream_st* stream,
                    bool is_rounded) {
  check_products(rows, all);
  require(workspace != nullptr || products_workspace_bytes(all, rows) == 0, "products: want a workspace for ", rows,
          " rows");
  if (rows == 0) return;
  auto* free = static_cast<unsigned char*>(workspace);
  std::vector<WideProduct> wide;  // in bf16: together
  for (const XOrder order : {XOrder::plain, XOrder::eights, XOrder::fours}) {
    const uint16_t* ordered = order == XOrder::plain ? x : nullptr;
    for (const Product& p : all) {
      if (p.w.n == 0 || !is_wide(p.w, rows) || x_order(p.w.format) != order) continue;
      if (ordered == nullptr) {
        auto* to = reinterpret_cast<uint16_t*>(free);
        sort_rows({x, nullptr, nullptr, to, rows, p.w.k, order}, stream);
        ordered = to;
        free += ordered_bytes(rows, p.w.k);
      }
      const WideProduct product{.x = ordered,
                                .positions = rows,
                                .first = p.w,
                                .second = {},
                                .tiles = nullptr,
                                .n_tiles = nullptr,
                                .max_tiles = 0,
                                .y = p.y,
                                .out = wide_out(p.out),
                                .act = {}};
      if (order == XOrder::plain)
        wide.push_back(product);
      else
        wide_product(product, stream);
    }
  }
  for (size_t i = 0; i < wide.size(); i += kMostWide)
    wide_products(std::span(wide).subspan(i, std::min(wide.size() - i, size_t{kMostWide})), stream);
  if (has_ring(all, rows))
    ring_products(x, rows, all, stream);
  else
    stream_products<DeviceFormat::bf16>(x, rows, all, stream);
  stream_products<DeviceFormat::q8_0>(x, rows, all, stream, is_rounded);
  stream_products<DeviceFormat::q4_k>(x, rows, all, stream);
  stream_products<DeviceFormat::q6_k>(x, rows, all, stream);
  stream_products<DeviceFormat::f8_e4m3>(x, rows, all, stream);
}

}  // namespace corvid::kernels
