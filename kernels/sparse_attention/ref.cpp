#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/sparse_attention/sparse_attention.h"

namespace corvid::kernels {

void ref::sparse_attention(const SparseAttention& a, double* o) {
  const int64_t group = a.n_heads / a.n_kv_heads;
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t h = 0; h < a.n_heads; ++h) {
      const int64_t g = h / group, list = r * a.n_kv_heads + g;
      const float* q = a.q + (r * a.n_heads + h) * a.head_dim;
      std::vector<int64_t> keys;
      for (int64_t j = 0; j <= a.pos[r]; ++j) {
        const int32_t* ids = a.ids == nullptr ? nullptr : a.ids + list * a.top_k;
        if (ids == nullptr || std::count(ids, ids + a.counts[list], j / a.block) > 0) keys.push_back(j);
      }
      std::vector<double> s;
      for (const int64_t j : keys) {
        double sum = 0;
        for (int64_t i = 0; i < a.head_dim; ++i)
          sum += double(q[i]) * key_at(a.key_pages[j / a.block], g, j % a.block, i, a.head_dim, a.block);
        s.push_back(sum * a.scale);
      }
      const double most = *std::max_element(s.begin(), s.end());
      double total = 0;
      for (double& x : s) total += x = std::exp(x - most);
      double* out = o + (r * a.n_heads + h) * a.head_dim;
      std::fill(out, out + a.head_dim, 0.0);
      for (size_t n = 0; n < keys.size(); ++n)
        for (int64_t i = 0; i < a.head_dim; ++i)
          out[i] +=
              s[n] / total * value_at(a.value_pages[keys[n] / a.block], g, keys[n] % a.block, i, a.head_dim, a.block);
    }
}

}  // namespace corvid::kernels
