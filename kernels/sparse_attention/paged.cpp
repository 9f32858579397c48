#include "kernels/sparse_attention/paged.h"

#include "kernels/sparse_attention/runs.h"
#include "kernels/sparse_attention/spans.h"

namespace corvid::kernels {

bool can_round(const PagedAttention& a) { return can_decode(a) && a.ids == nullptr && a.rows.runs.empty(); }

int64_t attention_workspace(const PagedAttention& a, bool is_sparse) {
  const auto of_spans = [&](int64_t rows, int64_t max_keys) {
    return is_sparse || !can_decode(a) ? 0
                                       : rows * a.n_heads * most_spans(max_keys, a.n_kv_heads) * (a.head_dim + 2) * 4;
  };
  int64_t bytes = of_spans(a.rows.decode_rows, a.rows.max_keys);
  for (const PrefillRun& run : a.rows.runs) {
    if (is_sparse && can_share_blocks(a))
      bytes = std::max(bytes, Shares(a, std::min(run.rows, kShareRows), run.max_keys).end);
    else if (!can_flash(a))
      bytes = std::max(bytes, of_spans(std::min(run.rows, kDecodeRows), run.max_keys));
  }
  return bytes;
}

}  // namespace corvid::kernels
