// Rotary position embedding, half-split (NeoX) form, on the first rotary_dim of each head; the other dims pass through.
//
//   angle[r,i] = pos[r] * theta^(-2 i / rotary_dim)                          0 <= i < half, half = rotary_dim / 2
//   x'[i]        = x[i] * cos(angle[i]) - x[i + half] * sin(angle[i])
//   x'[i + half] = x[i + half] * cos(angle[i]) + x[i] * sin(angle[i])
//
// The angles are made once per forward pass (rope_angles) and used by every layer and projection (rope).
#pragma once
#include <cfloat>
#include <cstdint>

#include "kernels/exec.h"

namespace corvid::kernels {

//   Shapes   pos: [rows]; cos_sin: [rows, rotary_dim], row r holding cos(angle[r,0..half)), then
//            sin(angle[r,0..half)).
//   Needs    rows >= 0, rotary_dim >= 2 and even, theta > 0, pos >= 0. Host memory for pos on every device.
//   Numbers  angles in float64, so that each entry is within rope_angles_tolerance() of the exact value for positions
//            up to 2^24.
struct RopeAngles {
  const int64_t* pos;
  float* cos_sin;
  int64_t rows, rotary_dim;
  double theta;
};
constexpr double rope_angles_tolerance() { return FLT_EPSILON; }

//   Shapes   x: [rows, n_heads, head_dim] row-major, rotated in place; cos_sin as above, one row for each row of x.
//   Needs    rows >= 0, n_heads >= 1, 2 <= rotary_dim <= head_dim, rotary_dim even; any alignment.
//   Numbers  float32: |x' - exact| <= rope_tolerance() * (|x[i]| + |x[i + half]|), given the same cos_sin.
//            Elementwise: a row's bits depend on that row alone.
struct Rope {
  float* x;
  const float* cos_sin;
  int64_t rows, n_heads, head_dim, rotary_dim;
};
constexpr double rope_tolerance() { return 2 * FLT_EPSILON; }

void rope_angles(const RopeAngles& a, Exec& exec);
void rope(const Rope& a, Exec& exec);
namespace cpu {
void rope_angles(const RopeAngles& a, Pool& pool);
void rope(const Rope& a, Isa isa, Pool& pool);
}  // namespace cpu
namespace cuda {
void rope_angles(const RopeAngles& a, CUstream_st* stream);
void rope(const Rope& a, CUstream_st* stream);
}  // namespace cuda
namespace ref {
void rope_angles(const RopeAngles& a, double* cos_sin);
void rope(const Rope& a, double* y);  // y: [rows, n_heads, head_dim]; a.x is only read
}  // namespace ref

}  // namespace corvid::kernels
