#include "model/tokenizer.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "model/byte_alphabet.h"
#include "model/error.h"
#include "model/tokenizer_source.h"
#include "model/utf8.h"

namespace corvid::model {
namespace {

// Text -> token for normal tokens. One flat table: a node-based map of a large vocabulary spends its time waiting for
// memory, three times a merge.
class TextIndex {
 public:
  explicit TextIndex(std::span<const std::string_view> texts)
      : texts_(texts), slots_(std::bit_ceil(std::max<size_t>(16, texts.size() * 2))) {}

  // The token of `text`, -1 when there is none.
  Token find(std::string_view text) const { return slots_[slot_of(text, hash(text))].token; }
  // Adds texts[token]; false when another token has that text.
  bool insert(Token token) {
    const std::string_view text = texts_[static_cast<size_t>(token)];
    Slot& slot = slots_[slot_of(text, hash(text))];
    if (slot.token >= 0) return false;
    slot = {static_cast<uint32_t>(hash(text) >> 32), token};
    return true;
  }

 private:
  struct Slot {
    uint32_t tag = 0;  // upper half of the hash: most unequal texts are told apart without a look at them
    Token token = -1;
  };
  static uint64_t hash(std::string_view text) { return std::hash<std::string_view>()(text); }
  size_t slot_of(std::string_view text, uint64_t hash) const {
    for (size_t slot = hash & (slots_.size() - 1);; slot = (slot + 1) & (slots_.size() - 1)) {
      const Slot& s = slots_[slot];
      if (s.token < 0) return slot;
      if (s.tag == static_cast<uint32_t>(hash >> 32) && texts_[static_cast<size_t>(s.token)] == text) return slot;
    }
  }

  std::span<const std::string_view> texts_;
  std::vector<Slot> slots_;
};

}  // namespace

Tokenizer::Impl::Impl(const TokenizerSource& source)
    : types(source.types), is_raw(source.tokens.size()), added(source.added), pre(source.pre) {
  const auto count = source.tokens.size();
  TextIndex index(source.tokens);  // normal tokens only: merges make nothing else
  starts.reserve(count + 1);
  starts.push_back(0);
  std::array<Token, 256> byte_tokens;
  byte_tokens.fill(-1);
  for (size_t id = 0; id < count; ++id) {
    const std::string_view text = source.tokens[id];
    const auto token = static_cast<Token>(id);
    std::optional<std::string> decoded;
    if (types[id] == TokenType::normal) {
      if (!index.insert(token)) {
        fail("token ", id, ": want a text of its own, found ", printable(text), " of token ", index.find(text));
      }
      decoded = from_byte_alphabet(text);
      is_raw[id] = !decoded;
      if (decoded && decoded->size() == 1) byte_tokens[static_cast<unsigned char>((*decoded)[0])] = token;
    }
    bytes += decoded ? std::string_view(*decoded) : text;
    starts.push_back(bytes.size());
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    if (byte_tokens[byte] < 0) fail("vocabulary: want a token for each of the 256 bytes, found none for byte ", byte);
  }

  merges.reserve(source.merges.size());
  std::string joined;
  for (const auto& [left, right] : source.merges) {
    joined.assign(left).append(right);
    const auto find = [&](std::string_view text) { return text.empty() ? -1 : index.find(text); };
    const Bpe::Merge merge{find(left), find(right), find(joined)};
    const std::array<std::pair<Token, std::string_view>, 3> parts{
        {{merge.left, left}, {merge.right, right}, {merge.result, joined}}};
    // Text must never turn into an added token by merging, so a merge that needs or makes one is left out.
    const auto is_added = [&](const auto& part) { return part.first < 0 && added.find(part.second); };
    if (std::any_of(parts.begin(), parts.end(), is_added)) continue;
    for (const auto& [id, text] : parts) {
      if (id >= 0) continue;
      fail("merge ", printable(left), " + ", printable(right), ": want tokens, found ",
           text.empty() ? "an empty text" : concat("no token ", printable(text)));
    }
    merges.push_back(merge);
  }
  bpe.emplace(byte_tokens, merges);
  for (const std::string& regex : source.regexes) splitters.emplace_back(regex);
  if (!source.ignores_merges) return;
  whole.reserve(count);
  for (size_t id = 0; id < count; ++id) {
    if (types[id] == TokenType::normal) whole.emplace(piece(static_cast<Token>(id)), static_cast<Token>(id));
  }
}

std::string_view Tokenizer::Impl::piece(Token token) const {
  const auto id = static_cast<size_t>(token);
  return std::string_view(bytes).substr(starts[id], starts[id + 1] - starts[id]);
}

// One call of encode(): the memory that its words share.
struct Tokenizer::Impl::Encoder {
  explicit Encoder(const Impl& impl) : tokenizer(impl) {
    for (const Splitter& splitter : impl.splitters) matchers.emplace_back(splitter);
  }

  // Bytes that are no UTF-8 stand for themselves, and words end at them.
  void text(std::string_view text) {
    size_t valid = 0;  // length of the UTF-8 run that `text` begins with
    while (!text.empty()) {
      const int length = valid < text.size() ? utf8_length(text.substr(valid)) : kUtf8Invalid;
      if (length > 0) {
        valid += static_cast<size_t>(length);
        continue;
      }
      words(text.substr(0, valid));
      if (valid < text.size()) out.push_back(tokenizer.bpe->byte_token(text[valid++]));
      text.remove_prefix(valid);
      valid = 0;
    }
  }

  void words(std::string_view valid) {
    if (valid.empty()) return;
    pieces.assign(1, valid);
    for (Splitter::Matcher& matcher : matchers) {
      smaller.clear();
      for (const std::string_view piece : pieces) matcher.split(piece, smaller);
      pieces.swap(smaller);
    }
    for (const std::string_view piece : pieces) {
      const auto found = tokenizer.whole.empty() ? tokenizer.whole.end() : tokenizer.whole.find(piece);
      if (found != tokenizer.whole.end()) {
        out.push_back(found->second);
      } else {
        tokenizer.bpe->encode(piece, scratch, out);
      }
    }
  }

  const Impl& tokenizer;
  std::vector<Splitter::Matcher> matchers;
  std::vector<std::string_view> pieces, smaller;
  Bpe::Scratch scratch;
  std::vector<Token> out;
};

std::vector<Token> Tokenizer::Impl::encode(std::string_view text, bool with_added, bool with_special) const {
  Encoder encoder(*this);
  if (!with_added || added.all().empty()) {
    encoder.text(text);
    return std::move(encoder.out);
  }
  for (const AddedTokens::Piece& piece : added.split(text, with_special)) {
    if (piece.token) {
      encoder.out.push_back(*piece.token);
    } else {
      encoder.text(piece.text);
    }
  }
  return std::move(encoder.out);
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<Token> Tokenizer::encode(std::string_view text, bool parse_special) const {
  return impl_->encode(text, true, parse_special);
}

std::vector<Token> Tokenizer::encode_plain(std::string_view text) const { return impl_->encode(text, false, false); }

std::string Tokenizer::decode(std::span<const Token> tokens) const {
  std::string text;
  for (const Token token : tokens) text += piece(token);
  return text;
}

std::string_view Tokenizer::piece(Token token) const {
  if (token < 0 || token >= vocab_size()) {
    throw std::invalid_argument(concat("token: want 0 to ", vocab_size() - 1, ", found ", token));
  }
  return impl_->piece(token);
}

bool Tokenizer::is_special(Token token) const {
  return token >= 0 && token < vocab_size() && impl_->types[static_cast<size_t>(token)] == TokenType::control;
}

std::optional<Token> Tokenizer::special(std::string_view text) const { return impl_->added.find(text); }

int64_t Tokenizer::vocab_size() const { return impl_->size(); }

Tokenizer::Tables Tokenizer::tables() const {
  if (!impl_->pre) throw std::runtime_error("tokenizer: its pre-tokenizer is none that GGUF has a name for");
  Tables tables{*impl_->pre, {}, {}, {}};
  for (Token token = 0; token < vocab_size(); ++token) {
    const auto id = static_cast<size_t>(token);
    const bool is_alphabet = impl_->types[id] == TokenType::normal && !impl_->is_raw[id];
    tables.tokens.push_back(is_alphabet ? to_byte_alphabet(piece(token)) : std::string(piece(token)));
    tables.types.push_back(static_cast<int32_t>(impl_->types[id]));
  }
  for (const Bpe::Merge& merge : impl_->merges) {
    tables.merges.push_back(tables.tokens[static_cast<size_t>(merge.left)] + " " +
                            tables.tokens[static_cast<size_t>(merge.right)]);
  }
  return tables;
}

}  // namespace corvid::model
