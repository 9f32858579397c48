#include "kernels/kv_pages/kv_pages.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/check.h"

namespace corvid::kernels {
namespace {

constexpr int64_t kSerialNumbers = 512;  // fewer are stored sooner than threads meet, even where lines are cold
constexpr float kF16Max = 65504.0F;
constexpr float kF16Least = 0x1p-24F;

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

using Numbers = std::array<float, kQ8Block>;  // a piece of a row, with zeros behind its end
using Halves = std::array<uint16_t, kQ8Block>;

// The loops below have no branches and a length that is known, so that the compiler makes vectors of them: the next
// kernel waits for what a token stores.
constexpr int32_t kInfinity = 0x7f800000;
int32_t magnitude(float x) { return std::bit_cast<int32_t>(x) & 0x7fffffff; }
int32_t largest_magnitude(const Numbers& x) {
  int32_t most = 0;
  for (const float v : x) most = std::max(most, magnitude(v));  // as integers, NaN > inf
  return most;
}

// As f32_to_f16, but what is finite stops at f16's largest number.
Halves to_f16(const Numbers& x) {
  Halves out;
  for (size_t i = 0; i < x.size(); ++i) {
    const int32_t bits = std::bit_cast<int32_t>(x[i]), m = bits & 0x7fffffff;
    const int32_t normal = (m - 0x38000000 + 0xfff + ((m >> 13) & 1)) >> 13;
    const int32_t subnormal = std::bit_cast<int32_t>(std::bit_cast<float>(m) + 0.5F) - 0x3f000000;
    const int32_t small = m < 0x38800000 ? subnormal : std::min(normal, 0x7bff);
    const int32_t large = m > kInfinity ? 0x7e00 : 0x7c00;
    out[i] = static_cast<uint16_t>(((bits >> 16) & 0x8000) | (m < kInfinity ? small : large));
  }
  return out;
}

// As f32_to_bf16, but what is finite stops at bf16's largest number.
Halves to_bf16(const Numbers& x) {
  Halves out;
  for (size_t i = 0; i < x.size(); ++i) {
    const int32_t bits = std::bit_cast<int32_t>(x[i]), m = bits & 0x7fffffff;
    const int32_t rounded = std::min((m >> 16) + (((m & 0xffff) + 0x7fff + ((m >> 16) & 1)) >> 16), 0x7f7f);
    const int32_t large = m > kInfinity ? 0x7fc0 : 0x7f80;
    out[i] = static_cast<uint16_t>(((bits >> 16) & 0x8000) | (m < kInfinity ? rounded : large));
  }
  return out;
}

// 32 numbers that share a scale, x = d * q: the largest becomes 127. NaN or an infinity makes d NaN.
BlockQ8 to_q8(const Numbers& x) {
  BlockQ8 block{};
  const int32_t most = largest_magnitude(x);
  block.d = f32_to_f16(std::numeric_limits<float>::quiet_NaN());
  if (most >= kInfinity) return block;
  constexpr float kMost = 127 * kF16Max;
  const float d = std::min(std::bit_cast<float>(most), kMost) / 127, inverse = d < kF16Least ? 0 : 1 / d;
  block.d = f32_to_f16(d);
  // Added to 3 * 2^22, a small number is rounded to an integer, to the even one from halfway, in the lowest bits.
  constexpr float kRound = 0x1.8p23F;
  for (size_t i = 0; i < x.size(); ++i) {
    const float scaled = std::clamp(x[i], -kMost, kMost) * inverse;
    block.q[i] = static_cast<int8_t>(std::bit_cast<int32_t>(scaled + kRound) - std::bit_cast<int32_t>(kRound));
  }
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
    Numbers numbers{};
    std::copy_n(x, n, numbers.begin());
    switch (place.format) {
      case Format::f16:
        put(to_f16(numbers).data(), n, place, slot, first, head);
        break;
      case Format::bf16:
        put(to_bf16(numbers).data(), n, place, slot, first, head);
        break;
      case Format::q8_0: {
        const BlockQ8 block = to_q8(numbers);
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
  // Keys and values of a head together: mostly the thread that stores them is the one that attends to that head then.
  std::stable_sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.head < b.head; });
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
