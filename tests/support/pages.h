// A cache of random keys and values in pages, filled through the kernels that fill real ones.
#pragma once
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/kv_pages/kv_pages.h"
#include "tests/support/backends.h"

namespace corvid::test {

struct Pages {
  int64_t n_keys, n_heads, dim, block;
  kernels::Format format;
  std::vector<float> key_rows, value_rows;  // [n_keys, n_heads, dim]
  std::vector<kernels::Buffer> memory;
  std::vector<kernels::PageHeads> keys, values;

  // Each head's keys and values lie together, as in the model's cache. Everything that is never stored is NaN: a kernel
  // that lets it through fails its test.
  Pages(int64_t n_keys_, int64_t n_heads_, int64_t dim_, int64_t block_, uint32_t seed, kernels::Exec& exec,
        kernels::Format format_ = kernels::Format::f32)
      : n_keys(n_keys_),
        n_heads(n_heads_),
        dim(dim_),
        block(block_),
        format(format_),
        key_rows(random_floats(n_keys * n_heads * dim, seed)),
        value_rows(random_floats(n_keys * n_heads * dim, seed + 1)) {
    const int64_t pages = (n_keys + block - 1) / block;
    for (int64_t b = 0; b < pages; ++b) {
      const int64_t key_bytes = kernels::key_head_bytes(format, dim, block);
      const int64_t step = key_bytes + kernels::value_head_bytes(format, dim, block);
      keys.push_back({nan_page(n_heads * step), step});
      values.push_back({keys.back().first + key_bytes, step});
    }
    std::vector<int64_t> pos(static_cast<size_t>(n_keys));
    std::iota(pos.begin(), pos.end(), 0);
    store_keys({key_rows.data(), pos.data(), keys.data(), n_keys, n_heads, dim, block, format}, exec);
    store_values({value_rows.data(), pos.data(), values.data(), n_keys, n_heads, dim, block, format}, exec);
  }

 private:
  // All ones: NaN in each format but q8_0's elements, whose scales are NaN then.
  std::byte* nan_page(int64_t bytes) {
    memory.emplace_back(bytes);
    std::fill_n(memory.back().as<std::byte>(), bytes, std::byte{0xff});
    return memory.back().as<std::byte>();
  }
};

}  // namespace corvid::test
