// Products of many rows, one or several experts: the kernels behind products() and feed_forward() above kStreamRows
// rows.
#pragma once
#include <span>

#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/feed_forward/plan.h"
#include "kernels/products/products.h"

namespace corvid::kernels {

// Most rows of x in a tile of a plan, for experts that have `average` rows: in bf16 as many as two blocks have, or one.
constexpr int64_t wide_tile(DeviceFormat first, DeviceFormat second, int64_t average) {
  if (first != DeviceFormat::bf16 || second != DeviceFormat::bf16) return 128;
  return average > 160 ? 384 : 192;
}

// How the numbers of a row of x lie. Weights in tiles (tile.h) go from memory to the registers of the tensor cores'
// first operand, whose order within 32 numbers then has to be that of x in shared memory.
enum class XOrder : uint8_t { plain, eights, fours };
constexpr XOrder x_order(DeviceFormat format) {
  return format == DeviceFormat::bf16 ? XOrder::plain : format == DeviceFormat::q6_k ? XOrder::fours : XOrder::eights;
}

// Whether there is a wide kernel for rows of k numbers.
constexpr bool has_wide(DeviceFormat format, int64_t k) { return format == DeviceFormat::bf16 || k % 32 == 0; }

struct WideProduct {
  enum class Out : uint8_t { bf16, f32, add_f32, activated };
  const uint16_t* x;  // [positions, k], in x_order(first.format)
  int64_t positions;
  DeviceMatrix first, second;  // second for Out::activated alone: up, first being gate
  const ExpertTile* tiles;     // null: one expert and all positions
  const int32_t* n_tiles;      // on the device, at most max_tiles
  int64_t max_tiles;
  int64_t tile = 0;          // most positions of one of `tiles`, as wide_tile() says
  int32_t* taken = nullptr;  // of `tiles`: how many pieces have been handed out, 0 when the product begins
  DealtRows<void> y;  // [positions, n], float32 or (bf16, activated) bf16; without `tiles`, bf16 may be dealt out
  Out out;
  Activation act;
  XOrder order = XOrder::plain;  // of y, if that is bf16
};

constexpr int kMostWide = 6;

namespace cuda {
// One product, or up to kMostWide of one x, in bf16 and without tiles, which together keep more multiprocessors busy.
void wide_products(std::span<const WideProduct> all, CUstream_st* stream);
inline void wide_product(const WideProduct& a, CUstream_st* stream) { wide_products({&a, 1}, stream); }
void wide_quants(const WideProduct& a, CUstream_st* stream);  // any format but bf16

// to[p] = from[r], p = pos[r, s], which is -1 for none; k is a multiple of 8.
struct CopyRows {
  const uint16_t* from;
  const int32_t* pos;
  uint16_t* to;
  int64_t rows, slots, k;
};
void copy_rows(const CopyRows& a, CUstream_st* stream);
// to[p] = from[rows[p]] in another order than `plain`, p < *count; null: rows in their order, all `positions` of them.
// k is a multiple of 32.
struct SortRows {
  const uint16_t* from;
  const int32_t *rows, *count;
  uint16_t* to;
  int64_t positions, k;
  XOrder order;
};
void sort_rows(const SortRows& a, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
