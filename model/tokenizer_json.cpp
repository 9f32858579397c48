// tokenizer.json, the format of Hugging Face's tokenizers library: the part of it that byte-level BPE uses.
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "model/error.h"
#include "model/json_file.h"
#include "model/tokenizer_source.h"

namespace corvid::model {
namespace {

using nlohmann::json;

// The member, or null when it is missing: in tokenizer.json both mean "none".
const json& member(const json& object, const char* key) {
  static const json none;
  const auto found = object.find(key);
  return found == object.end() ? none : *found;
}

std::string found(const json& value) {
  return value.is_null() ? std::string("none") : printable(value.dump(-1, ' ', true, json::error_handler_t::replace));
}

bool flag(const json& object, const char* key, bool missing) {
  const json& value = member(object, key);
  if (value.is_null()) return missing;
  if (!value.is_boolean()) fail(key, ": want true or false, found ", found(value));
  return value.get<bool>();
}

const std::string& text(const json& object, const char* key) {
  const json& value = member(object, key);
  if (!value.is_string()) fail(key, ": want text, found ", found(value));
  return value.get_ref<const std::string&>();
}

// The two long tables of tokenizer.json. They are taken out while the file is parsed: as a tree of JSON values, 200,000
// words cost most of a second.
struct LongTables {
  std::vector<std::pair<std::string, uint64_t>> vocab;
  std::vector<std::pair<std::string, std::string>> merges;
};

// Takes what stands in /model/vocab and /model/merges out of the parser's hands.
class TableReader {
 public:
  explicit TableReader(LongTables& tables) : tables_(tables) {}

  // nlohmann's parser callback: `depth` is 1 for the root's members. False discards the value.
  bool operator()(int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key) {
      if (depth <= 2) place_[static_cast<size_t>(depth) - 1] = value.get_ref<const std::string&>();
      if (depth == 3 && is_in("vocab")) {
        tables_.vocab.emplace_back(std::move(value.get_ref<std::string&>()), 0);
        return false;
      }
    } else if (depth >= 3 && is_in("vocab")) {
      vocab_value(depth, event, value);
    } else if (depth >= 3 && is_in("merges")) {
      return merges_value(depth, event, value);
    }
    return true;
  }

 private:
  bool is_in(std::string_view table) const { return place_[1] == table && place_[0] == "model"; }

  void vocab_value(int depth, json::parse_event_t event, const json& value) {
    if (tables_.vocab.empty()) fail("model.vocab: want an object of tokens with their ids");
    const std::string_view token = tables_.vocab.back().first;
    if (depth != 3 || event != json::parse_event_t::value || !value.is_number_unsigned()) {
      const bool nests = event == json::parse_event_t::array_start || event == json::parse_event_t::object_start;
      fail("token ", printable(token), ": want an id, found ", nests ? "a list or an object" : found(value));
    }
    tables_.vocab.back().second = value.get<uint64_t>();
  }

  // "left right" or ["left", "right"].
  bool merges_value(int depth, json::parse_event_t event, json& value) {
    if (depth == 3 && event == json::parse_event_t::array_start) {
      pair_.clear();
      return true;
    }
    if (depth == 4 && event == json::parse_event_t::value && value.is_string() && pair_.size() < 2) {
      pair_.push_back(std::move(value.get_ref<std::string&>()));
    } else if (depth == 3 && event == json::parse_event_t::array_end && pair_.size() == 2) {
      tables_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
    } else if (depth == 3 && event == json::parse_event_t::value && value.is_string()) {
      const std::string_view text = value.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string_view::npos) fail("model.merges: want two texts, found ", found(value));
      tables_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    } else {
      fail("model.merges: want two texts, found ", found(value), " after ", tables_.merges.size(), " merges");
    }
    return false;
  }

  LongTables& tables_;
  std::array<std::string, 2> place_;  // the keys above the current value: of the root, and of its member
  std::vector<std::string> pair_;
};

void check_normalizer(const json& normalizer) {
  if (normalizer.is_null()) return;
  if (!normalizer.is_object()) fail("normalizer: want an object, found ", found(normalizer));
  const std::string& type = text(normalizer, "type");
  if (type == "Sequence") {
    for (const json& part : member(normalizer, "normalizers")) check_normalizer(part);
    return;
  }
  // NFC (Qwen) is accepted but not applied: what a tool wrote must come back byte for byte, and text that is in NFC
  // already, as nearly all is, gives the same tokens. llama.cpp does the same.
  if (type != "NFC") fail("normalizer: want none or NFC, found ", printable(type));
}

// "Split"s, then one "ByteLevel".
void read_pre_tokenizer(const json& pre, TokenizerSource& source) {
  if (!pre.is_object()) fail("pre_tokenizer: want an object, found ", found(pre));
  const bool is_sequence = text(pre, "type") == "Sequence";
  const json parts = is_sequence ? member(pre, "pretokenizers") : json::array({pre});
  if (!parts.is_array()) fail("pre_tokenizer: want a list in its sequence, found ", found(parts));
  bool is_byte_level = false;
  for (const json& part : parts) {
    if (!part.is_object()) fail("pre_tokenizer: want an object, found ", found(part));
    const std::string& type = text(part, "type");
    if (is_byte_level) fail("pre_tokenizer: want ByteLevel at the end, found ", printable(type), " after it");
    if (type == "ByteLevel") {
      is_byte_level = true;
      if (flag(part, "add_prefix_space", true)) fail("pre_tokenizer: want ByteLevel without add_prefix_space");
      if (flag(part, "use_regex", true)) source.regexes.emplace_back(kGpt2Regex);
    } else if (type == "Split") {
      const json& pattern = member(part, "pattern");
      if (!pattern.is_object() || !member(pattern, "Regex").is_string()) {
        fail("pre_tokenizer: want a Split by a Regex, found ", found(pattern));
      }
      // Both keep the matches as pieces; text between them, which the second drops, stays with us.
      const std::string& behavior = text(part, "behavior");
      const bool is_inverted = flag(part, "invert", false);
      if (behavior != "Isolated" && !(behavior == "Removed" && is_inverted)) {
        fail("pre_tokenizer: want Split with behavior Isolated, found ", printable(behavior));
      }
      source.regexes.push_back(text(pattern, "Regex"));
    } else {
      fail("pre_tokenizer: want Split or ByteLevel, found ", printable(type));
    }
  }
  if (!is_byte_level) fail("pre_tokenizer: want ByteLevel, found none");
  if (source.regexes.size() != 1) return;
  if (source.regexes[0] == kO200kRegex) source.pre = PreTokenizer::o200k;
  if (source.regexes[0] == kQwen2Regex) source.pre = PreTokenizer::qwen2;
}

void read_added_tokens(const json& list, TokenizerSource& source) {
  if (list.is_null()) return;
  if (!list.is_array()) fail("added_tokens: want a list, found ", found(list));
  for (const json& entry : list) {
    if (!entry.is_object()) fail("added_tokens: want objects, found ", found(entry));
    AddedToken token;
    token.text = text(entry, "content");
    token.is_special = flag(entry, "special", false);
    token.is_normalized = flag(entry, "normalized", !token.is_special);
    token.strips_left = flag(entry, "lstrip", false);
    token.strips_right = flag(entry, "rstrip", false);
    token.is_single_word = flag(entry, "single_word", false);
    source.added.push_back(std::move(token));
  }
}

// The vocabulary and the added tokens. Ids that neither has (a gap before the added tokens, say) become unused tokens.
void read_tokens(const LongTables& tables, const json& added_list, TokenizerSource& source) {
  std::unordered_map<std::string_view, std::optional<uint64_t>> added_ids;  // with the vocabulary's id, if it has one
  for (const AddedToken& token : source.added) added_ids.emplace(token.text, std::nullopt);
  size_t count = tables.vocab.size() + added_ids.size();
  for (const auto& [text, id] : tables.vocab) {
    const auto place = added_ids.find(text);
    if (place == added_ids.end() || place->second) continue;
    place->second = id;
    --count;
  }
  const uint64_t bound = 2 * uint64_t{count} + 65536;  // far more gaps than any real vocabulary has
  const auto put = [&](std::string_view text, uint64_t id, TokenType type) {
    if (id >= bound) {
      fail("token ", printable(text), ": want an id below ", bound, " in a vocabulary of ", count, ", found ", id);
    }
    if (id >= source.tokens.size()) {
      source.tokens.resize(id + 1);
      source.types.resize(id + 1, TokenType::none);
    }
    if (source.types[id] != TokenType::none && (type == TokenType::normal || source.tokens[id] != text)) {
      fail("token ", printable(text), ": want an id of its own, found ", id, " of ", printable(source.tokens[id]));
    }
    source.tokens[id] = text;
    source.types[id] = type;
  };
  for (const auto& [text, id] : tables.vocab) put(text, id, TokenType::normal);
  for (size_t i = 0; i < source.added.size(); ++i) {
    AddedToken& token = source.added[i];
    const json& id = member(added_list[i], "id");
    if (!id.is_number_unsigned()) fail("added token ", printable(token.text), ": want an id, found ", found(id));
    const std::optional<uint64_t> in_vocab = added_ids[token.text];
    if (in_vocab && id != *in_vocab) {
      fail("added token ", printable(token.text), ": want its id in the vocabulary, ", *in_vocab, ", found ", id);
    }
    put(token.text, id.get<uint64_t>(), token.is_special ? TokenType::control : TokenType::user_defined);
    token.id = id.get<Token>();
  }
  for (size_t id = 0; id < source.types.size(); ++id) {
    if (source.types[id] != TokenType::none) continue;
    source.tokens[id] = source.made_up.emplace_back(concat("[PAD", id, "]"));  // llama.cpp's name for them
    source.types[id] = TokenType::unused;
  }
}

void read_model(const json& model, TokenizerSource& source) {
  if (!model.is_object()) fail("model: want an object, found ", found(model));
  const json& type = member(model, "type");
  if (!type.is_null() && type != "BPE") fail("model.type: want BPE, found ", found(type));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json& value = member(model, key);
    if (!value.is_null() && value != "") fail("model.", key, ": want none, found ", found(value));
  }
  if (flag(model, "byte_fallback", false)) fail("model.byte_fallback: want false, found true");
  source.ignores_merges = flag(model, "ignore_merges", false);
  if (!member(model, "vocab").is_object()) fail("model.vocab: want an object, found ", found(member(model, "vocab")));
  if (!member(model, "merges").is_array()) fail("model.merges: want a list, found ", found(member(model, "merges")));
}

}  // namespace

Tokenizer Tokenizer::from_json_file(const std::filesystem::path& file) {
  const std::string content = read_whole(file);
  try {
    if (const int depth = json_depth(content); depth > kMaxJsonDepth) {
      fail("want JSON with at most ", kMaxJsonDepth, " levels of nesting, found ", depth);
    }
    LongTables tables;
    const json root = json::parse(content, TableReader(tables));
    if (!root.is_object()) fail("want a JSON object, found ", found(root));
    TokenizerSource source;
    check_normalizer(member(root, "normalizer"));
    read_pre_tokenizer(member(root, "pre_tokenizer"), source);
    const json& added_list = member(root, "added_tokens");
    read_added_tokens(added_list, source);
    read_model(member(root, "model"), source);
    read_tokens(tables, added_list, source);
    source.merges.assign(tables.merges.begin(), tables.merges.end());
    return Tokenizer(std::make_unique<const Impl>(source));
  } catch (const std::runtime_error& error) {
    fail(file.string(), ": ", error.what());
  } catch (const json::exception& error) {
    fail(file.string(), ": want JSON, found ", error.what());
  }
}

}  // namespace corvid::model
