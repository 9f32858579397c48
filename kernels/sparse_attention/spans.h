// How dense decode cuts a row's keys into spans, for the kernels and for the size of their workspace.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/sparse_attention/paged.h"

namespace corvid::kernels {

constexpr int kPiece = 16, kHeads = 16;  // keys of a piece, query heads of a tile
constexpr int kLeastSpan = 8;            // pieces of a span

// Spans of a row: with its kv heads 256 blocks of threads, which a big GPU has at once, two for each multiprocessor.
// More would begin behind others, and have more to merge.
constexpr int kMaxSpans = 128;
CORVID_HOST_DEVICE constexpr int64_t max_spans(int64_t kv_heads) {
  constexpr int kBlocks = 256, kLeast = 16;  // more than row_decode.cu's keys have
  const int64_t spans = kBlocks / kv_heads;
  return spans > kMaxSpans ? kMaxSpans : spans < kLeast ? kLeast : spans;
}

// Pieces of each of a row's spans, four warps taking turns.
CORVID_HOST_DEVICE constexpr int span_pieces(int64_t keys, int64_t kv_heads) {
  const int64_t pieces = (keys + kPiece - 1) / kPiece;
  const int64_t span = (pieces + max_spans(kv_heads) - 1) / max_spans(kv_heads);
  return static_cast<int>(span < kLeastSpan ? kLeastSpan : (span + 3) / 4 * 4);
}
CORVID_HOST_DEVICE constexpr int64_t spans(int64_t keys, int64_t kv_heads) {
  const int64_t pieces = (keys + kPiece - 1) / kPiece;
  return (pieces + span_pieces(keys, kv_heads) - 1) / span_pieces(keys, kv_heads);
}
// The most that a row of up to max_keys keys has: shorter ones may have more than the longest.
constexpr int64_t most_spans(int64_t max_keys, int64_t kv_heads) {
  return std::min(max_spans(kv_heads), (max_keys + kPiece * kLeastSpan - 1) / (kPiece * kLeastSpan));
}

// Whether decode.cu serves the shape.
constexpr bool can_decode(const PagedAttention& a) {
  return (a.head_dim == 64 || a.head_dim == 128) && a.n_heads / a.n_kv_heads <= kHeads;
}

}  // namespace corvid::kernels
