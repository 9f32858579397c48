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

constexpr int64_t kRowsAtOnce = 2048;  // of many: what the buffers hold
constexpr int kMostLooks = 1 << 27;    // for what a peer sends: more than a minute
constexpr unsigned kAll = 0xffffffffU;

// Few rows are sent in float32, many in bf16: 16 bytes at a time.
struct Few {
  static constexpr int kThreads = 512, kNumbers = 4;
  static constexpr uint32_t kNothing = 0x80000000U;  // -0
  static __device__ uint4 packed(const float (&v)[kNumbers]) {
    return make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3]));
  }
  static __device__ void add(float (&sum)[kNumbers], uint4 bits) {
    sum[0] += __uint_as_float(bits.x), sum[1] += __uint_as_float(bits.y);
    sum[2] += __uint_as_float(bits.z), sum[3] += __uint_as_float(bits.w);
  }
};
__device__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
struct Many {
  static constexpr int kThreads = 256, kNumbers = 8;
  static constexpr uint32_t kNothing = 0x80008000U;  // -0 twice
  static __device__ uint4 packed(const float (&v)[kNumbers]) {
    return make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
  }
  static __device__ void add(float (&sum)[kNumbers], uint4 bits) {
    const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum[2 * i] += __uint_as_float(words[i] << 16);
      sum[2 * i + 1] += __uint_as_float(words[i] & 0xffff0000U);
    }
  }
};

struct Sum {
  float* partial;
  float* x;
  const float* w;
  uint16_t* h;
  uint4* mail[kMostGpus];  // of each GPU: [2][gpus][most_rows][dim / kNumbers], what its peers sent
  uint32_t* calls;         // [most_rows]: how many there have been of this row
  int64_t most_rows;
  int rows, rank, gpus, dim;
  float eps;
  bool may_start_next;
};

__device__ void send(uint4* to, uint4 bits) {
  asm volatile("st.volatile.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z),
               "r"(bits.w)
               : "memory");
}
__device__ uint4 look(const uint4* at) {
  uint4 bits;
  asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "l"(at)
               : "memory");
  return bits;
}
// Every word is looked at, as nothing says that the four arrive together.
template <uint32_t kNothing>
__device__ bool is_there(uint4 bits) {
  return bits.x != kNothing && bits.y != kNothing && bits.z != kNothing && bits.w != kNothing;
}
template <uint32_t kNothing>
__device__ uint4 without_nothing(uint4 bits) {
  const auto real = [](uint32_t word) { return word == kNothing ? 0 : word; };
  return make_uint4(real(bits.x), real(bits.y), real(bits.z), real(bits.w));
}
template <int kNumbers>
__device__ void load(float (&v)[kNumbers], const float* from) {
#pragma unroll
  for (int i = 0; i < kNumbers; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(from + i);
    v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
  }
}
template <int kNumbers>
__device__ void store(float* to, const float (&v)[kNumbers]) {
#pragma unroll
  for (int i = 0; i < kNumbers; i += 4)
    *reinterpret_cast<float4*>(to + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
}

// A block takes every gridDim-th row; a thread has kTimes pieces of it.
template <class Wire, int kTimes>
__global__ __launch_bounds__(Wire::kThreads, Wire::kNumbers == 8 && kTimes <= 3
                                                 ? 3
                                                 : 1) void rows_kernel(const __grid_constant__ Sum a) {
  constexpr int kThreads = Wire::kThreads, kNumbers = Wire::kNumbers;
  constexpr uint32_t kNothing = Wire::kNothing;
  __shared__ float sums[kThreads / 32];
  const int thread = static_cast<int>(threadIdx.x), pieces = a.dim / kNumbers;
  wait_for_previous();
  if (a.may_start_next) start_next();
  for (int row = static_cast<int>(blockIdx.x); row < a.rows; row += static_cast<int>(gridDim.x)) {
    const uint32_t call = a.calls[row] + 1;
    const auto mail = [&](int to, int from) {
      return a.mail[to] + ((int64_t{call % 2} * a.gpus + from) * a.most_rows + row) * pieces;
    };
    float* const partial = a.partial + int64_t{row} * a.dim;
    float* const x = a.x + int64_t{row} * a.dim;
    uint4 own[kTimes];
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int i = t * kThreads + thread;
      if (i >= pieces) continue;
      float v[kNumbers];
      load(v, partial + i * kNumbers);
      own[t] = without_nothing<kNothing>(Wire::packed(v));
    }
    for (int to = 0; to < a.gpus; ++to) {
#pragma unroll
      for (int t = 0; t < kTimes; ++t) {
        const int i = t * kThreads + thread;
        if (i < pieces && to != a.rank) send(mail(to, a.rank) + i, own[t]);
      }
    }
    float sum[kTimes][kNumbers], before[kTimes][kNumbers];
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int i = t * kThreads + thread;
      if (i >= pieces) continue;
      load(before[t], x + i * kNumbers);
#pragma unroll
      for (int n = 0; n < kNumbers; ++n) sum[t][n] = 0;
      store(partial + i * kNumbers, sum[t]);
    }
    for (int from = 0; from < a.gpus; ++from) {
#pragma unroll
      for (int t = 0; t < kTimes; ++t) {
        const int i = t * kThreads + thread;
        if (i >= pieces) continue;
        uint4 theirs = own[t];
        if (from != a.rank) {
          uint4* const at = mail(a.rank, from) + i;
          int looks = 0;
          do theirs = look(at);
          while (!is_there<kNothing>(theirs) && ++looks < kMostLooks);
          if (looks == kMostLooks) __trap();  // a peer has failed: an error on this GPU too, not a wait for good
          *at = make_uint4(kNothing, kNothing, kNothing, kNothing);
        }
        Wire::add(sum[t], theirs);
      }
    }
    float squares = 0;
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int i = t * kThreads + thread;
      if (i >= pieces) continue;
#pragma unroll
      for (int n = 0; n < kNumbers; ++n) {
        sum[t][n] += before[t][n];
        squares += sum[t][n] * sum[t][n];
      }
      store(x + i * kNumbers, sum[t]);
    }
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(kAll, squares, step);
    if (thread % 32 == 0) sums[thread / 32] = squares;
    __syncthreads();  // and all have read `calls`
    if (thread == 0) a.calls[row] = call;
    float total = 0;
    for (int i = 0; i < kThreads / 32; ++i) total += sums[i];
    const float scale = rsqrtf(total / static_cast<float>(a.dim) + a.eps);
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int i = t * kThreads + thread;
      if (i >= pieces || a.w == nullptr) continue;
      float w[kNumbers];
      load(w, a.w + i * kNumbers);
      auto* const h = reinterpret_cast<uint32_t*>(a.h + int64_t{row} * a.dim + i * kNumbers);
#pragma unroll
      for (int n = 0; n < kNumbers; n += 2) h[n / 2] = pack(sum[t][n] * scale * w[n], sum[t][n + 1] * scale * w[n + 1]);
    }
    __syncthreads();  // before the next row's sums
  }
}

template <class Wire>
auto rows_kernel_for(int64_t dim) {
  const int64_t times = (dim / Wire::kNumbers + Wire::kThreads - 1) / Wire::kThreads;
  return times <= 1   ? rows_kernel<Wire, 1>
         : times <= 2 ? rows_kernel<Wire, 2>
         : times <= 3 ? rows_kernel<Wire, 3>
         : times <= 4 ? rows_kernel<Wire, 4>
                      : rows_kernel<Wire, 8>;
}

__global__ void fill_kernel(uint32_t* words, uint32_t value, int64_t count) {
  for (int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x; i < count; i += int64_t{gridDim.x} * blockDim.x)
    words[i] = value;
}

// Eight numbers, which are 0 afterwards, as bf16.
__device__ uint4 take8(float* at) {
  float v[8];
  load(v, at);
  const uint4 bits = Many::packed(v);
  for (float& value : v) value = 0;
  store(at, v);
  return bits;
}
__device__ void add8(float* at, const float (&sum)[8]) {
  float v[8];
  load(v, at);
  for (int i = 0; i < 8; ++i) v[i] += sum[i];
  store(at, v);
}

__global__ void pack_kernel(float* partial, uint4* packed, int64_t eights) {
  const int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x;
  if (i < eights) packed[i] = take8(partial + i * 8);
}
__global__ void add_packed_kernel(const uint4* packed, float* x, int64_t eights) {
  const int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x;
  if (i >= eights) return;
  float sum[8] = {};
  Many::add(sum, packed[i]);
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
  int64_t gpus, dim, many_rows;
  Sizes(int64_t n, int64_t most_rows, int64_t width)
      : gpus(n), dim(width), many_rows(std::min(most_rows, kRowsAtOnce)) {}
  int64_t few_bytes() const { return 2 * gpus * kStreamRows * dim * 4; }
  int64_t many_bytes() const { return 2 * gpus * many_rows * dim * 2; }
  int64_t call_bytes() const { return (kStreamRows + many_rows) * 4; }
};

}  // namespace

struct AllReduce::Impl {
  std::vector<int> gpus;
  Sizes sizes;
  bool use_peers, use_nccl_for_many, has_twins;
  Nccl nccl = {};
  struct PerGpu {
    Buffer few, many, calls, packed;
  };
  std::vector<PerGpu> own = {};

  // Rows [first, first + rows), which the buffers hold at once.
  template <class Wire>
  void queue_rows(std::span<const Share> shares, int64_t first, int64_t rows, float eps) {
    constexpr bool kFew = Wire::kNumbers == 4;
    for (size_t g = 0; g < gpus.size(); ++g) {
      const Share& share = shares[g];
      Sum sum{};
      sum.partial = share.partial + first * sizes.dim, sum.x = share.x + first * sizes.dim;
      sum.w = share.w, sum.h = share.h + first * sizes.dim;
      for (size_t to = 0; to < gpus.size(); ++to) sum.mail[to] = (kFew ? own[to].few : own[to].many).as<uint4>();
      sum.calls = own[g].calls.as<uint32_t>() + (kFew ? 0 : kStreamRows);
      sum.most_rows = kFew ? kStreamRows : sizes.many_rows;
      sum.rows = static_cast<int>(rows), sum.rank = static_cast<int>(g), sum.gpus = static_cast<int>(gpus.size());
      sum.dim = static_cast<int>(sizes.dim);
      sum.eps = eps;
      // Of two on one GPU the next kernel's blocks would wait where the other's have to run; and some multiprocessors
      // must be free.
      sum.may_start_next = !has_twins;
      const cuda::GpuScope on(gpus[g]);
      const int64_t most = has_twins ? 32 : kFew ? rows : 8 * cuda::multiprocessors();
      launch_dependent(rows_kernel_for<Wire>(sizes.dim), dim3(static_cast<unsigned>(std::min(rows, most))),
                       dim3(Wire::kThreads), 0, share.stream, sum);
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
    const auto filled = [](int64_t bytes, uint32_t word) {
      Buffer buffer(bytes, Device::cuda);
      fill_kernel<<<1024, 256>>>(buffer.as<uint32_t>(), word, bytes / 4);
      cuda::check_launch("all_reduce");
      return buffer;
    };
    Impl::PerGpu& own = i.own.emplace_back();
    if (i.use_peers) {
      own.few = filled(i.sizes.few_bytes(), Few::kNothing);
      own.calls = filled(i.sizes.call_bytes(), 0);
      own.many = filled(i.sizes.many_bytes(), Many::kNothing);
    }
    if (i.use_nccl_for_many) own.packed = Buffer(most_rows * dim * 2, Device::cuda);
    cuda::check(cudaDeviceSynchronize(), "all_reduce");
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
  if (i.use_peers && are_few) return i.queue_rows<Few>(shares, 0, rows, eps);
  if (i.use_peers && !i.use_nccl_for_many) {
    for (int64_t first = 0; first < rows; first += i.sizes.many_rows)
      i.queue_rows<Many>(shares, first, std::min(i.sizes.many_rows, rows - first), eps);
    return;
  }
  i.through_nccl(shares, rows);
  for (size_t g = 0; g < i.gpus.size(); ++g) {
    const Share& s = shares[g];
    const cuda::GpuScope on(i.gpus[g]);
    if (s.w != nullptr) cuda::rms_norm_rows({s.x, s.w, s.h, rows, i.sizes.dim, eps}, s.stream);
  }
}

int64_t AllReduce::bytes(int64_t gpus, int64_t most_rows, int64_t dim) {
  if (gpus == 1) return 0;
  const Sizes s(gpus, most_rows, dim);
  return s.few_bytes() + s.many_bytes() + s.call_bytes() + most_rows * dim * 2;
}

}  // namespace corvid::kernels
