#include "kernels/block_select/paged.h"

#include "kernels/block_select/scores.h"

namespace corvid::kernels {

int64_t block_select_workspace(const PagedBlockSelect& a) {
  int64_t floats = a.rows.decode_rows * a.n_heads * score_stride(a.rows.max_keys, a.block);
  for (const PrefillRun& run : a.rows.runs)
    floats = std::max(floats, score_rows(run, a.n_heads, a.block) * a.n_heads * score_stride(run.max_keys, a.block));
  return floats * 4;
}

}  // namespace corvid::kernels
