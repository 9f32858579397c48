#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/block_select/block_select.h"
#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/kv_pages/kv_pages.h"
#include "kernels/matmul/matmul.h"
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

// Row `row` of a matrix as float32.
void decode_row_of(const Matrix& matrix, int64_t row, int64_t columns, float* out) {
  const int64_t bytes = kernels::row_bytes(matrix.format, columns);
  kernels::decode_row(matrix.format, static_cast<const std::byte*>(matrix.data) + row * bytes, columns, out);
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

void forward(const Config& c, const Weights& w, const Pass& pass, KvCache& cache, Activations& a, kernels::Exec& exec) {
  auto rows = static_cast<int64_t>(pass.tokens.size());
  const int64_t n_keys = pass.first + rows;
  const int64_t n_blocks = (n_keys + cache.block() - 1) / cache.block();
  float *x = a.x.as(), *h = a.h.as(), *q = a.q.as(), *k = a.k.as(), *v = a.v.as(), *attended = a.attended.as();
  float *index_q = a.index_q.as(), *index_k = a.index_k.as();
  const float attention_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  const kernels::Activation activation{c.family->activation, c.swiglu_alpha, c.swiglu_limit};
  // Vectors that q and k are normalised as, per row: one over all heads, or one for each head.
  const int64_t q_norms = c.family->whole_qk_norms ? 1 : c.n_heads;
  const int64_t k_norms = c.family->whole_qk_norms ? 1 : c.n_kv_heads;

  for (int64_t r = 0; r < rows; ++r) {
    a.pos[static_cast<size_t>(r)] = pass.first + r;
    decode_row_of(w.embedding, pass.tokens[static_cast<size_t>(r)], c.dim, x + r * c.dim);
  }
  const int64_t* pos = a.pos.data();
  kernels::rope_angles({pos, a.cos_sin.as(), rows, c.rotary_dim, c.rope_theta}, exec);

  // Up to top_blocks blocks every one is chosen: then the scores are not needed, and dense attention is the same.
  const bool select = !pass.dense && c.has_sparse_attention() && n_blocks > c.top_blocks;
  const int64_t chosen = std::min(c.top_blocks, n_blocks);  // slots per row and head
  if (select) {
    a.block_ids.resize(static_cast<size_t>(rows * c.n_kv_heads * chosen));
    a.block_counts.resize(static_cast<size_t>(rows * c.n_kv_heads));
  }

  for (int64_t i = 0; i < c.n_layers(); ++i) {
    const Weights::Layer& l = w.layers[static_cast<size_t>(i)];
    const KvCache::Layer& kv = cache.layer(i);
    const bool indexed = c.layers[static_cast<size_t>(i)].sparse_attention && !pass.dense;
    const bool selects = indexed && select;

    // Attention
    kernels::rms_norm({x, l.attn_norm, h, rows, c.dim, c.norm_eps}, exec);  // h [rows, dim]
    const Matmul projections[] = {
        {h, l.q, q, rows, c.n_heads * c.head_dim, c.dim},     // q [rows, n_heads, head_dim]
        {h, l.k, k, rows, c.n_kv_heads * c.head_dim, c.dim},  // k [rows, n_kv_heads, head_dim]
        {h, l.v, v, rows, c.n_kv_heads * c.head_dim, c.dim},  // v [rows, n_kv_heads, head_dim]
        {h, l.index_k, index_k, rows, c.index_dim, c.dim},    // index_k [rows, index_dim]
        {h, l.index_q, index_q, rows, c.n_index_heads * c.index_dim, c.dim}};
    kernels::matmul(std::span(projections).first(selects ? 5 : indexed ? 4 : 3), exec);
    kernels::rms_norm({q, l.q_norm, q, rows * q_norms, c.n_heads / q_norms * c.head_dim, c.norm_eps}, exec);
    kernels::rms_norm({k, l.k_norm, k, rows * k_norms, c.n_kv_heads / k_norms * c.head_dim, c.norm_eps}, exec);
    kernels::rope({q, a.cos_sin.as(), rows, c.n_heads, c.head_dim, c.rotary_dim}, exec);
    kernels::rope({k, a.cos_sin.as(), rows, c.n_kv_heads, c.head_dim, c.rotary_dim}, exec);
    kernels::store_keys({k, pos, kv.keys.data(), rows, c.n_kv_heads, c.head_dim, cache.block()}, exec);
    kernels::store_values({v, pos, kv.values.data(), rows, c.n_kv_heads, c.head_dim, cache.block()}, exec);
    if (indexed) {
      kernels::rms_norm({index_k, l.index_k_norm, index_k, rows, c.index_dim, c.norm_eps}, exec);
      kernels::rope({index_k, a.cos_sin.as(), rows, 1, c.index_dim, c.rotary_dim}, exec);
      kernels::store_keys({index_k, pos, kv.index_keys.data(), rows, 1, c.index_dim, cache.block()}, exec);
    }
    if (selects) {
      kernels::rms_norm({index_q, l.index_q_norm, index_q, rows * c.n_index_heads, c.index_dim, c.norm_eps}, exec);
      kernels::rope({index_q, a.cos_sin.as(), rows, c.n_index_heads, c.index_dim, c.rotary_dim}, exec);
    }
    if (i + 1 == c.n_layers()) {
      // The cache is complete: from here on only the rows whose logits are wanted matter.
      if (pass.wanted.empty()) return;
      keep_rows(pass.wanted, c.dim, x);
      keep_rows(pass.wanted, c.n_heads * c.head_dim, q);
      if (selects) keep_rows(pass.wanted, c.n_index_heads * c.index_dim, index_q);
      keep_rows(pass.wanted, 1, a.pos.data());
      rows = std::ssize(pass.wanted);
    }
    if (selects) {
      kernels::block_select({index_q, kv.index_keys.data(), pos, a.block_ids.data(), a.block_counts.data(), rows,
                             c.n_index_heads, c.index_dim, cache.block(), n_keys, chosen, c.local_blocks},
                            exec);  // ids [rows, n_index_heads, chosen], counts [rows, n_index_heads]
      spread(a.block_ids, rows, c.n_index_heads, c.n_kv_heads, chosen);
      spread(a.block_counts, rows, c.n_index_heads, c.n_kv_heads, 1);
    }
    kernels::sparse_attention({q, kv.keys.data(), kv.values.data(), pos, selects ? a.block_ids.data() : nullptr,
                               selects ? a.block_counts.data() : nullptr, attended, rows, c.n_heads, c.n_kv_heads,
                               c.head_dim, cache.block(), n_keys, selects ? chosen : 0, attention_scale},
                              exec);  // attended [rows, n_heads, head_dim]
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
    kernels::expert_ffn({h, l.expert_gate, l.expert_up, l.expert_down, a.expert_ids.as<int32_t>(),
                         a.expert_weights.as(), x, rows, c.dim, c.expert_ffn, c.n_experts, c.top_k, activation, true},
                        exec);  // x += ...
    if (c.shared_ffn == 0) continue;
    kernels::expert_ffn({h, l.shared_gate, l.shared_up, l.shared_down, nullptr, nullptr, x, rows, c.dim, c.shared_ffn,
                         1, 1, activation, true},
                        exec);  // x += ...
  }

  kernels::rms_norm({x, w.output_norm, h, rows, c.dim, c.norm_eps}, exec);
  kernels::matmul({h, w.output, pass.logits, rows, c.vocab_size, c.dim}, exec);  // logits [wanted, vocab]
}

}  // namespace corvid::model
