// How dense decode cuts a row's keys into spans, for the kernels and for the size of their workspace.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/sparse_attention/paged.h"

namespace corvid::kernels {

constexpr int kPiece = 16, kHeads = 16;         // keys of a piece, query heads of a tile
constexpr int kMaxSpans = 128, kLeastSpan = 8;  // spans of a row; pieces of a span

// Pieces of each of a row's spans, four warps taking turns.
CORVID_HOST_DEVICE constexpr int span_pieces(int64_t keys) {
  const int64_t pieces = (keys + kPiece - 1) / kPiece;
  const int64_t span = (pieces + kMaxSpans - 1) / kMaxSpans;
  return static_cast<int>(span < kLeastSpan ? kLeastSpan : (span + 3) / 4 * 4);
}
CORVID_HOST_DEVICE constexpr int64_t spans(int64_t keys) {
  const int64_t pieces = (keys + kPiece - 1) / kPiece;
  return (pieces + span_pieces(keys) - 1) / span_pieces(keys);
}
// The most that a row of up to max_keys keys has: shorter ones may have more than the longest.
constexpr int64_t most_spans(int64_t max_keys) {
  return std::min<int64_t>(kMaxSpans, (max_keys + kPiece * kLeastSpan - 1) / (kPiece * kLeastSpan));
}

// Whether decode.cu serves the shape.
constexpr bool can_decode(const PagedAttention& a) {
  return (a.head_dim == 64 || a.head_dim == 128) && a.n_heads / a.n_kv_heads <= kHeads;
}

}  // namespace corvid::kernels
