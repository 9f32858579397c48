#include "agents/answer_schema.h"

namespace corvid::agents {

namespace {

const std::vector<std::string> kKeywords{
    "type",  "properties",  "required", "enum",     "items",  "additionalProperties",
    "title", "description", "default",  "examples", "$schema"};

}  // namespace

Json read_answer_schema(const YamlValue& value) {
  if (!value.is_map()) value.fail("want a JSON Schema as a mapping");
  Json schema = Json::object();
  const YamlMap keywords = value.map(kKeywords);
  for (const auto& [keyword, argument] : keywords.entries()) {
    if (keyword == "type") {
      schema[keyword] = argument.choice({"string", "number", "integer", "boolean", "object", "array", "null"});
    } else if (keyword == "properties") {
      schema[keyword] = Json::object();
      for (const auto& [name, property] : argument.entries()) schema[keyword][name] = read_answer_schema(property);
    } else if (keyword == "required") {
      schema[keyword] = argument.texts();
    } else if (keyword == "enum") {
      if (argument.items().empty()) argument.fail("want at least one value, found none");
      schema[keyword] = argument.json();
    } else if (keyword == "items") {
      schema[keyword] = read_answer_schema(argument);
    } else if (keyword == "additionalProperties") {
      schema[keyword] = argument.is_map() ? read_answer_schema(argument) : Json(argument.boolean());
    }
  }
  return schema;
}

}  // namespace corvid::agents
