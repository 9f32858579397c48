// Pinned memory, recorded passes and times.
#include "kernels/cuda_check.h"
#include "kernels/gpu.h"

namespace corvid::kernels {

using cuda::check;

cuda::GpuInfo cuda::gpu_info() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  GpuInfo info{properties.name, static_cast<int64_t>(free), static_cast<int64_t>(total), properties.multiProcessorCount,
               properties.major * 10 + properties.minor};
  check(cudaDriverGetVersion(&info.driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&info.runtime), "cudaRuntimeGetVersion");
  return info;
}

std::optional<std::string> cuda::gpu_obstacle() {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess) return std::string("no GPU was found: ") + cudaGetErrorString(found);
  if (devices == 0) return "no GPU was found";
  try {
    const GpuInfo info = gpu_info();
    if (info.compute == 90) return std::nullopt;
    return "want a GPU of compute capability 9.0, found " + info.name + " of " + std::to_string(info.compute / 10) +
           "." + std::to_string(info.compute % 10);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

void cuda::queue_copy(void* to, const void* from, int64_t bytes, CUstream_st* stream) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream), "copy on the GPU");
}

void cuda::copy(void* to, const void* from, int64_t bytes, CUstream_st* stream) {
  queue_copy(to, from, bytes, stream);
  wait(stream);
}

void cuda::queue_to_device(void* device, const void* pinned, int64_t bytes, CUstream_st* stream) {
  check(cudaMemcpyAsync(device, pinned, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream), "copy to the GPU");
}

void cuda::queue_to_host(void* pinned, const void* device, int64_t bytes, CUstream_st* stream) {
  check(cudaMemcpyAsync(pinned, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream),
        "copy from the GPU");
}

void cuda::queue_zero(void* device, int64_t bytes, CUstream_st* stream) {
  check(cudaMemsetAsync(device, 0, static_cast<size_t>(bytes), stream), "cudaMemset");
}

PinnedBuffer::PinnedBuffer(int64_t bytes) : bytes_(bytes) {
  if (bytes > 0) check(cudaMallocHost(&data_, static_cast<size_t>(bytes)), "cudaMallocHost");
}
PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

Graph::Graph(CUstream_st* stream, const std::function<void()>& queue) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  try {
    queue();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  const cudaError_t made = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(made, "cudaGraphInstantiate");
}
Graph::~Graph() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
}

void Graph::launch(CUstream_st* stream) const { check(cudaGraphLaunch(graph_, stream), "cudaGraphLaunch"); }

Event::Event() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

void Event::record(CUstream_st* stream) { check(cudaEventRecord(event_, stream), "cudaEventRecord"); }

void Event::record_in_graph(CUstream_st* stream) {
  check(cudaEventRecordWithFlags(event_, stream, cudaEventRecordExternal), "cudaEventRecord");
}

double Event::ms_since(const Event& begin) const {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, begin.event_, event_), "cudaEventElapsedTime");
  return ms;
}

}  // namespace corvid::kernels
