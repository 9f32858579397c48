// The plain version: a warp per output, its lanes along k, and a few rows for each reading of a weight.
#include "kernels/block_weights.h"
#include "kernels/cuda_check.h"
#include "kernels/matmul/matmul.h"

namespace corvid::kernels {
namespace {

constexpr int kWarps = 8;  // per block
constexpr int kRows = 8;   // per warp

// Weight i of a row.
__device__ float weight_at(Format format, const unsigned char* row, int64_t i) {
  switch (format) {
    case Format::f32:
      return reinterpret_cast<const float*>(row)[i];
    case Format::f16:
      return f16_to_f32(reinterpret_cast<const uint16_t*>(row)[i]);
    case Format::bf16:
      return bf16_to_f32(reinterpret_cast<const uint16_t*>(row)[i]);
    case Format::q8_0:
      return block_weight(reinterpret_cast<const BlockQ8*>(row), i);
    case Format::q4_0:
      return block_weight(reinterpret_cast<const BlockQ4*>(row), i);
    case Format::mxfp4:
      return block_weight(reinterpret_cast<const BlockMxfp4*>(row), i);
    case Format::q4_k:
      return block_weight(reinterpret_cast<const BlockQ4K*>(row), i);
    case Format::q5_k:
      return block_weight(reinterpret_cast<const BlockQ5K*>(row), i);
    case Format::q6_k:
      return block_weight(reinterpret_cast<const BlockQ6K*>(row), i);
    case Format::f8_e4m3:
      return block_weight(reinterpret_cast<const BlockF8*>(row), i);
    default:
      return 0;  // matmul() refuses the interleaved ones
  }
}

// Lane l sums the terms i = l, l + 32, ...; the lanes are added by a tree: an order that k alone decides.
__global__ void matmul_kernel(Matmul a) {
  const int64_t j = int64_t{blockIdx.x} * kWarps + threadIdx.y, first = int64_t{blockIdx.y} * kRows;
  if (j >= a.n) return;
  const auto* w = static_cast<const unsigned char*>(a.w.data) + j * row_bytes(a.w.format, a.k);
  float sum[kRows] = {};
  for (int64_t i = threadIdx.x; i < a.k; i += 32) {
    const float weight = weight_at(a.w.format, w, i);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (first + r < a.rows) sum[r] = fmaf(a.x[(first + r) * a.k + i], weight, sum[r]);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first + r >= a.rows) break;
    for (int step = 16; step > 0; step /= 2) sum[r] += __shfl_xor_sync(0xffffffffU, sum[r], step);
    float* y = a.y + (first + r) * a.n + j;
    if (threadIdx.x == 0) *y = a.add ? *y + sum[r] : sum[r];
  }
}

}  // namespace

void cuda::matmul(const Matmul& a, CUstream_st* stream) {
  if (a.rows == 0 || a.n == 0) return;
  constexpr int64_t kRowsPerLaunch = int64_t{65535} * kRows;  // the limit of a grid's second dimension
  for (Matmul part = a; part.rows > 0;) {
    const int64_t rows = part.rows < kRowsPerLaunch ? part.rows : kRowsPerLaunch;
    Matmul now = part;
    now.rows = rows;
    const dim3 grid(static_cast<unsigned>((a.n + kWarps - 1) / kWarps),
                    static_cast<unsigned>((rows + kRows - 1) / kRows));
    matmul_kernel<<<grid, dim3(32, kWarps), 0, stream>>>(now);
    check_launch("matmul");
    part.x += rows * a.k;
    part.y += rows * a.n;
    part.rows -= rows;
  }
}

}  // namespace corvid::kernels
