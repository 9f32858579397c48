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

std::optional<std::string> cuda::gpu_obstacle(std::span<const int> gpus) {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess) return std::string("no GPU was found: ") + cudaGetErrorString(found);
  if (devices == 0) return "no GPU was found";
  for (const int gpu : gpus) {
    if (gpu >= devices) return "want " + std::to_string(gpus.size()) + " GPUs, found " + std::to_string(devices);
    try {
      const GpuScope on(gpu);
      const GpuInfo info = gpu_info();
      if (info.compute == 90) continue;
      return "want a GPU of compute capability 9.0, found " + info.name + " of " + std::to_string(info.compute / 10) +
             "." + std::to_string(info.compute % 10);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  }
  return std::nullopt;
}

std::optional<std::string> cuda::gpu_obstacle() {
  constexpr int kFirst = 0;
  return gpu_obstacle({&kFirst, 1});
}

int cuda::gpu_count() noexcept {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

cuda::GpuScope::GpuScope(int gpu) : gpu_(gpu) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  if (gpu_ != before_) check(cudaSetDevice(gpu_), "cudaSetDevice");
}
cuda::GpuScope::~GpuScope() {
  if (gpu_ != before_) cudaSetDevice(before_);
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

void cuda::queue_to_device(void* device, const void* pinned, int64_t bytes, int64_t lines, int64_t stride,
                           CUstream_st* stream) {
  const auto apart = static_cast<size_t>(stride);
  check(cudaMemcpy2DAsync(device, apart, pinned, apart, static_cast<size_t>(bytes), static_cast<size_t>(lines),
                          cudaMemcpyHostToDevice, stream),
        "copy to the GPU");
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
  int gpu = 0;
  check(cudaGetDevice(&gpu), "cudaGetDevice");
  *this = std::move(record({&gpu, 1}, {&stream, 1}, queue).front());
}

std::vector<Graph> Graph::record(std::span<const int> gpus, std::span<CUstream_st* const> streams,
                                 const std::function<void()>& queue) {
  std::vector<cudaGraph_t> recorded;
  size_t begun = 0;
  const auto end_all = [&] {  // the first error of them
    cudaError_t first = cudaSuccess;
    for (size_t i = 0; i < begun; ++i) {
      const cuda::GpuScope on(gpus[i]);
      cudaGraph_t graph = nullptr;
      const cudaError_t status = cudaStreamEndCapture(streams[i], &graph);
      if (first == cudaSuccess) first = status;
      if (graph != nullptr) recorded.push_back(graph);
    }
    return first;
  };
  const auto forget_all = [&] {
    for (const cudaGraph_t graph : recorded) cudaGraphDestroy(graph);
  };
  try {
    for (; begun < streams.size(); ++begun) {
      const cuda::GpuScope on(gpus[begun]);
      check(cudaStreamBeginCapture(streams[begun], cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    }
    queue();
  } catch (...) {
    end_all();
    forget_all();
    throw;
  }
  cudaError_t status = end_all();
  std::vector<Graph> graphs(recorded.size());
  for (size_t i = 0; i < recorded.size() && status == cudaSuccess; ++i) {
    const cuda::GpuScope on(gpus[i]);
    size_t nodes = 0;
    status = cudaGraphGetNodes(recorded[i], nullptr, &nodes);
    graphs[i].size_ = static_cast<int64_t>(nodes);
    if (status == cudaSuccess) status = cudaGraphInstantiate(&graphs[i].graph_, recorded[i], 0);
  }
  forget_all();
  check(status, "recording for a GPU");
  return graphs;
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
