#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/block_select/block_select.h"
#include "kernels/block_select/query8.h"

namespace corvid::kernels {

namespace {
// As it meets the keys.
std::vector<double> query(const BlockSelect& a, const float* q) {
  if (a.format != Format::q8_0) return {q, q + a.dim};
  std::vector<float> rounded(static_cast<size_t>(float_query_size(a.dim)));
  float_query(q, a.dim, rounded.data());
  std::vector<double> out;
  for (int64_t i = 0; i < a.dim; ++i)
    out.push_back(double(rounded[size_t(i)]) * double(rounded[size_t(a.dim + i / kQ8Block)]));
  return out;
}
}  // namespace

void ref::block_select(const BlockSelect& a, int32_t* ids, int32_t* counts, double* scores) {
  const double inf = std::numeric_limits<double>::infinity();
  const int64_t blocks = (a.n_keys + a.block - 1) / a.block;
  std::vector<double> keys;  // [n_keys, dim]
  for (int64_t j = 0; j < a.n_keys; ++j)
    for (int64_t i = 0; i < a.dim; ++i)
      keys.push_back(key_at(a.key_pages[j / a.block], 0, j % a.block, i, a.dim, a.block, a.format));
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t h = 0; h < a.n_heads; ++h) {
      const int64_t at = r * a.n_heads + h, nb = a.pos[r] / a.block + 1;
      double* score = scores + at * blocks;
      const std::vector<double> q = query(a, a.q + at * a.dim);
      std::fill(score, score + blocks, -inf);
      for (int64_t j = 0; j <= a.pos[r]; ++j) {
        const double* key = keys.data() + j * a.dim;
        score[j / a.block] = std::max(score[j / a.block], std::inner_product(q.begin(), q.end(), key, 0.0));
      }
      for (int64_t b = std::max<int64_t>(0, nb - a.local_blocks); b < nb; ++b) score[b] = inf;
      std::vector<int32_t> order(static_cast<size_t>(nb));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t x, int32_t y) { return score[x] > score[y]; });
      order.resize(static_cast<size_t>(std::min(nb, a.top_k)));
      std::sort(order.begin(), order.end());
      counts[at] = static_cast<int32_t>(order.size());
      std::fill(ids + at * a.top_k, ids + (at + 1) * a.top_k, -1);
      std::copy(order.begin(), order.end(), ids + at * a.top_k);
    }
}

}  // namespace corvid::kernels
