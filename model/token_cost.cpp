#include "model/token_cost.h"

#include <algorithm>
#include <cmath>

#include "kernels/kv_pages/kv_pages.h"
#include "model/index_weights.h"

namespace corvid::model {
namespace {

// Positions that the token at `pos` attends to in a layer that selects blocks.
int64_t selected_positions(const Config& c, int64_t pos) {
  return std::min(pos + 1, (c.top_blocks - 1) * c.block + pos % c.block + 1);
}

}  // namespace

TokenCost token_cost(const Config& c, const Weights& w, int64_t first, int64_t count, int64_t batch, bool dense,
                     CacheFormat cache_format) {
  TokenCost cost;
  const auto whole = static_cast<double>(batch);
  const auto add = [&](double& bytes, const kernels::Matrix& matrix, int64_t rows, int64_t columns, double read_share,
                       double used_share) {
    bytes += static_cast<double>(rows * kernels::row_bytes(matrix.format, columns)) * read_share / whole;
    cost.multiply_adds += static_cast<double>(rows * columns) * used_share;
  };
  const auto all = [&](const kernels::Matrix& matrix, int64_t rows, int64_t columns) {
    add(cost.weight_bytes, matrix, rows, columns, 1, 1);
  };
  for (int64_t i = 0; i < c.n_layers(); ++i) {
    const Weights::Layer& l = w.layers[static_cast<size_t>(i)];
    const Config::Layer& kind = c.layers[static_cast<size_t>(i)];
    all(l.q, c.n_heads * c.head_dim, c.dim);
    all(l.k, c.n_kv_heads * c.head_dim, c.dim);
    all(l.v, c.n_kv_heads * c.head_dim, c.dim);
    all(l.attn_output, c.dim, c.n_heads * c.head_dim);
    const bool sparse = kind.sparse_attention && !dense;
    const auto index_matrix = [&](kernels::Matrix m) {
      m.format = index_matrix_format(m.format, cache_format.index, c.dim);
      return m;
    };
    if (sparse) all(index_matrix(l.index_k), c.index_dim, c.dim);
    double attended = 0, scanned = 0, selecting = 0;  // positions of all tokens; tokens that have blocks to choose from
    for (int64_t pos = first; pos < first + count; ++pos) {
      const bool selects = sparse && pos / c.block + 1 > c.top_blocks;
      attended += static_cast<double>(selects ? selected_positions(c, pos) : pos + 1);
      scanned += static_cast<double>(selects ? pos + 1 : 0);
      selecting += selects;
    }
    attended /= static_cast<double>(count);
    scanned /= static_cast<double>(count);
    if (selecting > 0) {
      const double share = selecting / static_cast<double>(count);
      add(cost.weight_bytes, index_matrix(l.index_q), c.n_index_heads * c.index_dim, c.dim, share, share);
    }
    const auto head_bytes = [](kernels::Format format, int64_t dim) {
      return dim * kernels::element_bytes(format) + kernels::scale_groups(format, dim) * int64_t{sizeof(uint16_t)};
    };
    cost.kv_bytes += attended * static_cast<double>(2 * c.n_kv_heads * head_bytes(cache_format.kv, c.head_dim));
    cost.index_bytes +=
        scanned *
        static_cast<double>(cache_format.e4m3_index ? c.index_dim : head_bytes(cache_format.index, c.index_dim));
    cost.multiply_adds += attended * static_cast<double>(2 * c.n_heads * c.head_dim) +
                          scanned * static_cast<double>(c.n_index_heads * c.index_dim);
    if (!kind.moe) {
      all(l.gate, c.dense_ffn, c.dim);
      all(l.up, c.dense_ffn, c.dim);
      all(l.down, c.dim, c.dense_ffn);
      continue;
    }
    all(l.router, c.n_experts, c.dim);
    const double used = static_cast<double>(c.top_k) / static_cast<double>(c.n_experts);
    const double read = 1 - std::pow(1 - used, whole);  // of all experts, that at least one token of the batch takes
    add(cost.expert_bytes, l.expert_gate, c.n_experts * c.expert_ffn, c.dim, read, used);
    add(cost.expert_bytes, l.expert_up, c.n_experts * c.expert_ffn, c.dim, read, used);
    add(cost.expert_bytes, l.expert_down, c.n_experts * c.dim, c.expert_ffn, read, used);
    if (c.shared_ffn == 0) continue;
    all(l.shared_gate, c.shared_ffn, c.dim);
    all(l.shared_up, c.shared_ffn, c.dim);
    all(l.shared_down, c.dim, c.shared_ffn);
  }
  add(cost.output_bytes, w.output, c.vocab_size, c.dim, 1, 1);
  return cost;
}

}  // namespace corvid::model
