#include "model/kv_pool.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "kernels/gpu.h"
#include "model/asan.h"
#include "model/error.h"

namespace corvid::model {
namespace {

// Memory that is not touched is not taken: of an arena with few pages in use the system gives little more than these,
// and what lies apart of the others.
// With AddressSanitizer each page is memory of its own, so that what reaches beyond one is found.
#ifdef CORVID_ASAN
constexpr int64_t kArenaBytes = 1;
#else
constexpr int64_t kArenaBytes = int64_t{64} << 20;
#endif

constexpr int64_t on_64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Calls fn(in_whole, in_rest, piece, bytes) for each stretch of a page in turn: where it lies in the page as a whole,
// in what is left of it without pieces, and which piece it is (-1: none).
template <class Fn>
void for_each_stretch(int64_t bytes, std::span<const KvPool::Piece> apart, const Fn& fn) {
  int64_t at = 0, rest = 0, i = 0;
  const auto fill_up = [&](int64_t end) {
    if (end > at) fn(at, rest, int64_t{-1}, end - at);
    rest += end - at;
  };
  for (const KvPool::Piece& piece : apart) {
    fill_up(piece.at);
    fn(piece.at, int64_t{-1}, i++, piece.bytes);
    at = piece.at + piece.bytes;
  }
  fill_up(bytes);
}

std::byte* place(const KvPage& page, int64_t in_whole, int64_t in_rest, int64_t piece) {
  if (page.apart == nullptr) return page.bytes.get() + in_whole;
  return piece < 0 ? page.bytes.get() + in_rest : page.apart + piece * page.apart_step;
}

}  // namespace

// A page in use, and its share of the budget; both go back when it dies.
class KvPool::Page {
 public:
  Page(std::shared_ptr<KvPool> pool, int64_t bytes, std::span<const Piece> apart)
      : pool_(std::move(pool)), bytes_(bytes) {
    pool_->take_share(bytes);
    try {
      const std::lock_guard lock(pool_->mutex_);
      const int64_t n_apart = std::ssize(apart), each = n_apart == 0 ? 0 : apart.front().bytes;
      const int64_t stride = std::max<int64_t>(64, on_64(bytes - n_apart * each)), apart_stride = on_64(each);
      std::list<Arena>& all = pool_->arenas_;
      arena_ = std::find_if(all.begin(), all.end(), [&](const Arena& a) {
        return a.page_bytes == stride && a.n_apart == n_apart && a.apart_bytes == apart_stride && !a.free.empty();
      });
      if (arena_ == all.end() && pool_->device() == kernels::Device::cuda) {
        throw std::invalid_argument(
            concat("KV cache: want pages of ", all.front().page_bytes, " bytes, found ", bytes));
      }
      if (arena_ == all.end()) arena_ = all.insert(all.end(), make_arena(stride, n_apart, apart_stride));
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
      // What lies side by side goes to one sequence, in order.
      std::vector<std::byte*>& free = arena_->free;
      free.insert(std::upper_bound(free.begin(), free.end(), at_, std::greater<>()), at_);
      if (std::ssize(arena_->free) == arena_->n_pages) unused.splice(unused.end(), pool_->arenas_, arena_);
    }
    pool_->used_.fetch_sub(bytes_, std::memory_order_relaxed);
  }

  std::byte* at() const { return at_; }
  int64_t apart_step() const { return arena_->n_pages * arena_->apart_bytes; }
  std::byte* apart() const {  // null: nothing lies apart
    if (arena_->n_apart == 0) return nullptr;
    auto* const base = arena_->memory.as<std::byte>();
    const int64_t i = (at_ - base) / arena_->page_bytes;
    return base + arena_->n_pages * arena_->page_bytes + i * arena_->apart_bytes;
  }

 private:
  static Arena make_arena(int64_t stride, int64_t n_apart, int64_t apart_stride) {
    const int64_t whole = stride + n_apart * apart_stride, n = std::max<int64_t>(1, kArenaBytes / whole);
    Arena arena{kernels::Buffer(n * whole), stride, n, n_apart, apart_stride, {}};
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
  Arena arena{{}, page_bytes, n_pages + 1, 0, 0, {}};
  const int64_t step = pool->on_gpus_.front().share.page_bytes();
  for (int64_t i = n_pages; i > 0; --i) arena.free.push_back(pool->first_slot() + i * step);
  pool->arenas_.push_back(std::move(arena));  // for good: slot 0 is never free
  return pool;
}

KvPool::~KvPool() {
  for (const OnGpu& one : on_gpus_) kernels::cuda::destroy_stream(one.stream);
}

KvPage KvPool::allocate(int64_t bytes, std::span<const Piece> apart) {
  for (const Piece& piece : apart) {
    if (piece.bytes != apart.front().bytes || piece.at < 0 || piece.at + piece.bytes > bytes) {
      throw std::invalid_argument(concat("KV cache: want pieces of ", apart.front().bytes, " bytes in a page of ",
                                         bytes, ", found one of ", piece.bytes, " at ", piece.at));
    }
  }
  const auto page = std::make_shared<Page>(shared_from_this(), bytes, apart);
  return {std::shared_ptr<std::byte>(page, page->at()), false, page->apart(), page->apart_step()};
}

void KvPool::copy(const KvPage& page, const KvPage& from, int64_t bytes, std::span<const Piece> apart) const {
  if (on_gpus_.empty())
    for_each_stretch(bytes, apart, [&](int64_t in_whole, int64_t in_rest, int64_t piece, int64_t n) {
      std::memcpy(place(page, in_whole, in_rest, piece), place(from, in_whole, in_rest, piece), static_cast<size_t>(n));
    });
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    const int64_t size = one.share.page_bytes();
    auto* const slots = const_cast<std::byte*>(one.memory.as<std::byte>());
    kernels::cuda::copy(slots + slot_of(page.bytes.get()) * size, slots + slot_of(from.bytes.get()) * size, size,
                        one.stream);
  }
}

void KvPool::read(std::byte* host, const KvPage& page, int64_t bytes, std::span<const Piece> apart) const {
  if (on_gpus_.empty())
    for_each_stretch(bytes, apart, [&](int64_t in_whole, int64_t in_rest, int64_t piece, int64_t n) {
      std::memcpy(host + in_whole, place(page, in_whole, in_rest, piece), static_cast<size_t>(n));
    });
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    kernels::Buffer part(one.share.page_bytes());
    auto* at = part.as<std::byte>();
    kernels::cuda::to_host(at, one.memory.as<std::byte>() + slot_of(page.bytes.get()) * part.bytes(), part.bytes(),
                           one.stream);
    for (const Piece& piece : one.share.pieces) {
      std::memcpy(host + piece.at, at, static_cast<size_t>(piece.bytes));
      at += piece.bytes;
    }
  }
}

void KvPool::write(const KvPage& page, const std::byte* host, int64_t bytes) const {
  if (page.apart != nullptr) throw std::invalid_argument("KV cache: want a page in one piece to write to");
  if (on_gpus_.empty()) std::memcpy(page.bytes.get(), host, static_cast<size_t>(bytes));
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    kernels::Buffer part(one.share.page_bytes());
    auto* at = part.as<std::byte>();
    for (const Piece& piece : one.share.pieces) {
      std::memcpy(at, host + piece.at, static_cast<size_t>(piece.bytes));
      at += piece.bytes;
    }
    auto* const slots = const_cast<std::byte*>(one.memory.as<std::byte>());
    kernels::cuda::to_device(slots + slot_of(page.bytes.get()) * part.bytes(), part.as<std::byte>(), part.bytes(),
                             one.stream);
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
