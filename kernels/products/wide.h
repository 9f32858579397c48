// Products of many rows with bf16 weights, one or several experts: the kernel behind products() and feed_forward()
// above kStreamRows rows.
#pragma once
#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/feed_forward/plan.h"
#include "kernels/products/products.h"

namespace corvid::kernels {

constexpr int64_t kWideTile = 192;  // rows of x that a tile may have

struct WideProduct {
  enum class Out : uint8_t { bf16, f32, add_f32, activated };
  const uint16_t* x;  // [positions, k]
  int64_t positions;
  DeviceMatrix first, second;  // second for Out::activated alone: up, first being gate
  const ExpertTile* tiles;     // of at most kWideTile positions; null: one expert and all positions
  const int32_t* n_tiles;      // on the device, at most max_tiles
  int64_t max_tiles;
  void* y;  // [positions, n], float32 or (bf16, activated) bf16
  Out out;
  Activation act;
};

namespace cuda {
void wide_product(const WideProduct& a, CUstream_st* stream);
}

}  // namespace corvid::kernels
