#include "agents/yaml.h"

#include <yaml-cpp/depthguard.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tools/text.h"

namespace corvid::agents {

namespace {

constexpr std::streamsize kMaxFileBytes = 1 << 20;
constexpr int64_t kMaxValues = 100'000;
constexpr int kMaxDepth = 64;

std::string place(const std::string& file, const YAML::Mark& mark) {
  if (mark.is_null()) return file + ": ";
  return file + ":" + std::to_string(mark.line + 1) + ":" + std::to_string(mark.column + 1) + ": ";
}

std::string describe(const YAML::Node& node) {
  if (node.IsScalar()) return '"' + node.Scalar() + '"';
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a mapping";
  return "nothing";
}

// A few aliases of aliases can stand for billions of values, and one that holds itself for any number.
void check_size(const std::string& file, const YAML::Node& node, int64_t& values, int depth) {
  if (++values > kMaxValues)
    YamlValue(file, "", node).fail("want at most " + std::to_string(kMaxValues) + " values, found more (by aliases)");
  if (depth > kMaxDepth)
    YamlValue(file, "", node).fail("want at most " + std::to_string(kMaxDepth) + " levels, found more");
  // An escape in quotes may stand for one; as a path it would end there.
  if (node.IsScalar() && node.Scalar().find('\0') != std::string::npos)
    YamlValue(file, "", node).fail("want a text, found one with a NUL in it");
  if (node.IsSequence()) {
    for (const YAML::Node& item : node) check_size(file, item, values, depth + 1);
  } else if (node.IsMap()) {
    for (const auto& entry : node) {
      check_size(file, entry.first, values, depth + 1);
      check_size(file, entry.second, values, depth + 1);
    }
  }
}

void check_encoding(const std::string& file, std::string_view text) {
  const size_t bad = tools::first_bad_byte(text);
  if (bad == text.size()) return;
  const std::string_view before = text.substr(0, bad);
  const auto line = std::ranges::count(before, '\n') + 1;
  const size_t column = bad - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
  throw UsageError(file + ":" + std::to_string(line) + ":" + std::to_string(column) +
                   ": want UTF-8 without NULs, found another byte");
}

}  // namespace

void YamlValue::fail(const std::string& message) const { throw UsageError(place() + message); }

std::string YamlValue::place() const { return agents::place(file_, node_.Mark()) + (key_.empty() ? "" : key_ + ": "); }

std::string YamlValue::text() const {
  if (!node_.IsScalar()) fail("want a text, found " + describe(node_));
  return node_.Scalar();
}

std::string YamlValue::choice(const std::vector<std::string>& choices) const {
  const std::string found = text();
  if (std::ranges::find(choices, found) != choices.end()) return found;
  std::string wanted;
  for (const std::string& one : choices) wanted += (wanted.empty() ? "" : ", ") + one;
  fail("want " + wanted + ", found \"" + found + '"' + did_you_mean(found, choices));
}

int64_t YamlValue::integer(int64_t min, int64_t max) const {
  const std::optional<int64_t> value = node_.IsScalar() ? parse_integer(node_.Scalar()) : std::nullopt;
  if (!value || *value < min || *value > max) {
    fail("want a whole number from " + std::to_string(min) + " to " + std::to_string(max) + ", found " +
         describe(node_));
  }
  return *value;
}

double YamlValue::number(double min, double max) const {
  const std::optional<double> value = node_.IsScalar() ? parse_number(node_.Scalar()) : std::nullopt;
  if (!value || *value < min || *value > max) {
    std::ostringstream wanted;
    wanted << "want a number from " << min << " to " << max << ", found " << describe(node_);
    fail(wanted.str());
  }
  return *value;
}

int64_t YamlValue::bytes(int64_t min, int64_t max) const {
  const std::optional<int64_t> count = node_.IsScalar() ? parse_bytes(node_.Scalar()) : std::nullopt;
  if (!count || *count < min || *count > max) {
    fail("want a size from " + std::to_string(min) + " to " + std::to_string(max) +
         " bytes (4096, 64KiB, 16MiB), found " + describe(node_));
  }
  return *count;
}

std::chrono::milliseconds YamlValue::duration() const {
  const std::optional<std::chrono::milliseconds> value =
      node_.IsScalar() ? parse_duration(node_.Scalar()) : std::nullopt;
  if (!value || value->count() == 0) fail("want a duration such as 30s, 5m or 500ms, found " + describe(node_));
  return *value;
}

bool YamlValue::boolean() const {
  const std::string found = node_.IsScalar() ? node_.Scalar() : "";
  if (found != "true" && found != "false") fail("want true or false, found " + describe(node_));
  return found == "true";
}

std::vector<std::string> YamlValue::texts() const {
  if (!node_.IsSequence()) fail("want a list of texts, found " + describe(node_));
  std::vector<std::string> list;
  for (const YamlValue& item : items()) list.push_back(item.text());
  return list;
}

std::vector<YamlValue> YamlValue::items() const {
  if (!node_.IsSequence()) fail("want a list, found " + describe(node_));
  std::vector<YamlValue> list;
  for (const YAML::Node& item : node_) list.emplace_back(file_, key_, item);
  return list;
}

nlohmann::ordered_json YamlValue::json() const {
  using Json = nlohmann::ordered_json;
  if (node_.IsSequence()) {
    Json list = Json::array();
    for (const YamlValue& item : items()) list.push_back(item.json());
    return list;
  }
  if (node_.IsMap()) {
    Json map = Json::object();
    for (const auto& [key, value] : entries()) map[key] = value.json();
    return map;
  }
  if (!node_.IsScalar()) return nullptr;
  if (node_.Tag() != "?") return node_.Scalar();  // quoted, or a block of text
  const Json value = Json::parse(node_.Scalar(), nullptr, false);
  return value.is_discarded() || value.is_structured() ? Json(node_.Scalar()) : value;
}

YamlMap YamlValue::map(const std::vector<std::string>& known) const { return YamlMap(file_, node_, &known); }

std::vector<std::pair<std::string, YamlValue>> YamlValue::entries() const {
  if (!node_.IsMap()) fail("want a mapping (key: value), found " + describe(node_));
  return YamlMap(file_, node_, nullptr).entries();
}

YamlMap::YamlMap(const std::string& file, const YAML::Node& node, const std::vector<std::string>* known) {
  if (!node.IsDefined() || node.IsNull()) return;
  if (!node.IsMap()) YamlValue(file, "", node).fail("want a mapping (key: value), found " + describe(node));
  for (const auto& entry : node) {
    if (!entry.first.IsScalar())
      YamlValue(file, "", entry.first).fail("want a text as key, found " + describe(entry.first));
    const std::string key = entry.first.Scalar();
    const YamlValue at(file, "", entry.first);
    if (known != nullptr && std::ranges::find(*known, key) == known->end()) {
      at.fail("unknown key \"" + key + '"' + did_you_mean(key, *known));
    }
    if (find(key)) at.fail("the key \"" + key + "\" stands here twice");
    entries_.emplace_back(key, YamlValue(file, key, entry.second));
  }
}

YamlMap YamlMap::parse(const std::string& file, const std::string& text, const std::vector<std::string>& known) {
  check_encoding(file, text);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) YamlValue(file, "", documents[1]).fail("want one document, found another");
    const YAML::Node root = documents.empty() ? YAML::Node() : documents[0];
    int64_t values = 0;
    check_size(file, root, values, 0);
    return YamlMap(file, root, &known);
  } catch (const YAML::DeepRecursion& error) {
    throw UsageError(place(file, error.mark) + "want at most " + std::to_string(kMaxDepth) + " levels, found more");
  } catch (const YAML::Exception& error) {
    throw UsageError(place(file, error.mark) + error.msg);
  }
}

YamlMap YamlMap::load(const std::filesystem::path& file, const std::vector<std::string>& known) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(file, failure)) {
    throw UsageError(file.string() + ": " +
                     (std::filesystem::exists(file, failure) ? "is no regular file" : "no such file"));
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(static_cast<size_t>(kMaxFileBytes) + 1, '\0');
  in.read(text.data(), kMaxFileBytes + 1);
  if (in.bad() || !(in.eof() || in.good()))
    throw UsageError(file.string() + ": cannot be read: " + std::strerror(errno));
  if (in.gcount() > kMaxFileBytes) throw UsageError(file.string() + ": want at most 1 MiB of YAML, found more");
  text.resize(static_cast<size_t>(in.gcount()));
  return parse(file.string(), text, known);
}

std::optional<YamlValue> YamlMap::find(std::string_view key) const {
  for (const auto& [name, value] : entries_) {
    if (name == key) return value;
  }
  return std::nullopt;
}

}  // namespace corvid::agents
