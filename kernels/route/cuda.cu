#include <math_constants.h>

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/products/dependent.cuh"
#include "kernels/products/split.h"
#include "kernels/route/route_rows.h"

namespace corvid::kernels {
namespace {

constexpr unsigned kAll = 0xffffffffU;

__device__ float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAll, value, step);
  return value;
}
__device__ float warp_max(float value) {
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(kAll, value, step));
  return value;
}

constexpr int kThreads = 128;

// Larger for larger scores; NaN is as low as can be. Never 0.
__device__ uint32_t key_of(float score) {
  const uint32_t bits = __float_as_uint(isnan(score) ? -CUDART_INF_F : score + 0.0F);  // of -0 those of 0
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

// A block for each row: all add up the logits, one warp makes scores of them, and all count how many experts are before
// each. kThirds: a logit is the sum of so many numbers, n_experts apart, the last being the smallest, and each of them
// the sum of what kParts matrices have in its place.
template <int kThirds, int kParts>
__global__ void route_kernel(Route a) {
  extern __shared__ __align__(16) float shared[];
  float* p = shared;
  const int n = static_cast<int>(a.n_experts), keys_end = (n + 3) / 4 * 4;
  auto* keys = reinterpret_cast<uint32_t*>(p + keys_end);
  int32_t* chosen = reinterpret_cast<int32_t*>(keys + keys_end);
  int32_t* sorted = chosen + a.top_k;
  int32_t* ids = a.ids + blockIdx.x * a.top_k;
  float* weights = a.weights + blockIdx.x * a.top_k;
  const int lane = static_cast<int>(threadIdx.x);

  wait_for_previous();
  start_next();
  for (int64_t e = lane; e < a.n_experts; e += kThreads) {
    // All are asked for before the first is added: left to the compiler they come one by one.
    const float* const from = a.logits + blockIdx.x * kThirds * a.n_experts + e;
    const int64_t stride = a.rows * kThirds * a.n_experts;
    float all[kThirds][kParts];
#pragma unroll
    for (int third = kThirds - 1; third >= 0; --third)
#pragma unroll
      for (int s = 0; s < kParts; ++s)
        asm volatile("ld.global.f32 %0, [%1];" : "=f"(all[third][s]) : "l"(from + s * stride + third * a.n_experts));
    float logit = 0;
#pragma unroll
    for (int third = kThirds - 1; third >= 0; --third)
#pragma unroll
      for (int s = 0; s < kParts; ++s) logit += all[third][s];
    p[e] = logit;
  }
  __syncthreads();
  const bool makes_scores = lane < 32;
  if (makes_scores && a.gating == Gating::sigmoid) {
    for (int64_t e = lane; e < a.n_experts; e += 32) p[e] = 1 / (1 + expf(-p[e]));
  } else if (makes_scores) {
    float largest = -CUDART_INF_F, sum = 0;
    for (int64_t e = lane; e < a.n_experts; e += 32) largest = fmaxf(largest, p[e]);
    largest = warp_max(largest);
    for (int64_t e = lane; e < a.n_experts; e += 32) sum += p[e] = expf(p[e] - largest);
    sum = warp_sum(sum);
    for (int64_t e = lane; e < a.n_experts; e += 32) p[e] /= sum;
  }
  if (makes_scores)
    for (int e = lane; e < keys_end; e += 32) keys[e] = e < n ? key_of(a.bias == nullptr ? p[e] : p[e] + a.bias[e]) : 0;
  __syncthreads();
  for (int e = lane; e < n; e += kThreads) {
    const uint32_t key = keys[e];
    int before = 0;
    for (int i = 0; i < n; i += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(keys + i);
      before += four.x > key - (i < e ? 1 : 0);
      before += four.y > key - (i + 1 < e ? 1 : 0);
      before += four.z > key - (i + 2 < e ? 1 : 0);
      before += four.w > key - (i + 3 < e ? 1 : 0);
    }
    if (before < a.top_k) chosen[before] = e;
  }
  __syncthreads();
  if (lane >= 32) return;
  // From the order of choice to that of the ids.
  for (int64_t i = lane; i < a.top_k; i += 32) {
    int at = 0;
    for (int64_t j = 0; j < a.top_k; ++j) at += chosen[j] < chosen[i];
    sorted[at] = chosen[i];
  }
  __syncwarp();
  float sum = a.normalised ? 0 : 1;
  for (int64_t i = 0; a.normalised && i < a.top_k; ++i) sum += p[sorted[i]];
  for (int64_t i = lane; i < a.top_k; i += 32) {
    ids[i] = sorted[i];
    weights[i] = sum == 0 ? a.scale / static_cast<float>(a.top_k) : a.scale * (p[sorted[i]] / sum);
  }
}

template <int kThirds, int kParts>
void launch(const Route& a, CUstream_st* stream) {
  if (a.rows == 0) return;
  const auto shared_bytes = static_cast<size_t>(2 * ((a.n_experts + 3) / 4 * 4 + a.top_k)) * sizeof(float);
  if (shared_bytes > 48 << 10)
    cuda::check(cudaFuncSetAttribute(route_kernel<kThirds, kParts>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shared_bytes)),
                "route");
  launch_dependent(route_kernel<kThirds, kParts>, dim3(static_cast<unsigned>(a.rows)), dim3(kThreads), shared_bytes,
                   stream, a);
}

int splits_of(int64_t rows) { return rows <= kStreamRows ? kSplits : 1; }
int64_t logits_bytes(int64_t rows, int64_t n_experts) {
  return (splits_of(rows) * rows * 3 * n_experts * int64_t{sizeof(float)} + 255) / 256 * 256;
}

}  // namespace

void cuda::route(const Route& a, CUstream_st* stream) { launch<1, 1>(a, stream); }

int64_t route_rows_workspace_bytes(int64_t rows, int64_t n_experts, int64_t dim) {
  const Product product = {{nullptr, DeviceFormat::bf16, 3 * n_experts, dim}, nullptr, Product::Out::f32};
  return std::max(logits_bytes(rows, n_experts), logits_bytes(std::min(rows, kStreamRows), n_experts)) +
         products_workspace_bytes({&product, 1}, rows);
}

void cuda::route_rows(const RouteRows& a, void* workspace, CUstream_st* stream) {
  require(a.router.n == 3 * a.n_experts && a.top_k >= 1 && a.top_k <= a.n_experts && a.n_experts <= kMaxExperts,
          "route_rows: want a router of 3 * ", a.n_experts, " rows, found ", a.router.n, ", and top_k in [1, ",
          a.n_experts, "], found ", a.top_k);
  if (a.rows == 0) return;
  auto* logits = static_cast<float*>(workspace);
  if (const Product product = {a.router, logits, Product::Out::f32}; a.rows > kStreamRows)
    products(a.h, a.rows, {&product, 1}, static_cast<unsigned char*>(workspace) + logits_bytes(a.rows, a.n_experts),
             stream);
  else
    split_product(a.h, a.rows, a.router, logits, stream);
  const Route choice = {logits,      a.bias,  a.ids,   a.weights, a.rows,
                        a.n_experts, a.top_k, a.scale, a.gating,  a.normalised};
  if (a.rows > kStreamRows)
    launch<3, 1>(choice, stream);
  else
    launch<3, kSplits>(choice, stream);
}

}  // namespace corvid::kernels
