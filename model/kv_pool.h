// Memory for cache pages, under one budget.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "kernels/exec.h"

namespace corvid::model {

// A part of a page: [at, at + bytes) of the page as a whole.
struct PagePiece {
  int64_t at, bytes;
  bool operator==(const PagePiece&) const = default;
};

// One block of positions of one sequence, or of several whose tokens agree up to its end (or up to where they stop
// looking: what a sequence has not stored in a page it never reads). Who would write to a page that is not its alone
// copies it first. The memory is freed with its last reference.
struct KvPage {
  std::shared_ptr<std::byte> bytes;  // its first piece, on the pool's device; keeps the page
  bool is_mapped = false;            // lies in a file that is mapped read-only
  // On the CPU a piece lies in its arena beside the same piece of the arena's other pages. A page in a file is an arena
  // of its own: slot 0 of 1.
  std::byte* arena = nullptr;
  int64_t slot = 0, n_slots = 1;

  std::byte* begin_of(const PagePiece& piece) const { return arena + n_slots * piece.at + slot * piece.bytes; }
  // Nobody else can read or write it, now or later.
  bool is_exclusive() const {
    if (is_mapped || bytes.use_count() != 1) return false;
      // After the reads of who let go last, on any thread.
#ifdef __SANITIZE_THREAD__  // which knows no fences; counting up and down acquires too
    const std::shared_ptr<std::byte> acquired = bytes;
#else
    std::atomic_thread_fence(std::memory_order_acquire);
#endif
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
  // A GPU's part of each page: these pieces, one after the other in its own memory.
  struct Share {
    int gpu = 0;
    std::vector<PagePiece> pieces;
    int64_t page_bytes() const;
  };
  // Slots for pages of one size, in one piece of each GPU's memory; the parts' sizes are multiples of 128 bytes. Slot 0
  // is nobody's. Throws std::runtime_error when a GPU has not so much memory.
  static std::shared_ptr<KvPool> create_on_gpus(int64_t n_pages, int64_t page_bytes, std::vector<Share> shares);
  ~KvPool();

  // A page of `bytes`, 64-byte aligned (on a GPU 128), contents not initialised; its bytes come back to the budget with
  // its last reference. Throws std::length_error when the budget does not allow it, std::bad_alloc when memory is
  // short.
  // `pieces`, on the CPU: what the page consists of, one after the other, each of a multiple of 64 bytes; none: of one.
  // What is read from many pages in turn should be a piece: it lies side by side in pages that were made in turn.
  // Throws std::invalid_argument for pieces that are not so.
  // `n_coming`: how many such pages are about to be taken, this one included; they will lie side by side.
  KvPage allocate(int64_t bytes, std::span<const PagePiece> pieces = {}, int64_t n_coming = 1);

  int64_t budget_bytes() const { return budget_; }
  int64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }
  kernels::Device device() const { return on_gpus_.empty() ? kernels::Device::cpu : kernels::Device::cuda; }

  // From page to page, and between a page and the host's memory, which has it in one stretch; done when they return.
  // `bytes` and `pieces` as for allocate(), wherever the page is. A page that is written must not be in use otherwise.
  // On GPUs that share a model `bytes` is the whole page's, which they have in parts.
  void copy(const KvPage& page, const KvPage& from, int64_t bytes, std::span<const PagePiece> pieces = {}) const;
  void read(std::byte* host, const KvPage& page, int64_t bytes, std::span<const PagePiece> pieces = {}) const;
  void write(const KvPage& page, const std::byte* host, int64_t bytes, std::span<const PagePiece> pieces = {}) const;

  // On GPUs: where slot 0 is in the memory of each, and how many slots there are.
  std::byte* first_slot(size_t gpu = 0) { return on_gpus_[gpu].memory.as<std::byte>(); }
  int64_t n_slots() const { return arenas_.front().n_slots; }

 private:
  struct Arena {
    kernels::Buffer memory;  // n_slots times each piece, in turn; on GPUs nothing
    std::vector<PagePiece> pieces;
    int64_t n_slots;
    std::vector<int64_t> free;  // slots, the one to give next is last
  };
  struct OnGpu {
    Share share;
    kernels::Buffer memory;
    CUstream_st* stream;  // of copies. A pass, which may be recorded meanwhile, has its own
  };
  class Page;
  explicit KvPool(int64_t budget_bytes) : budget_(budget_bytes) {}
  void take_share(int64_t bytes);

  const int64_t budget_;
  std::atomic<int64_t> used_{0};
  std::mutex mutex_;         // of what follows
  std::list<Arena> arenas_;  // on GPUs always the same one
  std::vector<OnGpu> on_gpus_;
};

}  // namespace corvid::model
