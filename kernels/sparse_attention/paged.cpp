#include "kernels/sparse_attention/paged.h"

namespace corvid::kernels {

int64_t attention_workspace(const PagedAttention&, bool) { return 0; }

}  // namespace corvid::kernels
