#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/block_select/block_select.h"
#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/kv_pages/kv_pages.h"
#include "kernels/matmul/matmul.h"
#include "kernels/page_select/page_select.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/route/route.h"
#include "kernels/sparse_attention/sparse_attention.h"

namespace corvid::model {
namespace {

using kernels::Buffer;
using kernels::Matmul;
using kernels::Matrix;

Buffer floats(int64_t rows, int64_t columns) { return Buffer(rows * columns * int64_t{sizeof(float)}); }

// A token's row of the embedding as float32. `stored` has room for it as it lies in the file.
void embed(const Weights& w, Token token, int64_t columns, std::span<std::byte> stored, float* out) {
  const std::byte* row = static_cast<const std::byte*>(w.embedding.data) + token * std::ssize(stored);
  if (w.read_embedding && w.read_embedding(row, stored)) row = stored.data();
  kernels::decode_row(w.embedding.format, row, columns, out);
}

// From one choice of blocks per index head to one per key-value head, when several of these share an index head:
// [rows, n_index_heads, width] -> [rows, n_kv_heads, width], in place, from the end.
void spread(std::vector<int32_t>& values, int64_t rows, int64_t n_index_heads, int64_t n_kv_heads, int64_t width) {
  const int64_t share = n_kv_heads / n_index_heads;
  if (share == 1) return;
  for (int64_t to = rows * n_kv_heads - 1; to >= 0; --to) {
    std::memmove(values.data() + to * width, values.data() + to / share * width,
                 static_cast<size_t>(width) * sizeof(int32_t));
  }
}

// Where a segment's rows lie in the batch.
struct Rows {
  int64_t first, count;
  int64_t n_keys;  // positions in the cache when the pass is done
  bool selects;    // chooses blocks; when it sees no more than top_blocks, dense attention is the same
};

// Moves the wanted rows, ascending, to the front.
template <class T>
void keep_rows(std::span<const int64_t> wanted, int64_t columns, T* data) {
  for (int64_t i = 0; i < std::ssize(wanted); ++i) {
    const T* from = data + wanted[static_cast<size_t>(i)] * columns;
    if (from != data + i * columns) std::copy(from, from + columns, data + i * columns);
  }
}

}  // namespace

Activations::Activations(const Config& c, int64_t n_rows)
    : rows(n_rows),
      x(floats(rows, c.dim)),
      h(floats(rows, c.dim)),
      q(floats(rows, c.n_heads * c.head_dim)),
      attended(floats(rows, c.n_heads * c.head_dim)),
      k(floats(rows, c.n_kv_heads * c.head_dim)),
      v(floats(rows, c.n_kv_heads * c.head_dim)),
      index_q(floats(rows, c.n_index_heads * c.index_dim)),
      index_k(floats(rows, c.index_dim)),
      cos_sin(floats(rows, c.rotary_dim)),
      router(floats(rows, c.n_experts)),
      expert_ids(rows * c.top_k * int64_t{sizeof(int32_t)}),
      expert_weights(floats(rows, c.top_k)),
      pos(static_cast<size_t>(rows)) {}

void forward(const Config& c, const Weights& w, std::span<const Segment> batch, Activations& a, kernels::Exec& exec,
             const IndexWeights& index) {
  float *x = a.x.as(), *h = a.h.as(), *q = a.q.as(), *k = a.k.as(), *v = a.v.as(), *attended = a.attended.as();
  float *index_q = a.index_q.as(), *index_k = a.index_k.as();
  const float attention_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  const kernels::Activation activation{c.family->activation, c.swiglu_alpha, c.swiglu_limit};
  // Vectors that q and k are normalised as, per row: one over all heads, or one for each head.
  const int64_t q_norms = c.family->whole_qk_norms ? 1 : c.n_heads;
  const int64_t k_norms = c.family->whole_qk_norms ? 1 : c.n_kv_heads;

  int64_t rows = 0;
  const int64_t top_blocks = c.has_sparse_attention() ? c.top_blocks : kTopPages;  // that a row attends to
  bool any_indexed = false, any_selects = false;
  std::vector<Rows> place;      // by segment
  std::vector<int64_t> wanted;  // rows
  std::vector<std::byte> stored(static_cast<size_t>(kernels::row_bytes(w.embedding.format, c.dim)));
  for (const Segment& segment : batch) {
    const int64_t count = std::ssize(segment.tokens), n_keys = segment.first + count;
    const bool indexed = c.has_sparse_attention() && !segment.dense;
    const bool by_bounds = segment.cache->has_bounds() && !segment.dense;
    const bool selects = (indexed || by_bounds) && n_keys > top_blocks * segment.cache->block();
    any_indexed |= indexed;
    any_selects |= selects;
    place.push_back({rows, count, n_keys, selects});
    for (const int64_t i : segment.wanted) wanted.push_back(rows + i);
    for (int64_t i = 0; i < count; ++i, ++rows) {
      a.pos[static_cast<size_t>(rows)] = segment.first + i;
      embed(w, segment.tokens[static_cast<size_t>(i)], c.dim, stored, x + rows * c.dim);
    }
  }
  const int64_t* pos = a.pos.data();
  kernels::rope_angles({pos, a.cos_sin.as(), rows, c.rotary_dim, c.rope_theta}, exec);
  if (any_selects) {
    a.block_ids.resize(static_cast<size_t>(rows * c.n_kv_heads * top_blocks));
    a.block_counts.resize(static_cast<size_t>(rows * c.n_kv_heads));
  }

  std::vector<kernels::StoreRows> stores;
  std::vector<kernels::KeyBounds> completed;
  std::vector<kernels::BlockSelect> choices;
  std::vector<kernels::PageSelect> page_choices;
  std::vector<kernels::SparseAttention> attentions;
  for (int64_t i = 0; i < c.n_layers(); ++i) {
    const auto held = w.layer(i);
    const Weights::Layer& l = *held;
    const bool sparse = c.layers[static_cast<size_t>(i)].sparse_attention;
    const bool indexed = sparse && any_indexed, selects = sparse && any_selects;
    const bool bounded = !c.has_sparse_attention();  // some segments may choose by bounds

    // Attention
    kernels::rms_norm({x, l.attn_norm, h, rows, c.dim, c.norm_eps}, exec);  // h [rows, dim]
    const Matmul projections[] = {
        {h, l.q, q, rows, c.n_heads * c.head_dim, c.dim},       // q [rows, n_heads, head_dim]
        {h, l.k, k, rows, c.n_kv_heads * c.head_dim, c.dim},    // k [rows, n_kv_heads, head_dim]
        {h, l.v, v, rows, c.n_kv_heads * c.head_dim, c.dim},    // v [rows, n_kv_heads, head_dim]
        {h, index.k(i, l), index_k, rows, c.index_dim, c.dim},  // index_k [rows, index_dim]
        {h, index.q(i, l), index_q, rows, c.n_index_heads * c.index_dim, c.dim}};
    kernels::matmul(std::span(projections).first(selects ? 5 : indexed ? 4 : 3), exec);
    kernels::rms_norm({q, l.q_norm, q, rows * q_norms, c.n_heads / q_norms * c.head_dim, c.norm_eps}, exec);
    kernels::rms_norm({k, l.k_norm, k, rows * k_norms, c.n_kv_heads / k_norms * c.head_dim, c.norm_eps}, exec);
    kernels::rope({q, a.cos_sin.as(), rows, c.n_heads, c.head_dim, c.rotary_dim}, exec);
    kernels::rope({k, a.cos_sin.as(), rows, c.n_kv_heads, c.head_dim, c.rotary_dim}, exec);
    if (indexed) {
      kernels::rms_norm({index_k, l.index_k_norm, index_k, rows, c.index_dim, c.norm_eps}, exec);
      kernels::rope({index_k, a.cos_sin.as(), rows, 1, c.index_dim, c.rotary_dim}, exec);
    }
    if (selects) {
      kernels::rms_norm({index_q, l.index_q_norm, index_q, rows * c.n_index_heads, c.index_dim, c.norm_eps}, exec);
      kernels::rope({index_q, a.cos_sin.as(), rows, c.n_index_heads, c.index_dim, c.rotary_dim}, exec);
    }
    stores.clear();
    for (size_t s = 0; s < batch.size(); ++s) {
      const KvCache& cache = *batch[s].cache;
      const KvCache::Layer& kv = cache.layer(i);
      const auto& [at, count, n_keys, _] = place[s];
      const int64_t width = c.n_kv_heads * c.head_dim;
      stores.push_back({k + at * width, pos + at, kv.keys.data(), count, c.n_kv_heads, c.head_dim, cache.block(),
                        cache.format(), false});
      stores.push_back({v + at * width, pos + at, kv.values.data(), count, c.n_kv_heads, c.head_dim, cache.block(),
                        cache.format(), true});
      if (!indexed || batch[s].dense) continue;
      stores.push_back({index_k + at * c.index_dim, pos + at, kv.index_keys.data(), count, 1, c.index_dim,
                        cache.block(), cache.index_format()});
    }
    kernels::store_rows(stores, exec);
    completed.clear();
    for (size_t s = 0; s < batch.size(); ++s) {
      const KvCache& cache = *batch[s].cache;
      const KvCache::Layer& kv = cache.layer(i);
      if (!cache.has_bounds()) continue;
      completed.push_back({kv.keys.data(), kv.bounds.data(), batch[s].first / cache.block(),
                           place[s].n_keys / cache.block(), c.n_kv_heads, c.head_dim, cache.block(), cache.format()});
    }
    kernels::key_bounds(completed, exec);
    if (i + 1 == c.n_layers()) {
      // The caches are complete: from here on only the rows whose logits are wanted matter.
      if (wanted.empty()) return;
      keep_rows(wanted, c.dim, x);
      keep_rows(wanted, c.n_heads * c.head_dim, q);
      if (selects) keep_rows(wanted, c.n_index_heads * c.index_dim, index_q);
      keep_rows(wanted, 1, a.pos.data());
      rows = 0;
      for (size_t s = 0; s < batch.size(); ++s) {
        place[s].first = rows;
        place[s].count = std::ssize(batch[s].wanted);
        rows += place[s].count;
      }
    }
    if (selects) {
      choices.clear();
      for (size_t s = 0; s < batch.size(); ++s) {
        const auto& [at, count, n_keys, is_selecting] = place[s];
        if (!is_selecting) continue;
        const KvCache& cache = *batch[s].cache;
        choices.push_back({index_q + at * c.n_index_heads * c.index_dim, cache.layer(i).index_keys.data(), pos + at,
                           a.block_ids.data() + at * c.n_index_heads * c.top_blocks,
                           a.block_counts.data() + at * c.n_index_heads, count, c.n_index_heads, c.index_dim,
                           cache.block(), n_keys, c.top_blocks, c.local_blocks, cache.index_format()});
      }
      kernels::block_select(choices, exec);  // ids [rows, n_index_heads, top_blocks], counts [rows, n_index_heads]
      spread(a.block_ids, rows, c.n_index_heads, c.n_kv_heads, c.top_blocks);
      spread(a.block_counts, rows, c.n_index_heads, c.n_kv_heads, 1);
    }
    if (bounded && any_selects) {
      page_choices.clear();
      for (size_t s = 0; s < batch.size(); ++s) {
        const auto& [at, count, n_keys, is_selecting] = place[s];
        if (!is_selecting) continue;
        const KvCache& cache = *batch[s].cache;
        page_choices.push_back({q + at * c.n_heads * c.head_dim, cache.layer(i).bounds.data(), pos + at,
                                a.block_ids.data() + at * c.n_kv_heads * top_blocks,
                                a.block_counts.data() + at * c.n_kv_heads, count, c.n_heads, c.n_kv_heads, c.head_dim,
                                cache.block(), n_keys, top_blocks});
      }
      kernels::page_select(page_choices, exec);  // ids [rows, n_kv_heads, top_blocks], counts [rows, n_kv_heads]
    }
    attentions.clear();
    for (size_t s = 0; s < batch.size(); ++s) {
      const auto& [at, count, n_keys, is_selecting] = place[s];
      const KvCache& cache = *batch[s].cache;
      const KvCache::Layer& kv = cache.layer(i);
      const bool chosen = (sparse || bounded) && is_selecting;
      const int64_t width = c.n_heads * c.head_dim;
      attentions.push_back({q + at * width, kv.keys.data(), kv.values.data(), pos + at,
                            chosen ? a.block_ids.data() + at * c.n_kv_heads * top_blocks : nullptr,
                            chosen ? a.block_counts.data() + at * c.n_kv_heads : nullptr, attended + at * width, count,
                            c.n_heads, c.n_kv_heads, c.head_dim, cache.block(), n_keys, chosen ? top_blocks : 0,
                            attention_scale, cache.format()});
    }
    kernels::sparse_attention(attentions, exec);  // attended [rows, n_heads, head_dim]
    kernels::matmul({attended, l.attn_output, x, rows, c.dim, c.n_heads * c.head_dim, true}, exec);  // x += ...

    // Feed-forward
    kernels::rms_norm({x, l.ffn_norm, h, rows, c.dim, c.norm_eps}, exec);  // h [rows, dim]
    if (!c.layers[static_cast<size_t>(i)].moe) {
      kernels::expert_ffn(
          {h, l.gate, l.up, l.down, nullptr, nullptr, x, rows, c.dim, c.dense_ffn, 1, 1, activation, true},
          exec);  // x += ...
      continue;
    }
    kernels::matmul({h, l.router, a.router.as(), rows, c.n_experts, c.dim}, exec);  // router [rows, n_experts]
    kernels::route({a.router.as(), l.router_bias, a.expert_ids.as<int32_t>(), a.expert_weights.as(), rows, c.n_experts,
                    c.top_k, c.routed_scale, c.family->gating, c.normalised_weights},
                   exec);  // ids, weights [rows, top_k]
    const kernels::ExpertFfn experts[] = {
        {h, l.expert_gate, l.expert_up, l.expert_down, a.expert_ids.as<int32_t>(), a.expert_weights.as(), x, rows,
         c.dim, c.expert_ffn, c.n_experts, c.top_k, activation, true},
        {h, l.shared_gate, l.shared_up, l.shared_down, nullptr, nullptr, x, rows, c.dim, c.shared_ffn, 1, 1, activation,
         true}};
    kernels::expert_ffn(std::span(experts).first(c.shared_ffn == 0 ? 1 : 2), exec);  // x += ...
  }

  const auto end = w.end();
  kernels::rms_norm({x, end->norm, h, rows, c.dim, c.norm_eps}, exec);
  const auto who_wants = [](const Segment& segment) { return !segment.wanted.empty(); };
  if (const auto only = std::ranges::find_if(batch, who_wants); std::ssize(only->wanted) == rows) {
    kernels::matmul({h, end->output, only->logits, rows, c.vocab_size, c.dim}, exec);  // logits [wanted, vocab]
    return;
  }
  a.logits.resize(static_cast<size_t>(rows * c.vocab_size));
  kernels::matmul({h, end->output, a.logits.data(), rows, c.vocab_size, c.dim}, exec);  // logits [rows, vocab]
  for (size_t s = 0; s < batch.size(); ++s)
    std::copy_n(a.logits.data() + place[s].first * c.vocab_size, place[s].count * c.vocab_size, batch[s].logits);
}

}  // namespace corvid::model
