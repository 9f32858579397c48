// The feed-forward layer on a GPU, added to the residual stream: expert_ffn.h's maths on weights from device_matrix.h.
//
//   m     = bf16(act(h Wgate[e]^T, h Wup[e]^T))                 [ffn], for each expert e of a row
//   x[r] += sum over the row's experts e, in ascending id, of weight * (m Wdown[e]^T), then the shared expert's output
//
//   Shapes   h: [rows, dim] bf16, 16-byte aligned; gate, up: [n_experts][ffn, dim]; down: [n_experts][dim, ffn]; ids,
//            weights: [rows, top_k], a row's ids ascending (as route_rows gives them); x: [rows, dim] float32.
//            ids == weights == nullptr: a dense layer, n_experts == top_k == 1. shared: as a dense layer, its own
//            width.
//   Needs    rows >= 0; dim and ffn multiples of 8; gate and up in one format; ids distinct within a row. A row's ids
//            outside [first_expert, first_expert + n_experts) are another GPU's: they add nothing here.
//            n_experts <= kMaxExperts. ids, where there are any, may come of the kernel just before, but h then does
//            not: one row is read while that kernel still runs, if it has waited for those before it itself.
//   Dealt    above kStreamRows rows x may be null: then the sums, without what x held, go to `dealt` as bf16, rows that
//            GPUs have dealt among them (comm/dealt_rows.h). Wants weights that products() takes so.
//   Numbers  float32 sums of products of bf16 numbers, m rounded to bf16 once; x is float32 throughout. Up to
//            kStreamRows rows h and m are rounded for q8_0 as in products.h. Above that weights in quantised
//            formats are rounded to bf16 as in products.h, and each routed expert's output is, too, before it is
//            weighed and added.
//   Order    no atomics. A row's bits depend on that row and its experts alone, in each of these regimes: up to
//            kStreamRows rows in the call; above that. In the second the kernels are those of large products.
#pragma once
#include <cstdint>

#include "kernels/device_matrix/device_matrix.h"
#include "kernels/expert_ffn/expert_ffn.h"
#include "kernels/products/products.h"

namespace corvid::kernels {

struct FeedForward {
  struct Mlp {
    DeviceMatrix gate, up, down;
  };
  const uint16_t* h;
  Mlp experts;
  Mlp shared;  // data == nullptr: none
  const int32_t* ids;
  const float* weights;
  float* x;
  DealtRows<void> dealt = {};  // where x is null
  // What is read next, or nothing: of one row and experts it goes to the second-level cache while they are being chosen
  // and memory has nothing else to do, if it is so little that it stays there while their weights pass.
  DeviceMatrix next[3] = {};
  int64_t rows, top_k;
  int64_t first_expert = 0;
  Activation act;
  bool is_rounded = false;  // h, as in products()
};

// For up to `rows` rows; only the shapes and formats of `a` are looked at.
int64_t feed_forward_workspace_bytes(const FeedForward& a, int64_t rows);

namespace cuda {
// workspace: on the device, 256-byte aligned.
void feed_forward(const FeedForward& a, void* workspace, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
