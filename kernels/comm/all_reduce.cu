#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "kernels/check.h"
#include "kernels/comm/all_reduce.h"
#include "kernels/comm/many_rows.h"
#include "kernels/comm/nccl.h"
#include "kernels/comm/numbers.cuh"
#include "kernels/cuda_check.h"
#include "kernels/exec.h"
#include "kernels/gpu.h"
#include "kernels/launch.cuh"
#include "kernels/products/dependent.cuh"
#include "kernels/products/products.h"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace corvid::kernels {
namespace {

// Few rows are sent in float32, 16 bytes at a time.
constexpr int kThreads = 512, kNumbers = 4;
constexpr uint32_t kNothing = 0x80000000U;  // -0

struct Sum {
  float* partial;
  float* x;
  const float* w;
  uint16_t* h;
  uint4* mail[kMostGpus];  // of each GPU: [2][gpus][few][dim / kNumbers], what its peers sent
  int64_t few;
  uint32_t* calls;  // [few]: how many there have been of this row
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
__device__ bool is_there(uint4 bits) {
  return bits.x != kNothing && bits.y != kNothing && bits.z != kNothing && bits.w != kNothing;
}
__device__ uint4 without_nothing(uint4 bits) {
  const auto real = [](uint32_t word) { return word == kNothing ? 0 : word; };
  return make_uint4(real(bits.x), real(bits.y), real(bits.z), real(bits.w));
}

// A block takes every gridDim-th row; a thread has kTimes pieces of it.
template <int kTimes>
__global__ __launch_bounds__(kThreads, 1) void few_rows_kernel(const __grid_constant__ Sum a) {
  __shared__ float sums[kThreads / 32];
  const int thread = static_cast<int>(threadIdx.x), pieces = a.dim / kNumbers;
  float w[kTimes][kNumbers];  // from far: asked for before the wait
#pragma unroll
  for (int t = 0; t < kTimes; ++t) {
    const int i = t * kThreads + thread;
    if (i < pieces && a.w != nullptr) load(w[t], a.w + i * kNumbers);
  }
  wait_for_previous();
  if (a.may_start_next) start_next();
  for (int row = static_cast<int>(blockIdx.x); row < a.rows; row += static_cast<int>(gridDim.x)) {
    const uint32_t call = a.calls[row] + 1;
    const auto mail = [&](int to, int from) {
      return a.mail[to] + ((int64_t{call % 2} * a.gpus + from) * a.few + row) * pieces;
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
      own[t] = without_nothing(
          make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3])));
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
      uint4 theirs[kTimes];
      if (from == a.rank) {
#pragma unroll
        for (int t = 0; t < kTimes; ++t) theirs[t] = own[t];
      } else {
        uint4* const at = mail(a.rank, from) + thread;
        int looks = 0;
        for (bool are_there = false; !are_there;) {  // all pieces on their way together
#pragma unroll
          for (int t = 0; t < kTimes; ++t)
            if (t * kThreads + thread < pieces) theirs[t] = look(at + t * kThreads);
          are_there = true;
#pragma unroll
          for (int t = 0; t < kTimes; ++t)
            if (t * kThreads + thread < pieces) are_there = are_there && is_there(theirs[t]);
          if (++looks == kMostLooks) __trap();  // a peer has failed: an error on this GPU too, not a wait for good
        }
#pragma unroll
        for (int t = 0; t < kTimes; ++t)
          if (t * kThreads + thread < pieces) at[t * kThreads] = make_uint4(kNothing, kNothing, kNothing, kNothing);
      }
#pragma unroll
      for (int t = 0; t < kTimes; ++t) {
        if (t * kThreads + thread >= pieces) continue;
        sum[t][0] += __uint_as_float(theirs[t].x), sum[t][1] += __uint_as_float(theirs[t].y);
        sum[t][2] += __uint_as_float(theirs[t].z), sum[t][3] += __uint_as_float(theirs[t].w);
      }
    }
    const float squares = add_to_row<kThreads>(sum, before, pieces, x);
    const float total = block_sum<kThreads>(squares, sums);
    if (thread == 0) a.calls[row] = call;  // all have read it
    const float scale = rsqrtf(total / static_cast<float>(a.dim) + a.eps);
#pragma unroll
    for (int t = 0; t < kTimes; ++t) {
      const int i = t * kThreads + thread;
      if (i >= pieces || a.w == nullptr) continue;
      auto* const h = reinterpret_cast<uint32_t*>(a.h + int64_t{row} * a.dim + i * kNumbers);
#pragma unroll
      for (int n = 0; n < kNumbers; n += 2)
        h[n / 2] = pack(sum[t][n] * scale * w[t][n], sum[t][n + 1] * scale * w[t][n + 1]);
    }
    __syncthreads();  // before the next row's sums
  }
}

__global__ void fill_kernel(uint32_t* words, uint32_t value, int64_t count) {
  for (int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x; i < count; i += int64_t{gridDim.x} * blockDim.x)
    words[i] = value;
}

__global__ void add_packed_kernel(const uint4* packed, float* x, int64_t eights) {
  const int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x;
  if (i >= eights) return;
  float sum[8] = {}, v[8];
  add8(sum, packed[i]);
  load(v, x + i * 8);
  for (int j = 0; j < 8; ++j) v[j] += sum[j];
  store(x + i * 8, v);
}
__global__ void add_kernel(float* partial, float* x, int64_t fours) {
  const int64_t i = threadIdx.x + int64_t{blockIdx.x} * blockDim.x;
  if (i >= fours) return;
  float sum[4], v[4];
  load(sum, partial + i * 4);
  load(v, x + i * 4);
  for (int j = 0; j < 4; ++j) v[j] += sum[j], sum[j] = 0;
  store(x + i * 4, v);
  store(partial + i * 4, sum);
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

bool take_peers_way(std::span<const int> gpus, AllReduce::Way way) {
  if (way == AllReduce::Way::nccl || !reach_each_other(gpus)) return false;
  const char* const sums = std::getenv("CORVID_SUMS");
  return way == AllReduce::Way::peers || has_twins(gpus) || sums == nullptr || std::string_view(sums) != "nccl";
}

int64_t few_bytes(int64_t gpus, int64_t few, int64_t dim) { return 2 * gpus * few * dim * 4; }
int64_t dealt_rows(int64_t gpus, int64_t most_rows) { return Deal{static_cast<int>(gpus)}.count(most_rows, 0); }

}  // namespace

struct AllReduce::Impl {
  std::vector<int> gpus;
  int64_t most_rows, dim, few;
  bool use_peers, has_twins;
  Nccl nccl = {};
  struct PerGpu {
    Buffer few, calls;   // of few rows
    Buffer mail, flags;  // of many
    Buffer packed;       // of many through NCCL
  };
  std::vector<PerGpu> own = {};
  int n() const { return static_cast<int>(gpus.size()); }

  // Of two on one GPU the next kernel's blocks would wait where the other's have to run; and some multiprocessors must
  // be free.
  int most_blocks(int each) const { return has_twins ? 32 : each * cuda::multiprocessors(); }

  void few_rows(std::span<const Share> shares, int64_t rows, float eps) {
    for (size_t g = 0; g < gpus.size(); ++g) {
      const Share& share = shares[g];
      Sum sum{};
      sum.partial = share.partial, sum.x = share.x, sum.w = share.w, sum.h = share.h;
      for (size_t to = 0; to < gpus.size(); ++to) sum.mail[to] = own[to].few.as<uint4>();
      sum.few = few;
      sum.calls = own[g].calls.as<uint32_t>();
      sum.rows = static_cast<int>(rows), sum.rank = static_cast<int>(g), sum.gpus = n();
      sum.dim = static_cast<int>(dim);
      sum.eps = eps;
      sum.may_start_next = !has_twins;
      const cuda::GpuScope on(gpus[g]);
      const int64_t times = (dim / kNumbers + kThreads - 1) / kThreads;
      auto* const kernel = times <= 1   ? few_rows_kernel<1>
                           : times <= 2 ? few_rows_kernel<2>
                           : times <= 3 ? few_rows_kernel<3>
                           : times <= 4 ? few_rows_kernel<4>
                                        : few_rows_kernel<8>;
      launch_dependent(kernel, dim3(static_cast<unsigned>(std::min<int64_t>(rows, most_blocks(8)))), dim3(kThreads), 0,
                       share.stream, sum);
    }
  }

  void many_rows(std::span<const Share> shares, int64_t rows, float eps) {
    for (size_t g = 0; g < gpus.size(); ++g) {
      const Share& share = shares[g];
      ManyRows sum{};
      sum.mail = own[g].mail.as<uint16_t>();
      sum.most_rows = dealt_rows(n(), most_rows);
      sum.x = share.x, sum.w = share.w;
      for (size_t to = 0; to < gpus.size(); ++to)
        sum.h[to] = shares[to].h, sum.flags[to] = own[to].flags.as<ManyRowsFlags>();
      sum.rank = static_cast<int>(g), sum.gpus = n(), sum.dim = static_cast<int>(dim);
      sum.rows = static_cast<int>(Deal{sum.gpus}.count(rows, sum.rank));
      sum.eps = eps;
      sum.may_start_next = !has_twins;
      const cuda::GpuScope on(gpus[g]);
      cuda::sum_many_rows(sum, most_blocks(3), share.stream);
    }
  }

  void through_nccl(std::span<const Share> shares, int64_t rows, float eps) {
    const bool are_packed = rows > few;
    const int64_t pieces = rows * dim / (are_packed ? 8 : 4);
    const auto blocks = static_cast<unsigned>((pieces + 255) / 256);
    std::array<void*, kMostGpus> data;
    std::array<CUstream_st*, kMostGpus> streams;
    for (size_t g = 0; g < gpus.size(); ++g) {
      data[g] = are_packed ? own[g].packed.as<void>() : shares[g].partial;
      streams[g] = shares[g].stream;
    }
    nccl.queue_all_reduce(std::span(data).first(gpus.size()), rows * dim,
                          are_packed ? Nccl::Type::bf16 : Nccl::Type::f32, std::span(streams).first(gpus.size()));
    for (size_t g = 0; g < gpus.size(); ++g) {
      const Share& s = shares[g];
      const cuda::GpuScope on(gpus[g]);
      if (are_packed)
        add_packed_kernel<<<blocks, 256, 0, streams[g]>>>(own[g].packed.as<uint4>(), s.x, pieces);
      else
        add_kernel<<<blocks, 256, 0, streams[g]>>>(s.partial, s.x, pieces);
      cuda::check_launch("all_reduce");
      if (s.w != nullptr) cuda::rms_norm_rows({s.x, s.w, s.h, rows, dim, eps}, s.stream);
    }
  }
};

std::optional<std::string> AllReduce::obstacle(std::span<const int> gpus) {
  if (std::ssize(gpus) > kMostGpus)
    return "want at most " + std::to_string(kMostGpus) + " GPUs, found " + std::to_string(gpus.size());
  if (gpus.size() <= 1 || take_peers_way(gpus, Way::automatic)) return std::nullopt;
  return Nccl::obstacle();
}

AllReduce::AllReduce(std::span<const int> gpus, int64_t most_rows, int64_t dim, Way way, int64_t few) {
  require(dim % 8 == 0 && dim >= 8 && dim <= kMostReducedDim, "all_reduce: want rows of a multiple of 8 and at most ",
          kMostReducedDim, ", found ", dim);
  if (const auto missing = obstacle(gpus)) throw std::runtime_error(*missing);
  impl_.reset(new Impl{.gpus = {gpus.begin(), gpus.end()},
                       .most_rows = most_rows,
                       .dim = dim,
                       .few = few,
                       .use_peers = take_peers_way(gpus, way),
                       .has_twins = has_twins(gpus)});
  Impl& i = *impl_;
  if (!i.use_peers) i.nccl = Nccl(gpus);
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
      own.few = filled(few_bytes(i.n(), few, dim), kNothing);
      own.calls = filled(few * 4, 0);
      if (most_rows > few) own.mail = Buffer(i.n() * dealt_rows(i.n(), most_rows) * dim * 2, Device::cuda);
      own.flags = filled(sizeof(ManyRowsFlags), 0);
    } else {
      own.packed = Buffer(most_rows * dim * 2, Device::cuda);
    }
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

DealtRows<void> AllReduce::partials(int gpu) const {
  Impl& i = *impl_;
  if (!i.use_peers) return i.own[static_cast<size_t>(gpu)].packed.as<void>();
  DealtRows<void> rows;
  rows.gpus = i.n();
  const int64_t bytes = dealt_rows(i.n(), i.most_rows) * i.dim * 2;
  for (int to = 0; to < i.n(); ++to) rows.of[to] = i.own[static_cast<size_t>(to)].mail.as<std::byte>() + gpu * bytes;
  return rows;
}

bool AllReduce::are_dealt(int64_t rows) const { return impl_->use_peers && rows > impl_->few; }

void AllReduce::queue(std::span<const Share> shares, int64_t rows, float eps) {
  Impl& i = *impl_;
  require(shares.size() == i.gpus.size() && rows <= i.most_rows, "all_reduce: want a share of each of ", i.gpus.size(),
          " GPUs and at most ", i.most_rows, " rows, found ", shares.size(), ", ", rows);
  if (rows == 0) return;
  if (!i.use_peers) return i.through_nccl(shares, rows, eps);
  rows > i.few ? i.many_rows(shares, rows, eps) : i.few_rows(shares, rows, eps);
}

int64_t AllReduce::bytes(int64_t gpus, int64_t most_rows, int64_t dim) {
  return gpus == 1 ? 0 : few_bytes(gpus, kStreamRows, dim) + gpus * dealt_rows(gpus, most_rows) * dim * 2;
}

}  // namespace corvid::kernels
