#include "kernels/quantize.h"

#include <algorithm>
#include <cmath>

#include "kernels/block_weights.h"

namespace corvid::kernels {
namespace {

// Round to nearest, halves away from zero, cut to [low, high]; NaN gives low.
int nearest(float x, int low, int high) {
  if (!(x > static_cast<float>(low))) return low;
  if (x >= static_cast<float>(high)) return high;
  return static_cast<int>(std::lround(x));
}

// The same for the search of scales, where ties do not matter: adding and subtracting 1.5 * 2^23 rounds to an integer.
float rough(float x, float low, float high) {
  const float cut = !(x > low) ? low : x > high ? high : x;
  return (cut + 12582912.0F) - 12582912.0F;
}

float inverse(float x) { return x != 0 ? 1 / x : 0; }

// The number of largest magnitude, with its sign.
float furthest(const float* x, int64_t n) {
  float value = 0;
  for (int64_t i = 0; i < n; ++i)
    if (std::fabs(x[i]) > std::fabs(value)) value = x[i];
  return value;
}

// Scale and minimum of one group that bring scale * q - min, q in [0, top], closest to x: starting from the group's
// range, slightly larger and smaller scales are tried, each followed by the least-squares fit of both to the q that it
// gives. min >= 0, as the formats want it.
GroupScale fit_range(const float* x, int64_t n, int top) {
  const auto [lowest, highest] = std::minmax_element(x, x + n);
  const float low = std::min(*lowest, 0.0F), range = *highest - low;
  if (!(range > 0)) return {0, -low};  // all equal and not positive
  GroupScale best{range / static_cast<float>(top), -low};
  double best_error = INFINITY;
  double sum_x = 0, sum_xx = 0;
  for (int64_t i = 0; i < n; ++i) sum_x += x[i], sum_xx += double(x[i]) * x[i];
  for (int step = -8; step <= 8; ++step) {
    const float to_q = (static_cast<float>(top) + 0.1F * static_cast<float>(step)) / range;
    double sum_q = 0, sum_qq = 0, sum_xq = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double q = rough((x[i] - low) * to_q, 0, static_cast<float>(top));
      sum_q += q, sum_qq += q * q, sum_xq += q * x[i];
    }
    const double size = static_cast<double>(n), determinant = size * sum_qq - sum_q * sum_q;
    if (determinant <= 0) continue;
    double scale = (size * sum_xq - sum_x * sum_q) / determinant;
    double min = (scale * sum_q - sum_x) / size;
    if (min < 0) min = 0, scale = sum_xq / sum_qq;
    const double error = sum_xx - 2 * (scale * sum_xq - min * sum_x) + scale * scale * sum_qq -
                         2 * scale * min * sum_q + size * min * min;
    if (scale > 0 && error < best_error) best_error = error, best = {float(scale), float(min)};
  }
  return best;
}

// The scale that brings scale * q, q in [-half, half - 1], closest to x.
float fit_scale(const float* x, int64_t n, int half) {
  const float far = furthest(x, n);
  if (far == 0) return 0;
  float best = -far / static_cast<float>(half);
  double best_gain = 0;
  for (int step = -9; step <= 9; ++step) {
    const float to_q = -(static_cast<float>(half) + 0.1F * static_cast<float>(step)) / far;
    double sum_qq = 0, sum_xq = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double q = rough(x[i] * to_q, static_cast<float>(-half), static_cast<float>(half - 1));
      sum_qq += q * q, sum_xq += q * x[i];
    }
    // With the best scale sum_xq / sum_qq the squared error is sum_xx less this.
    if (sum_qq > 0 && sum_xq * sum_xq > best_gain * sum_qq) {
      best_gain = sum_xq * sum_xq / sum_qq;
      best = static_cast<float>(sum_xq / sum_qq);
    }
  }
  return best;
}

// The inverse of k_scale's packing.
void pack_scales(const int* scales, const int* mins, uint8_t* packed) {
  for (int g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(scales[g] | (scales[g + 4] >> 4 << 6));
    packed[g + 4] = static_cast<uint8_t>(mins[g] | (mins[g + 4] >> 4 << 6));
    packed[g + 8] = static_cast<uint8_t>((scales[g + 4] & 15) | ((mins[g + 4] & 15) << 4));
  }
}

void put_nibble(uint8_t* q, int64_t i, int value) {
  uint8_t& byte = q[i / 64 * 32 + i % 32];
  byte = static_cast<uint8_t>(i % 64 < 32 ? value : byte | value << 4);
}
void put_weight(BlockQ4K& b, int64_t i, int q) { put_nibble(b.q, i, q); }
void put_weight(BlockQ5K& b, int64_t i, int q) {
  put_nibble(b.q, i, q & 15);
  b.high[i % 32] = static_cast<uint8_t>(b.high[i % 32] | (q >> 4) << (i / 32));
}

// q4_k and q5_k: q in [0, top].
template <class Block>
void quantize_ranges(const float* x, Block& b, int top) {
  constexpr int64_t kGroups = 8, kGroup = kKBlock / kGroups;
  GroupScale fit[kGroups];
  float scale = 0, min = 0;
  for (int64_t g = 0; g < kGroups; ++g) {
    fit[g] = fit_range(x + g * kGroup, kGroup, top);
    scale = std::max(scale, fit[g].scale);
    min = std::max(min, fit[g].min);
  }
  b = {};
  b.d = f32_to_f16(scale / 63);
  b.dmin = f32_to_f16(min / 63);
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  int scales[kGroups], mins[kGroups];
  for (int64_t g = 0; g < kGroups; ++g) {
    scales[g] = nearest(fit[g].scale * inverse(d), 0, 63);
    mins[g] = nearest(fit[g].min * inverse(dmin), 0, 63);
  }
  pack_scales(scales, mins, b.scales);
  for (int64_t i = 0; i < kKBlock; ++i) {
    const GroupScale s = k_scale(d, dmin, b.scales, i / kGroup);
    put_weight(b, i, nearest((x[i] + s.min) * inverse(s.scale), 0, top));
  }
}

}  // namespace

void quantize(const float* values, int64_t blocks, BlockQ8* row) {
  for (int64_t n = 0; n < blocks; ++n) {
    const float* x = values + n * kQ8Block;
    const float d = std::fabs(furthest(x, kQ8Block)) / 127;
    row[n].d = f32_to_f16(d);
    for (int64_t i = 0; i < kQ8Block; ++i) row[n].q[i] = static_cast<int8_t>(nearest(x[i] * inverse(d), -128, 127));
  }
}

void quantize(const float* values, int64_t blocks, BlockQ4* row) {
  for (int64_t n = 0; n < blocks; ++n) {
    const float* x = values + n * kQ8Block;
    const float d = furthest(x, kQ8Block) / -8;  // the furthest number becomes -8, which no other sign could reach
    row[n].d = f32_to_f16(d);
    const auto code = [&](int64_t i) {
      const float q = x[i] * inverse(d) + 8.5F;
      return !(q > 0) ? 0 : q >= 16 ? 15 : static_cast<int>(q);
    };
    for (int64_t i = 0; i < kQ8Block / 2; ++i) row[n].q[i] = static_cast<uint8_t>(code(i) | code(i + 16) << 4);
  }
}

void quantize(const float* values, int64_t blocks, BlockMxfp4* row) {
  for (int64_t n = 0; n < blocks; ++n) {
    const float* x = values + n * kQ8Block;
    const float far = std::fabs(furthest(x, kQ8Block));
    // Such that the largest magnitude lies between 4 and 8 units; 6 is the largest there is.
    const int exponent = far > 0 ? std::min(std::ilogb(far), 127) - 2 + 127 : 0;  // infinity has the largest int
    row[n].e = static_cast<uint8_t>(std::max(exponent, 0));
    const float scale = mxfp4_scale(row[n].e);
    const auto code = [&](int64_t i) {
      int best = 0;
      for (int c = 1; c < 16; ++c) {
        const auto error = [&](int of) { return std::fabs(static_cast<float>(mxfp4_value(of)) * scale - x[i]); };
        if (error(c) < error(best)) best = c;
      }
      return best;
    };
    for (int64_t i = 0; i < kQ8Block / 2; ++i) row[n].q[i] = static_cast<uint8_t>(code(i) | code(i + 16) << 4);
  }
}

void quantize(const float* values, int64_t blocks, BlockQ4K* row) {
  for (int64_t n = 0; n < blocks; ++n) quantize_ranges(values + n * kKBlock, row[n], 15);
}

void quantize(const float* values, int64_t blocks, BlockQ5K* row) {
  for (int64_t n = 0; n < blocks; ++n) quantize_ranges(values + n * kKBlock, row[n], 31);
}

void quantize(const float* values, int64_t blocks, BlockQ6K* row) {
  constexpr int64_t kGroups = 16, kGroup = kKBlock / kGroups;
  for (int64_t n = 0; n < blocks; ++n) {
    const float* x = values + n * kKBlock;
    BlockQ6K& b = row[n];
    float fit[kGroups];
    for (int64_t g = 0; g < kGroups; ++g) fit[g] = fit_scale(x + g * kGroup, kGroup, 32);
    b = {};
    b.d = f32_to_f16(furthest(fit, kGroups) / -128);
    const float d = f16_to_f32(b.d);
    for (int64_t g = 0; g < kGroups; ++g) b.scales[g] = static_cast<int8_t>(nearest(fit[g] * inverse(d), -128, 127));
    for (int64_t i = 0; i < kKBlock; ++i) {
      const int q = nearest(x[i] * inverse(d * static_cast<float>(b.scales[i / kGroup])), -32, 31) + 32;
      const int64_t half = i / 128, within = i % 128;
      uint8_t& low = b.low[half * 64 + within % 64];
      uint8_t& high = b.high[half * 32 + within % 32];
      low = static_cast<uint8_t>(low | (q & 15) << (within < 64 ? 0 : 4));
      high = static_cast<uint8_t>(high | (q >> 4) << (within / 32 * 2));
    }
  }
}

}  // namespace corvid::kernels
