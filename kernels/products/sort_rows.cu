#include "kernels/products/dependent.cuh"
#include "kernels/products/wide.h"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 256;

// A thread takes 32 numbers of a row at a time, or what is left: four times 16 bytes, whose words change places.
template <XOrder kOrder>
__global__ __launch_bounds__(kThreads) void sort_rows_kernel(cuda::SortRows a, int per_row) {
  wait_for_previous();
  start_next();
  const int64_t at = blockIdx.x * int64_t{kThreads} + threadIdx.x, p = at / per_row;
  const int group = static_cast<int>(at % per_row);
  if (p >= (a.count != nullptr ? *a.count : a.positions)) return;
  const int64_t row = a.rows != nullptr ? a.rows[p] : p;
  const auto* from = reinterpret_cast<const uint4*>(a.from + row * a.k + group * 32);
  auto* to = reinterpret_cast<uint4*>(a.to + p * a.k + group * 32);
  const int count = min(4, static_cast<int>(a.k - group * 32) / 8);
  uint4 in[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < count) in[i] = from[i];
  if constexpr (kOrder == XOrder::plain) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i < count) to[i] = in[i];
  } else if constexpr (kOrder == XOrder::eights) {
    to[0] = {in[0].x, in[1].x, in[2].x, in[3].x};
    to[1] = {in[0].y, in[1].y, in[2].y, in[3].y};
    to[2] = {in[0].z, in[1].z, in[2].z, in[3].z};
    to[3] = {in[0].w, in[1].w, in[2].w, in[3].w};
  } else {
    to[0] = {in[0].x, in[0].z, in[1].x, in[1].z};
    to[1] = {in[0].y, in[0].w, in[1].y, in[1].w};
    to[2] = {in[2].x, in[2].z, in[3].x, in[3].z};
    to[3] = {in[2].y, in[2].w, in[3].y, in[3].w};
  }
}

}  // namespace

void cuda::sort_rows(const SortRows& a, CUstream_st* stream) {
  const int64_t per_row = (a.k + 31) / 32;
  const dim3 grid(static_cast<unsigned>((a.positions * per_row + kThreads - 1) / kThreads));
  auto* kernel = a.order == XOrder::plain    ? sort_rows_kernel<XOrder::plain>
                 : a.order == XOrder::eights ? sort_rows_kernel<XOrder::eights>
                                             : sort_rows_kernel<XOrder::fours>;
  launch_dependent(kernel, grid, dim3(kThreads), 0, stream, a, static_cast<int>(per_row));
}

}  // namespace corvid::kernels
