// How fast products with weights are on this GPU: the matrices of MiniMax-M3 and Qwen3-30B-A3B, in several formats and
// for several numbers of rows. Times are medians of graph replays over weights (or choices of experts) that don't fit
// the cache; each case's result is compared with float64 on a sample of its outputs. Beside them: what the memory
// gives.
//
//   products_cuda [FILTER]      only cases whose line contains FILTER
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda_check.h"
#include "kernels/device_matrix/tile.h"
#include "kernels/exec.h"
#include "kernels/feed_forward/feed_forward.h"
#include "kernels/products/products.h"
#include "kernels/rms_norm/rms_norm_rows.h"
#include "kernels/route/route_rows.h"

namespace corvid::kernels {
namespace {

using cuda::check;

__host__ __device__ uint32_t hash(uint64_t i) {
  i = (i ^ i >> 31) * 0x7fb5d329728ea185ULL;
  i = (i ^ i >> 27) * 0x81dadef4bc2dd44dULL;
  return static_cast<uint32_t>((i ^ i >> 33) >> 16);
}
__device__ float uniform(uint64_t i) { return static_cast<float>(hash(i) >> 8) * 0x1p-24F; }

// Words of a matrix: random quants, scales that make weights of about `size`.
__global__ void fill_matrix(uint32_t* words, int64_t count, DeviceFormat format, float size, uint64_t seed) {
  const auto half_of = [](float v) { return static_cast<uint32_t>(__half_as_ushort(__float2half(v))); };
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x) {
    const uint64_t at = seed * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(i);
    uint32_t word = hash(at);
    const int64_t in_tile = i * 4 % tile_bytes(format);
    const float some = size * (0.5F + uniform(at + 1));
    if (format == DeviceFormat::bf16) {
      const __nv_bfloat162 pair =
          __floats2bfloat162_rn(3.4F * size * (uniform(2 * at) - 0.5F), 3.4F * size * (uniform(2 * at + 1) - 0.5F));
      word = *reinterpret_cast<const uint32_t*>(&pair);
    } else if (format == DeviceFormat::q8_0 && in_tile >= 4096) {
      word = half_of(some / 74) * 0x10001U;
    } else if (format == DeviceFormat::q4_k && in_tile < 256 && in_tile % 16 == 0) {
      word = half_of(some / 180) | half_of(some / 24) << 16;
    } else if (format == DeviceFormat::q6_k && in_tile >= 3328) {
      word = half_of(some / 1400) * 0x10001U;
    } else if (format == DeviceFormat::f8_e4m3) {
      word = in_tile >= 4096 ? __float_as_uint(some / 64) : word & 0xbfbfbfbfU;
    }
    words[i] = word;
  }
}
__global__ void fill_bf16(__nv_bfloat16* x, int64_t count, uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x)
    x[i] = __float2bfloat16(3.4F * (uniform(seed * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(i)) - 0.5F));
}
__global__ void fill_floats(float* x, int64_t count, float value) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x)
    x[i] = value;
}
__global__ void read_all(const uint4* data, int64_t count, uint32_t* out) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i + 3 * step < count; i += 4 * step) {
    uint4 v[4];
    for (int j = 0; j < 4; ++j) v[j] = __ldcs(data + i + j * step);
    for (int j = 0; j < 4; ++j) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x12345678U) *out = sum;
}

// One output in float64, from the bytes as tile.h reads them.
__device__ double exact_output(const uint16_t* x, const DeviceMatrix& w, int64_t expert, int64_t j, double& size) {
  const auto* panel = static_cast<const unsigned char*>(w.data) +
                      (expert * panels_of(w.n) + j / kPanelRows) * panel_bytes(w.format, w.k);
  double sum = 0;
  for (int64_t i = 0; i < w.k; ++i) {
    const double xi = bf16_to_f32(x[i]), wi = panel_weight(w.format, panel, padded_k(w.format, w.k), j % kPanelRows, i);
    sum += xi * wi, size += fabs(xi * wi);
  }
  return sum;
}
// error[s] = |y - exact| / sum |x w| of sample s.
__global__ void check_product(const uint16_t* x, DeviceMatrix w, const __nv_bfloat16* y, int64_t rows, float* error) {
  const uint64_t s = blockIdx.x * blockDim.x + threadIdx.x;
  const int64_t r = hash(2 * s) % rows, j = hash(2 * s + 1) % w.n;
  double size = 0;
  const double exact = exact_output(x + r * w.k, w, 0, j, size);
  error[s] = static_cast<float>(fabs(exact - double(__bfloat162float(y[r * w.n + j]))) / size);
}
__global__ void check_experts(FeedForward a, const int32_t* ids, const float* weights, float* x, int64_t samples,
                              float* error) {
  extern __shared__ double m[];
  const FeedForward::Mlp& e = a.experts;
  const int64_t r = hash(blockIdx.x) % a.rows, ffn = e.gate.n;
  for (int64_t s = threadIdx.x; s < samples; s += blockDim.x) error[blockIdx.x * samples + s] = 0;
  const bool shared = a.shared.gate.data != nullptr;
  double total = 0, size = 0;
  for (int64_t slot = 0; slot < a.top_k + (shared ? 1 : 0); ++slot) {
    const bool is_shared = slot == a.top_k;
    const int64_t id = is_shared ? 0 : ids[r * a.top_k + slot];
    const double weight = is_shared ? 1.0 : weights[r * a.top_k + slot];
    __syncthreads();
    for (int64_t f = threadIdx.x; f < ffn; f += blockDim.x) {
      double unused = 0;
      const double g = exact_output(a.h + r * e.gate.k, is_shared ? a.shared.gate : e.gate, id, f, unused);
      const double u = exact_output(a.h + r * e.gate.k, is_shared ? a.shared.up : e.up, id, f, unused);
      m[f] = bf16_to_f32(__bfloat16_as_ushort(__double2bfloat16(u * g / (1 + exp(-g)))));
    }
    __syncthreads();
    if (static_cast<int64_t>(threadIdx.x) >= samples) continue;
    const int64_t j = hash(blockIdx.x * samples + threadIdx.x + 77) % e.down.n;
    const DeviceMatrix& down = is_shared ? a.shared.down : e.down;
    const auto* panel = static_cast<const unsigned char*>(down.data) +
                        (id * panels_of(down.n) + j / kPanelRows) * panel_bytes(down.format, down.k);
    for (int64_t f = 0; f < ffn; ++f) {
      const double wi = weight * m[f] * panel_weight(down.format, panel, padded_k(down.format, ffn), j % kPanelRows, f);
      total += wi, size += fabs(wi);
    }
  }
  if (static_cast<int64_t>(threadIdx.x) >= samples) return;
  const int64_t j = hash(blockIdx.x * samples + threadIdx.x + 77) % e.down.n;
  error[blockIdx.x * samples + threadIdx.x] = static_cast<float>(fabs(total - double(x[r * e.down.n + j])) / size);
}

cudaStream_t stream;
double peak_gbs = 0;
std::string filter;

struct Times {
  double median_us, best_us, worst_us;
};

// calls[i] launches piece i of a rotation; the time of one.
Times measure(const std::vector<std::function<void()>>& calls) {
  calls[0]();
  check(cudaStreamSynchronize(stream), "first call");
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (const auto& call : calls) call();
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t start, end;
  cudaEventCreate(&start), cudaEventCreate(&end);
  std::vector<double> us;
  for (int i = 0; i < 9; ++i) {
    check(cudaEventRecord(start, stream), "record");
    check(cudaGraphLaunch(exec, stream), "launch");
    check(cudaEventRecord(end, stream), "record");
    check(cudaEventSynchronize(end), "replay");
    float ms = 0;
    cudaEventElapsedTime(&ms, start, end);
    if (i > 1) us.push_back(ms * 1000 / static_cast<double>(calls.size()));
  }
  cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
  std::sort(us.begin(), us.end());
  return {us[us.size() / 2], us.front(), us.back()};
}

void report(const std::string& name, const Times& t, double bytes, double flops, float error, float allowed) {
  const double gbs = bytes / t.median_us / 1e3;
  std::printf("%-46s %9.1f us (%.1f..%.1f) %8.1f MB %7.0f GB/s %3.0f%% %7.1f TFLOP/s  error %.1e%s\n", name.c_str(),
              t.median_us, t.best_us, t.worst_us, bytes / 1e6, gbs, 100 * gbs / peak_gbs, flops / t.median_us / 1e6,
              error, error <= allowed ? "" : "  WRONG");
  std::fflush(stdout);
}

float largest(const float* device, int64_t count) {
  std::vector<float> host(static_cast<size_t>(count));
  check(cudaMemcpy(host.data(), device, static_cast<size_t>(count) * 4, cudaMemcpyDeviceToHost), "errors");
  float most = 0;
  for (const float e : host) most = std::isfinite(e) ? std::max(most, e) : INFINITY;
  return most;
}

struct Owned {
  Buffer buffer;
  DeviceMatrix view;
  Owned(DeviceFormat format, int64_t n, int64_t k, int64_t n_experts, uint64_t seed)
      : buffer(device_bytes(format, n, k, n_experts), Device::cuda), view{buffer.as<void>(), format, n, k, n_experts} {
    fill_matrix<<<2048, 256, 0, stream>>>(buffer.as<uint32_t>(), buffer.bytes() / 4, format,
                                          1 / std::sqrt(static_cast<float>(k)), seed);
  }
};

const char* name_of(DeviceFormat f) {
  return f == DeviceFormat::bf16   ? "bf16"
         : f == DeviceFormat::q8_0 ? "q8_0"
         : f == DeviceFormat::q4_k ? "q4_k"
         : f == DeviceFormat::q6_k ? "q6_k"
                                   : "fp8";
}

void bench_products(const char* what, DeviceFormat format, int64_t k, const std::vector<int64_t>& outputs,
                    int64_t rows) {
  const std::string name = std::string(what) + " " + name_of(format) + ", rows " + std::to_string(rows);
  if (name.find(filter) == std::string::npos) return;
  int64_t bytes = 0, all = 0;
  for (const int64_t n : outputs) bytes += device_bytes(format, n, k), all += n;
  const int64_t sets = std::clamp<int64_t>(400'000'000 / bytes + 1, 2, 24);
  std::vector<std::unique_ptr<Owned>> owned;
  std::vector<std::vector<Product>> products(static_cast<size_t>(sets));
  Buffer x(rows * k * 2, Device::cuda), y(rows * all * 2, Device::cuda), errors(1024 * 4, Device::cuda);
  fill_bf16<<<1024, 256, 0, stream>>>(x.as<__nv_bfloat16>(), rows * k, 7);
  for (auto& set : products) {
    int64_t at = 0;
    for (const int64_t n : outputs) {
      owned.push_back(std::make_unique<Owned>(format, n, k, 1, owned.size() + 1));
      set.push_back({owned.back()->view, y.as<__nv_bfloat16>() + rows * at, Product::Out::bf16});
      at += n;
    }
  }
  const Buffer workspace(products_workspace_bytes(products[0], rows) + 256, Device::cuda);
  std::vector<std::function<void()>> calls;
  for (const auto& set : products)
    calls.push_back(
        [&] { cuda::products(x.as<uint16_t>(), rows, set, const_cast<void*>(workspace.as<void>()), stream); });
  const Times t = measure(calls);
  check(cudaMemsetAsync(y.as<void>(), 0xff, static_cast<size_t>(y.bytes()), stream), "poison");
  calls[0]();
  float error = 0;
  for (const Product& p : products[0]) {
    check_product<<<8, 128, 0, stream>>>(x.as<uint16_t>(), p.w, static_cast<const __nv_bfloat16*>(p.y), rows,
                                         errors.as<float>());
    check(cudaStreamSynchronize(stream), "check");
    error = std::max(error, largest(errors.as<float>(), 1024));
  }
  report(name, t, static_cast<double>(bytes + rows * (k + all) * 2),
         2.0 * static_cast<double>(rows) * static_cast<double>(k) * static_cast<double>(all), error, 0x1p-8F);
}

struct ExpertShape {
  const char* name;
  int64_t dim, ffn, n_experts, top_k;
  bool shared;
};

void bench_experts(const ExpertShape& s, DeviceFormat format, const std::vector<int64_t>& row_counts) {
  const std::string start = std::string(s.name) + " experts " + name_of(format) + ", rows ";
  if (std::none_of(row_counts.begin(), row_counts.end(),
                   [&](int64_t rows) { return (start + std::to_string(rows)).find(filter) != std::string::npos; }))
    return;
  const Owned gate(format, s.ffn, s.dim, s.n_experts, 1), up(format, s.ffn, s.dim, s.n_experts, 2),
      down(format, s.dim, s.ffn, s.n_experts, 3), shared_gate(format, s.ffn, s.dim, 1, 4),
      shared_up(format, s.ffn, s.dim, 1, 5), shared_down(format, s.dim, s.ffn, 1, 6);
  for (const int64_t rows : row_counts) {
    const std::string name = start + std::to_string(rows);
    if (name.find(filter) == std::string::npos) continue;
    const int64_t sets = rows <= 8 ? 16 : rows <= 64 ? 8 : 2;
    std::mt19937 bits(static_cast<uint32_t>(rows));
    std::vector<int32_t> ids(static_cast<size_t>(sets * rows * s.top_k));
    double active = 0;
    for (int64_t set = 0; set < sets; ++set) {
      std::vector<bool> used(static_cast<size_t>(s.n_experts));
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<int32_t> order(static_cast<size_t>(s.n_experts));
        for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
        for (int64_t i = 0; i < s.top_k; ++i)
          std::swap(order[size_t(i)], order[size_t(i + int64_t(bits() % uint32_t(s.n_experts - i)))]);
        std::sort(order.begin(), order.begin() + s.top_k);
        for (int64_t i = 0; i < s.top_k; ++i) {
          ids[size_t((set * rows + r) * s.top_k + i)] = order[size_t(i)];
          used[size_t(order[size_t(i)])] = true;
        }
      }
      active += static_cast<double>(std::count(used.begin(), used.end(), true)) / static_cast<double>(sets);
    }
    Buffer on(std::ssize(ids) * 4, Device::cuda), weights(rows * s.top_k * 4, Device::cuda),
        h(rows * s.dim * 2, Device::cuda), x(rows * s.dim * 4, Device::cuda), errors(64 * 16 * 4, Device::cuda);
    cuda::to_device(on.as<void>(), ids.data(), on.bytes(), stream);
    fill_floats<<<256, 256, 0, stream>>>(weights.as<float>(), rows * s.top_k, 0.4F);
    fill_bf16<<<1024, 256, 0, stream>>>(h.as<__nv_bfloat16>(), rows * s.dim, 9);
    check(cudaMemsetAsync(x.as<void>(), 0, static_cast<size_t>(x.bytes()), stream), "zero");
    FeedForward a{.h = h.as<uint16_t>(),
                  .experts = {gate.view, up.view, down.view},
                  .shared = {},
                  .ids = on.as<int32_t>(),
                  .weights = weights.as<float>(),
                  .x = x.as<float>(),
                  .rows = rows,
                  .top_k = s.top_k,
                  .act = {Activation::Kind::silu}};
    if (s.shared) a.shared = {shared_gate.view, shared_up.view, shared_down.view};
    Buffer workspace(feed_forward_workspace_bytes(a, rows), Device::cuda);
    std::vector<std::function<void()>> calls;
    for (int64_t set = 0; set < sets; ++set)
      calls.push_back([&, set] {
        FeedForward now = a;
        now.ids = on.as<int32_t>() + set * rows * s.top_k;
        cuda::feed_forward(now, workspace.as<void>(), stream);
      });
    const Times t = measure(calls);
    check(cudaMemsetAsync(x.as<void>(), 0, static_cast<size_t>(x.bytes()), stream), "zero");
    check(cudaMemsetAsync(workspace.as<void>(), 0xff, static_cast<size_t>(workspace.bytes()), stream), "poison");
    calls[0]();
    check_experts<<<64, 256, static_cast<size_t>(s.ffn) * 8, stream>>>(a, a.ids, a.weights, a.x, 16,
                                                                       errors.as<float>());
    check(cudaStreamSynchronize(stream), "check");
    const double matrices = active + (s.shared ? 1 : 0),
                 pairs = static_cast<double>(rows * (s.top_k + (s.shared ? 1 : 0)));
    report(name, t,
           matrices * static_cast<double>(2 * device_bytes(format, s.ffn, s.dim) + device_bytes(format, s.dim, s.ffn)) +
               static_cast<double>(rows * s.dim * 10),
           pairs * 6.0 * static_cast<double>(s.dim * s.ffn), largest(errors.as<float>(), 64 * 16), 0x1p-9F);
  }
}

void bench_small(int64_t dim, int64_t n_experts, int64_t top_k, int64_t rows) {
  const std::string name =
      "norm, router: " + std::to_string(dim) + " -> " + std::to_string(n_experts) + ", rows " + std::to_string(rows);
  if (name.find(filter) == std::string::npos) return;
  std::vector<std::unique_ptr<Owned>> routers;
  for (int i = 0; i < 24; ++i) routers.push_back(std::make_unique<Owned>(DeviceFormat::bf16, 3 * n_experts, dim, 1, i));
  Buffer x(rows * dim * 4, Device::cuda), w(dim * 4, Device::cuda), h(rows * dim * 2, Device::cuda),
      ids(rows * top_k * 4, Device::cuda), weights(rows * top_k * 4, Device::cuda),
      workspace(route_rows_workspace_bytes(rows, n_experts, dim), Device::cuda);
  fill_floats<<<256, 256, 0, stream>>>(x.as<float>(), rows * dim, 0.7F);
  fill_floats<<<256, 256, 0, stream>>>(w.as<float>(), dim, 1.1F);
  std::vector<std::function<void()>> norms, routes;
  for (const auto& router : routers) {
    norms.push_back([&] {
      cuda::rms_norm_rows({x.as<float>(), w.as<float>(), h.as<uint16_t>(), rows, dim, 1e-6F}, stream);
    });
    routes.push_back([&] {
      cuda::route_rows(
          {h.as<uint16_t>(), router->view, nullptr, ids.as<int32_t>(), weights.as<float>(), rows, n_experts, top_k, 1},
          workspace.as<void>(), stream);
    });
  }
  const Times norm = measure(norms), route = measure(routes);
  std::printf("%-46s norm %.1f us, router and choice %.1f us\n", name.c_str(), norm.median_us, route.median_us);
}

void run() {
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "device");
  {
    Buffer data(int64_t{4} << 30, Device::cuda), out(256, Device::cuda);
    check(cudaMemsetAsync(data.as<void>(), 0x5a, static_cast<size_t>(data.bytes()), stream), "fill");
    const Times t = measure({[&] {
      read_all<<<static_cast<unsigned>(device.multiProcessorCount * 8), 256, 0, stream>>>(
          data.as<uint4>(), data.bytes() / 16, out.as<uint32_t>());
    }});
    peak_gbs = static_cast<double>(data.bytes()) / t.best_us / 1e3;
    std::printf("%s: reads %.0f GB/s; shares below are of that\n", device.name, peak_gbs);
  }
  constexpr DeviceFormat kFormats[] = {DeviceFormat::bf16, DeviceFormat::q8_0, DeviceFormat::q4_k, DeviceFormat::q6_k};
  for (const int64_t rows : {1, 8, 64}) bench_small(6144, 128, 4, rows), bench_small(2048, 128, 8, rows);
  for (const DeviceFormat format : kFormats)
    for (const int64_t rows : {1, 8, 64, 512, 4096}) {
      bench_products("m3 6144 -> 8192", format, 6144, {8192}, rows);
      bench_products("m3 6144 -> q, k, v, index", format, 6144, {8192, 512, 512, 512, 128}, rows);
      bench_products("m3 8192 -> 6144", format, 8192, {6144}, rows);
      if (rows <= 64) bench_products("m3 6144 -> 200064", format, 6144, {200064}, rows);
      bench_products("qwen 2048 -> q, k, v", format, 2048, {4096, 512, 512}, rows);
      bench_products("qwen 4096 -> 2048", format, 4096, {2048}, rows);
      if (rows <= 64) bench_products("qwen 2048 -> 151936", format, 2048, {151936}, rows);
    }
  for (const DeviceFormat format : kFormats) {
    bench_experts({"m3", 6144, 3072, 128, 4, false}, format, {1, 8, 64, 512, 4096});
    bench_experts({"m3 and shared", 6144, 3072, 128, 4, true}, format, {1, 8, 64});
    bench_experts({"qwen", 2048, 768, 128, 8, false}, format, {1, 8, 32, 64, 512, 4096});
  }
}

}  // namespace
}  // namespace corvid::kernels

int main(int argc, char** argv) {
  if (!corvid::kernels::cuda::available()) {
    std::puts("SKIPPED: this machine has no GPU");
    return 0;
  }
  if (argc > 1) corvid::kernels::filter = argv[1];
  try {
    corvid::kernels::run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "products_cuda: %s\n", e.what());
    return 1;
  }
}
