// Who gets how many rows of the next pass.
#pragma once
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

namespace corvid::model {

// What is left of a prompt counts as short when it is no more than this: a decode step, or a few guessed tokens.
inline constexpr int64_t kShortRows = 17;
// Fewer rows of a prompt in a pass read the weights too often.
inline constexpr int64_t kLeastPromptRows = 32;

// `left`: tokens that each piece of work has left, at least 1, in the order of their turns. Returns the rows of each,
// at most `most_rows` in all: short work is done whole and first, but for kLeastPromptRows rows when there is long
// work, which shares what is left, up to `prompt_rows`, evenly, at least kLeastPromptRows each. Whoever gets none is
// first in the next pass.
std::vector<int64_t> share_rows(std::span<const int64_t> left, int64_t most_rows, int64_t prompt_rows);

// How many rows of prompts a pass may have: all there is place for, unless somebody decodes; then as many as take about
// kGap, so that nobody waits longer for a token.
class Pace {
 public:
  static constexpr std::chrono::milliseconds kGap{100};

  int64_t prompt_rows(int64_t most_rows, bool somebody_decodes) const;
  void note_pass(int64_t prompt_rows, std::chrono::duration<double> time);

 private:
  double rows_per_second_ = 0;  // of passes with prompts; 0: not known yet
};

}  // namespace corvid::model
