// A step of decoding, without the engine: the kernels that model/gpu_forward.cpp queues, in its order, over weights of
// Qwen3-30B-A3B's true size that mean nothing, replayed from a graph. What is left out says what a part costs.
//
//   step_cuda [--type q8_0] [--batch 1,8,32] [--tokens 1024] [--keys 4096] [--layers 48] [--without PART]...
//             [--apart PART]...
//
// PART: norms, projections, heads, attention, output, router, experts, logits. `--without each` leaves out each in
// turn. --apart: the norm that projections or the router read, or the heads that attention does, by a launch of its
// own. --keys: for how many positions a step is recorded, in place of what the engine takes.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/arg_max/arg_max.h"
#include "kernels/cuda_check.h"
#include "kernels/embed_rows/embed_rows.h"
#include "kernels/feed_forward/feed_forward.h"
#include "kernels/products/products.h"
#include "kernels/read_speed/gpu.h"
#include "kernels/rms_norm/rms_norm_rows.h"
#include "kernels/route/route_rows.h"
#include "kernels/sparse_attention/paged.h"
#include "kernels/store_heads/store_heads.h"
#include "tests/bench/made_up.cuh"
#include "tests/bench/replay.cuh"

namespace corvid::kernels {
namespace {

using cuda::check;

constexpr int64_t kDim = 2048, kHeads = 32, kKvHeads = 4, kHeadDim = 128, kExperts = 128, kTopK = 8, kFfn = 768;
constexpr int64_t kVocab = 151936, kBlock = 128, kValuesOffset = kKvHeads * kBlock * kHeadDim * 2;
constexpr const char* kParts[] = {"norms",  "projections", "heads",   "attention",
                                  "output", "router",      "experts", "logits"};

cudaStream_t stream;

struct Layer {
  Owned q, k, v, output, router, gate, up, down;
  Layer(DeviceFormat f, uint64_t seed)
      : q(f, kHeads * kHeadDim, kDim, 1, seed, stream),
        k(f, kKvHeads * kHeadDim, kDim, 1, seed + 1, stream),
        v(f, kKvHeads * kHeadDim, kDim, 1, seed + 2, stream),
        output(f, kDim, kHeads * kHeadDim, 1, seed + 3, stream),
        router(DeviceFormat::bf16, 3 * kExperts, kDim, 1, seed + 4, stream),
        gate(f, kFfn, kDim, kExperts, seed + 5, stream),
        up(f, kFfn, kDim, kExperts, seed + 6, stream),
        down(f, kDim, kFfn, kExperts, seed + 7, stream) {}
  int64_t bytes() const {
    return q.buffer.bytes() + k.buffer.bytes() + v.buffer.bytes() + output.buffer.bytes() + router.buffer.bytes();
  }
  int64_t expert_bytes() const { return (gate.buffer.bytes() + up.buffer.bytes() + down.buffer.bytes()) / kExperts; }
};

struct Weights {
  Owned embedding, output;
  std::vector<std::unique_ptr<Layer>> layers;
  Buffer ones{kDim * 4, Device::cuda};
  Weights(DeviceFormat f, int64_t n) : embedding(f, kVocab, kDim, 1, 1, stream), output(f, kVocab, kDim, 1, 2, stream) {
    for (int64_t i = 0; i < n; ++i) layers.push_back(std::make_unique<Layer>(f, static_cast<uint64_t>(10 * i + 10)));
    fill_floats<<<8, 256, 0, stream>>>(ones.as(), kDim, 1);
  }
};

class Step {
 public:
  Step(const Weights& w, int64_t rows, int64_t tokens, int64_t keys, const std::set<std::string>& apart)
      : w_(w),
        apart_(apart),
        rows_(rows),
        max_pages_(tokens / kBlock + 1),
        max_keys_(keys),
        page_bytes_(2 * kValuesOffset * std::ssize(w.layers)),
        is_rounded_(products_rounding(w.output.view.format, rows) > 0),
        rounds_(is_rounded_ && rows > 1),
        pages_(rows * max_pages_ * page_bytes_, Device::cuda) {
    fill_bf16<<<2048, 256, 0, stream>>>(pages_.as<__nv_bfloat16>(), pages_.bytes() / 2, 3);
    std::vector<int32_t> numbers;
    for (int32_t r = 0; r < rows; ++r) numbers.push_back((r * 7919 + 13) % kVocab);
    for (int32_t r = 0; r < rows; ++r) numbers.push_back(r);
    for (int32_t r = 0; r < rows; ++r) numbers.push_back(static_cast<int32_t>(tokens));
    for (int32_t i = 0; i < rows * max_pages_; ++i) numbers.push_back(i);
    numbers_ = Buffer(std::ssize(numbers) * 4, Device::cuda);
    cuda::to_device(numbers_.as<void>(), numbers.data(), numbers_.bytes(), stream);
    FeedForward ffn = experts(0);
    attend_ = attention(0);
    const Product output{w.layers[0]->output.view, nullptr, Product::Out::add_f32};
    workspace_ = Buffer(
        std::max({feed_forward_workspace_bytes(ffn, rows), attention_workspace(attend_, false),
                  route_rows_workspace_bytes(rows, kExperts, kDim), products_workspace_bytes({&output, 1}, rows)}) +
            256,
        Device::cuda);
  }

  void queue(const std::set<std::string>& without, std::vector<std::set<int32_t>>* chosen = nullptr) {
    const auto has = [&](const char* part) { return !without.contains(part); };
    const auto are_one = [&](const char* a, const char* b) { return has(a) && has(b) && !apart_.contains(b); };
    cuda::embed_rows({w_.embedding.view, tokens(), x_.as(), rows_}, stream);
    cuda::row_angles({pos(), angles_.as(), rows_, kHeadDim, 1e6}, stream);
    for (int64_t i = 0; i < std::ssize(w_.layers); ++i) {
      const Layer& l = *w_.layers[static_cast<size_t>(i)];
      const Product projections[] = {{l.q.view, q_.as<void>()}, {l.k.view, k_.as<void>()}, {l.v.view, v_.as<void>()}};
      if (are_one("norms", "projections")) {
        cuda::norm_products(normed(), projections, workspace_.as<void>(), stream);
      } else {
        if (has("norms")) norm();
        if (has("projections"))
          cuda::products(h_.as<uint16_t>(), rows_, projections, workspace_.as<void>(), stream, rounds_);
      }
      if (are_one("heads", "attention")) {
        cuda::store_and_attend(heads(i), attention(i), stream);
      } else {
        if (has("heads")) cuda::store_heads(heads(i), stream);
        if (has("attention")) cuda::attention(attention(i), stream);
      }
      const Product output{l.output.view, x_.as<void>(), Product::Out::add_f32};
      if (has("output"))
        cuda::products(attended_.as<uint16_t>(), rows_, {&output, 1}, workspace_.as<void>(), stream, rounds_);
      const RouteRows route{
          h_.as<uint16_t>(), l.router.view, nullptr, ids_.as<int32_t>(), weights_.as(), rows_,
          kExperts,          kTopK,         1,       Gating::softmax,    true,          is_rounded_ && rows_ == 1};
      if (are_one("norms", "router")) {
        cuda::norm_route_rows(normed(), route, workspace_.as<void>(), stream);
      } else {
        if (has("norms")) norm();
        if (has("router")) cuda::route_rows(route, workspace_.as<void>(), stream);
      }
      if (has("experts")) cuda::feed_forward(experts(i), workspace_.as<void>(), stream);
      if (chosen != nullptr) {
        std::vector<int32_t> ids(static_cast<size_t>(rows_ * kTopK));
        cuda::to_host(ids.data(), ids_.as<void>(), ids_.bytes(), stream);
        chosen->emplace_back(ids.begin(), ids.end());
      }
    }
    norm();
    if (!has("logits")) return;
    const Product logits{w_.output.view, logits_.as<void>(), Product::Out::f32};
    cuda::products(h_.as<uint16_t>(), rows_, {&logits, 1}, workspace_.as<void>(), stream, rounds_);
    cuda::arg_max({logits_.as(), best_.as<ArgMax::Best>(), rows_, kVocab}, stream);
  }

  // Bytes that a step must read.
  double bytes(const std::vector<std::set<int32_t>>& chosen, int64_t tokens) const {
    auto sum = static_cast<double>(w_.output.buffer.bytes());
    for (size_t i = 0; i < chosen.size(); ++i) {
      const Layer& l = *w_.layers[i];
      sum += static_cast<double>(l.bytes()) +
             static_cast<double>(chosen[i].size()) * static_cast<double>(l.expert_bytes()) +
             static_cast<double>(rows_ * (tokens + 1) * kKvHeads * kHeadDim * 4);
    }
    return sum;
  }
  // Of the logits' bits.
  uint64_t fingerprint() const {
    std::vector<uint32_t> bits(static_cast<size_t>(rows_ * kVocab));
    cuda::to_host(bits.data(), logits_.as<void>(), logits_.bytes(), stream);
    uint64_t sum = 0;
    for (const uint32_t b : bits) sum = (sum ^ b) * 0x9e3779b97f4a7c15ULL;
    return sum;
  }

 private:
  const int32_t* tokens() const { return numbers_.as<int32_t>(); }
  const int32_t* seq() const { return tokens() + rows_; }
  const int32_t* pos() const { return seq() + rows_; }
  const int32_t* pages() const { return pos() + rows_; }

  RmsNormRows normed() { return {x_.as(), w_.ones.as(), h_.as<uint16_t>(), rows_, kDim, 1e-6F, rounds_}; }
  void norm() { cuda::rms_norm_rows(normed(), stream); }
  StoreHeads heads(int64_t layer) {
    StoreHeads a{};
    a.q = {q_.as<uint16_t>(), kHeads * kHeadDim};
    a.k = {k_.as<uint16_t>(), kKvHeads * kHeadDim};
    a.v = {v_.as<uint16_t>(), kKvHeads * kHeadDim};
    a.q_out = turned_.as<uint16_t>();
    a.q_norm = a.k_norm = w_.ones.as();
    a.cos_sin = angles_.as();
    a.seq = seq(), a.pos = pos(), a.pages = pages();
    a.rows = rows_, a.max_pages = max_pages_;
    a.pages_base = pages_.as<std::byte>() + layer * 2 * kValuesOffset;
    a.page_bytes = page_bytes_, a.values_offset = kValuesOffset;
    a.n_heads = kHeads, a.n_kv_heads = kKvHeads, a.head_dim = a.rotary_dim = kHeadDim, a.block = kBlock;
    a.eps = 1e-6F;
    return a;
  }
  PagedAttention attention(int64_t layer) {
    PagedAttention a{};
    a.rows.seq = seq(), a.rows.pos = pos(), a.rows.pages = pages();
    a.rows.rows = a.rows.decode_rows = rows_;
    a.rows.max_pages = max_pages_, a.rows.max_keys = max_keys_;
    a.q = turned_.as<uint16_t>();
    a.keys = pages_.as<std::byte>() + layer * 2 * kValuesOffset;
    a.values = a.keys + kValuesOffset;
    a.page_bytes = page_bytes_;
    a.o = attended_.as<uint16_t>();
    a.n_heads = kHeads, a.n_kv_heads = kKvHeads, a.head_dim = kHeadDim, a.block = kBlock;
    a.scale = 1 / std::sqrt(static_cast<float>(kHeadDim));
    a.workspace = workspace_.as<std::byte>();
    a.rounds = rounds_;
    return a;
  }
  FeedForward experts(int64_t layer) {
    const Layer& l = *w_.layers[static_cast<size_t>(layer)];
    FeedForward a{.h = h_.as<uint16_t>(),
                  .experts = {l.gate.view, l.up.view, l.down.view},
                  .shared = {},
                  .ids = ids_.as<int32_t>(),
                  .weights = weights_.as(),
                  .x = x_.as(),
                  .rows = rows_,
                  .top_k = kTopK,
                  .act = {Activation::Kind::silu},
                  .is_rounded = rounds_};
    if (layer + 1 < std::ssize(w_.layers)) {
      const Layer& next = *w_.layers[static_cast<size_t>(layer + 1)];
      a.next[0] = next.q.view, a.next[1] = next.k.view, a.next[2] = next.v.view;
    }
    return a;
  }

  const Weights& w_;
  const std::set<std::string>& apart_;
  int64_t rows_, max_pages_, max_keys_, page_bytes_;
  bool is_rounded_, rounds_;  // as in model/gpu_forward.h
  Buffer pages_, numbers_, workspace_;
  PagedAttention attend_;
  Buffer x_{rows_ * kDim * 4, Device::cuda}, h_{rows_ * kDim * 2, Device::cuda},
      q_{rows_ * kHeads * kHeadDim * 2, Device::cuda}, turned_{rows_ * kHeads * kHeadDim * 2, Device::cuda},
      attended_{rows_ * kHeads * kHeadDim * 2, Device::cuda}, k_{rows_ * kKvHeads * kHeadDim * 2, Device::cuda},
      v_{rows_ * kKvHeads * kHeadDim * 2, Device::cuda}, angles_{rows_ * kHeadDim * 4, Device::cuda},
      ids_{rows_ * kTopK * 4, Device::cuda}, weights_{rows_ * kTopK * 4, Device::cuda},
      logits_{rows_ * kVocab * 4, Device::cuda}, best_{rows_ * int64_t{sizeof(ArgMax::Best)}, Device::cuda};
};

struct Options {
  DeviceFormat type = DeviceFormat::q8_0;
  std::vector<int64_t> batch = {1, 8, 32};
  int64_t tokens = 1024, keys = 0, layers = 48;
  std::vector<std::set<std::string>> without = {{}};
  std::set<std::string> apart;
};

void run(const Options& o) {
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "device");
  const double peak = GpuReadSpeed(int64_t{4} << 30).measure(stream) / 1e6;  // bytes in a microsecond
  std::printf("%s: reads %.0f GB/s\n", device.name, peak / 1e3);
  const Weights w(o.type, o.layers);
  for (const int64_t rows : o.batch) {
    const int64_t keys = o.keys > 0 ? o.keys : cuda::keys_of_step(o.tokens + 1, rows == 1);
    Step step(w, rows, o.tokens, keys, o.apart);
    std::vector<std::set<int32_t>> chosen;
    step.queue({}, &chosen);
    const double bytes = step.bytes(chosen, o.tokens);
    for (const std::set<std::string>& without : o.without) {
      std::string name;
      for (const std::string& part : without) name += " without " + part;
      const Times t = replay(stream, 15, [&] { step.queue(without); });
      std::printf("%s batch %lld%s: %.0f us (%.0f..%.0f)", name_of(o.type), static_cast<long long>(rows), name.c_str(),
                  t.median_us, t.best_us, t.worst_us);
      if (without.empty())
        std::printf(", %.0f MB, %.0f%% of the read speed, logits %016llx", bytes / 1e6,
                    100 * bytes / peak / t.median_us, static_cast<unsigned long long>(step.fingerprint()));
      std::puts("");
      std::fflush(stdout);
    }
  }
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--type") {
      for (const DeviceFormat f : {DeviceFormat::bf16, DeviceFormat::q8_0, DeviceFormat::q4_k, DeviceFormat::q6_k})
        if (value == name_of(f)) o.type = f;
    } else if (name == "--batch") {
      o.batch.clear();
      for (size_t at = 0; at < value.size(); at = std::min(value.find(',', at), value.size() - 1) + 1)
        o.batch.push_back(std::stoll(value.substr(at)));
    } else if (name == "--tokens") {
      o.tokens = std::stoll(value);
    } else if (name == "--keys") {
      o.keys = std::stoll(value);
    } else if (name == "--layers") {
      o.layers = std::stoll(value);
    } else if (name == "--without" && value == "each") {
      for (const char* part : kParts) o.without.push_back({part});
    } else if (name == "--without") {
      o.without[0].insert(value);
    } else if (name == "--apart") {
      o.apart.insert(value);
    } else {
      throw std::invalid_argument("unknown option " + name);
    }
  }
  return o;
}

}  // namespace
}  // namespace corvid::kernels

int main(int argc, char** argv) {
  using namespace corvid::kernels;
  return bench_main("step_cuda", [&] { run(parse(argc, argv)); });
}
