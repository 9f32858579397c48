// The tokenizer.ggml.* keys of a GGUF file.
#include <limits>

#include "model/error.h"
#include "model/gguf.h"
#include "model/tokenizer_source.h"

namespace corvid::model {
namespace {

void read_pre_tokenizer(std::string_view name, TokenizerSource& source) {
  if (name == "minimax-m2" || name == "gpt-4o") {
    source.pre = PreTokenizer::o200k;
    source.regexes.emplace_back(kO200kRegex);
  } else if (name == "qwen2") {
    source.pre = PreTokenizer::qwen2;
    source.regexes.emplace_back(kQwen2Regex);
  } else {
    fail("tokenizer.ggml.pre: want minimax-m2, gpt-4o or qwen2, found ", printable(name));
  }
}

void read_tokens(const Gguf& file, TokenizerSource& source) {
  source.tokens = file.texts("tokenizer.ggml.tokens");
  const size_t count = source.tokens.size();
  source.types.assign(count, TokenType::normal);
  if (!file.has("tokenizer.ggml.token_type")) return;
  const std::vector<int64_t> types =
      file.integers("tokenizer.ggml.token_type", 1, static_cast<int64_t>(TokenType::byte));
  if (types.size() != count) {
    fail("tokenizer.ggml.token_type: want ", count, " entries, one a token, found ", types.size());
  }
  for (size_t id = 0; id < count; ++id) {
    const auto type = static_cast<TokenType>(types[id]);
    // Byte-level BPE has no use for "byte" and "unknown": such a token is like any other, and like a special one.
    source.types[id] = type == TokenType::byte      ? TokenType::normal
                       : type == TokenType::unknown ? TokenType::control
                                                    : type;
    const bool is_control = source.types[id] == TokenType::control;
    if (!is_control && source.types[id] != TokenType::user_defined) continue;
    AddedToken token;
    token.id = static_cast<Token>(id);
    token.text = source.tokens[id];
    token.is_special = is_control;
    source.added.push_back(std::move(token));
  }
}

}  // namespace

Tokenizer Tokenizer::from_gguf(const Gguf& file) {
  const std::string_view model = file.text("tokenizer.ggml.model");
  try {
    if (model != "gpt2") fail("tokenizer.ggml.model: want gpt2 (byte-level BPE), found ", printable(model));
    TokenizerSource source;
    read_pre_tokenizer(file.text("tokenizer.ggml.pre"), source);
    read_tokens(file, source);
    for (const std::string_view merge : file.texts("tokenizer.ggml.merges")) {
      const size_t space = merge.find(' ');
      if (space == std::string_view::npos) fail("tokenizer.ggml.merges: want \"left right\", found ", printable(merge));
      source.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
    return Tokenizer(std::make_unique<const Impl>(source));
  } catch (const std::runtime_error& error) {
    const std::string_view what = error.what();
    if (what.substr(0, file.name().size()) == file.name()) throw;  // the file's own accessors name it
    fail(file.name(), ": ", what);
  }
}

}  // namespace corvid::model
