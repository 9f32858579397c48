#include "model/stop_strings.h"

#include <algorithm>
#include <utility>

namespace corvid::model {

std::string StopStrings::push(std::string_view piece) {
  if (is_stopped_) return "";
  if (strings_.empty()) return std::string(piece);
  std::string certain;
  for (const char byte : piece) {
    held_ += byte;
    // Of all that held_ could go on to be, only its longest end that begins a stop string matters.
    size_t longest = 0;
    for (const std::string& stop : strings_) {
      for (size_t length = std::min(held_.size(), stop.size()); length > longest; --length) {
        if (held_.compare(held_.size() - length, length, stop, 0, length) != 0) continue;
        longest = length;
      }
      is_stopped_ = is_stopped_ || held_.ends_with(stop);
    }
    if (is_stopped_) {
      size_t stop_length = 0;
      for (const std::string& stop : strings_) {
        if (held_.ends_with(stop)) stop_length = std::max(stop_length, stop.size());
      }
      certain += take(held_.size() - stop_length);
      held_.clear();
      return certain;
    }
    certain += take(held_.size() - longest);
  }
  return certain;
}

std::string StopStrings::take(size_t count) {
  std::string taken = held_.substr(0, count);
  held_.erase(0, count);
  return taken;
}

std::string StopStrings::finish() { return std::exchange(held_, ""); }

}  // namespace corvid::model
