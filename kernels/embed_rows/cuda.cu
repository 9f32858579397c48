#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/device_matrix/tile.h"
#include "kernels/embed_rows/embed_rows.h"

namespace corvid::kernels {
namespace {

__global__ void embed_rows_kernel(EmbedRows a) {
  const int64_t token = a.tokens[blockIdx.x], k = a.table.k;
  float* x = a.x + blockIdx.x * k;
  const bool known = token >= 0 && token < a.table.n;
  const auto* panel = static_cast<const unsigned char*>(a.table.data) +
                      (known ? token / kPanelRows : 0) * panel_bytes(a.table.format, k);
  for (int64_t i = threadIdx.x; i < k; i += blockDim.x)
    x[i] = known ? panel_weight(a.table.format, panel, padded_k(a.table.format, k), token % kPanelRows, i) : 0;
}

}  // namespace

void cuda::embed_rows(const EmbedRows& a, CUstream_st* stream) {
  require(a.table.n_experts == 1, "embed_rows: want one matrix, found ", a.table.n_experts);
  if (a.rows == 0) return;
  embed_rows_kernel<<<static_cast<unsigned>(a.rows), 512, 0, stream>>>(a);
  check_launch("embed_rows");
}

}  // namespace corvid::kernels
