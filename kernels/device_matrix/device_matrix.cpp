// A tile is 16 rows x 256 weights. The 32 lanes of a warp share it as mma.m16n8k16 wants its first operand: lane l has
// the rows l / 4 ("half" 0) and l / 4 + 8 (half 1), and of every group of 32 weights of a row the eight from 8 * (l %
// 4) on: four for each of two instructions. (The order within k is free, as long as x is read in the same.) With eight
// weights w0..w7 of a group:
//
//   bytes   w0 w2 w1 w3 | w4 w6 w5 w7: a mask and a shift leave two weights in the halves of a word
//   nibbles w0 w2 w4 w6 w1 w3 w5 w7, from the lowest: likewise
//
//   q8_0     quants: 16 bytes at ((pair of groups * 2 + half) * 32 + lane) * 16;  at 4096: scales (half) [16][8]
//   f8_e4m3  the same;                                                            at 4096: scales (float) [2]
//   q4_k     the blocks' first 16 bytes [16][16];  at 256: nibbles, 16 bytes at ((four groups * 2 + half) * 32 + lane)
//   * 16 q6_k     the lower four bits as q4_k's, from 0;  at 2048: the upper two, 16 bytes at (half * 32 + lane) * 16;
//            at 3072: scales [16][16];  at 3328: d (half) [16].  Its groups are of 16 weights, so its lanes have in
//            each the four from 4 * (l % 4) on, all four for one instruction.
#include "kernels/device_matrix/device_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/block_weights.h"
#include "kernels/check.h"

namespace corvid::kernels {
namespace {

constexpr int64_t kGroup = 32, kGroups = kTileK / kGroup;

// Where the lanes' i-th weight of a group of 32 lies in it.
int64_t place(DeviceFormat format, int64_t lane, int64_t i) {
  if (format == DeviceFormat::q6_k) return i / 4 * 16 + lane % 4 * 4 + i % 4;
  return lane % 4 * 8 + i;
}
int64_t tile_row(int64_t lane, int64_t half) { return lane / 4 + half * 8; }

constexpr int64_t kByteAt[8] = {0, 2, 1, 3, 4, 6, 5, 7};    // of weight i among a lane's eight
constexpr int64_t kNibbleAt[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // from the lowest

// Calls fn(lane, half, group, i, row of the tile, k within the tile) for each weight of a tile.
template <class Fn>
void for_each_weight(DeviceFormat format, Fn&& fn) {
  for (int64_t lane = 0; lane < 32; ++lane)
    for (int64_t half = 0; half < 2; ++half)
      for (int64_t group = 0; group < kGroups; ++group)
        for (int64_t i = 0; i < 8; ++i)
          fn(lane, half, group, i, tile_row(lane, half), group * kGroup + place(format, lane, i));
}
int64_t byte_at(int64_t lane, int64_t half, int64_t group, int64_t i) {
  return ((group / 2 * 2 + half) * 32 + lane) * 16 + group % 2 * 8 + kByteAt[i];
}
// Of the byte; the lower half when kNibbleAt[i] is even.
int64_t nibble_at(int64_t lane, int64_t half, int64_t group, int64_t i) {
  return ((group / 4 * 2 + half) * 32 + lane) * 16 + group % 4 * 4 + kNibbleAt[i] / 2;
}
int64_t pair_at(int64_t lane, int64_t half, int64_t group) { return 2048 + (half * 32 + lane) * 16 + group / 2 * 4; }
// Shift, within the little-endian word at pair_at, of the two upper bits.
int64_t pair_shift(int64_t group, int64_t i) { return i % 2 * 16 + (group % 2 * 4 + i / 2) * 2; }

using Bytes = unsigned char*;
void put_nibble(Bytes tile, int64_t at, int64_t i, int value) {
  tile[at] = static_cast<unsigned char>(tile[at] | value << (kNibbleAt[i] % 2 * 4));
}
void put_pair(Bytes tile, int64_t at, int64_t shift, int value) {
  tile[at + shift / 8] = static_cast<unsigned char>(tile[at + shift / 8] | value << (shift % 8));
}

// The blocks of one tile's rows; those of rows that don't exist are zero.
template <class Block, int64_t kCount>
using TileBlocks = std::array<std::array<Block, kCount>, kPanelRows>;

void pack_tile(const TileBlocks<BlockQ8, kGroups>& blocks, Bytes tile) {
  for_each_weight(DeviceFormat::q8_0, [&](int64_t lane, int64_t half, int64_t group, int64_t i, int64_t r, int64_t k) {
    tile[byte_at(lane, half, group, i)] =
        static_cast<unsigned char>(blocks[size_t(r)][size_t(group)].q[k - group * kGroup]);
  });
  for (int64_t r = 0; r < kPanelRows; ++r)
    for (int64_t g = 0; g < kGroups; ++g)
      std::memcpy(tile + 4096 + (r * kGroups + g) * 2, &blocks[size_t(r)][size_t(g)].d, 2);
}

void pack_tile(const TileBlocks<BlockQ4K, 1>& blocks, Bytes tile) {
  for (int64_t r = 0; r < kPanelRows; ++r) std::memcpy(tile + r * 16, &blocks[size_t(r)][0], 16);
  for_each_weight(DeviceFormat::q4_k, [&](int64_t lane, int64_t half, int64_t group, int64_t i, int64_t r, int64_t k) {
    put_nibble(tile, 256 + nibble_at(lane, half, group, i), i,
               BlockTraits<BlockQ4K>::quant_of(blocks[size_t(r)][0], k));
  });
}

void pack_tile(const TileBlocks<BlockQ6K, 1>& blocks, Bytes tile) {
  for_each_weight(DeviceFormat::q6_k, [&](int64_t lane, int64_t half, int64_t group, int64_t i, int64_t r, int64_t k) {
    const int quant = BlockTraits<BlockQ6K>::quant_of(blocks[size_t(r)][0], k) + 32;
    put_nibble(tile, nibble_at(lane, half, group, i), i, quant & 15);
    put_pair(tile, pair_at(lane, half, group), pair_shift(group, i), quant >> 4);
  });
  for (int64_t r = 0; r < kPanelRows; ++r) {
    std::memcpy(tile + 3072 + r * 16, blocks[size_t(r)][0].scales, 16);
    std::memcpy(tile + 3328 + r * 2, &blocks[size_t(r)][0].d, 2);
  }
}

// Expert and first row in it of a panel.
struct Place {
  int64_t expert, row;
};
Place place_of(int64_t panel, int64_t n) { return {panel / panels_of(n), panel % panels_of(n) * kPanelRows}; }

template <class Block>
void pack_panel(DeviceFormat format, const Matrix& from, int64_t n, int64_t k, int64_t panel, Bytes out) {
  constexpr int64_t kCount = kTileK / BlockTraits<Block>::kSize;
  const auto [expert, row] = place_of(panel, n);
  const int64_t bytes = row_bytes(from.format, k), blocks_of_row = k / BlockTraits<Block>::kSize;
  TileBlocks<Block, kCount> blocks;
  for (int64_t tile = 0; tile < padded_k(format, k) / kTileK; ++tile, out += tile_bytes(format)) {
    std::memset(static_cast<void*>(&blocks), 0, sizeof blocks);
    const int64_t count = std::min(kCount, blocks_of_row - tile * kCount);
    for (int64_t r = 0; r < std::min(kPanelRows, n - row); ++r)
      std::memcpy(static_cast<void*>(blocks[size_t(r)].data()),
                  static_cast<const char*>(from.data) + (expert * n + row + r) * bytes + tile * kCount * sizeof(Block),
                  static_cast<size_t>(count) * sizeof(Block));
    std::memset(out, 0, static_cast<size_t>(tile_bytes(format)));
    pack_tile(blocks, out);
  }
}

void pack_bf16_row(const Matrix& from, int64_t row, int64_t k, uint16_t* out, std::vector<float>& floats) {
  const char* bytes = static_cast<const char*>(from.data) + row * row_bytes(from.format, k);
  if (from.format == Format::bf16) {
    std::memcpy(out, bytes, static_cast<size_t>(k) * 2);
    return;
  }
  floats.resize(static_cast<size_t>(k));
  decode_row(from.format, bytes, k, floats.data());
  std::transform(floats.begin(), floats.end(), out, f32_to_bf16);
}

void check(int64_t n, int64_t k, int64_t first, int64_t count) {
  require(n >= 1 && k >= 1 && first >= 0 && count >= 0, "repack: want n, k >= 1 and a range of panels, found ", n, ", ",
          k, ", ", first, " + ", count);
}

}  // namespace

DeviceFormat device_format(Format file) {
  switch (file) {
    case Format::q8_0:
      return DeviceFormat::q8_0;
    case Format::q4_k:
      return DeviceFormat::q4_k;
    case Format::q6_k:
      return DeviceFormat::q6_k;
    default:
      return DeviceFormat::bf16;
  }
}

void repack(const Matrix& from, int64_t n, int64_t k, int64_t first, int64_t count, void* out) {
  check(n, k, first, count);
  require(k % format_block(from.format) == 0, "repack: want k a multiple of ", format_block(from.format), ", found ",
          k);
  const DeviceFormat format = device_format(from.format);
  std::vector<float> floats;
  for (int64_t p = first; p < first + count; ++p) {
    const Bytes panel = static_cast<Bytes>(out) + (p - first) * panel_bytes(format, k);
    switch (format) {
      case DeviceFormat::q8_0:
        pack_panel<BlockQ8>(format, from, n, k, p, panel);
        break;
      case DeviceFormat::q4_k:
        pack_panel<BlockQ4K>(format, from, n, k, p, panel);
        break;
      case DeviceFormat::q6_k:
        pack_panel<BlockQ6K>(format, from, n, k, p, panel);
        break;
      default: {
        const auto [expert, row] = place_of(p, n);
        std::memset(panel, 0, static_cast<size_t>(panel_bytes(format, k)));
        for (int64_t r = 0; r < std::min(kPanelRows, n - row); ++r)
          pack_bf16_row(from, expert * n + row + r, k, reinterpret_cast<uint16_t*>(panel) + r * padded_k(format, k),
                        floats);
      }
    }
  }
}

void repack(const F8Matrix& from, int64_t n, int64_t k, int64_t first, int64_t count, void* out) {
  check(n, k, first, count);
  constexpr DeviceFormat kFormat = DeviceFormat::f8_e4m3;
  const int64_t scale_rows = (n + kF8Block - 1) / kF8Block, scale_columns = (k + kF8Block - 1) / kF8Block;
  auto* tile = static_cast<Bytes>(out);
  for (int64_t p = first; p < first + count; ++p) {
    const auto [expert, row] = place_of(p, n);
    const float* scales = from.scales + (expert * scale_rows + row / kF8Block) * scale_columns;
    for (int64_t t = 0; t < padded_k(kFormat, k) / kTileK; ++t, tile += tile_bytes(kFormat)) {
      std::memset(tile, 0, static_cast<size_t>(tile_bytes(kFormat)));
      for_each_weight(kFormat, [&, row = row, expert = expert](int64_t lane, int64_t half, int64_t group, int64_t i,
                                                               int64_t r, int64_t at) {
        const int64_t column = t * kTileK + at;
        if (row + r < n && column < k)
          tile[byte_at(lane, half, group, i)] = from.data[(expert * n + row + r) * k + column];
      });
      for (int64_t b = 0; b < kTileK / kF8Block; ++b) {
        const int64_t column = t * (kTileK / kF8Block) + b;
        const float scale = column < scale_columns ? scales[column] : 0;
        std::memcpy(tile + 4096 + b * 4, &scale, 4);
      }
    }
  }
}

void repack_router(const Matrix& from, int64_t n, int64_t k, int64_t first, int64_t count, void* out) {
  check(n, k, first, count);
  const int64_t columns = padded_k(DeviceFormat::bf16, k);
  std::vector<float> floats(static_cast<size_t>(k));
  auto* to = static_cast<uint16_t*>(out);
  std::memset(to, 0, static_cast<size_t>(count * panel_bytes(DeviceFormat::bf16, k)));
  for (int64_t row = first * kPanelRows; row < std::min((first + count) * kPanelRows, 3 * n); ++row) {
    decode_row(from.format, static_cast<const char*>(from.data) + row % n * row_bytes(from.format, k), k,
               floats.data());
    uint16_t* to_row = to + (row - first * kPanelRows) * columns;
    for (int64_t i = 0; i < k; ++i) {
      float rest = floats[size_t(i)];
      for (int64_t third = 0; third < row / n; ++third) rest -= bf16_to_f32(f32_to_bf16(rest));
      to_row[i] = f32_to_bf16(rest);
    }
  }
}

void decode_panel(DeviceFormat format, const void* panel, int64_t k, float* out) {
  const int64_t columns = padded_k(format, k);
  const auto* tile = static_cast<const unsigned char*>(panel);
  if (format == DeviceFormat::bf16) {
    for (int64_t i = 0; i < kPanelRows * columns; ++i) out[i] = bf16_to_f32(static_cast<const uint16_t*>(panel)[i]);
    return;
  }
  const auto half_at = [](const unsigned char* at) {
    uint16_t bits;
    std::memcpy(&bits, at, 2);
    return f16_to_f32(bits);
  };
  for (int64_t t = 0; t < columns / kTileK; ++t, tile += tile_bytes(format))
    for_each_weight(format, [&](int64_t lane, int64_t half, int64_t group, int64_t i, int64_t r, int64_t at) {
      const auto nibble_of = [&](int64_t base) {
        return tile[base + nibble_at(lane, half, group, i)] >> (kNibbleAt[i] % 2 * 4) & 15;
      };
      float weight = 0;
      switch (format) {
        case DeviceFormat::q8_0:
          weight = half_at(tile + 4096 + (r * kGroups + group) * 2) *
                   static_cast<float>(static_cast<int8_t>(tile[byte_at(lane, half, group, i)]));
          break;
        case DeviceFormat::f8_e4m3: {
          float scale;
          std::memcpy(&scale, tile + 4096 + at / kF8Block * 4, 4);
          weight = f8_e4m3_to_f32(tile[byte_at(lane, half, group, i)]) * scale;
          break;
        }
        case DeviceFormat::q4_k: {
          const GroupScale s = k_scale(half_at(tile + r * 16), half_at(tile + r * 16 + 2), tile + r * 16 + 4, group);
          weight = s.scale * static_cast<float>(nibble_of(256)) - s.min;
          break;
        }
        case DeviceFormat::q6_k: {
          const int64_t shift = pair_shift(group, i);
          const int high = tile[pair_at(lane, half, group) + shift / 8] >> (shift % 8) & 3;
          weight = half_at(tile + 3328 + r * 2) *
                   static_cast<float>(static_cast<int8_t>(tile[3072 + r * 16 + at / 16])) *
                   static_cast<float>((nibble_of(0) | high << 4) - 32);
          break;
        }
        case DeviceFormat::bf16:
          break;
      }
      out[r * columns + t * kTileK + at] = weight;
    });
}

}  // namespace corvid::kernels
