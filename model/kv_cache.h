// Keys, values and index keys of one sequence, in pages of one block of positions.
//
//   page p = positions [p * block, (p + 1) * block):
//     layer 0: head 0: keys | values     head 1: ...     index keys (sparse layers) or bounds     layer 1: ...
//     each as kernels/kv_pages.h lays it out, in the cache's formats. So it lies in a snapshot, in one stretch. In a
//     page that the CPU's cache made itself each head, and each layer's index keys or bounds, lie beside those of other
//     pages (KvPool::allocate).
//
//   sequence a   [p0][p1][p2]             its fork b, three tokens later:   [p0][p1][p2']
//   On a GPU a page is a slot of the pool's memory, and its rows lie one after the other: keys and values [n_kv_heads,
//   block, head_dim] in bf16, index keys [block, index_dim], each on 128 bytes.
//
//   A copy of a cache shares all pages; prepare() copies the ones about to be written, here the block in which b goes
//   on.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/exec.h"
#include "kernels/format.h"
#include "kernels/kv_pages/kv_pages.h"
#include "model/config.h"
#include "model/kv_pool.h"

namespace corvid::model {

// How numbers are kept: f32, f16, bf16 or q8_0; on a GPU bf16, and index keys also in e4m3 (OCP's 8-bit float).
struct CacheFormat {
  kernels::Format kv;
  kernels::Format index;  // index keys: f32 and bf16 as keys and values, else q8_0

  CacheFormat(kernels::Format kv_format = kernels::Format::f32)
      : CacheFormat(kv_format, kv_format == kernels::Format::f16 ? kernels::Format::q8_0 : kv_format) {}
  CacheFormat(kernels::Format kv_format, kernels::Format index_format) : kv(kv_format), index(index_format) {}
  // What a GPU keeps.
  static CacheFormat of_gpu(bool e4m3_index) {
    CacheFormat format(kernels::Format::bf16, kernels::Format::bf16);
    format.e4m3_index = e4m3_index;
    return format;
  }
  const char* index_name() const { return e4m3_index ? "e4m3" : kernels::format_name(index); }

  bool e4m3_index = false;  // in place of what `index` says
};

// Grows page by page; what lies behind the positions in use is stale and never read. Copying one costs a few pointers
// for each page.
class KvCache {
 public:
  // `pool` gives the memory; null: a pool of its own without a limit. Throws std::invalid_argument for other formats
  // than CacheFormat names.
  // `bounds`: with those that page_select chooses by, in a model whose layers all were trained to attend to everything.
  explicit KvCache(const Config& config, std::shared_ptr<KvPool> pool = nullptr, CacheFormat format = {},
                   bool bounds = false);

  // Makes place for positions [first, end), which become this cache's alone: pages that are missing are made, pages
  // that others use too are copied. Throws std::length_error when the pool's budget does not allow it, std::bad_alloc
  // when memory is short; the cache then stays as it was.
  void prepare(int64_t first, int64_t end);
  // Lets go of the pages behind the first `n_tokens` positions.
  void truncate(int64_t n_tokens);
  // Replaces all pages.
  void assign(std::vector<KvPage> pages);

  kernels::Format format() const { return format_.kv; }  // of keys and values
  kernels::Format index_format() const { return format_.index; }
  bool has_bounds() const { return bounds_bytes_ > 0; }
  int64_t block() const { return block_; }
  int64_t n_pages() const { return static_cast<int64_t>(pages_.size()); }
  int64_t pages_for(int64_t n_tokens) const { return (n_tokens + block_ - 1) / block_; }
  int64_t page_bytes() const { return page_bytes_; }
  const std::vector<KvPage>& pages() const { return pages_; }
  // What is read from many pages in turn: each head, and each layer's index keys or bounds. On a GPU none.
  std::span<const PagePiece> pieces() const { return pieces_; }
  KvPool& pool() const { return *pool_; }
  // On a GPU: where a layer begins in a page, its values and index keys from there, and the slots of the pages.
  int64_t layer_offset(int64_t i) const { return offsets_[static_cast<size_t>(i)]; }
  int64_t values_offset() const { return key_bytes_; }
  int64_t index_offset() const { return key_bytes_ + value_bytes_; }
  std::span<const int32_t> slots() const { return slots_; }
  // Zeroes what a copy of a page, in the host's memory, holds besides its first `used` positions; with `index` false
  // the index keys as well.
  void clear_unused(std::byte* page, int64_t used, bool index) const;

  // On the CPU: for each page there is; valid until the next call that is not const. Only positions that were prepared
  // may be written.
  struct Layer {
    std::vector<kernels::PageHeads> keys, values;
    std::vector<kernels::PageHeads> index_keys;  // of one head; empty in layers that attend to everything
    std::vector<float*> bounds;                  // empty unless has_bounds()
  };
  const Layer& layer(int64_t i) const { return layers_[static_cast<size_t>(i)]; }

 private:
  void make_room(size_t n_pages);  // so that set_page() cannot fail
  void set_page(size_t i, KvPage page);
  int64_t index_row_bytes() const;  // on a GPU
  bool on_gpu() const { return pool_->device() == kernels::Device::cuda; }

  std::shared_ptr<KvPool> pool_;
  CacheFormat format_;
  int64_t block_ = 0, n_kv_heads_ = 0, head_dim_ = 0, index_dim_ = 0;
  // Of keys and values: those of one head, on a GPU of all. Of index keys and bounds: those of one layer.
  int64_t key_bytes_ = 0, value_bytes_ = 0, index_bytes_ = 0, bounds_bytes_ = 0;
  int64_t page_bytes_ = 0;
  std::vector<bool> sparse_;  // by layer
  std::vector<int64_t> offsets_;
  std::vector<PagePiece> pieces_;
  std::vector<KvPage> pages_;
  std::vector<int32_t> slots_;
  std::vector<Layer> layers_;
};

}  // namespace corvid::model
