// Guesses what comes next without a second model: what came the last time that the text ended as it ends now. Agents
// repeat file names, paths, code and markup all the time. Whoever uses the guesses verifies them, so that a wrong one
// costs time and changes nothing.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/message.h"

namespace corvid::model {

// Used by one thread at a time. A token costs O(1) to take and to look up.
class PromptLookup {
 public:
  PromptLookup();

  // Makes this hold exactly `tokens`; keeps the common beginning.
  void sync(std::span<const Token> tokens);
  // A token that the model chose: learns how often guesses are right, also those that were not asked for.
  void push(Token token);
  std::span<const Token> tokens() const { return tokens_; }

  // What followed the longest earlier occurrence of the end of tokens(), the most recent one of equals: as many tokens,
  // `most` at the most, as gain most when they are verified in one pass; often none. `others`: rows that the pass has
  // anyway, of other sequences, each for a token. With many of them a guess is worth its row only when it is nearly
  // sure.
  std::vector<Token> draft(int64_t most, int64_t others = 0) const;

 private:
  struct Match {
    int64_t end = -1;  // its last token; -1: there is none
    int64_t length = 0;
  };
  // Where each run of `size` tokens ended.
  struct Index {
    int64_t size;
    std::vector<int32_t> before = {};                 // [tokens]: the place before where the same run ends, or -1
    std::unordered_map<uint64_t, int32_t> last = {};  // hash of a run -> where it ended last
  };

  void add(Token token);
  void drop_last();
  uint64_t hash_at(int64_t last, int64_t size) const;
  Match find() const;
  Token following(const Match& match, int64_t i, std::span<const Token> guess) const;

  std::vector<Token> tokens_;
  std::array<Index, 2> indices_;   // the longer runs first
  std::array<double, 8> chances_;  // that a guess is right, by the length of the match behind it
};

}  // namespace corvid::model
