// The command line as data: commands, flags and positional arguments, from which parsing, --help and the completion
// scripts are made.
//
// Written here rather than taken from CLI11, which rewrites what a user passes through: it takes `[[ -f x ]]` in
// `corvid sandbox -- bash -c '[[ -f x ]]'` for a list and hands on ` -f x `, and `++` for its own terminator.
#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace corvid::agents {

// Wrong usage or configuration: exit status 2. The message names the thing, what was wanted and what was found.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Completes : uint8_t { nothing, files, folders };

struct Flag {
  std::string name;   // without the dashes
  std::string value;  // placeholder of its value; empty for a switch
  std::string help;
  std::vector<std::string> choices = {};  // when not empty, the only values
  Completes completes = Completes::nothing;
  bool repeats = false;
};

struct Positional {
  std::string name;
  std::string help;
  bool is_required = true;
  bool takes_rest = false;  // everything that is left, flags of another program included
  Completes completes = Completes::nothing;
  bool repeats = false;  // the last one: any number of them, with flags among them
};

class Args;

struct Command {
  std::string name;     // "run", "sessions list"
  std::string summary;  // one line
  std::vector<Positional> positionals;
  std::vector<Flag> flags;
  std::vector<std::string> examples;  // "corvid run 'count the files'"
  std::string notes;                  // further help text; may be empty
  int (*run)(const Args& args);       // returns the exit status
};

// What a command line said. Getters throw UsageError naming the flag, what was wanted and what was found.
class Args {
 public:
  bool has(std::string_view flag) const { return flags_.contains(flag); }
  std::optional<std::string> text(std::string_view flag) const;  // the last one given; an empty value is an error
  std::vector<std::string> texts(std::string_view flag) const;   // all of a repeatable flag
  std::optional<int64_t> integer(std::string_view flag, int64_t min, int64_t max) const;
  std::optional<double> number(std::string_view flag, double min, double max) const;
  std::optional<std::chrono::milliseconds> duration(std::string_view flag) const;
  std::optional<int64_t> bytes(std::string_view flag, int64_t min, int64_t max) const;  // "4096", "64KiB", "2GiB"
  std::optional<std::vector<int64_t>> integers(std::string_view flag, int64_t min, int64_t max) const;  // "1,2,3"

  const std::vector<std::string>& positionals() const { return positionals_; }
  std::optional<std::string> positional(size_t index) const;
  bool wants_help() const { return wants_help_; }

 private:
  friend Args parse(const Command& command, std::span<const std::string> words);
  std::map<std::string, std::vector<std::string>, std::less<>> flags_;
  std::vector<std::string> positionals_;
  bool wants_help_ = false;
};

// `words`: what follows the command's name. `--flag value` and `--flag=value`; `--` ends the flags; `-h` is --help.
Args parse(const Command& command, std::span<const std::string> words);

std::string usage_line(const Command& command);
std::string help_text(const Command& command);

// The most similar of `known`, or nothing when none is close (a third of its letters differ, or more).
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> known);
// `; did you mean "--model"?` or nothing.
std::string did_you_mean(std::string_view word, std::span<const std::string> known, std::string_view prefix = "");

// "5m", "30s", "500ms", "1h30m", "1.5s"; a bare number is seconds. Nothing when it is none, negative or over a year.
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
std::optional<int64_t> parse_integer(std::string_view text);
// A number of bytes, of KiB, MiB or GiB. Nothing when it is none, negative or too large.
std::optional<int64_t> parse_bytes(std::string_view text);
std::optional<double> parse_number(std::string_view text);  // finite only

}  // namespace corvid::agents
