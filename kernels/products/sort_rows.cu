#include "kernels/products/dependent.cuh"
#include "kernels/products/wide.h"

namespace corvid::kernels {
namespace {

constexpr int kThreads = 256;

// A thread takes 16 bytes of two rows to all of their places.
constexpr int kRows = 2;
__global__ __launch_bounds__(kThreads) void copy_rows_kernel(cuda::CopyRows a) {
  wait_for_previous();
  start_next();
  const int64_t first = int64_t{blockIdx.x} * kRows, i = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * 8;
  if (i >= a.k) return;
  uint4 v[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (first + r < a.rows) v[r] = *reinterpret_cast<const uint4*>(a.from + (first + r) * a.k + i);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first + r >= a.rows) break;
    for (int64_t slot = 0; slot < a.slots; ++slot) {
      const int64_t p = a.pos[(first + r) * a.slots + slot];
      if (p >= 0) *reinterpret_cast<uint4*>(a.to + p * a.k + i) = v[r];
    }
  }
}

// In another order: a thread takes 32 numbers of a row at a time, four times 16 bytes, whose words change places.
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
  uint4 in[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) in[i] = from[i];
  if constexpr (kOrder == XOrder::eights) {
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

void cuda::copy_rows(const CopyRows& a, CUstream_st* stream) {
  const dim3 grid(static_cast<unsigned>((a.rows + kRows - 1) / kRows),
                  static_cast<unsigned>((a.k + kThreads * 8 - 1) / (kThreads * 8)));
  launch_dependent(copy_rows_kernel, grid, dim3(kThreads), 0, stream, a);
}

void cuda::sort_rows(const SortRows& a, CUstream_st* stream) {
  const int64_t per_row = a.k / 32;
  const dim3 grid(static_cast<unsigned>((a.positions * per_row + kThreads - 1) / kThreads));
  auto* kernel = a.order == XOrder::eights ? sort_rows_kernel<XOrder::eights> : sort_rows_kernel<XOrder::fours>;
  launch_dependent(kernel, grid, dim3(kThreads), 0, stream, a, static_cast<int>(per_row));
}

}  // namespace corvid::kernels
