// The blocks with the highest scores, for kernels that choose blocks.
#pragma once
#include <cstdint>

namespace corvid::kernels {

// ids[0..wanted): the first of n scores by (score descending, id ascending), in ascending order. No score is NaN;
// wanted in [0, n].
void top_scores(const float* scores, int64_t n, int64_t wanted, int32_t* ids) noexcept;

}  // namespace corvid::kernels
