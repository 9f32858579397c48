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

// A block for each row, in four steps with a barrier behind each: logits; scores; how many experts are before each; and
// the chosen ones' places in the order of their ids. kThirds: a logit is the sum of so many numbers, n_experts apart,
// the last being the smallest, and each of them the sum of what kParts matrices have in its place. Every warp takes the
// largest logit and the sum of exponentials for itself, which saves two barriers. Code that is run through once is
// fetched from afar, so it is short.
template <int kThirds, int kParts>
__global__ __launch_bounds__(kThreads) void route_kernel(Route a) {
  extern __shared__ __align__(16) float shared[];
  __shared__ uint32_t masks[kMaxExperts / 32];
  const int n = static_cast<int>(a.n_experts), top_k = static_cast<int>(a.top_k), end = (n + 3) / 4 * 4;
  float *const logits = shared, *const scores = logits + end, *const picked = scores + 2 * end;
  auto* const keys = reinterpret_cast<uint32_t*>(scores + end);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int all = (n + 31) / 32 * 32;  // of whole warps

  wait_for_previous();
  start_next();  // behind the wait: the experts' kernel reads h, which the one before this may have written
#pragma unroll 1
  for (int e = thread; e < end; e += kThreads) {
    float logit = e < n ? 0 : -CUDART_INF_F;
    if (e < n) {
      // All are asked for before the first is added: left to the compiler they come one by one.
      const float* const from = a.logits + blockIdx.x * kThirds * a.n_experts + e;
      const int64_t stride = a.rows * kThirds * a.n_experts;
      float parts[kThirds][kParts];
#pragma unroll
      for (int third = kThirds - 1; third >= 0; --third)
#pragma unroll
        for (int s = 0; s < kParts; ++s)
          asm volatile("ld.global.f32 %0, [%1];"
                       : "=f"(parts[third][s])
                       : "l"(from + s * stride + third * a.n_experts));
#pragma unroll
      for (int third = kThirds - 1; third >= 0; --third)
#pragma unroll
        for (int s = 0; s < kParts; ++s) logit += parts[third][s];
    }
    logits[e] = logit;
  }
  __syncthreads();
  float largest = -CUDART_INF_F, sum = 0;
  if (a.gating == Gating::softmax) {
#pragma unroll 1
    for (int i = lane * 4; i < end; i += 128) {
      const float4 v = *reinterpret_cast<const float4*>(logits + i);
      largest = fmaxf(largest, fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)));
    }
    largest = warp_max(largest);
#pragma unroll 1
    for (int i = lane * 4; i < end; i += 128) {
      const float4 v = *reinterpret_cast<const float4*>(logits + i);
      sum += expf(v.x - largest) + expf(v.y - largest) + expf(v.z - largest) + expf(v.w - largest);
    }
    sum = warp_sum(sum);
  }
#pragma unroll 1
  for (int e = thread; e < end; e += kThreads) {
    const float score = a.gating == Gating::sigmoid ? 1 / (1 + expf(-logits[e])) : expf(logits[e] - largest) / sum;
    scores[e] = score;
    keys[e] = e < n ? key_of(a.bias == nullptr ? score : score + a.bias[e]) : 0;
  }
  __syncthreads();
#pragma unroll 1
  for (int e = thread; e < all; e += kThreads) {
    const uint32_t key = e < n ? keys[e] : 0;
    int before = 0;
#pragma unroll 4
    for (int i = 0; i < end; i += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(keys + i);
      before += four.x > key - (i < e ? 1 : 0);
      before += four.y > key - (i + 1 < e ? 1 : 0);
      before += four.z > key - (i + 2 < e ? 1 : 0);
      before += four.w > key - (i + 3 < e ? 1 : 0);
    }
    const uint32_t chosen = __ballot_sync(kAll, e < n && before < top_k);
    if (lane == 0) masks[e / 32] = chosen;
  }
  __syncthreads();
  // Where expert e goes, or -1.
  const auto place = [&](int e) {
    const uint32_t own = masks[e / 32];
    if ((own >> lane & 1) == 0) return -1;
    int at = __popc(own & ((1U << lane) - 1));
#pragma unroll 1
    for (int i = 0; i < e / 32; ++i) at += __popc(masks[i]);
    return at;
  };
#pragma unroll 1
  for (int e = thread; e < n; e += kThreads)
    if (const int at = place(e); at >= 0) picked[at] = scores[e];
  __syncthreads();
#pragma unroll 1
  for (int e = thread; e < n; e += kThreads) {
    const int at = place(e);
    if (at < 0) continue;
    float total = a.normalised ? 0 : 1;
    for (int i = 0; a.normalised && i < top_k; ++i) total += picked[i];
    a.ids[blockIdx.x * a.top_k + at] = e;
    a.weights[blockIdx.x * a.top_k + at] =
        total == 0 ? a.scale / static_cast<float>(top_k) : a.scale * (scores[e] / total);
  }
}

// The same bits by one warp, which waits for nothing but its loads, where there are so few experts: a lane has four of
// them. The most likely one is found top_k times. 3.7% of a step of Qwen3-30B-A3B at batch 1 in Q8_0.
constexpr int kWarpExperts = 128;
template <int kThirds, int kParts>
__global__ __launch_bounds__(32) void route_warp_kernel(Route a) {
  __shared__ float picked[kWarpExperts];
  const int n = static_cast<int>(a.n_experts), top_k = static_cast<int>(a.top_k);
  const int lane = static_cast<int>(threadIdx.x), first = lane * 4;
  wait_for_previous();
  start_next();                                                                   // as above
  float score[4] = {-CUDART_INF_F, -CUDART_INF_F, -CUDART_INF_F, -CUDART_INF_F};  // logits at first
  if (first < n) {
    const float* const from = a.logits + blockIdx.x * kThirds * a.n_experts + first;
    const int64_t stride = a.rows * kThirds * a.n_experts;
    float parts[kThirds][kParts][4];
#pragma unroll
    for (int third = kThirds - 1; third >= 0; --third)
#pragma unroll
      for (int s = 0; s < kParts; ++s)
        asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(parts[third][s][0]), "=f"(parts[third][s][1]), "=f"(parts[third][s][2]),
                       "=f"(parts[third][s][3])
                     : "l"(from + s * stride + third * a.n_experts));
#pragma unroll
    for (int i = 0; i < 4; ++i) score[i] = 0;
#pragma unroll
    for (int third = kThirds - 1; third >= 0; --third)
#pragma unroll
      for (int s = 0; s < kParts; ++s)
#pragma unroll
        for (int i = 0; i < 4; ++i) score[i] += parts[third][s][i];
  }
  if (a.gating == Gating::softmax) {
    const float largest = warp_max(fmaxf(fmaxf(score[0], score[1]), fmaxf(score[2], score[3])));
#pragma unroll
    for (int i = 0; i < 4; ++i) score[i] = expf(score[i] - largest);
    const float sum = warp_sum(score[0] + score[1] + score[2] + score[3]);
#pragma unroll
    for (int i = 0; i < 4; ++i) score[i] /= sum;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) score[i] = 1 / (1 + expf(-score[i]));
  }
  uint32_t keys[4] = {};
  if (first < n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) keys[i] = key_of(a.bias == nullptr ? score[i] : score[i] + a.bias[first + i]);
  }
  bool chosen[4] = {};
#pragma unroll 1
  for (int k = 0; k < top_k; ++k) {
    const uint32_t own = max(max(keys[0], keys[1]), max(keys[2], keys[3])), best = __reduce_max_sync(kAll, own);
    bool is_mine = lane == __ffs(static_cast<int>(__ballot_sync(kAll, own == best))) - 1;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool is_it = is_mine && keys[i] == best;
      if (is_it) keys[i] = 0, chosen[i] = true, is_mine = false;
    }
  }
  const uint32_t lower = (1U << lane) - 1;
  int at[4], before = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) before += __popc(__ballot_sync(kAll, chosen[i]) & lower);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    at[i] = before;
    before += chosen[i] ? 1 : 0;
    if (chosen[i]) picked[at[i]] = score[i];
  }
  __syncwarp();
  float total = a.normalised ? 0 : 1;
  for (int k = 0; a.normalised && k < top_k; ++k) total += picked[k];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (!chosen[i]) continue;
    a.ids[blockIdx.x * a.top_k + at[i]] = first + i;
    a.weights[blockIdx.x * a.top_k + at[i]] =
        total == 0 ? a.scale / static_cast<float>(top_k) : a.scale * (score[i] / total);
  }
}

template <int kThirds, int kParts>
void launch(const Route& a, CUstream_st* stream) {
  if (a.rows == 0) return;
  if (a.n_experts <= kWarpExperts && a.n_experts % 4 == 0 && reinterpret_cast<uintptr_t>(a.logits) % 16 == 0)
    return launch_dependent(route_warp_kernel<kThirds, kParts>, dim3(static_cast<unsigned>(a.rows)), dim3(32), 0,
                            stream, a);
  // Behind the chosen ones room for what the compiler reads ahead of their sum, and drops.
  const auto shared_bytes = static_cast<size_t>(3 * ((a.n_experts + 3) / 4 * 4) + a.top_k + 8) * sizeof(float);
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

namespace {

void queue(const RouteRows& a, const RmsNormRows* norm, void* workspace, CUstream_st* stream) {
  require(a.router.n == 3 * a.n_experts && a.top_k >= 1 && a.top_k <= a.n_experts && a.n_experts <= kMaxExperts,
          "route_rows: want a router of 3 * ", a.n_experts, " rows, found ", a.router.n, ", and top_k in [1, ",
          a.n_experts, "], found ", a.top_k);
  if (a.rows == 0) return;
  auto* logits = static_cast<float*>(workspace);
  const Route choice = {logits,      a.bias,  a.ids,   a.weights, a.rows,
                        a.n_experts, a.top_k, a.scale, a.gating,  a.normalised};
  if (a.rows > kStreamRows) {
    const Product product = {a.router, logits, Product::Out::f32};
    if (norm != nullptr) cuda::rms_norm_rows(*norm, stream);
    cuda::products(a.h, a.rows, {&product, 1},
                   static_cast<unsigned char*>(workspace) + logits_bytes(a.rows, a.n_experts), stream);
    return launch<3, 1>(choice, stream);
  }
  if (norm != nullptr)
    cuda::norm_split_product(*norm, a.router, logits, stream, a.rounds);
  else
    cuda::split_product(a.h, a.rows, a.router, logits, stream, a.rounds);
  launch<3, kSplits>(choice, stream);
}

}  // namespace

void cuda::route_rows(const RouteRows& a, void* workspace, CUstream_st* stream) {
  queue(a, nullptr, workspace, stream);
}

void cuda::norm_route_rows(const RmsNormRows& norm, const RouteRows& a, void* workspace, CUstream_st* stream) {
  require(a.h == norm.h && a.rows == norm.rows && a.router.k == norm.dim, "norm_route_rows: want the norm of h");
  queue(a, &norm, workspace, stream);
}

}  // namespace corvid::kernels
