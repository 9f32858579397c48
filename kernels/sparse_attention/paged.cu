// Attention for any shape, and the choice of the kernel.
#include <cuda_bf16.h>

#include "kernels/block_select/scan.cuh"
#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/sparse_attention/decode.cuh"
#include "kernels/sparse_attention/row_decode.h"
#include "kernels/sparse_attention/runs.h"
#include "kernels/sparse_attention/spans.h"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 128;

// One block of threads for a row and a head. Keys in spans of kThreads, a thread for a key, then a thread for a
// dimension (or two) of the sum.
__global__ void __launch_bounds__(kThreads) attention_kernel(PagedAttention a, int64_t first_row) {
  const int64_t row = first_row + blockIdx.y, h = blockIdx.x, group = a.n_heads / a.n_kv_heads, g = h / group;
  const int64_t dim = a.head_dim;
  const auto t = static_cast<int>(threadIdx.x);
  const int pos = a.rows.pos[row];
  uint16_t* o = a.o + (row * a.n_heads + h) * dim;
  if (pos < 0) {
    for (int64_t i = t; i < dim; i += kThreads) o[i] = 0;
    return;
  }
  __shared__ float q[256], p[kThreads], warps[kThreads / 32];
  for (int64_t i = t; i < dim; i += kThreads) q[i] = bf16_to_f32(a.q[(row * a.n_heads + h) * dim + i]) * a.scale;
  __syncthreads();
  const int32_t* ids = a.ids == nullptr ? nullptr : a.ids + (row * a.n_kv_heads + g) * a.top_k;
  const int64_t blocks = ids == nullptr ? pos / a.block + 1 : a.counts[row * a.n_kv_heads + g];
  const int32_t* pages = a.rows.pages + a.rows.seq[row] * a.rows.max_pages;
  float most = -INFINITY, total = 0, sum[2] = {};
  for (int64_t n = 0; n < blocks; ++n) {
    const int64_t b = ids == nullptr ? n : ids[n];
    const int64_t offset = pages[b] * a.page_bytes + g * a.block * dim * 2;
    const auto* keys = reinterpret_cast<const uint16_t*>(a.keys + offset);
    const auto* values = reinterpret_cast<const uint16_t*>(a.values + offset);
    const int64_t keys_seen = min(a.block, pos - b * a.block + 1);
    for (int64_t first = 0; first < keys_seen; first += kThreads) {
      const int64_t j = first + t;
      float s = -INFINITY;
      if (j < keys_seen) {
        s = 0;
        for (int64_t i = 0; i < dim; ++i) s = fmaf(q[i], bf16_to_f32(keys[j * dim + i]), s);
      }
      float larger = s;
      for (int step = 16; step > 0; step /= 2) larger = fmaxf(larger, __shfl_xor_sync(0xffffffffU, larger, step));
      if (t % 32 == 0) warps[t / 32] = larger;
      __syncthreads();
      larger = fmaxf(most, fmaxf(fmaxf(warps[0], warps[1]), fmaxf(warps[2], warps[3])));
      p[t] = larger == -INFINITY ? 0 : expf(s - larger);  // only garbage scores -inf; the row's own key is finite
      __syncthreads();
      const float shrink = most == -INFINITY ? 0 : expf(most - larger);
      most = larger;
      total *= shrink;
      sum[0] *= shrink;
      sum[1] *= shrink;
      for (int64_t n_key = 0; n_key < min(int64_t{kThreads}, keys_seen - first); ++n_key) {
        total += p[n_key];
        for (int k = 0; k < 2; ++k)
          if (t + k * kThreads < dim)
            sum[k] = fmaf(p[n_key], bf16_to_f32(values[(first + n_key) * dim + t + k * kThreads]), sum[k]);
      }
      __syncthreads();
    }
  }
  for (int k = 0; k < 2; ++k)
    if (t + k * kThreads < dim) o[t + k * kThreads] = __bfloat16_as_ushort(__float2bfloat16_rn(sum[k] / total));
}

void attend_rows(const PagedAttention& a, int64_t row, int64_t rows, cudaStream_t stream) {
  const int64_t most = 32768;
  for (int64_t done = 0; done < rows; done += most) {
    const dim3 grid(static_cast<unsigned>(a.n_heads), static_cast<unsigned>(std::min(most, rows - done)));
    attention_kernel<<<grid, kThreads, 0, stream>>>(a, row + done);
    cuda::check_launch("attention");
  }
}

void check(const PagedAttention& a) {
  require(a.n_kv_heads >= 1 && a.n_heads % a.n_kv_heads == 0,
          "attention: want n_heads a multiple of n_kv_heads, found ", a.n_heads, " and ", a.n_kv_heads);
  require(a.head_dim >= 16 && a.head_dim % 16 == 0 && a.head_dim <= 256,
          "attention: want a head_dim that is a multiple of 16 up to 256, found ", a.head_dim);
  require(a.block >= 16 && a.block % 16 == 0, "attention: want a block that is a multiple of 16, found ", a.block);
  require((a.ids == nullptr) == (a.counts == nullptr), "attention: want both ids and counts, or neither");
  require(!a.rounds || can_round(a), "attention: want decode rows alone and no ids to round their outputs");
}

// As decode rows.
void attend_run_row_by_row(const PagedAttention& a, const PrefillRun& run, CUstream_st* stream) {
  for (int64_t done = 0; done < run.rows; done += kDecodeRows) {
    const int64_t row = run.row + done;
    PagedAttention part = a;
    part.rows.seq += row;
    part.rows.pos += row;
    part.rows.decode_rows = std::min(kDecodeRows, run.rows - done);
    part.rows.max_keys = run.max_keys;
    part.rows.runs = {};
    part.q += row * a.n_heads * a.head_dim;
    part.o += row * a.n_heads * a.head_dim;
    if (a.ids != nullptr) {
      part.ids += row * a.n_kv_heads * a.top_k;
      part.counts += row * a.n_kv_heads;
    }
    cuda::decode_attention(part, nullptr, stream);
  }
}

void attend_runs(const PagedAttention& a, CUstream_st* stream) {
  for (const PrefillRun& run : a.rows.runs) {
    if (a.ids != nullptr && can_share_blocks(a))
      cuda::attend_run_by_blocks(a, run, stream);
    else if (a.ids == nullptr && can_flash(a))
      cuda::attend_run_densely(a, run, run.max_keys, stream);
    else if (can_decode(a))
      attend_run_row_by_row(a, run, stream);
    else
      attend_rows(a, run.row, run.rows, stream);
  }
}

}  // namespace

void cuda::attention(const PagedAttention& a, CUstream_st* stream) {
  kernels::check(a);
  if (a.rows.decode_rows > 0) {
    if (can_decode(a))
      decode_attention(a, nullptr, stream);
    else
      attend_rows(a, 0, a.rows.decode_rows, stream);
  }
  attend_runs(a, stream);
}

void cuda::store_and_attend(const StoreHeads& heads, const PagedAttention& attend, CUstream_st* stream) {
  kernels::check(attend);
  require(attend.q == heads.q_out && attend.keys == heads.pages_base &&
              attend.values == heads.pages_base + heads.values_offset && attend.page_bytes == heads.page_bytes &&
              attend.rows.rows == heads.rows && attend.rows.pos == heads.pos && attend.rows.seq == heads.seq &&
              attend.rows.pages == heads.pages && attend.rows.max_pages == heads.max_pages &&
              attend.n_heads == heads.n_heads && attend.n_kv_heads == heads.n_kv_heads &&
              attend.head_dim == heads.head_dim && attend.block == heads.block,
          "store_and_attend: want the attention of the rows that are stored");
  if (can_store_and_attend(heads, attend)) return attend_row(heads, attend, stream);
  store_heads(heads, stream);
  attention(attend, stream);
}

void cuda::select_and_attend(const PagedBlockSelect& select, const PagedAttention& attend, CUstream_st* stream) {
  kernels::check(attend);
  require(attend.ids == select.ids && attend.counts == select.counts && attend.top_k == select.top_k &&
              attend.n_kv_heads == select.n_heads && attend.block == select.block,
          "select_and_attend: want the attention over what is selected, of the same shape");
  if (select.rows.decode_rows == 0 || !can_scan(select) || !can_decode(attend)) {
    block_select(select, stream);
    attention(attend, stream);
    return;
  }
  scan_blocks(select, stream);
  decode_attention(attend, &select, stream);
  PagedBlockSelect runs = select;
  runs.rows.decode_rows = 0;
  if (!runs.rows.runs.empty()) block_select(runs, stream);
  attend_runs(attend, stream);
}

}  // namespace corvid::kernels
