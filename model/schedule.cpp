#include "model/schedule.h"

#include <algorithm>

namespace corvid::model {

std::vector<int64_t> share_rows(std::span<const int64_t> left, int64_t most_rows, int64_t prompt_rows) {
  std::vector<int64_t> rows(left.size());
  const int64_t n_long = std::ranges::count_if(left, [](int64_t n) { return n > kShortRows; });
  const int64_t kept = n_long > 0 ? std::min(kLeastPromptRows, most_rows) : 0;
  int64_t room = most_rows - kept;
  for (size_t i = 0; i < left.size(); ++i) {
    if (left[i] <= std::min(kShortRows, room)) room -= rows[i] = left[i];
  }
  room = std::min(room + kept, prompt_rows);
  const int64_t share = std::max(kLeastPromptRows, n_long > 0 ? room / n_long : room);
  for (const int64_t most : {share, room}) {  // then what others left over goes to the first
    for (size_t i = 0; i < left.size() && room > 0; ++i) {
      if (left[i] <= kShortRows) continue;
      const int64_t more = std::min({left[i] - rows[i], most, room});
      rows[i] += more;
      room -= more;
    }
  }
  return rows;
}

int64_t Pace::prompt_rows(int64_t most_rows, bool somebody_decodes) const {
  if (!somebody_decodes) return most_rows;
  const auto bounded = static_cast<int64_t>(rows_per_second_ * std::chrono::duration<double>(kGap).count());
  return std::clamp(bounded, std::min(2 * kLeastPromptRows, most_rows), most_rows);
}

void Pace::note_pass(int64_t prompt_rows, std::chrono::duration<double> time) {
  if (prompt_rows < kLeastPromptRows) return;
  const double speed = static_cast<double>(prompt_rows) / std::max(time.count(), 1e-9);
  rows_per_second_ = rows_per_second_ == 0 ? speed : (3 * rows_per_second_ + speed) / 4;
}

}  // namespace corvid::model
