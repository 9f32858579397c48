// Finds the texts of added tokens ("<|im_end|>") in raw text, as the tokenizers library does: the leftmost match, the
// longest one there, with the flags of tokenizer.json.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/message.h"

namespace corvid::model {

struct AddedToken {
  Token id = -1;
  std::string text;
  bool is_special = true;                          // false: a word of the vocabulary that the merges do not make
  bool is_normalized = false;                      // looked for after all tokens that are not
  bool strips_left = false, strips_right = false;  // takes the white space beside it
  bool is_single_word = false;                     // only where no word character is next to it
};

class AddedTokens {
 public:
  // Throws std::runtime_error for an empty or repeated text.
  explicit AddedTokens(std::vector<AddedToken> tokens);
  AddedTokens(AddedTokens&&) = default;  // a copy would look up views into the original

  struct Piece {
    std::string_view text;
    std::optional<Token> token;  // nothing: ordinary text
  };
  // `text` in order; with_special: also special tokens, not just the others.
  std::vector<Piece> split(std::string_view text, bool with_special) const;
  std::optional<Token> find(std::string_view text) const;
  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  // The tokens of one pass over the text.
  struct Pass {
    std::unordered_map<std::string_view, size_t> by_text;  // -> index into tokens_; views into tokens_
    std::array<std::vector<size_t>, 256> lengths;          // first byte -> lengths of such texts, longest first
  };
  void split_pass(const Pass& pass, std::string_view text, bool with_special, std::vector<Piece>& out) const;

  std::vector<AddedToken> tokens_;
  std::array<Pass, 2> passes_;  // not normalized, normalized
};

}  // namespace corvid::model
