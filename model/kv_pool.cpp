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

// The first page of an arena makes the system give most of it, as each piece is somewhere else. So an arena is made for
// the pages that are about to be taken, and where they come one by one for a small part of what there is already.
//
// With AddressSanitizer each page is memory of its own, so that what reaches beyond one is found.
#ifdef CORVID_ASAN
constexpr int64_t kSmallestArena = 1, kLargestArena = 1;
#else
constexpr int64_t kSmallestArena = int64_t{4} << 20, kLargestArena = int64_t{256} << 20;
#endif
constexpr int64_t kGrowth = 64;  // a new arena's share of those of its kind: one in so many

void check(int64_t bytes, std::span<const PagePiece> pieces) {
  int64_t at = 0;
  for (const PagePiece& piece : pieces) {
    if (piece.at != at || piece.bytes < 64 || piece.bytes % 64 != 0) {
      throw std::invalid_argument(concat("KV cache: want a piece at ", at, " of a multiple of 64 bytes, found one at ",
                                         piece.at, " of ", piece.bytes));
    }
    at += piece.bytes;
  }
  if (at != bytes) throw std::invalid_argument(concat("KV cache: want pieces of ", bytes, " bytes, found ", at));
}

// Calls fn(piece) for each; without any the page is one.
template <class Fn>
void for_each_piece(int64_t bytes, std::span<const PagePiece> pieces, const Fn& fn) {
  if (pieces.empty()) fn(PagePiece{0, bytes});
  for (const PagePiece& piece : pieces) fn(piece);
}

}  // namespace

// A page in use, and its share of the budget; both go back when it dies.
class KvPool::Page {
 public:
  Page(std::shared_ptr<KvPool> pool, int64_t bytes, std::vector<PagePiece> pieces, int64_t n_coming)
      : pool_(std::move(pool)), bytes_(bytes) {
    pool_->take_share(bytes);
    try {
      const std::lock_guard lock(pool_->mutex_);
      std::list<Arena>& all = pool_->arenas_;
      arena_ = std::ranges::find_if(all, [&](const Arena& a) { return !a.free.empty() && a.pieces == pieces; });
      if (arena_ == all.end() && pool_->device() == kernels::Device::cuda) {
        throw std::invalid_argument(
            concat("KV cache: want pages of ", all.front().pieces.front().bytes, " bytes, found ", bytes));
      }
      if (arena_ == all.end()) arena_ = all.insert(all.end(), make_arena(bytes, std::move(pieces), n_coming));
      slot_ = arena_->free.back();
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
      std::vector<int64_t>& free = arena_->free;
      free.insert(std::upper_bound(free.begin(), free.end(), slot_, std::greater<>()), slot_);
      if (std::ssize(arena_->free) == arena_->n_slots) unused.splice(unused.end(), pool_->arenas_, arena_);
    }
    pool_->used_.fetch_sub(bytes_, std::memory_order_relaxed);
  }

  // The page that `self` keeps alive.
  static KvPage held(const std::shared_ptr<Page>& self) {
    Arena& arena = *self->arena_;
    KvPool& pool = *self->pool_;
    std::byte* const first = pool.on_gpus_.empty()
                                 ? arena.memory.as<std::byte>() + self->slot_ * arena.pieces.front().bytes
                                 : pool.first_slot() + self->slot_ * pool.on_gpus_.front().share.page_bytes();
    return {std::shared_ptr<std::byte>(self, first), false, arena.memory.as<std::byte>(), self->slot_, arena.n_slots};
  }

 private:
  Arena make_arena(int64_t bytes, std::vector<PagePiece> pieces, int64_t n_coming) const {
    int64_t all = 0, alike = 0;
    for (const Arena& a : pool_->arenas_) {
      all += a.memory.bytes();
      alike += a.pieces == pieces ? a.memory.bytes() : 0;
    }
    const int64_t coming = std::min(n_coming, kLargestArena / bytes) * bytes;
    const int64_t wanted = std::clamp(std::max(coming, alike / kGrowth), kSmallestArena, kLargestArena);
    const int64_t left = pool_->budget_ - all;
    for (int64_t n = std::max<int64_t>(1, std::min(wanted, left) / bytes);; n /= 2) {
      try {
        Arena arena{kernels::Buffer(n * bytes), std::move(pieces), n, {}};
        for (int64_t i = n; i-- > 0;) arena.free.push_back(i);
        return arena;
      } catch (const std::bad_alloc&) {
        if (n == 1) throw;
      }
    }
  }

  std::shared_ptr<KvPool> pool_;
  int64_t bytes_, slot_ = 0;
  std::list<Arena>::iterator arena_;
};

std::shared_ptr<KvPool> KvPool::create(int64_t budget_bytes) {
  if (budget_bytes < 0) throw std::invalid_argument(concat("KV cache: want a budget >= 0, found ", budget_bytes));
  return std::shared_ptr<KvPool>(new KvPool(budget_bytes));
}

int64_t KvPool::Share::page_bytes() const {
  int64_t bytes = 0;
  for (const PagePiece& piece : pieces) bytes += piece.bytes;
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
  Arena arena{{}, {{0, page_bytes}}, n_pages + 1, {}};
  for (int64_t i = n_pages; i > 0; --i) arena.free.push_back(i);
  pool->arenas_.push_back(std::move(arena));  // for good: slot 0 is never free
  return pool;
}

KvPool::~KvPool() {
  for (const OnGpu& one : on_gpus_) kernels::cuda::destroy_stream(one.stream);
}

KvPage KvPool::allocate(int64_t bytes, std::span<const PagePiece> pieces, int64_t n_coming) {
  std::vector<PagePiece> all(pieces.begin(), pieces.end());
  if (pieces.empty()) all.push_back({0, bytes});
  if (on_gpus_.empty()) check(bytes, all);
  return Page::held(std::make_shared<Page>(shared_from_this(), bytes, std::move(all), n_coming));
}

void KvPool::copy(const KvPage& page, const KvPage& from, int64_t bytes, std::span<const PagePiece> pieces) const {
  if (on_gpus_.empty())
    for_each_piece(bytes, pieces, [&](const PagePiece& piece) {
      std::memcpy(page.begin_of(piece), from.begin_of(piece), static_cast<size_t>(piece.bytes));
    });
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    const int64_t size = one.share.page_bytes();
    auto* const slots = const_cast<std::byte*>(one.memory.as<std::byte>());
    kernels::cuda::copy(slots + page.slot * size, slots + from.slot * size, size, one.stream);
  }
}

void KvPool::read(std::byte* host, const KvPage& page, int64_t bytes, std::span<const PagePiece> pieces) const {
  if (on_gpus_.empty())
    for_each_piece(bytes, pieces, [&](const PagePiece& piece) {
      std::memcpy(host + piece.at, page.begin_of(piece), static_cast<size_t>(piece.bytes));
    });
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    kernels::Buffer part(one.share.page_bytes());
    auto* at = part.as<std::byte>();
    kernels::cuda::to_host(at, one.memory.as<std::byte>() + page.slot * part.bytes(), part.bytes(), one.stream);
    for (const PagePiece& piece : one.share.pieces) {
      std::memcpy(host + piece.at, at, static_cast<size_t>(piece.bytes));
      at += piece.bytes;
    }
  }
}

void KvPool::write(const KvPage& page, const std::byte* host, int64_t bytes, std::span<const PagePiece> pieces) const {
  if (on_gpus_.empty())
    for_each_piece(bytes, pieces, [&](const PagePiece& piece) {
      std::memcpy(page.begin_of(piece), host + piece.at, static_cast<size_t>(piece.bytes));
    });
  for (const OnGpu& one : on_gpus_) {
    const kernels::cuda::GpuScope on(one.share.gpu);
    kernels::Buffer part(one.share.page_bytes());
    auto* at = part.as<std::byte>();
    for (const PagePiece& piece : one.share.pieces) {
      std::memcpy(at, host + piece.at, static_cast<size_t>(piece.bytes));
      at += piece.bytes;
    }
    auto* const slots = const_cast<std::byte*>(one.memory.as<std::byte>());
    kernels::cuda::to_device(slots + page.slot * part.bytes(), part.as<std::byte>(), part.bytes(), one.stream);
  }
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
