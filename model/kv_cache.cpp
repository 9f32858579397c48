#include "model/kv_cache.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernels/page_select/page_select.h"
#include "model/error.h"

namespace corvid::model {
namespace {

constexpr int64_t on_128(int64_t bytes) { return (bytes + 127) / 128 * 128; }

}  // namespace

KvCache::KvCache(const Config& c, std::shared_ptr<KvPool> pool, CacheFormat format, bool bounds)
    : pool_(pool ? std::move(pool) : KvPool::create()),
      format_(format),
      block_(c.block ? c.block : kDefaultBlock),
      n_kv_heads_(c.n_kv_heads),
      head_dim_(c.head_dim),
      index_dim_(c.index_dim),
      layers_(c.layers.size()) {
  for (const kernels::Format found : {format.kv, format.index}) {
    if (kernels::is_page_format(found)) continue;
    throw std::invalid_argument(concat("KV cache: want f32, f16, bf16 or q8_0, found ", kernels::format_name(found)));
  }
  if (format.e4m3_index && !on_gpu()) throw std::invalid_argument("KV cache: index keys in e4m3 are a GPU's");
  if (on_gpu()) {
    if (format.kv != kernels::Format::bf16 || format.index != kernels::Format::bf16) {
      throw std::invalid_argument(concat("KV cache: want bf16 on a GPU, found ", kernels::format_name(format.kv)));
    }
    key_bytes_ = value_bytes_ = on_128(c.n_kv_heads * block_ * c.head_dim * kernels::element_bytes(format.kv));
    index_bytes_ = on_128(block_ * index_row_bytes());
    if (bounds && !c.has_sparse_attention()) {
      throw std::invalid_argument(
          concat("attention sparse: on a GPU want a model that selects blocks, found ", c.architecture()));
    }
  } else {
    key_bytes_ = kernels::key_head_bytes(format.kv, c.head_dim, block_);
    value_bytes_ = kernels::value_head_bytes(format.kv, c.head_dim, block_);
    if (c.has_sparse_attention())
      index_bytes_ = kernels::key_head_bytes(format.index, c.index_dim, block_);
    else if (bounds)
      bounds_bytes_ = kernels::bounds_bytes(c.n_kv_heads, c.head_dim);
  }
  for (const Config::Layer& layer : c.layers) {
    sparse_.push_back(layer.sparse_attention);
    offsets_.push_back(page_bytes_);
    const auto add = [&](int64_t bytes) {
      if (bytes > 0 && !on_gpu()) pieces_.push_back({page_bytes_, bytes});
      page_bytes_ += bytes;
    };
    for (int64_t h = 0; h < (on_gpu() ? 1 : n_kv_heads_); ++h) add(key_bytes_ + value_bytes_);
    add(layer.sparse_attention ? index_bytes_ : bounds_bytes_);
  }
}

int64_t KvCache::index_row_bytes() const {
  return index_dim_ * (format_.e4m3_index ? 1 : kernels::element_bytes(format_.index));
}

void KvCache::prepare(int64_t first, int64_t end) {
  const auto begin_page = static_cast<size_t>(first / block_), end_page = static_cast<size_t>(pages_for(end));
  // All memory first, so that a failure leaves everything as it was.
  std::vector<std::pair<size_t, KvPage>> made;
  for (size_t i = begin_page; i < end_page; ++i) {
    if (i < pages_.size() && pages_[i].is_exclusive()) continue;
    made.emplace_back(i, pool_->allocate(page_bytes_, pieces_, static_cast<int64_t>(end_page - i)));
    const bool has_content = i == begin_page && first % block_ != 0;  // positions before `first` in the same block
    if (has_content) pool_->copy(made.back().second, pages_[i], page_bytes_, pieces_);
  }
  if (made.empty()) return;
  make_room(end_page);
  for (auto& [i, page] : made) set_page(i, std::move(page));
}

void KvCache::truncate(int64_t n_tokens) {
  const auto n = static_cast<size_t>(pages_for(n_tokens));
  if (n >= pages_.size()) return;
  pages_.resize(n);
  if (on_gpu()) slots_.resize(n);
  for (Layer& layer : layers_) {
    if (on_gpu()) break;
    layer.keys.resize(n);
    layer.values.resize(n);
    if (!layer.index_keys.empty()) layer.index_keys.resize(n);
    if (!layer.bounds.empty()) layer.bounds.resize(n);
  }
}

void KvCache::assign(std::vector<KvPage> pages) {
  make_room(pages.size());
  truncate(0);
  for (size_t i = 0; i < pages.size(); ++i) set_page(i, std::move(pages[i]));
}

void KvCache::clear_unused(std::byte* at, int64_t used, bool index) const {
  if (on_gpu()) {
    const auto clear = [&](int64_t bytes, int64_t heads, int64_t row_bytes, int64_t rows) {
      for (int64_t h = 0; h < heads; ++h) {
        std::fill(at + (h * block_ + rows) * row_bytes, at + (h + 1) * block_ * row_bytes, std::byte{0});
      }
      std::fill(at + heads * block_ * row_bytes, at + bytes, std::byte{0});
      at += bytes;
    };
    for (const bool sparse : sparse_) {
      clear(key_bytes_, n_kv_heads_, head_dim_ * kernels::element_bytes(format_.kv), used);
      clear(value_bytes_, n_kv_heads_, head_dim_ * kernels::element_bytes(format_.kv), used);
      if (sparse) clear(index_bytes_, 1, index_row_bytes(), index ? used : 0);
    }
    return;
  }
  for (const bool sparse : sparse_) {
    const int64_t step = key_bytes_ + value_bytes_;
    kernels::clear_unused_keys({at, step}, format_.kv, n_kv_heads_, head_dim_, block_, used);
    kernels::clear_unused_values({at + key_bytes_, step}, format_.kv, n_kv_heads_, head_dim_, block_, used);
    at += n_kv_heads_ * step;
    if (used < block_) std::fill_n(at, bounds_bytes_, std::byte{0});  // made when the block is complete
    at += bounds_bytes_;
    if (!sparse) continue;
    kernels::clear_unused_keys({at}, format_.index, 1, index_dim_, block_, index ? used : 0);
    at += index_bytes_;
  }
}

void KvCache::make_room(size_t n_pages) {
  pages_.reserve(n_pages);
  if (on_gpu()) {
    slots_.reserve(n_pages);
    return;
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].keys.reserve(n_pages);
    layers_[i].values.reserve(n_pages);
    if (sparse_[i]) layers_[i].index_keys.reserve(n_pages);
    if (has_bounds()) layers_[i].bounds.reserve(n_pages);
  }
}

void KvCache::set_page(size_t i, KvPage page) {
  const auto put = [i](auto& list, auto entry) {
    if (i == list.size()) list.emplace_back();
    list[i] = std::move(entry);
  };
  put(pages_, std::move(page));
  const KvPage& made = pages_[i];
  if (on_gpu()) {
    put(slots_, static_cast<int32_t>(made.slot));
    return;
  }
  const PagePiece* piece = pieces_.data();
  for (size_t l = 0; l < layers_.size(); ++l) {
    std::byte* const head = made.begin_of(*piece);
    const int64_t step = made.n_slots * piece->bytes;  // heads are alike
    put(layers_[l].keys, kernels::PageHeads{head, step});
    put(layers_[l].values, kernels::PageHeads{head + key_bytes_, step});
    piece += n_kv_heads_;
    if (sparse_[l]) put(layers_[l].index_keys, kernels::PageHeads{made.begin_of(*piece++)});
    if (has_bounds()) put(layers_[l].bounds, reinterpret_cast<float*>(made.begin_of(*piece++)));
  }
}

}  // namespace corvid::model
