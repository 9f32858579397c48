// Random weight matrices in every format.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/format.h"
#include "kernels/matmul/interleaved.h"
#include "tests/support/backends.h"

namespace corvid::test {

constexpr kernels::Format kAllFormats[] = {kernels::Format::f32,    kernels::Format::f16,  kernels::Format::bf16,
                                           kernels::Format::q8_0,   kernels::Format::q4_0, kernels::Format::mxfp4,
                                           kernels::Format::q4_k,   kernels::Format::q5_k, kernels::Format::q6_k,
                                           kernels::Format::f8_e4m3};

// Nearest, ties to even, saturating.
inline uint8_t to_e4m3(float value) {
  const float size = std::min(std::fabs(value), 448.0F);
  int exponent = size == 0 ? -6 : std::max(std::ilogb(size), -6);
  auto eighths = static_cast<int>(std::nearbyint(std::ldexp(size, 3 - exponent)));
  if (eighths == 16) eighths = 8, ++exponent;
  const int bits = eighths < 8 ? eighths : (exponent + 7) * 8 + eighths - 8;
  return static_cast<uint8_t>(bits | (std::signbit(value) ? 0x80 : 0));
}

// [n, k] in `format`, of a size that keeps sums of k products near 1. scale_rows: of f8_e4m3, rows that share a scale.
struct TestWeights {
  kernels::Format format;
  int64_t n, k;
  std::vector<char> bytes;

  TestWeights(kernels::Format format_, int64_t n_, int64_t k_, uint32_t seed, int64_t scale_rows = 1)
      : format(format_), n(n_), k(k_), bytes(static_cast<size_t>(n_ * kernels::row_bytes(format_, k_))) {
    const std::vector<float> values = random_floats(n * k, seed, 1 / std::sqrt(static_cast<float>(k)));
    if (format == kernels::Format::f8_e4m3)
      for (int64_t j = 0; j < n; j += scale_rows) encode_f8(values.data(), j, std::min(n, j + scale_rows));
    else
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

 private:
  // Rows [first, end), with one scale for each 128 columns.
  void encode_f8(const float* values, int64_t first, int64_t end) {
    for (int64_t i = 0; i < k; i += kernels::kF8Block) {
      float most = 0;
      for (int64_t j = first; j < end; ++j)
        for (int64_t c = 0; c < kernels::kF8Block; ++c) most = std::max(most, std::fabs(values[j * k + i + c]));
      kernels::BlockF8 block{most / 448, {}};
      for (int64_t j = first; j < end; ++j) {
        for (int64_t c = 0; c < kernels::kF8Block; ++c) block.q[c] = to_e4m3(values[j * k + i + c] / block.scale);
        std::memcpy(bytes.data() + kernels::row_bytes(format, j * k + i), &block, sizeof block);
      }
    }
  }
};

constexpr kernels::Format kInterleavedFormats[] = {kernels::Format::q8_0x96, kernels::Format::q4_0x96};

// The same weights as w, in the plain format, side by side. rows: of one matrix, if w is several.
inline std::vector<char> interleaved(const TestWeights& w, kernels::Format format, int64_t rows = 0) {
  std::vector<char> bytes(w.bytes.size());
  if (rows == 0) rows = w.n;
  const size_t matrix = size_t(rows * kernels::row_bytes(format, w.k));
  for (size_t at = 0; at < bytes.size(); at += matrix)
    kernels::interleave(format, w.bytes.data() + at, rows, w.k, bytes.data() + at);
  return bytes;
}

// A gate and an up of the same shape as expert_ffn takes them as one, sixteen rows of each in turns; rows: an expert's.
inline std::vector<char> paired(const TestWeights& gate, const TestWeights& up, kernels::Format format, int64_t rows) {
  TestWeights both(gate.format, 2 * gate.n, gate.k, 0);
  const auto sixteen = ptrdiff_t(kernels::kInterleavedRows * kernels::row_bytes(gate.format, gate.k));
  auto to = both.bytes.begin();
  for (auto g = gate.bytes.begin(), u = up.bytes.begin(); g != gate.bytes.end(); g += sixteen, u += sixteen)
    to = std::copy_n(u, sixteen, std::copy_n(g, sixteen, to));
  return interleaved(both, format, 2 * rows);
}

}  // namespace corvid::test
