// Block selection and attention on a GPU, at the shapes of MiniMax M3 (and M2's for comparison): every cell of the
// tables in docs/gpu.md. Each cell's answer is checked first, at a size that a plain loop can check; then graph
// replays over copies of the cache that together are larger than L2 are timed, several replays in a graph. A line of
// JSON a cell: median and spread in microseconds, bytes that must be read, and their share of the read bandwidth that
// this program measures on the same GPU at the start.
//
//   msa_cuda [PATTERN]     only cells whose name holds PATTERN
#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda_check.h"
#include "kernels/sparse_attention/paged.h"

namespace corvid {
namespace {

using kernels::Buffer;
using kernels::Device;
using kernels::IndexFormat;
using kernels::cuda::check;

__device__ uint32_t mix(uint64_t x) {
  x = (x ^ (x >> 31)) * 0x7fb5d329728ea185ULL;
  x = (x ^ (x >> 27)) * 0x81dadef4bc2dd44dULL;
  return static_cast<uint32_t>(x >> 32);
}
__device__ float bell(uint64_t n) {
  const uint32_t a = mix(2 * n + 1), b = mix(2 * n + 0x9e3779b97f4a7c15ULL);
  return (static_cast<float>(a >> 16) + static_cast<float>(a & 0xffffU) + static_cast<float>(b >> 16) +
          static_cast<float>(b & 0xffffU) - 131070.0F) /
         37837.0F;
}
__global__ void fill_bf16(uint16_t* out, int64_t n, uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x)
    out[i] = static_cast<uint16_t>(__float_as_uint(bell(seed + static_cast<uint64_t>(i))) >> 16);
}
// e4m3 of about the same numbers: sign, exponent 4 to 8, any mantissa.
__global__ void fill_e4m3(uint8_t* out, int64_t n, uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    const uint32_t bits = mix(seed + static_cast<uint64_t>(i));
    out[i] = static_cast<uint8_t>((bits & 0x87U) | (4 + (bits >> 8) % 5) << 3);
  }
}
// Index keys in clusters: four blocks in a row share a centre, and each key is that and some noise of its own.
__global__ void fill_clusters(std::byte* keys, int64_t page_bytes, int64_t slots, const int32_t* slot_of,
                              uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < slots * 128 * 128;
       i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t b = i / (128 * 128), at = i % (128 * 128);
    const float value = 0.8F * bell(seed + static_cast<uint64_t>(b / 4 * 128 + at % 128)) +
                        0.6F * bell(2 * seed + static_cast<uint64_t>(i));
    reinterpret_cast<uint16_t*>(keys + slot_of[b] * page_bytes)[at] =
        static_cast<uint16_t>(__float_as_uint(value) >> 16);
  }
}
__global__ void to_e4m3(const std::byte* from, int64_t from_page, std::byte* to, int64_t to_page, int64_t slots) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < slots * 128 * 128;
       i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t s = i / (128 * 128), at = i % (128 * 128);
    const float value = kernels::bf16_to_f32(reinterpret_cast<const uint16_t*>(from + s * from_page)[at]);
    reinterpret_cast<__nv_fp8_e4m3*>(to + s * to_page)[at] = __nv_fp8_e4m3(value);
  }
}
__global__ void read_all(const uint4* from, int64_t n, uint32_t* out) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  for (; i + 3 * step < n; i += 4 * step) {
    uint4 v[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = __ldcs(from + i + k * step);
#pragma unroll
    for (int k = 0; k < 4; ++k) sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  if (sum == 0x12345678U) *out = sum;
}

struct Stats {
  double median_us, low_us, high_us;  // the quartiles
};

// `launches` are captured into one graph; its replays are timed.
Stats time_graph(const std::vector<std::function<void(cudaStream_t)>>& launches, int replays) {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (const auto& launch : launches) launch(stream);
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<double> us;
  for (int i = 0; i < replays + 2; ++i) {
    check(cudaEventRecord(begin, stream), "event");
    check(cudaGraphLaunch(exec, stream), "graph");
    check(cudaEventRecord(end, stream), "event");
    check(cudaEventSynchronize(end), "timing");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "timing");
    if (i >= 2) us.push_back(1000.0 * ms / static_cast<double>(launches.size()));
  }
  std::sort(us.begin(), us.end());
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return {us[us.size() / 2], us[us.size() / 4], us[us.size() * 3 / 4]};
}

double read_bandwidth() {
  Buffer data(int64_t{4} << 30, Device::cuda), out(128, Device::cuda);
  fill_bf16<<<1024, 256>>>(data.as<uint16_t>(), data.bytes() / 2, 1);
  const Stats s =
      time_graph({[&](cudaStream_t stream) {
                   read_all<<<132 * 8, 256, 0, stream>>>(data.as<const uint4>(), data.bytes() / 16, out.as<uint32_t>());
                 }},
                 10);
  return static_cast<double>(data.bytes()) / s.median_us / 1e6;
}

struct Shape {
  const char* name;
  int64_t n_heads, n_kv_heads;
  bool sparse;
  IndexFormat format = IndexFormat::bf16;
};

// A batch of `sequences` of the same length in a pool of their own, `copies` times, to rotate over.
struct Cell {
  static constexpr int64_t kDim = 128, kBlock = 128, kTopK = 16;
  Shape shape;
  int64_t context, sequences, rows, copies, page_bytes, slots;
  Buffer pool, q, index_q, ids, counts, o, seq, pos, pages, select_workspace, attend_workspace;
  std::vector<kernels::PrefillRun> runs;

  // rows_per_sequence > 1: a run that ends the context, or that many decode rows.
  Cell(const Shape& shape_, int64_t context_, int64_t sequences_, int64_t rows_per_sequence, bool is_run)
      : shape(shape_), context(context_), sequences(sequences_), rows(sequences_ * rows_per_sequence) {
    const int64_t kv = shape.n_kv_heads * kBlock * kDim * 2;
    const int64_t index = shape.sparse ? kBlock * kDim * (shape.format == IndexFormat::bf16 ? 2 : 1) : 0;
    page_bytes = 2 * kv + index;
    const int64_t blocks = (context + kBlock - 1) / kBlock, bytes = blocks * page_bytes * sequences;
    copies = is_run ? 1
                    : std::clamp<int64_t>((int64_t{200} << 20) / std::max<int64_t>(1, bytes_read(false)) + 1, 1,
                                          (int64_t{8} << 30) / bytes + 1);
    slots = blocks * sequences;
    pool = Buffer(copies * slots * page_bytes, Device::cuda);
    fill_bf16<<<4096, 256>>>(pool.as<uint16_t>(), pool.bytes() / 2, 7);
    if (shape.format == IndexFormat::e4m3)
      for (int64_t s = 0; s < copies * slots; ++s)
        fill_e4m3<<<16, 256>>>(pool.as<uint8_t>() + s * page_bytes + 2 * kv, index, static_cast<uint64_t>(s * index));
    const auto random = [&](int64_t n, uint64_t seed) {
      Buffer out(n * 2, Device::cuda);
      fill_bf16<<<512, 256>>>(out.as<uint16_t>(), n, seed);
      return out;
    };
    q = random(rows * shape.n_heads * kDim, 1ULL << 40);
    index_q = random(rows * shape.n_kv_heads * kDim, 1ULL << 41);
    o = Buffer(rows * shape.n_heads * kDim * 2, Device::cuda);
    ids = Buffer(rows * shape.n_kv_heads * kTopK * 4, Device::cuda);
    counts = Buffer(rows * shape.n_kv_heads * 4, Device::cuda);
    std::vector<int32_t> host_seq, host_pos, host_pages(static_cast<size_t>(slots));
    for (int64_t s = 0; s < sequences; ++s)
      for (int64_t r = 0; r < rows_per_sequence; ++r) {
        host_seq.push_back(static_cast<int32_t>(s));
        host_pos.push_back(static_cast<int32_t>(context - rows_per_sequence + r));
      }
    for (int64_t s = 0; s < slots; ++s) host_pages[static_cast<size_t>(s)] = static_cast<int32_t>(s);
    std::shuffle(host_pages.begin(), host_pages.end(), std::mt19937(5));
    const auto upload = [](const std::vector<int32_t>& values) {
      Buffer out(static_cast<int64_t>(values.size()) * 4, Device::cuda);
      kernels::cuda::to_device(out.as<void>(), values.data(), out.bytes(), nullptr);
      return out;
    };
    seq = upload(host_seq);
    pos = upload(host_pos);
    pages = upload(host_pages);
    if (is_run)
      for (int64_t s = 0; s < sequences; ++s) runs.push_back({s * rows_per_sequence, rows_per_sequence, context});
    const auto select = select_args(0);
    const auto attend = attend_args(0);
    select_workspace = Buffer(std::max<int64_t>(128, block_select_workspace(select)), Device::cuda);
    attend_workspace = Buffer(std::max<int64_t>(128, attention_workspace(attend, shape.sparse)), Device::cuda);
  }

  // Of a decode step: what must come from memory.
  int64_t bytes_read(bool only_index) const {
    const int64_t kv = shape.n_kv_heads * kDim * 2 * 2, element = shape.format == IndexFormat::bf16 ? 2 : 1;
    if (!shape.sparse) return sequences * context * kv;
    const int64_t index = sequences * context * kDim * element;
    return only_index ? index : index + sequences * std::min(context, kTopK * kBlock) * kv;
  }

  kernels::PagedRows batch() {
    return {seq.as<int32_t>(),
            pos.as<int32_t>(),
            pages.as<int32_t>(),
            rows,
            slots / sequences,
            runs.empty() ? rows : 0,
            context,
            runs};
  }
  kernels::PagedBlockSelect select_args(int64_t copy) {
    const int64_t kv = shape.n_kv_heads * kBlock * kDim * 2;
    return {batch(),
            index_q.as<uint16_t>(),
            pool.as<std::byte>() + copy * slots * page_bytes + 2 * kv,
            page_bytes,
            ids.as<int32_t>(),
            counts.as<int32_t>(),
            shape.n_kv_heads,
            kDim,
            kBlock,
            kTopK,
            1,
            shape.format,
            select_workspace.as<std::byte>()};
  }
  kernels::PagedAttention attend_args(int64_t copy) {
    const std::byte* base = pool.as<std::byte>() + copy * slots * page_bytes;
    return {batch(),
            q.as<uint16_t>(),
            base,
            base + shape.n_kv_heads * kBlock * kDim * 2,
            page_bytes,
            shape.sparse ? ids.as<int32_t>() : nullptr,
            shape.sparse ? counts.as<int32_t>() : nullptr,
            o.as<uint16_t>(),
            shape.n_heads,
            shape.n_kv_heads,
            kDim,
            kBlock,
            kTopK,
            1 / std::sqrt(128.0F),
            attend_workspace.as<std::byte>()};
  }

  enum class What { all, select, attend };
  Stats time(What what, int replays) {
    std::vector<std::function<void(cudaStream_t)>> launches;
    const int64_t n = runs.empty() ? std::max<int64_t>(copies, 8) : 1;
    for (int64_t i = 0; i < n; ++i)
      launches.push_back([this, what, copy = i % copies](cudaStream_t stream) {
        if (!shape.sparse || what == What::attend) return kernels::cuda::attention(attend_args(copy), stream);
        if (what == What::select) return kernels::cuda::block_select(select_args(copy), stream);
        kernels::cuda::select_and_attend(select_args(copy), attend_args(copy), stream);
      });
    return time_graph(launches, replays);
  }

  // The last row against a plain loop over what the kernels chose, and that choice against all scores.
  double worst_error() {
    if (shape.sparse)
      kernels::cuda::select_and_attend(select_args(0), attend_args(0), nullptr);
    else
      kernels::cuda::attention(attend_args(0), nullptr);
    kernels::cuda::wait(nullptr);
    const auto home = [](const Buffer& buffer, int64_t offset, int64_t bytes) {
      std::vector<uint16_t> out(static_cast<size_t>(bytes / 2));
      kernels::cuda::to_host(out.data(), buffer.as<std::byte>() + offset, bytes, nullptr);
      return out;
    };
    const int64_t row = rows - 1, kv_bytes = shape.n_kv_heads * kBlock * kDim * 2, blocks = slots / sequences;
    std::vector<int32_t> table(static_cast<size_t>(blocks)), chosen(static_cast<size_t>(shape.n_kv_heads * kTopK));
    kernels::cuda::to_host(table.data(), pages.as<int32_t>() + (sequences - 1) * blocks, blocks * 4, nullptr);
    if (shape.sparse)
      kernels::cuda::to_host(chosen.data(), ids.as<int32_t>() + row * shape.n_kv_heads * kTopK,
                             shape.n_kv_heads * kTopK * 4, nullptr);
    const int64_t group = shape.n_heads / shape.n_kv_heads, head = shape.n_heads - 1, kv_head = head / group;
    const auto queries = home(q, (row * shape.n_heads + head) * kDim * 2, kDim * 2);
    const auto found = home(o, (row * shape.n_heads + head) * kDim * 2, kDim * 2);
    std::vector<double> sum(kDim), scores;
    double total = 0, error = 0, size = 0;
    const int64_t n = shape.sparse ? std::min(blocks, kTopK) : blocks;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t b = shape.sparse ? chosen[static_cast<size_t>(kv_head * kTopK + i)] : i;
      const int64_t at = table[static_cast<size_t>(b)] * page_bytes + kv_head * kBlock * kDim * 2;
      const auto keys = home(pool, at, kBlock * kDim * 2), values = home(pool, at + kv_bytes, kBlock * kDim * 2);
      for (int64_t j = 0; j < kBlock && b * kBlock + j < context; ++j) {
        double score = 0;
        for (int64_t d = 0; d < kDim; ++d)
          score += kernels::bf16_to_f32(queries[static_cast<size_t>(d)]) *
                   kernels::bf16_to_f32(keys[static_cast<size_t>(j * kDim + d)]);
        const double weight = std::exp(score / std::sqrt(128.0));
        total += weight;
        for (int64_t d = 0; d < kDim; ++d)
          sum[static_cast<size_t>(d)] += weight * kernels::bf16_to_f32(values[static_cast<size_t>(j * kDim + d)]);
      }
    }
    for (int64_t d = 0; d < kDim; ++d) {
      const double want = sum[static_cast<size_t>(d)] / total;
      const double off = want - kernels::bf16_to_f32(found[static_cast<size_t>(d)]);
      error += off * off;
      size += want * want;
    }
    return std::sqrt(error / size);
  }
};

double bandwidth;
std::string pattern;

void print(const std::string& name, const Stats& s, double bytes, double flops, double error) {
  std::printf("{\"cell\": \"%s\", \"us\": %.2f, \"low\": %.2f, \"high\": %.2f", name.c_str(), s.median_us, s.low_us,
              s.high_us);
  if (bytes > 0)
    std::printf(", \"mbytes\": %.2f, \"floor_us\": %.2f, \"share\": %.3f", bytes / 1e6, bytes / bandwidth / 1e6,
                bytes / bandwidth / 1e6 / s.median_us);
  if (flops > 0) std::printf(", \"tflops\": %.1f", flops / s.median_us / 1e6);
  if (error >= 0) std::printf(", \"error\": %.2e", error);
  std::printf("}\n");
  std::fflush(stdout);
}

void decode(const Shape& shape, int64_t context, int64_t batch, int64_t rows_per_sequence = 1) {
  std::string name =
      std::string(shape.name) + " decode batch " + std::to_string(batch) + " context " + std::to_string(context);
  if (rows_per_sequence > 1) name += " rows " + std::to_string(rows_per_sequence);
  if (name.find(pattern) == std::string::npos) return;
  Cell cell(shape, context, batch, rows_per_sequence, false);
  const double error = context <= 131072 ? cell.worst_error() : -1;
  print(name, cell.time(Cell::What::all, 30), static_cast<double>(cell.bytes_read(false)), 0, error);
  if (!shape.sparse) return;
  print(name + ", selection", cell.time(Cell::What::select, 15), static_cast<double>(cell.bytes_read(true)), 0, -1);
  print(name + ", attention", cell.time(Cell::What::attend, 15), 0, 0, -1);
}

void prefill(const Shape& shape, int64_t context, int64_t rows = 8192) {
  const std::string name =
      std::string(shape.name) + " prefill of " + std::to_string(rows) + " context " + std::to_string(context);
  if (name.find(pattern) == std::string::npos) return;
  Cell cell(shape, context, 1, rows, true);
  const double error = context <= 131072 ? cell.worst_error() : -1;
  double pairs = 0, index_pairs = 0;  // of query and key
  for (int64_t p = context - rows; p < context; ++p) {
    const double nb = static_cast<double>(p / 128 + 1);
    pairs += shape.sparse ? std::min<double>(static_cast<double>(p + 1), 15 * 128 + static_cast<double>(p % 128 + 1))
                          : static_cast<double>(p + 1);
    index_pairs += nb > 16 ? (nb - 1) * 128 : 0;
  }
  const double flops = pairs * static_cast<double>(shape.n_heads) * 128 * 4;
  const double index_flops = index_pairs * static_cast<double>(shape.n_kv_heads) * 128 * 2;
  print(name, cell.time(Cell::What::all, 7), 0, flops + (shape.sparse ? index_flops : 0), error);
  if (!shape.sparse) return;
  print(name + ", selection", cell.time(Cell::What::select, 5), 0, index_flops, -1);
  print(name + ", attention", cell.time(Cell::What::attend, 5), 0, flops, -1);
}

// How many of the blocks that the bf16 index chooses the e4m3 index chooses too, the local one not counted.
void recall(bool in_clusters, int64_t context) {
  const std::string name = std::string("recall of e4m3, ") + (in_clusters ? "clustered" : "random") +
                           " keys, context " + std::to_string(context);
  if (name.find(pattern) == std::string::npos) return;
  constexpr int64_t kRows = 64, kv = 4 * Cell::kBlock * Cell::kDim * 2;
  Cell exact({"", 64, 4, true}, context, 1, kRows, false),
      rounded({"", 64, 4, true, IndexFormat::e4m3}, context, 1, kRows, false);
  if (in_clusters)
    fill_clusters<<<1024, 256>>>(exact.pool.as<std::byte>() + 2 * kv, exact.page_bytes, exact.slots,
                                 exact.pages.as<int32_t>(), 3);
  to_e4m3<<<1024, 256>>>(exact.pool.as<std::byte>() + 2 * kv, exact.page_bytes, rounded.pool.as<std::byte>() + 2 * kv,
                         rounded.page_bytes, exact.slots);
  std::vector<int32_t> chosen[2];
  for (Cell* cell : {&exact, &rounded}) {
    kernels::cuda::block_select(cell->select_args(0), nullptr);
    kernels::cuda::wait(nullptr);
    std::vector<int32_t>& ids = chosen[cell == &exact ? 0 : 1];
    ids.resize(static_cast<size_t>(kRows * 4 * Cell::kTopK));
    kernels::cuda::to_host(ids.data(), cell->ids.as<int32_t>(), static_cast<int64_t>(ids.size()) * 4, nullptr);
  }
  int64_t both = 0, all = 0;
  for (size_t list = 0; list < kRows * 4; ++list) {
    const auto begin = chosen[1].begin() + static_cast<int64_t>(list * Cell::kTopK);
    for (size_t i = 0; i + 1 < Cell::kTopK; ++i, ++all)  // ascending: the local block is the last
      both += std::count(begin, begin + Cell::kTopK, chosen[0][list * Cell::kTopK + i]);
  }
  std::printf("{\"cell\": \"%s\", \"recall\": %.4f}\n", name.c_str(),
              static_cast<double>(both) / static_cast<double>(all));
}

int run() {
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0), "device");
  bandwidth = read_bandwidth();
  std::printf("{\"device\": \"%s\", \"read_tb_per_s\": %.3f}\n", device.name, bandwidth);
  const Shape m3{"m3 sparse", 64, 4, true}, m3_e4m3{"m3 sparse e4m3", 64, 4, true, IndexFormat::e4m3};
  const Shape m3_dense{"m3 dense", 64, 4, false}, m2{"m2 dense", 48, 8, false}, qwen{"qwen3 dense", 32, 4, false};
  for (const int64_t context : {8192, 32768, 131072, 524288, 1048576}) decode(m3, context, 1);
  decode(m3, 131072, 8);
  decode(m3, 32768, 32);
  for (const int64_t context : {8192, 131072, 1048576}) decode(m3_e4m3, context, 1);
  for (const int64_t rows : {4, 8}) decode(m3, 131072, 1, rows);
  for (const int64_t context : {8192, 131072, 1048576}) decode(m2, context, 1);
  for (const int64_t context : {8192, 131072, 1048576}) decode(m3_dense, context, 1);
  decode(qwen, 4096, 8);
  for (const int64_t context : {8192, 32768, 131072, 1048576}) prefill(m3, context);
  for (const int64_t context : {8192, 131072}) prefill(m3_dense, context);
  for (const int64_t context : {131072, 1048576}) prefill(m2, context);
  for (const bool in_clusters : {false, true}) recall(in_clusters, 131072);
  return 0;
}

}  // namespace
}  // namespace corvid

int main(int argc, char** argv) {
  if (argc > 1) corvid::pattern = argv[1];
  if (!corvid::kernels::cuda::available()) {
    std::fprintf(stderr, "msa_cuda: this machine has no GPU\n");
    return 1;
  }
  return corvid::run();
}
