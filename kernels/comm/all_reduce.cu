#include <cuda_bf16.h>

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/check.h"
#include "kernels/comm/all_reduce.h"
#include "kernels/comm/nccl.h"
#include "kernels/cuda_check.h"
#include "kernels/exec.h"
#include "kernels/gpu.h"
#include "kernels/launch.cuh"
#include "kernels/products/dependent.cuh"
#include "kernels/products/products.h"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace corvid::kernels {
namespace {

constexpr int kRowThreads = 1024, kPieceThreads = 256;
constexpr int64_t kPiece = 4096;       // numbers of many rows that a block adds at a time
constexpr int64_t kRowsAtOnce = 2048;  // of many: what the buffers hold
constexpr unsigned kAll = 0xffffffffU;

// What arrives in a GPU's memory, from each of its peers.
//   few     [2][gpus][kStreamRows][dim / 2] packets of 16 bytes: number, call, number, call
//   many    [2][gpus][pieces][kPiece] bf16;  flags [gpus][pieces]: the last call whose piece is there
struct Mail {
  uint4* few;
  uint16_t* many;
  uint32_t* flags;
};

struct Sum {
  float* partial;
  float* x;
  const float* w;
  uint16_t* h;
  Mail mail[kMostGpus];
  uint32_t* calls;  // [kStreamRows] or [pieces]: how many there have been of this row or piece
  int64_t count;    // of numbers, of many rows
  int64_t most_pieces;
  int rank, gpus, dim;
  float eps;
  bool may_start_next;
};

__device__ void send(uint4* to, uint4 packet) {
  asm volatile("st.volatile.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(packet.x), "r"(packet.y),
               "r"(packet.z), "r"(packet.w)
               : "memory");
}
__device__ uint4 look(const uint4* at) {
  uint4 packet;
  asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(packet.x), "=r"(packet.y), "=r"(packet.z), "=r"(packet.w)
               : "l"(at)
               : "memory");
  return packet;
}
__device__ void raise(uint32_t* flag, uint32_t call) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(call) : "memory");
}
__device__ uint32_t read_flag(const uint32_t* flag) {
  uint32_t call;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(call) : "l"(flag) : "memory");
  return call;
}

// A block for each row; a thread has kPairs pairs of numbers.
template <int kPairs>
__global__ __launch_bounds__(kRowThreads) void few_rows_kernel(const __grid_constant__ Sum a) {
  __shared__ float sums[kRowThreads / 32];
  const int row = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x), pairs = a.dim / 2;
  const int64_t at_row = int64_t{row} * pairs;
  wait_for_previous();
  if (a.may_start_next) start_next();
  const uint32_t call = a.calls[row] + 1;
  const int64_t buffer = int64_t{call % 2} * a.gpus;
  const auto place = [&](int from) { return (buffer + from) * kStreamRows * pairs + at_row; };
  float2* const partial = reinterpret_cast<float2*>(a.partial) + at_row;
  float2* const x = reinterpret_cast<float2*>(a.x) + at_row;

  float2 own[kPairs], sum[kPairs];
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    const int i = p * kRowThreads + thread;
    if (i < pairs) own[p] = partial[i];
  }
  for (int to = 0; to < a.gpus; ++to) {
    if (to == a.rank) continue;
    uint4* const mail = a.mail[to].few + place(a.rank);
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      const int i = p * kRowThreads + thread;
      if (i < pairs) send(mail + i, make_uint4(__float_as_uint(own[p].x), call, __float_as_uint(own[p].y), call));
    }
  }
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    const int i = p * kRowThreads + thread;
    if (i < pairs) partial[i] = make_float2(0, 0);
  }
  for (int from = 0; from < a.gpus; ++from) {
    const uint4* const mail = a.mail[a.rank].few + place(from);
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      const int i = p * kRowThreads + thread;
      if (i >= pairs) continue;
      float2 theirs = own[p];
      if (from != a.rank) {
        uint4 packet = look(mail + i);
        while (packet.y != call || packet.w != call) packet = look(mail + i);
        theirs = make_float2(__uint_as_float(packet.x), __uint_as_float(packet.z));
      }
      sum[p] = from == 0 ? theirs : make_float2(sum[p].x + theirs.x, sum[p].y + theirs.y);
    }
  }
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    const int i = p * kRowThreads + thread;
    if (i >= pairs) continue;
    const float2 before = x[i];
    sum[p] = make_float2(before.x + sum[p].x, before.y + sum[p].y);
    x[i] = sum[p];
    squares += sum[p].x * sum[p].x + sum[p].y * sum[p].y;
  }
  for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(kAll, squares, step);
  if (thread % 32 == 0) sums[thread / 32] = squares;
  __syncthreads();  // and all have read `calls`
  if (thread == 0) a.calls[row] = call;
  if (a.w == nullptr) return;
  float total = 0;
  for (int i = 0; i < kRowThreads / 32; ++i) total += sums[i];
  const float scale = rsqrtf(total / static_cast<float>(a.dim) + a.eps);
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    const int i = p * kRowThreads + thread;
    if (i >= pairs) continue;
    const float2 w = reinterpret_cast<const float2*>(a.w)[i];
    reinterpret_cast<__nv_bfloat162*>(a.h)[at_row + i] =
        __floats2bfloat162_rn(sum[p].x * scale * w.x, sum[p].y * scale * w.y);
  }
}

__device__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ void add(float (&sum)[8], uint4 bits) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum[2 * i] += __uint_as_float(words[i] << 16);
    sum[2 * i + 1] += __uint_as_float(words[i] & 0xffff0000U);
  }
}
// Eight numbers, which are 0 afterwards, as bf16.
__device__ uint4 take8(float* at) {
  const float4 low = reinterpret_cast<float4*>(at)[0], high = reinterpret_cast<float4*>(at)[1];
  reinterpret_cast<float4*>(at)[0] = reinterpret_cast<float4*>(at)[1] = make_float4(0, 0, 0, 0);
  return make_uint4(pack(low.x, low.y), pack(low.z, low.w), pack(high.x, high.y), pack(high.z, high.w));
}
__device__ void add8(float* at, const float (&sum)[8]) {
  float4 low = reinterpret_cast<float4*>(at)[0], high = reinterpret_cast<float4*>(at)[1];
  low.x += sum[0], low.y += sum[1], low.z += sum[2], low.w += sum[3];
  high.x += sum[4], high.y += sum[5], high.z += sum[6], high.w += sum[7];
  reinterpret_cast<float4*>(at)[0] = low, reinterpret_cast<float4*>(at)[1] = high;
}

// A block takes every gridDim-th piece. A thread has two times eight numbers of it.
__global__ __launch_bounds__(kPieceThreads) void many_rows_kernel(const __grid_constant__ Sum a) {
  constexpr int kTimes = static_cast<int>(kPiece / 8 / kPieceThreads);
  const int thread = static_cast<int>(threadIdx.x);
  const auto pieces = static_cast<int>((a.count + kPiece - 1) / kPiece);
  wait_for_previous();
  for (int piece = static_cast<int>(blockIdx.x); piece < pieces; piece += static_cast<int>(gridDim.x)) {
    const uint32_t call = a.calls[piece] + 1;
    const int64_t buffer = int64_t{call % 2} * a.gpus;
    const auto place = [&](int from) { return ((buffer + from) * a.most_pieces + piece) * kPiece; };
    uint4 own[kTimes];
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int64_t i = piece * kPiece + (t * kPieceThreads + thread) * 8;
      if (i >= a.count) continue;
      own[t] = take8(a.partial + i);
      for (int to = 0; to < a.gpus; ++to) {
        if (to != a.rank)
          reinterpret_cast<uint4*>(a.mail[to].many + place(a.rank))[t * kPieceThreads + thread] = own[t];
      }
    }
    __syncthreads();
    if (thread < a.gpus && thread != a.rank) {
      __threadfence_system();
      raise(a.mail[thread].flags + a.rank * a.most_pieces + piece, call);
      const uint32_t* const flag = a.mail[a.rank].flags + thread * a.most_pieces + piece;
      while (static_cast<int32_t>(read_flag(flag) - call) < 0) {
      }
    }
    __syncthreads();
    if (thread == 0) a.calls[piece] = call;
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int64_t i = piece * kPiece + (t * kPieceThreads + thread) * 8;
      if (i >= a.count) continue;
      float sum[8] = {};
      for (int from = 0; from < a.gpus; ++from) {
        if (from == a.rank)
          add(sum, own[t]);
        else
          add(sum,
              look(reinterpret_cast<const uint4*>(a.mail[a.rank].many + place(from)) + t * kPieceThreads + thread));
      }
      add8(a.x + i, sum);
    }
  }
}

__global__ void pack_kernel(float* partial, uint4* packed, int64_t eights) {
  const int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x;
  if (i < eights) packed[i] = take8(partial + i * 8);
}
__global__ void add_packed_kernel(const uint4* packed, float* x, int64_t eights) {
  const int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x;
  if (i >= eights) return;
  float sum[8] = {};
  add(sum, packed[i]);
  add8(x + i * 8, sum);
}
__global__ void add_kernel(float* partial, float* x, int64_t eights) {
  const int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x;
  if (i >= eights) return;
  float sum[8];
  for (int j = 0; j < 8; ++j) sum[j] = partial[i * 8 + j], partial[i * 8 + j] = 0;
  add8(x + i * 8, sum);
}

bool reach_each_other(std::span<const int> gpus) {
  for (const int a : gpus) {
    for (const int b : gpus) {
      int can = a == b;
      if (!can && cudaDeviceCanAccessPeer(&can, a, b) != cudaSuccess) return false;
      if (!can) return false;
    }
  }
  return true;
}

bool has_twins(std::span<const int> gpus) {
  for (size_t i = 0; i < gpus.size(); ++i) {
    if (std::find(gpus.begin() + static_cast<std::ptrdiff_t>(i) + 1, gpus.end(), gpus[i]) != gpus.end()) return true;
  }
  return false;
}

struct Sizes {
  int64_t gpus, dim, rows_at_once, pieces;
  Sizes(int64_t n, int64_t most_rows, int64_t width)
      : gpus(n),
        dim(width),
        rows_at_once(std::min(most_rows, kRowsAtOnce)),
        pieces((rows_at_once * width + kPiece - 1) / kPiece) {}
  int64_t few_bytes() const { return 2 * gpus * kStreamRows * dim / 2 * 16; }
  int64_t many_bytes() const { return 2 * gpus * pieces * kPiece * 2; }
  int64_t flag_bytes() const { return gpus * pieces * 4; }
  int64_t call_bytes() const { return (kStreamRows + pieces) * 4; }
};

}  // namespace

struct AllReduce::Impl {
  std::vector<int> gpus;
  Sizes sizes;
  bool use_peers, use_nccl_for_many, has_twins;
  Nccl nccl = {};
  struct PerGpu {
    Buffer few, many, flags, calls, packed;
  };
  std::vector<PerGpu> own = {};

  Sum sum_of(size_t rank, const Share& share, float eps) const {
    Sum sum{};
    sum.partial = share.partial, sum.x = share.x, sum.w = share.w, sum.h = share.h;
    for (size_t g = 0; g < gpus.size(); ++g) {
      const PerGpu& at = own[g];
      sum.mail[g] = {const_cast<uint4*>(at.few.as<uint4>()), const_cast<uint16_t*>(at.many.as<uint16_t>()),
                     const_cast<uint32_t*>(at.flags.as<uint32_t>())};
    }
    sum.calls = const_cast<uint32_t*>(own[rank].calls.as<uint32_t>());
    sum.most_pieces = sizes.pieces;
    sum.rank = static_cast<int>(rank), sum.gpus = static_cast<int>(gpus.size()), sum.dim = static_cast<int>(sizes.dim);
    sum.eps = eps;
    // Of two on one GPU the next kernel's blocks would wait where the other's have to run.
    sum.may_start_next = !has_twins;
    return sum;
  }

  void few_rows(std::span<const Share> shares, int64_t rows, float eps) const {
    const int64_t pairs = (sizes.dim / 2 + kRowThreads - 1) / kRowThreads;
    auto* const kernel = pairs <= 1   ? few_rows_kernel<1>
                         : pairs <= 2 ? few_rows_kernel<2>
                         : pairs <= 3 ? few_rows_kernel<3>
                                      : few_rows_kernel<8>;
    for (size_t g = 0; g < gpus.size(); ++g) {
      const cuda::GpuScope on(gpus[g]);
      launch_dependent(kernel, dim3(static_cast<unsigned>(rows)), dim3(kRowThreads), 0, shares[g].stream,
                       sum_of(g, shares[g], eps));
    }
  }

  void many_rows(std::span<const Share> shares, int64_t rows, float eps) const {
    for (int64_t first = 0; first < rows; first += sizes.rows_at_once) {
      for (size_t g = 0; g < gpus.size(); ++g) {
        const cuda::GpuScope on(gpus[g]);
        Sum sum = sum_of(g, shares[g], eps);
        sum.partial += first * sizes.dim, sum.x += first * sizes.dim, sum.calls += kStreamRows;
        sum.count = std::min(sizes.rows_at_once, rows - first) * sizes.dim;
        const int64_t pieces = (sum.count + kPiece - 1) / kPiece;
        // Twins wait for each other on the same multiprocessors, and must leave some of them free.
        const int64_t most = has_twins ? 32 : 8 * cuda::multiprocessors();
        launch_dependent(many_rows_kernel, dim3(static_cast<unsigned>(std::min(pieces, most))), dim3(kPieceThreads), 0,
                         shares[g].stream, sum);
      }
    }
  }

  void through_nccl(std::span<const Share> shares, int64_t rows) {
    const int64_t eights = rows * sizes.dim / 8;
    const auto blocks = static_cast<unsigned>((eights + 255) / 256);
    const bool packs = rows > kStreamRows;
    std::array<void*, kMostGpus> data;
    std::array<CUstream_st*, kMostGpus> streams;
    for (size_t g = 0; g < gpus.size(); ++g) {
      const cuda::GpuScope on(gpus[g]);
      data[g] = packs ? own[g].packed.as<void>() : shares[g].partial;
      streams[g] = shares[g].stream;
      if (packs) pack_kernel<<<blocks, 256, 0, streams[g]>>>(shares[g].partial, own[g].packed.as<uint4>(), eights);
      cuda::check_launch("all_reduce");
    }
    nccl.queue_all_reduce(std::span(data).first(gpus.size()), rows * sizes.dim,
                          packs ? Nccl::Type::bf16 : Nccl::Type::f32, std::span(streams).first(gpus.size()));
    for (size_t g = 0; g < gpus.size(); ++g) {
      const cuda::GpuScope on(gpus[g]);
      if (packs)
        add_packed_kernel<<<blocks, 256, 0, streams[g]>>>(own[g].packed.as<uint4>(), shares[g].x, eights);
      else
        add_kernel<<<blocks, 256, 0, streams[g]>>>(shares[g].partial, shares[g].x, eights);
      cuda::check_launch("all_reduce");
    }
  }
};

std::optional<std::string> AllReduce::obstacle(std::span<const int> gpus) {
  if (std::ssize(gpus) > kMostGpus)
    return "want at most " + std::to_string(kMostGpus) + " GPUs, found " + std::to_string(gpus.size());
  if (gpus.size() <= 1 || has_twins(gpus)) return std::nullopt;
  if (gpus.size() == 2 && reach_each_other(gpus)) return std::nullopt;
  return Nccl::obstacle();
}

AllReduce::AllReduce(std::span<const int> gpus, int64_t most_rows, int64_t dim, Way way) {
  require(dim % 8 == 0 && dim >= 8 && dim <= kMostReducedDim, "all_reduce: want rows of a multiple of 8 and at most ",
          kMostReducedDim, ", found ", dim);
  if (const auto missing = obstacle(gpus)) throw std::runtime_error(*missing);
  const bool twins = has_twins(gpus), reach = reach_each_other(gpus);
  impl_.reset(
      new Impl{.gpus = {gpus.begin(), gpus.end()},
               .sizes = Sizes(std::ssize(gpus), most_rows, dim),
               .use_peers = way != Way::nccl && reach,
               .use_nccl_for_many = way != Way::peers && !twins && (gpus.size() > 2 || !reach || way == Way::nccl),
               .has_twins = twins});
  Impl& i = *impl_;
  if (!i.use_peers || i.use_nccl_for_many) i.nccl = Nccl(gpus);
  for (const int gpu : gpus) {
    const cuda::GpuScope on(gpu);
    const auto zeroed = [](int64_t bytes) {
      Buffer buffer(bytes, Device::cuda);
      cuda::check(cudaMemset(buffer.as<void>(), 0, static_cast<size_t>(bytes)), "cudaMemset");
      return buffer;
    };
    Impl::PerGpu& own = i.own.emplace_back();
    if (i.use_peers) {
      own.few = zeroed(i.sizes.few_bytes());
      own.calls = zeroed(i.sizes.call_bytes());
      own.flags = zeroed(i.sizes.flag_bytes());
      own.many = Buffer(i.sizes.many_bytes(), Device::cuda);
    }
    if (i.use_nccl_for_many) own.packed = Buffer(most_rows * dim * 2, Device::cuda);
    cuda::check(cudaDeviceSynchronize(), "cudaMemset");
    for (const int peer : gpus) {
      if (peer == gpu || !i.use_peers) continue;
      const cudaError_t enabled = cudaDeviceEnablePeerAccess(peer, 0);
      if (enabled == cudaErrorPeerAccessAlreadyEnabled)
        cudaGetLastError();  // by another group of this process
      else
        cuda::check(enabled, "cudaDeviceEnablePeerAccess");
    }
  }
}

AllReduce::~AllReduce() = default;

void AllReduce::queue(std::span<const Share> shares, int64_t rows, float eps) {
  Impl& i = *impl_;
  require(shares.size() == i.gpus.size(), "all_reduce: want a share of each of ", i.gpus.size(), " GPUs, found ",
          shares.size());
  if (rows == 0) return;
  const bool are_few = rows <= kStreamRows;
  if (i.use_peers && are_few) return i.few_rows(shares, rows, eps);
  if (i.use_nccl_for_many || !i.use_peers)
    i.through_nccl(shares, rows);
  else
    i.many_rows(shares, rows, eps);
  for (size_t g = 0; g < i.gpus.size(); ++g) {
    const Share& s = shares[g];
    const cuda::GpuScope on(i.gpus[g]);
    if (s.w != nullptr) cuda::rms_norm_rows({s.x, s.w, s.h, rows, i.sizes.dim, eps}, s.stream);
  }
}

int64_t AllReduce::bytes(int64_t gpus, int64_t most_rows, int64_t dim) {
  if (gpus == 1) return 0;
  const Sizes s(gpus, most_rows, dim);
  return s.few_bytes() + s.many_bytes() + s.flag_bytes() + s.call_bytes() + most_rows * dim * 2;
}

}  // namespace corvid::kernels
