#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/block_select/top_scores.h"
#include "kernels/check.h"
#include "kernels/page_select/page_select.h"

#define CORVID_BODY "kernels/page_select/cpu.inc"
#include "kernels/simd/for_each_tier.h"

namespace corvid::kernels {
namespace {

void check(const PageSelect& a) {
  require(a.rows >= 0 && a.n_kv_heads >= 1 && a.n_heads >= 1 && a.head_dim >= 1 && a.block >= 1,
          "page_select: want rows >= 0 and n_heads, n_kv_heads, head_dim, block >= 1, found ", a.rows, ", ", a.n_heads,
          ", ", a.n_kv_heads, ", ", a.head_dim, ", ", a.block);
  require(a.n_heads % a.n_kv_heads == 0, "page_select: want n_heads a multiple of n_kv_heads ", a.n_kv_heads,
          ", found ", a.n_heads);
  require(a.top_k >= kLocalPages + 1, "page_select: want top_k >= ", kLocalPages + 1, ", found ", a.top_k);
  for (int64_t r = 0; r < a.rows; ++r)
    require(a.pos[r] >= 0 && a.pos[r] < a.n_keys, "page_select: want positions below n_keys ", a.n_keys, ", found ",
            a.pos[r]);
}

// The functions of one tier.
struct Tier {
  void (*split_queries)(const float*, int64_t, int64_t, float*, float*) noexcept;
  float (*bound_score)(const float*, const float*, const float*, const float*, int64_t) noexcept;
};

// scratch: two lines of padded(head_dim) floats, and a score for each block.
void choose(const PageSelect& a, int64_t row, int64_t g, const Tier& tier, float* scratch) {
  const int64_t nb = a.pos[row] / a.block + 1, count = std::min(nb, a.top_k), list = row * a.n_kv_heads + g;
  int32_t* ids = a.ids + list * a.top_k;
  a.counts[list] = static_cast<int32_t>(count);
  std::fill(ids + count, ids + a.top_k, -1);
  if (nb <= a.top_k) return std::iota(ids, ids + count, 0);
  const int64_t width = padded(a.head_dim), group = a.n_heads / a.n_kv_heads, free_slots = a.top_k - 1 - kLocalPages;
  float *above = scratch, *below = scratch + width, *scores = scratch + 2 * width;
  tier.split_queries(a.q + (row * a.n_heads + g * group) * a.head_dim, group, a.head_dim, above, below);
  const int64_t end = nb - kLocalPages;  // blocks [1, end) compete
  for (int64_t b = 1; b < end; ++b) {
    const float* low = a.bounds[b] + g * 2 * width;
    scores[b - 1] = tier.bound_score(above, below, low, low + width, width);
  }
  ids[0] = 0;
  top_scores(scores, end - 1, free_slots, ids + 1);
  for (int64_t i = 1; i <= free_slots; ++i) ++ids[i];
  std::iota(ids + 1 + free_slots, ids + a.top_k, static_cast<int32_t>(end));
}

}  // namespace

void page_select(std::span<const PageSelect> all, Exec& exec) {
  require_cpu(exec, "page_select");
  const Isa isa = exec.isa();
  const Tier tier{CORVID_PICK(isa, split_queries), CORVID_PICK(isa, bound_score)};
  struct List {
    const PageSelect* a;
    int64_t row;
  };
  std::vector<List> rows;
  int64_t floats = 0;
  for (const PageSelect& a : all) {
    check(a);
    for (int64_t r = 0; r < a.rows; ++r) {
      rows.push_back({&a, r});
      floats = std::max(floats, 2 * padded(a.head_dim) + a.pos[r] / a.block + 1);
    }
  }
  const auto scratch = exec.pool().scratch(floats);
  exec.pool().run(std::ssize(rows), [&](int64_t task, int worker) {
    const auto& [a, row] = rows[static_cast<size_t>(task)];
    for (int64_t g = 0; g < a->n_kv_heads; ++g) choose(*a, row, g, tier, scratch[worker]);
  });
}

void key_bounds(std::span<const KeyBounds> all, Exec& exec) {
  require_cpu(exec, "key_bounds");
  const Isa isa = exec.isa();
  const auto bound = CORVID_PICK(isa, bound_keys);
  struct Page {
    const KeyBounds* a;
    int64_t block;
  };
  std::vector<Page> pages;
  for (const KeyBounds& a : all) {
    require(is_page_format(a.format), "key_bounds: want keys in f32, f16, bf16 or q8_0, found ", format_name(a.format));
    for (int64_t b = a.first; b < a.end; ++b) pages.push_back({&a, b});
  }
  exec.pool().run(std::ssize(pages), [&](int64_t task, int) {
    const auto& [a, b] = pages[static_cast<size_t>(task)];
    const int64_t width = padded(a->head_dim);
    std::fill_n(a->bounds[b], a->n_kv_heads * 2 * width, 0.0F);
    for (int64_t g = 0; g < a->n_kv_heads; ++g) {
      float* low = a->bounds[b] + g * 2 * width;
      bound(a->key_pages[b].head(g), a->format, a->head_dim, a->block, low, low + width);
    }
  });
}

}  // namespace corvid::kernels
