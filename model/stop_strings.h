// Ends a text where one of several strings stands in it, whatever the pieces that it comes in.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace corvid::model {

// Used by one thread. The text ends at the first byte that completes a stop string (the longest of those completed
// there); it and all that follows is dropped. The same for every way of cutting the text into pieces.
class StopStrings {
 public:
  // Without stop strings everything passes at once. No string is empty.
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Takes the next piece; returns what is certain by now not to begin a stop string. Nothing after the end.
  std::string push(std::string_view piece);
  // No more comes: what was held.
  std::string finish();
  bool is_stopped() const { return is_stopped_; }

 private:
  std::string take(size_t count);

  std::vector<std::string> strings_;
  std::string held_;  // the longest end of the text that begins a stop string
  bool is_stopped_ = false;
};

}  // namespace corvid::model
