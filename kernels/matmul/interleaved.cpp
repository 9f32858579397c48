#include "kernels/matmul/interleaved.h"

#include <algorithm>
#include <cstring>

#include "kernels/simd/v16.h"

namespace corvid::kernels {

using cpu::IntTile;

namespace {

constexpr int64_t kScaleBytes = kInterleavedRows * 2;

// In bytes of q8_0 the sign bit is flipped.
constexpr uint32_t flipped_bits(Format format) { return format == Format::q8_0x16 ? 0x80808080U : 0; }

// From block `first` on: the two or four bytes at `at` of the sixteen rows are those at `in_row` of the plain ones.
template <int64_t Fours, class Scale, class Four>
void for_each_number(int64_t first, int64_t k, const Scale& scale, const Four& four) {
  const int64_t blocks = k / kQ8Block, block = 2 + 4 * Fours;
  for (int64_t b = first; b < blocks; ++b) {
    const InterleavedPlace at = interleaved_place(b, blocks, Fours);
    for (int64_t r = 0; r < kInterleavedRows; ++r) {
      const int64_t in_row = (r * blocks + b) * block;
      scale(at.scales + 2 * r, in_row);
      for (int64_t i = 0; i < Fours; ++i) four(at.registers + 64 * i + 4 * r, in_row + 2 + 4 * i);
    }
  }
}

template <Format F, bool IntoRows>
void move_numbers(const char* from, int64_t first, int64_t k, char* to) {
  const auto scale = [&](int64_t at, int64_t in_row) {
    std::memcpy(to + (IntoRows ? in_row : at), from + (IntoRows ? at : in_row), 2);
  };
  const auto four = [&](int64_t at, int64_t in_row) {
    uint32_t bytes;
    std::memcpy(&bytes, from + (IntoRows ? at : in_row), sizeof bytes);
    bytes ^= flipped_bits(F);
    std::memcpy(to + (IntoRows ? in_row : at), &bytes, sizeof bytes);
  };
  for_each_number<fours_of(F)>(first, k, scale, four);
}

}  // namespace

#if defined(__x86_64__)
CORVID_BEGIN_VNNI
namespace avx512 {
namespace {

// Assembly, because GCC 12 surrounds the intrinsic with moves between registers, which cost as much as the products.
CORVID_INLINE __m512i dot_four(__m512i sum, __m512i weights, const std::byte* four) {
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(weights), "m"(*reinterpret_cast<const int32_t*>(four)));
  return sum;
}

// separate(), sixteen registers at a time as far as there are so many: returns the first block that is left.
template <Format F>
int64_t separate_some(const char* from, int64_t k, char* rows) {
  constexpr int64_t kFours = fours_of(F), kBytes = 4 * kFours, kStep = 16 / kFours;
  const int64_t blocks = k / kQ8Block, row = blocks * (2 + kBytes);
  int64_t b = 0;
  for (; b + kStep <= blocks; b += kStep) {
    V lines[16];  // a register of each row's, then a row each
    CORVID_UNROLL
    for (int64_t i = 0; i < 16; ++i) {
      const char* at = from + interleaved_place(b + i / kFours, blocks, kFours).registers + 64 * (i % kFours);
      const __m512i flipped = _mm512_set1_epi32(static_cast<int>(flipped_bits(F)));
      lines[i].v = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_loadu_si512(at), flipped));
    }
    transpose(lines);
    char* to = rows + b * (2 + kBytes);
    CORVID_UNROLL
    for (int64_t r = 0; r < kInterleavedRows; ++r, to += row) {
      const __m512i line = _mm512_castps_si512(lines[r].v);
      if constexpr (F == Format::q8_0x16) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2), _mm512_castsi512_si256(line));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 36), _mm512_extracti64x4_epi64(line, 1));
      } else {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2), _mm512_castsi512_si128(line));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 20), _mm512_extracti32x4_epi32(line, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 38), _mm512_extracti32x4_epi32(line, 2));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 56), _mm512_extracti32x4_epi32(line, 3));
      }
      for (int64_t i = 0; i < kStep; ++i)
        std::memcpy(to + i * (2 + kBytes), from + interleaved_place(b + i, blocks, kFours).scales + 2 * r, 2);
    }
  }
  return b;
}

// R rows as ints.h has them, in the tiers with VNNI: a block is its 32 high bytes, then the low ones.
template <int R>
struct Rows {
  const std::byte* words[R];
  const float* scales[R];
  const int32_t* sums[R];
};

// Adds the products of one block, whose rows are `x` blocks behind the first.
template <Format F, int R>
CORVID_INLINE void add_block(const Rows<R>& row, int64_t x, const char* scales, const char* registers,
                             __m512 (&sums)[R]) {
  constexpr int kOffset = F == Format::q8_0x16 ? 128 : 8;
  constexpr int64_t kFours = fours_of(F);
  __m512i high[R], low[R];
  CORVID_UNROLL
  for (int r = 0; r < R; ++r) {
    high[r] = _mm512_setzero_si512();
    low[r] = _mm512_set1_epi32(-kOffset * (row.sums[r][2 * x] + row.sums[r][2 * x + 1]));
  }
  const auto multiply = [&](__m512i weights, int64_t column) __attribute__((always_inline)) {
    CORVID_UNROLL
    for (int r = 0; r < R; ++r) {
      const std::byte* four = row.words[r] + 64 * x + column;
      high[r] = dot_four(high[r], weights, four);
      low[r] = dot_four(low[r], weights, four + 32);
    }
  };
  CORVID_UNROLL
  for (int64_t i = 0; i < kFours; ++i) {
    const __m512i bytes = _mm512_loadu_si512(registers + 64 * i);
    if constexpr (F == Format::q8_0x16) {
      multiply(bytes, 4 * i);
    } else {
      const __m512i mask = _mm512_set1_epi8(15);
      multiply(_mm512_and_si512(bytes, mask), 4 * i);
      multiply(_mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask), 16 + 4 * i);
    }
  }
  const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
  CORVID_UNROLL
  for (int r = 0; r < R; ++r) {
    const __m512 exact = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high[r], 8), low[r]));
    sums[r] = _mm512_fmadd_ps(exact, _mm512_mul_ps(_mm512_set1_ps(row.scales[r][x]), scale), sums[r]);
  }
}

// All of the tile, R == t.rows. No prefetching: the processor follows one stream better by itself.
template <Format F, int R>
void product_of_rows(const IntTile& t) {
  constexpr int64_t kBlock = kScaleBytes + 64 * fours_of(F);
  Rows<R> row;
  for (int r = 0; r < R; ++r) {
    row.words[r] = t.vectors[r];
    row.scales[r] = reinterpret_cast<const float*>(t.vectors[r] + 2 * t.k);
    row.sums[r] = reinterpret_cast<const int32_t*>(t.vectors[r] + 2 * t.k + cpu::int_scale_bytes(t.k));
  }
  const char* w = t.w;
  for (int64_t j = 0; j < t.n; j += kInterleavedRows) {
    __m512 sums[R];
    CORVID_UNROLL
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    int64_t b = 0;
    for (; b + 2 <= t.k / kQ8Block; b += 2, w += 2 * kBlock) {
      add_block<F, R>(row, b, w, w + 2 * kScaleBytes, sums);
      add_block<F, R>(row, b + 1, w + kScaleBytes, w + kScaleBytes + kBlock, sums);
    }
    if (b < t.k / kQ8Block) {
      add_block<F, R>(row, b, w, w + kScaleBytes, sums);
      w += kBlock;
    }
    CORVID_UNROLL
    for (int r = 0; r < R; ++r) {
      float* y = t.y + r * t.y_stride + j;
      _mm512_storeu_ps(y, t.add ? _mm512_add_ps(_mm512_loadu_ps(y), sums[r]) : sums[r]);
    }
  }
}

template <Format F>
void product(const IntTile& t) {
  static_assert(cpu::kMaxVectors == 5);
  constexpr void (*kOfRows[])(const IntTile&) = {&product_of_rows<F, 1>, &product_of_rows<F, 2>, &product_of_rows<F, 3>,
                                                 &product_of_rows<F, 4>, &product_of_rows<F, 5>};
  kOfRows[t.rows - 1](t);
}

}  // namespace
}  // namespace avx512
CORVID_END_TIER
#endif

std::optional<Format> interleaved_format(Format format, int64_t n, Isa isa) {
  if (isa != Isa::vnni || n % kInterleavedRows != 0) return std::nullopt;
  return format == Format::q8_0   ? std::optional(Format::q8_0x16)
         : format == Format::q4_0 ? std::optional(Format::q4_0x16)
                                  : std::nullopt;
}

void interleave(Format format, const void* rows, int64_t k, void* out) noexcept {
  const auto move =
      format == Format::q8_0x16 ? &move_numbers<Format::q8_0x16, false> : &move_numbers<Format::q4_0x16, false>;
  move(static_cast<const char*>(rows), 0, k, static_cast<char*>(out));
}

void separate(Format format, const void* interleaved, int64_t k, void* rows, [[maybe_unused]] Isa isa) noexcept {
  const auto* from = static_cast<const char*>(interleaved);
  auto* to = static_cast<char*>(rows);
  int64_t first = 0;
#if defined(__x86_64__)
  if (isa >= Isa::vnni)
    first = format == Format::q8_0x16 ? avx512::separate_some<Format::q8_0x16>(from, k, to)
                                      : avx512::separate_some<Format::q4_0x16>(from, k, to);
#endif
  const auto move =
      format == Format::q8_0x16 ? &move_numbers<Format::q8_0x16, true> : &move_numbers<Format::q4_0x16, true>;
  move(from, first, k, to);
}

void cpu::int_product(const IntTile& t, Isa isa, float* scratch) noexcept {
  const IntFunctions& ints = int_functions(isa);
  if (!is_interleaved(t.format)) return ints.product(t, scratch);
#if defined(__x86_64__)
  if (t.vectors != nullptr && isa >= Isa::vnni)
    return t.format == Format::q8_0x16 ? avx512::product<Format::q8_0x16>(t) : avx512::product<Format::q4_0x16>(t);
#endif
  if (t.vectors == nullptr && ints.product_of_interleaved != nullptr) return ints.product_of_interleaved(t, scratch);
  const int64_t w_bytes = row_bytes(t.format, t.k);
  char* rows = reinterpret_cast<char*>(scratch + int_scratch(t.k) - separated_scratch(t.k));
  IntTile part = t;
  part.w = rows;
  part.format = plain_format(t.format);
  part.next = nullptr;
  for (int64_t j = 0; j < t.n; j += part.n) {
    part.n = std::min(kSeparatedRows, t.n - j);
    part.y = t.y + j;
    for (int64_t i = 0; i < part.n; i += kInterleavedRows)
      separate(t.format, t.w + (j + i) * w_bytes, t.k, rows + i * w_bytes, isa);
    ints.product(part, scratch);
  }
}

}  // namespace corvid::kernels
