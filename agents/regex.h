// Regular expressions of a user's (PCRE2: Perl's syntax, UTF-8), with a bound on what one match may cost.
#pragma once
#include <memory>
#include <string>
#include <string_view>

namespace corvid::agents {

class Regex {
 public:
  // Throws std::invalid_argument saying what is wrong with the expression, and where.
  explicit Regex(const std::string& expression);
  // Anywhere in `text`, whose bytes that are not UTF-8 match nothing but themselves. Throws std::runtime_error when the
  // expression backtracks too often, and for more than 1 MiB of text.
  bool search(std::string_view text) const;
  // An expression that matches `text` and nothing else, also within a class such as [...].
  static std::string quoted(std::string_view text);

 private:
  std::string expression_;
  std::shared_ptr<void> code_;
};

}  // namespace corvid::agents
