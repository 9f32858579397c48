#include "model/gpu_forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "kernels/arg_max/arg_max.h"
#include "kernels/block_select/paged.h"
#include "kernels/embed_rows/embed_rows.h"
#include "kernels/feed_forward/feed_forward.h"
#include "kernels/products/products.h"
#include "kernels/rms_norm/rms_norm_rows.h"
#include "kernels/route/route_rows.h"
#include "kernels/store_heads/store_heads.h"

namespace corvid::model {
namespace {

using kernels::Buffer;
using kernels::Device;
using kernels::Product;

Buffer floats(int64_t rows, int64_t columns) { return Buffer(rows * columns * 4, Device::cuda); }
Buffer ints(int64_t rows, int64_t columns) { return floats(rows, columns); }
Buffer halves(int64_t rows, int64_t columns) { return Buffer(rows * columns * 2, Device::cuda); }

}  // namespace

GpuRows::GpuRows(int64_t most_rows)
    : most(most_rows), host(4 * most_rows * 4), device(4 * most_rows * 4, Device::cuda) {}

void GpuRows::queue_copy(GpuRows& from, int64_t rows, CUstream_st* stream) {
  kernels::cuda::queue_to_device(device.as<int32_t>(), from.host.as<int32_t>(), rows * 4, 4, most * 4, stream);
}

GpuForward::Stage::Stage(const Config& c, int64_t rows, int64_t gpus)
    : x(floats(rows, c.dim)),
      partial(gpus > 1 ? floats(std::min(rows, kStreamRows), c.dim) : Buffer()),
      h(halves(rows, c.dim)),
      q(halves(rows, c.n_heads * c.head_dim)),
      q_turned(halves(rows, c.n_heads * c.head_dim)),
      attended(halves(rows, c.n_heads * c.head_dim)),
      k(halves(rows, c.n_kv_heads * c.head_dim)),
      v(halves(rows, c.n_kv_heads * c.head_dim)),
      index_q(halves(rows, c.n_index_heads * c.index_dim)),
      index_q_turned(halves(rows, c.n_index_heads * c.index_dim)),
      index_k(halves(rows, c.index_dim)),
      cos_sin(floats(rows, c.rotary_dim)),
      ids(ints(rows, c.n_kv_heads * c.top_blocks)),
      counts(ints(rows, c.n_kv_heads)),
      expert_ids(ints(rows, c.top_k)),
      expert_weights(floats(rows, c.top_k)),
      square_parts(has_squares(c, gpus) ? floats(rows, kernels::kHeadSquares) : Buffer()),
      squares(has_squares(c, gpus) ? floats(rows, kernels::kHeadSquares) : Buffer()),
      seq(ints(rows, 1)),
      pos(ints(rows, 1)) {}

int64_t GpuForward::bytes(const Config& c, int64_t most_rows, int64_t gpus) {
  const int64_t row = 4 * c.dim +
                      2 * (c.dim + 3 * c.n_heads * c.head_dim + 2 * c.n_kv_heads * c.head_dim +
                           2 * c.n_index_heads * c.index_dim + c.index_dim) +
                      4 * (c.rotary_dim + c.n_kv_heads * (c.top_blocks + 1) + 2 * c.top_k + 6 +
                           (has_squares(c, gpus) ? 2 * kernels::kHeadSquares : 0));
  return (most_rows + kStreamRows) * row + kStreamRows * (c.vocab_size + (gpus > 1 ? 2 * c.dim : 0)) * 4;
}

namespace {

bool is_rounded_for(const kernels::DeviceMatrix& w) { return kernels::products_rounding(w.format, 1) > 0; }

// Whether all that reads h is rounded for, but the routers.
bool are_rounded_for(const GpuWeights& w) {
  const auto is_one = [](const kernels::DeviceMatrix& m) { return m.data == nullptr || is_rounded_for(m); };
  return is_one(w.output) && std::all_of(w.layers.begin(), w.layers.end(), [&](const GpuWeights::Layer& l) {
           return is_one(l.q) && is_one(l.k) && is_one(l.v) && is_one(l.index_q) && is_one(l.index_k) &&
                  is_one(l.gate) && is_one(l.up) && is_one(l.expert_gate) && is_one(l.expert_up) &&
                  is_one(l.shared_gate) && is_one(l.shared_up);
         });
}

}  // namespace

// Those that share a model make h in the sum of their parts, which does not round.
GpuForward::GpuForward(const Config& config, const GpuWeights& weights, int64_t most_rows, int64_t gpus)
    : c_(config),
      w_(weights),
      gpus_(gpus),
      rounds_(gpus == 1 && config.dim % 32 == 0 && are_rounded_for(weights)),
      rows_(most_rows),
      all_(config, most_rows, gpus),
      some_(config, kStreamRows, gpus),
      logits_(floats(kStreamRows, config.vocab_size)),
      best_(kStreamRows * int64_t{sizeof(Best)}, Device::cuda) {}

namespace {

kernels::FeedForward dense_ffn(const Config& c, const GpuWeights::Layer& l) {
  kernels::FeedForward a{};
  a.experts = {l.gate, l.up, l.down};
  a.top_k = 1;
  a.act = {c.family->activation, c.swiglu_alpha, c.swiglu_limit};
  return a;
}

kernels::FeedForward expert_ffn(const Config& c, const GpuWeights::Layer& l) {
  kernels::FeedForward a = dense_ffn(c, l);
  a.experts = {l.expert_gate, l.expert_up, l.expert_down};
  a.shared = {l.shared_gate, l.shared_up, l.shared_down};
  a.top_k = c.top_k;
  a.first_expert = l.first_expert;
  return a;
}

kernels::PagedBlockSelect selection(const Config& c, int64_t block) {
  kernels::PagedBlockSelect a{};
  a.n_heads = c.n_index_heads;
  a.dim = c.index_dim;
  a.block = block;
  a.top_k = c.top_blocks;
  a.local_blocks = c.local_blocks;
  return a;
}

kernels::PagedAttention attention(const Config& c, int64_t block) {
  kernels::PagedAttention a{};
  a.n_heads = c.n_heads;
  a.n_kv_heads = c.n_kv_heads;
  a.head_dim = c.head_dim;
  a.block = block;
  a.top_k = c.top_blocks;
  a.scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  return a;
}

constexpr int64_t aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }

bool selects_blocks(const Config& c, size_t layer, const GpuForward::Batch& batch) {
  return c.layers[layer].sparse_attention && !batch.dense;
}

}  // namespace

int64_t GpuForward::workspace_bytes(const Config& c, const GpuWeights& w, const Batch& batch, int64_t block) {
  kernels::PagedRows rows{};
  rows.rows = batch.rows;
  rows.max_keys = batch.max_keys;
  rows.decode_rows = batch.runs.empty() ? batch.rows : 0;
  rows.runs = batch.runs;
  int64_t most = 0;
  const auto take = [&](int64_t bytes) { most = std::max(most, bytes); };
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const GpuWeights::Layer& l = w.layers[i];
    std::array<Product, 5> products{
        Product{l.q, nullptr}, {l.k, nullptr}, {l.v, nullptr}, {l.index_k, nullptr}, {l.index_q, nullptr}};
    take(
        kernels::products_workspace_bytes(std::span(products).first(c.layers[i].sparse_attention ? 5 : 3), batch.rows));
    const Product output{l.attn_output, nullptr, Product::Out::add_f32};
    take(kernels::products_workspace_bytes({&output, 1}, batch.rows));
    take(kernels::feed_forward_workspace_bytes(c.layers[i].moe ? expert_ffn(c, l) : dense_ffn(c, l), batch.rows));
    if (c.layers[i].moe) take(kernels::route_rows_workspace_bytes(batch.rows, c.n_experts, c.dim));
    kernels::PagedAttention attend = attention(c, block);
    attend.rows = rows;
    const bool selects = selects_blocks(c, i, batch);
    const int64_t attending = kernels::attention_workspace(attend, selects);
    if (selects) {
      kernels::PagedBlockSelect select = selection(c, block);
      select.rows = rows;
      take(aligned(kernels::block_select_workspace(select)) + attending);
    } else {
      take(attending);
    }
  }
  const Product logits{w.output, nullptr, Product::Out::f32};
  take(kernels::products_workspace_bytes({&logits, 1}, kStreamRows));
  return most;
}

int64_t GpuForward::most_workspace_bytes(const Config& c, const GpuWeights& w, int64_t most_rows, int64_t max_keys,
                                         int64_t block) {
  int64_t most = 0;
  const kernels::PrefillRun run{0, most_rows, max_keys};
  for (const bool dense : {false, true}) {
    Batch step, prompt;
    step.rows = kStreamRows;
    step.max_keys = kernels::cuda::keys_of_step(max_keys, false);
    prompt.rows = prompt.real_rows = most_rows;
    prompt.max_keys = max_keys;
    prompt.runs = {&run, 1};
    step.dense = prompt.dense = dense;
    most = std::max({most, workspace_bytes(c, w, step, block), workspace_bytes(c, w, prompt, block)});
  }
  return most;
}

void GpuForward::queue_begin(const Batch& batch, const Place& at) {
  kernels::cuda::embed_rows({w_.embedding, rows_.device_tokens(), all_.x.as(), batch.rows}, at.stream);
  kernels::cuda::row_angles({rows_.device_pos(), all_.cos_sin.as(), batch.rows, c_.rotary_dim, c_.rope_theta},
                            at.stream);
  mark("embedding");
}

kernels::RmsNormRows GpuForward::norm(const Batch& batch, const float* weights) {
  Stage& s = stage(batch);
  return {s.x.as(), weights, s.h.as<uint16_t>(), batch.rows, c_.dim, c_.norm_eps, rounds(batch)};
}

void GpuForward::queue_norm(const Batch& batch, const float* weights, const Place& at) {
  late_norm_ = weights;
  if (batch.rows > 1) queue_late_norm(batch, at);
}

void GpuForward::queue_late_norm(const Batch& batch, const Place& at) {
  if (late_norm_ == nullptr) return;
  kernels::cuda::rms_norm_rows(norm(batch, std::exchange(late_norm_, nullptr)), at.stream);
  mark("norms");
}

kernels::PagedRows GpuForward::attending(const Batch& batch, const Pages& pages) const {
  const bool is_step = batch.runs.empty();
  kernels::PagedRows rows{};
  rows.seq = batch.are_wanted ? some_.seq.as<int32_t>() : rows_.device_seq();
  rows.pos = batch.are_wanted ? some_.pos.as<int32_t>() : rows_.device_pos();
  rows.pages = pages.table;
  rows.rows = is_step ? batch.rows : batch.real_rows;
  rows.max_pages = pages.max_pages;
  rows.decode_rows = is_step ? batch.rows : 0;
  rows.max_keys = is_step ? batch.max_keys : 0;
  rows.runs = batch.runs;
  return rows;
}

void GpuForward::queue_projections(size_t i, const Batch& batch, const Place& at) {
  const GpuWeights::Layer& l = w_.layers[i];
  Stage& s = all_;
  const bool selects = selects_blocks(c_, i, batch);
  const std::array<Product, 5> products{Product{l.q, s.q.as<void>()},
                                        {l.k, s.k.as<void>()},
                                        {l.v, s.v.as<void>()},
                                        {l.index_k, s.index_k.as<void>()},
                                        {l.index_q, s.index_q.as<void>()}};
  const std::span<const Product> wanted = std::span(products).first(selects ? 5 : 3);
  if (late_norm_ != nullptr)
    kernels::cuda::norm_products(norm(batch, std::exchange(late_norm_, nullptr)), wanted, at.workspace, at.stream);
  else
    kernels::cuda::products(s.h.as<uint16_t>(), batch.rows, wanted, at.workspace, at.stream, rounds(batch));
  if (has_squares(c_, gpus_))
    kernels::cuda::head_squares({.q = {s.q.as<uint16_t>(), c_.n_heads * c_.head_dim},
                                 .k = {s.k.as<uint16_t>(), c_.n_kv_heads * c_.head_dim},
                                 .q_dim = c_.n_heads * c_.head_dim,
                                 .k_dim = c_.n_kv_heads * c_.head_dim,
                                 .part = square_parts(),
                                 .sums = squares(),
                                 .rows = batch.rows},
                                at.stream);
  mark("projections");
}

void GpuForward::queue_store(size_t i, const Batch& batch, const Place& at) {
  are_heads_late_ = stores_late(i, batch, at);
  if (are_heads_late_) return;
  kernels::cuda::store_heads(heads(i, batch, at), at.stream);
  mark("heads");
}

bool GpuForward::stores_late(size_t i, const Batch& batch, const Place& at) {
  return batch.rows == 1 && batch.runs.empty() && !batch.are_wanted && !selects_blocks(c_, i, batch) &&
         kernels::cuda::can_store_and_attend(heads(i, batch, at), attention_of(i, batch, at));
}

kernels::StoreHeads GpuForward::heads(size_t i, const Batch& batch, const Place& at) {
  const GpuWeights::Layer& l = w_.layers[i];
  const Pages& pages = at.pages;
  Stage& s = all_;
  const bool selects = selects_blocks(c_, i, batch);
  kernels::StoreHeads store{};
  store.q = {s.q.as<uint16_t>(), c_.n_heads * c_.head_dim};
  store.k = {s.k.as<uint16_t>(), c_.n_kv_heads * c_.head_dim};
  store.v = {s.v.as<uint16_t>(), c_.n_kv_heads * c_.head_dim};
  if (selects) {
    store.index_q = {s.index_q.as<uint16_t>(), c_.n_index_heads * c_.index_dim};
    store.index_k = {s.index_k.as<uint16_t>(), c_.index_dim};
  }
  store.q_out = s.q_turned.as<uint16_t>();
  store.index_q_out = s.index_q_turned.as<uint16_t>();
  store.q_norm = l.q_norm;
  store.k_norm = l.k_norm;
  store.index_q_norm = l.index_q_norm;
  store.index_k_norm = l.index_k_norm;
  store.cos_sin = s.cos_sin.as();
  store.seq = rows_.device_seq();
  store.pos = rows_.device_pos();
  store.pages = pages.table;
  store.rows = batch.rows;
  store.max_pages = pages.max_pages;
  store.pages_base = pages.first_slot + pages.layer_offsets[i];
  store.page_bytes = pages.page_bytes;
  store.values_offset = pages.values_offset;
  store.index_offset = pages.index_offset;
  store.n_heads = c_.n_heads;
  store.n_kv_heads = c_.n_kv_heads;
  store.head_dim = c_.head_dim;
  store.n_index_heads = c_.n_index_heads;
  store.index_dim = c_.index_dim;
  store.rotary_dim = c_.rotary_dim;
  store.block = pages.block;
  store.eps = c_.norm_eps;
  store.whole_norms = c_.family->whole_qk_norms;
  store.squares = has_squares(c_, gpus_) ? s.squares.as() : nullptr;
  store.gpus = gpus_;
  store.index_e4m3 = pages.index_e4m3;
  return store;
}

kernels::PagedAttention GpuForward::attention_of(size_t i, const Batch& batch, const Place& at) {
  const Pages& pages = at.pages;
  Stage& s = stage(batch);
  kernels::PagedAttention attend = attention(c_, pages.block);
  attend.rows = attending(batch, pages);
  attend.q = s.q_turned.as<uint16_t>();
  attend.keys = pages.first_slot + pages.layer_offsets[i];
  attend.values = attend.keys + pages.values_offset;
  attend.page_bytes = pages.page_bytes;
  attend.o = s.attended.as<uint16_t>();
  attend.workspace = at.workspace;
  return attend;
}

void GpuForward::queue_attention(size_t i, const Batch& batch, const Place& at) {
  const GpuWeights::Layer& l = w_.layers[i];
  const Pages& pages = at.pages;
  Stage& s = stage(batch);
  kernels::PagedAttention attend = attention_of(i, batch, at);
  if (selects_blocks(c_, i, batch)) {
    kernels::PagedBlockSelect select = selection(c_, pages.block);
    select.rows = attend.rows;
    select.q = s.index_q_turned.as<uint16_t>();
    select.index_keys = attend.keys + pages.index_offset;
    select.page_bytes = pages.page_bytes;
    select.format = pages.index_e4m3 ? kernels::IndexFormat::e4m3 : kernels::IndexFormat::bf16;
    select.ids = s.ids.as<int32_t>();
    select.counts = s.counts.as<int32_t>();
    select.workspace = at.workspace;
    attend.ids = select.ids;
    attend.counts = select.counts;
    attend.workspace = at.workspace + aligned(kernels::block_select_workspace(select));
    kernels::cuda::select_and_attend(select, attend, at.stream);
    mark("sparse attention");
  } else {
    attend.rounds =
        is_rounded_for(l.attn_output) && batch.rows > 1 && batch.rows <= kStreamRows && kernels::can_round(attend);
    if (std::exchange(are_heads_late_, false))
      kernels::cuda::store_and_attend(heads(i, batch, at), attend, at.stream);
    else
      kernels::cuda::attention(attend, at.stream);
    mark("dense attention");
  }
  float* const to = sums(batch);
  const Product output = to != nullptr ? Product{l.attn_output, to, Product::Out::add_f32}
                                       : Product{l.attn_output, at.partials, Product::Out::bf16};
  kernels::cuda::products(s.attended.as<uint16_t>(), batch.rows, {&output, 1}, at.workspace, at.stream, attend.rounds);
  mark("attention output");
}

void GpuForward::queue_feed_forward(size_t i, const Batch& batch, const Place& at) {
  const GpuWeights::Layer& l = w_.layers[i];
  Stage& s = stage(batch);
  kernels::FeedForward ffn = c_.layers[i].moe ? expert_ffn(c_, l) : dense_ffn(c_, l);
  if (c_.layers[i].moe) {
    const kernels::RouteRows route{
        s.h.as<uint16_t>(),    l.router,          l.router_bias,         s.expert_ids.as<int32_t>(),
        s.expert_weights.as(), batch.rows,        c_.n_experts,          c_.top_k,
        c_.routed_scale,       c_.family->gating, c_.normalised_weights, rounds_ && batch.rows == 1};
    if (late_norm_ != nullptr)
      kernels::cuda::norm_route_rows(norm(batch, std::exchange(late_norm_, nullptr)), route, at.workspace, at.stream);
    else
      kernels::cuda::route_rows(route, at.workspace, at.stream);
    mark("router");
    ffn.ids = route.ids;
    ffn.weights = route.weights;
  }
  queue_late_norm(batch, at);
  ffn.h = s.h.as<uint16_t>();
  ffn.x = sums(batch);
  ffn.dealt = at.partials;
  ffn.rows = batch.rows;
  ffn.is_rounded = rounds(batch);
  if (i + 1 < w_.layers.size()) {
    const GpuWeights::Layer& next = w_.layers[i + 1];
    ffn.next[0] = next.q, ffn.next[1] = next.k, ffn.next[2] = next.v;
  }
  kernels::cuda::feed_forward(ffn, at.workspace, at.stream);
  mark(c_.layers[i].moe ? "experts" : "dense feed-forward");
}

void GpuForward::queue_logits(const Batch& batch, const Place& at) {
  queue_late_norm(batch, at);
  const Product output{w_.output, logits_.as<void>(), Product::Out::f32};
  kernels::cuda::products(stage(batch).h.as<uint16_t>(), batch.rows, {&output, 1}, at.workspace, at.stream,
                          rounds(batch));
  kernels::cuda::arg_max({logits_.as(), best_.as<Best>(), batch.rows, c_.vocab_size}, at.stream);
  mark("logits");
}

GpuForward::Batch GpuForward::queue_gather(const Batch& batch, int64_t first, int64_t count,
                                           kernels::DealtRows<const void> x, const Place& at) {
  const int32_t* const wanted = rows_.device_wanted() + first;
  const auto gather = [&](kernels::DealtRows<const void> from, auto& to, int64_t bytes) {
    if (bytes > 0) kernels::cuda::gather_rows({from, wanted, to.template as<void>(), count, bytes}, at.stream);
  };
  gather(rows_.device_seq(), some_.seq, 4);  // these first: attention reads them while the kernel before may still run
  gather(rows_.device_pos(), some_.pos, 4);
  gather(x, some_.x, c_.dim * 4);
  gather(all_.q_turned.as<void>(), some_.q_turned, c_.n_heads * c_.head_dim * 2);
  gather(all_.index_q_turned.as<void>(), some_.index_q_turned, c_.n_index_heads * c_.index_dim * 2);
  Batch few;
  few.rows = count;
  few.max_keys = batch.max_keys;
  few.dense = batch.dense;
  few.are_wanted = true;
  return few;
}

}  // namespace corvid::model
