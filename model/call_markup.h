// Tool calls as MiniMax-M3 writes them. NS is the special token ]<]minimax[>[; without it nothing is markup.
//
//   NS<tool_call>
//   NS<invoke name="http_request">NS<url>http://x/NS</url>NS<headers>NS<Accept>textNS</Accept>NS</headers>NS</invoke>
//   NS</tool_call>
//
// Every tag, opening and closing, has NS before it. An argument's tag is its name. Objects nest by key, arrays hold
// <item>s, strings stand raw, all else is a JSON literal; null members are left out. Only the tool's schema tells "3"
// the text from 3 the number.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_format.h"

namespace corvid::model {

inline constexpr std::string_view kCallMarker = "]<]minimax[>[";

// Where written markup goes: `marker` for each NS, `text` for what stands between.
struct MarkupSink {
  std::function<void()> marker;
  std::function<void(std::string_view)> text;
};

// Writes the whole block. Throws std::invalid_argument naming the call when it can't be written.
void write_calls(const std::vector<Call>& calls, const MarkupSink& sink);

// An element of call markup as it was read, before the schema has its say.
struct CallElement {
  std::string name;
  std::string text;  // raw, without the children
  std::vector<CallElement> children;
};

// The arguments of a call as the text of a JSON object, in the order in which they were written, typed by `parameters`
// (a JSON Schema of type object, or null when the tool is unknown). What does not fit its schema, and what no schema
// describes, is a string. An element with text and children has its text under "$text"; a repeated one becomes an
// array.
std::string arguments_json(const std::vector<CallElement>& arguments, const Json& parameters);

// What the schema says of a member or item `name`; null when it says nothing.
const Json* child_schema(const Json* schema, std::string_view name);
// True when the schema allows strings and nothing else but null.
bool is_string_only(const Json* schema);

// Reads one block: text() and marker() in the order of the tokens, the first of all a marker().
class CallReader {
 public:
  explicit CallReader(const std::vector<ToolDecl>& tools) : tools_(tools) {}

  void text(std::string_view bytes) { segment_ += bytes; }
  void marker();

  struct Result {
    std::vector<Call> calls;     // complete ones; without ids
    bool is_unfinished = false;  // ended inside a call, or before the first
    std::string error;           // empty when what was there is right so far
  };
  // What was read; call it once, after the last token. `is_cut`: more would have come.
  Result finish(bool is_cut);

 private:
  enum class Place : uint8_t { start, before_block, block, invoke, closed };
  struct Open {
    CallElement element;
    const Json* schema;
  };
  void segment();
  void element_segment(std::string_view rest);
  void open_invoke(std::string_view rest);
  void open_element(std::string_view rest, const Json* schema_of_parent);
  void close_invoke();
  void fail_at(std::string_view wanted, std::string_view found);

  const std::vector<ToolDecl>& tools_;
  Place place_ = Place::start;
  std::string segment_;  // what stands between the last marker and the next
  std::string name_;     // of the open invoke
  const Json* parameters_ = nullptr;
  std::vector<CallElement> arguments_;
  std::vector<Open> stack_;  // open elements, the outermost first
  std::vector<Call> calls_;
  std::string error_;
};

}  // namespace corvid::model
