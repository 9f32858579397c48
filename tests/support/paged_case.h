// Sequences in the GPU's pages, and the same ones in the CPU's for the float64 references.
#pragma once
#include <cmath>
#include <cstring>
#include <memory>

#include "kernels/block_select/paged.h"
#include "kernels/sparse_attention/paged.h"
#include "tests/support/pages.h"
#include "tests/support/weights.h"

namespace corvid::test {

struct PagedShape {
  int64_t n_heads, n_kv_heads, head_dim, n_index_heads, index_dim, block, top_k;
  int64_t local_blocks = 1;
  kernels::IndexFormat format = kernels::IndexFormat::bf16;
};

// One sequence as the references read it: pages of bf16.
struct HostSequence {
  int64_t n_keys;
  Pages pages, index;
};

// What rows chose and attended to.
struct PagedResult {
  std::vector<int32_t> ids, counts;
  std::vector<uint16_t> o;
  bool operator==(const PagedResult&) const = default;
};

// Rows of a batch over sequences of the given lengths. Slots that are never stored hold huge numbers, and a page
// table's entries behind the end lead out of the pool.
struct PagedCase {
  PagedShape shape;
  std::vector<std::shared_ptr<HostSequence>> sequences;
  std::vector<int32_t> seq, pos, pages;
  std::vector<kernels::PrefillRun> runs;
  int64_t decode_rows, max_pages = 0, max_keys = 1, page_bytes = 0, value_offset = 0, index_offset = 0;
  std::vector<std::byte> pool;
  std::vector<uint16_t> q, index_q;

  PagedCase(const PagedShape& shape_, const std::vector<int64_t>& lengths, std::vector<int32_t> seq_,
            std::vector<int32_t> pos_, std::vector<kernels::PrefillRun> runs_, uint32_t seed = 1)
      : shape(shape_), seq(std::move(seq_)), pos(std::move(pos_)), runs(std::move(runs_)) {
    decode_rows = static_cast<int64_t>(seq.size());
    for (const kernels::PrefillRun& run : runs) decode_rows -= run.rows;
    kernels::Exec exec(2);
    int64_t slots = 0;
    for (const int64_t n : lengths) {
      max_pages = std::max(max_pages, (n + shape.block - 1) / shape.block);
      slots += (n + shape.block - 1) / shape.block;
    }
    for (int64_t r = 0; r < decode_rows; ++r) max_keys = std::max<int64_t>(max_keys, pos[size_t(r)] + 1);
    const int64_t head_bytes = shape.block * shape.head_dim * 2;
    const auto aligned = [](int64_t bytes) { return (bytes + 127) / 128 * 128; };
    value_offset = aligned(shape.n_kv_heads * head_bytes);
    index_offset = 2 * value_offset;
    page_bytes = index_offset + aligned(shape.block * shape.index_dim * 2);
    pool.assign(static_cast<size_t>(slots * page_bytes), std::byte{0x7f});  // 3.4e38 in bf16, NaN in e4m3
    pages.assign(lengths.size() * static_cast<size_t>(max_pages), 1 << 30);
    std::vector<int32_t> order(static_cast<size_t>(slots));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 bits(seed);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[bits() % i]);
    size_t next = 0;
    for (size_t s = 0; s < lengths.size(); ++s) {
      const int64_t n = lengths[s];
      sequences.push_back(std::make_shared<HostSequence>(HostSequence{
          n,
          Pages(n, shape.n_kv_heads, shape.head_dim, shape.block, seed + 10 * uint32_t(s), exec, kernels::Format::bf16),
          Pages(n, 1, shape.index_dim, shape.block, seed + 10 * uint32_t(s) + 5, exec, kernels::Format::bf16)}));
      HostSequence& host = *sequences.back();
      if (shape.format == kernels::IndexFormat::e4m3) {
        for (float& value : host.index.key_rows) value = kernels::f8_e4m3_to_f32(to_e4m3(value));
        std::vector<int64_t> all(static_cast<size_t>(n));
        std::iota(all.begin(), all.end(), 0);
        store_keys({host.index.key_rows.data(), all.data(), host.index.keys.data(), n, 1, shape.index_dim, shape.block,
                    kernels::Format::bf16},
                   exec);
      }
      for (int64_t b = 0; b * shape.block < n; ++b) pages[s * size_t(max_pages) + size_t(b)] = order[next++];
      for (int64_t j = 0; j < n; ++j) store(s, j);
    }
    for (const float value : random_floats(int64_t(seq.size()) * shape.n_heads * shape.head_dim, seed + 7))
      q.push_back(kernels::f32_to_bf16(value));
    for (const float value : random_floats(int64_t(seq.size()) * shape.n_index_heads * shape.index_dim, seed + 8))
      index_q.push_back(kernels::f32_to_bf16(value));
  }

  std::byte* slot(size_t s, int64_t j) {
    return pool.data() + pages[s * size_t(max_pages) + size_t(j / shape.block)] * page_bytes;
  }
  void store_index_key(size_t s, int64_t j) {
    std::byte* page = slot(s, j) + index_offset;
    for (int64_t i = 0; i < shape.index_dim; ++i) {
      const float value = sequences[s]->index.key_rows[size_t(j * shape.index_dim + i)];
      const int64_t at = j % shape.block * shape.index_dim + i;
      if (shape.format == kernels::IndexFormat::e4m3) {
        page[at] = std::byte{to_e4m3(value)};
      } else {
        reinterpret_cast<uint16_t*>(page)[at] = kernels::f32_to_bf16(value);
      }
    }
  }
  void store(size_t s, int64_t j) {
    const HostSequence& host = *sequences[s];
    for (int64_t g = 0; g < shape.n_kv_heads; ++g)
      for (int64_t i = 0; i < shape.head_dim; ++i) {
        const auto from = size_t((j * shape.n_kv_heads + g) * shape.head_dim + i);
        const int64_t to = (g * shape.block + j % shape.block) * shape.head_dim + i;
        reinterpret_cast<uint16_t*>(slot(s, j))[to] = kernels::f32_to_bf16(host.pages.key_rows[from]);
        reinterpret_cast<uint16_t*>(slot(s, j) + value_offset)[to] = kernels::f32_to_bf16(host.pages.value_rows[from]);
      }
    store_index_key(s, j);
  }

  int64_t rows() const { return static_cast<int64_t>(seq.size()); }

  // What rows with these queries choose, of pages at `base`, and attend to; all in device memory, without workspaces.
  kernels::PagedBlockSelect select(const kernels::PagedRows& of, const uint16_t* queries, const std::byte* base,
                                   int32_t* ids, int32_t* counts) const {
    const PagedShape& s = shape;
    return {of,      queries, base + index_offset, page_bytes, ids, counts, s.n_index_heads, s.index_dim,
            s.block, s.top_k, s.local_blocks,      s.format};
  }
  kernels::PagedAttention attend(const kernels::PagedRows& of, const uint16_t* queries, const std::byte* base,
                                 const int32_t* ids, const int32_t* counts, uint16_t* o) const {
    const PagedShape& s = shape;
    const float scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
    return {of, queries,   base,         base + value_offset, page_bytes, ids,     counts,
            o,  s.n_heads, s.n_kv_heads, s.head_dim,          s.block,    s.top_k, scale};
  }

  std::vector<float> floats(const std::vector<uint16_t>& bf16, int64_t row, int64_t width) const {
    std::vector<float> out;
    for (int64_t i = row * width; i < (row + 1) * width; ++i) out.push_back(kernels::bf16_to_f32(bf16[size_t(i)]));
    return out;
  }
};

}  // namespace corvid::test
