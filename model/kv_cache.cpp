#include "model/kv_cache.h"

#include <algorithm>
#include <utility>

#include "kernels/kv_pages/kv_pages.h"

namespace corvid::model {

KvCache::KvCache(const Config& c, std::shared_ptr<KvPool> pool)
    : pool_(pool ? std::move(pool) : KvPool::create()),
      block_(c.block ? c.block : kDefaultBlock),
      n_kv_heads_(c.n_kv_heads),
      head_dim_(c.head_dim),
      index_dim_(c.index_dim),
      layers_(c.layers.size()) {
  key_floats_ = kernels::key_page_floats(c.n_kv_heads, c.head_dim, block_);
  value_floats_ = kernels::value_page_floats(c.n_kv_heads, c.head_dim, block_);
  index_floats_ = c.has_sparse_attention() ? kernels::key_page_floats(1, c.index_dim, block_) : 0;
  for (const Config::Layer& layer : c.layers) {
    sparse_.push_back(layer.sparse_attention);
    page_floats_ += key_floats_ + value_floats_ + (layer.sparse_attention ? index_floats_ : 0);
  }
}

void KvCache::prepare(int64_t first, int64_t end) {
  const auto begin_page = static_cast<size_t>(first / block_), end_page = static_cast<size_t>(pages_for(end));
  // All memory first, so that a failure leaves everything as it was.
  std::vector<std::pair<size_t, KvPage>> made;
  for (size_t i = begin_page; i < end_page; ++i) {
    if (i < pages_.size() && pages_[i].is_exclusive()) continue;
    made.emplace_back(i, pool_->allocate(page_bytes()));
    const bool has_content = i == begin_page && first % block_ != 0;  // positions before `first` in the same block
    if (has_content) std::copy_n(page(static_cast<int64_t>(i)), page_floats_, made.back().second.floats.get());
  }
  if (made.empty()) return;
  make_room(end_page);
  for (auto& [i, page] : made) set_page(i, std::move(page));
}

void KvCache::truncate(int64_t n_tokens) {
  const auto n = static_cast<size_t>(pages_for(n_tokens));
  if (n >= pages_.size()) return;
  pages_.resize(n);
  for (Layer& layer : layers_) {
    layer.keys.resize(n);
    layer.values.resize(n);
    if (!layer.index_keys.empty()) layer.index_keys.resize(n);
  }
}

void KvCache::assign(std::vector<KvPage> pages) {
  make_room(pages.size());
  truncate(0);
  for (size_t i = 0; i < pages.size(); ++i) set_page(i, std::move(pages[i]));
}

void KvCache::clear_unused(float* at, int64_t used, bool index) const {
  for (const bool sparse : sparse_) {
    kernels::clear_unused_keys(at, n_kv_heads_, head_dim_, block_, used);
    kernels::clear_unused_values(at + key_floats_, n_kv_heads_, head_dim_, block_, used);
    at += key_floats_ + value_floats_;
    if (!sparse) continue;
    kernels::clear_unused_keys(at, 1, index_dim_, block_, index ? used : 0);
    at += index_floats_;
  }
}

void KvCache::make_room(size_t n_pages) {
  pages_.reserve(n_pages);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].keys.reserve(n_pages);
    layers_[i].values.reserve(n_pages);
    if (sparse_[i]) layers_[i].index_keys.reserve(n_pages);
  }
}

void KvCache::set_page(size_t i, KvPage page) {
  const auto put = [i](std::vector<float*>& pointers, float* pointer) {
    if (i == pointers.size()) pointers.push_back(pointer);
    pointers[i] = pointer;
  };
  float* at = page.floats.get();
  if (i == pages_.size()) pages_.emplace_back();
  pages_[i] = std::move(page);
  for (size_t l = 0; l < layers_.size(); ++l) {
    put(layers_[l].keys, at);
    put(layers_[l].values, at + key_floats_);
    at += key_floats_ + value_floats_;
    if (!sparse_[l]) continue;
    put(layers_[l].index_keys, at);
    at += index_floats_;
  }
}

}  // namespace corvid::model
