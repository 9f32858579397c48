// Between the projections and attention, on the GPU: queries and keys are normalised and turned, keys and values go to
// their pages. One pass over what the projections gave, instead of eight.
//
//   q'  = rope(rms_norm(q, q_norm))            -> q_out
//   k'  = rope(rms_norm(k, k_norm)), v         -> the pages of the row's sequence, at the row's position
//   iq' = rope(rms_norm(iq, index_q_norm))     -> index_q_out
//   ik' = rope(rms_norm(ik, index_k_norm))     -> the pages
//
//   Shapes   device memory: q: [rows, n_heads, head_dim] bf16, k, v: [rows, n_kv_heads, head_dim], index_q: [rows,
//            n_index_heads, index_dim], index_k: [rows, index_dim], row r beginning at r * stride; q_out, index_q_out:
//            as q and index_q, rows one after the other. Norms: float32, [head_dim] and [index_dim]; with whole_norms q
//            and k are normalised over all their heads together, by [n_heads * head_dim] and [n_kv_heads * head_dim].
//            cos_sin: [rows, rotary_dim], as rope.h says. Pages: paged_rows.h; pages_base: slot 0 of this layer, keys
//            at its beginning. index_k null: no index branch; index_q null: no row selects.
//   Needs    rows >= 0; head_dim, index_dim even and at most 1024; rotary_dim <= both; the pages of all rows present;
//            no two rows with the same place; seq, pos and pages not written by a kernel just before (they are read
//            while it may still run). q_out, index_q_out overlap nothing. Rows with pos < 0 are not stored.
//   Numbers  float32 from bf16 to bf16, one rounding at the end: |out - exact| <= 2^-8 |exact| (2^-4 in e4m3, at
//            least 2^-10; it saturates at 448) + store_heads_tolerance() * the norm's largest number.
//   Order    A row's bits depend on that row alone.
#pragma once
#include <cfloat>
#include <cstddef>
#include <cstdint>

#include "kernels/comm/dealt_rows.h"
#include "kernels/exec.h"

namespace corvid::kernels {

struct StoreHeads {
  struct Rows {
    const uint16_t* data = nullptr;  // bf16
    int64_t stride = 0;              // elements from row to row
  };
  Rows q, k, v, index_q, index_k;
  uint16_t *q_out, *index_q_out;
  const float *q_norm, *k_norm, *index_q_norm, *index_k_norm;
  const float* cos_sin;
  const int32_t *seq, *pos, *pages;
  int64_t rows, max_pages;
  std::byte* pages_base;
  int64_t page_bytes, values_offset, index_offset;
  int64_t n_heads, n_kv_heads, head_dim, n_index_heads, index_dim, rotary_dim, block;
  float eps;
  bool whole_norms = false;
  // With whole_norms, where q and k are a part of all heads, as GPUs share them: [rows, kHeadSquares], the sums of the
  // squares of all q's numbers, and of all k's; and how many GPUs have as many heads. Null: q and k are all.
  const float* squares = nullptr;
  int64_t gpus = 1;
  bool index_e4m3 = false;  // index keys, else bf16
};

constexpr double store_heads_tolerance() { return 64 * FLT_EPSILON; }

// part[r] = the sums of the squares of q's and of k's numbers, and zeros; sums[r] = zeros: ready to be added up over
// GPUs.
//   Shapes   q, k: as above, q_dim and k_dim numbers a row, which are even; part, sums: [rows, kHeadSquares].
constexpr int64_t kHeadSquares = 8;
struct HeadSquares {
  StoreHeads::Rows q, k;
  int64_t q_dim, k_dim;
  float *part, *sums;
  int64_t rows;
};

// cos_sin [rows, rotary_dim] of the positions, as rope_angles gives; nothing waits. Idle rows (pos < 0) get those of 0.
struct RowAngles {
  const int32_t* pos;  // device
  float* cos_sin;
  int64_t rows, rotary_dim;
  double theta;
};

// out[i] = in[rows[i]], for [n] rows of `row_bytes`, a multiple of 4; all in device memory, no overlap. Of several
// `in`, each with a place for all rows, row r is taken from that of the GPU that it is dealt to.
struct GatherRows {
  DealtRows<const void> in;
  const int32_t* rows;
  void* out;
  int64_t n, row_bytes;
};

// Numbers that mean nothing, for measuring: nearly normal with mean 0 and this deviation, the same for the same seed.
// Writes `count` numbers in each of `n_parts` places: at base + slots[i] * stride (slots null: i * stride).
struct MadeUp {
  std::byte* base;
  const int32_t* slots;  // [n_parts], device; may be null
  int64_t n_parts, stride, count;
  float deviation;
  uint64_t seed;
  enum class Kind : uint8_t { f32, bf16, e4m3 } kind = Kind::bf16;
};

namespace cuda {
void store_heads(const StoreHeads& a, CUstream_st* stream);
void head_squares(const HeadSquares& a, CUstream_st* stream);
void row_angles(const RowAngles& a, CUstream_st* stream);
void gather_rows(const GatherRows& a, CUstream_st* stream);
void make_up(const MadeUp& a, CUstream_st* stream);
}  // namespace cuda

}  // namespace corvid::kernels
