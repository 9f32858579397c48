// float32 -> ggml's block formats. What a block means is fixed (block_weights.h); how its scales are chosen is ours.
//   Shapes   values: [blocks * the block's size]; row: `blocks` blocks. NaN counts as the lowest number that a block
//            can hold. A block whose scale is beyond float16's range decodes to infinities and NaN, as with ggml.
//   Numbers  q8_0, q4_0 and mxfp4 as ggml's reference chooses them; q4_k, q5_k and q6_k by least squares.
#pragma once
#include "kernels/blocks.h"

namespace corvid::kernels {

void quantize(const float* values, int64_t blocks, BlockQ8* row);
void quantize(const float* values, int64_t blocks, BlockQ4* row);
void quantize(const float* values, int64_t blocks, BlockMxfp4* row);
void quantize(const float* values, int64_t blocks, BlockQ4K* row);
void quantize(const float* values, int64_t blocks, BlockQ5K* row);
void quantize(const float* values, int64_t blocks, BlockQ6K* row);

}  // namespace corvid::kernels
