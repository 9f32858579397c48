// The experts of one row in two launches: gate and up; down and the sum. What decoding one sequence does.
#pragma once
#include "kernels/feed_forward/feed_forward.h"

namespace corvid::kernels {

// Whether there are kernels for it: a block of down has all experts of the row.
bool row_fits(const FeedForward& a);

namespace cuda {
// a.rows == 1 and row_fits(a); shared: whether a.shared is one more of the row's experts; m: [slots, ffn]. The bits of
// the other kernels. ids are complete two launches before.
void experts_of_row(const FeedForward& a, bool shared, uint16_t* m, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
