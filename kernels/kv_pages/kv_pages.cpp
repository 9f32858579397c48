#include "kernels/kv_pages/kv_pages.h"

#include <algorithm>

#include "kernels/check.h"

namespace corvid::kernels {
namespace {

void check(const StoreRows& a, const Exec& exec) {
  require_cpu(exec, "kv_pages");
  require(a.n >= 0 && a.n_heads >= 1 && a.dim >= 1 && a.block >= 1,
          "kv_pages: want n >= 0 and n_heads, dim, block >= 1, found ", a.n, ", ", a.n_heads, ", ", a.dim, ", ",
          a.block);
  for (int64_t r = 0; r < a.n; ++r) {
    require(a.pos[r] >= 0, "kv_pages: want positions >= 0, found ", a.pos[r]);
    require(a.pages[a.pos[r] / a.block] != nullptr, "kv_pages: no page for position ", a.pos[r]);
  }
}

}  // namespace

void store_keys(const StoreRows& a, Exec& exec) {
  check(a, exec);
  const int64_t width = a.n_heads * a.dim, stride = padded(a.block);
  // A task is some of the page's lines (one head, one dim), so that two threads share no cache line; rows run inside,
  // because neighbouring positions are neighbours in a line.
  const int64_t per_task = std::max<int64_t>(16, 16384 / std::max<int64_t>(1, a.n));
  exec.pool().run((width + per_task - 1) / per_task, [&](int64_t task, int) {
    const int64_t end = std::min(width, (task + 1) * per_task);
    constexpr int64_t kRows = 64;  // so that the rows read stay in the cache
    for (int64_t first = 0; first < a.n; first += kRows)
      for (int64_t line = task * per_task; line < end; ++line)
        for (int64_t r = first; r < std::min(a.n, first + kRows); ++r)
          a.pages[a.pos[r] / a.block][line * stride + a.pos[r] % a.block] = a.rows[r * width + line];
  });
}

void store_values(const StoreRows& a, Exec& exec) {
  check(a, exec);
  const int64_t per_task = std::max<int64_t>(1, 16384 / (a.n_heads * a.dim));
  exec.pool().run((a.n + per_task - 1) / per_task, [&](int64_t task, int) {
    for (int64_t r = task * per_task; r < std::min(a.n, (task + 1) * per_task); ++r)
      for (int64_t h = 0; h < a.n_heads; ++h)
        std::copy_n(a.rows + (r * a.n_heads + h) * a.dim, a.dim,
                    a.pages[a.pos[r] / a.block] + (h * a.block + a.pos[r] % a.block) * padded(a.dim));
  });
}

void clear_unused_keys(float* page, int64_t n_heads, int64_t dim, int64_t block, int64_t used) {
  for (int64_t line = 0; line < n_heads * dim; ++line)
    std::fill(page + line * padded(block) + used, page + (line + 1) * padded(block), 0.0f);
}

void clear_unused_values(float* page, int64_t n_heads, int64_t dim, int64_t block, int64_t used) {
  for (int64_t h = 0; h < n_heads; ++h)
    for (int64_t slot = 0; slot < block; ++slot) {
      float* row = page + (h * block + slot) * padded(dim);
      std::fill(row + (slot < used ? dim : 0), row + padded(dim), 0.0f);
    }
}

}  // namespace corvid::kernels
