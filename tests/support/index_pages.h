// Random index keys of one sequence, in pages of a format, filled through the kernel that fills real ones.
#pragma once
#include <numeric>
#include <vector>

#include "kernels/kv_pages/kv_pages.h"
#include "tests/support/backends.h"

namespace corvid::test {

struct IndexPages {
  std::vector<kernels::Buffer> memory;
  std::vector<kernels::PageHeads> pages;

  // Everything that is never stored is NaN in every format: a kernel that lets it through fails its test. `gap`: bytes
  // that lie between two pages, as those of other layers do.
  IndexPages(const std::vector<float>& rows, int64_t dim, int64_t block, kernels::Format format, kernels::Exec& exec,
             int64_t gap = 0) {
    const int64_t n_keys = std::ssize(rows) / dim, bytes = kernels::key_head_bytes(format, dim, block) + gap;
    const int64_t n_pages = (n_keys + block - 1) / block;
    memory.emplace_back(n_pages * bytes);
    std::fill_n(memory.back().as<std::byte>(), n_pages * bytes, std::byte{0xff});
    for (int64_t p = 0; p < n_pages; ++p) pages.push_back({memory.back().as<std::byte>() + p * bytes});
    std::vector<int64_t> pos(static_cast<size_t>(n_keys));
    std::iota(pos.begin(), pos.end(), 0);
    store_keys({rows.data(), pos.data(), pages.data(), n_keys, 1, dim, block, format}, exec);
  }
};

}  // namespace corvid::test
