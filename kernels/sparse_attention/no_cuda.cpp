#include <stdexcept>

#include "kernels/sparse_attention/paged.h"

namespace corvid::kernels::cuda {
namespace {
[[noreturn]] void absent() {
  throw std::runtime_error("attention: this build of corvid has no CUDA (configure with -DCORVID_CUDA=ON)");
}
}  // namespace

void attention(const PagedAttention&, CUstream_st*) { absent(); }
void select_and_attend(const PagedBlockSelect&, const PagedAttention&, CUstream_st*) { absent(); }
bool can_store_and_attend(const StoreHeads&, const PagedAttention&) { absent(); }
void store_and_attend(const StoreHeads&, const PagedAttention&, CUstream_st*) { absent(); }

}  // namespace corvid::kernels::cuda
