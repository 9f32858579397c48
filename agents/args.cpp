#include "agents/args.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <utility>

namespace corvid::agents {

namespace {

// Not "quoted": that of <iomanip> would be found as well.
std::string in_quotes(std::string_view text) { return '"' + std::string(text) + '"'; }

std::string joined(std::span<const std::string> words, std::string_view between) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : std::string(between)) + word;
  return all;
}

const Flag* find_flag(const Command& command, std::string_view name) {
  for (const Flag& flag : command.flags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

[[noreturn]] void unknown_flag(const Command& command, std::string_view word) {
  std::vector<std::string> names{"help"};
  for (const Flag& flag : command.flags) names.push_back(flag.name);
  const std::string_view bare = word.substr(std::min(word.find_first_not_of('-'), word.size()));
  throw UsageError("unknown flag " + std::string(word) + did_you_mean(bare, names, "--"));
}

void check_choice(const Flag& flag, const std::string& value) {
  if (flag.choices.empty() || std::ranges::find(flag.choices, value) != flag.choices.end()) return;
  throw UsageError("--" + flag.name + ": want " + joined(flag.choices, ", ") + ", found " + in_quotes(value) +
                   did_you_mean(value, flag.choices));
}

// "-5 degrees, is that cold?" and "- buy milk" are prompts.
bool looks_like_flag(std::string_view word) {
  return word.size() >= 2 && word[0] == '-' &&
         (word[1] == '-' || std::isalpha(static_cast<unsigned char>(word[1])) != 0);
}

// Edits (insert, delete, replace, swap neighbours) that turn a into b.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return last[b.size()];
}

// Two columns, the second wrapped at the width of a terminal.
void append_rows(std::string& out, const std::vector<std::pair<std::string, std::string>>& rows) {
  size_t left = 0;
  for (const auto& row : rows) left = std::max(left, std::min<size_t>(row.first.size(), 30));
  for (const auto& [name, help] : rows) {
    out += "  " + name;
    size_t column = name.size();
    if (column > left) {
      out += "\n  ";
      column = 0;
    }
    out.append(left - column + 2, ' ');
    column = left + 4;
    for (size_t at = 0; at < help.size();) {
      const size_t end = std::min(help.find(' ', at), help.size());
      if (column + (end - at) > 100 && column > left + 4) {
        out += '\n';
        out.append(left + 4, ' ');
        column = left + 4;
      }
      out += help.substr(at, end - at) + (end < help.size() ? " " : "");
      column += end - at + 1;
      at = end + 1;
    }
    while (out.ends_with(' ')) out.pop_back();
    out += '\n';
  }
}

}  // namespace

Args parse(const Command& command, std::span<const std::string> words) {
  Args args;
  const bool takes_rest = !command.positionals.empty() && command.positionals.back().takes_rest;
  const bool repeats = !command.positionals.empty() && command.positionals.back().repeats;
  bool flags_ended = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (flags_ended || !looks_like_flag(word)) {
      // Everything after the first word of another program's command line belongs to that program.
      if (takes_rest && args.positionals_.size() + 1 >= command.positionals.size()) flags_ended = true;
      if (!takes_rest && !repeats && args.positionals_.size() >= command.positionals.size()) {
        throw UsageError("unexpected argument " + in_quotes(word) +
                         (command.positionals.empty() ? "" : "; quote a text of several words"));
      }
      args.positionals_.push_back(word);
      continue;
    }
    if (word == "--") {
      flags_ended = true;
      continue;
    }
    if (word == "--help" || word == "-h") {
      args.wants_help_ = true;
      return args;
    }
    const size_t equals = word.find('=');
    const std::string shown = word.substr(0, equals);
    const Flag* flag = word.starts_with("--") ? find_flag(command, std::string_view(shown).substr(2)) : nullptr;
    if (flag == nullptr) unknown_flag(command, shown);
    std::string value;
    if (flag->value.empty()) {
      if (equals != std::string::npos)
        throw UsageError(shown + " takes no value, found " + in_quotes(word.substr(equals + 1)));
    } else if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (i + 1 < words.size()) {
      value = words[++i];
    } else {
      throw UsageError(shown + " needs a value (" + flag->value + ")");
    }
    check_choice(*flag, value);
    std::vector<std::string>& values = args.flags_[flag->name];
    if (!flag->repeats) values.clear();
    values.push_back(std::move(value));
  }
  for (size_t i = args.positionals_.size(); i < command.positionals.size(); ++i) {
    if (command.positionals[i].is_required) throw UsageError(command.positionals[i].name + " is missing");
  }
  return args;
}

std::optional<std::string> Args::text(std::string_view flag) const {
  const auto found = flags_.find(flag);
  if (found == flags_.end()) return std::nullopt;
  if (found->second.back().empty()) throw UsageError("--" + std::string(flag) + ": the value is empty");
  return found->second.back();
}

std::vector<std::string> Args::texts(std::string_view flag) const {
  const auto found = flags_.find(flag);
  return found == flags_.end() ? std::vector<std::string>{} : found->second;
}

std::optional<int64_t> Args::integer(std::string_view flag, int64_t min, int64_t max) const {
  const std::optional<std::string> value = text(flag);
  if (!value) return std::nullopt;
  const std::optional<int64_t> number = parse_integer(*value);
  if (!number || *number < min || *number > max) {
    throw UsageError("--" + std::string(flag) + ": want a whole number from " + std::to_string(min) + " to " +
                     std::to_string(max) + ", found " + in_quotes(*value));
  }
  return number;
}

std::optional<int64_t> Args::bytes(std::string_view flag, int64_t min, int64_t max) const {
  const std::optional<std::string> value = text(flag);
  if (!value) return std::nullopt;
  const std::optional<int64_t> count = parse_bytes(*value);
  if (!count || *count < min || *count > max) {
    throw UsageError("--" + std::string(flag) + ": want a size from " + std::to_string(min) + " to " +
                     std::to_string(max) + " bytes (4096, 64KiB, 2GiB), found " + in_quotes(*value));
  }
  return count;
}

std::optional<double> Args::number(std::string_view flag, double min, double max) const {
  const std::optional<std::string> value = text(flag);
  if (!value) return std::nullopt;
  const std::optional<double> number = parse_number(*value);
  if (!number || *number < min || *number > max) {
    char range[80];
    std::snprintf(range, sizeof range, "%g to %g", min, max);
    throw UsageError("--" + std::string(flag) + ": want a number from " + range + ", found " + in_quotes(*value));
  }
  return number;
}

std::optional<std::chrono::milliseconds> Args::duration(std::string_view flag) const {
  const std::optional<std::string> value = text(flag);
  if (!value) return std::nullopt;
  const std::optional<std::chrono::milliseconds> length = parse_duration(*value);
  if (!length || length->count() == 0) {
    throw UsageError("--" + std::string(flag) + ": want a duration such as 30s, 5m or 500ms, found " +
                     in_quotes(*value));
  }
  return length;
}

std::optional<std::vector<int64_t>> Args::integers(std::string_view flag, int64_t min, int64_t max) const {
  const std::optional<std::string> value = text(flag);
  if (!value) return std::nullopt;
  std::vector<int64_t> list;
  for (size_t at = 0; at <= value->size();) {
    const size_t end = std::min(value->find(',', at), value->size());
    std::string_view item = std::string_view(*value).substr(at, end - at);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    const std::optional<int64_t> number = parse_integer(item);
    if (!number || *number < min || *number > max) {
      throw UsageError("--" + std::string(flag) + ": want whole numbers from " + std::to_string(min) + " to " +
                       std::to_string(max) + " with commas between, found " + in_quotes(item));
    }
    list.push_back(*number);
    at = end + 1;
  }
  return list;
}

std::optional<std::string> Args::positional(size_t index) const {
  if (index >= positionals_.size()) return std::nullopt;
  return positionals_[index];
}

std::string usage_line(const Command& command) {
  std::string line = "corvid " + command.name;
  if (!command.flags.empty()) line += " [flags]";
  for (const Positional& positional : command.positionals) {
    const std::string name = positional.takes_rest ? "-- " + positional.name + "..."
                             : positional.repeats  ? positional.name + "..."
                                                   : positional.name;
    line += positional.is_required ? " " + name : " [" + name + "]";
  }
  return line;
}

std::string help_text(const Command& command) {
  std::string out = command.summary + "\n\nUsage: " + usage_line(command) + "\n";
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Positional& positional : command.positionals) rows.emplace_back(positional.name, positional.help);
  if (!rows.empty()) {
    out += "\nArguments:\n";
    append_rows(out, rows);
  }
  rows.clear();
  for (const Flag& flag : command.flags) {
    const std::string value = flag.choices.empty() ? flag.value : joined(flag.choices, "|");
    rows.emplace_back("--" + flag.name + (value.empty() ? "" : " " + value),
                      flag.help + (flag.repeats ? " (repeatable)" : ""));
  }
  rows.emplace_back("--help", "show this help");
  out += "\nFlags:\n";
  append_rows(out, rows);
  if (!command.notes.empty()) out += "\n" + command.notes + "\n";
  if (!command.examples.empty()) out += "\nExamples:\n";
  for (const std::string& example : command.examples) out += "  " + example + "\n";
  return out;
}

std::optional<std::string> nearest(std::string_view word, std::span<const std::string> known) {
  if (word.size() > 64) return std::nullopt;
  std::optional<std::string> best;
  size_t best_edits = 0;
  for (const std::string& candidate : known) {
    const size_t edits = edit_distance(word, candidate);
    const size_t allowed = std::max<size_t>(1, (std::max(word.size(), candidate.size()) + 1) / 3);
    if (edits <= allowed && (!best || edits < best_edits)) {
      best = candidate;
      best_edits = edits;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string> known, std::string_view prefix) {
  const std::optional<std::string> best = nearest(word, known);
  return best ? "; did you mean " + in_quotes(std::string(prefix) + *best) + "?" : "";
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  if (text.empty()) return std::nullopt;
  double total_ms = 0;
  while (!text.empty()) {
    double amount = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), amount, std::chars_format::fixed);
    if (error != std::errc() || !std::isfinite(amount) || amount < 0) return std::nullopt;
    const bool is_whole_text = total_ms == 0;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    const size_t unit_size = std::min(text.find_first_of("0123456789."), text.size());
    const std::string_view unit = text.substr(0, unit_size);
    double scale = 0;
    if (unit == "ms") scale = 1;
    if (unit == "s" || (unit.empty() && is_whole_text)) scale = 1000;
    if (unit == "m") scale = 60'000;
    if (unit == "h") scale = 3'600'000;
    if (scale == 0) return std::nullopt;
    total_ms += amount * scale;
    text.remove_prefix(unit_size);
  }
  if (total_ms > 366.0 * 24 * 3'600'000) return std::nullopt;
  return std::chrono::milliseconds(std::llround(total_ms));
}

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> parse_bytes(std::string_view text) {
  int64_t scale = 1;
  for (const auto& [unit, size] :
       {std::pair{"KiB", int64_t{1} << 10}, {"MiB", int64_t{1} << 20}, {"GiB", int64_t{1} << 30}}) {
    if (!text.ends_with(unit)) continue;
    text.remove_suffix(std::string_view(unit).size());
    scale = size;
  }
  const std::optional<int64_t> count = parse_integer(text);
  if (!count || *count < 0 || *count > INT64_MAX / scale) return std::nullopt;
  return *count * scale;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace corvid::agents
