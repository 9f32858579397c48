// One warp's share of a panel of weights (tile.h says how it lies), times up to 8 N_TILES rows of x, on the
// tensor cores: the weights are the first operand of mma.m16n8k16, straight from memory to registers.
//
// A step is what a lane loads ahead of its use. The quants become bf16 numbers exactly; what they are scaled with is
// applied in float32 to the sums that share a scale.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/device_matrix/device_matrix.h"
#include "kernels/products/grid.cuh"

namespace corvid::kernels {

// 16 bytes that are read once, and so many around them to the level-2 cache. Of tiles, all bytes are asked for at once;
// of rows of bf16, 128 bytes each at a time, and memory gives 91% of its speed if it is not told of the next 128.
template <int kFetched = 128>
__device__ inline uint4 load_once(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::%5B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from), "n"(kFetched));
  return v;
}
__device__ inline uint4 load16(const void* from) { return __ldg(static_cast<const uint4*>(from)); }

// Tile i of a panel, in 32 bits: a panel is never as large as that.
template <DeviceFormat kFormat>
__device__ inline const unsigned char* tile_at(const unsigned char* panel, unsigned i) {
  return panel + i * static_cast<unsigned>(tile_bytes(kFormat));
}

__device__ inline void mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                           uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The same for bytes, 32 deep, in integers.
__device__ inline void mma(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Pairs of bf16 numbers in a word.
constexpr uint32_t kOnes = 0x3f803f80U;
constexpr uint32_t k128 = 0x43004300U;  // 128: seven bits of mantissa below it count in ones
__device__ inline uint32_t subtract(uint32_t a, uint32_t b) {
  uint32_t c;
  asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
  return c;
}
__device__ inline uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t c;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
  return c;
}
// (word & mask) | bits in one instruction, which the compiler makes two of.
__device__ inline uint32_t and_or(uint32_t word, uint32_t mask, uint32_t bits) {
  uint32_t c;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(c) : "r"(word), "r"(mask), "r"(bits));
  return c;
}
// Bytes 0 and 2 of a word, as signed integers: seven bits over 128, less 128, or 256 where the sign is set.
__device__ inline uint32_t from_bytes(uint32_t word) {
  return subtract(and_or(word, 0x007f007fU, k128), and_or(word, 0x00800080U, k128));
}
// Bytes 1 and 3, as e4m3: shifted into bf16's place they are too small by 2^(127 - 7).
__device__ inline uint32_t from_f8(uint32_t word) {
  return multiply((word & 0x80008000U) | ((word & 0x7f007f00U) >> 4), 0x7b807b80U);
}
// Byte i of a word as a float: its bits below 2^23, less that.
__device__ inline float byte_float(uint32_t word, int i, float bias = 8388608.0F) {
  return __uint_as_float(__byte_perm(word, 0x4b000000U, 0x7650 | static_cast<uint32_t>(i))) - bias;
}
__device__ inline uint32_t pair_of(float low, float high) {
  const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&two);
}
__device__ inline float half_float(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

// The eight numbers that a lane has of a group of 32 in a row of x, in the order of the weights: .x .y for the first
// instruction, .z .w for the second. Zeros where there is no row, and beyond its end. Another kernel may have written x
// while this one ran, so these are ordinary loads.
// kPadded: there is a row, with zeros behind its end up to the format's unit.
template <DeviceFormat kFormat, bool kPadded>
__device__ inline uint4 load_x(const uint16_t* row, int group_k, int64_t k, int lane) {
  constexpr bool kWhole = kFormat == DeviceFormat::q4_k || kFormat == DeviceFormat::q6_k;  // k is a multiple of 256
  if constexpr (kFormat == DeviceFormat::q6_k) {
    const uint16_t* at = row + group_k + lane % 4 * 4;
    uint2 first = {}, second = {};
    if (kPadded || row != nullptr)
      first = *reinterpret_cast<const uint2*>(at), second = *reinterpret_cast<const uint2*>(at + 16);
    return {first.x, first.y, second.x, second.y};
  } else {
    const int at = group_k + lane % 4 * 8;
    return kPadded || (row != nullptr && (kWhole || at < k)) ? *reinterpret_cast<const uint4*>(row + at) : uint4{};
  }
}

template <int kTiles>
__device__ inline void add_scaled(float (&sum)[kTiles][4], const float (&part)[kTiles][4], float low, float high) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    sum[n][0] = fmaf(low, part[n][0], sum[n][0]);
    sum[n][1] = fmaf(low, part[n][1], sum[n][1]);
    sum[n][2] = fmaf(high, part[n][2], sum[n][2]);
    sum[n][3] = fmaf(high, part[n][3], sum[n][3]);
  }
}

// For each format: kGroups of 32 weights in a step; load() step `step` of a panel; add() group j of it, times x, to
// sum. xsum: the sum of x over the group, for the format that needs it.
template <DeviceFormat kFormat>
struct Step;

template <>
struct Step<DeviceFormat::bf16> {
  static constexpr int kGroups = 2;
  static constexpr bool kNeedsSums = false;
  uint4 w[2][2];  // half, group

  __device__ void load(const unsigned char* panel, int64_t k, int step, int lane) {
    const int64_t columns = padded_k(DeviceFormat::bf16, k);
    const unsigned char* at = panel + (lane / 4 * columns + step * 64 + lane % 4 * 8) * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < 2; ++j) w[half][j] = load_once<256>(at + half * 8 * columns * 2 + j * 64);
  }
  template <int kTiles>
  __device__ void add(int j, const uint4 (&x)[kTiles], float (&sum)[kTiles][4]) const {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      mma(sum[n], w[0][j].x, w[1][j].x, w[0][j].y, w[1][j].y, x[n].x, x[n].y);
      mma(sum[n], w[0][j].z, w[1][j].z, w[0][j].w, w[1][j].w, x[n].z, x[n].w);
    }
  }
};

// Words first[half], second[half] -> four pairs each -> two instructions, by a conversion of pairs.
template <int kTiles>
__device__ inline void mma_pairs(float (&sum)[kTiles][4], const uint32_t (&p)[2][4], const uint4 (&x)[kTiles]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    mma(sum[n], p[0][0], p[1][0], p[0][1], p[1][1], x[n].x, x[n].y);
    mma(sum[n], p[0][2], p[1][2], p[0][3], p[1][3], x[n].z, x[n].w);
  }
}

template <>
struct Step<DeviceFormat::q8_0> {
  static constexpr int kGroups = 4;
  static constexpr bool kNeedsSums = false;
  uint4 w[2][2];    // half, two groups
  uint2 scales[2];  // half: four

  __device__ void load(const unsigned char* panel, int64_t, int step, int lane) {
    load_half(0, panel, 0, step, lane), load_half(1, panel, 1, step, lane);
  }
  // Half `to` of the rows is half `half` of this panel's.
  __device__ void load_half(int to, const unsigned char* panel, int half, unsigned step, int lane) {
    const unsigned char* tile = tile_at<DeviceFormat::q8_0>(panel, step / 2U);
#pragma unroll
    for (int j = 0; j < 2; ++j) w[to][j] = load_once(tile + step % 2 * 2048 + (j * 2 + half) * 512 + lane * 16);
    scales[to] = __ldg(reinterpret_cast<const uint2*>(tile + 4096 + (lane / 4 + half * 8) * 16 + step % 2 * 8));
  }
  // Group j of a half of the rows: eight exact numbers, and what they are scaled with.
  __device__ void quants(int j, int half, uint32_t (&p)[4]) const {
    const uint32_t first = j % 2 == 0 ? w[half][j / 2].x : w[half][j / 2].z;
    const uint32_t second = j % 2 == 0 ? w[half][j / 2].y : w[half][j / 2].w;
    p[0] = from_bytes(first), p[1] = from_bytes(first >> 8), p[2] = from_bytes(second), p[3] = from_bytes(second >> 8);
  }
  __device__ float scale(int j, int half, int) const {
    return half_float((j < 2 ? scales[half].x : scales[half].y) >> (j % 2 * 16));
  }
  // Group j, times a row of integers (grid.cuh): what add() does, in the same bits. sum: of the rows lane / 4 and
  // lane / 4 + 8.
  __device__ void add_ints(int j, uint32_t x0, uint32_t x1, float unit, float (&sum)[2]) const {
    const bool is_even = j % 2 == 0;
    int part[4] = {};
    mma(part, is_even ? w[0][j / 2].x : w[0][j / 2].z, is_even ? w[1][j / 2].x : w[1][j / 2].z,
        is_even ? w[0][j / 2].y : w[0][j / 2].w, is_even ? w[1][j / 2].y : w[1][j / 2].w, x0, x1);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      sum[half] = fmaf(scale(j, half, 0), __int2float_rn(part[2 * half] * 256 + part[2 * half + 1]) * unit, sum[half]);
  }
  template <int kTiles>
  __device__ void add(int j, const uint4 (&x)[kTiles], float (&sum)[kTiles][4]) const {
    uint32_t p[2][4];
    quants(j, 0, p[0]), quants(j, 1, p[1]);
    float part[kTiles][4] = {};
    mma_pairs(part, p, x);
    add_scaled(sum, part, scale(j, 0, 0), scale(j, 1, 0));
  }
};

template <>
struct Step<DeviceFormat::f8_e4m3> {
  static constexpr int kGroups = 4;
  static constexpr bool kNeedsSums = false;
  uint4 w[2][2];
  float scales[2];  // half

  __device__ void load(const unsigned char* panel, int64_t, int step, int lane) {
    load_half(0, panel, 0, step, lane), load_half(1, panel, 1, step, lane);
  }
  // Half `to` of the rows is half `half` of this panel's.
  __device__ void load_half(int to, const unsigned char* panel, int half, unsigned step, int lane) {
    const unsigned char* tile = tile_at<DeviceFormat::f8_e4m3>(panel, step / 2U);
#pragma unroll
    for (int j = 0; j < 2; ++j) w[to][j] = load_once(tile + step % 2 * 2048 + (j * 2 + half) * 512 + lane * 16);
    scales[to] = __ldg(reinterpret_cast<const float*>(tile + 4096 + step % 2 * 4));
  }
  __device__ void quants(int j, int half, uint32_t (&p)[4]) const {
    const uint32_t first = j % 2 == 0 ? w[half][j / 2].x : w[half][j / 2].z;
    const uint32_t second = j % 2 == 0 ? w[half][j / 2].y : w[half][j / 2].w;
    p[0] = from_f8(first << 8), p[1] = from_f8(first), p[2] = from_f8(second << 8), p[3] = from_f8(second);
  }
  __device__ float scale(int, int half, int) const { return scales[half]; }
  template <int kTiles>
  __device__ void add(int j, const uint4 (&x)[kTiles], float (&sum)[kTiles][4]) const {
    uint32_t p[2][4];
    quants(j, 0, p[0]), quants(j, 1, p[1]);
    float part[kTiles][4] = {};
    mma_pairs(part, p, x);
    add_scaled(sum, part, scales[0], scales[1]);
  }
};

__device__ inline uint32_t word_of(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// A weight is d * s * q - dmin * m, with a group's s and m of six bits. As 16 + q is cheap to have in bf16, a tile adds
//   d * (sum_g s_g (16 + q_g) x_g - 16 sum_g s_g X_g) - dmin * sum_g m_g X_g,      X_g = sum of x over group g,
// and the tensor cores make the last two sums: s and m are exact in bf16, X is two bf16 numbers, good to 2^-17.
template <>
struct Step<DeviceFormat::q4_k> {
  static constexpr int kGroups = 8;
  static constexpr bool kNeedsSums = true;
  uint4 header[2];  // half
  uint4 w[2][2];    // half, four groups

  __device__ void load(const unsigned char* panel, int64_t, int step, int lane) {
    load_half(0, panel, 0, step, lane), load_half(1, panel, 1, step, lane);
  }
  // Half `to` of the rows is half `half` of this panel's.
  __device__ void load_half(int to, const unsigned char* panel, int half, unsigned step, int lane) {
    const unsigned char* tile = tile_at<DeviceFormat::q4_k>(panel, step);
    header[to] = load16(tile + (lane / 4 + half * 8) * 16);
#pragma unroll
    for (int j = 0; j < 2; ++j) w[to][j] = load_once(tile + 256 + (j * 2 + half) * 512 + lane * 16);
  }
  // Four of a row's scales, or minima, as block_weights.h's k_scale has them: groups 0 to 3, or 4 to 7.
  __device__ uint32_t scales(int half, bool upper) const {
    const uint4& h = header[half];
    return upper ? (h.w & 0x0f0f0f0fU) | (h.y >> 2 & 0x30303030U) : h.y & 0x3f3f3f3fU;
  }
  __device__ uint32_t mins(int half, bool upper) const {
    const uint4& h = header[half];
    return upper ? (h.w >> 4 & 0x0f0f0f0fU) | (h.z >> 2 & 0x30303030U) : h.z & 0x3f3f3f3fU;
  }
  __device__ void quants(int j, int half, uint32_t (&p)[4]) const {
    const uint32_t word = word_of(w[half][j / 4], j % 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) p[i] = subtract((word >> (4 * i) & 0x000f000fU) | k128, k128);
  }
  __device__ float scale(int j, int half, int) const {
    return half_float(header[half].x) * byte_float(scales(half, j >= 4), j % 4);
  }
  __device__ float min(int j, int half) const {
    return half_float(header[half].x >> 16) * byte_float(mins(half, j >= 4), j % 4);
  }
  template <int kTiles>
  __device__ void add(int j, const uint4 (&x)[kTiles], float (&sum)[kTiles][4]) const {
    uint32_t p[2][4];
    float by[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t word = word_of(w[half][j / 4], j % 4);
      p[half][0] = and_or(word << 3, 0x00780078U, 0x41804180U);
#pragma unroll
      for (int i = 1; i < 4; ++i) p[half][i] = and_or(word >> (4 * i - 3), 0x00780078U, 0x41804180U);
      by[half] = byte_float(scales(half, j >= 4), j % 4);
    }
    float part[kTiles][4] = {};
    mma_pairs(part, p, x);
    add_scaled(sum, part, by[0], by[1]);
  }
  // sums: of add() over the tile. x_high, x_low: of X, the lane's groups 2 * (lane % 4) and the next.
  template <int kTiles>
  __device__ void finish(const float (&sums)[kTiles][4], const uint32_t (&x_high)[kTiles],
                         const uint32_t (&x_low)[kTiles], float (&sum)[kTiles][4], int lane) const {
    uint32_t s[2], m[2];
    float d[2], dmin[2];
    const bool upper = lane % 4 >= 2;
    const uint32_t pick = lane % 2 == 0 ? 0x4140 : 0x4342;  // two bytes, each below a 0x43: 128 and it
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      s[half] = subtract(__byte_perm(scales(half, upper), 0x43434343U, pick), k128);
      m[half] = subtract(__byte_perm(mins(half, upper), 0x43434343U, pick), k128);
      d[half] = half_float(header[half].x), dmin[half] = -half_float(header[half].x >> 16);
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      float by_scale[4] = {}, by_min[4] = {};
      mma(by_scale, s[0], s[1], s[0], s[1], x_high[n], x_low[n]);
      mma(by_min, m[0], m[1], m[0], m[1], x_high[n], x_low[n]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float scaled = fmaf(-16.0F, by_scale[i], sums[n][i]);
        sum[n][i] = fmaf(d[i / 2], scaled, fmaf(dmin[i / 2], by_min[i], sum[n][i]));
      }
    }
  }
};

template <>
struct Step<DeviceFormat::q6_k> {
  static constexpr int kGroups = 8;
  static constexpr bool kNeedsSums = false;
  uint4 low[2][2];  // half, four groups
  uint4 high[2];    // half
  uint4 scales[2];  // half
  uint16_t d[2];

  __device__ void load(const unsigned char* panel, int64_t, int step, int lane) {
    load_half(0, panel, 0, step, lane), load_half(1, panel, 1, step, lane);
  }
  // Half `to` of the rows is half `half` of this panel's.
  __device__ void load_half(int to, const unsigned char* panel, int half, unsigned step, int lane) {
    const unsigned char* tile = tile_at<DeviceFormat::q6_k>(panel, step);
#pragma unroll
    for (int j = 0; j < 2; ++j) low[to][j] = load_once(tile + (j * 2 + half) * 512 + lane * 16);
    high[to] = load_once(tile + 2048 + half * 512 + lane * 16);
    scales[to] = load16(tile + 3072 + (lane / 4 + half * 8) * 16);
    d[to] = __ldg(reinterpret_cast<const uint16_t*>(tile + 3328 + (lane / 4 + half * 8) * 2));
  }
  __device__ void quants(int j, int half, uint32_t (&p)[4]) const {
    const uint32_t l = word_of(low[half][j / 4], j % 4), h = word_of(high[half], j / 2);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int shift = (j % 2 * 4 + i) * 2;  // where the upper bits are; they go to 4
      const uint32_t upper = (shift < 4 ? h << (4 - shift) : h >> (shift - 4)) & 0x00300030U;
      p[i] = subtract((l >> (4 * i) & 0x000f000fU) | upper | k128, 0x43204320U);  // 160
    }
  }
  __device__ float scale(int j, int half, int instruction) const {
    const uint32_t biased = word_of(scales[half], j / 2) ^ 0x80808080U;
    return half_float(d[half]) * byte_float(biased, j % 2 * 2 + instruction, 8388736.0F);
  }
  template <int kTiles>
  __device__ void add(int j, const uint4 (&x)[kTiles], float (&sum)[kTiles][4]) const {
    uint32_t p[2][4];
    quants(j, 0, p[0]), quants(j, 1, p[1]);
    float part[kTiles][4] = {};
#pragma unroll
    for (int n = 0; n < kTiles; ++n) mma(part[n], p[0][0], p[1][0], p[0][1], p[1][1], x[n].x, x[n].y);
    add_scaled(sum, part, scale(j, 0, 0), scale(j, 1, 0));
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      part[n][0] = part[n][1] = part[n][2] = part[n][3] = 0;
      mma(part[n], p[0][2], p[1][2], p[0][3], p[1][3], x[n].z, x[n].w);
    }
    add_scaled(sum, part, scale(j, 0, 1), scale(j, 1, 1));
  }
};

template <DeviceFormat kFormat>
constexpr int64_t kStepK = Step<kFormat>::kGroups * 32;
template <DeviceFormat kFormat>
__host__ __device__ constexpr int64_t steps_of(int64_t k) {
  return padded_k(kFormat, k) / kStepK<kFormat>;
}

// Steps first, first + stride, ... before end, of kPanels panels, times the rows that a lane holds (x[n]: row lane / 4
// of tile n, or null), added to sum: [panel][tile of 8 rows][(row of the panel lane / 4: row of x 2 * (lane % 4), the
// next), (lane / 4 + 8: ...)]. kAhead steps are in registers at a time.
//
// before_x() is called when the first are on their way, between() before each kAhead steps. kRounds: x is not on the
// grid of grid.cuh, and has to be.
template <DeviceFormat kFormat, int kTiles, int kPanels, int kAhead, bool kPadded = false, bool kRounds = false,
          class BeforeX, class Between>
__device__ inline void stream(const unsigned char* const (&panels)[kPanels], const uint16_t* const (&x)[kTiles],
                              int64_t k, int first, int end, int stride, float (&sum)[kPanels][kTiles][4], int lane,
                              BeforeX&& before_x, Between&& between) {
  using S = Step<kFormat>;
  S ahead[kAhead][kPanels];
  // All of them before x where there are registers for it: a place is filled again when it has been used, else while
  // the next is.
  constexpr bool kAll =
      kTiles == 1 && (kFormat == DeviceFormat::q8_0 || (kFormat == DeviceFormat::bf16 && kPanels == 1));
#pragma unroll
  for (int i = 0; i < (kAll ? kAhead : kAhead - 1); ++i)
#pragma unroll
    for (int p = 0; p < kPanels; ++p)
      if (first + i * stride < end) ahead[i][p].load(panels[p], k, first + i * stride, lane);
  before_x();
  for (int step = first; step < end;) {
    between();
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (const int next = step + (kAhead - 1) * stride; !kAll && next < end) {
#pragma unroll
        for (int p = 0; p < kPanels; ++p) ahead[(i + kAhead - 1) % kAhead][p].load(panels[p], k, next, lane);
      }
      float sums[kPanels][kTiles][4] = {}, x_sums[kTiles][4] = {};  // for the format that needs them
#pragma unroll
      for (int j = 0; j < S::kGroups; ++j) {
        uint4 xs[kTiles];
#pragma unroll
        for (int n = 0; n < kTiles; ++n)
          xs[n] = load_x<kFormat, kPadded>(x[n], step * static_cast<int>(kStepK<kFormat>) + j * 32, k, lane);
        if constexpr (kRounds) {
#pragma unroll
          for (int n = 0; n < kTiles; ++n) xs[n] = on_grid(xs[n]);
        }
        if constexpr (S::kNeedsSums) {
          // The rows of x as the first operand, times ones in column j alone.
          const uint32_t column = lane / 4 == j ? kOnes : 0;
#pragma unroll
          for (int n = 0; n < kTiles; ++n) {
            mma(x_sums[n], xs[n].x, 0, xs[n].y, 0, column, column);
            mma(x_sums[n], xs[n].z, 0, xs[n].w, 0, column, column);
          }
        }
#pragma unroll
        for (int p = 0; p < kPanels; ++p) ahead[i][p].add(j, xs, S::kNeedsSums ? sums[p] : sum[p]);
      }
      if constexpr (S::kNeedsSums) {
        uint32_t x_high[kTiles], x_low[kTiles];
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          x_high[n] = pair_of(x_sums[n][0], x_sums[n][1]);
          x_low[n] = pair_of(x_sums[n][0] - __uint_as_float(x_high[n] << 16),
                             x_sums[n][1] - __uint_as_float(x_high[n] & 0xffff0000U));
        }
#pragma unroll
        for (int p = 0; p < kPanels; ++p) ahead[i][p].finish(sums[p], x_high, x_low, sum[p], lane);
      }
      if (const int next = step + kAhead * stride; kAll && next < end) {
#pragma unroll
        for (int p = 0; p < kPanels; ++p) ahead[i][p].load(panels[p], k, next, lane);
      }
      step += stride;
      if (step >= end) break;
    }
  }
}

// A step of one row of integers.
template <int kPanels>
__device__ inline void add_step(const Step<DeviceFormat::q8_0> (&w)[kPanels], const IntRow& x, int step,
                                float (&sum)[kPanels][2], int lane) {
  const float4 units = x.units(step);
  const float each[] = {units.x, units.y, units.z, units.w};
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const uint4 q = x.quants(step * 2 + pair, lane);
#pragma unroll
    for (int p = 0; p < kPanels; ++p) {
      w[p].add_ints(2 * pair, q.x, q.y, each[2 * pair], sum[p]);
      w[p].add_ints(2 * pair + 1, q.z, q.w, each[2 * pair + 1], sum[p]);
    }
  }
}

// The same for one row of integers in shared memory, of q8_0. sum: of the panels' rows lane / 4 and lane / 4 + 8.
template <int kPanels, int kAhead, class BeforeX>
__device__ inline void stream_ints(const unsigned char* const (&panels)[kPanels], const IntRow& x, int first, int end,
                                   int stride, float (&sum)[kPanels][2], int lane, BeforeX&& before_x) {
  using S = Step<DeviceFormat::q8_0>;
  S ahead[kAhead][kPanels];
  const auto load = [&](S(&to)[kPanels], int step) {
#pragma unroll
    for (int p = 0; p < kPanels; ++p)
      if (step < end) to[p].load(panels[p], 0, step, lane);
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) load(ahead[i], first + i * stride);
  before_x();
  for (int step = first; step < end;) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      add_step(ahead[i], x, step, sum, lane);
      load(ahead[i], step + kAhead * stride);
      step += stride;
      if (step >= end) break;
    }
  }
}

}  // namespace corvid::kernels
