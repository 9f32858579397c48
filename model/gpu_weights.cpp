#include "model/gpu_weights.h"

#include <algorithm>
#include <array>

#include "kernels/gpu.h"

namespace corvid::model {
namespace {

using kernels::DeviceMatrix;
using kernels::Matrix;
using kernels::MatrixPart;

constexpr int64_t kStagedBytes = 32 << 20;  // on their way at a time, twice
constexpr int64_t kPanelsPerTask = 8;

// The rows of the embedding that are a GPU's logits.
DeviceMatrix rows_of(const DeviceMatrix& embedding, const GpuShare& share) {
  DeviceMatrix rows = embedding;
  rows.n = share.logits(embedding.n);
  rows.data = static_cast<const std::byte*>(embedding.data) + share.first_logit(embedding.n) / kernels::kPanelRows *
                                                                  kernels::panel_bytes(embedding.format, embedding.k);
  return rows;
}

// Calls matrix(to, from, part, n_experts), router(to, from, n, k) and vector(to, from, size) for every tensor there is.
template <class Visitor>
void visit(const Config& c, const Weights& w, const GpuShare& share, GpuWeights& g, Visitor& on) {
  const auto matrix = [&](DeviceMatrix& to, const Matrix& from, int64_t n, int64_t k, Cut cut, int64_t n_experts = 1) {
    on.matrix(to, from, part_of(share, cut, n, k, n_experts), n_experts);
  };
  const auto vector = [&](const float*& to, const float* from, int64_t size, bool cut = false) {
    on.vector(to, cut ? from + share.first(size) : from, cut ? share.size(size) : size);
  };
  const Cut gate = share.whole_experts ? Cut::experts : Cut::rows,
            down = share.whole_experts ? Cut::experts : Cut::columns;
  const bool whole_norms = c.family->whole_qk_norms;
  const int64_t q_rows = c.n_heads * c.head_dim, kv_rows = c.n_kv_heads * c.head_dim;
  matrix(g.embedding, w.embedding, c.vocab_size, c.dim, Cut::whole);
  if (w.output.data == w.embedding.data)
    g.output = rows_of(g.embedding, share);
  else
    matrix(g.output, w.output, c.vocab_size, c.dim, Cut::logits);
  vector(g.output_norm, w.output_norm, c.dim);
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const Weights::Layer& from = w.layers[i];
    GpuWeights::Layer& to = g.layers[i];
    vector(to.attn_norm, from.attn_norm, c.dim);
    matrix(to.q, from.q, q_rows, c.dim, Cut::rows);
    matrix(to.k, from.k, kv_rows, c.dim, Cut::rows);
    matrix(to.v, from.v, kv_rows, c.dim, Cut::rows);
    matrix(to.attn_output, from.attn_output, c.dim, q_rows, Cut::columns);
    vector(to.q_norm, from.q_norm, whole_norms ? q_rows : c.head_dim, whole_norms);
    vector(to.k_norm, from.k_norm, whole_norms ? kv_rows : c.head_dim, whole_norms);
    if (c.layers[i].sparse_attention) {
      matrix(to.index_q, from.index_q, c.n_index_heads * c.index_dim, c.dim, Cut::rows);
      matrix(to.index_k, from.index_k, c.index_dim, c.dim, Cut::whole);
      vector(to.index_q_norm, from.index_q_norm, c.index_dim);
      vector(to.index_k_norm, from.index_k_norm, c.index_dim);
    }
    vector(to.ffn_norm, from.ffn_norm, c.dim);
    if (!c.layers[i].moe) {
      matrix(to.gate, from.gate, c.dense_ffn, c.dim, Cut::rows);
      matrix(to.up, from.up, c.dense_ffn, c.dim, Cut::rows);
      matrix(to.down, from.down, c.dim, c.dense_ffn, Cut::columns);
      continue;
    }
    on.router(to.router, from.router, c.n_experts, c.dim);
    if (from.router_bias != nullptr) vector(to.router_bias, from.router_bias, c.n_experts);
    matrix(to.expert_gate, from.expert_gate, c.expert_ffn, c.dim, gate, c.n_experts);
    matrix(to.expert_up, from.expert_up, c.expert_ffn, c.dim, gate, c.n_experts);
    matrix(to.expert_down, from.expert_down, c.dim, c.expert_ffn, down, c.n_experts);
    to.first_expert = share.whole_experts ? share.first(c.n_experts) : 0;
    if (c.shared_ffn == 0) continue;
    matrix(to.shared_gate, from.shared_gate, c.shared_ffn, c.dim, Cut::rows);
    matrix(to.shared_up, from.shared_up, c.shared_ffn, c.dim, Cut::rows);
    matrix(to.shared_down, from.shared_down, c.dim, c.shared_ffn, Cut::columns);
  }
}

struct Shapes {
  void matrix(DeviceMatrix& to, const Matrix& from, const MatrixPart& part, int64_t) {
    to = {from.data, kernels::device_format(from.format, part), part.rows, part.columns, part.n_experts};
  }
  void router(DeviceMatrix& to, const Matrix& from, int64_t n, int64_t k) {
    to = {from.data, kernels::DeviceFormat::bf16, 3 * n, k, 1};
  }
  void vector(const float*& to, const float* from, int64_t) { to = from; }
};

struct Sum {
  int64_t bytes = 0;

  void matrix(DeviceMatrix&, const Matrix& from, const MatrixPart& part, int64_t) {
    bytes += kernels::device_bytes(kernels::device_format(from.format, part), part.rows, part.columns, part.n_experts);
  }
  void router(DeviceMatrix&, const Matrix&, int64_t n, int64_t k) {
    bytes += kernels::device_bytes(kernels::DeviceFormat::bf16, 3 * n, k);
  }
  void vector(const float*&, const float*, int64_t size) { bytes += size * int64_t{sizeof(float)}; }
};

class Upload {
 public:
  Upload(CUstream_st* stream, int64_t held_rows, std::vector<kernels::Buffer>& memory)
      : stream_(stream), held_rows_(held_rows), memory_(memory) {
    for (kernels::PinnedBuffer& staged : staged_) staged = kernels::PinnedBuffer(kStagedBytes);
  }

  void matrix(DeviceMatrix& to, const Matrix& from, MatrixPart part, int64_t n_experts) {
    to = {nullptr, kernels::device_format(from.format, part), part.rows, part.columns, part.n_experts};
    const int64_t panels = part.n_experts * kernels::panels_of(part.rows), held = held_rows_ / kernels::kPanelRows;
    auto* const data = place(to, panels);
    if (held == 0 || n_experts * part.n <= held_rows_ || part.n % kernels::kPanelRows != 0) {
      panels_of(to, data, panels,
                [&](int64_t first, int64_t count, void* out) { kernels::repack(from, part, first, count, out); });
      return;
    }
    // Made up: the file's rows are the first ones, and the others the same again.
    part = {held_rows_, part.k, 0, 1, 0, held_rows_, part.first_column, part.columns};
    panels_of(to, data, std::min(held, panels),
              [&](int64_t first, int64_t count, void* out) { kernels::repack(from, part, first, count, out); });
    const int64_t bytes = kernels::panel_bytes(to.format, to.k);
    for (int64_t first = held; first < panels; first += held) {
      kernels::cuda::queue_copy(data + first * bytes, data, std::min(held, panels - first) * bytes, stream_);
    }
  }

  void router(DeviceMatrix& to, const Matrix& from, int64_t n, int64_t k) {
    to = {nullptr, kernels::DeviceFormat::bf16, 3 * n, k, 1};
    const int64_t panels = kernels::panels_of(3 * n);
    panels_of(to, place(to, panels), panels,
              [&](int64_t first, int64_t count, void* out) { kernels::repack_router(from, n, k, first, count, out); });
  }

  void vector(const float*& to, const float* from, int64_t size) {
    kernels::Buffer& buffer = memory_.emplace_back(size * int64_t{sizeof(float)}, kernels::Device::cuda);
    kernels::cuda::to_device(buffer.as(), from, buffer.bytes(), stream_);
    to = buffer.as();
  }

 private:
  std::byte* place(DeviceMatrix& to, int64_t panels) {
    memory_.emplace_back(panels * kernels::panel_bytes(to.format, to.k), kernels::Device::cuda);
    to.data = memory_.back().as<std::byte>();
    return memory_.back().as<std::byte>();
  }

  // While one part is on its way the next is made.
  template <class Repack>
  void panels_of(const DeviceMatrix& to, std::byte* data, int64_t panels, const Repack& repack) {
    const int64_t bytes = kernels::panel_bytes(to.format, to.k), most = std::max<int64_t>(1, kStagedBytes / bytes);
    for (int64_t first = 0; first < panels; first += most) {
      const int64_t count = std::min(most, panels - first);
      turn_ = 1 - turn_;
      if (count * bytes > staged_[turn_].bytes()) staged_[turn_] = kernels::PinnedBuffer(count * bytes);
      auto* const staged = staged_[turn_].as<std::byte>();
      pool_.run((count + kPanelsPerTask - 1) / kPanelsPerTask, [&](int64_t task, int) {
        const int64_t at = task * kPanelsPerTask, some = std::min(kPanelsPerTask, count - at);
        repack(first + at, some, staged + at * bytes);
      });
      kernels::cuda::wait(stream_);  // the other part has arrived
      kernels::cuda::queue_to_device(data + first * bytes, staged, count * bytes, stream_);
    }
  }

  CUstream_st* const stream_;
  const int64_t held_rows_;
  std::vector<kernels::Buffer>& memory_;
  kernels::Pool pool_{0};
  std::array<kernels::PinnedBuffer, 2> staged_;
  size_t turn_ = 0;
};

}  // namespace

GpuWeights GpuWeights::upload(const Config& config, const Weights& weights, const GpuShare& share,
                              CUstream_st* stream) {
  GpuWeights g;
  g.layers.resize(config.layers.size());
  Upload upload(stream, weights.held_rows, g.memory_);
  visit(config, weights, share, g, upload);
  kernels::cuda::wait(stream);
  return g;
}

GpuWeights GpuWeights::shapes(const Config& config, const Weights& weights, const GpuShare& share) {
  GpuWeights g;
  g.layers.resize(config.layers.size());
  Shapes shapes;
  visit(config, weights, share, g, shapes);
  return g;
}

int64_t GpuWeights::bytes(const Config& config, const Weights& weights, const GpuShare& share) {
  GpuWeights g;
  g.layers.resize(config.layers.size());
  Sum sum;
  visit(config, weights, share, g, sum);
  return sum.bytes;
}

}  // namespace corvid::model
