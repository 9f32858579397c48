#include "kernels/cuda_check.h"
#include "kernels/feed_forward/plan.h"
#include "kernels/products/dependent.cuh"
#include "kernels/route/route.h"

namespace corvid::kernels {
namespace {

constexpr int kFewPairs = 128;  // that one block gives their positions, too

// Sum over the threads before this one; the total of all in `total`.
template <int kThreads, class T>
__device__ T sum_before(T value, T& total) {
  __shared__ T sums[kThreads / 32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  T sum = value;
  for (int step = 1; step < 32; step *= 2) {
    const T other = __shfl_up_sync(0xffffffffU, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) sums[warp] = sum;
  __syncthreads();
  T before = 0;
  total = 0;
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w < warp) before += sums[w];
    total += sums[w];
  }
  return before + sum - value;
}

// Positions of the tiles of `count`: as even as multiples of 32 can be when there are several, so that blocks that
// share weights keep pace.
__device__ int tile_of(int count, int tile) {
  const int tiles = (count + tile - 1) / tile;
  return tiles <= 1 || tile % 32 != 0 ? tile : ((count + tiles - 1) / tiles + 31) / 32 * 32;
}

// One block. The experts' first positions, the tiles, and the shared expert's pairs; with kFew, all positions.
template <int kThreads, bool kFew>
__global__ void tiles_kernel(const int32_t* ids, int first_expert, ExpertPlanShape s, ExpertPlan plan, int32_t* first) {
  __shared__ int32_t counts[kMaxExperts], pair_ids[kFewPairs];
  const int n_experts = static_cast<int>(s.n_experts), tile = static_cast<int>(s.tile);
  const int pairs = static_cast<int>(s.rows * s.top_k), top_k = static_cast<int>(s.top_k);
  const int slots = top_k + (s.shared ? 1 : 0), thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < n_experts; e += kThreads) counts[e] = 0;
  wait_for_previous();
  start_next();
  __syncthreads();
  constexpr int kAtOnce = kFew ? 1 : 8;  // on their way together
  for (int base = thread; base < pairs; base += kThreads * kAtOnce) {
    int expert[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = base + j * kThreads;
      if (i < pairs) expert[j] = ids[i] - first_expert;
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = base + j * kThreads, e = expert[j];
      if (i >= pairs) break;
      if constexpr (kFew) pair_ids[i] = e;
      if (e >= 0 && e < n_experts)
        atomicAdd(&counts[e], 1);
      else
        plan.pos[i / top_k * slots + i % top_k] = -1;
    }
  }
  __syncthreads();

  // Positions in the upper half, tiles in the lower: one sum for both.
  const int per_thread = (n_experts + kThreads - 1) / kThreads, first_e = thread * per_thread;
  const int end_e = min(first_e + per_thread, n_experts);
  uint64_t mine = 0, total;
  for (int e = first_e; e < end_e; ++e) {
    const int size = tile_of(counts[e], tile);
    mine += static_cast<uint64_t>(counts[e]) << 32 | static_cast<uint32_t>((counts[e] + size - 1) / size);
  }
  const uint64_t before = sum_before<kThreads>(mine, total);
  auto position = static_cast<int>(before >> 32), at = static_cast<int>(before & 0xffffffffU);
  for (int e = first_e; e < end_e; ++e) {
    const int count = counts[e], size = tile_of(count, tile);
    if constexpr (kFew)
      counts[e] = position;
    else
      first[e] = position;
    for (int done = 0; done < count; done += size) plan.tiles[at++] = {e, position + done, min(size, count - done)};
    position += count;
  }
  const auto end = static_cast<int>(total >> 32), n_tiles = static_cast<int>(total & 0xffffffffU);
  const auto rows = static_cast<int>(s.rows);
  const int shared_tiles = s.shared ? (rows + tile - 1) / tile : 0;
  if (thread == 0) {
    *plan.n_tiles = n_tiles + shared_tiles;
    first[n_experts] = end, first[n_experts + 1] = first[n_experts + 2] = 0;
  }
  for (int i = thread; i < shared_tiles; i += kThreads)
    plan.tiles[n_tiles + i] = {n_experts, end + i * tile, min(tile, rows - i * tile)};
  for (int r = thread; s.shared && r < rows; r += kThreads) {
    plan.rows[end + r] = r;
    plan.pos[r * slots + top_k] = end + r;
  }
  if constexpr (kFew) {
    __syncthreads();
    if (thread >= pairs) return;
    const int e = pair_ids[thread];
    if (e < 0 || e >= n_experts) return;
    int to = counts[e];
    for (int i = 0; i < thread; ++i) to += pair_ids[i] == e;
    plan.rows[to] = thread / top_k;
    plan.pos[thread / top_k * slots + thread % top_k] = to;
  }
}

// A block for each expert: gives its pairs their positions, in the order of the rows. A warp has consecutive pairs, and
// looks at 32 at a time.
constexpr int kPositionThreads = 1024;
__global__ void positions_kernel(const int32_t* ids, int first_expert, ExpertPlanShape s, ExpertPlan plan,
                                 const int32_t* first) {
  wait_for_previous();
  start_next();
  const int e = static_cast<int>(blockIdx.x) + first_expert;
  const int pairs = static_cast<int>(s.rows * s.top_k), top_k = static_cast<int>(s.top_k);
  const int slots = top_k + (s.shared ? 1 : 0);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int each = (pairs + kPositionThreads - 1) / kPositionThreads * 32;
  const int begin = warp * each, end = min(begin + each, pairs);
  int count = 0;  // of this lane's pairs
#pragma unroll 8
  for (int i = begin + lane; i < end; i += 32) count += ids[i] == e;
  count = __reduce_add_sync(0xffffffffU, count);
  int total;
  int position = first[blockIdx.x] + sum_before<kPositionThreads>(lane == 0 ? count : 0, total);
  position = __shfl_sync(0xffffffffU, position, 0);
  if (count == 0) return;
#pragma unroll 4
  for (int i = begin + lane; i - lane < end; i += 32) {
    const bool is_mine = i < end && ids[i] == e;
    const uint32_t mine = __ballot_sync(0xffffffffU, is_mine);
    if (is_mine) {
      const int at = position + __popc(mine & ((1U << lane) - 1));
      plan.rows[at] = i / top_k;
      plan.pos[i / top_k * slots + i % top_k] = at;
    }
    position += __popc(mine);
  }
}

}  // namespace

void cuda::plan_experts(const int32_t* ids, int64_t first_expert, const ExpertPlanShape& s, const ExpertPlan& plan,
                        CUstream_st* stream) {
  // The experts' first positions lie behind the number of tiles.
  int32_t* first = plan.n_tiles + 1;
  const auto from = static_cast<int>(first_expert);
  if (s.rows * s.top_k <= kFewPairs)
    return launch_dependent(tiles_kernel<kFewPairs, true>, dim3(1), dim3(kFewPairs), 0, stream, ids, from, s, plan,
                            first);
  launch_dependent(tiles_kernel<1024, false>, dim3(1), dim3(1024), 0, stream, ids, from, s, plan, first);
  launch_dependent(positions_kernel, dim3(static_cast<unsigned>(s.n_experts)), dim3(kPositionThreads), 0, stream, ids,
                   from, s, plan, first);
}

}  // namespace corvid::kernels
