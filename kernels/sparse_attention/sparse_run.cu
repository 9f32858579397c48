// Sparse attention of a run of rows, by blocks of keys. Each query of a chunk reads 16 blocks of its own for each kv
// head, 4 MB of keys and values; a query at a time that is some 34 GB from L2 for 8,192 queries, more than it can give
// in twice the target. So a block of threads takes one block of keys (and values), and all the queries that chose it,
// in tiles of 64 lines (4 queries of 16 heads). A share of the result of (query, block) is whole: no running maximum.
// It goes to memory in bf16, and a last kernel adds up each query's shares by their weights, in ascending order of
// blocks.
//
//   count, plan, fill    lists of the queries that chose each block. A query's place in a list is a matter of luck, and
//                        of no effect: lines of a tile know nothing of each other.
//   attend               two warpgroups, each with tiles and queries of its own, share the keys, and two such blocks
//   run
//                        on a multiprocessor: one multiplies while others take exponentials or wait for their queries
//   add_up               a warp for a (row, head)
//
// What bounds it, for 8,192 queries on an H100 (1.91 ms at 8k, of which 0.2 for the rows that choose everything,
// densely): add_up reads 2.1 GB of shares at memory's speed (0.65 ms at 32k); attend keeps the tensor cores busy for
// 42% of its time, the schedulers for 46%, memory for 53%. Tried there: one block of three warpgroups with queries two
// tiles ahead (2.16 ms in all instead of 2.05), of four (2.09); sums of the chunk before beside attend, in the same
// kernel (1% less); chunks of 2,048, 1,024 and 512 rows, whose shares stay in L2 in part (4, 14 and 32% more).
// Registers that were spilled cost 0.4 ms, waiting for the next queries behind the stores 0.15.
#include "kernels/launch.cuh"
#include "kernels/sparse_attention/args.h"
#include "kernels/sparse_attention/runs.h"
#include "kernels/wgmma.cuh"

namespace corvid::kernels {
namespace {

constexpr int kDim = 128, kBlock = 128, kThreads = 256, kLines = 64, kGroups = 2, kStages = 1;
constexpr int kPanelBytes = kBlock * 128, kLinePanelBytes = kLines * 128;
constexpr int kTileBytes = 2 * kLinePanelBytes;
constexpr int kSharedBytes = 4 * kPanelBytes + kGroups * kStages * kTileBytes;  // keys, values, the warpgroups' queries

struct SparseRun : AttentionArgs {
  const int32_t* ids;
  const int32_t* chosen_counts;
  uint16_t* results;  // [rows, n_heads, top_k, kDim], permuted as attend_kernel says
  float* weights;     // [rows, n_heads, top_k]: log2 of the share's total weight
  int32_t* counts;    // [n_kv_heads, blocks]
  int32_t* offsets;
  int32_t* item_count;
  int4* items;  // list, first entry, entries of this item
  int32_t* places;
  int32_t* entries;  // row * top_k + slot
  int row, rows, top_k, blocks;
};

// Rows that see at most top_k blocks are served by dense_run.cu, which needs no memory for shares.
__device__ bool chooses_all(const SparseRun& a, int row) { return a.pos[a.row + row] / kBlock < a.top_k; }

__global__ void __launch_bounds__(kThreads) count_kernel(SparseRun a) {
  const int n = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (n >= a.rows * a.n_kv_heads * a.top_k) return;
  const int slot = n % a.top_k, list = n / a.top_k, row = list / a.n_kv_heads, kv_head = list % a.n_kv_heads;
  const int64_t from = static_cast<int64_t>(a.row + row) * a.n_kv_heads + kv_head;
  if (slot < a.chosen_counts[from] && !chooses_all(a, row))
    a.places[n] = atomicAdd(&a.counts[kv_head * a.blocks + a.ids[from * a.top_k + slot]], 1);
}

__device__ int2 scan_threads(int2 own, int2* shared) {  // exclusive sums over 1024 threads
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  int2 sum = own;
  for (int step = 1; step < 32; step *= 2) {
    const int x = __shfl_up_sync(ptx::kAll, sum.x, step), y = __shfl_up_sync(ptx::kAll, sum.y, step);
    if (lane >= step) sum.x += x, sum.y += y;
  }
  if (lane == 31) shared[t / 32] = sum;
  __syncthreads();
  if (t < 32) {
    const int2 whole = shared[t];
    int2 before = whole;
    for (int step = 1; step < 32; step *= 2) {
      const int x = __shfl_up_sync(ptx::kAll, before.x, step), y = __shfl_up_sync(ptx::kAll, before.y, step);
      if (lane >= step) before.x += x, before.y += y;
    }
    shared[t] = make_int2(before.x - whole.x, before.y - whole.y);
  }
  __syncthreads();
  return make_int2(shared[t / 32].x + sum.x - own.x, shared[t / 32].y + sum.y - own.y);
}

__global__ void __launch_bounds__(1024) plan_kernel(SparseRun a) {
  __shared__ int2 shared[32];
  const int lists = a.n_kv_heads * a.blocks, each = (lists + 1023) / 1024;
  const int first = static_cast<int>(threadIdx.x) * each, end = min(first + each, lists);
  int2 own = make_int2(0, 0);
  for (int list = first; list < end; ++list) {
    own.x += a.counts[list];
    own.y += (a.counts[list] + static_cast<int>(kItemQueries) - 1) / static_cast<int>(kItemQueries);
  }
  int2 at = scan_threads(own, shared);
  if (threadIdx.x == 1023) *a.item_count = at.y + own.y;
  for (int list = first; list < end; ++list) {
    a.offsets[list] = at.x;
    for (int entry = 0; entry < a.counts[list]; entry += kItemQueries)
      a.items[at.y++] = make_int4(list, at.x + entry, min(static_cast<int>(kItemQueries), a.counts[list] - entry), 0);
    at.x += a.counts[list];
  }
}

__global__ void __launch_bounds__(kThreads) fill_kernel(SparseRun a) {
  const int n = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (n >= a.rows * a.n_kv_heads * a.top_k) return;
  const int slot = n % a.top_k, list = n / a.top_k, row = list / a.n_kv_heads, kv_head = list % a.n_kv_heads;
  const int64_t from = static_cast<int64_t>(a.row + row) * a.n_kv_heads + kv_head;
  if (slot < a.chosen_counts[from] && !chooses_all(a, row))
    a.entries[a.offsets[kv_head * a.blocks + a.ids[from * a.top_k + slot]] + a.places[n]] = row * a.top_k + slot;
}

__global__ void __launch_bounds__(128 * kGroups, 2) attend_kernel(SparseRun a) {
  extern __shared__ __align__(1024) char shared[];
  // Of each query of the item: its row of this chunk (-1: none), the last key of the block that it sees, and where its
  // share of its first head goes.
  __shared__ int32_t rows[kItemQueries], seen[kItemQueries], shares[kItemQueries];
  const int4 item = a.items[blockIdx.x];
  if (static_cast<int>(blockIdx.x) >= *a.item_count) return;
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, g = lane / 4, quad = lane % 4;
  const int warpgroup = t / 128, own = t % 128;
  const int kv_head = item.x / a.blocks, b = item.x % a.blocks, group = a.n_heads / a.n_kv_heads;
  const int shift = 31 - __clz(group);  // a power of two
  const int n = item.z;
  const int per_tile = kLines >> shift, tiles = (n + per_tile - 1) / per_tile;
  const uint32_t keys = ptx::shared_address(shared), values = keys + 2 * kPanelBytes;
  const uint32_t queries = values + static_cast<uint32_t>(2 * kPanelBytes + warpgroup * kStages * kTileBytes);
  const uint64_t query_operand = ptx::operand(queries), key_operand = ptx::operand(keys);
  const uint64_t value_operand = ptx::operand(values);
  // The queries of a tile into shared memory; lines of queries that aren't there are zeros.
  const auto load_queries = [&](int tile, int stage) {
#pragma unroll 1  // a loop: what it would keep in registers otherwise is spilled
    for (int c = own; c < kLines * kDim / 8; c += 128) {
      const int line = c / 16, chunk = c % 16;
      const int row = rows[tile * per_tile + (line >> shift)];
      const int64_t from =
          (static_cast<int64_t>(a.row + max(row, 0)) * a.n_heads + kv_head * group + (line & (group - 1))) * kDim +
          8 * chunk;
      ptx::copy_async(queries + static_cast<uint32_t>(stage * kTileBytes + chunk / 8 * kLinePanelBytes) +
                          ptx::swizzled(line, chunk % 8),
                      a.q + from, row >= 0);
    }
  };
  // Behind the last row's position nothing is stored. Scores there are masked, but values must be numbers.
  const int known = a.pos[a.row + a.rows - 1] - b * kBlock;
  const int64_t page =
      static_cast<int64_t>(a.pages[static_cast<int64_t>(a.seq[a.row]) * a.max_pages + b]) * a.page_bytes +
      static_cast<int64_t>(kv_head) * kBlock * kDim * 2;
  const auto load_block = [&](const std::byte* from, uint32_t to) {
#pragma unroll
    for (int c = t; c < kBlock * kDim / 8; c += 128 * kGroups) {
      const int line = c / 16, chunk = c % 16;
      ptx::copy_async(to + static_cast<uint32_t>(chunk / 8 * kPanelBytes) + ptx::swizzled(line, chunk % 8),
                      from + page + 16 * c, line <= known);
    }
  };
  load_block(a.keys, keys);
  ptx::commit_copies();
  load_block(a.values, values);
  ptx::commit_copies();
  if (t < kItemQueries) {
    const int entry = t < n ? a.entries[item.y + t] : -1, row = entry < 0 ? -1 : entry / a.top_k;
    rows[t] = row;
    seen[t] = row < 0 ? kBlock : a.pos[a.row + row] - b * kBlock;
    shares[t] = (row * a.n_heads + kv_head * group) * a.top_k + entry - row * a.top_k;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kStages; ++i) {
    if (warpgroup + i * kGroups < tiles) load_queries(warpgroup + i * kGroups, i);
    ptx::commit_copies();
  }
  ptx::wait_copies<kStages - 1>();
  ptx::fence_for_engines();
  __syncthreads();

  int stage = 0;
  for (int tile = warpgroup; tile < tiles; tile += kGroups) {
    float s[64];
    uint32_t p[8][4];
    float log_weight[2];
    int at[2];  // of the lines' queries
    const uint64_t tile_operand = ptx::further(query_operand, stage * kTileBytes);
    ptx::begin_products();
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step)
      ptx::product_q_k(s, ptx::further(tile_operand, step / 4 * kLinePanelBytes + step % 4 * 32),
                       ptx::further(key_operand, step / 4 * kPanelBytes + step % 4 * 32), step > 0);
    ptx::commit_products();
    ptx::wait_products<0>();
    ptx::arrived(s);
    ptx::sync_warpgroup(1 + warpgroup);  // all four warps are done with these queries
    if (tile + kStages * kGroups < tiles) load_queries(tile + kStages * kGroups, stage);
    ptx::commit_copies();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      at[h] = tile * per_tile + ((16 * (warp % 4) + g + 8 * h) >> shift);
      const int last = seen[at[h]];
      if (last < kBlock - 1) {
#pragma unroll
        for (int j = 0; j < 16; ++j)
#pragma unroll
          for (int i = 0; i < 2; ++i)
            if (8 * j + 2 * quad + i > last) s[4 * j + 2 * h + i] = -INFINITY;
      }
      float most = -INFINITY;
#pragma unroll
      for (int j = 0; j < 16; ++j) most = fmaxf(most, fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, 1));
      most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, 2));
      const float base = most * a.scale_log2;  // finite: a row sees the first key of each block that it chose
      float total = 0;
#pragma unroll
      for (int j = 0; j < 16; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          total += s[4 * j + 2 * h + i] = ptx::exp2_fast(fmaf(s[4 * j + 2 * h + i], a.scale_log2, -base));
      total += __shfl_xor_sync(ptx::kAll, total, 1);
      total += __shfl_xor_sync(ptx::kAll, total, 2);
      log_weight[h] = base + log2f(total);
      const float inverse = 1 / total;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        p[j][h] = ptx::pack_bf16(s[8 * j + 2 * h] * inverse, s[8 * j + 2 * h + 1] * inverse);
        p[j][h + 2] = ptx::pack_bf16(s[8 * j + 4 + 2 * h] * inverse, s[8 * j + 4 + 2 * h + 1] * inverse);
      }
    }
    float d[2][32];  // by halves of the dimensions
    ptx::begin_products();
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int step = 0; step < kBlock / 16; ++step)
        ptx::product_p_v(d[half], p[step], ptx::further(value_operand, half * kPanelBytes + step * 2048), step > 0);
    ptx::commit_products();
    // The next queries must have come before the stores below, for which the fence would wait, too.
    ptx::wait_copies<kStages - 1>();
    ptx::fence_for_engines();
    stage = (stage + 1) % kStages;
    ptx::wait_products<0>();
    ptx::sync_warpgroup(1 + warpgroup);  // of all four warps' copying
    ptx::arrived(d[0]);
    ptx::arrived(d[1]);
    // A lane's eight numbers of four tiles of columns are written side by side: dimension 8 (4 v + i) + 2 quad + e at
    // 32 v + 8 quad + 2 i + e.
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (rows[at[h]] < 0) continue;
      const int64_t share = shares[at[h]] + ((16 * (warp % 4) + g + 8 * h) & (group - 1)) * a.top_k;
      if (quad == 0) a.weights[share] = log_weight[h];
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        const float* from = &d[v / 2][v % 2 * 16 + 2 * h];
        uint4 out;
        out.x = ptx::pack_bf16(from[0], from[1]);
        out.y = ptx::pack_bf16(from[4], from[5]);
        out.z = ptx::pack_bf16(from[8], from[9]);
        out.w = ptx::pack_bf16(from[12], from[13]);
        // Written once and read once, by another kernel: queries should stay in L2, not these.
        __stcs(reinterpret_cast<uint4*>(a.results + share * kDim + 32 * v + 8 * quad), out);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads) add_up_kernel(SparseRun a) {
  const int line = static_cast<int>((blockIdx.x * kThreads + threadIdx.x) / 32),
            lane = static_cast<int>(threadIdx.x) % 32;
  if (line >= a.rows * a.n_heads || chooses_all(a, line / a.n_heads)) return;
  const int row = line / a.n_heads, head = line % a.n_heads, kv_head = head / (a.n_heads / a.n_kv_heads);
  const int count = a.chosen_counts[static_cast<int64_t>(a.row + row) * a.n_kv_heads + kv_head];
  const int64_t first = static_cast<int64_t>(line) * a.top_k;
  float most = -INFINITY, total = 0, sum[4] = {};
  for (int i = lane; i < count; i += 32) most = fmaxf(most, a.weights[first + i]);
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, step));
#pragma unroll 16
  for (int i = 0; i < count; ++i) {
    const uint2 share = __ldcs(reinterpret_cast<const uint2*>(a.results + (first + i) * kDim + 4 * lane));
    const float weight = ptx::exp2_fast(a.weights[first + i] - most);
    total += weight;
    sum[0] = fmaf(weight, __uint_as_float(share.x << 16), sum[0]);
    sum[1] = fmaf(weight, __uint_as_float(share.x & 0xffff0000U), sum[1]);
    sum[2] = fmaf(weight, __uint_as_float(share.y << 16), sum[2]);
    sum[3] = fmaf(weight, __uint_as_float(share.y & 0xffff0000U), sum[3]);
  }
  const float inverse = 1 / total;
  uint16_t* o = a.o + (static_cast<int64_t>(a.row + row) * a.n_heads + head) * kDim;
  const int dim = 8 * (4 * (lane / 8) + lane % 2 * 2) + 2 * (lane % 8 / 2);
  *reinterpret_cast<uint32_t*>(o + dim) = ptx::pack_bf16(sum[0] * inverse, sum[1] * inverse);
  *reinterpret_cast<uint32_t*>(o + dim + 8) = ptx::pack_bf16(sum[2] * inverse, sum[3] * inverse);
}

}  // namespace

void cuda::attend_run_by_blocks(const PagedAttention& a, const PrefillRun& run, CUstream_st* stream) {
  attend_run_densely(a, run, a.top_k * kBlock, stream);
  allow(attend_kernel, kSharedBytes);
  for (int64_t done = 0; done < run.rows; done += kShareRows) {
    const int64_t rows = std::min(kShareRows, run.rows - done);
    const Shares at(a, rows, run.max_keys);
    const auto part = [&]<class T>(int64_t offset, T*) { return reinterpret_cast<T*>(a.workspace + offset); };
    SparseRun sparse{attention_args(a),
                     a.ids,
                     a.counts,
                     part(at.results, static_cast<uint16_t*>(nullptr)),
                     part(at.weights, static_cast<float*>(nullptr)),
                     part(at.counts, static_cast<int32_t*>(nullptr)),
                     part(at.offsets, static_cast<int32_t*>(nullptr)),
                     part(at.item_count, static_cast<int32_t*>(nullptr)),
                     part(at.item_list, static_cast<int4*>(nullptr)),
                     part(at.places, static_cast<int32_t*>(nullptr)),
                     part(at.entry_list, static_cast<int32_t*>(nullptr)),
                     static_cast<int>(run.row + done),
                     static_cast<int>(rows),
                     static_cast<int>(a.top_k),
                     static_cast<int>(at.lists / a.n_kv_heads)};
    check(cudaMemsetAsync(sparse.counts, 0, static_cast<size_t>(at.lists) * 4, stream), "sparse attention's counts");
    const dim3 entry_grid(static_cast<unsigned>((at.entries + kThreads - 1) / kThreads));
    launch("sparse attention's counts", count_kernel, {entry_grid, kThreads, 0, stream}, sparse);
    launch("sparse attention's plan", plan_kernel, {dim3(1), 1024, 0, stream}, sparse);
    launch("sparse attention's lists", fill_kernel, {entry_grid, kThreads, 0, stream}, sparse);
    launch("sparse attention of a run", attend_kernel,
           {dim3(static_cast<unsigned>(at.items)), 128 * kGroups, kSharedBytes, stream}, sparse);
    launch("sparse attention's sum", add_up_kernel,
           {dim3(static_cast<unsigned>((rows * a.n_heads * 32 + kThreads - 1) / kThreads)), kThreads, 0, stream},
           sparse);
  }
}

}  // namespace corvid::kernels
