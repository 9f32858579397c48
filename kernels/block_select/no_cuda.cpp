#include <stdexcept>

#include "kernels/block_select/paged.h"

void corvid::kernels::cuda::block_select(const PagedBlockSelect&, CUstream_st*) {
  throw std::runtime_error("block_select: this build of corvid has no CUDA (configure with -DCORVID_CUDA=ON)");
}
