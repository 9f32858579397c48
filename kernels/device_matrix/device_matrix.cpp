#include "kernels/device_matrix/device_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels/check.h"
#include "kernels/device_matrix/tile.h"

namespace corvid::kernels {
namespace {

constexpr int64_t kGroups = kTileK / 32;

using Bytes = unsigned char*;
void put_bits(Bytes tile, int64_t base, BitPlace place, int value) {
  tile[base + place.at] = static_cast<unsigned char>(tile[base + place.at] | value << place.shift);
}
// Calls fn(row, k, place) for each weight of a tile.
template <class Fn>
void for_each_weight(DeviceFormat format, Fn&& fn) {
  for (int64_t r = 0; r < kPanelRows; ++r)
    for (int64_t k = 0; k < kTileK; ++k) fn(r, k, tile_place(format, r, k));
}

// The blocks of one tile's rows; those of rows that don't exist are zero.
template <class Block, int64_t kCount>
using TileBlocks = std::array<std::array<Block, kCount>, kPanelRows>;

void pack_tile(const TileBlocks<BlockQ8, kGroups>& blocks, Bytes tile) {
  for_each_weight(DeviceFormat::q8_0, [&](int64_t r, int64_t k, const TilePlace& p) {
    tile[byte_at(p)] = static_cast<unsigned char>(blocks[size_t(r)][size_t(p.group)].q[k % kQ8Block]);
  });
  for (int64_t r = 0; r < kPanelRows; ++r)
    for (int64_t g = 0; g < kGroups; ++g)
      std::memcpy(tile + 4096 + (r * kGroups + g) * 2, &blocks[size_t(r)][size_t(g)].d, 2);
}

void pack_tile(const TileBlocks<BlockQ4K, 1>& blocks, Bytes tile) {
  for (int64_t r = 0; r < kPanelRows; ++r) std::memcpy(tile + r * 16, &blocks[size_t(r)][0], 16);
  for_each_weight(DeviceFormat::q4_k, [&](int64_t r, int64_t k, const TilePlace& p) {
    put_bits(tile, 256, nibble_place(p), BlockTraits<BlockQ4K>::quant_of(blocks[size_t(r)][0], k));
  });
}

void pack_tile(const TileBlocks<BlockQ6K, 1>& blocks, Bytes tile) {
  for_each_weight(DeviceFormat::q6_k, [&](int64_t r, int64_t k, const TilePlace& p) {
    const int quant = BlockTraits<BlockQ6K>::quant_of(blocks[size_t(r)][0], k) + 32;
    put_bits(tile, 0, nibble_place(p), quant & 15);
    put_bits(tile, 0, upper_place(p), quant >> 4);
  });
  for (int64_t r = 0; r < kPanelRows; ++r) {
    std::memcpy(tile + 3072 + r * 16, blocks[size_t(r)][0].scales, 16);
    std::memcpy(tile + 3328 + r * 2, &blocks[size_t(r)][0].d, 2);
  }
}

void pack_tile(const TileBlocks<BlockF8, 2>& blocks, Bytes tile) {
  for_each_weight(DeviceFormat::f8_e4m3, [&](int64_t r, int64_t k, const TilePlace& p) {
    tile[byte_at(p)] = blocks[size_t(r)][size_t(k / kF8Block)].q[k % kF8Block];
  });
  for (int64_t b = 0; b < 2; ++b) std::memcpy(tile + 4096 + b * 4, &blocks[0][size_t(b)].scale, 4);
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
    const int64_t count = std::min(kCount, blocks_of_row - tile * kCount), rows = std::min(kPanelRows, n - row);
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(static_cast<void*>(blocks[size_t(r)].data()),
                  static_cast<const char*>(from.data) + (expert * n + row + r) * bytes + tile * kCount * sizeof(Block),
                  static_cast<size_t>(count) * sizeof(Block));
    if constexpr (std::is_same_v<Block, BlockF8>)
      for (int64_t r = 1; r < rows; ++r)
        for (size_t b = 0; b < kCount; ++b)
          require(blocks[size_t(r)][b].scale == blocks[0][b].scale,
                  "repack: want rows of f8_e4m3 that share their scale", " with 15 others, found ", blocks[0][b].scale,
                  " and ", blocks[size_t(r)][b].scale);
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
    case Format::f8_e4m3:
      return DeviceFormat::f8_e4m3;
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
      case DeviceFormat::f8_e4m3:
        pack_panel<BlockF8>(format, from, n, k, p, panel);
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
  for (int64_t i = 0; i < kPanelRows * columns; ++i)
    out[i] = panel_weight(format, panel, columns, i / columns, i % columns);
}

}  // namespace corvid::kernels
