#include "agents/expression.h"

#include <cctype>
#include <optional>
#include <stdexcept>
#include <utility>

namespace corvid::agents {

struct Expression::Node {
  enum class Kind : uint8_t { literal, path, negate, equal, differ, both, either };
  Kind kind = Kind::literal;
  Json literal;
  Path path;
  std::shared_ptr<const Node> left, right;
};

namespace {

using Node = Expression::Node;
using Kind = Node::Kind;

constexpr int kMaxDepth = 64;
constexpr int kMaxTerms = 1000;  // of one expression: it is evaluated by recursion

bool truth(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !value.is_null();
}

std::string as_text(const Json& value) { return value.is_null() ? "" : text_of(value); }

Json evaluate(const Node& node, const Json& scope) {
  const auto left = [&] { return evaluate(*node.left, scope); };
  const auto right = [&] { return evaluate(*node.right, scope); };
  const auto is_equal = [&] {
    const Json a = left(), b = right();
    return a.is_number() && b.is_number() ? a == b : as_text(a) == as_text(b);
  };
  switch (node.kind) {
    case Kind::literal:
      return node.literal;
    case Kind::path: {
      const Json* at = &scope;
      for (const std::string& name : node.path) {
        if (!at->is_object() || !at->contains(name)) return nullptr;
        at = &(*at)[name];
      }
      return *at;
    }
    case Kind::negate:
      return !truth(left());
    case Kind::equal:
      return is_equal();
    case Kind::differ:
      return !is_equal();
    case Kind::both:
      return truth(left()) && truth(right());
    case Kind::either:
      return truth(left()) || truth(right());
  }
  return nullptr;
}

class Parser {
 public:
  Parser(std::string_view text, std::vector<Path>& paths) : text_(text), paths_(paths) {}

  std::shared_ptr<const Node> parse() {
    auto node = either();
    skip();
    if (at_ < text_.size()) fail("the end or an operator");
    return node;
  }

 private:
  using Pointer = std::shared_ptr<const Node>;

  [[noreturn]] void fail(const std::string& wanted) const {
    const std::string rest(text_.substr(at_, 20));
    throw std::invalid_argument("${{ " + std::string(text_) + " }}: want " + wanted + ", found " +
                                (rest.empty() ? "the end" : '"' + rest + '"'));
  }

  void skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool take(std::string_view token) {
    skip();
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }

  static Pointer make(Kind kind, Pointer left, Pointer right = nullptr) {
    return std::make_shared<const Node>(Node{kind, nullptr, {}, std::move(left), std::move(right)});
  }

  Pointer either() {
    Pointer node = both();
    while (take("||")) node = make(Kind::either, node, both());
    return node;
  }
  Pointer both() {
    Pointer node = comparison();
    while (take("&&")) node = make(Kind::both, node, comparison());
    return node;
  }
  Pointer comparison() {
    if (++terms_ > kMaxTerms) fail("at most 1000 terms");
    Pointer node = unary();
    if (take("==")) return make(Kind::equal, node, unary());
    if (take("!=")) return make(Kind::differ, node, unary());
    return node;
  }

  Pointer unary() {
    if (++depth_ > kMaxDepth) fail("at most 64 levels");
    Pointer node;
    if (take("!")) {
      node = make(Kind::negate, unary());
    } else if (take("(")) {
      node = either();
      if (!take(")")) fail("a )");
    } else {
      node = primary();
    }
    --depth_;
    return node;
  }

  Pointer primary() {
    skip();
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    if (c == '\'' || c == '"') return literal(quoted(c));
    if (std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '-') return literal(number());
    Path path{name()};
    while (at_ < text_.size() && text_[at_] == '.') {
      ++at_;
      path.push_back(name());
    }
    if (path.size() == 1) {
      if (path[0] == "true" || path[0] == "false") return literal(path[0] == "true");
      if (path[0] == "null") return literal(nullptr);
    }
    paths_.push_back(path);
    return std::make_shared<const Node>(Node{Kind::path, nullptr, std::move(path), nullptr, nullptr});
  }

  static Pointer literal(Json value) {
    return std::make_shared<const Node>(Node{Kind::literal, std::move(value), {}, nullptr, nullptr});
  }

  // A quote within is written twice, as in YAML.
  Json quoted(char quote) {
    std::string out;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] != quote) {
        out += text_[at_];
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == quote) {
        out += text_[++at_];
      } else {
        ++at_;
        return out;
      }
    }
    fail(std::string("a closing ") + quote);
  }

  Json number() {
    size_t end = at_ + 1;
    while (end < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[end])) != 0 || text_[end] == '.'))
      ++end;
    const Json value = Json::parse(text_.substr(at_, end - at_), nullptr, false);
    if (!value.is_number()) fail("a number");
    at_ = end;
    return value;
  }

  std::string name() {
    const auto is_first = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; };
    const auto is_next = [&](char c) {
      return is_first(c) || std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '-';
    };
    if (at_ >= text_.size() || !is_first(text_[at_])) fail("a name, a text in quotes or a number");
    const size_t begin = at_;
    while (at_ < text_.size() && is_next(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string_view text_;
  std::vector<Path>& paths_;
  size_t at_ = 0;
  int depth_ = 0, terms_ = 0;
};

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// Where the }} of an expression that begins at `from` stands: not inside quotes.
std::optional<size_t> closing(std::string_view text, size_t from) {
  char quote = '\0';
  for (size_t i = from; i < text.size(); ++i) {
    if (quote != '\0') {
      if (text[i] == quote) quote = '\0';
    } else if (text[i] == '\'' || text[i] == '"') {
      quote = text[i];
    } else if (text.substr(i, 2) == "}}") {
      return i;
    }
  }
  return std::nullopt;
}

}  // namespace

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Expression Expression::parse(std::string_view text) {
  Expression expression;
  expression.root_ = Parser(trimmed(text), expression.paths_).parse();
  return expression;
}

Json Expression::value(const Json& scope) const { return evaluate(*root_, scope); }
bool Expression::holds(const Json& scope) const { return truth(value(scope)); }

Template Template::parse(std::string_view text) {
  Template result;
  result.source_ = text;
  while (!text.empty()) {
    const size_t begin = text.find("${{");
    Part part{std::string(text.substr(0, begin)), {}};
    if (begin == std::string_view::npos) {
      text = {};
    } else {
      const std::optional<size_t> end = closing(text, begin + 3);
      if (!end)
        throw std::invalid_argument("want }} behind \"" + std::string(text.substr(begin, 20)) + "\", found none");
      part.expression.push_back(Expression::parse(text.substr(begin + 3, *end - begin - 3)));
      text.remove_prefix(*end + 2);
    }
    result.parts_.push_back(std::move(part));
  }
  return result;
}

std::string Template::expand(const Json& scope, const std::function<std::string(std::string_view)>& escape) const {
  std::string out;
  for (const Part& part : parts_) {
    out += part.text;
    for (const Expression& expression : part.expression) {
      const std::string value = as_text(expression.value(scope));
      out += escape ? escape(value) : value;
    }
  }
  return out;
}

std::vector<Path> Template::paths() const {
  std::vector<Path> all;
  for (const Part& part : parts_) {
    for (const Expression& expression : part.expression)
      all.insert(all.end(), expression.paths().begin(), expression.paths().end());
  }
  return all;
}

Expression parse_condition(std::string_view text) {
  const std::string_view bare = trimmed(text);
  if (bare.starts_with("${{") && closing(bare, 3) == bare.size() - 2)
    return Expression::parse(bare.substr(3, bare.size() - 5));
  return Expression::parse(bare);
}

}  // namespace corvid::agents
