#include "kernels/exec.h"

#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <utility>
#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/check.h"

namespace corvid::kernels {
namespace {

constexpr int kSpins = 1000;  // about 50 us of pauses: longer than the gap between two kernels of a forward pass

std::align_val_t alignment(int64_t bytes) { return std::align_val_t(bytes < kLargePage ? 64 : kLargePage); }

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

int cores() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int checked_threads(int threads) {
  require(threads >= 0 && threads <= 4096, "threads: want 0 (all cores) to 4096, found ", threads);
  return threads == 0 ? cores() : threads;
}

Isa checked(Isa isa) {
  const std::vector<Isa> found = available_isas();
  if (std::find(found.begin(), found.end(), isa) == found.end())
    throw std::runtime_error(std::string("this machine cannot run the tier ") + isa_name(isa));
  return isa;
}

}  // namespace

void prefer_large_pages([[maybe_unused]] void* data, [[maybe_unused]] int64_t bytes) noexcept {
#if defined(__linux__)
  const auto begin = reinterpret_cast<uintptr_t>(data), size = static_cast<uintptr_t>(kLargePage);
  const uintptr_t first = (begin + size - 1) / size * size, end = (begin + static_cast<uintptr_t>(bytes)) / size * size;
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#endif
}

Buffer::Buffer(int64_t bytes, Device device) : bytes_(bytes), device_(device) {
  require(bytes >= 0, "Buffer: want bytes >= 0, found ", bytes);
  if (bytes == 0) return;
  if (device == Device::cuda) {
    data_ = cuda::allocate(bytes);
    return;
  }
  data_ = ::operator new(static_cast<size_t>(bytes), alignment(bytes));
  prefer_large_pages(data_, bytes);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)), device_(other.device_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (device_ == Device::cuda)
    cuda::deallocate(data_);
  else
    ::operator delete(data_, alignment(bytes_));
}

Pool::Pool(int threads) : shares_(static_cast<size_t>(checked_threads(threads))) {
  const int n = this->threads();
  workers_.reserve(static_cast<size_t>(n - 1));
  for (int worker = 1; worker < n; ++worker) workers_.emplace_back([this, worker] { work(worker); });
}

Pool::~Pool() {
  stop_.store(true, std::memory_order_release);
  signal_.fetch_add(1);
  signal_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

void* Pool::grow(Buffer& buffer, int64_t count, size_t size) {
  if (count < 0 || count > std::numeric_limits<int64_t>::max() / 2 / static_cast<int64_t>(size)) throw std::bad_alloc();
  const int64_t bytes = count * static_cast<int64_t>(size);
  if (bytes > buffer.bytes()) {
    buffer = Buffer();  // give the old one back first
    buffer = Buffer(std::max<int64_t>(bytes, 4096));
  }
  return buffer.as<void>();
}

void Pool::run_tasks(int64_t n, Call call, void* fn) {
  require(n <= std::numeric_limits<int>::max(), "Pool: want fewer than 2^31 tasks, found ", n);
  // All tasks of the run before are claimed and done, so no worker can claim one while the fields change: its claim
  // compares the whole ticket, run number included. The shares that this run leaves out change as well, for workers
  // that still look at those of the run before.
  const uint64_t run = shares_[0].ticket.load(std::memory_order_relaxed) >> 32;
  const int64_t shares = n_shares(n), shares_before = n_shares(n_.load(std::memory_order_relaxed));
  for (int64_t share = std::max(shares, shares_before); share-- > 0;)
    shares_[static_cast<size_t>(share)].ticket.store((run + 1) << 32, std::memory_order_release);
  n_.store(n, std::memory_order_release);
  call_.store(call, std::memory_order_release);
  fn_.store(fn, std::memory_order_release);
  done_.store(0, std::memory_order_release);
  for (int64_t share = shares; share-- > 0;)
    shares_[static_cast<size_t>(share)].ticket.store((run + 2) << 32 | static_cast<uint64_t>(first_of(share, n)),
                                                     std::memory_order_release);
  signal_.fetch_add(1);
  signal_.notify_all();

  take_part(0);
  const auto wanted = static_cast<int>(n);
  for (int spin = 0;;) {
    const int done = done_.load(std::memory_order_acquire);
    if (done == wanted) return;
    if (++spin < kSpins)
      pause();
    else
      done_.wait(done, std::memory_order_acquire);
  }
}

bool Pool::run_one(uint64_t run, int64_t share, int worker) {
  std::atomic<uint64_t>& of_share = shares_[static_cast<size_t>(share)].ticket;
  uint64_t ticket = of_share.load(std::memory_order_acquire);
  int64_t task;
  Call call;
  void* fn;
  do {
    if (ticket >> 32 != run) return false;
    const int64_t n = n_.load(std::memory_order_acquire);
    call = call_.load(std::memory_order_acquire);
    fn = fn_.load(std::memory_order_acquire);
    task = static_cast<int64_t>(ticket & 0xffffffffU);
    if (share >= n_shares(n) || task >= first_of(share + 1, n)) return false;
  } while (!of_share.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire));
  call(fn, task, worker);
  return true;
}

void Pool::take_part(int worker) {
  const uint64_t run = shares_[0].ticket.load(std::memory_order_acquire) >> 32;
  if (run % 2 != 0) return;
  const int64_t shares = n_shares(n_.load(std::memory_order_acquire));
  int done = 0;
  for (int64_t i = 0; i < shares; ++i)
    while (run_one(run, (worker + i) % shares, worker)) ++done;
  // Only now that nothing is left: the threads would contend for it after each task. As long as it is to come, the run
  // can't end, so `done` is of one run.
  if (done > 0 && done_.fetch_add(done, std::memory_order_acq_rel) + done == static_cast<int>(n_.load()))
    done_.notify_one();
}

void Pool::work(int worker) {
  for (;;) {
    const int seen = signal_.load(std::memory_order_acquire);
    take_part(worker);
    if (stop_.load(std::memory_order_acquire)) return;
    for (int spin = 0; spin < kSpins && signal_.load(std::memory_order_relaxed) == seen; ++spin) pause();
    signal_.wait(seen, std::memory_order_acquire);
  }
}

Exec::Exec(int threads) : isa_(best_isa()), pool_(threads) {}
Exec::Exec(int threads, Isa isa) : isa_(checked(isa)), pool_(threads) {}
Exec::Exec(Device device)
    : device_(device),
      isa_(best_isa()),
      pool_(device == Device::cpu ? 0 : 1),
      stream_(device == Device::cuda ? cuda::create_stream() : nullptr) {}

Exec::~Exec() {
  if (stream_ != nullptr) cuda::destroy_stream(stream_);
}

void Exec::wait() {
  if (device_ == Device::cuda) cuda::wait(stream_);
}

void require_cpu(const Exec& exec, const char* kernel) {
  require(exec.device() == Device::cpu, kernel, ": want the CPU, found a GPU, for which it has no version yet");
}

}  // namespace corvid::kernels
