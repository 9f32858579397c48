// One decode row: its heads' norms and turns, its keys and values on their way to their pages, attention and the merge
// of its spans, in one launch. The spans of a kv head are the blocks of a cluster; the sums of a head go to the block
// that merges them. All keys and values but the row's own are on their way before the kernels before have ended.
//
// Each block more in the clusters costs a step of Qwen3-30B-A3B 20 to 25 us, whether it has a span or not (9 blocks
// 1,972 us, 12 2,062, 16 2,140; the three kernels 2,100): perhaps as a cluster begins only when all its blocks find a
// place. So they are as many as the row may have spans, and 12 at most.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/launch.cuh"
#include "kernels/sparse_attention/dense_decode.cuh"
#include "kernels/sparse_attention/row_decode.h"
#include "kernels/store_heads/whole_head.cuh"

namespace corvid::kernels {
namespace {

using namespace decode;

constexpr int kDim = kWholeDim, kRowBytes = Ring<kDim>::kRowBytes;
constexpr int kRowStages = kLeastSpan / kWarps;  // all pieces of a warp
static_assert(kThreads == kDim && kLeastSpan % kWarps == 0 && cuda::kRowAttentionKeys % (kPiece * kLeastSpan) == 0);

struct RowDecode : Decode {
  const uint16_t *new_q, *new_k, *new_v;
  const float *q_norm, *k_norm, *cos_sin;
  std::byte *to_keys, *to_values;
  float eps;
};

// Shared memory behind the ring, in bytes.
constexpr int kQueryStride = kRowBytes + 16;  // eight rows' words lie in different banks
constexpr int kQueries = Ring<kDim>::bytes(kRowStages), kOwn = kQueries + kHeads * kQueryStride,
              kInbox = kOwn + 2 * kRowBytes;
// Of each head that the block merges: [max_spans][kDim] sums, [max_spans] of greatest score and total weight.
CORVID_HOST_DEVICE constexpr int inbox_bytes(int max_spans) { return (max_spans * (kDim * 4 + 8) + 15) / 16 * 16; }

// The queries as attention wants them, to shared memory; and where the last position is this block's, its key and value
// there and to their page.
__device__ void make_heads(const RowDecode& a, int kv_head, int pos, bool has_last, char* shared) {
  constexpr int kEach = kHeads / kWarps;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = a.n_heads / a.n_kv_heads;
  const NormPart q_part(a.q_norm, kDim, lane), k_part(a.k_norm, kDim, lane);
  const int64_t place = a.pages[static_cast<int64_t>(a.seq[0]) * a.max_pages + pos / a.block] * a.page_bytes +
                        (static_cast<int64_t>(kv_head) * a.block + pos % a.block) * kRowBytes;
  const bool has_key = has_last && warp == kWarps - 2, has_value = has_last && warp == kWarps - 1;
  ptx::wait_for_earlier();
  const WholeTurn turn(a.cos_sin, lane);
  const uint16_t* const from = a.new_q + static_cast<int64_t>(kv_head) * group * kDim;
  const auto head_of = [&](int i) { return min(warp + i * kWarps, group - 1); };
  const auto put = [&](char* to, uint2 pairs) {
    reinterpret_cast<uint32_t*>(to)[lane] = pairs.x, reinterpret_cast<uint32_t*>(to)[lane + 32] = pairs.y;
  };
  if (has_value) {
    const auto* const words = reinterpret_cast<const uint32_t*>(a.new_v + kv_head * kDim);
    const uint2 pairs = {words[lane], words[lane + 32]};
    put(shared + kOwn + kRowBytes, pairs), put(reinterpret_cast<char*>(a.to_values + place), pairs);
  }
  const WholeHead key(has_key ? a.new_k + kv_head * kDim : from, lane);
  const WholeHead first[2] = {{from + head_of(0) * kDim, lane}, {from + head_of(1) * kDim, lane}};
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (warp + i * kWarps < group)
      put(shared + kQueries + head_of(i) * kQueryStride, first[i].turned(q_part, turn, a.eps));
#pragma unroll 1
  for (int i = 2; i < kEach && warp + i * kWarps < group; ++i)
    put(shared + kQueries + head_of(i) * kQueryStride,
        WholeHead(from + head_of(i) * kDim, lane).turned(q_part, turn, a.eps));
  if (has_key) {
    const uint2 pairs = key.turned(k_part, turn, a.eps);
    put(shared + kOwn, pairs), put(reinterpret_cast<char*>(a.to_keys + place), pairs);
  }
  __syncthreads();
}

__device__ void load_made_queries(const char* shared, int group, uint32_t (&q)[kDim / 16][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, quad = lane % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const auto* const from = reinterpret_cast<const uint32_t*>(shared + kQueries + (g + 8 * h) * kQueryStride) + quad;
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s)
#pragma unroll
      for (int half = 0; half < 2; ++half) q[s][2 * half + h] = g + 8 * h < group ? from[8 * s + 4 * half] : 0;
  }
}

// The row's own key and value, among those of its piece.
__device__ void put_own(const char* shared, char* stage, int row) {
  const int lane = static_cast<int>(threadIdx.x) % 32, chunk = lane % 16;
  *reinterpret_cast<uint4*>(stage + lane / 16 * Ring<kDim>::kHalf + chunk_at<kDim>(row, chunk)) =
      *reinterpret_cast<const uint4*>(shared + kOwn + lane * 16);
}

// blockIdx.x: the block of the cluster; blockIdx.y: the kv head.
__global__ void __launch_bounds__(kThreads) row_kernel(const __grid_constant__ RowDecode a) {
  extern __shared__ __align__(128) char shared[];
  __shared__ uint64_t all_here;
  const int t = static_cast<int>(threadIdx.x), warp = t / 32;
  const auto rank = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  const auto kv_head = static_cast<int>(blockIdx.y);
  const int group = a.n_heads / a.n_kv_heads, pos = a.pos[0],
            n = pos < 0 ? 0 : static_cast<int>(spans(pos + 1, a.n_kv_heads));
  const int own_heads = group > rank ? (group - rank + blocks - 1) / blocks : 0;
  ptx::let_next_begin();
  if (n > a.max_spans) __trap();  // blocks that are not there would be waited for
  if (t == 0) {
    ptx::init_barrier(&all_here, 1);
    ptx::publish_barriers();
    ptx::arrive_expecting(&all_here, n * own_heads * (kDim * 4 + 8));
  }
  ptx::cluster_arrive();
  const int inbox = inbox_bytes(a.max_spans);
  if (rank < n) {
    const int first = rank * kLeastSpan, here = min(kLeastSpan, (pos + kPiece) / kPiece - first);
    const int pieces = here > warp ? (here - warp + kWarps - 1) / kWarps : 0;
    const int32_t* const pages = a.pages + static_cast<int64_t>(a.seq[0]) * a.max_pages;
    char* const ring = shared + warp * kRowStages * Ring<kDim>::kStageBytes;
    const uint32_t base = ptx::shared_address(ring);
#pragma unroll 1
    for (int i = 0; i < pieces; ++i)
      load_piece<kDim, true>(a, pages, kv_head, first + i * kWarps + warp, pos, base + i * Ring<kDim>::kStageBytes);
    ptx::commit_copies();
    make_heads(a, kv_head, pos, n - 1 == rank, shared);
    uint32_t q[kDim / 16][4];
    load_made_queries(shared, group, q);
    Sums<kDim> sums;
    ptx::wait_copies<0>();
#pragma unroll 1
    for (int i = 0; i < pieces; ++i) {
      const int stage = i * Ring<kDim>::kStageBytes, piece = first + i * kWarps + warp;
      if (piece == pos / kPiece) put_own(shared, ring + stage, pos % kPiece);
      __syncwarp();  // the copies of all lanes have come
      attend_piece<kDim>(a, q, piece, pos, base + stage, sums);
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      sums.total[h] += __shfl_xor_sync(ptx::kAll, sums.total[h], 1);
      sums.total[h] += __shfl_xor_sync(ptx::kAll, sums.total[h], 2);
    }
    ptx::cluster_wait();  // all blocks' barriers are there
    merge_warps<kDim>(
        a, sums, *reinterpret_cast<Merged<kDim>*>(shared),
        [&](int head, int at, float4 four) {
          const float v[4] = {four.x, four.y, four.z, four.w};
          ptx::send(static_cast<uint32_t>(head % blocks),
                    ptx::shared_address(shared + kInbox + head / blocks * inbox) + (rank * kDim + at) * 4, v,
                    &all_here);
        },
        [&](int head, float2 stats) {
          const float v[2] = {stats.x, stats.y};
          ptx::send(static_cast<uint32_t>(head % blocks),
                    ptx::shared_address(shared + kInbox + head / blocks * inbox) + a.max_spans * kDim * 4 + rank * 8, v,
                    &all_here);
        });
  } else {
    ptx::cluster_wait(), ptx::wait_for_earlier();
  }
  if (own_heads == 0) return;
  ptx::wait_for_cluster(&all_here, 0);
#pragma unroll 1
  for (int i = 0; i < own_heads; ++i) {
    uint16_t& o = a.o[static_cast<int64_t>(kv_head * group + rank + i * blocks) * kDim + t];
    const char* const sums = shared + kInbox + i * inbox;
    const auto* const stats = reinterpret_cast<const float2*>(sums + a.max_spans * kDim * 4);
    o = n == 0 ? uint16_t{0}
               : output_bits(merge_spans(
                                 n, a.scale_log2, [&](int span) { return stats[span]; },
                                 [&](int span) { return reinterpret_cast<const float*>(sums)[span * kDim + t]; }),
                             a.rounds);
  }
}

// Two for one span, or it would be no cluster.
unsigned blocks_of(int64_t max_spans) { return static_cast<unsigned>(std::max<int64_t>(2, max_spans)); }

cuda::Launch launch_of(const PagedAttention& a, CUstream_st* stream) {
  const int64_t max_spans = most_spans(a.rows.max_keys, a.n_kv_heads);
  const unsigned blocks = blocks_of(max_spans);
  const int64_t own_heads = (a.n_heads / a.n_kv_heads + blocks - 1) / blocks;
  return {.grid = dim3(blocks, static_cast<unsigned>(a.n_kv_heads)),
          .threads = kThreads,
          .shared_bytes = static_cast<size_t>(kInbox + own_heads * inbox_bytes(static_cast<int>(max_spans))),
          .stream = stream,
          .cluster = blocks,
          .may_begin_early = true};
}
// The same for all launches: what is recorded for more spans may want less, as a block then has fewer heads.
constexpr int kMostShared = 96 << 10;

void prepare() {
  cuda::allow(row_kernel, kMostShared);
  cuda::want_shared_memory(row_kernel);
  cuda::check(cudaFuncSetAttribute(row_kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "cluster");
}

}  // namespace

bool cuda::can_store_and_attend(const StoreHeads& s, const PagedAttention& a) {
  if (s.rows != 1 || a.rows.rows != 1 || a.rows.decode_rows != 1 || !a.rows.runs.empty() || a.ids != nullptr ||
      !can_decode(a) || a.head_dim != kDim || s.rotary_dim != kDim || s.q_norm == nullptr || s.k_norm == nullptr ||
      s.whole_norms || s.index_k.data != nullptr || s.index_q.data != nullptr || a.rows.max_keys < 1 ||
      a.rows.max_keys > kRowAttentionKeys)
    return false;
  const Launch how = launch_of(a, nullptr);
  if (how.shared_bytes > kMostShared) return false;
  prepare();
  return fits_a_cluster(row_kernel, how);
}

void cuda::attend_row(const StoreHeads& s, const PagedAttention& a, CUstream_st* stream) {
  RowDecode r{};
  static_cast<AttentionArgs&>(r) = attention_args(a);
  r.rows = 1, r.head_dim = kDim, r.rounds = a.rounds;
  r.block = static_cast<int>(a.block);
  r.max_spans = static_cast<int>(most_spans(a.rows.max_keys, a.n_kv_heads));
  r.new_q = s.q.data, r.new_k = s.k.data, r.new_v = s.v.data;
  r.q_norm = s.q_norm, r.k_norm = s.k_norm, r.cos_sin = s.cos_sin;
  r.to_keys = s.pages_base, r.to_values = s.pages_base + s.values_offset;
  r.eps = s.eps;
  const Launch how = launch_of(a, stream);
  prepare();
  launch("attention of a row", row_kernel, how, r);
}

}  // namespace corvid::kernels
