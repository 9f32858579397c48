#include "kernels/matmul/interleaved.h"

#include <algorithm>
#include <cstring>

#include "kernels/simd/soon.h"
#include "kernels/simd/v16.h"

namespace corvid::kernels {

using cpu::IntTile;

namespace {

// In bytes of q8_0 the sign bit is flipped.
constexpr uint32_t flipped_bits(Format format) { return format == Format::q8_0x96 ? 0x80808080U : 0; }

// From block `first` on, sixteen rows that lie `at` and one after the other in `rows`; which way by IntoRows.
template <Format F, bool IntoRows, class Byte, class RowByte>
void move_numbers(Byte* interleaved, const InterleavedPlace& at, int64_t first, int64_t k, RowByte* rows) {
  constexpr int64_t kBlock = 2 + 4 * fours_of(F);
  const int64_t blocks = k / kQ8Block;
  for (int64_t b = first; b < blocks; ++b)
    for (int64_t r = 0; r < kInterleavedRows; ++r) {
      RowByte* const row = rows + (r * blocks + b) * kBlock;
      Byte* const scale = interleaved + at.scales + b * at.block + 2 * r;
      if constexpr (IntoRows)
        std::memcpy(row, scale, 2);
      else
        std::memcpy(scale, row, 2);
      for (int64_t i = 0; i < fours_of(F); ++i) {
        Byte* const four = interleaved + at.registers + b * at.block + i * at.step + 4 * r;
        uint32_t bytes;
        std::memcpy(&bytes, IntoRows ? four : row + 2 + 4 * i, sizeof bytes);
        bytes ^= flipped_bits(F);
        if constexpr (IntoRows)
          std::memcpy(row + 2 + 4 * i, &bytes, sizeof bytes);
        else
          std::memcpy(four, &bytes, sizeof bytes);
      }
    }
}

}  // namespace

#if defined(__x86_64__)
CORVID_BEGIN_VNNI
namespace avx512 {
namespace {

constexpr int64_t kSixteens = kGroupRows / kInterleavedRows;

// Assembly, because GCC 12 surrounds the intrinsic with moves between registers, which cost as much as the products.
CORVID_INLINE __m512i dot_four(__m512i sum, __m512i weights, __m512i four) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(four));
  return sum;
}

CORVID_INLINE __m512i broadcast(const std::byte* four) {
  int32_t bytes;
  std::memcpy(&bytes, four, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

// separate(), sixteen registers at a time as far as there are so many: returns the first block that is left.
template <Format F>
int64_t separate_some(const char* from, const InterleavedPlace& place, int64_t k, char* rows) {
  constexpr int64_t kFours = fours_of(F), kBytes = 4 * kFours, kStep = 16 / kFours;
  const int64_t blocks = k / kQ8Block, row = blocks * (2 + kBytes);
  int64_t b = 0;
  for (; b + kStep <= blocks; b += kStep) {
    V lines[16];  // a register of each row's, then a row each
    CORVID_UNROLL
    for (int64_t i = 0; i < 16; ++i) {
      const char* at = from + place.registers + (b + i / kFours) * place.block + i % kFours * place.step;
      const __m512i flipped = _mm512_set1_epi32(static_cast<int>(flipped_bits(F)));
      lines[i].v = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_loadu_si512(at), flipped));
    }
    transpose(lines);
    char* to = rows + b * (2 + kBytes);
    CORVID_UNROLL
    for (int64_t r = 0; r < kInterleavedRows; ++r, to += row) {
      const __m512i line = _mm512_castps_si512(lines[r].v);
      if constexpr (F == Format::q8_0x96) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2), _mm512_castsi512_si256(line));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 36), _mm512_extracti64x4_epi64(line, 1));
      } else {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2), _mm512_castsi512_si128(line));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 20), _mm512_extracti32x4_epi32(line, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 38), _mm512_extracti32x4_epi32(line, 2));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 56), _mm512_extracti32x4_epi32(line, 3));
      }
      for (int64_t i = 0; i < kStep; ++i)
        std::memcpy(to + i * (2 + kBytes), from + place.scales + (b + i) * place.block + 2 * r, 2);
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

// Of R rows, sixteens that are multiplied at a time: as many as there are registers for their sums.
template <int R>
constexpr int kTogether = R == 1   ? 6
                          : R == 2 ? 3
                                   : 2;

// Adds the products of one block, whose rows are `x` blocks behind the first, with C sixteens side by side, from the
// group's `first` on, whose registers are `step` apart. What is `ahead` of the registers is fetched.
template <Format F, int R, int C>
CORVID_INLINE void add_block(const Rows<R>& row, int64_t x, const char* scales, const char* registers, int64_t step,
                             int64_t ahead, __m512 (&sums)[R][kSixteens], int64_t first) {
  constexpr int kOffset = F == Format::q8_0x96 ? 128 : 8;
  constexpr int64_t kFours = fours_of(F);
  __m512i high[R][C], low[R][C];
  CORVID_UNROLL
  for (int r = 0; r < R; ++r) {
    const __m512i offset = _mm512_set1_epi32(-kOffset * (row.sums[r][2 * x] + row.sums[r][2 * x + 1]));
    CORVID_UNROLL
    for (int c = 0; c < C; ++c) high[r][c] = _mm512_setzero_si512(), low[r][c] = offset;
  }
  const auto multiply = [&](const __m512i(&weights)[C], int64_t column) __attribute__((always_inline)) {
    CORVID_UNROLL
    for (int r = 0; r < R; ++r) {
      const std::byte* four = row.words[r] + 64 * x + column;
      const __m512i high_four = broadcast(four), low_four = broadcast(four + 32);
      CORVID_UNROLL
      for (int c = 0; c < C; ++c) {
        high[r][c] = dot_four(high[r][c], weights[c], high_four);
        low[r][c] = dot_four(low[r][c], weights[c], low_four);
      }
    }
  };
  CORVID_UNROLL
  for (int64_t i = 0; i < kFours; ++i) {
    __m512i bytes[C];
    CORVID_UNROLL
    for (int c = 0; c < C; ++c) {
      const char* at = registers + i * step + int64_t{64} * c;
      fetch_line(at, ahead);
      bytes[c] = _mm512_loadu_si512(at);
    }
    if constexpr (F == Format::q8_0x96) {
      multiply(bytes, 4 * i);
    } else {
      const __m512i mask = _mm512_set1_epi8(15);
      __m512i halves[C];
      CORVID_UNROLL
      for (int c = 0; c < C; ++c) halves[c] = _mm512_and_si512(bytes[c], mask);
      multiply(halves, 4 * i);
      CORVID_UNROLL
      for (int c = 0; c < C; ++c) halves[c] = _mm512_and_si512(_mm512_srli_epi16(bytes[c], 4), mask);
      multiply(halves, 16 + 4 * i);
    }
  }
  CORVID_UNROLL
  for (int c = 0; c < C; ++c) {
    const __m512 scale =
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + int64_t{32} * c)));
    CORVID_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512 exact = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high[r][c], 8), low[r][c]));
      sums[r][first + c] =
          _mm512_fmadd_ps(exact, _mm512_mul_ps(_mm512_set1_ps(row.scales[r][x]), scale), sums[r][first + c]);
    }
  }
}

// The group whose rows are from j on. Sixteens: how many it has, or 0 for fewer than a whole one has.
template <Format F, int R, int64_t Sixteens>
void product_of_group(const Rows<R>& row, const IntTile& t, int64_t j) {
  constexpr int kC = Sixteens == 0 ? 2 : kTogether<R>;
  const int64_t sixteens = Sixteens == 0 ? (t.n - j) / kInterleavedRows : Sixteens;
  const InterleavedPlace at = interleaved_place(F, j, t.n, t.k);
  const char *scales = t.w + at.scales, *end = t.w + t.n * row_bytes(F, t.k);
  // Whole blocks, so that what is read next is fetched from its beginning.
  const int64_t blocks_ahead = (kAhead + at.block - 1) / at.block * at.block;
  const auto behind_end = static_cast<int64_t>(reinterpret_cast<uintptr_t>(t.next) - reinterpret_cast<uintptr_t>(end));
  __m512 sums[R][kSixteens];
  CORVID_UNROLL
  for (auto& of_row : sums) {
    CORVID_UNROLL
    for (__m512& sum : of_row) sum = _mm512_setzero_ps();
  }
  for (int64_t b = 0; b < t.k / kQ8Block; ++b, scales += at.block) {
    const auto from_here = [&](int64_t bytes) {
      return end - scales > bytes ? bytes : t.next == nullptr ? 0 : behind_end + bytes;
    };
    const int64_t ahead = from_here(blocks_ahead);
    fetch_line(scales, from_here(kPageAhead));
    for (int64_t i = 0; i < 32 * sixteens; i += 64) fetch_line(scales + i, ahead);
    const char* registers = scales + (at.registers - at.scales);
    int64_t c = 0;
    for (; c + kC <= sixteens; c += kC)
      add_block<F, R, kC>(row, b, scales + 32 * c, registers + 64 * c, at.step, ahead, sums, c);
    if (Sixteens == 0 && c < sixteens)
      add_block<F, R, 1>(row, b, scales + 32 * c, registers + 64 * c, at.step, ahead, sums, c);
  }
  for (int r = 0; r < R; ++r)
    for (int64_t c = 0; c < sixteens; ++c) {
      float* y = t.y + r * t.y_stride + j + c * kInterleavedRows;
      _mm512_storeu_ps(y, t.add ? _mm512_add_ps(_mm512_loadu_ps(y), sums[r][c]) : sums[r][c]);
    }
}

// All of the tile, R == t.rows.
template <Format F, int R>
void product_of_rows(const IntTile& t) {
  Rows<R> row;
  for (int r = 0; r < R; ++r) {
    row.words[r] = t.vectors[r];
    row.scales[r] = reinterpret_cast<const float*>(t.vectors[r] + 2 * t.k);
    row.sums[r] = reinterpret_cast<const int32_t*>(t.vectors[r] + 2 * t.k + cpu::int_scale_bytes(t.k));
  }
  int64_t j = 0;
  for (; j + kGroupRows <= t.n; j += kGroupRows) product_of_group<F, R, kSixteens>(row, t, j);
  if (j < t.n) product_of_group<F, R, 0>(row, t, j);
}

template <Format F>
void product(const IntTile& t) {
  static_assert(cpu::kMaxVectors == 5);
  constexpr void (*kOfRows[])(const IntTile&) = {&product_of_rows<F, 1>, &product_of_rows<F, 2>, &product_of_rows<F, 3>,
                                                 &product_of_rows<F, 4>, &product_of_rows<F, 5>};
  IntTile part = t;
  for (int64_t r = 0; r < t.rows; r += cpu::kMaxVectors) {
    part.vectors = t.vectors + r;
    part.y = t.y + r * t.y_stride;
    part.rows = std::min(cpu::kMaxVectors, t.rows - r);
    kOfRows[part.rows - 1](part);
  }
}

}  // namespace
}  // namespace avx512
CORVID_END_TIER
#endif

std::optional<Format> interleaved_format(Format format, int64_t n, Isa isa) {
  if (isa != Isa::vnni || n % kInterleavedRows != 0) return std::nullopt;
  return format == Format::q8_0   ? std::optional(Format::q8_0x96)
         : format == Format::q4_0 ? std::optional(Format::q4_0x96)
                                  : std::nullopt;
}

void interleave(Format format, const void* rows, int64_t n, int64_t k, void* out) noexcept {
  const int64_t row = row_bytes(format, k);
  for (int64_t first = 0; first < n; first += kInterleavedRows) {
    const InterleavedPlace at = interleaved_place(format, first, n, k);
    const char* from = static_cast<const char*>(rows) + first * row;
    if (format == Format::q8_0x96)
      move_numbers<Format::q8_0x96, false>(static_cast<char*>(out), at, 0, k, from);
    else
      move_numbers<Format::q4_0x96, false>(static_cast<char*>(out), at, 0, k, from);
  }
}

void separate(Format format, const void* interleaved, int64_t first, int64_t n, int64_t k, void* rows,
              [[maybe_unused]] Isa isa) noexcept {
  const auto* from = static_cast<const char*>(interleaved);
  auto* to = static_cast<char*>(rows);
  const InterleavedPlace at = interleaved_place(format, first, n, k);
  int64_t block = 0;
#if defined(__x86_64__)
  if (isa >= Isa::vnni)
    block = format == Format::q8_0x96 ? avx512::separate_some<Format::q8_0x96>(from, at, k, to)
                                      : avx512::separate_some<Format::q4_0x96>(from, at, k, to);
#endif
  if (format == Format::q8_0x96)
    move_numbers<Format::q8_0x96, true>(from, at, block, k, to);
  else
    move_numbers<Format::q4_0x96, true>(from, at, block, k, to);
}

void cpu::int_product(const IntTile& t, Isa isa, float* scratch) noexcept {
  const IntFunctions& ints = int_functions(isa);
  if (!is_interleaved(t.format)) return ints.product(t, scratch);
#if defined(__x86_64__)
  if (t.vectors != nullptr && isa >= Isa::vnni)
    return t.format == Format::q8_0x96 ? avx512::product<Format::q8_0x96>(t) : avx512::product<Format::q4_0x96>(t);
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
      separate(t.format, t.w, j + i, t.n, t.k, rows + i * w_bytes, isa);
    ints.product(part, scratch);
  }
}

}  // namespace corvid::kernels
