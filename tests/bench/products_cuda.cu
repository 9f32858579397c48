// How fast products with weights are on this GPU: the matrices of MiniMax-M3 and Qwen3-30B-A3B, in several formats and
// for several numbers of rows. Times are medians of graph replays over weights (or choices of experts) that don't fit
// the cache; each case's result is compared with float64 on a sample of its outputs. Beside them: what the memory
// gives.
//
//   products_cuda [FILTER]      only cases whose line contains FILTER
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
#include "kernels/feed_forward/feed_forward.h"
#include "kernels/products/products.h"
#include "kernels/read_speed/gpu.h"
#include "kernels/rms_norm/rms_norm_rows.h"
#include "kernels/route/route_rows.h"
#include "tests/bench/made_up.cuh"
#include "tests/bench/replay.cuh"

namespace corvid::kernels {
namespace {

using cuda::check;

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

// calls[i] launches piece i of a rotation; the time of one.
Times measure(const std::vector<std::function<void()>>& calls) {
  calls[0]();
  check(cudaStreamSynchronize(stream), "first call");
  Times t = replay(stream, 9, [&] {
    for (const auto& call : calls) call();
  });
  for (double* us : {&t.median_us, &t.best_us, &t.worst_us}) *us /= static_cast<double>(calls.size());
  return t;
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
      owned.push_back(std::make_unique<Owned>(format, n, k, 1, owned.size() + 1, stream));
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
    check_product<<<8, 128, 0, stream>>>(x.as<uint16_t>(), p.w, static_cast<const __nv_bfloat16*>(p.y.of[0]), rows,
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
  const Owned gate(format, s.ffn, s.dim, s.n_experts, 1, stream), up(format, s.ffn, s.dim, s.n_experts, 2, stream),
      down(format, s.dim, s.ffn, s.n_experts, 3, stream), shared_gate(format, s.ffn, s.dim, 1, 4, stream),
      shared_up(format, s.ffn, s.dim, 1, 5, stream), shared_down(format, s.dim, s.ffn, 1, 6, stream);
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
  for (int i = 0; i < 24; ++i)
    routers.push_back(std::make_unique<Owned>(DeviceFormat::bf16, 3 * n_experts, dim, 1, i, stream));
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
  peak_gbs = GpuReadSpeed(int64_t{4} << 30).measure(stream) / 1e9;
  std::printf("%s: reads %.0f GB/s; shares below are of that\n", device.name, peak_gbs);
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
    bench_experts({"m3 and shared", 6144, 3072, 128, 4, true}, format, {1, 8, 64, 512, 4096});
    bench_experts({"qwen", 2048, 768, 128, 8, false}, format, {1, 8, 32, 64, 512, 4096});
  }
}

}  // namespace
}  // namespace corvid::kernels

int main(int argc, char** argv) {
  using namespace corvid::kernels;
  if (argc > 1) filter = argv[1];
  return bench_main("products_cuda", run);
}
