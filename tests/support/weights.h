// Random weight matrices in every format.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/format.h"
#include "tests/support/backends.h"

namespace corvid::test {

constexpr kernels::Format kAllFormats[] = {kernels::Format::f32,  kernels::Format::f16,  kernels::Format::bf16,
                                           kernels::Format::q8_0, kernels::Format::q4_0, kernels::Format::mxfp4,
                                           kernels::Format::q4_k, kernels::Format::q5_k, kernels::Format::q6_k};

// [n, k] in `format`, of a size that keeps sums of k products near 1.
struct TestWeights {
  kernels::Format format;
  int64_t n, k;
  std::vector<char> bytes;

  TestWeights(kernels::Format format_, int64_t n_, int64_t k_, uint32_t seed)
      : format(format_), n(n_), k(k_), bytes(static_cast<size_t>(n_ * kernels::row_bytes(format_, k_))) {
    const std::vector<float> values = random_floats(n * k, seed, 1 / std::sqrt(static_cast<float>(k)));
    for (int64_t j = 0; j < n; ++j)
      encode_row(format, values.data() + j * k, k, bytes.data() + j * kernels::row_bytes(format, k));
  }
  kernels::Matrix view() const { return {bytes.data(), format}; }
  std::vector<float> decoded() const {
    std::vector<float> values(static_cast<size_t>(n * k));
    for (int64_t j = 0; j < n; ++j)
      decode_row(format, bytes.data() + j * kernels::row_bytes(format, k), k, values.data() + j * k);
    return values;
  }
};

}  // namespace corvid::test
