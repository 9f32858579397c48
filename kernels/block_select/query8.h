// Queries in 8 bits, for products with keys in q8_0: 32 numbers under a scale, x = q * d to within d / 2.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/kv_pages/kv_pages.h"

namespace corvid::kernels {

constexpr float kMaxByte = 127;

// One block of n <= 32 numbers -> integers in [-127, 127], and the scale. Zeros for a block too small to divide by; NaN
// or an infinity make the scale NaN.
inline float to_bytes(const float* x, int64_t n, int32_t* q) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < n; ++i) bits = std::max(bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffU);
  const float most = std::bit_cast<float>(bits);
  const bool is_finite = bits < 0x7f800000U, is_zero = most < 0x1p-100F;
  const float inverse = is_finite && !is_zero ? kMaxByte / most : 0;
  for (int64_t i = 0; i < n; ++i) {
    constexpr float kRound = 12582912;  // 1.5 * 2^23: added and taken away, it leaves the nearest integer, ties to even
    const float y = is_finite ? x[i] * inverse : 0;
    q[i] = static_cast<int32_t>(y + kRound - kRound);
  }
  return is_finite ? (is_zero ? 0 : most / kMaxByte) : std::numeric_limits<float>::quiet_NaN();
}

// As numbers: [dim] integers as floats, then a scale for each 32.
constexpr int64_t float_query_size(int64_t dim) { return dim + scale_groups(Format::q8_0, dim); }
inline void float_query(const float* x, int64_t dim, float* out) {
  for (int64_t i = 0; i < dim; i += kQ8Block) {
    int32_t q[kQ8Block];
    const int64_t n = std::min<int64_t>(kQ8Block, dim - i);
    out[dim + i / kQ8Block] = to_bytes(x + i, n, q);
    std::copy_n(q, n, out + i);
  }
}

// As bytes: for each 32 numbers (filled up with zeros) the integers, the scale, and -128 times their sum.
struct ByteQuery {
  int8_t q[kQ8Block];
  float scale;
  int32_t offset;
};
inline void byte_query(const float* x, int64_t dim, ByteQuery* out) {
  for (int64_t i = 0; i < dim; i += kQ8Block, ++out) {
    int32_t q[kQ8Block] = {}, sum = 0;
    out->scale = to_bytes(x + i, std::min<int64_t>(kQ8Block, dim - i), q);
    for (const int32_t& value : q) {
      out->q[&value - q] = static_cast<int8_t>(value);
      sum += value;
    }
    out->offset = -128 * sum;
  }
}

}  // namespace corvid::kernels
