// What stands in ${{ }} of a workflow: paths such as input.file and tasks.count.answer, and conditions over them.
//
//   or      = and { "||" and }            and  = equal { "&&" equal }        equal = unary [ ("==" | "!=") unary ]
//   unary   = { "!" } ( "(" or ")" | path | 'text' | number | true | false | null )
//   path    = name { "." name }           name = a letter or _, then letters, digits, _ and -
//
// False are false, null, 0, "" and what is missing. == compares numbers as numbers and everything else as text.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace corvid::agents {

using Json = nlohmann::ordered_json;

using Path = std::vector<std::string>;  // {"tasks", "count", "answer"}

class Expression {
 public:
  // Throws std::invalid_argument that says what was wanted and found, and where in the text.
  static Expression parse(std::string_view text);

  Json value(const Json& scope) const;  // null for a path that leads nowhere
  bool holds(const Json& scope) const;
  const std::vector<Path>& paths() const { return paths_; }

  struct Node;

 private:
  std::shared_ptr<const Node> root_;
  std::vector<Path> paths_;
};

// Text with ${{ expressions }} in it.
class Template {
 public:
  Template() = default;
  // Throws std::invalid_argument as Expression does, and for a ${{ without its }}.
  static Template parse(std::string_view text);

  // Texts stand as they are, null as nothing, everything else as JSON; each value goes through `escape` when there is
  // one.
  std::string expand(const Json& scope, const std::function<std::string(std::string_view)>& escape = {}) const;
  std::vector<Path> paths() const;
  const std::string& source() const { return source_; }

 private:
  struct Part {
    std::string text;
    std::vector<Expression> expression;  // none or one, behind the text
  };
  std::string source_;
  std::vector<Part> parts_;
};

// A text as it stands, everything else as JSON.
std::string text_of(const Json& value);

// A condition as `if:` has it: an expression, with or without ${{ }} around it.
Expression parse_condition(std::string_view text);

}  // namespace corvid::agents
