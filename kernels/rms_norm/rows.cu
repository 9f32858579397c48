#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/products/dependent.cuh"
#include "kernels/products/grid.cuh"
#include "kernels/rms_norm/norm_row.cuh"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace corvid::kernels {
namespace {

constexpr int kThreads = kNormThreads;
constexpr int kHeld = 4;  // pieces of four numbers of x, and of w, that a thread has in registers

// A block for each row. kWide: four numbers at a time; the order of the sum is a constant of dim either way. The
// weights come from far, so they are asked for before the wait.
template <bool kWide>
__global__ __launch_bounds__(kThreads) void rms_norm_rows_kernel(RmsNormRows a) {
  __shared__ float sums[kThreads / 32];
  const float* x = a.x + blockIdx.x * a.dim;
  uint16_t* h = a.h + blockIdx.x * a.dim;
  const int dim = static_cast<int>(a.dim), thread = static_cast<int>(threadIdx.x);
  const auto at = [&](int n) { return (n * kThreads + thread) * 4; };
  float4 xs[kHeld] = {}, ws[kHeld] = {};
  if constexpr (kWide) {
#pragma unroll
    for (int n = 0; n < kHeld; ++n)
      if (at(n) < dim) ws[n] = __ldg(reinterpret_cast<const float4*>(a.w + at(n)));
  }
  start_next();
  wait_for_previous();
  float sum = 0;
  if constexpr (kWide) {
#pragma unroll
    for (int n = 0; n < kHeld; ++n)
      if (at(n) < dim) xs[n] = *reinterpret_cast<const float4*>(x + at(n));
#pragma unroll
    for (int n = 0; n < kHeld; ++n)
      if (at(n) < dim) sum += square_of(xs[n]);
    for (int i = at(kHeld); i < dim; i += kThreads * 4) sum += square_of(*reinterpret_cast<const float4*>(x + i));
  } else {
    for (int i = thread; i < dim; i += kThreads) sum += x[i] * x[i];
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
  if (thread % 32 == 0) sums[thread / 32] = sum;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < kThreads / 32; ++i) total += sums[i];
  const float scale = norm_scale(total, dim, a.eps);
  if constexpr (kWide) {
    // All lanes of a warp call it: 32 numbers that are rounded together are eight lanes'.
    const auto write = [&](int i, const float4& v, const float4& w) {
      uint2 bits = norm_bits(v, scale, w);
      if (a.rounds) {
        const uint32_t pairs = __vmaxu2(bits.x & 0x7fff7fffU, bits.y & 0x7fff7fffU);
        uint32_t most = max(pairs & 0xffffU, pairs >> 16);
#pragma unroll
        for (int step = 4; step > 0; step /= 2) most = max(most, __shfl_xor_sync(0xffffffffU, most, step));
        bits.x = on_grid(bits.x, exponent_of(most)), bits.y = on_grid(bits.y, exponent_of(most));
      }
      if (i < dim) *reinterpret_cast<uint2*>(h + i) = bits;
    };
    const int warp_at = thread / 32 * 128;  // of the warp's first lane
#pragma unroll
    for (int n = 0; n < kHeld; ++n)
      if (n * kThreads * 4 + warp_at < dim) write(at(n), xs[n], ws[n]);
    for (int i = kHeld * kThreads * 4; i + warp_at < dim; i += kThreads * 4) {
      const int own = min(i + thread * 4, dim - 4);
      write(i + thread * 4, *reinterpret_cast<const float4*>(x + own), *reinterpret_cast<const float4*>(a.w + own));
    }
  } else {
    for (int i = thread; i < dim; i += kThreads)
      reinterpret_cast<__nv_bfloat16*>(h)[i] = __float2bfloat16_rn(x[i] * scale * a.w[i]);
  }
}

}  // namespace

void cuda::rms_norm_rows(const RmsNormRows& a, CUstream_st* stream) {
  if (a.rows == 0) return;
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  require(!a.rounds || (a.dim % 32 == 0 && aligned(a.x) && aligned(a.w) && aligned(a.h)),
          "rms_norm_rows: want rows of a multiple of 32 to round them, found ", a.dim);
  if (a.dim % 4 == 0 && aligned(a.x) && aligned(a.w) && aligned(a.h))
    launch_dependent(rms_norm_rows_kernel<true>, dim3(static_cast<unsigned>(a.rows)), dim3(kThreads), 0, stream, a);
  else
    launch_dependent(rms_norm_rows_kernel<false>, dim3(static_cast<unsigned>(a.rows)), dim3(kThreads), 0, stream, a);
}

}  // namespace corvid::kernels
