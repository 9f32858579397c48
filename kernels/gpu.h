// What a forward pass on a GPU needs besides kernels: memory that both sides see, copies that don't wait, recorded
// passes, times.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/exec.h"

struct CUgraphExec_st;
struct CUevent_st;

namespace corvid::kernels {

namespace cuda {
struct GpuInfo {
  std::string name;
  int64_t free_bytes = 0, total_bytes = 0;
  int multiprocessors = 0;
  int compute = 0;              // 90 for 9.0
  int driver = 0, runtime = 0;  // CUDA's version: 13000 for 13.0
};
GpuInfo gpu_info();  // of the current GPU; throws std::runtime_error without one
// Why this build can't use these GPUs here; nothing when it can.
std::optional<std::string> gpu_obstacle(std::span<const int> gpus);
std::optional<std::string> gpu_obstacle();  // the first

// What allocating on a GPU throws when there is no room: other programs may have taken it meanwhile.
class OutOfMemory : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

int gpu_count() noexcept;  // of this machine, or of those that CUDA_VISIBLE_DEVICES names

// This thread's calls mean this GPU, as long as it lives.
class GpuScope {
 public:
  explicit GpuScope(int gpu);  // throws std::runtime_error without such a one
  ~GpuScope();
  GpuScope(const GpuScope&) = delete;
  GpuScope& operator=(const GpuScope&) = delete;

 private:
  int before_ = 0, gpu_ = 0;
};

// Device to device, done when it returns.
void copy(void* to, const void* from, int64_t bytes, CUstream_st* stream);
void queue_copy(void* to, const void* from, int64_t bytes, CUstream_st* stream);
// Queued on the stream; the host's memory is pinned, and stays as it is until they are done.
void queue_to_device(void* device, const void* pinned, int64_t bytes, CUstream_st* stream);
// The first `bytes` of each of so many lines, `stride` bytes apart on both sides.
void queue_to_device(void* device, const void* pinned, int64_t bytes, int64_t lines, int64_t stride,
                     CUstream_st* stream);
void queue_to_host(void* pinned, const void* device, int64_t bytes, CUstream_st* stream);
void queue_zero(void* device, int64_t bytes, CUstream_st* stream);
}  // namespace cuda

// Memory of the host that the GPU copies from and to without waiting. Movable.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(int64_t bytes);  // throws std::runtime_error when there is no room
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedBuffer();

  template <class T = float>
  T* as() noexcept {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const noexcept { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// What was queued once, to be queued again at the price of one call. Movable.
class Graph {
 public:
  Graph() = default;
  // Records what `queue` queues on the stream instead of running it. Nothing else may use the stream meanwhile, and
  // `queue` must neither wait nor allocate. Throws what it throws.
  Graph(CUstream_st* stream, const std::function<void()>& queue);
  Graph(Graph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)), size_(other.size_) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(graph_, other.graph_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Graph();
  // As the first, for several GPUs: `queue` queues on all the streams, and each gets a recording of its own.
  static std::vector<Graph> record(std::span<const int> gpus, std::span<CUstream_st* const> streams,
                                   const std::function<void()>& queue);

  void launch(CUstream_st* stream) const;
  int64_t size() const { return size_; }  // kernels and copies

 private:
  CUgraphExec_st* graph_ = nullptr;
  int64_t size_ = 0;
};

// A moment in a stream. Movable.
class Event {
 public:
  Event();
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~Event();

  void record(CUstream_st* stream);
  void record_in_graph(CUstream_st* stream);  // while a graph is recorded: the moment when each launch comes by
  // Milliseconds from `begin` to this one; both must have passed.
  double ms_since(const Event& begin) const;

 private:
  CUevent_st* event_ = nullptr;
};

}  // namespace corvid::kernels
