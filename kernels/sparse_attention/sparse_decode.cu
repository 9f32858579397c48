// Sparse attention of decode rows: few queries, each with some blocks of keys of its own to read once. The heads that
// share a kv head are the 16 rows of a tensor-core tile (rows that aren't there are zeros).
//
// A cluster of 1 to 16 blocks of threads serves a (row, kv head): as many as fill the GPU once. Where the scan's scores
// are given, every block of threads chooses for itself (it takes a microsecond, and no launch and no exchange between
// them). Keys are taken in units of 128, 16 for each of eight warps: a warp scores its own keys, and its weights and
// maxima go to shared memory; then each warp adds up all 128 values of its own 16 dimensions. So warps meet once a
// unit, and none holds sums that another has to add. A row's list of units is cut into 16 leaves; each block of threads
// sends what comes of its own to those that finish the heads, and these add leaves up in their order. That is so for
// any size of cluster, so a row's bits don't depend on the batch.
#include <algorithm>

#include "kernels/block_select/top_blocks.cuh"
#include "kernels/launch.cuh"
#include "kernels/sparse_attention/decode_tile.cuh"

namespace corvid::kernels {
namespace {

using decode::Decode, decode::chunk_at, decode::weight;

constexpr int kWarps = 8, kThreads = 32 * kWarps, kUnitKeys = kWarps * kPiece;
constexpr int kLeaves = 16;  // of the tree; the most blocks of threads of a cluster

// Sums over some keys, for kH heads and kN dimensions of each.
template <int kH, int kN>
struct Part {
  float most[kH], total[kH], acc[kH][kN];

  __device__ void clear() {
#pragma unroll
    for (int h = 0; h < kH; ++h) {
      most[h] = -INFINITY;
      total[h] = 0;
#pragma unroll
      for (int n = 0; n < kN; ++n) acc[h][n] = 0;
    }
  }
};

// Written so that every place that combines rounds alike.
template <int kH, int kN>
__device__ Part<kH, kN> combine(const Part<kH, kN>& a, const Part<kH, kN>& b, float scale_log2) {
  Part<kH, kN> sum;
#pragma unroll
  for (int h = 0; h < kH; ++h) {
    sum.most[h] = fmaxf(a.most[h], b.most[h]);
    const float of_a = weight(a.most[h], sum.most[h], scale_log2), of_b = weight(b.most[h], sum.most[h], scale_log2);
    sum.total[h] = fmaf(a.total[h], of_a, __fmul_rn(b.total[h], of_b));
#pragma unroll
    for (int n = 0; n < kN; ++n) sum.acc[h][n] = fmaf(a.acc[h][n], of_a, __fmul_rn(b.acc[h][n], of_b));
  }
  return sum;
}

// kIsOne: there are kLeaves blocks of threads with one unit each.
template <int kDim, bool kIsOne>
struct Shared {
  static constexpr int kBuffers = kIsOne ? 1 : 2;  // of values, weights and what belongs to them; of keys there is one
  static constexpr int kHalf = kUnitKeys * 2 * kDim, kRingBytes = (1 + kBuffers) * kHalf;
  uint4 weights[kBuffers][kWarps][32];     // of each warp's keys, as operands
  float2 stats[kBuffers][kWarps][kPiece];  // of each warp's keys and each head: greatest score, total weight
  alignas(128) char queries[kPiece * 2 * kDim];
  float2 received_stats[kIsOne ? 1 : kPiece / 2][kLeaves];
  int32_t chosen[cuda::kMaxTopK], slots[cuda::kMaxTopK];
  uint64_t arrival;  // of all that other blocks of threads send
};

// What is sent to one of some blocks of threads: [heads that it finishes][kLeaves][kDim] floats.
template <int kDim>
constexpr int received_bytes(int ranks) {
  return ranks == 1 ? 0 : kPiece / ranks * kLeaves * kDim * 4;
}

// Keys (or values) of a piece of 16 into shared memory; positions behind `pos` become zeros.
template <int kDim>
__device__ void load_piece(const std::byte* from, int first, int pos, uint32_t to, int warp) {
  constexpr int kChunks = kDim / 8;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kPiece * kChunks / 32; ++i) {
    const int r = (lane + 32 * i) / kChunks;
    ptx::copy_async(to + chunk_at<kDim>(16 * warp + r, lane % kChunks), from + 16 * lane + 512 * i, first + r <= pos);
  }
}

template <int kDim, bool kIsOne>
__global__ void __launch_bounds__(kThreads, 2) sparse_kernel(Decode a, int units_of_leaf) {
  using S = Shared<kDim, kIsOne>;
  constexpr int kTiles = kDim / 64, kN = 2 * kTiles;  // a warp's dimensions: tiles of 8, of which a lane has two
  extern __shared__ __align__(128) char ring[];       // keys of a unit, values of one or two
  __shared__ S shared;
  auto& top = *reinterpret_cast<cuda::TopBlocksShared*>(ring);  // gone before the first copy
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, g = lane / 4, quad = lane % 4;
  const int m = lane / 8, r = lane % 8;
  const int row = static_cast<int>(blockIdx.z), kv_head = static_cast<int>(blockIdx.y);
  const int ranks = static_cast<int>(gridDim.x), rank = ranks == 1 ? 0 : static_cast<int>(ptx::cluster_rank());
  const int list = row * a.n_kv_heads + kv_head, group = a.n_heads / a.n_kv_heads;
  if (ranks > 1) {
    if (t == 0) {
      ptx::init_barrier(&shared.arrival, 1);
      ptx::publish_barriers();
    }
    if constexpr (!kIsOne) {  // so that all are there before one sends to another
      __syncwarp();
      ptx::cluster_arrive();
    }
  }
  // The scan before this kernel has waited for all before it, so only its scores can still be missing: q, pos and pages
  // are there.
  if (a.scores == nullptr) ptx::wait_for_earlier();
  const int pos = __ldcg(a.pos + row);
  const int32_t* pages = a.pages + static_cast<int64_t>(__ldcg(a.seq + row)) * a.max_pages;
  if (t < kPiece * kDim / 8) {
    const int head = t / (kDim / 8), chunk = t % (kDim / 8);
    const auto* from = reinterpret_cast<const uint4*>(
        a.q + (static_cast<int64_t>(row) * a.n_heads + kv_head * group + head) * kDim + 8 * chunk);
    *reinterpret_cast<uint4*>(shared.queries + chunk_at<kDim>(head, chunk)) = head < group ? __ldcg(from) : uint4{};
  }
  int count = 0;
  if (a.scores != nullptr) {
    // The table of pages comes meanwhile, where there is room for it.
    constexpr int kBegin = (sizeof(cuda::TopBlocksShared) + 127) / 128 * 128, kMost = (2 * S::kHalf - kBegin) / 4;
    auto* table = reinterpret_cast<int32_t*>(ring + kBegin);
    const int nb = pos < 0 ? 0 : pos / a.block + 1;
    if (nb <= kMost)
      for (int i = t; i < nb; i += kThreads) table[i] = __ldcg(pages + i);
    ptx::wait_for_earlier();
    ptx::let_next_begin();
    count =
        cuda::top_blocks<kThreads>(a.scores + list * a.score_stride, nb, a.top_k, a.local_blocks, shared.chosen, top);
    if (t < count) shared.slots[t] = nb <= kMost ? table[shared.chosen[t]] : __ldcg(pages + shared.chosen[t]);
    if (rank == 0) {
      for (int i = t; i < a.top_k; i += kThreads) a.chosen[static_cast<int64_t>(list) * a.top_k + i] = shared.chosen[i];
      if (t == 0) a.chosen_counts[list] = count;
    }
  } else {
    ptx::let_next_begin();
    if (pos >= 0) count = a.counts[list];
    if (t < count) {
      const int id = a.ids[static_cast<int64_t>(list) * a.top_k + t];
      shared.chosen[t] = id;
      shared.slots[t] = __ldcg(pages + id);
    }
  }
  __syncthreads();

  // This block of threads has the leaves [rank, rank + 1) * kLeaves / ranks. Of their units some may not exist.
  const int per_block = a.block / kPiece, pieces = count * per_block, all_units = (pieces + kWarps - 1) / kWarps;
  const int first_unit = rank * (kLeaves / ranks) * units_of_leaf;
  const int real = min(kLeaves / ranks * units_of_leaf, all_units - first_unit);  // may be negative
  const int all_leaves = (all_units + units_of_leaf - 1) / units_of_leaf;
  if (ranks > 1 && t == 0) {
    const int heads = group > rank ? (group - rank + ranks - 1) / ranks : 0;
    ptx::arrive_expecting(&shared.arrival, heads * all_leaves * (kDim * 4 + 8));
  }
  // This warp's piece of a unit: its first position, or behind all if there is none.
  const auto position_of = [&](int unit) {
    const int n = (first_unit + unit) * kWarps + warp;
    return n < pieces ? shared.chosen[n / per_block] * a.block + n % per_block * kPiece : 0x7fffffff - kPiece;
  };
  // Of a single unit the keys make room; line i of leaf l: of head i * ranks + this rank.
  auto* received = reinterpret_cast<float(*)[kLeaves][kDim]>(ring + (kIsOne ? 0 : S::kRingBytes));
  const uint32_t keys = ptx::shared_address(ring), queries = ptx::shared_address(shared.queries);
  const auto values_of = [&](int unit) { return keys + static_cast<uint32_t>((1 + unit % S::kBuffers) * S::kHalf); };
  // One group of copies, empty where there is nothing.
  const auto load = [&](const std::byte* base, int unit, uint32_t to) {
    const int n = (first_unit + unit) * kWarps + warp;
    if (unit < real) {
      const int64_t offset = n < pieces
                                 ? shared.slots[n / per_block] * a.page_bytes +
                                       (static_cast<int64_t>(kv_head) * a.block + n % per_block * kPiece) * 2 * kDim
                                 : 0;
      load_piece<kDim>(base + offset, position_of(unit), pos, to, warp);
    }
    ptx::commit_copies();
  };
  const auto attend = [&](int unit) {
    Part<2, kN> part;
    const int buffer = unit % S::kBuffers, first = position_of(unit);
    const uint32_t values = values_of(unit);
    ptx::wait_copies<1>();
    __syncwarp();  // all lanes' keys have come
    float s[2][4] = {};
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      uint32_t q[4], k[4];
      ptx::ldmatrix4(q, queries + chunk_at<kDim>(m % 2 * 8 + r, 2 * step + m / 2));
      ptx::ldmatrix4(k, keys + chunk_at<kDim>(16 * warp + m / 2 * 8 + r, 2 * step + m % 2));
      ptx::mma_bf16(s[0], q[0], q[1], q[2], q[3], k[0], k[1]);
      ptx::mma_bf16(s[1], q[0], q[1], q[2], q[3], k[2], k[3]);
    }
    if constexpr (!kIsOne) {
      __syncwarp();  // all lanes have read their keys
      load(a.keys, unit + 1, keys);
    }
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (first + 2 * quad + 8 * n + i % 2 > pos) s[n][i] = -INFINITY;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float most = fmaxf(fmaxf(s[0][2 * h], s[0][2 * h + 1]), fmaxf(s[1][2 * h], s[1][2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, 1));
      most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, 2));
      const float base = most == -INFINITY ? 0 : most * a.scale_log2;
      float total = 0;
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) total += s[n][2 * h + i] = ptx::exp2_fast(s[n][2 * h + i] * a.scale_log2 - base);
      total += __shfl_xor_sync(ptx::kAll, total, 1);
      total += __shfl_xor_sync(ptx::kAll, total, 2);
      if (quad == 0) shared.stats[buffer][warp][g + 8 * h] = make_float2(most, total);
    }
    shared.weights[buffer][warp][lane] = make_uint4(ptx::pack_bf16(s[0][0], s[0][1]), ptx::pack_bf16(s[0][2], s[0][3]),
                                                    ptx::pack_bf16(s[1][0], s[1][1]), ptx::pack_bf16(s[1][2], s[1][3]));
    ptx::wait_copies<kIsOne ? 0 : 1>();
    // All weights and values are there; and all are done with the unit before, whose buffers are free.
    __syncthreads();
    if constexpr (!kIsOne) load(a.values, unit + 1, values_of(unit + 1));
    if constexpr (kIsOne) ptx::cluster_arrive();  // `received` is free
    part.clear();
#pragma unroll
    for (int w = 0; w < kWarps; ++w)
#pragma unroll
      for (int h = 0; h < 2; ++h) part.most[h] = fmaxf(part.most[h], shared.stats[buffer][w][g + 8 * h].x);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const uint4 p = shared.weights[buffer][w][lane];
      float d[kTiles][4] = {};
      uint32_t v[4];
      if constexpr (kTiles == 2) {
        ptx::ldmatrix4_transposed(v, values + chunk_at<kDim>(16 * w + m % 2 * 8 + r, 2 * warp + m / 2));
        ptx::mma_bf16(d[0], p.x, p.y, p.z, p.w, v[0], v[1]);
        ptx::mma_bf16(d[1], p.x, p.y, p.z, p.w, v[2], v[3]);
      } else {
        ptx::ldmatrix4_transposed(v, values + chunk_at<kDim>(16 * w + m % 2 * 8 + r, warp));
        ptx::mma_bf16(d[0], p.x, p.y, p.z, p.w, v[0], v[1]);
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float2 stats = shared.stats[buffer][w][g + 8 * h];
        const float factor = weight(stats.x, part.most[h], a.scale_log2);
        part.total[h] = fmaf(factor, stats.y, part.total[h]);
#pragma unroll
        for (int n = 0; n < kTiles; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) part.acc[h][2 * n + e] = fmaf(factor, d[n][2 * h + e], part.acc[h][2 * n + e]);
      }
    }
    return part;
  };

  load(a.keys, 0, keys);
  load(a.values, 0, values_of(0));
  // Sums of a leaf to those that finish its heads. Dimensions of a lane: kDim / 8 * warp + 8 n + 2 quad + e.
  const auto send = [&](int leaf, const Part<2, kN>& part) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int head = g + 8 * h;
      if (head >= group) continue;
      const auto to = static_cast<uint32_t>(head % ranks);
      ptx::send(to, ptx::shared_address(&received[head / ranks][leaf][kN * (4 * warp + quad)]), part.acc[h],
                &shared.arrival);
      if (warp == 0 && quad == 0) {
        const float stats[2] = {part.most[h], part.total[h]};
        ptx::send(to, ptx::shared_address(&shared.received_stats[head / ranks][leaf]), stats, &shared.arrival);
      }
    }
  };
  Part<2, kN> whole;
  whole.clear();
  if constexpr (kIsOne) {
    if (real <= 0) ptx::cluster_arrive();
    Part<2, kN> part = whole;
    if (real > 0) part = combine(part, attend(0), a.scale_log2);
    ptx::cluster_wait();
    if (real > 0) send(rank, part);
  } else {
    if (ranks > 1) ptx::cluster_wait();
#pragma unroll 1
    for (int unit = 0, leaf = rank * (kLeaves / ranks); unit < real; ++leaf) {
      Part<2, kN> part;
      part.clear();
#pragma unroll 1
      for (int i = 0; i < units_of_leaf && unit < real; ++i, ++unit) part = combine(part, attend(unit), a.scale_log2);
      if (ranks > 1)
        send(leaf, part);
      else
        whole = combine(whole, part, a.scale_log2);
    }
  }

  const int64_t line = static_cast<int64_t>(row) * a.n_heads + kv_head * group;
  if (ranks == 1) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int head = g + 8 * h;
      if (head >= group) continue;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const uint32_t two = ptx::pack_bf16(__fdiv_rn(whole.acc[h][2 * n], whole.total[h]),
                                            __fdiv_rn(whole.acc[h][2 * n + 1], whole.total[h]));
        *reinterpret_cast<uint32_t*>(a.o + (line + head) * kDim + kDim / 8 * warp + 8 * n + 2 * quad) =
            pos < 0 ? 0 : two;
      }
    }
    return;
  }
  // A warp for a head. Leaves are combined as above, but what they are multiplied with is found for all at once.
  const int head = warp * ranks + rank;
  if (head >= group) return;
  ptx::wait(&shared.arrival, 0);
  const float2 stats = lane < all_leaves ? shared.received_stats[warp][lane % kLeaves] : make_float2(-INFINITY, 0);
  float most = stats.x;
#pragma unroll
  for (int step = 1; step < kLeaves; step *= 2) {
    const float before = __shfl_up_sync(ptx::kAll, most, step);
    if (lane >= step) most = fmaxf(most, before);
  }
  const float before = __shfl_up_sync(ptx::kAll, most, 1);
  const float of_before = weight(lane == 0 ? -INFINITY : before, most, a.scale_log2);
  const float of_this = weight(stats.x, most, a.scale_log2);
  float total = 0, acc[kN] = {};
#pragma unroll 4
  for (int leaf = 0; leaf < all_leaves; ++leaf) {
    const float f = __shfl_sync(ptx::kAll, of_before, leaf), g_leaf = __shfl_sync(ptx::kAll, of_this, leaf);
    total = fmaf(total, f, __fmul_rn(__shfl_sync(ptx::kAll, stats.y, leaf), g_leaf));
#pragma unroll
    for (int n = 0; n < kN; ++n) acc[n] = fmaf(acc[n], f, __fmul_rn(received[warp][leaf][kN * lane + n], g_leaf));
  }
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const uint32_t two = ptx::pack_bf16(__fdiv_rn(acc[2 * n], total), __fdiv_rn(acc[2 * n + 1], total));
    *reinterpret_cast<uint32_t*>(a.o + (line + head) * kDim + kDim / 8 * (lane / 4) + 8 * n + 2 * (lane % 4)) =
        pos < 0 ? 0 : two;
  }
}

template <int kDim, bool kIsOne>
void start(const Decode& a, int ranks, int units_of_leaf, CUstream_st* stream) {
  using S = Shared<kDim, kIsOne>;
  static_assert(S::kRingBytes >= static_cast<int>(sizeof(cuda::TopBlocksShared)));
  static_assert(!kIsOne || received_bytes<kDim>(kLeaves) <= S::kHalf);
  const int bytes = S::kRingBytes + (kIsOne ? 0 : received_bytes<kDim>(ranks));
  const auto kernel = sparse_kernel<kDim, kIsOne>;
  cuda::allow(kernel, S::kRingBytes + (kIsOne ? 0 : received_bytes<kDim>(2)));
  cuda::want_shared_memory(kernel);
  if (kIsOne)
    cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "clusters of 16");
  const auto clusters = static_cast<unsigned>(ranks);
  cuda::launch("sparse attention", kernel,
               {dim3(clusters, static_cast<unsigned>(a.n_kv_heads), static_cast<unsigned>(a.rows)), kThreads,
                static_cast<size_t>(bytes), stream, clusters, true},
               a, units_of_leaf);
}

}  // namespace

void decode::attend_sparsely(const Decode& a, CUstream_st* stream) {
  const int units = (a.top_k * a.block + kUnitKeys - 1) / kUnitKeys, units_of_leaf = (units + kLeaves - 1) / kLeaves;
  const int64_t lists = static_cast<int64_t>(a.rows) * a.n_kv_heads, all = cuda::multiprocessors();
  // One unit each while all of these run at once. Else one to a multiprocessor, and some left: clusters of blocks of
  // threads lie within groups of 16 or so, and don't fill these.
  const bool is_one = units_of_leaf == 1 && lists * kLeaves <= all;
  int ranks = is_one ? kLeaves : kLeaves / 2;
  while (ranks > 1 && !is_one && ranks * lists > all * 3 / 4) ranks /= 2;
  if (a.head_dim == 64)
    is_one ? start<64, true>(a, ranks, units_of_leaf, stream) : start<64, false>(a, ranks, units_of_leaf, stream);
  else
    is_one ? start<128, true>(a, ranks, units_of_leaf, stream) : start<128, false>(a, ranks, units_of_leaf, stream);
}

}  // namespace corvid::kernels
