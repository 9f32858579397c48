// store_heads() and dense attention of one decode row in one launch.
#pragma once
#include "kernels/sparse_attention/paged.h"

namespace corvid::kernels::cuda {

// can_store_and_attend(heads, a); heads.q_out is left as it is.
void attend_row(const StoreHeads& heads, const PagedAttention& a, CUstream_st* stream);

}  // namespace corvid::kernels::cuda
