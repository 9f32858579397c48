#include "kernels/cuda_check.h"
#include "kernels/feed_forward/activate.cuh"
#include "kernels/feed_forward/formats.cuh"
#include "kernels/feed_forward/stream.h"
#include "kernels/products/dependent.cuh"
#include "kernels/products/stream.cuh"

namespace corvid::kernels {
namespace {

// Of expert `expert`, which may be the shared one.
__device__ const unsigned char* panel_of(const ExpertStream& a, bool second, int expert, int panel, int64_t bytes) {
  const bool is_shared = expert == a.first.n_experts;
  const void* base = second ? (is_shared ? a.shared_second : a.second.data) : is_shared ? a.shared_first : a.first.data;
  const int64_t at = is_shared ? panel : expert * panels_of(a.first.n) + panel;
  return static_cast<const unsigned char*>(base) + at * bytes;
}

// kPanels == 2: gate and up, activated. 1: down.
template <DeviceFormat kFormat, int kTiles, int kPanels, bool kRounds>
__global__ __launch_bounds__(kStreamThreads,
                             kTiles <= 2 ? 2 : 1) void experts_kernel(const __grid_constant__ ExpertStream a,
                                                                      int log_split) {
  const auto tile = static_cast<int>(blockIdx.y);
  wait_for_previous();
  start_next();
  ExpertTile t;
  if (a.plan.tiles != nullptr) {
    if (tile >= *a.plan.n_tiles) return;
    t = a.plan.tiles[tile];
  } else {
    t = {0, tile * kTiles * 8, min(kTiles * 8, static_cast<int>(a.rows) - tile * kTiles * 8)};
  }
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t k = a.first.k;
  const auto n_panels = static_cast<int>(panels_of(a.first.n));
  const int first_panel = static_cast<int>(blockIdx.x) * block_panels(log_split);

  const uint16_t* x[kTiles];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int at = n * 8 + lane / 4;
    x[n] = nullptr;
    if (at < t.count) x[n] = a.x + (a.gather ? a.plan.rows[t.first + at] : t.first + at) * k;
  }
  float sum[kPanels][kTiles][4] = {};
  if (const int panel = first_panel + (warp >> log_split); panel < n_panels) {
    const unsigned char* panels[kPanels];
#pragma unroll
    for (int p = 0; p < kPanels; ++p) panels[p] = panel_of(a, p == 1, t.expert, panel, panel_bytes(kFormat, k));
    const int parts = 1 << log_split;
    stream<kFormat, kTiles, kPanels, kAhead<kFormat, kPanels>, false, kRounds>(
        panels, x, k, warp & (parts - 1), static_cast<int>(steps_of<kFormat>(k)), parts, sum, lane, [] {}, [] {});
  }
  reduce<kTiles, kPanels>(sum, log_split, [&](int row, int column, const float(&total)[kPanels]) {
    const int j = first_panel * 16 + row;
    if (j >= a.first.n || column >= t.count) return;
    const int64_t at = (int64_t{t.first} + column) * a.first.n + j;
    if constexpr (kPanels == 2) {
      const __nv_bfloat16 m = __float2bfloat16_rn(activate(total[0], total[1], a.act));
      a.m[at] = a.rounds ? on_grid(m) : __bfloat16_as_ushort(m);  // a warp has 32 numbers of a row
    } else
      a.out[at] = a.add ? a.out[at] + total[0] : total[0];
  });
}

int log_split_for(const DeviceMatrix& w, int64_t slots) { return log_split_of(panels_of(w.n) * slots, w.k); }

template <DeviceFormat kFormat, int kPanels, bool kRounds>
void launch(const ExpertStream& a, CUstream_st* stream) {
  const int64_t panels = panels_of(a.first.n);
  const int log_split = log_split_for(a.first, a.top_k);
  const int64_t groups = (panels + block_panels(log_split) - 1) / block_panels(log_split);
  const dim3 grid(static_cast<unsigned>(groups), static_cast<unsigned>(a.max_tiles));
  launch_with_cache(a.tile == 8    ? experts_kernel<kFormat, 1, kPanels, kRounds>
                    : a.tile == 16 ? experts_kernel<kFormat, 2, kPanels, kRounds>
                                   : experts_kernel<kFormat, 4, kPanels, kRounds>,
                    grid, dim3(kStreamThreads), 0, stream, a, log_split);
}

}  // namespace

bool may_round(const DeviceMatrix& gate, int64_t slots) {
  return gate.n % 32 == 0 && block_panels(log_split_for(gate, slots)) >= 2;
}

int64_t stream_tile(int64_t rows, int64_t top_k, int64_t n_experts) {
  const int64_t expected = (rows * top_k + n_experts - 1) / n_experts;
  const int64_t wanted = n_experts == 1 ? expected : 2 * expected;  // experts have more rows, or fewer
  return rows <= 8 || wanted <= 8 ? 8 : rows <= 16 || wanted <= 16 ? 16 : 32;
}

void cuda::expert_stream(const ExpertStream& a, CUstream_st* stream) {
  with_format(a.first.format, [&]<DeviceFormat kFormat> {
    const auto start = [&]<bool kRounds> {
      if (a.second.data != nullptr)
        launch<kFormat, 2, kRounds>(a, stream);
      else
        launch<kFormat, 1, kRounds>(a, stream);
    };
    if constexpr (is_on_grid(kFormat))
      if (!a.is_rounded) return start.template operator()<true>();
    start.template operator()<false>();
  });
}

}  // namespace corvid::kernels
