#include "kernels/no_cuda.h"

#include "kernels/store_heads/store_heads.h"

namespace corvid::kernels {

void cuda::store_heads(const StoreHeads&, CUstream_st*) { no_cuda(); }
void cuda::head_squares(const HeadSquares&, CUstream_st*) { no_cuda(); }
void cuda::row_angles(const RowAngles&, CUstream_st*) { no_cuda(); }
void cuda::gather_rows(const GatherRows&, CUstream_st*) { no_cuda(); }
void cuda::make_up(const MadeUp&, CUstream_st*) { no_cuda(); }

}  // namespace corvid::kernels
