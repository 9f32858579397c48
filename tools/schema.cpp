#include "tools/schema.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "tools/text.h"

namespace corvid::tools {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxShown = 60;  // bytes of a wrong value that are shown

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMaxShown) {
    text.resize(kMaxShown);
    text += "...";
  }
  return text;
}

// Deeper text than any tool needs would make recursive code of ours and others run out of stack.
bool is_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

bool has_type(const Json& value, std::string_view type) {
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "number") return value.is_number();
  if (type == "null") return value.is_null();
  if (type != "integer") return true;  // a type we do not know is not ours to refuse
  return value.is_number_integer() ||
         (value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>() &&
          std::abs(value.get<double>()) < 9e15);
}

std::string with_article(const std::string& type) {
  return (type == "integer" || type == "object" || type == "array" ? "an " : "a ") + type;
}

}  // namespace

Json parse_arguments(std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return Json::object();
  if (is_too_deep(text))
    throw std::invalid_argument("the arguments are nested deeper than " + std::to_string(kMaxDepth));
  Json args;
  try {
    args = Json::parse(text);
  } catch (const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..."
    const std::string_view what = error.what();
    throw std::invalid_argument("the arguments are not JSON: " +
                                one_line(what.substr(std::min(what.size(), what.find("] ") + 2))));
  }
  if (!args.is_object())
    throw std::invalid_argument(std::string("the arguments must be an object, found ") + shown(args));
  return args;
}

std::optional<std::string> check_value(const std::string& name, const Json& schema, const Json& value) {
  if (!schema.is_object()) return std::nullopt;
  const auto wrong = [&](const std::string& wanted) {
    return '"' + name + "\" must be " + wanted + ", found " + shown(value);
  };
  if (const auto type = schema.find("type"); type != schema.end() && type->is_string()) {
    if (!has_type(value, type->get_ref<const std::string&>())) return wrong(with_article(*type));
  }
  if (const auto allowed = schema.find("enum"); allowed != schema.end() && allowed->is_array()) {
    std::string list;
    bool found = false;
    for (const Json& item : *allowed) {
      found = found || item == value;
      list += (list.empty() ? "" : ", ") + shown(item);
    }
    if (!found) return wrong("one of " + list);
  }
  if (value.is_object()) {
    const Json properties = schema.value("properties", Json::object());
    const Json rest = schema.value("additionalProperties", Json(true));
    for (const auto& [key, item] : value.items()) {
      const auto known = properties.find(key);
      if (known == properties.end() && rest == Json(false))
        return '"' + name + "\" has no key \"" + one_line(key) + '"';
      if (known == properties.end() && rest.is_object() && rest.contains("type") && rest["type"].is_string() &&
          !has_type(item, rest["type"].get_ref<const std::string&>())) {
        return wrong("an object of " + rest["type"].get<std::string>() + "s");
      }
      if (auto problem = check_value(name + "." + one_line(key), known != properties.end() ? *known : rest, item))
        return problem;
    }
    for (const Json& key : schema.value("required", Json::array())) {
      if (key.is_string() && !value.contains(key.get_ref<const std::string&>()))
        return '"' + name + "\" needs the key " + shown(key);
    }
  }
  if (value.is_array() && schema.contains("items")) {
    for (size_t i = 0; i < value.size(); ++i) {
      if (auto problem = check_value(name + "[" + std::to_string(i) + "]", schema["items"], value[i])) return problem;
    }
  }
  return std::nullopt;
}

std::optional<std::string> check_arguments(const ToolSpec& spec, const Json& args) {
  const Json properties = spec.parameters.value("properties", Json::object());
  const bool takes_more =
      spec.parameters.contains("additionalProperties") && spec.parameters["additionalProperties"] != Json(false);
  for (const auto& [name, value] : args.items()) {
    if (properties.contains(name) || takes_more) continue;
    std::string known;
    for (const auto& [key, unused] : properties.items()) known += (known.empty() ? "" : ", ") + key;
    return spec.name + " has no argument \"" + one_line(name) + "\"; it takes " + (known.empty() ? "none" : known);
  }
  std::string missing;
  for (const Json& name : spec.parameters.value("required", Json::array())) {
    if (!name.is_string() || args.contains(name.get_ref<const std::string&>())) continue;
    const Json schema = properties.value(name.get<std::string>(), Json::object());
    const Json type = schema.is_object() ? schema.value("type", Json("any")) : Json("any");  // `true` is a schema too
    missing += (missing.empty() ? "" : " and ") + shown(name) + " (" +
               (type.is_string() ? type.get<std::string>() : "any") + ")";
  }
  if (!missing.empty()) return spec.name + " needs " + missing;
  for (const auto& [name, value] : args.items()) {
    if (auto problem = check_value(name, properties.value(name, Json::object()), value)) return problem;
  }
  return std::nullopt;
}

}  // namespace corvid::tools
