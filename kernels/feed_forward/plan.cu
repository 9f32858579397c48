#include "kernels/cuda_check.h"
#include "kernels/feed_forward/plan.h"
#include "kernels/route/route.h"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 1024;
constexpr int kPerThread = static_cast<int>(kMaxExperts) / kThreads;  // experts

// Sum over the threads before this one; the total of all in `total`.
__device__ uint64_t sum_before(uint64_t value, uint64_t& total) {
  __shared__ uint64_t sums[kThreads / 32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  uint64_t sum = value;
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t other = __shfl_up_sync(0xffffffffU, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) sums[warp] = sum;
  __syncthreads();
  uint64_t before = 0;
  total = 0;
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w < warp) before += sums[w];
    total += sums[w];
  }
  return before + sum - value;
}

// One block. The experts' first positions, the tiles, and the shared expert's pairs. `first`: [n_experts
// + 1].
__global__ void tiles_kernel(const int32_t* ids, int first_expert, ExpertPlanShape s, ExpertPlan plan, int32_t* first) {
  __shared__ int32_t counts[kMaxExperts];
  const int n_experts = static_cast<int>(s.n_experts), tile = static_cast<int>(s.tile);
  const int pairs = static_cast<int>(s.rows * s.top_k), top_k = static_cast<int>(s.top_k);
  const int slots = top_k + (s.shared ? 1 : 0);
  for (int e = static_cast<int>(threadIdx.x); e < n_experts; e += kThreads) counts[e] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < pairs; i += kThreads) {
    const int e = ids[i] - first_expert;
    if (e >= 0 && e < n_experts)
      atomicAdd(&counts[e], 1);
    else
      plan.pos[i / top_k * slots + i % top_k] = -1;
  }
  __syncthreads();

  // Positions in the upper half, tiles in the lower: one sum for both.
  uint64_t mine = 0, total;
  for (int j = 0; j < kPerThread; ++j) {
    const int e = static_cast<int>(threadIdx.x) * kPerThread + j;
    if (e < n_experts)
      mine += static_cast<uint64_t>(counts[e]) << 32 | static_cast<uint32_t>((counts[e] + tile - 1) / tile);
  }
  const uint64_t before = sum_before(mine, total);
  auto position = static_cast<int>(before >> 32), at = static_cast<int>(before & 0xffffffffU);
  for (int j = 0; j < kPerThread; ++j) {
    const int e = static_cast<int>(threadIdx.x) * kPerThread + j;
    if (e >= n_experts) break;
    first[e] = position;
    for (int done = 0; done < counts[e]; done += tile)
      plan.tiles[at++] = {e, position + done, min(tile, counts[e] - done)};
    position += counts[e];
  }
  const auto end = static_cast<int>(total >> 32), n_tiles = static_cast<int>(total & 0xffffffffU);
  const auto rows = static_cast<int>(s.rows);
  const int shared_tiles = s.shared ? (rows + tile - 1) / tile : 0;
  if (threadIdx.x == 0) *plan.n_tiles = n_tiles + shared_tiles, first[n_experts] = end;
  for (int i = static_cast<int>(threadIdx.x); i < shared_tiles; i += kThreads)
    plan.tiles[n_tiles + i] = {n_experts, end + i * tile, min(tile, rows - i * tile)};
  for (int r = static_cast<int>(threadIdx.x); s.shared && r < rows; r += kThreads) {
    plan.rows[end + r] = r;
    plan.pos[r * slots + top_k] = end + r;
  }
}

// A warp for each expert: gives its pairs their positions, in the order of the rows.
__global__ void positions_kernel(const int32_t* ids, int first_expert, ExpertPlanShape s, ExpertPlan plan,
                                 const int32_t* first) {
  const int e = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y), lane = static_cast<int>(threadIdx.x);
  if (e >= s.n_experts) return;
  const int pairs = static_cast<int>(s.rows * s.top_k), top_k = static_cast<int>(s.top_k);
  const int slots = top_k + (s.shared ? 1 : 0);
  int position = first[e];
  for (int base = 0; base < pairs; base += 32) {
    const int i = base + lane;
    const bool is_mine = i < pairs && ids[i] - first_expert == e;
    const unsigned all = __ballot_sync(0xffffffffU, is_mine);
    if (is_mine) {
      const int at = position + __popc(all & ((1U << lane) - 1));
      plan.rows[at] = i / top_k;
      plan.pos[i / top_k * slots + i % top_k] = at;
    }
    position += __popc(all);
  }
}

}  // namespace

void cuda::plan_experts(const int32_t* ids, int64_t first_expert, const ExpertPlanShape& s, const ExpertPlan& plan,
                        CUstream_st* stream) {
  // The experts' first positions lie behind the number of tiles.
  int32_t* first = plan.n_tiles + 1;
  tiles_kernel<<<1, kThreads, 0, stream>>>(ids, static_cast<int>(first_expert), s, plan, first);
  positions_kernel<<<static_cast<unsigned>((s.n_experts + 7) / 8), dim3(32, 8), 0, stream>>>(
      ids, static_cast<int>(first_expert), s, plan, first);
  check_launch("plan_experts");
}

}  // namespace corvid::kernels
