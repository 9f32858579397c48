// Byte-pair merging: the bytes of one pre-token become tokens. The pair of lowest rank merges first, the leftmost on a
// tie, until no pair merges (Sennrich et al. 2016). O(n log n) in the length of the pre-token.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/message.h"

namespace corvid::model {

// Const after construction; shared by any threads, each with its own Scratch.
class Bpe {
 public:
  struct Merge {
    Token left, right, result;
  };
  // `byte_tokens[b]` is the token of byte b. A merge's rank is its index; of two merges of one pair the later counts,
  // as in the tokenizers library.
  Bpe(const std::array<Token, 256>& byte_tokens, std::span<const Merge> merges);

  // Memory that encode() reuses from call to call.
  struct Scratch {
    struct Node {
      Token token;
      int32_t rank;  // of the merge with the next node; -1: none, or the node is gone
      uint32_t previous, next;
    };
    std::vector<Node> nodes;
    std::vector<uint64_t> heap;  // rank << 32 | node: the smallest is the next merge, unless it is out of date
  };
  // Appends the tokens of `bytes`. Throws std::length_error for 4 GiB or more.
  void encode(std::string_view bytes, Scratch& scratch, std::vector<Token>& out) const;
  Token byte_token(char byte) const { return byte_tokens_[static_cast<unsigned char>(byte)]; }

 private:
  struct Slot {
    Token left = -1, right = -1, result = -1;
    int32_t rank = -1;
  };
  size_t slot_of(Token left, Token right) const;

  std::array<Token, 256> byte_tokens_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
};

}  // namespace corvid::model
