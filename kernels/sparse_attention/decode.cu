// Dense attention of decode rows: few queries, each with keys of its own to read once, so the bytes are all that
// counts. The heads that share a kv head are the 16 rows of a tensor-core tile (rows that aren't there are zeros). A
// warp works alone, on pieces of 16 keys that it copies ahead into a ring of its own; its sums, by online softmax, meet
// the other warps' at the end. A row's keys are cut into spans, whose length follows from the row's own length and the
// kv heads alone; a span's sums go to memory, and a second kernel merges them in order.
//
// What bounds it: memory, from some 100 MB on; before, what blocks take to begin and to end, and the merge. Tried: rows
// of 256 bytes by the copy engine (1M keys 1,485 us instead of 1,430 on an H100); for four kv heads 128 and 256 spans
// (131,072 keys 99 and 103 us instead of 91 on an H200, 8,192 both 24.5 instead of 21); rings of two or four stages (5
// us more); going through a piece once before the first has come, so that its instructions are near (90 to 92, and 21).
#include <algorithm>

#include "kernels/block_select/scores.h"
#include "kernels/launch.cuh"
#include "kernels/sparse_attention/decode.cuh"
#include "kernels/sparse_attention/dense_decode.cuh"

namespace corvid::kernels {
namespace {

using namespace decode;

// Pieces piece_of(0), piece_of(1), ... piece_of(n - 1) of this warp, through its ring. Those that end before any
// position that may have been stored just now are on their way before the wait for the kernels before. Loops stay loops
// here: a step of decode is so short that fetching instructions counts, each of which runs but a few times.
template <int kDim, class PieceOf>
__device__ void attend(const Decode& a, const int32_t* pages, int pos, int row, int kv_head, int n,
                       const PieceOf& piece_of, char* ring, Sums<kDim>& sums) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const uint32_t base = ptx::shared_address(ring) + static_cast<uint32_t>(warp * kStages * Ring<kDim>::kStageBytes);
  int early = 0;
#pragma unroll 1
  for (; early < min(n, kStages) && (piece_of(early) + 1) * kPiece + a.fresh <= pos + 1; ++early) {
    load_piece<kDim>(a, pages, kv_head, piece_of(early), pos, base + early * Ring<kDim>::kStageBytes);
    ptx::commit_copies();
  }
  ptx::wait_for_earlier();
  if (n == 0) return;
  uint32_t q[kDim / 16][4];
  load_queries<kDim>(a, row, kv_head, q);
#pragma unroll 1
  for (int i = early; i < n + kStages; ++i) {
    const uint32_t stage = base + i % kStages * Ring<kDim>::kStageBytes;
    if (i >= kStages) {
      ptx::wait_copies<kStages - 1>();
      __syncwarp();  // the copies of all lanes have come
      attend_piece<kDim>(a, q, piece_of(i - kStages), pos, stage, sums);
      __syncwarp();  // all lanes are done with the stage
    }
    if (i < n) load_piece<kDim>(a, pages, kv_head, piece_of(i), pos, stage);
    ptx::commit_copies();
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    sums.total[h] += __shfl_xor_sync(ptx::kAll, sums.total[h], 1);
    sums.total[h] += __shfl_xor_sync(ptx::kAll, sums.total[h], 2);
  }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads) dense_kernel(Decode a) {
  extern __shared__ __align__(128) char ring[];
  ptx::let_next_begin();
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, span = static_cast<int>(blockIdx.x);
  const int row = static_cast<int>(blockIdx.z), kv_head = static_cast<int>(blockIdx.y), pos = a.pos[row];
  const int length = span_pieces(pos + 1, a.n_kv_heads), first = span * length, all = (pos + kPiece) / kPiece;
  if (pos < 0) return ptx::wait_for_earlier();
  if (first >= all) return;  // the row's other blocks wait
  const int here = min(length, all - first), pieces = here > warp ? (here - warp + kWarps - 1) / kWarps : 0;
  const int32_t* pages = a.pages + static_cast<int64_t>(a.seq[row]) * a.max_pages;
  Sums<kDim> sums;
  attend<kDim>(
      a, pages, pos, row, kv_head, pieces, [&](int i) { return first + i * kWarps + warp; }, ring, sums);
  const int group = a.n_heads / a.n_kv_heads;
  const int64_t line = static_cast<int64_t>(row) * a.n_heads + kv_head * group;
  merge_warps<kDim>(
      a, sums, *reinterpret_cast<Merged<kDim>*>(ring),
      [&](int head, int at, float4 four) {
        *reinterpret_cast<float4*>(a.sums + ((line + head) * a.max_spans + span) * kDim + at) = four;
      },
      [&](int head, float2 stats) { reinterpret_cast<float2*>(a.stats)[(line + head) * a.max_spans + span] = stats; });
}

// A block for each head and 64 of its dimensions. All that it adds up is on its way at once, as the spans of a long row
// that are read when they are added take 15 us; and its loops stay short, as their instructions come from far.
constexpr int kMergeThreads = 64;
constexpr int merge_bytes(int spans) { return spans * (kMergeThreads * 4 + 8); }

template <int kDim>
__global__ void __launch_bounds__(kMergeThreads) merge_kernel(Decode a) {
  extern __shared__ __align__(16) float sums[];  // [max_spans, kMergeThreads], then each span's stats
  constexpr int kBlocks = kDim / kMergeThreads;  // of a head
  ptx::let_next_begin();
  const int t = static_cast<int>(threadIdx.x), row = static_cast<int>(blockIdx.y), pos = a.pos[row];
  const int head = static_cast<int>(blockIdx.x) / kBlocks, at = static_cast<int>(blockIdx.x) % kBlocks * kMergeThreads;
  const int64_t line = static_cast<int64_t>(row) * a.n_heads + head;
  const auto n = static_cast<int>(spans(pos + 1, a.n_kv_heads));
  auto* const stats = reinterpret_cast<float2*>(sums + a.max_spans * kMergeThreads);
  const auto* const stats_from = reinterpret_cast<const float2*>(a.stats) + line * a.max_spans;
  ptx::wait_for_earlier();
  if (pos < 0) {
    a.o[line * kDim + at + t] = 0;
    return;
  }
  constexpr int kLanes = kMergeThreads / 4;  // of a span, 16 bytes each
  const float* from = a.sums + (line * a.max_spans + t / kLanes) * kDim + at + t % kLanes * 4;
  uint32_t to = ptx::shared_address(sums + 4 * t);
#pragma unroll 4
  for (int i = t / kLanes; i < n; i += 4, from += 4 * kDim, to += 16 * kMergeThreads) ptx::copy_async(to, from);
  ptx::commit_copies();
  float most = -INFINITY;
#pragma unroll 4
  for (int i = t % 32; i < n; i += 32) most = fmaxf(most, stats_from[i].x);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(ptx::kAll, most, step));
#pragma unroll 1
  for (int i = t; i < n; i += kMergeThreads) {
    const float2 of = stats_from[i];
    stats[i] = make_float2(weight(of.x, most, a.scale_log2), of.y);
  }
  ptx::wait_copies<0>();
  __syncthreads();
  float total = 0, sum = 0;
#pragma unroll 8
  for (int i = 0; i < n; ++i) {
    const float2 of = stats[i];
    total = fmaf(of.x, of.y, total);
    sum = fmaf(of.x, sums[i * kMergeThreads + t], sum);
  }
  a.o[line * kDim + at + t] = output_bits(sum / total, a.rounds);
}

template <int kDim>
void launch_decode(const PagedAttention& a, const Decode& decode, CUstream_st* stream) {
  const auto rows = static_cast<unsigned>(a.rows.decode_rows), kv_heads = static_cast<unsigned>(a.n_kv_heads);
  constexpr auto merged_bytes = static_cast<int>(sizeof(Merged<kDim>));
  constexpr int bytes = std::max(Ring<kDim>::bytes(kStages), merged_bytes);
  cuda::allow(dense_kernel<kDim>, bytes);
  cuda::want_shared_memory(dense_kernel<kDim>);
  cuda::want_shared_memory(merge_kernel<kDim>);
  cuda::launch("dense attention", dense_kernel<kDim>,
               {dim3(static_cast<unsigned>(decode.max_spans), kv_heads, rows), kThreads, bytes, stream, 1, true},
               decode);
  cuda::allow(merge_kernel<kDim>, merge_bytes(kMaxSpans));
  cuda::launch("dense attention's merge", merge_kernel<kDim>,
               {dim3(static_cast<unsigned>(a.n_heads * kDim / kMergeThreads), rows), kMergeThreads,
                static_cast<size_t>(merge_bytes(decode.max_spans)), stream, 1, true},
               decode);
}

}  // namespace

void cuda::decode_attention(const PagedAttention& a, const PagedBlockSelect* select, CUstream_st* stream) {
  const PagedRows& r = a.rows;
  const int64_t max_spans = most_spans(r.max_keys, a.n_kv_heads);
  Decode decode{attention_args(a)};
  decode.rows = static_cast<int>(r.decode_rows);
  decode.fresh = static_cast<int>(r.rows);
  decode.head_dim = static_cast<int>(a.head_dim);
  decode.ids = a.ids;
  decode.counts = a.counts;
  decode.sums = reinterpret_cast<float*>(a.workspace);
  decode.stats = decode.sums + r.decode_rows * a.n_heads * max_spans * a.head_dim;
  decode.block = static_cast<int>(a.block);
  decode.top_k = static_cast<int>(a.top_k);
  const auto pieces = static_cast<uint64_t>(a.block / kPiece);
  decode.pieces_inverse = ((uint64_t{1} << 32) + pieces - 1) / pieces;
  decode.max_spans = static_cast<int>(max_spans);
  decode.rounds = a.rounds;
  if (select != nullptr) {
    decode.scores = reinterpret_cast<const float*>(select->workspace);
    decode.score_stride = score_stride(r.max_keys, a.block);
    decode.chosen = select->ids;
    decode.chosen_counts = select->counts;
    decode.local_blocks = static_cast<int>(select->local_blocks);
  }
  if (decode.ids != nullptr || decode.scores != nullptr)
    decode::attend_sparsely(decode, stream);
  else if (a.head_dim == 64)
    launch_decode<64>(a, decode, stream);
  else
    launch_decode<128>(a, decode, stream);
}

}  // namespace corvid::kernels
