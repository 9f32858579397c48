// Dense causal attention of a run of rows, at the tensor cores' speed: heads of 128, blocks of 128, any grouping.
//
// The lines of a kv head are its (row, head of the group) pairs, rows first. A block of threads takes 128 of them, two
// warpgroups 64 each; a third copies keys and values into rings. A warpgroup issues the products of the next block's
// scores and of this block's values, and takes the exponentials of the one while the tensor cores do the other. Tiles
// that see most come first, so that the last ones to run are short. 530 TFLOP/s on an H100, where cuDNN reaches 635.
#include <algorithm>

#include "kernels/launch.cuh"
#include "kernels/sparse_attention/args.h"
#include "kernels/sparse_attention/runs.h"
#include "kernels/wgmma.cuh"

namespace corvid::kernels {
namespace {

constexpr int kDim = 128, kBlock = 128, kGroups = 2, kLines = 64 * kGroups, kThreads = 128 * (kGroups + 1), kStages = 2;
constexpr int kPanelBytes = kBlock * 128, kHalfBytes = 2 * kPanelBytes, kLinePanelBytes = kLines * 128;
constexpr int kSharedBytes = 2 * kLinePanelBytes + 2 * kStages * kHalfBytes;  // queries, keys, values

struct DenseRun : AttentionArgs {
  int row, rows, end;  // end: rows at positions from there on are left alone
};

struct Barriers {
  uint64_t full[kStages], empty[kStages];
};

__global__ void __launch_bounds__(kThreads, 1) dense_run_kernel(DenseRun a) {
  extern __shared__ __align__(1024) char shared[];
  __shared__ Barriers for_keys, for_values;
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, warpgroup = t / 128;
  const int group = a.n_heads / a.n_kv_heads, kv_head = static_cast<int>(blockIdx.y), lines = a.rows * group;
  const int first_line = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kLines;
  if (a.pos[a.row + first_line / group] >= a.end) return;
  const int last_row = (min(first_line + kLines, lines) - 1) / group,
            last_pos = min(a.pos[a.row + last_row], a.end - 1);
  const int blocks = last_pos / kBlock + 1;
  const uint32_t queries = ptx::shared_address(shared), keys = queries + 2 * kLinePanelBytes;
  const uint32_t values = keys + kStages * kHalfBytes;
  if (t == 0)
    for (int s = 0; s < kStages; ++s) {
      ptx::init_barrier(&for_keys.full[s], 128);
      ptx::init_barrier(&for_values.full[s], 128);
      ptx::init_barrier(&for_keys.empty[s], 4 * kGroups);
      ptx::init_barrier(&for_values.empty[s], 4 * kGroups);
    }
  __syncthreads();

  if (warpgroup == kGroups) {
    ptx::release_registers<40>();
    const int own = t % 128;
    const int32_t* pages = a.pages + static_cast<int64_t>(a.seq[a.row]) * a.max_pages;
    for (int b = 0; b < blocks; ++b) {
      const int s = b % kStages, known = last_pos - b * kBlock;
      const auto parity = static_cast<uint32_t>(b / kStages - 1) & 1U;
      const int64_t page = pages[b] * a.page_bytes + static_cast<int64_t>(kv_head) * kBlock * kDim * 2;
      const auto copy = [&](const std::byte* from, uint32_t to, Barriers& barriers) {
        if (b >= kStages) ptx::wait(&barriers.empty[s], parity);
#pragma unroll 4
        for (int i = own; i < kBlock * kDim / 8; i += 128) {
          const int line = i / 16, chunk = i % 16;  // values behind the last position must be numbers: zeros
          ptx::copy_async(
              to + static_cast<uint32_t>(s * kHalfBytes + chunk / 8 * kPanelBytes) + ptx::swizzled(line, chunk % 8),
              from + page + 16 * i, line <= known);
        }
        ptx::arrive_after_copies(&barriers.full[s]);
      };
      copy(a.keys, keys, for_keys);
      copy(a.values, values, for_values);
    }
    ptx::commit_copies();
    ptx::wait_copies<0>();
    return;
  }
  ptx::claim_registers<232>();

  const int g = lane / 4, quad = lane % 4;
  const uint32_t own_queries = queries + static_cast<uint32_t>(warpgroup * 64 * 128);
  for (int i = t % 128; i < 64 * kDim / 8; i += 128) {
    const int r = i / 16, chunk = i % 16, line = first_line + 64 * warpgroup + r;
    const int64_t from =
        (static_cast<int64_t>(a.row + line / group) * a.n_heads + kv_head * group + line % group) * kDim;
    ptx::copy_async(own_queries + static_cast<uint32_t>(chunk / 8 * kLinePanelBytes) + ptx::swizzled(r, chunk % 8),
                    line < lines ? a.q + from + 8 * chunk : a.q, line < lines);
  }
  ptx::commit_copies();
  ptx::wait_copies<0>();
  ptx::fence_for_engines();
  ptx::sync_warpgroup(1 + warpgroup);

  int line[2], seen[2];  // of this lane; seen: the position that it sees last
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    line[h] = first_line + 16 * warp + g + 8 * h;
    seen[h] = line[h] < lines ? a.pos[a.row + line[h] / group] : last_pos;
  }
  const int all_see = a.pos[a.row + first_line / group];  // every line sees positions up to here
  float s[64], o[2][32], most[2] = {-INFINITY, -INFINITY}, total[2] = {}, shrink[2];
  uint32_t p[kBlock / 16][4];

  const uint64_t query_operand = ptx::operand(own_queries);

  const auto score = [&](int b) {
    const uint64_t stage = ptx::operand(keys + static_cast<uint32_t>(b % kStages * kHalfBytes));
    ptx::wait(&for_keys.full[b % kStages], static_cast<uint32_t>(b / kStages) & 1U);
    ptx::fence_for_engines();
    ptx::begin_products();
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step)
      ptx::product_q_k(s, ptx::further(query_operand, step / 4 * kLinePanelBytes + step % 4 * 32),
                       ptx::further(stage, step / 4 * kPanelBytes + step % 4 * 32), step > 0);
    ptx::commit_products();
  };
  const auto add_values = [&](int b) {
    const uint64_t stage = ptx::operand(values + static_cast<uint32_t>(b % kStages * kHalfBytes));
    ptx::wait(&for_values.full[b % kStages], static_cast<uint32_t>(b / kStages) & 1U);
    ptx::fence_for_engines();
    ptx::begin_products();
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int step = 0; step < kBlock / 16; ++step)
        ptx::product_p_v(o[half], p[step], ptx::further(stage, half * kPanelBytes + step * 2048), b > 0 || step > 0);
    ptx::commit_products();
  };
  const auto take_exponentials = [&](int b) {
    if (b * kBlock + kBlock - 1 > all_see) {
#pragma unroll
      for (int i = 0; i < 64; ++i)
        if (b * kBlock + i / 4 * 8 + 2 * quad + i % 2 > seen[i / 2 % 2]) s[i] = -INFINITY;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float larger = most[h];
#pragma unroll
      for (int j = 0; j < 16; ++j) larger = fmaxf(larger, fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
      larger = fmaxf(larger, __shfl_xor_sync(ptx::kAll, larger, 1));
      larger = fmaxf(larger, __shfl_xor_sync(ptx::kAll, larger, 2));
      const float base = larger * a.scale_log2;  // finite: every line sees position 0
      shrink[h] = ptx::exp2_fast(most[h] * a.scale_log2 - base);
      most[h] = larger;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < 16; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          sum += s[4 * j + 2 * h + i] = ptx::exp2_fast(fmaf(s[4 * j + 2 * h + i], a.scale_log2, -base));
      total[h] = total[h] * shrink[h] + sum;
    }
  };
  const auto pack = [&] {
#pragma unroll
    for (int j = 0; j < kBlock / 16; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) p[j][i] = ptx::pack_bf16(s[8 * j + 2 * i], s[8 * j + 2 * i + 1]);
  };

  score(0);
  ptx::wait_products<0>();
  ptx::arrived(s);
  if (lane == 0) ptx::arrive(&for_keys.empty[0]);
  take_exponentials(0);
  pack();
  for (int b = 1; b < blocks; ++b) {
    score(b);
    add_values(b - 1);
    ptx::wait_products<1>();
    ptx::arrived(s);
    if (lane == 0) ptx::arrive(&for_keys.empty[b % kStages]);
    take_exponentials(b);
    ptx::wait_products<0>();
    ptx::arrived(o[0]);
    ptx::arrived(o[1]);
    if (lane == 0) ptx::arrive(&for_values.empty[(b - 1) % kStages]);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 32; ++i) o[half][i] *= shrink[i / 2 % 2];
    pack();
  }
  add_values(blocks - 1);
  ptx::wait_products<0>();
  ptx::arrived(o[0]);
  ptx::arrived(o[1]);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    total[h] += __shfl_xor_sync(ptx::kAll, total[h], 1);
    total[h] += __shfl_xor_sync(ptx::kAll, total[h], 2);
    if (line[h] >= lines || a.pos[a.row + line[h] / group] >= a.end) continue;
    const float inverse = 1 / total[h];
    uint16_t* out =
        a.o + (static_cast<int64_t>(a.row + line[h] / group) * a.n_heads + kv_head * group + line[h] % group) * kDim;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < 8; ++j)
        *reinterpret_cast<uint32_t*>(out + 64 * half + 8 * j + 2 * quad) =
            ptx::pack_bf16(o[half][4 * j + 2 * h] * inverse, o[half][4 * j + 2 * h + 1] * inverse);
  }
}

}  // namespace

void cuda::attend_run_densely(const PagedAttention& a, const PrefillRun& run, int64_t end, CUstream_st* stream) {
  const DenseRun dense{attention_args(a), static_cast<int>(run.row), static_cast<int>(std::min(run.rows, end)),
                       static_cast<int>(std::min<int64_t>(end, INT32_MAX))};
  allow(dense_run_kernel, kSharedBytes);
  const int64_t tiles = (dense.rows * (a.n_heads / a.n_kv_heads) + kLines - 1) / kLines;
  launch("dense attention of a run", dense_run_kernel,
         {dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(a.n_kv_heads)), kThreads, kSharedBytes, stream},
         dense);
}

}  // namespace corvid::kernels
