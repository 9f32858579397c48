// Writing call markup; call_reader.cpp reads it.
#include "model/call_markup.h"

#include <stdexcept>

#include "model/error.h"
#include "model/json_file.h"

namespace corvid::model {
namespace {

bool can_be_tag(std::string_view name) {
  return !name.empty() && name[0] != '/' && name.find_first_of("<>\n") == std::string_view::npos;
}

// An object that can't nest (a key is no tag, no member would be left) stands as JSON.
bool can_nest(const Json& object) {
  bool has_member = false;
  for (const auto& [key, value] : object.items()) {
    if (!can_be_tag(key)) return false;
    has_member = has_member || !value.is_null();
  }
  return has_member;
}

void write_element(const std::string& name, const Json& value, const MarkupSink& sink) {
  sink.marker();
  sink.text(concat('<', name, '>'));
  if (value.is_string()) {
    sink.text(value.get_ref<const std::string&>());
  } else if (value.is_array() && !value.empty()) {
    for (const Json& item : value) write_element("item", item, sink);
  } else if (value.is_object() && can_nest(value)) {
    for (const auto& [key, member] : value.items()) {
      if (!member.is_null()) write_element(key, member, sink);
    }
  } else {
    sink.text(value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  sink.marker();
  sink.text(concat("</", name, '>'));
}

Json parse_arguments(const Call& call) {
  // Whoever walks the arguments recurses, so their depth is bounded before anyone does.
  Json args = json_depth(call.args) <= kMaxJsonDepth ? Json::parse(call.args, nullptr, false) : Json();
  if (!args.is_object()) {
    throw std::invalid_argument(concat("call ", printable(call.id), ": want arguments that are a JSON object at most ",
                                       kMaxJsonDepth, " deep, found ", printable(call.args)));
  }
  for (const auto& [name, value] : args.items()) {
    if (!can_be_tag(name)) {
      throw std::invalid_argument(
          concat("call ", printable(call.id), ": want a name that can be a tag, found ", printable(name)));
    }
  }
  return args;
}

}  // namespace

void write_calls(const std::vector<Call>& calls, const MarkupSink& sink) {
  sink.marker();
  sink.text("<tool_call>\n");
  for (const Call& call : calls) {
    const Json args = parse_arguments(call);
    sink.marker();
    sink.text(concat("<invoke name=\"", call.name, "\">"));
    for (const auto& [name, value] : args.items()) {
      if (!value.is_null()) write_element(name, value, sink);
    }
    sink.marker();
    sink.text("</invoke>\n");
  }
  sink.marker();
  sink.text("</tool_call>");
}

}  // namespace corvid::model
