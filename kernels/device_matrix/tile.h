// A tile is 16 rows x 256 weights. The 32 lanes of a warp share it as mma.m16n8k16 wants its first operand: lane l has
// the rows l / 4 ("half" 0) and l / 4 + 8 (half 1), and of every group of 32 weights of a row the eight from 8 * (l %
// 4) on: four for each of two instructions. (The order within k is free, as long as x is read in the same.) With eight
// weights w0..w7 of a group:
//
//   bytes   w0 w2 w1 w3 | w4 w6 w5 w7: a mask and a shift leave two weights in the halves of a word
//   nibbles w0 w2 w4 w6 w1 w3 w5 w7, from the lowest: likewise
//
//   q8_0     bytes: 16 at ((pair of groups * 2 + half) * 32 + lane) * 16;  at 4096: scales (half) [16][8]
//   f8_e4m3  the same;                                                     at 4096: scales (float) [2]
//   q4_k     the blocks' first 16 bytes [16][16];  at 256: nibbles, 16 bytes at ((four groups * 2 + half) * 32 + lane)
//   *
//            16
//   q6_k     the lower four bits as q4_k's, from 0;  at 2048: the upper two, 16 bytes at (half * 32 + lane) * 16;
//            at 3072: scales [16][16];  at 3328: d (half) [16].  Its groups are of 16 weights, so its lanes have in
//            each the four from 4 * (l % 4) on, all four for one instruction.
#pragma once
#include "kernels/block_weights.h"
#include "kernels/device_matrix/device_matrix.h"

namespace corvid::kernels {

// Of a weight: the lane and half that have it, its group, and its number i among the lane's eight.
struct TilePlace {
  int64_t lane, half, group, i;
};
CORVID_HOST_DEVICE constexpr TilePlace tile_place(DeviceFormat format, int64_t row, int64_t k) {
  const int64_t in_group = k % 32;
  if (format == DeviceFormat::q6_k)
    return {row % 8 * 4 + in_group % 16 / 4, row / 8, k / 32, in_group / 16 * 4 + in_group % 4};
  return {row % 8 * 4 + in_group / 8, row / 8, k / 32, in_group % 8};
}

CORVID_HOST_DEVICE constexpr int64_t byte_at(const TilePlace& p) {
  const int64_t swapped = p.i % 4 == 1 ? p.i + 1 : p.i % 4 == 2 ? p.i - 1 : p.i;
  return ((p.group / 2 * 2 + p.half) * 32 + p.lane) * 16 + p.group % 2 * 8 + swapped;
}
// Numbers of fewer bits: the byte, and the shift in it.
struct BitPlace {
  int64_t at;
  int shift;
};
CORVID_HOST_DEVICE constexpr BitPlace nibble_place(const TilePlace& p) {
  const int64_t nibble = p.i / 2 + p.i % 2 * 4;
  return {((p.group / 4 * 2 + p.half) * 32 + p.lane) * 16 + p.group % 4 * 4 + nibble / 2, int(nibble % 2 * 4)};
}
CORVID_HOST_DEVICE constexpr BitPlace upper_place(const TilePlace& p) {
  const int64_t shift = p.i % 2 * 16 + (p.group % 2 * 4 + p.i / 2) * 2;
  return {2048 + (p.half * 32 + p.lane) * 16 + p.group / 2 * 4 + shift / 8, int(shift % 8)};
}

// Weight k of a row, of a tile as of a block: any format but bf16.
CORVID_HOST_DEVICE inline float tile_weight(DeviceFormat format, const unsigned char* tile, int64_t row, int64_t k) {
  const TilePlace p = tile_place(format, row, k);
  const auto half_at = [&](int64_t at) { return f16_to_f32(static_cast<uint16_t>(tile[at] | tile[at + 1] << 8)); };
  const auto nibble = [&](int64_t base) {
    const BitPlace place = nibble_place(p);
    return tile[base + place.at] >> place.shift & 15;
  };
  switch (format) {
    case DeviceFormat::q8_0:
      return half_at(4096 + (row * 8 + p.group) * 2) * static_cast<float>(static_cast<int8_t>(tile[byte_at(p)]));
    case DeviceFormat::f8_e4m3: {
      const unsigned char* s = tile + 4096 + k / kF8Block * 4;
      const float scale = __builtin_bit_cast(float, s[0] | s[1] << 8 | s[2] << 16 | uint32_t{s[3]} << 24);
      return f8_weight(tile[byte_at(p)]) * scale;
    }
    case DeviceFormat::q4_k: {
      const GroupScale s = k_scale(half_at(row * 16), half_at(row * 16 + 2), tile + row * 16 + 4, p.group);
      return s.scale * static_cast<float>(nibble(256)) - s.min;
    }
    case DeviceFormat::q6_k: {
      const BitPlace upper = upper_place(p);
      return half_at(3328 + row * 2) * static_cast<float>(static_cast<int8_t>(tile[3072 + row * 16 + k / 16])) *
             static_cast<float>((nibble(0) | (tile[upper.at] >> upper.shift & 3) << 4) - 32);
    }
    case DeviceFormat::bf16:
      break;
  }
  return 0;
}

// Weight k of a row of a panel, in any format.
CORVID_HOST_DEVICE inline float panel_weight(DeviceFormat format, const void* panel, int64_t columns, int64_t row,
                                             int64_t k) {
  if (format == DeviceFormat::bf16) return bf16_to_f32(static_cast<const uint16_t*>(panel)[row * columns + k]);
  return tile_weight(format, static_cast<const unsigned char*>(panel) + k / kTileK * tile_bytes(format), row,
                     k % kTileK);
}

}  // namespace corvid::kernels
