#include "agents/checks.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "agents/regex.h"
#include "agents/terminal.h"
#include "tools/fd.h"
#include "tools/schema.h"

namespace corvid::agents {

namespace {

constexpr size_t kMaxFileBytes = 64 << 20;
constexpr size_t kShownBytes = 200;
// What the kernel lets a program have: 128 KiB a variable, and a quarter of the stack's limit (8 MiB, most often) in
// all.
constexpr size_t kMaxVariableBytes = 64 << 10, kMaxEnvironmentBytes = 1 << 20;

std::string shown(std::string_view text) { return '"' + one_line(text, kShownBytes) + '"'; }

// 'it'\''s' for it's: a shell takes nothing in it for a command.
std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\0') continue;
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return out + "'";
}

std::string variable_name(const std::string& path) {
  std::string name = "CORVID_";
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    name += std::isalnum(byte) != 0 && byte < 128 ? static_cast<char>(std::toupper(byte)) : '_';
  }
  return name;
}

// The values as lines of shell.
std::string variables_of(const Checking& what) {
  std::string lines;
  size_t room = kMaxEnvironmentBytes;
  const auto add = [&](const std::string& path, const Json& value) {
    const std::string line = variable_name(path) + "=" + shell_quoted(text_of(value)) + "\n";
    const bool is_exported = line.size() <= std::min(room, kMaxVariableBytes);
    if (is_exported) room -= line.size();
    lines += (is_exported ? "export " : "") + line;
  };
  add("answer", what.answer);
  for (const char* section : {"input", "matrix"}) {
    const Json values = what.scope.value(section, Json::object());
    for (const auto& [key, value] : values.items()) add(std::string(section) + "_" + key, value);
  }
  const Json tasks = what.scope.value("tasks", Json::object());
  for (const auto& [task, values] : tasks.items()) {
    add("task_" + task + "_answer", values.value("answer", ""));
    add("task_" + task + "_status", values.value("status", ""));
  }
  return lines;
}

std::string check_file(const Check& check, const Checking& what) {
  const std::string path = check.text.expand(what.scope);
  const std::optional<std::string> text = read_beneath(what.sandbox, path);
  if (!check.exists) return text ? "the file " + path + " is there" : "";
  if (!text) return "no file " + path;
  if (check.equals && *text != check.equals->expand(what.scope)) return shown(*text);
  if (check.contains && text->find(check.contains->expand(what.scope)) == std::string::npos) return shown(*text);
  if (check.matches && !Regex(check.matches->expand(what.scope, Regex::quoted)).search(*text)) return shown(*text);
  return "";
}

// What is wrong; nothing when the check holds.
std::string problem(const Check& check, const Checking& what) {
  switch (check.kind) {
    case Check::Kind::answer_matches:
      return Regex(check.text.expand(what.scope, Regex::quoted)).search(what.answer) ? "" : shown(what.answer);
    case Check::Kind::answer_equals:
      return what.answer == check.text.expand(what.scope) ? "" : shown(what.answer);
    case Check::Kind::answer_schema: {
      const Json answer = Json::parse(what.answer, nullptr, false);
      if (answer.is_discarded()) return "no JSON: " + shown(what.answer);
      return tools::check_value("answer", check.schema, answer).value_or("");
    }
    case Check::Kind::command: {
      const tools::SpawnResult result = run_command(check.command, what);
      if (result.end == tools::SpawnResult::End::timed_out) return "the time was over";
      if (result.end == tools::SpawnResult::End::cancelled) return "cancelled";
      const std::string said = result.err.empty() ? result.out : result.err;
      if (result.exit_code == 0) return "";
      return "exit status " + std::to_string(result.exit_code) +
             (said.empty() ? "" : ": " + one_line(said, kShownBytes));
    }
    case Check::Kind::file:
      return check_file(check, what);
  }
  return "";
}

}  // namespace

tools::SpawnResult run_command(const std::string& command, const Checking& what) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(what.deadline - std::chrono::steady_clock::now());
  // On its stdin, where there is room for them; a command's own text is bounded.
  return what.sandbox.shell("IFS= read -r -d '' CORVID_; eval \"$CORVID_\"; unset CORVID_; exec </dev/null\n" + command,
                            std::max(left, std::chrono::milliseconds(1)), what.stop, variables_of(what));
}

std::optional<std::string> read_beneath(const tools::Sandbox& sandbox, const std::string& path) {
  const tools::Fd fd(sandbox.open_beneath(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (fd.get() < 0) return std::nullopt;
  struct stat info {};
  if (fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  std::string text;
  char buffer[65536];
  for (ssize_t got = 0; (got = read(fd.get(), buffer, sizeof buffer)) != 0;) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::system_error(errno, std::generic_category(), path);
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > kMaxFileBytes) throw std::runtime_error(path + ": want at most 64 MiB to look at, found more");
  }
  return text;
}

CheckResult run_check(const Check& check, const Checking& what) {
  CheckResult result{check.label, false, ""};
  try {
    result.found = problem(check, what);
    result.passed = result.found.empty();
  } catch (const std::exception& error) {
    result.found = error.what();
  }
  return result;
}

Json to_json(const std::vector<CheckResult>& results) {
  Json list = Json::array();
  for (const CheckResult& result : results) {
    Json one{{"check", result.label}, {"passed", result.passed}};
    if (!result.passed) one["found"] = result.found;
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace corvid::agents
