// Attention of decode rows on the tensor cores: what can_decode() in spans.h says.
#pragma once
#include "kernels/sparse_attention/paged.h"

namespace corvid::kernels::cuda {

// Of the decode rows. With `select`, whose scores scan_blocks() has left in its workspace, chooses the blocks too, and
// writes select's ids and counts.
void decode_attention(const PagedAttention& a, const PagedBlockSelect* select, CUstream_st* stream);

}  // namespace corvid::kernels::cuda
