#include "kernels/no_cuda.h"

#include "kernels/route/route_rows.h"

namespace corvid::kernels {

int64_t route_rows_workspace_bytes(int64_t, int64_t, int64_t) { no_cuda(); }
void cuda::route_rows(const RouteRows&, void*, CUstream_st*) { no_cuda(); }
void cuda::norm_route_rows(const RmsNormRows&, const RouteRows&, void*, CUstream_st*) { no_cuda(); }

}  // namespace corvid::kernels
