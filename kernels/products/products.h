// y[r,j] = sum_i x[r,i] * w[j,i] on a GPU, weights as device_matrix.h lays them; several products of one x at once.
//
//   Shapes   x: [rows, k] bf16, 16-byte aligned; each w: [n, k], n_experts == 1; y: [rows, n] row-major, bf16 or
//            float32, or float32 that the sum is added to. y overlaps nothing else. bf16 rows may be dealt out to GPUs
//            (comm/dealt_rows.h), above kStreamRows rows.
//   Needs    rows >= 0, n >= 0, at least one product, all with the k of the first; k a multiple of 8.
//   Numbers  products of bf16 numbers summed in float32 by the tensor cores. Up to kStreamRows rows the quants of q8_0,
//            q4_k, q6_k and fp8 are exact in bf16, and their scales are applied in float32 to sums of 16 or 32
//            products; above that the weights themselves are rounded to bf16. |y - exact| <= products_tolerance(format,
//            k, rows) * sum_i |x[r,i] * w[j,i]| plus y's own rounding; a weight that is scale * q - min counts as
//            |scale * q| + |min|. Up to kStreamRows rows and for q8_0 numbers of x below a sixteenth of the largest of
//            their 32 are rounded to 2^-12 of it (grid.cuh), which products_rounding() adds; there a row with a NaN or
//            an infinity gives NaN or infinities.
//   Order    up to kStreamRows rows of a call the order of a sum depends on n, k and the format alone, so a row has the
//            same bits in any company of at most that many rows. Above that another kernel takes over: there too a
//            row's bits don't depend on the other rows, but they differ from those of small calls.
#pragma once
#include <cfloat>
#include <cstdint>
#include <span>

#include "kernels/comm/dealt_rows.h"
#include "kernels/device_matrix/device_matrix.h"
#include "kernels/rms_norm/rms_norm_rows.h"

struct CUstream_st;

namespace corvid::kernels {

constexpr int64_t kStreamRows = 128;

struct Product {
  enum class Out : uint8_t { bf16, f32, add_f32 };
  DeviceMatrix w;
  DealtRows<void> y;
  Out out = Out::bf16;
};

// For `rows` rows in the call.
constexpr double products_tolerance(DeviceFormat format, int64_t k, int64_t rows) {
  return (double(k) / 16 + 32) * FLT_EPSILON + (rows > kStreamRows && format != DeviceFormat::bf16 ? 0x1p-8 : 0);
}

// Of sum_i max|x| |w[j,i]|, max over the 32 numbers that x[r,i] is among: half a unit of grid.cuh, 2^(e - 12).
constexpr double products_rounding(DeviceFormat format, int64_t rows) {
  return rows <= kStreamRows && format == DeviceFormat::q8_0 ? 0x1p-12 : 0;
}

// Bytes that products() needs for up to `rows` rows; 0 up to kStreamRows, or where all is bf16.
int64_t products_workspace_bytes(std::span<const Product> all, int64_t rows);

namespace cuda {
// workspace: on the device, 256-byte aligned; may be null where none is needed. is_rounded: x is known to be on the
// grid of grid.cuh, which saves time. Throws std::invalid_argument for a broken contract.
void products(const uint16_t* x, int64_t rows, std::span<const Product> all, void* workspace, CUstream_st* stream,
              bool is_rounded = false);

// rms_norm_rows(norm), then products() of norm.h with the same bits. One row's norm is made where the products read it,
// if they are few, and norm.h is then left as it is; so no product's y overlaps norm.x, norm.w or norm.h.
void norm_products(const RmsNormRows& norm, std::span<const Product> all, void* workspace, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
