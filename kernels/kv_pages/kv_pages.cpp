#include "kernels/kv_pages/kv_pages.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/check.h"

namespace corvid::kernels {
namespace {

constexpr int64_t kSerialNumbers = 16384;  // fewer are stored sooner than threads are woken
constexpr float kF16Max = 65504.0F;
constexpr float kBf16Max = 0x1.fep127F;

void check(const StoreRows& a) {
  require(a.n >= 0 && a.n_heads >= 1 && a.dim >= 1 && a.block >= 1,
          "kv_pages: want n >= 0 and n_heads, dim, block >= 1, found ", a.n, ", ", a.n_heads, ", ", a.dim, ", ",
          a.block);
  require(is_page_format(a.format), "kv_pages: want f32, f16, bf16 or q8_0, found ", format_name(a.format));
  for (int64_t r = 0; r < a.n; ++r) {
    require(a.pos[r] >= 0, "kv_pages: want positions >= 0, found ", a.pos[r]);
    require(a.pages[a.pos[r] / a.block].first != nullptr, "kv_pages: no page for position ", a.pos[r]);
  }
}

// Where in a head of a page lie element i of the position `slot`, and its scale: bytes from the head's beginning.
struct Place {
  Format format;
  int64_t dim, block;
  bool are_values;

  int64_t element(int64_t slot, int64_t i) const {
    const int64_t lane_of = are_values ? i : slot, line = are_values ? slot : i, lines = are_values ? block : dim;
    const int64_t groups = padded(are_values ? dim : block) / kLanes;
    return (line_offset(format, groups, lines, lane_of / kLanes, line) + lane_of % kLanes) * element_bytes(format);
  }
  int64_t scale(int64_t slot, int64_t i) const {
    const int64_t group = i / kQ8Block;
    if (are_values) return padded(dim) * block + (group * block + slot) * 2;
    return padded(block) * dim + ((slot / kLanes * scale_groups(format, dim) + group) * kLanes + slot % kLanes) * 2;
  }
};

// What is finite stays finite; NaN stays NaN.
float clamped(float x, float most) { return std::isfinite(x) ? std::clamp(x, -most, most) : x; }

// 32 numbers or fewer that share a scale.
BlockQ8 encode_q8(const float* x, int64_t n) {
  std::array<float, kQ8Block> padded_x{};
  bool is_finite = true;
  for (int64_t i = 0; i < n; ++i) {
    is_finite = is_finite && std::isfinite(x[i]);
    padded_x[static_cast<size_t>(i)] = clamped(x[i], 127 * kF16Max);
  }
  BlockQ8 block{};
  block.d = f32_to_f16(std::numeric_limits<float>::quiet_NaN());
  if (is_finite) encode_row(Format::q8_0, padded_x.data(), kQ8Block, &block);
  return block;
}

// Elements [first, first + n) of a position to their places; first is a multiple of 32, n at most 32.
template <class T>
void put(const T* elements, int64_t n, const Place& place, int64_t slot, int64_t first, std::byte* head) {
  if (place.are_values) {
    for (int64_t i = 0; i < n; i += kLanes)
      std::memcpy(head + place.element(slot, first + i), elements + i, sizeof(T) * size_t(std::min(kLanes, n - i)));
  } else {
    const int64_t at = place.element(slot, first), step = place.element(slot, first + 1) - at;
    for (int64_t i = 0; i < n; ++i) std::memcpy(head + at + i * step, elements + i, sizeof(T));
  }
}

// One position of one head.
void store_row(const float* x, const Place& place, int64_t slot, std::byte* head) {
  for (int64_t first = 0; first < place.dim; first += kQ8Block, x += kQ8Block) {
    const int64_t n = std::min(kQ8Block, place.dim - first);
    std::array<uint16_t, kQ8Block> bits;
    switch (place.format) {
      case Format::f16:
        std::transform(x, x + n, bits.data(), [](float v) { return f32_to_f16(clamped(v, kF16Max)); });
        put(bits.data(), n, place, slot, first, head);
        break;
      case Format::bf16:
        std::transform(x, x + n, bits.data(), [](float v) { return f32_to_bf16(clamped(v, kBf16Max)); });
        put(bits.data(), n, place, slot, first, head);
        break;
      case Format::q8_0: {
        const BlockQ8 block = encode_q8(x, n);
        put(block.q, n, place, slot, first, head);
        std::memcpy(head + place.scale(slot, first), &block.d, 2);
        break;
      }
      default:
        put(x, n, place, slot, first, head);
    }
  }
}

// Rows [first, end) of a job, all in one page.
struct Run {
  const StoreRows* a;
  int64_t first, end, head;
};

float element_at(const std::byte* head, const Place& place, int64_t slot, int64_t i) {
  const std::byte* at = head + place.element(slot, i);
  if (place.format == Format::q8_0) {
    uint16_t scale;
    std::memcpy(&scale, head + place.scale(slot, i), sizeof scale);
    return static_cast<float>(static_cast<int8_t>(*at)) * f16_to_f32(scale);
  }
  if (place.format == Format::f32) {
    float x;
    std::memcpy(&x, at, sizeof x);
    return x;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return place.format == Format::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

}  // namespace

void store_rows(std::span<const StoreRows> all, Exec& exec) {
  require_cpu(exec, "kv_pages");
  std::vector<Run> runs;
  int64_t numbers = 0;
  for (const StoreRows& a : all) {
    check(a);
    numbers += a.n * a.n_heads * a.dim;
    for (int64_t first = 0, end = 0; first < a.n; first = end) {
      while (end < a.n && a.pos[end] / a.block == a.pos[first] / a.block) ++end;
      for (int64_t head = 0; head < a.n_heads; ++head) runs.push_back({&a, first, end, head});
    }
  }
  const auto store = [&](int64_t task, int) {
    const Run& run = runs[static_cast<size_t>(task)];
    const StoreRows& a = *run.a;
    const Place place{a.format, a.dim, a.block, a.are_values};
    std::byte* head = a.pages[a.pos[run.first] / a.block].head(run.head);
    for (int64_t r = run.first; r < run.end; ++r)
      store_row(a.rows + (r * a.n_heads + run.head) * a.dim, place, a.pos[r] % a.block, head);
  };
  if (numbers <= kSerialNumbers)
    for (int64_t task = 0; task < std::ssize(runs); ++task) store(task, 0);
  else
    exec.pool().run(std::ssize(runs), store);
}

void store_keys(StoreRows a, Exec& exec) {
  a.are_values = false;
  store_rows({&a, 1}, exec);
}

void store_values(StoreRows a, Exec& exec) {
  a.are_values = true;
  store_rows({&a, 1}, exec);
}

void clear_unused_keys(const PageHeads& page, Format f, int64_t n_heads, int64_t dim, int64_t block, int64_t used) {
  const int64_t groups = padded(block) / kLanes, scale_lines = scale_groups(f, dim);
  for (int64_t h = 0; h < n_heads; ++h) {
    std::byte* const scales = page.head(h) + groups * dim * kLanes * element_bytes(f);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t kept = std::clamp<int64_t>(used - group * kLanes, 0, kLanes);
      const auto clear = [&](std::byte* line, int64_t bytes) {
        std::fill(line + kept * bytes, line + kLanes * bytes, std::byte{0});
      };
      for (int64_t line = 0; line < dim; ++line)
        clear(page.head(h) + line_offset(f, groups, dim, group, line) * element_bytes(f), element_bytes(f));
      for (int64_t line = 0; line < scale_lines; ++line) clear(scales + (group * scale_lines + line) * kLanes * 2, 2);
    }
    std::fill(scales + groups * scale_lines * kLanes * 2, page.head(h) + key_head_bytes(f, dim, block), std::byte{0});
  }
}

void clear_unused_values(const PageHeads& page, Format f, int64_t n_heads, int64_t dim, int64_t block, int64_t used) {
  const int64_t groups = padded(dim) / kLanes, bytes = element_bytes(f);
  for (int64_t h = 0; h < n_heads; ++h) {
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t line = 0; line < block; ++line) {
        const int64_t kept = line < used ? std::min(kLanes, dim - group * kLanes) : 0;
        std::byte* const at = page.head(h) + line_offset(f, groups, block, group, line) * bytes;
        std::fill(at + kept * bytes, at + kLanes * bytes, std::byte{0});
      }
    std::byte* at = page.head(h) + groups * block * kLanes * bytes;
    for (int64_t group = 0; group < scale_groups(f, dim); ++group, at += block * 2)
      std::fill(at + used * 2, at + block * 2, std::byte{0});
    std::fill(at, page.head(h) + value_head_bytes(f, dim, block), std::byte{0});
  }
}

float key_at(const PageHeads& page, int64_t head, int64_t slot, int64_t i, int64_t dim, int64_t block, Format f) {
  return element_at(page.head(head), {f, dim, block, false}, slot, i);
}

float value_at(const PageHeads& page, int64_t head, int64_t slot, int64_t i, int64_t dim, int64_t block, Format f) {
  return element_at(page.head(head), {f, dim, block, true}, slot, i);
}

}  // namespace corvid::kernels
