// From elements of call markup to JSON arguments, by the tool's schema.
#include <algorithm>
#include <charconv>
#include <optional>

#include "model/call_markup.h"
#include "model/json_file.h"
#include "model/utf8.h"

namespace corvid::model {
namespace {

std::string json_string(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool equals_any_case(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; });
}

const Json* member(const Json* schema, const char* key) {
  if (!schema || !schema->is_object()) return nullptr;
  const auto found = schema->find(key);
  return found == schema->end() ? nullptr : &*found;
}

// The schema's alternatives (anyOf, oneOf, allOf), in order.
std::vector<const Json*> alternatives(const Json* schema) {
  std::vector<const Json*> all;
  for (const char* key : {"anyOf", "oneOf", "allOf"}) {
    const Json* list = member(schema, key);
    if (!list || !list->is_array()) continue;
    for (const Json& one : *list) all.push_back(&one);
  }
  return all;
}

// The schema's own types, in order; without "type", what its other keys imply.
std::vector<std::string_view> types(const Json* schema) {
  std::vector<std::string_view> all;
  const Json* type = member(schema, "type");
  if (type && type->is_string()) all.push_back(type->get_ref<const std::string&>());
  if (type && type->is_array()) {
    for (const Json& one : *type) {
      if (one.is_string()) all.push_back(one.get_ref<const std::string&>());
    }
  }
  if (!type && (member(schema, "properties") || member(schema, "additionalProperties"))) all.push_back("object");
  if (!type && member(schema, "items")) all.push_back("array");
  return all;
}

bool allows(const Json* schema, std::string_view type) {
  const auto own = types(schema);
  if (std::find(own.begin(), own.end(), type) != own.end()) return true;
  const auto others = alternatives(schema);
  return std::any_of(others.begin(), others.end(), [&](const Json* one) { return allows(one, type); });
}

bool allows_null(const Json* schema) {
  const Json* nullable = member(schema, "nullable");  // OpenAPI's
  return allows(schema, "null") || (nullable && nullable->is_boolean() && nullable->get<bool>());
}

// `text` as JSON that begins with `first`, nothing otherwise.
std::optional<std::string> literal(std::string_view text, std::string_view first) {
  if (text.empty() || first.find(text[0]) == std::string_view::npos) return std::nullopt;
  if (json_depth(text) > kMaxJsonDepth || !Json::accept(text)) return std::nullopt;
  return std::string(text);
}

std::optional<std::string> integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return std::to_string(value);
}

std::optional<std::string> as_type(std::string_view raw, std::string_view type) {
  const std::string_view text = trimmed(raw);
  if (type == "string") return json_string(raw);
  if (type == "integer") return integer(text);
  if (type == "number") {
    if (auto number = literal(text, "-0123456789")) return number;  // keeps its spelling
    return integer(text);                                           // 007
  }
  if (type == "boolean") {
    if (equals_any_case(text, "true") || text == "1") return "true";
    if (equals_any_case(text, "false") || text == "0") return "false";
  }
  if (type == "null" && equals_any_case(text, "null")) return "null";
  if (type == "object") return text.empty() ? "{}" : literal(text, "{");
  if (type == "array") return text.empty() ? "[]" : literal(text, "[");
  return std::nullopt;
}

// A value of "enum" or "const" spelled as the text.
std::optional<std::string> listed(std::string_view raw, const Json* schema) {
  const auto spells = [&](const Json& value) {
    return value.is_string() ? value.get_ref<const std::string&>() == raw : value.dump() == trimmed(raw);
  };
  const Json* list = member(schema, "enum");
  if (list && list->is_array()) {
    const auto found = std::find_if(list->begin(), list->end(), spells);
    if (found != list->end()) return found->dump();
  }
  const Json* constant = member(schema, "const");
  return constant && spells(*constant) ? std::optional(constant->dump()) : std::nullopt;
}

// The leaf's JSON if the text fits the schema.
std::optional<std::string> fitting(std::string_view text, const Json* schema) {
  if (allows_null(schema) && equals_any_case(trimmed(text), "null")) return "null";
  if (auto value = listed(text, schema)) return value;
  for (const std::string_view type : types(schema)) {
    if (auto value = as_type(text, type)) return value;
  }
  for (const Json* one : alternatives(schema)) {
    if (auto value = fitting(text, one)) return value;
  }
  return std::nullopt;
}

std::string element_json(const CallElement& element, const Json* schema);

std::string array_json(const std::vector<const CallElement*>& items, const Json* schema) {
  std::string out = "[";
  for (const CallElement* item : items) {
    if (out.size() > 1) out += ",";
    out += element_json(*item, child_schema(schema, "item"));
  }
  return out + "]";
}

// Repeated names become an array at the place of the first.
std::string object_json(const std::vector<CallElement>& members, const Json* schema) {
  std::string out = "{";
  for (auto first = members.begin(); first != members.end(); ++first) {
    const auto is_same = [&](const CallElement& other) { return other.name == first->name; };
    if (std::any_of(members.begin(), first, is_same)) continue;
    std::vector<const CallElement*> same;
    for (auto other = first; other != members.end(); ++other) {
      if (is_same(*other)) same.push_back(&*other);
    }
    if (out.size() > 1) out += ",";
    const Json* own = child_schema(schema, first->name);
    out += json_string(first->name) + ":" + (same.size() > 1 ? array_json(same, own) : element_json(*first, own));
  }
  return out + "}";
}

std::string element_json(const CallElement& element, const Json* schema) {
  if (element.children.empty()) return fitting(element.text, schema).value_or(json_string(element.text));
  const bool is_mixed = !is_blank(element.text);
  const bool is_list = std::all_of(element.children.begin(), element.children.end(),
                                   [](const CallElement& child) { return child.name == "item"; });
  if (is_list && !is_mixed && !(allows(schema, "object") && !allows(schema, "array"))) {
    std::vector<const CallElement*> items;
    for (const CallElement& child : element.children) items.push_back(&child);
    return array_json(items, schema);
  }
  if (!is_mixed) return object_json(element.children, schema);
  std::vector<CallElement> members = element.children;
  std::string name = "$text";
  const auto is_taken = [&](const CallElement& child) { return child.name == name; };
  while (std::any_of(members.begin(), members.end(), is_taken)) name = "$" + name;
  members.push_back({name, element.text, {}});
  return object_json(members, schema);
}

}  // namespace

const Json* child_schema(const Json* schema, std::string_view name) {
  if (const Json* properties = member(schema, "properties")) {
    const std::string key(name);
    if (const Json* own = member(properties, key.c_str())) return own;
  }
  if (const Json* rest = member(schema, "additionalProperties"); rest && rest->is_object()) return rest;
  if (const Json* items = member(schema, "items"); items && items->is_object() && name == "item") return items;
  for (const Json* one : alternatives(schema)) {
    if (const Json* found = child_schema(one, name)) return found;
  }
  return nullptr;
}

bool is_string_only(const Json* schema) {
  const auto others = alternatives(schema);
  const auto own = types(schema);
  return (!own.empty() || !others.empty()) &&
         std::all_of(own.begin(), own.end(),
                     [](std::string_view type) { return type == "string" || type == "null"; }) &&
         std::all_of(others.begin(), others.end(), [](const Json* one) { return is_string_only(one); });
}

std::string arguments_json(const std::vector<CallElement>& arguments, const Json& parameters) {
  return object_json(arguments, &parameters);
}

}  // namespace corvid::model
