#include "model/kv_pool.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/gpu.h"
#include "model/asan.h"
#include "model/error.h"

namespace corvid::model {
namespace {

// Memory that is not touched is not taken: of an arena with few pages in use the system gives little more than these.
// With AddressSanitizer each page is memory of its own, so that what reaches beyond one is found.
#ifdef CORVID_ASAN
constexpr int64_t kArenaBytes = 1;
#else
constexpr int64_t kArenaBytes = int64_t{64} << 20;
#endif

}  // namespace

// A page in use, and its share of the budget; both go back when it dies.
class KvPool::Page {
 public:
  Page(std::shared_ptr<KvPool> pool, int64_t bytes) : pool_(std::move(pool)), bytes_(bytes) {
    pool_->take_share(bytes);
    try {
      const std::lock_guard lock(pool_->mutex_);
      const int64_t stride = std::max<int64_t>(64, (bytes + 63) / 64 * 64);
      std::list<Arena>& all = pool_->arenas_;
      arena_ = std::find_if(all.begin(), all.end(),
                            [&](const Arena& a) { return a.page_bytes == stride && !a.free.empty(); });
      if (arena_ == all.end() && pool_->device() == kernels::Device::cuda) {
        throw std::invalid_argument(
            concat("KV cache: want pages of ", all.front().page_bytes, " bytes, found ", bytes));
      }
      if (arena_ == all.end()) arena_ = all.insert(all.end(), make_arena(stride));
      at_ = arena_->free.back();
      arena_->free.pop_back();
    } catch (...) {
      pool_->used_.fetch_sub(bytes_, std::memory_order_relaxed);
      throw;
    }
  }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;
  ~Page() {
    std::list<Arena> unused;  // freed behind the lock
    {
      const std::lock_guard lock(pool_->mutex_);
      arena_->free.push_back(at_);
      if (std::ssize(arena_->free) == arena_->n_pages) unused.splice(unused.end(), pool_->arenas_, arena_);
    }
    pool_->used_.fetch_sub(bytes_, std::memory_order_relaxed);
  }

  std::byte* at() const { return at_; }

 private:
  static Arena make_arena(int64_t stride) {
    const int64_t n = std::max<int64_t>(1, kArenaBytes / stride);
    Arena arena{kernels::Buffer(n * stride), stride, n, {}};
    for (int64_t i = n; i-- > 0;) arena.free.push_back(arena.memory.as<std::byte>() + i * stride);
    return arena;
  }

  std::shared_ptr<KvPool> pool_;
  int64_t bytes_;
  std::list<Arena>::iterator arena_;
  std::byte* at_ = nullptr;
};

std::shared_ptr<KvPool> KvPool::create(int64_t budget_bytes) {
  if (budget_bytes < 0) throw std::invalid_argument(concat("KV cache: want a budget >= 0, found ", budget_bytes));
  return std::shared_ptr<KvPool>(new KvPool(budget_bytes));
}

int64_t KvPool::Share::page_bytes() const {
  int64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.bytes;
  return bytes;
}

std::shared_ptr<KvPool> KvPool::create_on_gpus(int64_t n_pages, int64_t page_bytes, std::vector<Share> shares) {
  std::shared_ptr<KvPool> pool(new KvPool(n_pages * page_bytes));
  for (Share& share : shares) {
    const kernels::cuda::GpuScope on(share.gpu);
    kernels::Buffer memory((n_pages + 1) * share.page_bytes(), kernels::Device::cuda);
    CUstream_st* const stream = kernels::cuda::create_stream();
    pool->on_gpus_.push_back({std::move(share), std::move(memory), stream});
  }
  Arena arena{{}, page_bytes, n_pages + 1, {}};
  const int64_t step = pool->on_gpus_.front().share.page_bytes();
  for (int64_t i = n_pages; i > 0; --i) arena.free.push_back(pool->first_slot() + i * step);
  pool->arenas_.push_back(std::move(arena));  // for good: slot 0 is never free
  return pool;
}

KvPool::~KvPool() {
  for (const OnGpu& one : on_gpus_) kernels::cuda::destroy_stream(one.stream);
}

KvPage KvPool::allocate(int64_t bytes) {
  const auto page = std::make_shared<Page>(shared_from_this(), bytes);
  return {std::shared_ptr<std::byte>(page, page->at())};
}

void KvPool::copy(std::byte* page, const std::byte* from_page, int64_t bytes) const {
  if (on_gpus_.empty()) std::memcpy(page, from_page, static_cast<size_t>(bytes));
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    const int64_t size = one.share.page_bytes();
    auto* const slots = const_cast<std::byte*>(one.memory.as<std::byte>());
    kernels::cuda::copy(slots + slot_of(page) * size, slots + slot_of(from_page) * size, size, one.stream);
  }
}

void KvPool::read(std::byte* host, const std::byte* page, int64_t bytes) const {
  if (on_gpus_.empty()) std::memcpy(host, page, static_cast<size_t>(bytes));
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    kernels::Buffer part(one.share.page_bytes());
    auto* at = part.as<std::byte>();
    kernels::cuda::to_host(at, one.memory.as<std::byte>() + slot_of(page) * part.bytes(), part.bytes(), one.stream);
    for (const Share::Piece& piece : one.share.pieces) {
      std::memcpy(host + piece.at, at, static_cast<size_t>(piece.bytes));
      at += piece.bytes;
    }
  }
}

void KvPool::write(std::byte* page, const std::byte* host, int64_t bytes) const {
  if (on_gpus_.empty()) std::memcpy(page, host, static_cast<size_t>(bytes));
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    kernels::Buffer part(one.share.page_bytes());
    auto* at = part.as<std::byte>();
    for (const Share::Piece& piece : one.share.pieces) {
      std::memcpy(at, host + piece.at, static_cast<size_t>(piece.bytes));
      at += piece.bytes;
    }
    auto* const slots = const_cast<std::byte*>(one.memory.as<std::byte>());
    kernels::cuda::to_device(slots + slot_of(page) * part.bytes(), part.as<std::byte>(), part.bytes(), one.stream);
  }
}

int32_t KvPool::slot_of(const std::byte* page) const {
  const OnGpu& first = on_gpus_.front();
  return static_cast<int32_t>((page - first.memory.as<std::byte>()) / first.share.page_bytes());
}

void KvPool::take_share(int64_t bytes) {
  int64_t before = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > budget_ - before) {
      throw std::length_error(
          concat("KV cache: want a page of ", bytes, " bytes more, found ", budget_ - before, " left of ", budget_));
    }
  } while (!used_.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
}

}  // namespace corvid::model
