#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/device_matrix/tile.h"
#include "kernels/embed_rows/embed_rows.h"
#include "kernels/products/dependent.cuh"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 512;

// blockIdx.x: row; blockIdx.y: its numbers, one a thread, as each comes from far.
__global__ __launch_bounds__(kThreads) void embed_rows_kernel(EmbedRows a) {
  start_next();
  const int64_t token = a.tokens[blockIdx.x], k = a.table.k, i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const bool known = token >= 0 && token < a.table.n;
  const auto* panel = static_cast<const unsigned char*>(a.table.data) +
                      (known ? token / kPanelRows : 0) * panel_bytes(a.table.format, k);
  if (i >= k) return;
  a.x[blockIdx.x * k + i] =
      known ? panel_weight(a.table.format, panel, padded_k(a.table.format, k), token % kPanelRows, i) : 0;
}

}  // namespace

void cuda::embed_rows(const EmbedRows& a, CUstream_st* stream) {
  require(a.table.n_experts == 1, "embed_rows: want one matrix, found ", a.table.n_experts);
  if (a.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(a.rows), static_cast<unsigned>((a.table.k + kThreads - 1) / kThreads));
  embed_rows_kernel<<<grid, kThreads, 0, stream>>>(a);
  check_launch("embed_rows");
}

}  // namespace corvid::kernels
