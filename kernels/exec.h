// Where kernels run: a device, its threads or stream, and memory on it.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "kernels/isa.h"

struct CUstream_st;  // cudaStream_t without CUDA's headers

namespace corvid::kernels {

enum class Device : uint8_t { cpu, cuda };

// From this size on memory lies in large pages, where the system has them to give: memory that streams by in pages of
// 4 KiB is read at two thirds of the speed, as each is looked up, and prefetched, anew.
constexpr int64_t kLargePage = int64_t{2} << 20;
// Asks for large pages for the whole ones of [data, data + bytes). No promise, and never an error.
void prefer_large_pages(void* data, int64_t bytes) noexcept;

// Owning memory on one device, aligned to 64 bytes on the CPU (kLargePage bytes and more to kLargePage), contents not
// initialised. Movable.
class Buffer {
 public:
  Buffer() = default;
  // Throws std::invalid_argument when bytes < 0, std::bad_alloc (or std::runtime_error on a GPU) when there is no room.
  explicit Buffer(int64_t bytes, Device device = Device::cpu);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  template <class T = float>
  T* as() noexcept {
    return static_cast<T*>(data_);
  }
  template <class T = float>
  const T* as() const noexcept {
    return static_cast<const T*>(data_);
  }
  int64_t bytes() const noexcept { return bytes_; }
  Device device() const noexcept { return device_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  Device device_ = Device::cpu;
};

// Threads that run the tasks of one kernel at a time; the caller is one of them. They spin for a moment between
// kernels, then sleep. run() is for one thread at a time, and not from inside a task.
//
// Each thread has a share of neighbouring tasks, in order, and helps others, a task at a time, when it is done with its
// own. Tasks that lie side by side in memory then pass by a core in one stream: when two threads took them in turns,
// their prefetchers fetched the beginning of each other's next task as well, a third of all that was read.
class Pool {
 public:
  explicit Pool(int threads);  // 0: one per core that this process may use; throws std::invalid_argument when < 0
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const noexcept { return static_cast<int>(shares_.size()); }

  // Calls fn(task, worker) once for each task in [0, n), worker in [0, threads()), and returns when all are done. Who
  // runs what depends on the moment, so a task must own what it writes: then results depend on neither threads nor
  // luck. A thread that runs a task mostly runs the next one after it. fn must not throw.
  template <class Fn>
  void run(int64_t n, Fn&& fn) {
    if (n == 1 || (n > 1 && workers_.empty())) {
      for (int64_t task = 0; task < n; ++task) fn(task, 0);
    } else if (n > 1) {
      using F = std::remove_reference_t<Fn>;
      run_tasks(
          n, [](void* f, int64_t task, int worker) { (*static_cast<F*>(f))(task, worker); },
          const_cast<void*>(static_cast<const void*>(&fn)));
    }
  }

  // Memory for one kernel's own use, 64-byte aligned, not initialised, kept for the next call: shared by all tasks, or
  // one piece per worker. Valid until the next call of the same function; call before run(). Throws std::bad_alloc.
  template <class T = float>
  T* workspace(int64_t count) {
    return static_cast<T*>(grow(workspace_, count, sizeof(T)));
  }
  template <class T = float>
  class Scratch {
   public:
    Scratch(T* data, int64_t stride) : data_(data), stride_(stride) {}
    T* operator[](int worker) const { return data_ + stride_ * worker; }

   private:
    T* data_;
    int64_t stride_;
  };
  template <class T = float>
  Scratch<T> scratch(int64_t count) {
    const int64_t stride = (count + 63) / 64 * 64;
    return {static_cast<T*>(grow(scratch_, stride * threads(), sizeof(T))), stride};
  }

 private:
  using Call = void (*)(void*, int64_t, int);
  // A share of the tasks: run number in the upper half, the next task in the lower. An odd run number means that the
  // fields of a run are being written.
  struct alignas(64) Share {
    std::atomic<uint64_t> ticket{0};
  };
  int64_t n_shares(int64_t n) const { return std::min<int64_t>(n, threads()); }
  int64_t first_of(int64_t share, int64_t n) const { return share * n / n_shares(n); }
  void run_tasks(int64_t n, Call call, void* fn);
  void take_part(int worker);                             // returns when no task is waiting
  bool run_one(uint64_t run, int64_t share, int worker);  // false: no task of the share is waiting, in this run
  void work(int worker);
  static void* grow(Buffer& buffer, int64_t count, size_t size);

  std::vector<Share> shares_;  // one for each thread; complete before the first of them begins
  std::vector<std::thread> workers_;
  Buffer workspace_, scratch_;

  // The fields of a run.
  alignas(64) std::atomic<int64_t> n_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> fn_{nullptr};
  alignas(64) std::atomic<int> signal_{0};  // changes when there is work, or an end
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<int> done_{0};
};

// What a forward pass runs on. One forward pass at a time; on a GPU calls return before the work is done.
class Exec {
 public:
  explicit Exec(int threads = 0);  // the CPU, fastest tier (best_isa); 0: one thread per core
  Exec(int threads, Isa isa);      // the CPU, this tier; throws std::runtime_error when the machine lacks it
  explicit Exec(Device device);    // cuda: the current GPU; throws std::runtime_error without one
  ~Exec();
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;

  Device device() const noexcept { return device_; }
  Isa isa() const noexcept { return isa_; }
  Pool& pool() noexcept { return pool_; }
  CUstream_st* stream() const noexcept { return stream_; }
  void wait();  // until everything is done; throws std::runtime_error for an error of the GPU's

 private:
  Device device_ = Device::cpu;
  Isa isa_ = Isa::scalar;
  Pool pool_;
  CUstream_st* stream_ = nullptr;
};

// Throws std::invalid_argument unless the Exec is the CPU: for kernels that have no CUDA version yet.
void require_cpu(const Exec& exec, const char* kernel);

namespace cuda {
bool available() noexcept;  // this build has CUDA, and this machine a GPU
void* allocate(int64_t bytes);
void deallocate(void* data) noexcept;
CUstream_st* create_stream();
void destroy_stream(CUstream_st* stream) noexcept;
void wait(CUstream_st* stream);
// Blocking copies between host and device, after everything queued on the stream.
void to_device(void* device, const void* host, int64_t bytes, CUstream_st* stream);
void to_host(void* host, const void* device, int64_t bytes, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
