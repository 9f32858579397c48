// Sparse attention of decode rows: few queries, each with some blocks of keys of its own to read once. The heads that
// share a kv head are the 16 rows of a tensor-core tile (rows that aren't there are zeros).
//
// A cluster of 1 to 16 blocks of threads serves a (row, kv head): as many as fill the GPU once. Where the scan's scores
// are given, every block of threads chooses for itself (it takes a microsecond, and no launch and no exchange between
// them). Keys are taken in units of 128, 16 for each of eight warps: a warp scores its own keys, and its weights and
// maxima go to shared memory; then each warp adds up all 128 values of its own 16 dimensions. So warps meet once a
// unit, and none holds sums that another has to add. A row's list of units is cut into 16 leaves of a binary tree; each
// block of threads has a part of the tree, and sends what comes of it to those that finish the heads. The tree is the
// same for any size of cluster, so a row's bits don't depend on the batch.
//
// What bounds it: at batch 1 steps that wait for each other. Of 7 us for 8k keys on an H200, whose first keys are there
// when the scan may go on, the scan takes 1.3 (queries 0.3, products 0.5, the blocks' maxima 0.4), then 0.6 pass until
// this kernel goes on, 1.0 with choosing (1.8 of 256 scores, 3 of 8,192), 0.5 until the keys are asked for and 0.7
// until they have come, 0.6 with scores, 0.6 with values, 0.5 with what others send and 0.4 with its sum; then the next
// kernel goes on. Of the stalls some are for instructions, each of which runs once: there should be few. In a batch of
// 32 memory (42 us alone, 68% of its peak).
//
// Tried: two units for each of 8 blocks of threads at batch 1 (2 us more); three units ahead in 192 KB, so that one
// block of threads has a multiprocessor to itself, as for clusters with 32 KB for what is sent (20 us instead of 16 at
// batch 8: some of the clusters find no place and run when the others have ended); parts of the tree that wait in
// registers beyond two (spilled: 87 us at batch 32); going through the code once before the scan has ended, so that its
// instructions are there (3 us more).
#include <algorithm>

#include "kernels/block_select/top_blocks.cuh"
#include "kernels/launch.cuh"
#include "kernels/sparse_attention/decode_tile.cuh"
#include "kernels/sparse_attention/sums_tree.cuh"

namespace corvid::kernels {
namespace {

using namespace decode;

constexpr int kWarps = 8, kThreads = 32 * kWarps, kUnitKeys = kWarps * kPiece;
constexpr int kLeaves = 16;  // of the tree; the most blocks of threads of a cluster

// kIsOne: there are kLeaves blocks of threads with one unit each.
template <int kDim, bool kIsOne>
struct Shared {
  static constexpr int kBuffers = kIsOne ? 1 : 2;  // of values, weights and what belongs to them; of keys there is one
  static constexpr int kHalf = kUnitKeys * 2 * kDim, kRingBytes = (1 + kBuffers) * kHalf;
  uint4 weights[kBuffers][kWarps][32];     // of each warp's keys, as operands
  float2 stats[kBuffers][kWarps][kPiece];  // of each warp's keys and each head: greatest score, total weight
  alignas(128) char queries[kPiece * 2 * kDim];
  float2 received_stats[kLeaves];
  int32_t chosen[cuda::kMaxTopK], slots[cuda::kMaxTopK];
  uint64_t arrival;  // of all that other blocks of threads send
};

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
      const int heads = group > rank ? (group - rank + ranks - 1) / ranks : 0;
      ptx::init_barrier(&shared.arrival, 1);
      ptx::publish_barriers();
      ptx::arrive_expecting(&shared.arrival, heads * ranks * (kDim * 4 + 8));
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
    cuda::prepare_top_blocks<kThreads>(top);
    __syncthreads();
    ptx::wait_for_earlier();
    count = cuda::top_blocks<kThreads>(a.scores + list * a.score_stride, nb, a.top_k, a.local_blocks, top,
                                       [&](int i, int32_t id) {
                                         shared.chosen[i] = id;
                                         if (id >= 0) shared.slots[i] = nb <= kMost ? table[id] : __ldcg(pages + id);
                                         if (rank == 0) a.chosen[static_cast<int64_t>(list) * a.top_k + i] = id;
                                       });
    if (rank == 0 && t == 0) a.chosen_counts[list] = count;
  } else {
    ptx::let_next_begin();
    if (pos >= 0) count = a.counts[list];
    if (t < count) {
      const int id = a.ids[static_cast<int64_t>(list) * a.top_k + t];
      shared.chosen[t] = id;
      shared.slots[t] = __ldcg(pages + id);
    }
    __syncthreads();
  }

  // This block of threads has the leaves [rank, rank + 1) * kLeaves / ranks. Of their units some may not exist.
  const int per_block = a.block / kPiece;
  const auto block_of = [&](int piece) {
    return static_cast<int>(static_cast<uint64_t>(piece) * a.pieces_inverse >> 32);
  };
  const int pieces = count * per_block, all_units = (pieces + kWarps - 1) / kWarps;
  const int first_unit = rank * (kLeaves / ranks) * units_of_leaf;
  const int real = min(kLeaves / ranks * units_of_leaf, all_units - first_unit);  // may be negative
  // This warp's piece of a unit: its first position, or behind all if there is none.
  const auto position_of = [&](int unit) {
    const int n = (first_unit + unit) * kWarps + warp;
    const int at = block_of(n);
    return n < pieces ? shared.chosen[at] * a.block + (n - at * per_block) * kPiece : 0x7fffffff - kPiece;
  };
  // Where the last unit's keys have been: line i * ranks + r is rank r's sums of head i * ranks + this rank.
  auto& received = *reinterpret_cast<float(*)[kLeaves][kDim]>(ring);
  const uint32_t keys = ptx::shared_address(ring), queries = ptx::shared_address(shared.queries);
  const auto values_of = [&](int unit) { return keys + static_cast<uint32_t>((1 + unit % S::kBuffers) * S::kHalf); };
  // One group of copies, empty where there is nothing.
  const auto load = [&](const std::byte* base, int unit, uint32_t to) {
    const int n = (first_unit + unit) * kWarps + warp;
    if (unit < real) {
      const int at = block_of(n);
      const int64_t offset =
          n < pieces ? shared.slots[at] * a.page_bytes +
                           (static_cast<int64_t>(kv_head) * a.block + (n - at * per_block) * kPiece) * 2 * kDim
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
    if (ranks > 1 && unit + 1 == real) ptx::cluster_arrive();  // `received` is free
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
  // Only now, so that what the next kernel asks for comes behind these.
  if (a.scores != nullptr) ptx::let_next_begin();
  if (ranks > 1 && real <= 0) ptx::cluster_arrive();
  Tree<2, kN, kThreads> tree;
  if constexpr (kIsOne) {
    tree.last.clear();
    if (real > 0) tree.last = combine(tree.last, attend(0), a.scale_log2);
  } else {
    tree.store = reinterpret_cast<float*>(ring + S::kRingBytes) + t;
#pragma unroll 1
    for (int leaf = 0, unit = 0; leaf < kLeaves / ranks; ++leaf) {
      Part<2, kN> part;
      part.clear();
#pragma unroll 1
      for (int i = 0; i < units_of_leaf && unit < real; ++i, ++unit) part = combine(part, attend(unit), a.scale_log2);
      tree.last = part;
      tree.add(a.scale_log2, leaf + 1 == kLeaves / ranks);
    }
  }

  const int64_t line = static_cast<int64_t>(row) * a.n_heads + kv_head * group;
  // Dimensions of a lane: kDim / 8 * warp + 8 n + 2 quad + e.
  if (ranks == 1) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int head = g + 8 * h;
      if (head >= group) continue;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const uint32_t two = ptx::pack_bf16(__fdiv_rn(tree.last.acc[h][2 * n], tree.last.total[h]),
                                            __fdiv_rn(tree.last.acc[h][2 * n + 1], tree.last.total[h]));
        *reinterpret_cast<uint32_t*>(a.o + (line + head) * kDim + kDim / 8 * warp + 8 * n + 2 * quad) =
            pos < 0 ? 0 : two;
      }
    }
    return;
  }
  ptx::cluster_wait();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int head = g + 8 * h;
    if (head >= group) continue;
    const auto to = static_cast<uint32_t>(head % ranks);
    const int at = head / ranks * ranks + rank;
    ptx::send(to, ptx::shared_address(&received[at][kN * (4 * warp + quad)]), tree.last.acc[h], &shared.arrival);
    if (warp == 0 && quad == 0) {
      const float stats[2] = {tree.last.most[h], tree.last.total[h]};
      ptx::send(to, ptx::shared_address(&shared.received_stats[at]), stats, &shared.arrival);
    }
  }
  // A thread for a dimension of a head.
  const int at = t % kDim, dim = kDim / 8 * (at / (4 * kN)) + at % kN / 2 * 8 + at % (4 * kN) / kN * 2 + at % 2;
  if (t / kDim * ranks + rank < group) ptx::wait_for_cluster(&shared.arrival, 0);
#pragma unroll 1
  for (int n = t / kDim; n * ranks + rank < group; n += kThreads / kDim) {
    const float* acc = &received[n * ranks][at];
    const float2* stats = &shared.received_stats[n * ranks];
    Part<1, 1> whole;
    if constexpr (kIsOne)
      whole = whole_of<kLeaves, 1>(acc, kDim, stats, a.scale_log2);
    else
      whole = ranks == 2   ? whole_of<2, 1>(acc, kDim, stats, a.scale_log2)
              : ranks == 4 ? whole_of<4, 1>(acc, kDim, stats, a.scale_log2)
                           : whole_of<8, 1>(acc, kDim, stats, a.scale_log2);
    const uint32_t bits = ptx::pack_bf16(__fdiv_rn(whole.acc[0][0], whole.total[0]), 0);
    a.o[(line + n * ranks + rank) * kDim + dim] = pos < 0 ? uint16_t{0} : static_cast<uint16_t>(bits);
  }
}

template <int kDim, bool kIsOne>
void start(const Decode& a, int ranks, int units_of_leaf, CUstream_st* stream) {
  using S = Shared<kDim, kIsOne>;
  static_assert(S::kRingBytes >= static_cast<int>(sizeof(cuda::TopBlocksShared)));
  // Of more than four leaves some parts wait in shared memory.
  const int levels = ranks == 1   ? 2
                     : ranks == 2 ? 1
                                  : 0,
            bytes_of_level = Tree<2, kDim / 32, kThreads>::kWords * kThreads * 4;
  const int bytes = S::kRingBytes + (kIsOne ? 0 : levels * bytes_of_level);
  const auto kernel = sparse_kernel<kDim, kIsOne>;
  cuda::allow(kernel, S::kRingBytes + (kIsOne ? 0 : 2 * bytes_of_level));
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
  int ranks = units_of_leaf == 1 ? kLeaves : kLeaves / 2;  // 16 are more than every kernel may have
  while (ranks > 1 && ranks * lists > all) ranks /= 2;
  const bool is_one = ranks == kLeaves;
  if (a.head_dim == 64)
    is_one ? start<64, true>(a, ranks, units_of_leaf, stream) : start<64, false>(a, ranks, units_of_leaf, stream);
  else
    is_one ? start<128, true>(a, ranks, units_of_leaf, stream) : start<128, false>(a, ranks, units_of_leaf, stream);
}

}  // namespace corvid::kernels
