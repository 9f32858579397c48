// Scores of blocks for decode rows, where the keys are read once and nothing else matters: index_dim 128, blocks of
// 128.
#pragma once
#include "kernels/block_select/paged.h"

struct CUstream_st;

namespace corvid::kernels::cuda {

bool can_scan(const PagedBlockSelect& a);

// Of the decode rows: scores of all blocks that choosing needs (not of local blocks, nor of rows that choose all they
// see) into the workspace, laid out as scores.h says. Lets the kernel behind begin early.
void scan_blocks(const PagedBlockSelect& a, CUstream_st* stream);

// The same for `rows` rows of a run, from `row` on, which see less than max_keys keys; scores from the workspace's
// start.
void scan_run(const PagedBlockSelect& a, int64_t row, int64_t rows, int64_t max_keys, CUstream_st* stream);

}  // namespace corvid::kernels::cuda
