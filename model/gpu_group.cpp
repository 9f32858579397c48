#include "model/gpu_group.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/store_heads/store_heads.h"
#include "model/error.h"
#include "model/kv_cache.h"

namespace corvid::model {
namespace {

using kernels::Buffer;
using kernels::Device;

const float* attn_norm(const GpuWeights& w, size_t layer) { return w.layers[layer].attn_norm; }
const float* ffn_norm(const GpuWeights& w, size_t layer) { return w.layers[layer].ffn_norm; }
// What follows a layer.
const float* next_norm(const GpuWeights& w, size_t layer) {
  return layer + 1 < w.layers.size() ? w.layers[layer + 1].attn_norm : w.output_norm;
}

constexpr int64_t on_128(int64_t bytes) { return (bytes + 127) / 128 * 128; }
int64_t block_of(const Config& c) { return c.block != 0 ? c.block : kDefaultBlock; }
int64_t kv_bytes(const Config& c) { return on_128(c.n_kv_heads * block_of(c) * c.head_dim * 2); }
int64_t index_bytes(const Config& c, bool e4m3) { return on_128(block_of(c) * c.index_dim * (e4m3 ? 1 : 2)); }

}  // namespace

GpuGroup::Member::Member(const Model& model, const GpuShare& its_share, int its_gpu, CUstream_st* lent_stream,
                         int64_t most_rows)
    : gpu(its_gpu),
      own_stream(lent_stream == nullptr ? kernels::cuda::create_stream() : nullptr, kernels::cuda::destroy_stream),
      stream(lent_stream != nullptr ? lent_stream : own_stream.get()),
      share(its_share),
      config(share.config(model.config())),
      weights(GpuWeights::upload(model.config(), model.weights(), share, stream)),
      forward(config, weights, most_rows, share.count),
      logits(kStreamRows * config.vocab_size * 4),
      best(kStreamRows * int64_t{sizeof(GpuForward::Best)}) {
  if (share.count == 1) return;
  for (const bool are_wanted : {false, true}) {
    Batch batch;
    batch.are_wanted = are_wanted;
    kernels::cuda::queue_zero(forward.partial(batch), kStreamRows * config.dim * 4, stream);
  }
}

GpuGroup::GpuGroup(const Model& model, kernels::Exec& exec, std::span<const int> gpus, int64_t most_rows)
    : config_(model.config()), gpus_(gpus.begin(), gpus.end()) {
  const auto shares = shares_of(config_, model.weights(), std::ssize(gpus_));
  if (shares.size() > 1) sum_.emplace(gpus_, most_rows, config_.dim);
  if (GpuForward::has_squares(config_, std::ssize(gpus_)))
    squares_.emplace(gpus_, most_rows, kernels::kHeadSquares, kernels::AllReduce::Way::automatic, most_rows);
  for (size_t i = 0; i < shares.size(); ++i) {
    const kernels::cuda::GpuScope on(gpus_[i]);
    CUstream_st* const lent = i == 0 ? exec.stream() : nullptr;
    members_.push_back(std::make_unique<Member>(model, shares[i], gpus_[i], lent, most_rows));
    if (sum_) members_.back()->partials = sum_->partials(static_cast<int>(i));
  }
}

int64_t GpuGroup::bytes(const Model& model, const GpuShare& share, int64_t most_rows) {
  return GpuWeights::bytes(model.config(), model.weights(), share) +
         GpuForward::bytes(share.config(model.config()), most_rows, share.count) +
         kernels::AllReduce::bytes(share.count, most_rows, model.config().dim);
}

int64_t GpuGroup::workspace_bytes(const Model& model, const GpuShare& share, int64_t most_rows, int64_t max_keys) {
  const Config c = share.config(model.config());
  return GpuForward::most_workspace_bytes(c, GpuWeights::shapes(model.config(), model.weights(), share), most_rows,
                                          max_keys, block_of(c));
}

int64_t GpuGroup::page_bytes(const Config& c, bool e4m3_index) {
  int64_t bytes = 0;
  for (const Config::Layer& layer : c.layers)
    bytes += 2 * kv_bytes(c) + (layer.sparse_attention ? index_bytes(c, e4m3_index) : 0);
  return bytes;
}

std::vector<KvPool::Share> GpuGroup::page_shares(const Config& c, std::span<const GpuShare> shares,
                                                 std::span<const int> gpus, bool e4m3_index) {
  std::vector<KvPool::Share> all;
  for (const GpuShare& share : shares) {
    KvPool::Share& one = all.emplace_back();
    one.gpu = gpus[static_cast<size_t>(share.index)];
    if (share.count == 1) {
      one.pieces = {{0, page_bytes(c, e4m3_index)}};
      return all;
    }
    int64_t at = 0;
    for (const Config::Layer& layer : c.layers) {
      for (int keys_then_values = 0; keys_then_values < 2; ++keys_then_values, at += kv_bytes(c)) {
        one.pieces.push_back({at + share.first(kv_bytes(c)), share.size(kv_bytes(c))});
      }
      if (!layer.sparse_attention) continue;
      one.pieces.push_back({at, index_bytes(c, e4m3_index)});
      at += index_bytes(c, e4m3_index);
    }
  }
  return all;
}

template <class Fn>
void GpuGroup::each(const Fn& fn) {
  for (const auto& member : members_) {
    const kernels::cuda::GpuScope on(member->gpu);
    fn(*member);
  }
}

void GpuGroup::set_pool(KvPool& pool, int64_t lines, bool e4m3_index) {
  lines_ = kernels::PinnedBuffer(lines * pool.n_slots() * 4);
  n_slots_.assign(static_cast<size_t>(lines), 0);
  for (size_t i = 0; i < members_.size(); ++i) {
    Member& m = *members_[i];
    const kernels::cuda::GpuScope on(m.gpu);
    // A cache of the share's sizes lies as the share's pages do.
    const KvCache cache(m.config, std::shared_ptr<KvPool>(std::shared_ptr<KvPool>(), &pool),
                        CacheFormat::of_gpu(e4m3_index));
    m.table = Buffer(lines * pool.n_slots() * 4, Device::cuda);
    m.pages.first_slot = pool.first_slot(i);
    m.pages.page_bytes = cache.page_bytes();
    m.pages.table = m.table.as<int32_t>();
    m.pages.max_pages = pool.n_slots();
    for (int64_t l = 0; l < config_.n_layers(); ++l) m.pages.layer_offsets.push_back(cache.layer_offset(l));
    m.pages.values_offset = cache.values_offset();
    m.pages.index_offset = cache.index_offset();
    m.pages.block = cache.block();
    m.pages.index_e4m3 = e4m3_index;
  }
}

void GpuGroup::set_line(int64_t line, std::span<const int32_t> slots) {
  int64_t& count = n_slots_[static_cast<size_t>(line)];
  const int64_t first = line * members_.front()->pages.max_pages;
  int32_t* const has = lines_.as<int32_t>() + first;
  const int64_t same = std::mismatch(slots.begin(), slots.end(), has, has + count).first - slots.begin();
  count = std::ssize(slots);
  if (same == count) return;
  std::copy(slots.begin() + same, slots.end(), has + same);
  each([&](Member& m) {
    kernels::cuda::queue_to_device(m.table.as<int32_t>() + first + same, has + same, (count - same) * 4, m.stream);
  });
}

bool GpuGroup::knows_spans(bool dense) {
  Member& m = *members_.front();
  Batch batch;
  batch.rows = batch.max_keys = 1;
  batch.dense = dense;
  const kernels::cuda::GpuScope on(m.gpu);
  for (size_t i = 0; i < config_.layers.size(); ++i)
    if (m.forward.stores_late(i, batch, m.place())) return true;
  return false;
}

int64_t GpuGroup::Member::workspace_bytes(std::span<const Batch> batches) const {
  int64_t bytes = 0;
  for (const Batch& batch : batches) bytes = std::max(bytes, forward.workspace_bytes(batch, pages));
  return bytes;
}

bool GpuGroup::has_room(std::span<const Batch> batches) {
  bool all_have = true;
  each([&](Member& m) { all_have = all_have && m.workspace_bytes(batches) <= m.workspace.bytes(); });
  return all_have;
}

void GpuGroup::make_room(std::span<const Batch> batches) {
  each([&](Member& m) {
    const int64_t bytes = m.workspace_bytes(batches);
    if (bytes <= m.workspace.bytes()) return;
    m.workspace = Buffer();
    m.workspace = Buffer(bytes, Device::cuda);
  });
}

void GpuGroup::queue_rows(int64_t count) {
  each([&](Member& m) { m.forward.rows().queue_copy(rows(), count, m.stream); });
}

void GpuGroup::queue_layers(const Batch& batch) {
  each([&](Member& m) {
    m.forward.queue_begin(batch, m.place());
    m.forward.queue_norm(batch, attn_norm(m.weights, 0), m.place());
  });
  for (size_t i = 0; i < config_.layers.size(); ++i) {
    each([&](Member& m) { m.forward.queue_projections(i, batch, m.place()); });
    queue_squares(batch);
    each([&](Member& m) { m.forward.queue_store(i, batch, m.place()); });
    if (!batch.runs.empty() && i + 1 == config_.layers.size()) return;
    queue_rest(i, batch);
  }
}

void GpuGroup::queue_squares(const Batch& batch) {
  if (!squares_) return;
  std::vector<kernels::AllReduce::Share> shares;
  for (const auto& m : members_)
    shares.push_back({m->forward.square_parts(), m->forward.squares(), nullptr, nullptr, m->stream});
  squares_->queue(shares, batch.rows, 0);
  members_.front()->forward.mark("sums and norms");
}

void GpuGroup::queue_rest(size_t layer, const Batch& batch) {
  each([&](Member& m) { m.forward.queue_attention(layer, batch, m.place()); });
  queue_sum(batch, ffn_norm, layer);
  each([&](Member& m) { m.forward.queue_feed_forward(layer, batch, m.place()); });
  queue_sum(batch, next_norm, layer);
}

void GpuGroup::queue_sum(const Batch& batch, Norm norm, size_t layer) {
  if (!sum_) {
    Member& m = *members_.front();
    m.forward.queue_norm(batch, norm(m.weights, layer), m.place());
    return;
  }
  std::vector<kernels::AllReduce::Share> shares;
  for (const auto& m : members_) {
    shares.push_back(
        {m->forward.partial(batch), m->forward.x(batch), norm(m->weights, layer), m->forward.h(batch), m->stream});
  }
  sum_->queue(shares, batch.rows, config_.norm_eps);
  members_.front()->forward.mark("sums and norms");
}

void GpuGroup::queue_logits(const Batch& batch) {
  each([&](Member& m) { m.forward.queue_logits(batch, m.place()); });
}

GpuGroup::Batch GpuGroup::queue_wanted(const Batch& batch, int64_t first, int64_t count) {
  // Where the sums of these rows are: those of another GPU are complete, as it has sent their norms.
  kernels::DealtRows<const void> dealt;
  dealt.gpus = static_cast<int>(members_.size());
  for (size_t i = 0; i < members_.size(); ++i) dealt.of[i] = members_[i]->forward.x(batch);
  const bool are_dealt = sum_ && sum_->are_dealt(batch.rows) && config_.layers.size() > 1;
  Batch few;
  each([&](Member& m) {
    few = m.forward.queue_gather(batch, first, count, are_dealt ? dealt : m.forward.x(batch), m.place());
  });
  queue_rest(config_.layers.size() - 1, few);
  return few;
}

std::vector<kernels::Graph> GpuGroup::record(const std::function<void()>& queue) {
  std::vector<CUstream_st*> streams;
  for (const auto& m : members_) streams.push_back(m->stream);
  return kernels::Graph::record(gpus_, streams, queue);
}

void GpuGroup::launch(const std::vector<kernels::Graph>& recorded) {
  auto graph = recorded.begin();
  each([&](Member& m) { (graph++)->launch(m.stream); });
}

void GpuGroup::take_logits(int64_t row, int64_t count, float* to) {
  each([&](Member& m) {
    const int64_t size = m.config.vocab_size;
    kernels::cuda::queue_to_host(m.logits.as() + n_staged_ * size, m.forward.logits() + row * size, count * size * 4,
                                 m.stream);
  });
  taken_.push_back({n_staged_, count, to});
  n_staged_ += count;
}

void GpuGroup::queue_best(int64_t rows) {
  each([&](Member& m) {
    kernels::cuda::queue_to_host(m.best.as<GpuForward::Best>(), m.forward.best(),
                                 rows * int64_t{sizeof(GpuForward::Best)}, m.stream);
  });
}

void GpuGroup::take_best(int64_t row, Token* to) { best_taken_.emplace_back(row, to); }

Token GpuGroup::likeliest(int64_t row) {
  GpuForward::Best best{-1, -std::numeric_limits<float>::infinity()};
  for (const auto& m : members_) {
    GpuForward::Best its = m->best.as<GpuForward::Best>()[row];
    its.place += static_cast<int32_t>(m->share.first_logit(config_.vocab_size));
    if (std::isnan(its.value) || its.value > best.value) best = its;
    if (std::isnan(its.value)) break;
  }
  if (!std::isfinite(best.value)) fail("logits: want numbers and a finite maximum, found others");
  return best.place;
}

void GpuGroup::wait_for_all() {
  std::string errors;
  for (const auto& m : members_) {
    try {
      kernels::cuda::wait(m->stream);
    } catch (const std::runtime_error& error) {
      errors += concat(errors.empty() ? "" : "; ", "GPU ", m->gpu, ": ", error.what());
    }
  }
  if (!errors.empty()) fail(errors);
}

void GpuGroup::wait() {
  const auto taken_here = std::exchange(taken_, {});
  const auto best_taken = std::exchange(best_taken_, {});
  n_staged_ = 0;
  wait_for_all();
  for (const Taken& taken : taken_here) {
    for (const auto& m : members_) {
      const int64_t size = m->config.vocab_size;
      for (int64_t r = 0; r < taken.count; ++r) {
        std::copy_n(m->logits.as() + (taken.first + r) * size, size,
                    taken.to + r * config_.vocab_size + m->share.first_logit(config_.vocab_size));
      }
    }
  }
  for (const auto& [row, to] : best_taken) *to = likeliest(row);
}

void GpuGroup::fill(std::span<const int32_t> slots) {
  if (slots.empty()) return;
  each([&](Member& m) {
    Buffer on_device(std::ssize(slots) * 4, Device::cuda);
    kernels::cuda::to_device(on_device.as<int32_t>(), slots.data(), on_device.bytes(), m.stream);
    const Config& c = m.config;
    for (size_t i = 0; i < c.layers.size(); ++i) {
      std::byte* const layer = m.pages.first_slot + m.pages.layer_offsets[i];
      using Kind = kernels::MadeUp::Kind;
      const auto make_up = [&](int64_t offset, int64_t count, uint64_t seed, Kind kind = Kind::bf16) {
        kernels::cuda::make_up({layer + offset, on_device.as<int32_t>(), std::ssize(slots), m.pages.page_bytes, count,
                                1, 3 * uint64_t{i} + seed, kind},
                               m.stream);
      };
      make_up(0, c.n_kv_heads * m.pages.block * c.head_dim, 0);
      make_up(m.pages.values_offset, c.n_kv_heads * m.pages.block * c.head_dim, 1);
      if (c.layers[i].sparse_attention)
        make_up(m.pages.index_offset, m.pages.block * c.index_dim, 2, m.pages.index_e4m3 ? Kind::e4m3 : Kind::bf16);
    }
    kernels::cuda::wait(m.stream);
  });
}

}  // namespace corvid::model
