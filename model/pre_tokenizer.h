// Splits text by a regular expression before merging, as the "Split" pre-tokenizer of tokenizer.json does.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace corvid::model {

// The expressions as they stand in tokenizer.json.
extern const std::string_view kO200kRegex;  // GPT-4o's, and MiniMax-M2's and -M3's
extern const std::string_view kQwen2Regex;
extern const std::string_view kGpt2Regex;  // what "ByteLevel" does on its own

// One compiled expression. Const after construction; shared by any threads, each with its own Matcher.
class Splitter {
 public:
  // An Oniguruma expression within what PCRE2 understands in UTF mode with Unicode classes. Throws std::runtime_error
  // naming the expression and the place when it does not compile.
  explicit Splitter(std::string_view regex);
  Splitter(Splitter&&) noexcept;
  ~Splitter();

  bool is_in(std::string_view text) const;  // true when some part of valid UTF-8 matches

  // Memory for one thread's matches.
  class Matcher {
   public:
    explicit Matcher(const Splitter& splitter);
    Matcher(Matcher&&) noexcept;
    ~Matcher();
    // Appends the matches and what stands between them, in order, without empty ones: together they are `text`, which
    // must be valid UTF-8. Returns the number of matches. Throws std::runtime_error when an expression of the file's
    // own backtracks without end.
    size_t split(std::string_view text, std::vector<std::string_view>& out);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace corvid::model
