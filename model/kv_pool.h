// Memory for cache pages, under one budget.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/exec.h"

namespace corvid::model {

// One block of positions of one sequence, or of several whose tokens agree up to its end (or up to where they stop
// looking: what a sequence has not stored in a page it never reads). Who would write to a page that is not its alone
// copies it first. The memory is freed with its last reference.
struct KvPage {
  std::shared_ptr<std::byte> bytes;
  bool is_mapped = false;  // lies in a file that is mapped read-only

  // Nobody else can read or write it, now or later.
  bool is_exclusive() const {
    if (is_mapped || bytes.use_count() != 1) return false;
    std::atomic_thread_fence(std::memory_order_acquire);  // after the reads of who let go last, on any thread
    return true;
  }
};

// Shared by any number of sequences and threads. Pages are cut from arenas, so that they lie in large pages of the
// system's; an arena goes back to the system with its last page.
class KvPool : public std::enable_shared_from_this<KvPool> {
 public:
  static constexpr int64_t kNoLimit = INT64_MAX;
  // Throws std::invalid_argument for a negative budget.
  static std::shared_ptr<KvPool> create(int64_t budget_bytes = kNoLimit);

  // A page of `bytes`, 64-byte aligned, contents not initialised; its bytes come back to the budget with its last
  // reference. Throws std::length_error when the budget does not allow it, std::bad_alloc when memory is short.
  KvPage allocate(int64_t bytes);

  int64_t budget_bytes() const { return budget_; }
  int64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }

 private:
  struct Arena {
    kernels::Buffer memory;
    int64_t page_bytes;  // distance of two pages
    int64_t n_pages;
    std::vector<std::byte*> free;  // the one to give next is last
  };
  class Page;
  explicit KvPool(int64_t budget_bytes) : budget_(budget_bytes) {}
  void take_share(int64_t bytes);

  const int64_t budget_;
  std::atomic<int64_t> used_{0};
  std::mutex mutex_;  // of what follows
  std::list<Arena> arenas_;
};

}  // namespace corvid::model
