// The cuda:: functions of a build without CUDA: they throw, so nothing else needs an #ifdef.
#include <stdexcept>

#include "kernels/exec.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/route/route.h"

namespace corvid::kernels::cuda {
namespace {
[[noreturn]] void absent() {
  throw std::runtime_error("this build of corvid has no CUDA (configure with -DCORVID_CUDA=ON)");
}
}  // namespace

bool available() noexcept { return false; }
void* allocate(int64_t) { absent(); }
void deallocate(void*) noexcept {}
CUstream_st* create_stream() { absent(); }
void destroy_stream(CUstream_st*) noexcept {}
void wait(CUstream_st*) { absent(); }
void to_device(void*, const void*, int64_t, CUstream_st*) { absent(); }
void to_host(void*, const void*, int64_t, CUstream_st*) { absent(); }

void rms_norm(const RmsNorm&, CUstream_st*) { absent(); }
void rope_angles(const RopeAngles&, CUstream_st*) { absent(); }
void rope(const Rope&, CUstream_st*) { absent(); }
void route(const Route&, CUstream_st*) { absent(); }
void matmul(const Matmul&, CUstream_st*) { absent(); }

}  // namespace corvid::kernels::cuda
