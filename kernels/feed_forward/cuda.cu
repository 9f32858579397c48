// The order of a call: plan, gate and up, down into one row for each pair, and the sum of each row's pairs. One row
// alone needs no plan, and two launches (row.h).
#include <cuda_bf16.h>

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/feed_forward/feed_forward.h"
#include "kernels/feed_forward/plan.h"
#include "kernels/feed_forward/row.h"
#include "kernels/feed_forward/stream.h"
#include "kernels/products/dependent.cuh"
#include "kernels/products/grid.cuh"
#include "kernels/products/wide.h"
#include "kernels/route/route.h"

namespace corvid::kernels {
namespace {

// 16 bytes of a row of outputs, and those numbers times w, added.
__device__ void add(const float*, float w, const uint4& v, float (&sum)[4]) {
  const uint32_t words[] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) sum[i] = fmaf(w, __uint_as_float(words[i]), sum[i]);
}
__device__ void add(const uint16_t*, float w, const uint4& v, float (&sum)[8]) {
  const uint32_t words[] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum[2 * i] = fmaf(w, __uint_as_float(words[i] << 16), sum[2 * i]);
    sum[2 * i + 1] = fmaf(w, __uint_as_float(words[i] & 0xffff0000U), sum[2 * i + 1]);
  }
}

// x[r] += weight * out[pos] of the row's pairs, in ascending slot; the shared expert's weight is 1. Where x is null:
// dealt[r] = bf16(that sum + more[r]), more being zeros where it is null.
constexpr int kSumThreads = 256;
struct Sums {
  const int32_t* pos;
  const float* weights;
  float* x;
  const float* more;
  DealtRows<void> dealt;
  int dim, top_k, slots;
};
template <class Out>
__global__ __launch_bounds__(kSumThreads) void sum_kernel(const Out* out, const __grid_constant__ Sums a) {
  constexpr int kEach = 16 / sizeof(Out), kAtOnce = 8;  // numbers of a thread; slots on their way together
  const int64_t r = blockIdx.y;
  const int i = static_cast<int>(blockIdx.x * kSumThreads + threadIdx.x) * kEach;
  wait_for_previous();
  start_next();
  if (i >= a.dim) return;
  const float* const old = a.x != nullptr ? a.x : a.more;
  float4 v[kEach / 4] = {};
  if (old != nullptr) {
#pragma unroll
    for (int j = 0; j < kEach / 4; ++j) v[j] = reinterpret_cast<const float4*>(old + r * a.dim + i)[j];
  }
  float sum[kEach] = {};
  for (int first = 0; first < a.slots; first += kAtOnce) {
    int at[kAtOnce];
    float w[kAtOnce];
    uint4 o[kAtOnce];
#pragma unroll
    for (int s = 0; s < kAtOnce; ++s) {
      at[s] = first + s < a.slots ? a.pos[r * a.slots + first + s] : -1;
      w[s] = first + s < a.top_k ? a.weights[r * a.top_k + first + s] : 1.0F;
    }
#pragma unroll
    for (int s = 0; s < kAtOnce; ++s)
      if (at[s] >= 0) o[s] = *reinterpret_cast<const uint4*>(out + int64_t{at[s]} * a.dim + i);
#pragma unroll
    for (int s = 0; s < kAtOnce; ++s)
      if (at[s] >= 0) add(out, w[s], o[s], sum);
  }
#pragma unroll
  for (int j = 0; j < kEach / 4; ++j) {
    v[j].x += sum[4 * j], v[j].y += sum[4 * j + 1], v[j].z += sum[4 * j + 2], v[j].w += sum[4 * j + 3];
    if (a.x != nullptr) reinterpret_cast<float4*>(a.x + r * a.dim + i)[j] = v[j];
  }
  if (a.x != nullptr) return;
  auto* to = static_cast<__nv_bfloat162*>(a.dealt.of[a.dealt.owner(r)]) + (a.dealt.place(r) * a.dim + i) / 2;
  __nv_bfloat162 pairs[kEach / 2];
#pragma unroll
  for (int j = 0; j < kEach / 4; ++j) {
    pairs[2 * j] = __floats2bfloat162_rn(v[j].x, v[j].y);
    pairs[2 * j + 1] = __floats2bfloat162_rn(v[j].z, v[j].w);
  }
  if constexpr (kEach == 8)
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(pairs);
  else
    *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(pairs);
}

bool have_one_shape(const FeedForward::Mlp& a, const FeedForward::Mlp& b) {
  return a.gate.n == b.gate.n && a.gate.format == b.gate.format && a.down.format == b.down.format;
}

bool is_wide(const FeedForward::Mlp& mlp, int64_t rows) {
  return rows > kStreamRows && has_wide(mlp.gate.format, mlp.gate.k) && has_wide(mlp.down.format, mlp.down.k);
}

// The workspace, cut up.
struct Pieces {
  ExpertPlanShape shape;
  ExpertPlan plan = {};
  uint16_t* m = nullptr;       // [positions, ffn]
  uint16_t* sorted = nullptr;  // [positions, dim]: h, for the wide products; where `out` comes later
  float* out = nullptr;        // [positions, dim]
  float* more = nullptr;       // [rows, dim]: what the shared expert adds to rows that are dealt out
  int64_t bytes = 0;

  Pieces(const FeedForward& a, int64_t rows, void* workspace) {
    const bool dense = a.experts.gate.n_experts == 1 && a.top_k == 1, wide = is_wide(a.experts, rows);
    const bool shared = !dense && !wide && a.shared.gate.data != nullptr && have_one_shape(a.experts, a.shared);
    const int64_t n_experts = a.experts.gate.n_experts;
    shape = {rows, a.top_k, n_experts,
             wide ? wide_tile(a.experts.gate.format, a.experts.down.format, rows * a.top_k / n_experts)
                  : stream_tile(rows, a.top_k, n_experts),
             shared};
    auto* base = static_cast<unsigned char*>(workspace);
    const auto take = [&]<class T>(T*& to, int64_t count) {
      if (base != nullptr) to = reinterpret_cast<T*>(base + bytes);
      bytes += (count * int64_t{sizeof(T)} + 255) / 256 * 256;
    };
    const int64_t other_ffn = a.shared.gate.data != nullptr ? a.shared.gate.n : 0;
    take(m, std::max(shape.positions() * a.experts.gate.n, rows * other_ffn));
    if (dense) {
      take(sorted, rows * a.experts.gate.k);
      return;
    }
    take(plan.n_tiles, shape.plan_numbers());
    // The smallest tiles, of which there are most: so that fewer rows never need more.
    take(plan.tiles, ExpertPlanShape{rows, a.top_k, n_experts, 8, shared}.max_tiles());
    take(plan.rows, shape.positions());
    take(plan.pos, shape.positions());
    // Of the wide products out is bf16: half of the place.
    const bool has_more = wide && a.shared.gate.data != nullptr;
    take(out, std::max(shape.positions(), has_more ? 2 * rows : 0) * a.experts.down.n);
    sorted = reinterpret_cast<uint16_t*>(out);
    if (has_more && base != nullptr) more = reinterpret_cast<float*>(sorted + shape.positions() * a.experts.down.n);
  }
};

void check_shapes(const FeedForward& a) {
  const DeviceMatrix &gate = a.experts.gate, &up = a.experts.up, &down = a.experts.down;
  require(a.rows >= 0 && a.top_k >= 1 && gate.n_experts <= kMaxExperts,
          "feed_forward: want rows >= 0, top_k >= 1, found ", a.rows, ", ", a.top_k);
  require((a.ids == nullptr) == (a.weights == nullptr) && (a.ids != nullptr || (a.top_k == 1 && gate.n_experts == 1)),
          "feed_forward: want ids and weights, or one expert");
  for (const FeedForward::Mlp* mlp : {&a.experts, &a.shared}) {
    if (mlp->gate.data == nullptr) continue;
    require(mlp->gate.n == mlp->up.n && mlp->gate.k == mlp->up.k && mlp->gate.format == mlp->up.format &&
                mlp->down.k == mlp->gate.n && mlp->down.n == mlp->gate.k,
            "feed_forward: gate, up and down don't fit each other: [", mlp->gate.n, ", ", mlp->gate.k, "], [",
            mlp->up.n, ", ", mlp->up.k, "], [", mlp->down.n, ", ", mlp->down.k, "]");
    require(mlp->gate.n % 8 == 0 && mlp->gate.k % 8 == 0, "feed_forward: want multiples of 8, found ", mlp->gate.n,
            ", ", mlp->gate.k);
  }
  require(gate.n_experts == up.n_experts && gate.n_experts == down.n_experts && a.shared.gate.n_experts == 1,
          "feed_forward: want as many experts everywhere, found ", gate.n_experts, ", ", up.n_experts, ", ",
          down.n_experts);
}

// h as the wide products want it: by position, in the order of gate's format.
const uint16_t* in_order(const FeedForward& a, const FeedForward::Mlp& mlp, const ExpertPlan& plan, int64_t positions,
                         const Pieces& w, CUstream_st* stream) {
  const XOrder order = x_order(mlp.gate.format);
  if (plan.rows == nullptr && order == XOrder::plain) return a.h;
  const int32_t* count = plan.rows != nullptr ? plan.n_tiles + 1 + w.shape.n_experts : nullptr;
  if (order == XOrder::plain)
    cuda::copy_rows({a.h, plan.pos, w.sorted, w.shape.rows, w.shape.slots(), mlp.gate.k}, stream);
  else
    cuda::sort_rows({a.h, plan.rows, count, w.sorted, positions, mlp.gate.k, order}, stream);
  return w.sorted;
}

// One expert for all rows; wide: to y, else added to x.
void dense(const FeedForward& a, const FeedForward::Mlp& mlp, const Pieces& w, WideProduct::Out out,
           const DealtRows<void>& y, CUstream_st* stream) {
  uint16_t* m = w.m;
  FeedForward one = a;
  one.experts = mlp, one.shared = {}, one.ids = nullptr, one.weights = nullptr, one.top_k = 1, one.first_expert = 0;
  if (a.rows == 1 && row_fits(one)) return cuda::experts_of_row(one, false, m, stream);
  if (is_wide(mlp, a.rows)) {
    WideProduct p{.x = in_order(a, mlp, {}, a.rows, w, stream),
                  .positions = a.rows,
                  .first = mlp.gate,
                  .second = mlp.up,
                  .tiles = nullptr,
                  .n_tiles = nullptr,
                  .max_tiles = 0,
                  .y = m,
                  .out = WideProduct::Out::activated,
                  .act = a.act,
                  .order = x_order(mlp.down.format)};
    cuda::wide_product(p, stream);
    p.x = m, p.first = mlp.down, p.y = y, p.out = out, p.order = XOrder::plain;
    return cuda::wide_product(p, stream);
  }
  const int64_t tile = stream_tile(a.rows, 1, 1), tiles = (a.rows + tile - 1) / tile;
  ExpertStream p{.x = a.h,
                 .first = mlp.gate,
                 .second = mlp.up,
                 .shared_first = nullptr,
                 .shared_second = nullptr,
                 .plan = {},
                 .gather = false,
                 .rows = a.rows,
                 .tile = tile,
                 .max_tiles = tiles,
                 .top_k = 1,
                 .m = m,
                 .out = nullptr,
                 .add = false,
                 .act = a.act,
                 .is_rounded = a.is_rounded,
                 .rounds = is_on_grid(mlp.down.format) && may_round(mlp.gate, 1)};
  cuda::expert_stream(p, stream);
  p.x = m, p.first = mlp.down, p.second = {}, p.m = nullptr, p.out = a.x, p.add = true;
  p.is_rounded = p.rounds;
  cuda::expert_stream(p, stream);
}

template <class Out>
void add_rows(const FeedForward& a, const Pieces& w, const Out* out, CUstream_st* stream) {
  const auto dim = static_cast<int>(a.experts.down.n);
  constexpr int kBlock = kSumThreads * 16 / int{sizeof(Out)};  // numbers of a block
  const Sums sums{.pos = w.plan.pos,
                  .weights = a.weights,
                  .x = a.x,
                  .more = a.shared.gate.data != nullptr ? w.more : nullptr,
                  .dealt = a.dealt,
                  .dim = dim,
                  .top_k = static_cast<int>(a.top_k),
                  .slots = static_cast<int>(w.shape.slots())};
  launch_dependent(sum_kernel<Out>,
                   dim3(static_cast<unsigned>((dim + kBlock - 1) / kBlock), static_cast<unsigned>(a.rows)),
                   dim3(kSumThreads), 0, stream, out, sums);
}

void routed(const FeedForward& a, const Pieces& w, CUstream_st* stream) {
  const FeedForward::Mlp& e = a.experts;
  const ExpertPlanShape& s = w.shape;
  if (a.rows == 1 && row_fits(a)) return cuda::experts_of_row(a, s.shared, w.m, stream);
  cuda::plan_experts(a.ids, a.first_expert, s, w.plan, stream);
  if (is_wide(e, a.rows)) {
    WideProduct p{.x = in_order(a, e, w.plan, s.positions(), w, stream),
                  .positions = s.positions(),
                  .first = e.gate,
                  .second = e.up,
                  .tiles = w.plan.tiles,
                  .n_tiles = w.plan.n_tiles,
                  .max_tiles = s.max_tiles(),
                  .tile = s.tile,
                  .taken = w.plan.n_tiles + s.plan_numbers() - 2,
                  .y = w.m,
                  .out = WideProduct::Out::activated,
                  .act = a.act,
                  .order = x_order(e.down.format)};
    cuda::wide_product(p, stream);
    p.x = w.m, p.first = e.down, p.y = w.out, p.out = WideProduct::Out::bf16, p.order = XOrder::plain;
    ++p.taken;
    cuda::wide_product(p, stream);
    return add_rows(a, w, reinterpret_cast<const uint16_t*>(w.out), stream);
  }
  ExpertStream p{.x = a.h,
                 .first = e.gate,
                 .second = e.up,
                 .shared_first = s.shared ? a.shared.gate.data : nullptr,
                 .shared_second = s.shared ? a.shared.up.data : nullptr,
                 .plan = w.plan,
                 .gather = true,
                 .rows = a.rows,
                 .tile = s.tile,
                 .max_tiles = s.max_tiles(),
                 .top_k = s.slots(),
                 .m = w.m,
                 .out = nullptr,
                 .add = false,
                 .act = a.act,
                 .is_rounded = a.is_rounded,
                 .rounds = is_on_grid(e.down.format) && may_round(e.gate, s.slots())};
  cuda::expert_stream(p, stream);
  p.x = w.m, p.gather = false, p.first = e.down, p.second = {}, p.m = nullptr, p.out = w.out;
  p.is_rounded = p.rounds;
  p.shared_first = s.shared ? a.shared.down.data : nullptr, p.shared_second = nullptr;
  cuda::expert_stream(p, stream);
  add_rows(a, w, static_cast<const float*>(w.out), stream);
}

}  // namespace

int64_t feed_forward_workspace_bytes(const FeedForward& a, int64_t rows) {
  return std::max(Pieces(a, rows, nullptr).bytes, Pieces(a, std::min(rows, kStreamRows), nullptr).bytes);
}

void cuda::feed_forward(const FeedForward& a, void* workspace, CUstream_st* stream) {
  check_shapes(a);
  if (a.rows == 0) return;
  const Pieces w(a, a.rows, workspace);
  const bool has_shared = a.shared.gate.data != nullptr && !w.shape.shared;
  using Out = WideProduct::Out;
  if (a.x == nullptr) {
    require(is_wide(a.experts, a.rows) && (!has_shared || (a.ids != nullptr && is_wide(a.shared, a.rows))),
            "feed_forward: want more than ", kStreamRows, " rows where they are dealt out, found ", a.rows);
    if (a.ids == nullptr) return dense(a, a.experts, w, Out::bf16, a.dealt, stream);
    if (has_shared) dense(a, a.shared, w, Out::f32, w.more, stream);  // the sum that is rounded comes last
    return routed(a, w, stream);
  }
  if (a.ids == nullptr)
    dense(a, a.experts, w, Out::add_f32, a.x, stream);
  else
    routed(a, w, stream);
  if (has_shared) dense(a, a.shared, w, Out::add_f32, a.x, stream);
}

}  // namespace corvid::kernels
