#include "model/stop_strings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace corvid::model {
namespace {

struct Shown {
  std::string text;
  bool is_stopped;
  bool operator==(const Shown&) const = default;
};

Shown pushed(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopStrings stop_strings(stops);
  std::string text;
  for (const std::string& piece : pieces) text += stop_strings.push(piece);
  return {text + stop_strings.finish(), stop_strings.is_stopped()};
}

// By plain search in the whole text: the stop string that ends first, the longest of those that end there.
Shown searched(const std::vector<std::string>& stops, const std::string& text) {
  size_t best_end = std::string::npos, best_begin = 0;
  for (const std::string& stop : stops) {
    const size_t begin = text.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < best_end || (end == best_end && begin < best_begin)) best_end = end, best_begin = begin;
  }
  return best_end == std::string::npos ? Shown{text, false} : Shown{text.substr(0, best_begin), true};
}

TEST(StopStringsTest, EndsTheTextBeforeAStopString) {
  EXPECT_EQ(pushed({"END"}, {"It is 3. END of it"}), (Shown{"It is 3. ", true}));
  EXPECT_EQ(pushed({"END"}, {"It is", " 3. E", "N", "D", " of it"}), (Shown{"It is 3. ", true}));
  EXPECT_EQ(pushed({"END"}, {"It is 3. EN"}), (Shown{"It is 3. EN", false})) << "half of one at the end is text";
  EXPECT_EQ(pushed({"END"}, {"E", "N", "d"}), (Shown{"ENd", false}));
  EXPECT_EQ(pushed({}, {"END"}), (Shown{"END", false}));
  EXPECT_EQ(pushed({"abcd", "bc"}, {"xabcd"}), (Shown{"xa", true})) << "the one that ends first";
  EXPECT_EQ(pushed({"bc", "abc"}, {"xabc"}), (Shown{"x", true})) << "the longest of those that end there";
}

TEST(StopStringsTest, ShowsNothingThatMayBelongToAStopStringAndAllElse) {
  StopStrings stops({"\n\nUser:"});
  EXPECT_EQ(stops.push("Yes."), "Yes.");
  EXPECT_EQ(stops.push("\n"), "");
  EXPECT_EQ(stops.push("No."), "\nNo.");
  EXPECT_EQ(stops.push("\n\n"), "");
  EXPECT_EQ(stops.push("\nUse"), "\n") << "the last two may still begin it";
  EXPECT_EQ(stops.push("r:"), "");
  EXPECT_TRUE(stops.is_stopped());
  EXPECT_EQ(stops.push("more") + stops.finish(), "");
}

TEST(StopStringsTest, AgreesWithASearchOfTheWholeTextHoweverItIsCut) {
  uint64_t state = 42;
  const auto below = [&](uint64_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % bound;
  };
  const auto text_of = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += static_cast<char>('a' + below(3));
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::string> stops;
    for (uint64_t i = below(4); i > 0; --i) stops.push_back(text_of(1 + below(6)));
    const std::string text = text_of(below(40));
    StopStrings stop_strings(stops);
    const Shown wanted = searched(stops, text);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::min<size_t>(below(5), text.size() - at);
      shown += stop_strings.push(std::string_view(text).substr(at, length));
      at += length;
      ASSERT_TRUE(wanted.text.starts_with(shown)) << "round " << round << ": shown before it was certain";
      // Nothing is held that cannot become a stop string.
      if (!stop_strings.is_stopped()) {
        const std::string held = text.substr(shown.size(), at - shown.size());
        EXPECT_TRUE(held.empty() ||
                    std::ranges::any_of(stops, [&](const std::string& stop) { return stop.starts_with(held); }));
      }
    }
    shown += stop_strings.finish();
    ASSERT_EQ((Shown{shown, stop_strings.is_stopped()}), wanted) << "round " << round << " of " << text;
    stopped += wanted.is_stopped ? 1 : 0;
  }
  EXPECT_GT(stopped, 5000);
}

}  // namespace
}  // namespace corvid::model
