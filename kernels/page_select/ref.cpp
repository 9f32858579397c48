#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/page_select/page_select.h"

namespace corvid::kernels {

void ref::page_select(const PageSelect& a, int32_t* ids, int32_t* counts, double* scores) {
  const double inf = std::numeric_limits<double>::infinity();
  const int64_t blocks = (a.n_keys + a.block - 1) / a.block, width = padded(a.head_dim);
  const int64_t group = a.n_heads / a.n_kv_heads;
  for (int64_t list = 0; list < a.rows * a.n_kv_heads; ++list) {
    const int64_t row = list / a.n_kv_heads, g = list % a.n_kv_heads, nb = a.pos[row] / a.block + 1;
    double* score = scores + list * blocks;
    std::fill(score, score + blocks, -inf);
    for (int64_t b = 0; b < nb; ++b) {
      if (b == 0 || b >= nb - kLocalPages) {
        score[b] = inf;
        continue;
      }
      const float* low = a.bounds[b] + g * 2 * width;
      score[b] = 0;
      for (int64_t h = g * group; h < (g + 1) * group; ++h)
        for (int64_t i = 0; i < a.head_dim; ++i) {
          const double q = a.q[(row * a.n_heads + h) * a.head_dim + i];
          score[b] += std::max(q * low[i], q * low[width + i]);
        }
    }
    std::vector<int32_t> order(static_cast<size_t>(nb));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t x, int32_t y) { return score[x] > score[y]; });
    order.resize(static_cast<size_t>(std::min(nb, a.top_k)));
    std::sort(order.begin(), order.end());
    counts[list] = static_cast<int32_t>(order.size());
    std::fill(ids + list * a.top_k, ids + (list + 1) * a.top_k, -1);
    std::copy(order.begin(), order.end(), ids + list * a.top_k);
  }
}

}  // namespace corvid::kernels
