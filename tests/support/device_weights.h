// Random weights on the GPU, and the float32 that they stand for; bf16 arrays.
#pragma once
#include <vector>

#include "kernels/device_matrix/device_matrix.h"
#include "tests/support/weights.h"

namespace corvid::test {

constexpr kernels::DeviceFormat kDeviceFormats[] = {kernels::DeviceFormat::bf16, kernels::DeviceFormat::q8_0,
                                                    kernels::DeviceFormat::q4_k, kernels::DeviceFormat::q6_k,
                                                    kernels::DeviceFormat::f8_e4m3};

// What k must be a multiple of.
inline int64_t k_unit(kernels::DeviceFormat format) {
  switch (format) {
    case kernels::DeviceFormat::q8_0:
      return 32;
    case kernels::DeviceFormat::q4_k:
    case kernels::DeviceFormat::q6_k:
      return 256;
    default:
      return 8;
  }
}

// [n_experts][n, k] of about 1 / sqrt(k) each.
class DeviceWeights {
 public:
  DeviceWeights(kernels::DeviceFormat format, int64_t n_, int64_t k_, uint32_t seed, int64_t n_experts_ = 1)
      : n(n_), k(k_), n_experts(n_experts_), values(size_t(n_experts * n * k)), sizes(values.size()) {
    using kernels::DeviceFormat;
    const int64_t bytes = device_bytes(format, n, k, n_experts), panels = n_experts * kernels::panels_of(n);
    std::vector<char> packed(static_cast<size_t>(bytes));
    if (format == DeviceFormat::f8_e4m3) {
      std::mt19937 bits(seed);
      // Where k is no whole number of blocks the rest is zeros, as what fills a tile up is.
      const int64_t blocks = padded_k(format, k) / kernels::kF8Block;
      std::vector<kernels::BlockF8> rows(static_cast<size_t>(n_experts * n * blocks));
      for (int64_t i = 0; i < n_experts * n * k; ++i) {
        auto byte = static_cast<uint8_t>(bits());
        if ((byte & 0x7f) > 0x60) byte ^= 0x40;
        rows[size_t(i / k * blocks + i % k / kernels::kF8Block)].q[i % k % kernels::kF8Block] = byte;
      }
      for (int64_t i = 0; i < std::ssize(rows); ++i) {
        const int64_t expert = i / blocks / n, row_block = i / blocks % n / 128;
        rows[size_t(i)].scale = 0.02F * float((expert + 3 * row_block + i % blocks) % 5 + 1);
      }
      kernels::repack({rows.data(), kernels::Format::f8_e4m3}, n, blocks * kernels::kF8Block, 0, panels, packed.data());
    } else {
      const kernels::Format file = format == DeviceFormat::bf16   ? kernels::Format::bf16
                                   : format == DeviceFormat::q8_0 ? kernels::Format::q8_0
                                   : format == DeviceFormat::q4_k ? kernels::Format::q4_k
                                                                  : kernels::Format::q6_k;
      repack(TestWeights(file, n_experts * n, k, seed).view(), n, k, 0, panels, packed.data());
    }
    const int64_t columns = padded_k(format, k);
    std::vector<float> panel(static_cast<size_t>(kernels::kPanelRows * columns));
    for (int64_t row = 0; row < n_experts * n; ++row) {
      const int64_t expert = row / n, at = expert * kernels::panels_of(n) + row % n / kernels::kPanelRows;
      if (row % n % kernels::kPanelRows == 0)
        decode_panel(format, packed.data() + at * panel_bytes(format, k), k, panel.data());
      for (int64_t i = 0; i < k; ++i)
        values[size_t(row * k + i)] = panel[size_t(row % n % kernels::kPanelRows * columns + i)];
    }
    // A weight that is scale * q - min counts as both: no more than twice the largest of its group.
    for (size_t i = 0; i < values.size(); ++i) sizes[i] = std::fabs(values[i]);
    if (format == DeviceFormat::q4_k)
      for (size_t i = 0; i < values.size(); i += 32)
        std::fill_n(sizes.begin() + std::ptrdiff_t(i), 32, 2 * *std::max_element(&sizes[i], &sizes[i] + 32));
    device_ = kernels::Buffer(bytes, kernels::Device::cuda);
    kernels::cuda::to_device(device_.as<void>(), packed.data(), bytes, nullptr);
    view = {device_.as<void>(), format, n, k, n_experts};
  }

  int64_t n, k, n_experts;
  std::vector<float> values;  // [n_experts][n, k]
  std::vector<float> sizes;   // of each, for a tolerance
  kernels::DeviceMatrix view;

 private:
  kernels::Buffer device_;
};

inline std::vector<uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<uint16_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), kernels::f32_to_bf16);
  return bits;
}
inline std::vector<float> from_bf16(const std::vector<uint16_t>& bits) {
  std::vector<float> values(bits.size());
  std::transform(bits.begin(), bits.end(), values.begin(), kernels::bf16_to_f32);
  return values;
}

// What products of q8_0 make of bf16 numbers (kernels/products/grid.cuh), in rows of a multiple of 32.
inline std::vector<uint16_t> on_grid(std::vector<uint16_t> bits) {
  for (size_t group = 0; group < bits.size(); group += 32) {
    float largest = 0x1p-95F;
    for (size_t i = group; i < group + 32; ++i) largest = std::max(largest, std::fabs(kernels::bf16_to_f32(bits[i])));
    const int e = std::ilogb(largest);
    for (size_t i = group; i < group + 32; ++i)
      if (const float x = kernels::bf16_to_f32(bits[i]); std::fabs(x) < std::ldexp(1.0F, e - 4))
        bits[i] = kernels::f32_to_bf16(std::ldexp(std::nearbyint(std::ldexp(x, 11 - e)), e - 11) + 0.0F);  // never -0
  }
  return bits;
}

}  // namespace corvid::test
