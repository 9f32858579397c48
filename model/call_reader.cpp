#include "model/call_markup.h"
#include "model/error.h"
#include "model/json_file.h"
#include "model/utf8.h"

namespace corvid::model {
namespace {

std::string_view without_space_at_start(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return text.substr(first == std::string_view::npos ? text.size() : first);
}

// "<name>rest" -> name and rest; false when `segment` is something else.
bool split_tag(std::string_view segment, std::string_view& name, std::string_view& rest) {
  if (segment.empty() || segment[0] != '<') return false;
  const size_t end = segment.find_first_of("<>\n", 1);
  if (end == std::string_view::npos || segment[end] != '>' || end == 1) return false;
  name = segment.substr(1, end - 1);
  rest = segment.substr(end + 1);
  return true;
}

// The value of `<invoke name="value">`, quoted or not, and what follows; false when `segment` is something else.
bool split_invoke(std::string_view segment, std::string_view& name, std::string_view& rest) {
  constexpr std::string_view kOpen = "<invoke";
  if (segment.substr(0, kOpen.size()) != kOpen) return false;
  segment.remove_prefix(kOpen.size());
  const std::string_view attribute = without_space_at_start(segment);
  if (attribute.size() == segment.size() || attribute.substr(0, 5) != "name=") return false;
  std::string_view value = attribute.substr(5);
  const bool is_quoted = !value.empty() && (value[0] == '"' || value[0] == '\'');
  const size_t end = is_quoted ? value.find(value[0], 1) : value.find_first_of("> \n");
  if (end == std::string_view::npos) return false;
  name = is_quoted ? value.substr(1, end - 1) : value.substr(0, end);
  rest = without_space_at_start(value.substr(end + (is_quoted ? 1 : 0)));
  if (name.empty() || rest.empty() || rest[0] != '>') return false;
  rest.remove_prefix(1);
  return true;
}

}  // namespace

void CallReader::marker() {
  if (place_ == Place::start) {
    place_ = Place::before_block;
  } else {
    segment();
  }
  segment_.clear();
}

// Takes what stands after a marker, which is complete now.
void CallReader::segment() {
  if (!error_.empty() || place_ == Place::closed) return;
  const std::string_view whole = segment_;
  if (!stack_.empty()) return element_segment(whole);
  const std::string_view tag = without_space_at_start(whole);
  std::string_view name, rest;
  if (!split_tag(tag, name, rest)) return fail_at("a tag", tag);
  if (place_ == Place::before_block) {
    if (name != "tool_call" || !is_blank(rest)) return fail_at("<tool_call>", tag);
    place_ = Place::block;
  } else if (place_ == Place::block) {
    if (name == "/tool_call") {
      place_ = Place::closed;
    } else {
      open_invoke(tag);
    }
  } else if (name == "/invoke") {
    if (!is_blank(rest)) return fail_at("a tag after </invoke>", rest);
    close_invoke();
  } else if (name[0] == '/') {
    fail_at("an argument or </invoke>", tag);
  } else {
    open_element(tag, parameters_);
  }
}

// Inside an element: its end, a child, or, in a text, a marker that is part of it.
void CallReader::element_segment(std::string_view whole) {
  Open& open = stack_.back();
  const std::string_view tag = without_space_at_start(whole);
  std::string_view name, rest;
  const bool is_tag = split_tag(tag, name, rest);
  if (is_tag && name.substr(0, 1) == "/" && name.substr(1) == open.element.name) {
    CallElement closed = std::move(open.element);
    stack_.pop_back();
    if (stack_.empty()) {
      if (!is_blank(rest)) return fail_at(concat("a tag after </", closed.name, ">"), rest);
      arguments_.push_back(std::move(closed));
    } else {
      stack_.back().element.text += rest;
      stack_.back().element.children.push_back(std::move(closed));
    }
  } else if (!is_tag || is_string_only(open.schema)) {
    open.element.text.append(kCallMarker).append(whole);
  } else if (name[0] == '/') {
    fail_at(concat("</", open.element.name, ">"), tag);
  } else {
    open_element(tag, open.schema);
  }
}

void CallReader::open_invoke(std::string_view tag) {
  std::string_view name, rest;
  if (!split_invoke(tag, name, rest)) return fail_at("<invoke name=\"...\"> or </tool_call>", tag);
  if (!is_blank(rest)) return fail_at("an argument", rest);
  place_ = Place::invoke;
  name_ = name;
  arguments_.clear();
  parameters_ = nullptr;
  for (const ToolDecl& tool : tools_) {
    if (tool.name == name_) parameters_ = &tool.parameters;
  }
}

void CallReader::open_element(std::string_view tag, const Json* schema_of_parent) {
  std::string_view name, rest;
  split_tag(tag, name, rest);
  if (stack_.size() >= static_cast<size_t>(kMaxJsonDepth)) {
    return fail_at(concat("at most ", kMaxJsonDepth, " nested elements"), tag);
  }
  stack_.push_back({{std::string(name), std::string(rest), {}}, child_schema(schema_of_parent, name)});
}

void CallReader::close_invoke() {
  static const Json unknown;
  Utf8Stream clean;
  std::string name = clean.push(name_);
  name += clean.finish();
  calls_.push_back({"", std::move(name), arguments_json(arguments_, parameters_ ? *parameters_ : unknown)});
  place_ = Place::block;
}

void CallReader::fail_at(std::string_view wanted, std::string_view found) {
  error_ = concat("call markup: want ", wanted, ", found ", found.empty() ? "nothing" : printable(found));
}

CallReader::Result CallReader::finish(bool is_cut) {
  // What was cut may have been meant to go on, unless it is a tag that ends something.
  const std::string_view last = without_space_at_start(segment_);
  std::string_view name, rest;
  if ((split_tag(last, name, rest) && name[0] == '/') || !is_cut) segment();
  Result result;
  result.error = error_;
  if (!error_.empty()) return result;
  constexpr std::string_view kEnd = "</tool_call>";
  const bool may_be_end = place_ == Place::block && last.size() < kEnd.size() && kEnd.substr(0, last.size()) == last;
  result.calls = std::move(calls_);
  result.is_unfinished = place_ != Place::closed &&
                         !(place_ == Place::block && !result.calls.empty() && (may_be_end || name == "/invoke"));
  if (place_ == Place::closed && result.calls.empty()) result.error = "call markup: want a call, found an empty block";
  return result;
}

}  // namespace corvid::model
