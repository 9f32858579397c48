#include "model/added_tokens.h"

#include <algorithm>
#include <functional>

#include "model/error.h"
#include "model/pre_tokenizer.h"
#include "model/utf8.h"

namespace corvid::model {
namespace {

// \w as the tokenizers library has it: alphabetic characters, marks, decimal digits, connectors, joiners.
bool is_word_character(std::string_view sequence) {
  static const Splitter word(
      R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169})"
      R"(\x{1f170}-\x{1f189}])");
  return word.is_in(sequence);
}

bool ends_with_word(std::string_view text) {
  const size_t last = utf8_last(text);
  return last < text.size() && is_word_character(text.substr(last));
}

bool starts_with_word(std::string_view text) {
  const int length = text.empty() ? 0 : utf8_length(text);
  return length > 0 && is_word_character(text.substr(0, static_cast<size_t>(length)));
}

// Length of `text` without the white space at its end.
size_t without_space_at_end(std::string_view text) {
  while (!text.empty()) {
    const size_t last = utf8_last(text);
    if (last == text.size()) break;
    const std::string_view sequence = text.substr(last);
    if (!is_white_space(utf8_decode(sequence, static_cast<int>(sequence.size())))) break;
    text = text.substr(0, last);
  }
  return text.size();
}

size_t space_at_start(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const int next = utf8_length(text.substr(length));
    if (next <= 0 || !is_white_space(utf8_decode(text.substr(length), next))) break;
    length += static_cast<size_t>(next);
  }
  return length;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view text = tokens_[i].text;
    if (text.empty()) fail("added token ", tokens_[i].id, ": want text, found none");
    Pass& pass = passes_[tokens_[i].is_normalized ? 1 : 0];
    if (find(text) || !pass.by_text.emplace(text, i).second) {
      fail("added token ", tokens_[i].id, ": want a text of its own, found ", printable(text), " a second time");
    }
    std::vector<size_t>& lengths = pass.lengths[static_cast<unsigned char>(text[0])];
    const auto place = std::lower_bound(lengths.begin(), lengths.end(), text.size(), std::greater<>());
    if (place == lengths.end() || *place != text.size()) lengths.insert(place, text.size());
  }
}

std::optional<Token> AddedTokens::find(std::string_view text) const {
  for (const Pass& pass : passes_) {
    const auto found = pass.by_text.find(text);
    if (found != pass.by_text.end()) return tokens_[found->second].id;
  }
  return std::nullopt;
}

std::vector<AddedTokens::Piece> AddedTokens::split(std::string_view text, bool with_special) const {
  std::vector<Piece> first, all;
  split_pass(passes_[0], text, with_special, first);
  if (passes_[1].by_text.empty()) return first;
  for (const Piece& piece : first) {
    if (piece.token) {
      all.push_back(piece);
    } else {
      split_pass(passes_[1], piece.text, with_special, all);
    }
  }
  return all;
}

void AddedTokens::split_pass(const Pass& pass, std::string_view text, bool with_special,
                             std::vector<Piece>& out) const {
  size_t done = 0;  // everything before is in `out`
  for (size_t at = 0; at < text.size();) {
    const AddedToken* match = nullptr;
    for (const size_t length : pass.lengths[static_cast<unsigned char>(text[at])]) {
      if (length > text.size() - at) continue;
      const auto found = pass.by_text.find(text.substr(at, length));
      if (found == pass.by_text.end()) continue;
      match = &tokens_[found->second];
      break;
    }
    if (!match) {
      ++at;
      continue;
    }
    // A match that does not count is passed over whole, as in the tokenizers library.
    size_t begin = at, end = at + match->text.size();
    at = end;
    if (match->is_special && !with_special) continue;
    if (match->is_single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (match->strips_left) begin = done + without_space_at_end(text.substr(done, begin - done));
    if (match->strips_right) end += space_at_start(text.substr(end));
    if (begin > done) out.push_back({text.substr(done, begin - done), std::nullopt});
    out.push_back({text.substr(begin, end - begin), match->id});
    done = at = end;
  }
  if (done < text.size()) out.push_back({text.substr(done), std::nullopt});
}

}  // namespace corvid::model
