// Keys, values and index keys of one sequence, in pages of one block of positions.
//
//   page p = positions [p * block, (p + 1) * block), one allocation:
//     layer 0: keys | values | index keys (sparse layers)     layer 1: ...        each as kernels/kv_pages.h lays it
//     out
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/exec.h"
#include "model/config.h"

namespace corvid::model {

// Grows page by page and keeps its pages; what lies behind the positions in use is stale and never read.
class KvCache {
 public:
  explicit KvCache(const Config& config);

  // Makes place for positions [0, n_tokens). Throws std::bad_alloc when memory is short; what was there stays.
  void reserve(int64_t n_tokens);

  int64_t block() const { return block_; }

  // One pointer for each page there is; valid until the next reserve().
  struct Layer {
    std::vector<float*> keys, values;
    std::vector<float*> index_keys;  // empty in layers that attend to everything
  };
  const Layer& layer(int64_t i) const { return layers_[static_cast<size_t>(i)]; }

 private:
  int64_t block_ = 0;
  int64_t key_floats_ = 0, value_floats_ = 0, index_floats_ = 0;  // of one layer in one page
  int64_t page_floats_ = 0;
  std::vector<bool> sparse_;  // by layer
  std::vector<kernels::Buffer> pages_;
  std::vector<Layer> layers_;
};

}  // namespace corvid::model
