// Byte-level BPE: bytes <-> tokens, lossless for any bytes.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/message.h"

namespace corvid::model {

class Gguf;

// Which regular expression splits text before merging. Names as in the GGUF key tokenizer.ggml.pre.
enum class PreTokenizer : uint8_t { o200k /* "minimax-m2", GPT-4o */, qwen2 };

// Immutable after construction; any number of threads may use one Tokenizer.
class Tokenizer {
 public:
  // tokenizer.json of a Hugging Face checkpoint. Throws std::runtime_error naming what was wanted and found.
  static Tokenizer from_json_file(const std::filesystem::path& file);
  // The tokenizer.ggml.* keys of a GGUF file. Throws std::runtime_error when they are missing or inconsistent.
  static Tokenizer from_gguf(const Gguf& file);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Any bytes are accepted; bytes that are not UTF-8 become byte tokens. With parse_special, the text of a special
  // token becomes that token; without it, such text is ordinary text and can never become a special token. Added tokens
  // that are not special (a word of the vocabulary that the merges do not make) are found either way. An added token
  // that strips the white space beside it, as some files' tokens do, takes it along: it is the one thing that gets
  // lost.
  std::vector<Token> encode(std::string_view text, bool parse_special) const;
  // As if there were no added tokens at all, special or not: for text that is not ours, whatever the file calls
  // special.
  std::vector<Token> encode_plain(std::string_view text) const;
  // The exact bytes. A special token gives its text. Throws std::invalid_argument for an id outside the vocabulary.
  std::string decode(std::span<const Token> tokens) const;
  std::string_view piece(Token token) const;  // bytes of one token
  bool is_special(Token token) const;
  std::optional<Token> special(std::string_view text) const;  // the added token with exactly this text
  int64_t vocab_size() const;

  // For the GGUF writer: the vocabulary in its printable GPT-2 byte alphabet, merges as "left right", token types.
  struct Tables {
    PreTokenizer pre;
    std::vector<std::string> tokens;
    std::vector<std::string> merges;
    std::vector<int32_t> types;  // llama.cpp's: 1 normal, 3 control, 4 user defined, 5 unused
  };
  Tables tables() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace corvid::model
