// The cuda:: functions of a build without CUDA: they throw, so nothing else needs an #ifdef.
#include "kernels/no_cuda.h"

#include "kernels/exec.h"
#include "kernels/gpu.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/route/route.h"

namespace corvid::kernels::cuda {

bool available() noexcept { return false; }
void* allocate(int64_t) { no_cuda(); }
void deallocate(void*) noexcept {}
CUstream_st* create_stream() { no_cuda(); }
void destroy_stream(CUstream_st*) noexcept {}
void wait(CUstream_st*) { no_cuda(); }
void to_device(void*, const void*, int64_t, CUstream_st*) { no_cuda(); }
void to_host(void*, const void*, int64_t, CUstream_st*) { no_cuda(); }

void rms_norm(const RmsNorm&, CUstream_st*) { no_cuda(); }
void rope_angles(const RopeAngles&, CUstream_st*) { no_cuda(); }
void rope(const Rope&, CUstream_st*) { no_cuda(); }
void route(const Route&, CUstream_st*) { no_cuda(); }
void matmul(const Matmul&, CUstream_st*) { no_cuda(); }

GpuInfo gpu_info() { no_cuda(); }
std::optional<std::string> gpu_obstacle(std::span<const int>) { return gpu_obstacle(); }
std::optional<std::string> gpu_obstacle() { return "this build of corvid has no CUDA"; }
int gpu_count() noexcept { return 0; }
GpuScope::GpuScope(int) { no_cuda(); }
GpuScope::~GpuScope() = default;
void copy(void*, const void*, int64_t, CUstream_st*) { no_cuda(); }
void queue_copy(void*, const void*, int64_t, CUstream_st*) { no_cuda(); }
void queue_to_device(void*, const void*, int64_t, CUstream_st*) { no_cuda(); }
void queue_to_device(void*, const void*, int64_t, int64_t, int64_t, CUstream_st*) { no_cuda(); }
void queue_to_host(void*, const void*, int64_t, CUstream_st*) { no_cuda(); }
void queue_zero(void*, int64_t, CUstream_st*) { no_cuda(); }

}  // namespace corvid::kernels::cuda

namespace corvid::kernels {

PinnedBuffer::PinnedBuffer(int64_t) { no_cuda(); }
PinnedBuffer::~PinnedBuffer() = default;
Graph::Graph(CUstream_st*, const std::function<void()>&) { no_cuda(); }
Graph::~Graph() = default;
std::vector<Graph> Graph::record(std::span<const int>, std::span<CUstream_st* const>, const std::function<void()>&) {
  no_cuda();
}
void Graph::launch(CUstream_st*) const { no_cuda(); }
Event::Event() { no_cuda(); }
Event::~Event() = default;
void Event::record(CUstream_st*) { no_cuda(); }
void Event::record_in_graph(CUstream_st*) { no_cuda(); }
double Event::ms_since(const Event&) const { no_cuda(); }

}  // namespace corvid::kernels
