#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/sparse_attention/sparse_attention.h"

namespace corvid::kernels {

void ref::sparse_attention(const SparseAttention& a, double* o) {
  const int64_t group = a.n_heads / a.n_kv_heads, dim = a.head_dim;
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t g = 0; g < a.n_kv_heads; ++g) {
      const int64_t list = r * a.n_kv_heads + g;
      std::vector<double> keys, values;  // [keys, dim]
      for (int64_t j = 0; j <= a.pos[r]; ++j) {
        const int32_t* ids = a.ids == nullptr ? nullptr : a.ids + list * a.top_k;
        if (ids != nullptr && std::count(ids, ids + a.counts[list], j / a.block) == 0) continue;
        const PageHeads &key_page = a.key_pages[j / a.block], &value_page = a.value_pages[j / a.block];
        for (int64_t i = 0; i < dim; ++i) {
          keys.push_back(key_at(key_page, g, j % a.block, i, dim, a.block, a.format));
          values.push_back(value_at(value_page, g, j % a.block, i, dim, a.block, a.format));
        }
      }
      for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        const float* q = a.q + (r * a.n_heads + h) * dim;
        std::vector<double> s;
        for (size_t key = 0; key < keys.size(); key += static_cast<size_t>(dim))
          s.push_back(std::inner_product(q, q + dim, keys.data() + key, 0.0) * a.scale);
        const double most = *std::max_element(s.begin(), s.end());
        double total = 0;
        for (double& x : s) total += x = std::exp(x - most);
        double* out = o + (r * a.n_heads + h) * dim;
        std::fill(out, out + dim, 0.0);
        for (size_t n = 0; n < s.size(); ++n)
          for (int64_t i = 0; i < dim; ++i) out[i] += s[n] / total * values[n * static_cast<size_t>(dim) + size_t(i)];
      }
    }
}

}  // namespace corvid::kernels
