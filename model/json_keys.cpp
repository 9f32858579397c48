#include "model/json_keys.h"

#include <algorithm>
#include <utility>

#include "model/error.h"

namespace corvid::model {

using nlohmann::json;

JsonKeys::JsonKeys(std::string file, const json& root) : file_(std::move(file)), root_(&root) {
  const auto text = root.find("text_config");
  text_ = text != root.end() && text->is_object() ? &*text : &root;
}

const json* JsonKeys::find(Spellings spellings) const {
  for (const std::string spelling : spellings) {
    const size_t dot = spelling.find('.');
    const json* object = text_;
    if (dot != std::string::npos) {
      const auto inner = text_->find(spelling.substr(0, dot));
      if (inner == text_->end() || !inner->is_object()) continue;
      object = &*inner;
    }
    const auto value = object->find(dot == std::string::npos ? spelling : spelling.substr(dot + 1));
    if (value != object->end() && !value->is_null()) return &*value;
  }
  return nullptr;
}

int64_t JsonKeys::integer(Spellings spellings, int64_t min, int64_t max) const {
  const json& value = required(spellings);
  const bool fits = value.is_number_unsigned() ? std::cmp_less_equal(value.get<uint64_t>(), max)
                                               : value.is_number_integer() && value.get<int64_t>() <= max;
  if (!fits || value.get<int64_t>() < min)
    wrong(*spellings.begin(), concat("an integer from ", min, " to ", max), value);
  return value.get<int64_t>();
}

int64_t JsonKeys::integer_or(Spellings spellings, int64_t fallback, int64_t min, int64_t max) const {
  return find(spellings) ? integer(spellings, min, max) : fallback;
}

double JsonKeys::number(Spellings spellings, double min, double max) const {
  const json& value = required(spellings);
  if (!value.is_number() || !(value.get<double>() >= min && value.get<double>() <= max)) {
    wrong(*spellings.begin(), concat("a number from ", min, " to ", max), value);
  }
  return value.get<double>();
}

double JsonKeys::number_or(Spellings spellings, double fallback, double min, double max) const {
  return find(spellings) ? number(spellings, min, max) : fallback;
}

bool JsonKeys::boolean_or(Spellings spellings, bool fallback) const {
  const json* value = find(spellings);
  if (value && !value->is_boolean()) wrong(*spellings.begin(), "true or false", *value);
  return value ? value->get<bool>() : fallback;
}

void JsonKeys::only(Spellings spellings, std::initializer_list<json> supported) const {
  const json* value = find(spellings);
  if (!value || std::find(supported.begin(), supported.end(), *value) != supported.end()) return;
  fail(file_, ": ", *spellings.begin(), ": ", printable(value->dump()), " is not supported, want ",
       supported.begin()->dump());
}

std::vector<bool> JsonKeys::flags(const char* key, const json& list, int64_t n_layers, const char* off,
                                  const char* on) const {
  if (!list.is_array() || std::cmp_not_equal(list.size(), n_layers)) {
    fail(file_, ": ", key, ": want a list of ", n_layers, " entries, one per layer, found ",
         list.is_array() ? concat(list.size(), " entries") : std::string(list.type_name()));
  }
  std::vector<bool> flags;
  for (const json& entry : list) {
    const bool is_off = entry == off || entry == 0 || entry == false,
               is_on = entry == on || entry == 1 || entry == true;
    if (!is_off && !is_on) {
      fail(file_, ": ", key, ": want ", off, " (0) or ", on, " (1), found ", printable(entry.dump()));
    }
    flags.push_back(is_on);
  }
  return flags;
}

const json& JsonKeys::required(Spellings spellings) const {
  if (const json* value = find(spellings)) return *value;
  std::string names;
  for (const char* spelling : spellings) names += (names.empty() ? "" : " or ") + std::string(spelling);
  fail(file_, ": key ", names, " is missing");
}

void JsonKeys::wrong(const char* key, const std::string& wanted, const json& found) const {
  fail(file_, ": ", key, ": want ", wanted, ", found ", printable(found.dump()));
}

}  // namespace corvid::model
