#include "kernels/cuda_check.h"
#include "kernels/feed_forward/activate.cuh"
#include "kernels/feed_forward/formats.cuh"
#include "kernels/feed_forward/row.h"
#include "kernels/launch.cuh"
#include "kernels/products/dependent.cuh"
#include "kernels/products/stream.cuh"
#include "kernels/ptx.cuh"

namespace corvid::kernels {
namespace {

constexpr int kMostWarps = 16;           // of a block of down: all parts of all slots for one panel
constexpr int kMostRowBytes = 96 << 10;  // of its shared memory, whatever a launch needs of it

struct RowExperts {
  const uint16_t* h;
  DeviceMatrix gate, up, down;
  const void *shared_gate, *shared_up, *shared_down;  // null: no shared expert, which would have the last slot
  const int32_t* ids;
  const float* weights;
  uint16_t* m;
  float* x;
  int first_expert, slots, log_split;
  Activation act;
  // Bytes from panel to panel and from expert to expert: of gate and up, and of down. Made by the host, as the first
  // weights wait for what is computed of them.
  unsigned up_panel, down_panel;
  int64_t up_expert, down_expert;
  // To be fetched to the second-level cache.
  const unsigned char* next[3] = {};
  int next_bytes[3] = {};
};
constexpr int64_t kMostFetched = 12 << 20;

// A block's share of what is read next.
__device__ void fetch_next(const RowExperts& a) {
  constexpr int kPiece = 4096;
  const auto blocks = static_cast<int>(gridDim.x * gridDim.y);
  const auto block = static_cast<int>(blockIdx.y * gridDim.x + blockIdx.x);
#pragma unroll 1
  for (int i = 0; i < 3; ++i)
#pragma unroll 1
    for (int at = block * kPiece; at < a.next_bytes[i]; at += blocks * kPiece)
      asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(a.next[i] + at),
                   "r"(min(kPiece, a.next_bytes[i] - at)));
}

// The expert at a slot: n_experts for the shared one, -1 where it is another GPU's, 0 of a dense layer.
__device__ int expert_at(const RowExperts& a, int slot) {
  const auto n_experts = static_cast<int>(a.gate.n_experts);
  if (a.shared_gate != nullptr && slot + 1 == a.slots) return n_experts;
  if (a.ids == nullptr) return 0;
  const int expert = a.ids[slot] - a.first_expert;
  return expert >= 0 && expert < n_experts ? expert : -1;
}
__device__ const unsigned char* panel_of(const RowExperts& a, const void* data, const void* shared, int expert,
                                         int64_t expert_bytes, unsigned offset) {
  const bool is_shared = expert == static_cast<int>(a.gate.n_experts);
  return static_cast<const unsigned char*>(is_shared ? shared : data) + (is_shared ? 0 : expert * expert_bytes) +
         offset;
}
__device__ const unsigned char* down_panel_of(const RowExperts& a, int expert, int panel) {
  return panel_of(a, a.down.data, a.shared_down, expert, a.down_expert, static_cast<unsigned>(panel) * a.down_panel);
}

// Whether all lanes read x, as if the other columns of the tensor cores' tile were the same row: fewer instructions,
// but more registers than bf16 has to spare.
template <DeviceFormat kFormat>
constexpr bool kAllLanes = kFormat != DeviceFormat::bf16;

// blockIdx.y: the slot. Blocks of few warps: a multiprocessor has several, and all have nearly the same work.
template <DeviceFormat kFormat, int kWarps>
__global__ __launch_bounds__(kWarps * 32, 16 / kWarps) void up_kernel(const __grid_constant__ RowExperts a) {
  extern __shared__ __align__(16) unsigned char row[];
  __shared__ float parts[kWarps][2][kPanelRows];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  // The shared expert first: its weights, as a dense layer's, are on their way while experts are being chosen.
  const auto y = static_cast<int>(blockIdx.y), slot = y == 0 ? a.slots - 1 : y - 1;
  const auto k = static_cast<int>(a.gate.k), padded = static_cast<int>(padded_k(kFormat, k));
  const int in_block = block_panels(a.log_split, kWarps), n_parts = 1 << a.log_split;
  const int first_panel = static_cast<int>(blockIdx.x) * in_block, panel = first_panel + (warp >> a.log_split);
  const bool is_known = a.ids == nullptr || (a.shared_gate != nullptr && slot + 1 == a.slots);
  if (thread == 0) fetch_next(a);
  const auto stage_h = [&] {
    stage_row<kFormat>(kWarps * 32, padded, row, [&](int i) { return i < k ? a.h + i : nullptr; });
  };
  const auto wait = [] {
    wait_for_previous();
    start_next();  // now, so that the next kernel's blocks know that the ids are there
  };
  if (!is_known) {
    stage_h();  // the kernel before makes the ids alone
    wait();
  }
  const int expert = expert_at(a, slot);
  if (expert < 0) return;
  const auto begin = [&] {
    if (is_known) wait(), stage_h();
  };
  float sum[2][2] = {};
  // No steps for a warp without a panel, which takes part in begin()'s barrier all the same.
  const auto steps = static_cast<int>(steps_of<kFormat>(k));
  const auto n_panels = static_cast<int>(panels_of(a.gate.n));
  const bool has_panel = panel < n_panels;
  const unsigned offset = has_panel ? static_cast<unsigned>(panel) * a.up_panel : 0;
  const unsigned char* const panels[2] = {panel_of(a, a.gate.data, a.shared_gate, expert, a.up_expert, offset),
                                          panel_of(a, a.up.data, a.shared_up, expert, a.up_expert, offset)};
  stream_row<kFormat, 2, kAhead<kFormat, 2>, kAllLanes<kFormat>>(
      panels, row, 0, padded, padded, has_panel ? warp & (n_parts - 1) : steps, steps, n_parts, sum, lane, begin,
      stay_together(kFormat, n_parts, steps, first_panel + in_block <= n_panels));
#pragma unroll
  for (int p = 0; p < 2; ++p)
    if (lane % 4 == 0) parts[warp][p][lane / 4] = sum[p][0], parts[warp][p][lane / 4 + 8] = sum[p][1];
  __syncthreads();
  const int j = first_panel * static_cast<int>(kPanelRows) + thread;
  if (thread >= in_block * kPanelRows || j >= a.gate.n) return;
  float total[2] = {};
#pragma unroll  // so that all are asked for before the first is added
  for (int part = 0; part < kWarps; ++part)
    if (part < n_parts)
#pragma unroll
      for (int p = 0; p < 2; ++p)
        total[p] += parts[(thread / kPanelRows << a.log_split) + part][p][thread % kPanelRows];
  reinterpret_cast<__nv_bfloat16*>(a.m)[slot * a.gate.n + j] = __float2bfloat16_rn(activate(total[0], total[1], a.act));
}

// A block for each panel of down; its warps have the parts of the slots.
template <DeviceFormat kFormat>
__global__ __launch_bounds__(kMostWarps * 32, 1) void down_kernel(const __grid_constant__ RowExperts a) {
  extern __shared__ __align__(16) unsigned char rows[];  // [slots, padded]
  __shared__ float parts[kMostWarps][kPanelRows], weights[kMostWarps];
  __shared__ int experts[kMostWarps];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int n_parts = 1 << a.log_split, slot = warp >> a.log_split;
  const auto panel = static_cast<int>(blockIdx.x);
  const auto k = static_cast<int>(a.down.k), padded = static_cast<int>(padded_k(kFormat, k));
  start_next();
  const int expert = expert_at(a, slot);                         // the ids are no concern of the kernel before
  const bool has_own_row = is_on_grid(kFormat) && n_parts == 1;  // then a warp waits for no other until the end
  if (thread < a.slots) {
    const bool is_whole = a.weights == nullptr || (a.shared_down != nullptr && thread + 1 == a.slots);
    const float weight = is_whole ? 1.0F : a.weights[thread];  // asked for with the id
    experts[thread] = expert_at(a, thread);
    weights[thread] = experts[thread] < 0 ? 0.0F : weight;
  }
  if (!has_own_row) __syncthreads();
  const int j = panel * static_cast<int>(kPanelRows) + thread;
  const bool has_output = thread < kPanelRows && j < a.down.n;
  float before = 0;
  const auto begin = [&] {
    wait_for_previous();
    if (has_output) before = a.x[j];
    if constexpr (is_on_grid(kFormat))
      if (has_own_row) {
        put_ints(IntRow{rows, a.slots * padded}, slot * padded, (slot + 1) * padded, lane, 32, [&](int i) {
          const int column = i - slot * padded;
          return expert >= 0 && column < k ? a.m + slot * k + column : nullptr;
        });
        return __syncwarp();
      }
    stage_row<kFormat>(static_cast<int>(blockDim.x), a.slots * padded, rows, [&](int i) -> const uint16_t* {
      const int s = i / padded, column = i % padded;
      return i == 0 || (column < k && experts[s] >= 0) ? a.m + s * k + column : nullptr;
    });
  };
  float sum[1][2] = {};
  const auto steps = static_cast<int>(steps_of<kFormat>(k));
  const bool has_expert = expert >= 0;  // else no steps, but begin()'s barrier
  const unsigned char* const panels[1] = {down_panel_of(a, has_expert ? expert : 0, panel)};
  stream_row<kFormat, 1, kAhead<kFormat, 1>, kAllLanes<kFormat>>(panels, rows, slot * padded, a.slots * padded, padded,
                                                                 has_expert ? warp & (n_parts - 1) : steps, steps,
                                                                 n_parts, sum, lane, begin);
  if (lane % 4 == 0) parts[warp][lane / 4] = sum[0][0], parts[warp][lane / 4 + 8] = sum[0][1];
  __syncthreads();
  if (!has_output) return;
  // All are asked for before the first is added, in as many steps as there may be warps: a loop over those that there
  // are takes 1 us longer. A slot without an expert adds 0 times 0.
  float each[kMostWarps], by[kMostWarps], all = 0, total = 0;
  const int warps = a.slots << a.log_split;
#pragma unroll
  for (int w = 0; w < kMostWarps; ++w)
    if (w < warps) each[w] = parts[w][thread], by[w] = weights[w >> a.log_split];
#pragma unroll
  for (int w = 0; w < kMostWarps; ++w) {
    if (w >= warps) break;
    total += each[w];
    if (((w + 1) & (n_parts - 1)) != 0) continue;
    all = fmaf(by[w], total, all), total = 0;
  }
  a.x[j] = before + all;
}

// In q8_0 both want the division between L1 and shared memory that attention's kernels have, or they wait for each
// other to leave a multiprocessor: 80 us a step of Qwen3-30B-A3B.
template <DeviceFormat kFormat>
void launch(void (*kernel)(RowExperts), dim3 grid, unsigned threads, int64_t bytes, const RowExperts& a,
            CUstream_st* stream) {
  cuda::allow(kernel, kMostRowBytes);
  if (kFormat == DeviceFormat::q8_0) {
    cuda::want_shared_memory(kernel);
    launch_dependent(kernel, grid, dim3(threads), static_cast<size_t>(bytes), stream, a);
  } else {
    launch_with_cache(kernel, grid, dim3(threads), static_cast<size_t>(bytes), stream, a);
  }
}

template <DeviceFormat kFormat, int kWarps>
void launch_up(const RowExperts& a, CUstream_st* stream) {
  const int64_t panels = panels_of(a.gate.n), in_block = block_panels(a.log_split, kWarps);
  launch<kFormat>(up_kernel<kFormat, kWarps>,
                  dim3(static_cast<unsigned>((panels + in_block - 1) / in_block), static_cast<unsigned>(a.slots)),
                  kWarps * 32, row_bytes_of<kFormat>(padded_k(kFormat, a.gate.k)), a, stream);
}

template <DeviceFormat kFormat>
void launch_down(const RowExperts& a, CUstream_st* stream) {
  launch<kFormat>(down_kernel<kFormat>, dim3(static_cast<unsigned>(panels_of(a.down.n))),
                  static_cast<unsigned>(a.slots << a.log_split) * 32,
                  row_bytes_of<kFormat>(a.slots * padded_k(kFormat, a.down.k)), a, stream);
}

int log_split_of_down(const DeviceMatrix& down, int64_t slots) {
  return log_split_of(panels_of(down.n) * slots, down.k);
}

}  // namespace

bool row_fits(const FeedForward& a) {
  const DeviceMatrix &gate = a.experts.gate, &down = a.experts.down;
  const int64_t slots = a.top_k + (a.shared.gate.data != nullptr ? 1 : 0);
  return slots << std::max(log_split_of_down(down, a.top_k), log_split_of_down(down, slots)) <= kMostWarps &&
         int_row_bytes(slots * padded_k(down.format, down.k)) <= kMostRowBytes &&
         int_row_bytes(padded_k(gate.format, gate.k)) <= kMostRowBytes;
}

void cuda::experts_of_row(const FeedForward& a, bool shared, uint16_t* m, CUstream_st* stream) {
  RowExperts r{.h = a.h,
               .gate = a.experts.gate,
               .up = a.experts.up,
               .down = a.experts.down,
               .shared_gate = shared ? a.shared.gate.data : nullptr,
               .shared_up = shared ? a.shared.up.data : nullptr,
               .shared_down = shared ? a.shared.down.data : nullptr,
               .ids = a.ids,
               .weights = a.weights,
               .m = m,
               .x = a.x,
               .first_expert = static_cast<int>(a.first_expert),
               .slots = static_cast<int>(a.top_k) + (shared ? 1 : 0),
               .log_split = 0,
               .act = a.act,
               .up_panel = static_cast<unsigned>(panel_bytes(a.experts.gate.format, a.experts.gate.k)),
               .down_panel = static_cast<unsigned>(panel_bytes(a.experts.down.format, a.experts.down.k)),
               .up_expert = device_bytes(a.experts.gate.format, a.experts.gate.n, a.experts.gate.k),
               .down_expert = device_bytes(a.experts.down.format, a.experts.down.n, a.experts.down.k)};
  int64_t next_bytes = 0;
  for (const DeviceMatrix& w : a.next) next_bytes += device_bytes(w.format, w.n, w.k);
  for (int i = 0; i < 3 && a.ids != nullptr && next_bytes <= kMostFetched; ++i) {
    r.next[i] = static_cast<const unsigned char*>(a.next[i].data);
    r.next_bytes[i] = static_cast<int>(device_bytes(a.next[i].format, a.next[i].n, a.next[i].k));
  }
  r.log_split = log_split_of(panels_of(r.gate.n) * r.slots, r.gate.k);
  with_format(r.gate.format, [&]<DeviceFormat kFormat> {
    if (r.log_split <= 2)
      launch_up<kFormat, 4>(r, stream);
    else
      launch_up<kFormat, 8>(r, stream);
  });
  r.log_split = log_split_of_down(r.down, r.slots);
  with_format(r.down.format, [&]<DeviceFormat kFormat> { launch_down<kFormat>(r, stream); });
}

}  // namespace corvid::kernels
