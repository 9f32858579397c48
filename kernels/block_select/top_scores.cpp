#include "kernels/block_select/top_scores.h"

#include <algorithm>
#include <bit>

namespace corvid::kernels {
namespace {

// A float as an integer of the same order, and back; no NaN, -0 as 0.
int32_t to_ordered(float x) {
  const auto bits = std::bit_cast<int32_t>(x + 0.0F);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
float from_ordered(int32_t x) { return std::bit_cast<float>(x ^ ((x >> 31) & 0x7fffffff)); }

int64_t count_from(const float* scores, int64_t n, float t) {
  int32_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += scores[i] >= t ? 1 : 0;
  return count;
}

// The largest t with at least `wanted` of the scores >= t, or a smaller one with exactly as many: a few countings, each
// at several scores per instruction, where a sort would compare one by one.
float threshold(const float* scores, int64_t n, int64_t wanted) {
  const auto [min, max] = std::minmax_element(scores, scores + n);
  int64_t low = to_ordered(*min), high = to_ordered(*max);
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    const float t = from_ordered(static_cast<int32_t>(middle));
    const int64_t found = count_from(scores, n, t);
    if (found == wanted) return t;
    if (found > wanted) low = middle;
    if (found < wanted) high = middle - 1;
  }
  return from_ordered(static_cast<int32_t>(low));
}

}  // namespace

void top_scores(const float* scores, int64_t n, int64_t wanted, int32_t* ids) noexcept {
  if (wanted == 0) return;
  const float t = threshold(scores, n, wanted);
  int64_t above = 0;
  for (int64_t i = 0; i < n; ++i) above += scores[i] > t ? 1 : 0;
  int64_t ties = wanted - above;  // the first of those with a score of t
  for (int64_t i = 0, found = 0; found < wanted; ++i)
    if (scores[i] > t || (scores[i] == t && ties-- > 0)) ids[found++] = static_cast<int32_t>(i);
}

}  // namespace corvid::kernels
