#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/products/dependent.cuh"
#include "kernels/products/products.h"
#include "kernels/products/split.h"
#include "kernels/products/stream.cuh"
#include "kernels/products/wide.h"

namespace corvid::kernels {
namespace {

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
  int rows, count;
  One all[kMaxProducts];
};

template <DeviceFormat kFormat, int kTiles>
__global__ __launch_bounds__(kStreamThreads,
                             kTiles <= 2 ? 2 : 1) void stream_kernel(const __grid_constant__ StreamProducts a) {
  start_next();
  int which = 0;
  while (which + 1 < a.count && static_cast<int>(blockIdx.x) >= a.all[which + 1].first_block) ++which;
  const StreamProducts::One& one = a.all[which];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first_panel = (static_cast<int>(blockIdx.x) - one.first_block) * block_panels(one.log_split);
  const int first_row = static_cast<int>(blockIdx.y) * kTiles * 8;

  const uint16_t* x[kTiles];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int row = first_row + n * 8 + lane / 4;
    x[n] = row < a.rows ? a.x + row * a.k : nullptr;
  }
  float sum[1][kTiles][4] = {};
  if (const int panel = first_panel + (warp >> one.log_split); panel < one.panels) {
    const unsigned char* const panels[1] = {one.w + panel * panel_bytes(kFormat, a.k)};
    const int parts = 1 << one.log_split;
    stream<kFormat, kTiles, 1, kAhead<kFormat, 1>>(panels, x, a.k, one.first_step + (warp & (parts - 1)), one.end_step,
                                                   parts, sum, lane, [] { wait_for_previous(); });
  }
  wait_for_previous();
  reduce<kTiles, 1>(sum, one.log_split, [&](int row, int column, const float(&total)[1]) {
    const int j = first_panel * 16 + row, r = first_row + column;
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

template <DeviceFormat kFormat>
void launch(const StreamProducts& a, int blocks, CUstream_st* stream) {
  const auto grid = [&](int tiles) {
    return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>((a.rows + tiles * 8 - 1) / (tiles * 8)));
  };
  if (a.rows <= 8)
    launch_dependent(stream_kernel<kFormat, 1>, grid(1), dim3(kStreamThreads), 0, stream, a);
  else if (a.rows <= 16)
    launch_dependent(stream_kernel<kFormat, 2>, grid(2), dim3(kStreamThreads), 0, stream, a);
  else if (a.rows <= 32)
    launch_dependent(stream_kernel<kFormat, 4>, grid(4), dim3(kStreamThreads), 0, stream, a);
  else
    launch_dependent(stream_kernel<kFormat, 8>, grid(8), dim3(kStreamThreads), 0, stream, a);
}

template <DeviceFormat kFormat>
void stream_products(const uint16_t* x, int64_t rows, std::span<const Product> all, CUstream_st* stream) {
  StreamProducts a{.x = x, .k = all[0].w.k, .rows = static_cast<int>(rows), .count = 0, .all = {}};
  int blocks = 0;
  const auto flush = [&] {
    if (blocks > 0) launch<kFormat>(a, blocks, stream);
    a.count = blocks = 0;
  };
  for (const Product& p : all) {
    if (p.w.format != kFormat || p.w.n == 0) continue;
    const auto panels = static_cast<int>(panels_of(p.w.n));
    const int log_split = log_split_of(panels, steps_of<kFormat>(p.w.k));
    a.all[a.count++] = {
        static_cast<const unsigned char*>(p.w.data), p.y,  static_cast<int>(p.w.n), panels, blocks, log_split, 0,
        static_cast<int>(steps_of<kFormat>(p.w.k)),  p.out};
    blocks += (panels + block_panels(log_split) - 1) / block_panels(log_split);
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

int64_t products_workspace_bytes(std::span<const Product>, int64_t) { return 0; }

void cuda::split_product(const uint16_t* x, int64_t rows, const DeviceMatrix& w, float* y, CUstream_st* stream) {
  StreamProducts a{.x = x, .k = w.k, .rows = static_cast<int>(rows), .count = kSplits, .all = {}};
  const auto panels = static_cast<int>(panels_of(w.n)), steps = static_cast<int>(steps_of<DeviceFormat::bf16>(w.k));
  constexpr int kLogSplit = 3;
  for (int s = 0; s < kSplits; ++s)
    a.all[s] = {static_cast<const unsigned char*>(w.data),
                y + s * rows * w.n,
                static_cast<int>(w.n),
                panels,
                s * panels,
                kLogSplit,
                steps * s / kSplits,
                steps * (s + 1) / kSplits,
                Product::Out::f32};
  launch<DeviceFormat::bf16>(a, kSplits * panels, stream);
}

void cuda::products(const uint16_t* x, int64_t rows, std::span<const Product> all, void*, CUstream_st* stream) {
  require(rows >= 0 && !all.empty(), "products: want rows >= 0 and a product, found ", rows, " and ", all.size());
  for (const Product& p : all)
    require(p.w.n_experts == 1 && p.w.n >= 0 && p.w.k >= 8 && p.w.k % 8 == 0 && p.w.k == all[0].w.k,
            "products: want one matrix of rows of ", all[0].w.k, " numbers, a multiple of 8, found ", p.w.n_experts,
            " of ", p.w.k);
  if (rows == 0) return;
  if (rows > kStreamRows) {
    for (const Product& p : all)
      if (p.w.format == DeviceFormat::bf16 && p.w.n > 0)
        wide_product({.x = x,
                      .positions = rows,
                      .first = p.w,
                      .second = {},
                      .tiles = nullptr,
                      .n_tiles = nullptr,
                      .max_tiles = 0,
                      .y = p.y,
                      .out = wide_out(p.out),
                      .act = {}},
                     stream);
  } else {
    stream_products<DeviceFormat::bf16>(x, rows, all, stream);
  }
  stream_products<DeviceFormat::q8_0>(x, rows, all, stream);
  stream_products<DeviceFormat::q4_k>(x, rows, all, stream);
  stream_products<DeviceFormat::q6_k>(x, rows, all, stream);
  stream_products<DeviceFormat::f8_e4m3>(x, rows, all, stream);
}

}  // namespace corvid::kernels
