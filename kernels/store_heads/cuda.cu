// A warp for each head of each row: its numbers lie in shared memory as float32 between the norm and the turn.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/products/dependent.cuh"
#include "kernels/store_heads/store_heads.h"
#include "kernels/store_heads/whole_head.cuh"

namespace corvid::kernels {
namespace {

constexpr int kWarps = 4;
constexpr int kMostDim = 1024;

// Lanes add pairs in turn, then a tree: an order that the width alone decides.
__device__ float square_sum(const uint16_t* data, int64_t width, int lane) {
  float sum = 0;
  for (int64_t i = lane; i < width / 2; i += 32) {
    const float2 x = pair_at(data, i);
    sum = fmaf(x.x, x.x, fmaf(x.y, x.y, sum));
  }
  return warp_sum(sum);
}

// The head `in` of width dim, normalised over `all_dim` numbers whose squares have this sum, and turned, in `out`.
__device__ void norm_and_turn(const uint16_t* in, const NormPart& part, const float* weight, float squares,
                              int64_t all_dim, const float* cos_sin, int64_t rotary, float eps, int64_t dim, float* out,
                              int lane) {
  const float scale = rsqrtf(squares / static_cast<float>(all_dim) + eps);
#pragma unroll
  for (int n = 0; n < NormPart::kMost; ++n) {
    const int64_t i = lane + 32 * n;
    if (i >= dim / 2) break;
    const float2 x = pair_at(in, i);
    out[2 * i] = x.x * scale * part.pairs[n].x;
    out[2 * i + 1] = x.y * scale * part.pairs[n].y;
  }
  for (int64_t i = lane + 32 * NormPart::kMost; i < dim / 2; i += 32) {
    const float2 x = pair_at(in, i);
    out[2 * i] = x.x * scale * weight[2 * i];
    out[2 * i + 1] = x.y * scale * weight[2 * i + 1];
  }
  __syncwarp();
  const int64_t half = rotary / 2;
  for (int64_t i = lane; i < half; i += 32) {
    const float first = out[i], second = out[half + i], c = cos_sin[i], s = cos_sin[half + i];
    out[i] = first * c - second * s;
    out[half + i] = second * c + first * s;
  }
  __syncwarp();
}

// The same for a head of 128 that is normalised by itself and turned as a whole, straight to where it goes, in the same
// bits.
__device__ void norm_and_turn_whole(const uint16_t* in, const NormPart& part, const float* cos_sin, float eps,
                                    uint16_t* to, int lane) {
  const WholeHead head(in, lane);
  const uint2 pairs = head.turned(part, WholeTurn(cos_sin, lane), eps);
  reinterpret_cast<uint32_t*>(to)[lane] = pairs.x;
  reinterpret_cast<uint32_t*>(to)[lane + 32] = pairs.y;
}

__device__ void write_bf16(uint16_t* to, const float* from, int64_t dim, int lane) {
  for (int64_t i = lane; i < dim / 2; i += 32) {
    reinterpret_cast<__nv_bfloat162*>(to)[i] = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
  }
}

__device__ void write_e4m3(unsigned char* to, const float* from, int64_t dim, int lane) {
  for (int64_t i = lane; i < dim / 2; i += 32) {
    reinterpret_cast<__nv_fp8x2_storage_t*>(to)[i] =
        __nv_cvt_float2_to_fp8x2(make_float2(from[2 * i], from[2 * i + 1]), __NV_SATFINITE, __NV_E4M3);
  }
}

// What a warp does: a head's numbers, by what they are normalised (weight == null: values, which are not), and where
// they go.
struct Unit {
  const uint16_t *in = nullptr, *all = nullptr;
  const float* weight = nullptr;
  const float* squares = nullptr;  // of all_dim numbers; null: they are `all`
  int64_t dim = 0, all_dim = 0;
  std::byte* to = nullptr;  // null: nothing is wanted
  bool e4m3 = false;
};

// One of the row's heads of q, then of k, v, index_q, index_k.
__device__ Unit unit_of(const StoreHeads& a, int64_t row, int64_t unit) {
  Unit u;
  const auto of_row = [&](const StoreHeads::Rows& from, int64_t n, int64_t dim, const float* weight, bool whole) {
    u.all = from.data + row * from.stride;
    u.in = u.all + unit * dim;
    u.dim = dim;
    u.all_dim = whole ? n * dim : dim;
    u.weight = weight != nullptr && whole ? weight + unit * dim : weight;
    if (!whole) u.all = u.in;
    if (!whole || a.squares == nullptr) return;
    u.squares = a.squares + row * kHeadSquares + (&from == &a.q ? 0 : 1);
    u.all_dim *= a.gpus;
  };
  if (unit < a.n_heads) {
    of_row(a.q, a.n_heads, a.head_dim, a.q_norm, a.whole_norms);
    u.to = reinterpret_cast<std::byte*>(a.q_out + (row * a.n_heads + unit) * a.head_dim);
    return u;
  }
  unit -= a.n_heads;
  const int64_t pos = a.pos[row];
  std::byte* page = nullptr;
  int64_t at = 0;
  if (pos >= 0) {
    page = a.pages_base + int64_t{a.pages[int64_t{a.seq[row]} * a.max_pages + pos / a.block]} * a.page_bytes;
    at = pos % a.block;
  }
  if (unit < a.n_kv_heads) {
    of_row(a.k, a.n_kv_heads, a.head_dim, a.k_norm, a.whole_norms);
    if (page != nullptr) u.to = page + (unit * a.block + at) * a.head_dim * 2;
    return u;
  }
  unit -= a.n_kv_heads;
  if (unit < a.n_kv_heads) {
    of_row(a.v, a.n_kv_heads, a.head_dim, nullptr, false);
    if (page != nullptr) u.to = page + a.values_offset + (unit * a.block + at) * a.head_dim * 2;
    return u;
  }
  unit -= a.n_kv_heads;
  if (a.index_q.data != nullptr) {
    if (unit < a.n_index_heads) {
      of_row(a.index_q, a.n_index_heads, a.index_dim, a.index_q_norm, false);
      u.to = reinterpret_cast<std::byte*>(a.index_q_out + (row * a.n_index_heads + unit) * a.index_dim);
      return u;
    }
    unit -= a.n_index_heads;
  }
  if (a.index_k.data == nullptr || unit > 0) return u;
  of_row(a.index_k, 1, a.index_dim, a.index_k_norm, false);
  u.e4m3 = a.index_e4m3;
  if (page != nullptr) u.to = page + a.index_offset + at * a.index_dim * (u.e4m3 ? 1 : 2);
  return u;
}

// blockIdx.x: row; blockIdx.y and the warp: the unit.
__global__ void __launch_bounds__(kWarps * 32) store_heads_kernel(const StoreHeads a) {
  extern __shared__ float shared[];
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int64_t row = blockIdx.x;
  float* head = shared + warp * (a.head_dim > a.index_dim ? a.head_dim : a.index_dim);
  start_next();
  const Unit u = unit_of(a, row, int64_t{blockIdx.y} * kWarps + warp);
  const NormPart part(u.weight, u.dim, lane);
  wait_for_previous();
  if (u.to == nullptr) return;
  if (u.weight == nullptr) {
    const auto* in = reinterpret_cast<const uint32_t*>(u.in);
    for (int64_t i = lane; i < u.dim / 2; i += 32) reinterpret_cast<uint32_t*>(u.to)[i] = in[i];
    return;
  }
  if (u.dim == kWholeDim && u.all_dim == kWholeDim && a.rotary_dim == kWholeDim && !u.e4m3)
    return norm_and_turn_whole(u.in, part, a.cos_sin + row * kWholeDim, a.eps, reinterpret_cast<uint16_t*>(u.to), lane);
  const float squares = u.squares != nullptr ? *u.squares : square_sum(u.all, u.all_dim, lane);
  norm_and_turn(u.in, part, u.weight, squares, u.all_dim, a.cos_sin + row * a.rotary_dim, a.rotary_dim, a.eps, u.dim,
                head, lane);
  if (u.e4m3)
    write_e4m3(reinterpret_cast<unsigned char*>(u.to), head, u.dim, lane);
  else
    write_bf16(reinterpret_cast<uint16_t*>(u.to), head, u.dim, lane);
}

// A row's q, then its k, by a warp each.
__global__ void __launch_bounds__(64) head_squares_kernel(const HeadSquares a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const bool is_q = threadIdx.x < 32;
  const int64_t row = blockIdx.x;
  wait_for_previous();
  start_next();
  const StoreHeads::Rows& from = is_q ? a.q : a.k;
  const float sum = square_sum(from.data + row * from.stride, is_q ? a.q_dim : a.k_dim, lane);
  if (lane == 0) a.part[row * kHeadSquares + (is_q ? 0 : 1)] = sum;
  if (is_q && lane >= 2 && lane < kHeadSquares) a.part[row * kHeadSquares + lane] = 0;
  if (!is_q && lane < kHeadSquares) a.sums[row * kHeadSquares + lane] = 0;
}

// Positions are no concern of the kernel before, so angles are made while it may still run.
__global__ void row_angles_kernel(const RowAngles a) {
  const int64_t half = a.rotary_dim / 2, i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x;
  start_next();
  const int64_t row = i / half, pair = i % half;
  double s = 0, c = 0;
  if (i < a.rows * half) {
    const int32_t pos = a.pos[row] < 0 ? 0 : a.pos[row];
    const double angle = double(pos) * pow(a.theta, -2.0 * double(pair) / double(a.rotary_dim));
    sincos(angle, &s, &c);
  }
  wait_for_previous();
  if (i >= a.rows * half) return;
  a.cos_sin[row * a.rotary_dim + pair] = static_cast<float>(c);
  a.cos_sin[row * a.rotary_dim + half + pair] = static_cast<float>(s);
}

__global__ void gather_rows_kernel(const __grid_constant__ GatherRows a) {
  const int64_t row = a.rows[blockIdx.x];
  const auto* in =
      reinterpret_cast<const uint32_t*>(static_cast<const std::byte*>(a.in.of[a.in.owner(row)]) + row * a.row_bytes);
  auto* out = reinterpret_cast<uint32_t*>(static_cast<std::byte*>(a.out) + blockIdx.x * a.row_bytes);
  for (int64_t i = threadIdx.x; i < a.row_bytes / 4; i += blockDim.x) out[i] = in[i];
}

// splitmix64's output function.
__device__ uint64_t scramble(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

__global__ void make_up_kernel(const MadeUp a) {
  const int64_t part = blockIdx.y;
  std::byte* base = a.base + (a.slots != nullptr ? int64_t{a.slots[part]} : part) * a.stride;
  const uint64_t first = scramble(a.seed + static_cast<uint64_t>(part) * 0x9e3779b97f4a7c15U);
  for (int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x; i < a.count; i += int64_t{gridDim.x} * blockDim.x) {
    // The sum of four even numbers in [-1, 1) has a deviation of sqrt(4 / 3).
    const uint64_t bits = scramble(first + static_cast<uint64_t>(i));
    float sum = 0;
    for (int p = 0; p < 64; p += 16) sum += static_cast<float>(static_cast<int16_t>(bits >> p)) * 0x1p-15F;
    const float value = sum * 0.8660254F * a.deviation;
    if (a.kind == MadeUp::Kind::f32)
      reinterpret_cast<float*>(base)[i] = value;
    else if (a.kind == MadeUp::Kind::bf16)
      reinterpret_cast<__nv_bfloat16*>(base)[i] = __float2bfloat16_rn(value);
    else
      reinterpret_cast<__nv_fp8_storage_t*>(base)[i] = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
  }
}

}  // namespace

void cuda::store_heads(const StoreHeads& a, CUstream_st* stream) {
  const int64_t widest = a.head_dim > a.index_dim ? a.head_dim : a.index_dim;
  require(a.head_dim % 2 == 0 && a.index_dim % 2 == 0 && widest <= kMostDim,
          "store_heads: want even widths of at most ", kMostDim, ", found ", a.head_dim, " and ", a.index_dim);
  if (a.rows == 0) return;
  const int64_t units = a.n_heads + 2 * a.n_kv_heads + (a.index_q.data != nullptr ? a.n_index_heads : 0) +
                        (a.index_k.data != nullptr ? 1 : 0);
  const dim3 grid(static_cast<unsigned>(a.rows), static_cast<unsigned>((units + kWarps - 1) / kWarps));
  launch_dependent(store_heads_kernel, grid, dim3(kWarps * 32), static_cast<size_t>(kWarps * widest) * sizeof(float),
                   stream, a);
}

void cuda::head_squares(const HeadSquares& a, CUstream_st* stream) {
  if (a.rows == 0) return;
  launch_dependent(head_squares_kernel, dim3(static_cast<unsigned>(a.rows)), dim3(64), 0, stream, a);
}

void cuda::row_angles(const RowAngles& a, CUstream_st* stream) {
  if (a.rows == 0) return;
  const int64_t count = a.rows * a.rotary_dim / 2;
  launch_dependent(row_angles_kernel, dim3(static_cast<unsigned>((count + 127) / 128)), dim3(128), 0, stream, a);
}

void cuda::gather_rows(const GatherRows& a, CUstream_st* stream) {
  if (a.n == 0) return;
  gather_rows_kernel<<<static_cast<unsigned>(a.n), 256, 0, stream>>>(a);
  check_launch("gather_rows");
}

void cuda::make_up(const MadeUp& a, CUstream_st* stream) {
  constexpr int64_t kPartsPerLaunch = 65535;
  MadeUp now = a;
  for (int64_t first = 0; first < a.n_parts; first += kPartsPerLaunch) {
    now.n_parts = a.n_parts - first < kPartsPerLaunch ? a.n_parts - first : kPartsPerLaunch;
    now.seed = a.seed + static_cast<uint64_t>(first);
    if (a.slots != nullptr)
      now.slots = a.slots + first;
    else
      now.base = a.base + first * a.stride;
    const int64_t blocks = (a.count + 1023) / 1024;
    const dim3 grid(static_cast<unsigned>(blocks < 4096 ? blocks : 4096), static_cast<unsigned>(now.n_parts));
    make_up_kernel<<<grid, 256, 0, stream>>>(now);
    check_launch("make_up");
  }
}

}  // namespace corvid::kernels
