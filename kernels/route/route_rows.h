// The router of a layer on a GPU: h -> logits -> the experts of each row and their weights, by route.h's rules.
//
//   Shapes   h: [rows, dim] bf16; router: [3 n_experts, dim] from repack_router(); bias, ids, weights: as in route.h;
//            workspace: on the device, 256-byte aligned.
//   Numbers  logits as good as float32's of h (device_matrix.h says how); the rest as route.h. Up to kStreamRows rows,
//            and above it, a row's choice depends on that row alone.
#pragma once
#include "kernels/device_matrix/device_matrix.h"
#include "kernels/products/products.h"
#include "kernels/rms_norm/rms_norm_rows.h"
#include "kernels/route/route.h"

namespace corvid::kernels {

struct RouteRows {
  const uint16_t* h;
  DeviceMatrix router;
  const float* bias;  // null: none
  int32_t* ids;
  float* weights;
  int64_t rows, n_experts, top_k;
  float scale;
  Gating gating = Gating::sigmoid;
  bool normalised = true;
  bool rounds = false;  // h counts as rounded to the grid of products/grid.cuh, as a product of q8_0 reads it; one row
};

// For up to `rows` rows.
int64_t route_rows_workspace_bytes(int64_t rows, int64_t n_experts, int64_t dim);

namespace cuda {
void route_rows(const RouteRows& a, void* workspace, CUstream_st* stream);
// rms_norm_rows(norm), whose h is a.h, then route_rows(a): the same bits, in one launch less where a row is short.
void norm_route_rows(const RmsNormRows& norm, const RouteRows& a, void* workspace, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
