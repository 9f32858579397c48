// Weights as they lie on a GPU: repacked once at upload, so that a kernel's lanes load 16 bytes each and have what a
// tensor-core instruction wants of them.
//
//   A matrix [n_experts][n, k] is a sequence of panels of 16 rows; an expert's last panel is filled up with zeros, and
//   so are the rows, to a multiple of 64 (bf16) or 256 (the others). A bf16 panel is 16 plain rows: the matrix as a
//   whole is row-major. In the other formats a panel is a sequence of tiles of 16 rows x 256 weights, the scales beside
//   the quants (tile.h draws them).
//
//   Formats  q8_0, q4_k, q6_k and f8_e4m3 keep their bits and nearly their size. A panel of f8_e4m3 has one scale for
//            each 128 columns, so its rows must share theirs.
//            f32, f16, q4_0, q5_k and mxfp4 become bf16 (rounded to nearest even).
//   Upload   by panels: repack() makes any range of them from the bytes of a file, to be copied to the same range of
//   the
//            buffer on the device. Ranges don't touch each other's bytes, so threads may share the work, and a model
//            needs no second copy on the host but for the panels that are on their way.
//
// Host code throughout; needs no GPU.
#pragma once
#include <cstdint>

#include "kernels/format.h"

namespace corvid::kernels {

enum class DeviceFormat : uint8_t { bf16, q8_0, q4_k, q6_k, f8_e4m3 };

constexpr int64_t kPanelRows = 16;
constexpr int64_t kTileK = 256;  // weights of a row in a tile, in all formats but bf16

// Data on the device, 256-byte aligned, not owned. data == nullptr: there is no such matrix.
struct DeviceMatrix {
  const void* data = nullptr;
  DeviceFormat format = DeviceFormat::bf16;
  int64_t n = 0, k = 0;  // of one expert: y = x W^T has n outputs for k inputs
  int64_t n_experts = 1;
};

// What a matrix of this format in a file becomes.
DeviceFormat device_format(Format file);

CORVID_HOST_DEVICE constexpr int64_t padded_k(DeviceFormat format, int64_t k) {
  const int64_t unit = format == DeviceFormat::bf16 ? 64 : kTileK;
  return (k + unit - 1) / unit * unit;
}
CORVID_HOST_DEVICE constexpr int64_t tile_bytes(DeviceFormat format) {
  switch (format) {
    case DeviceFormat::bf16:
      return kPanelRows * kTileK * 2;
    case DeviceFormat::q8_0:
      return kPanelRows * kTileK + kPanelRows * kTileK / 32 * 2;
    case DeviceFormat::q4_k:
      return kPanelRows * 144;
    case DeviceFormat::q6_k:
      return kPanelRows * 210;
    case DeviceFormat::f8_e4m3:
      return kPanelRows * kTileK + 32;
  }
  return 0;
}
CORVID_HOST_DEVICE constexpr int64_t panel_bytes(DeviceFormat format, int64_t k) {
  return padded_k(format, k) * tile_bytes(format) / kTileK;
}
// Panels of one expert.
CORVID_HOST_DEVICE constexpr int64_t panels_of(int64_t n) { return (n + kPanelRows - 1) / kPanelRows; }

// Bytes of the whole on the device.
constexpr int64_t device_bytes(DeviceFormat format, int64_t n, int64_t k, int64_t n_experts = 1) {
  return n_experts * panels_of(n) * panel_bytes(format, k);
}

// Panels [first, first + count) of the n_experts * panels_of(n) that `from` becomes -> out, count * panel_bytes(...)
// bytes. `from`: [n_experts][n, k] as in a file, any alignment; k a multiple of its format's block.
void repack(const Matrix& from, int64_t n, int64_t k, int64_t first, int64_t count, void* out);

// A router, float32 [n, k], for kernels/route/route_rows.h: each weight is the sum of three bf16 numbers, exactly
// (unless it is tiny, below 2^-110), so that the tensor cores compute what float32 would. It becomes a bf16 matrix of 3
// n rows, one third after the other: panels [first, first + count) of panels_of(3 n).
void repack_router(const Matrix& from, int64_t n, int64_t k, int64_t first, int64_t count, void* out);

// A panel of the device's bytes -> float32 [16, padded_k(format, k)]: for tests and tools.
void decode_panel(DeviceFormat format, const void* panel, int64_t k, float* out);

}  // namespace corvid::kernels
