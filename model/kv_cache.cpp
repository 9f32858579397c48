#include "model/kv_cache.h"

#include "kernels/kv_pages/kv_pages.h"

namespace corvid::model {

KvCache::KvCache(const Config& c) : block_(c.block ? c.block : kDefaultBlock), layers_(c.layers.size()) {
  key_floats_ = kernels::key_page_floats(c.n_kv_heads, c.head_dim, block_);
  value_floats_ = kernels::value_page_floats(c.n_kv_heads, c.head_dim, block_);
  index_floats_ = c.has_sparse_attention() ? kernels::key_page_floats(1, c.index_dim, block_) : 0;
  for (const Config::Layer& layer : c.layers) {
    sparse_.push_back(layer.sparse_attention);
    page_floats_ += key_floats_ + value_floats_ + (layer.sparse_attention ? index_floats_ : 0);
  }
}

void KvCache::reserve(int64_t n_tokens) {
  const auto n_pages = static_cast<size_t>((n_tokens + block_ - 1) / block_);
  if (n_pages <= pages_.size()) return;
  // All memory first, so that a failure leaves the tables as they were.
  pages_.reserve(n_pages);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].keys.reserve(n_pages);
    layers_[i].values.reserve(n_pages);
    if (sparse_[i]) layers_[i].index_keys.reserve(n_pages);
  }
  while (pages_.size() < n_pages) {
    float* at = pages_.emplace_back(page_floats_ * int64_t{sizeof(float)}).as();
    for (size_t i = 0; i < layers_.size(); ++i) {
      layers_[i].keys.push_back(at);
      layers_[i].values.push_back(at + key_floats_);
      at += key_floats_ + value_floats_;
      if (!sparse_[i]) continue;
      layers_[i].index_keys.push_back(at);
      at += index_floats_;
    }
  }
}

}  // namespace corvid::model
