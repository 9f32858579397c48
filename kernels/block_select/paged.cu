// Block selection for any shape, and the choice of the kernel: scores of blocks into the workspace, then the best.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "kernels/block_select/scan.cuh"
#include "kernels/block_select/scores.h"
#include "kernels/block_select/top_blocks.cuh"
#include "kernels/check.h"
#include "kernels/cuda_check.h"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 128;

// What a kernel needs of some rows: [row, row + gridDim.y), scores from the workspace's start.
struct Part {
  PagedBlockSelect a;
  int64_t row, stride;
};

__device__ float key_value(const std::byte* keys, int64_t i, IndexFormat format) {
  if (format == IndexFormat::bf16) return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(keys)[i]);
  return static_cast<float>(reinterpret_cast<const __nv_fp8_e4m3*>(keys)[i]);
}

// One block of threads for a row and a block of keys, a thread for a key.
__global__ void __launch_bounds__(kThreads) score_kernel(Part part) {
  const PagedBlockSelect& a = part.a;
  const int64_t row = part.row + blockIdx.y, b = blockIdx.x;
  const int pos = a.rows.pos[row];
  if (b * a.block > pos) return;
  extern __shared__ float shared[];
  float* q = shared;  // [n_heads, dim]
  __shared__ float warp_max[kThreads / 32];
  const auto t = static_cast<int>(threadIdx.x);
  for (int64_t i = t; i < a.n_heads * a.dim; i += kThreads) q[i] = bf16_to_f32(a.q[row * a.n_heads * a.dim + i]);
  __syncthreads();
  const int64_t slot = a.rows.pages[a.rows.seq[row] * a.rows.max_pages + b];
  const std::byte* page = a.index_keys + slot * a.page_bytes;
  for (int64_t h = 0; h < a.n_heads; ++h) {
    float best = -INFINITY;
    for (int64_t j = t; j < a.block && b * a.block + j <= pos; j += kThreads) {
      float sum = 0;
      for (int64_t i = 0; i < a.dim; ++i) sum = fmaf(q[h * a.dim + i], key_value(page, j * a.dim + i, a.format), sum);
      best = fmaxf(best, sum);
    }
    for (int step = 16; step > 0; step /= 2) best = fmaxf(best, __shfl_xor_sync(0xffffffffU, best, step));
    if (t % 32 == 0) warp_max[t / 32] = best;
    __syncthreads();
    if (t == 0) {
      for (int w = 1; w < kThreads / 32; ++w) best = fmaxf(best, warp_max[w]);
      reinterpret_cast<float*>(a.workspace)[(blockIdx.y * a.n_heads + h) * part.stride + b] = best;
    }
    __syncthreads();
  }
}

// One block of threads for a row and an index head.
__global__ void __launch_bounds__(kThreads) choose_kernel(Part part) {
  const PagedBlockSelect& a = part.a;
  const int64_t list = (part.row + blockIdx.y) * a.n_heads + blockIdx.x;
  const int nb =
      a.rows.pos[part.row + blockIdx.y] < 0 ? 0 : a.rows.pos[part.row + blockIdx.y] / static_cast<int>(a.block) + 1;
  __shared__ cuda::TopBlocksShared shared;
  const float* scores =
      reinterpret_cast<const float*>(a.workspace) + (blockIdx.y * a.n_heads + blockIdx.x) * part.stride;
  cuda::prepare_top_blocks<kThreads>(shared);
  __syncthreads();
  int32_t* ids = a.ids + list * a.top_k;
  const int count = cuda::top_blocks<kThreads>(scores, nb, static_cast<int>(a.top_k), static_cast<int>(a.local_blocks),
                                               shared, [&](int i, int32_t id) { ids[i] = id; });
  if (threadIdx.x == 0) a.counts[list] = count;
}

void select_rows(const PagedBlockSelect& a, int64_t row, int64_t rows, int64_t max_keys, cudaStream_t stream) {
  const int64_t stride = score_stride(max_keys, a.block);
  const auto blocks = static_cast<unsigned>((max_keys + a.block - 1) / a.block);
  const auto shared_bytes = static_cast<size_t>(a.n_heads * a.dim) * sizeof(float);
  const int64_t most = 32768;  // rows a grid holds
  require(rows <= most, "block_select: want at most ", most, " rows at once, found ", rows);
  const Part part{a, row, stride};
  if (!cuda::can_scan(a)) {
    score_kernel<<<dim3(blocks, static_cast<unsigned>(rows)), kThreads, shared_bytes, stream>>>(part);
    cuda::check_launch("block_select's scores");
  } else if (row < a.rows.decode_rows) {
    cuda::scan_blocks(a, stream);
  } else {
    cuda::scan_run(a, row, rows, max_keys, stream);
  }
  choose_kernel<<<dim3(static_cast<unsigned>(a.n_heads), static_cast<unsigned>(rows)), kThreads, 0, stream>>>(part);
  cuda::check_launch("block_select");
}

}  // namespace

void cuda::block_select(const PagedBlockSelect& a, CUstream_st* stream) {
  require(a.n_heads >= 1 && a.dim >= 16 && a.dim % 16 == 0 && a.dim <= 256,
          "block_select: want a dim that is a multiple of 16 up to 256, found ", a.dim, " (", a.n_heads, " heads)");
  require(a.block >= 16 && a.block % 16 == 0, "block_select: want a block that is a multiple of 16, found ", a.block);
  require(1 <= a.local_blocks && a.local_blocks <= a.top_k && a.top_k <= kMaxTopK,
          "block_select: want 1 <= local_blocks <= top_k <= 64, found ", a.local_blocks, " and ", a.top_k);
  if (a.rows.decode_rows > 0) select_rows(a, 0, a.rows.decode_rows, a.rows.max_keys, stream);
  for (const PrefillRun& run : a.rows.runs) {
    const int64_t step = score_rows(run, a.n_heads, a.block);
    for (int64_t done = 0; done < run.rows; done += step)
      select_rows(a, run.row + done, std::min(step, run.rows - done), run.max_keys, stream);
  }
}

}  // namespace corvid::kernels
