// What a tokenizer is made from, whichever file it stood in. Internal to the tokenizer*.cpp files.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/added_tokens.h"
#include "model/bpe.h"
#include "model/pre_tokenizer.h"
#include "model/tokenizer.h"

namespace corvid::model {

// llama.cpp's token types, as GGUF files hold them.
enum class TokenType : int32_t {
  none = 0,
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

// The views (into a file's content, or `made_up`) need to live until the Tokenizer::Impl is made.
struct TokenizerSource {
  std::deque<std::string> made_up;       // texts for ids that the file leaves out
  std::vector<std::string_view> tokens;  // by id: normal ones in the byte alphabet, others as they are
  std::vector<TokenType> types;          // by id
  std::vector<std::pair<std::string_view, std::string_view>> merges;  // by rank, in the byte alphabet
  std::vector<AddedToken> added;
  std::vector<std::string> regexes;  // each splits what the one before left
  std::optional<PreTokenizer> pre;   // the name of `regexes`, if they have one
  bool ignores_merges = false;       // a pre-token that is a token becomes that token, whatever the merges say
};

struct Tokenizer::Impl {
  explicit Impl(const TokenizerSource& source);  // throws std::runtime_error for what does not fit together

  std::vector<Token> encode(std::string_view text, bool with_added, bool with_special) const;
  std::string_view piece(Token token) const;  // `token` is in the vocabulary
  int64_t size() const { return static_cast<int64_t>(types.size()); }

  std::string bytes;           // of all tokens, one after the other
  std::vector<size_t> starts;  // [size() + 1], into `bytes`
  std::vector<TokenType> types;
  std::vector<bool> is_raw;  // a normal token whose text in the file is not in the byte alphabet
  std::vector<Bpe::Merge> merges;
  AddedTokens added;
  std::optional<Bpe> bpe;
  std::vector<Splitter> splitters;
  std::optional<PreTokenizer> pre;
  std::unordered_map<std::string_view, Token> whole;  // with ignores_merges: bytes -> normal token; views into `bytes`

 private:
  struct Encoder;
};

}  // namespace corvid::model
