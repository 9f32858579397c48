#include "agents/workflow_tasks.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <stdexcept>

#include "agents/answer_schema.h"
#include "agents/paths.h"
#include "agents/regex.h"
#include "runtime/events.h"

namespace corvid::agents {

namespace fs = std::filesystem;

namespace {

// What `workdir: { from: TASK }` refers to; no expression can, for its name is none.
constexpr const char* kWorkdir = "(workdir)";

// Reads the `tasks` of one file, in the order in which they can run.
class TaskReader {
 public:
  TaskReader(const Workflow& workflow, const TaskDefaults& defaults) : workflow_(workflow), defaults_(defaults) {
    for (const auto& [key, unused] : workflow.inputs[0].items()) {
      if (std::ranges::all_of(workflow.inputs, [&](const Json& input) { return input.contains(key); }))
        input_keys_.insert(key);
    }
  }

  std::vector<Task> read(const YamlValue& value) {
    const auto entries = value.entries();
    if (entries.empty()) value.fail("want at least one task, found none");
    for (const auto& [name, unused] : entries) names_.push_back(name);
    for (const auto& [name, task] : entries) {
      if (!is_name(name))
        task.fail("want a name of letters, digits, _ and -, beginning with a letter, found \"" + name + '"');
      places_.emplace(name, task);
      tasks_.emplace(name, read_task(name, task));
    }
    for (const std::string& name : names_) check_references(name);
    for (const std::string& name : names_) visit(name);
    return std::move(ordered_);
  }

 private:
  static bool is_name(const std::string& name) {
    const auto is_allowed = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; };
    return !name.empty() && std::isalpha(static_cast<unsigned char>(name[0])) != 0 && name.size() <= 64 &&
           std::ranges::all_of(name, is_allowed);
  }

  Task read_task(const std::string& name, const YamlValue& value) {
    const YamlMap map = value.map({"prompt", "agent", "policy", "needs", "if", "workdir", "setup", "checks", "collect",
                                   "on_failure", "timeout", "retries", "limits"});
    Task task;
    task.name = name;
    task.definition = value.json();
    task.agent = defaults_.agent;
    const auto prompt = map.find("prompt");
    if (!prompt) value.fail("want a prompt, found none");
    task.prompt = template_of(name, *prompt);
    if (task.prompt.source().find_first_not_of(" \t\r\n") == std::string::npos) prompt->fail("want a text, found none");
    if (const auto x = map.find("agent")) task.agent = agent_of(*x, workflow_.folder);
    if (defaults_.limits) read_limits(*defaults_.limits, task.agent.limits);
    if (const auto x = map.find("limits")) read_limits(*x, task.agent.limits);
    task.policy = defaults_.policy.value_or(task.agent.policy);
    if (const auto x = map.find("policy")) {
      task.policy = beside(x->text(), workflow_.folder);
      check_policy(*x, task.policy);
    }
    if (const auto x = map.find("needs")) read_needs(*x, task);
    if (const auto x = map.find("if")) task.condition = condition_of(name, *x);
    if (const auto x = map.find("workdir")) task.workdir = workdir_of(name, *x);
    if (const auto x = map.find("setup")) {
      for (const YamlValue& command : x->items()) task.setup.push_back(command_of(command));
    }
    if (const auto x = map.find("checks")) {
      for (const YamlValue& check : x->items()) task.checks.push_back(check_of(name, check));
    }
    if (const auto x = map.find("collect")) task.collect = collected(*x);
    if (const auto x = map.find("on_failure")) {
      const std::string word = x->choice({"skip", "continue", "stop"});
      task.on_failure = word == "stop" ? OnFailure::stop : word == "continue" ? OnFailure::proceed : OnFailure::skip;
    }
    task.timeout = defaults_.timeout;
    if (const auto x = map.find("timeout")) task.timeout = x->duration();
    task.retries = defaults_.retries;
    task.backoff = defaults_.backoff;
    if (const auto x = map.find("retries")) read_retries(*x, task.retries, task.backoff);
    return task;
  }

  void read_needs(const YamlValue& value, Task& task) const {
    for (const YamlValue& item : value.items()) {
      const std::string need = item.text();
      if (std::ranges::find(names_, need) == names_.end())
        item.fail("no task named \"" + need + '"' + did_you_mean(need, names_));
      if (std::ranges::find(task.needs, need) == task.needs.end()) task.needs.push_back(need);
    }
  }

  // A text with ${{ }}; what it refers to is checked when all tasks are known.
  Template template_of(const std::string& task, const YamlValue& value) {
    try {
      Template text = Template::parse(value.text());
      for (const Path& path : text.paths()) references_[task].emplace_back(value, path);
      return text;
    } catch (const std::invalid_argument& error) {
      value.fail(error.what());
    }
  }

  Expression condition_of(const std::string& task, const YamlValue& value) {
    try {
      Expression condition = parse_condition(value.text());
      for (const Path& path : condition.paths()) references_[task].emplace_back(value, path);
      return condition;
    } catch (const std::invalid_argument& error) {
      value.fail(error.what());
    }
  }

  // What a file or a model wrote must never become part of a command.
  static std::string command_of(const YamlValue& value) {
    std::string command = value.text();
    if (command.find("${{") != std::string::npos)
      value.fail(
          "a command takes no ${{ }}: its values are in the environment, as \"$CORVID_INPUT_FILE\" for "
          "input.file, \"$CORVID_MATRIX_SEED\" for matrix.seed, \"$CORVID_ANSWER\" for the task's answer");
    return command;
  }

  Workdir workdir_of(const std::string& task, const YamlValue& value) {
    Workdir workdir;
    if (value.is_text()) {
      value.choice({"empty"});
      return workdir;
    }
    const YamlMap map = value.map({"copy", "git", "ref", "from"});
    const auto copy = map.find("copy"), git = map.find("git"), from = map.find("from"), ref = map.find("ref");
    if (copy.has_value() + git.has_value() + from.has_value() != 1)
      value.fail("want empty, or one of copy, git and from");
    if (ref && !git) ref->fail("belongs to git");
    workdir.place = (copy ? *copy : git ? *git : *from).place();
    if (copy) {
      workdir.kind = Workdir::Kind::copy;
      workdir.source = template_of(task, *copy);
    } else if (git) {
      workdir.kind = Workdir::Kind::git;
      workdir.source = template_of(task, *git);
      workdir.ref = ref ? ref->text() : "HEAD";
    } else {
      workdir.kind = Workdir::Kind::from;
      workdir.task = from->text();
      references_[task].emplace_back(*from, Path{"tasks", workdir.task, kWorkdir});
    }
    return workdir;
  }

  Check check_of(const std::string& task, const YamlValue& value) {
    const std::vector<std::string> kinds{"answer_matches", "answer_equals", "answer_schema", "command", "file"};
    value.map(kinds);
    const auto entries = value.entries();
    if (entries.size() != 1)
      value.fail("want one check a list item: answer_matches, answer_equals, answer_schema, command or file");
    const auto& [kind, argument] = entries[0];
    Check check;
    if (kind == "answer_matches") {
      check.kind = Check::Kind::answer_matches;
      check.text = pattern_of(task, argument);
    } else if (kind == "answer_equals") {
      check.kind = Check::Kind::answer_equals;
      check.text = template_of(task, argument);
    } else if (kind == "answer_schema") {
      check.kind = Check::Kind::answer_schema;
      check.schema = read_answer_schema(argument);
    } else if (kind == "command") {
      check.kind = Check::Kind::command;
      check.command = command_of(argument);
    } else {
      read_file_check(task, argument, check);
    }
    check.label = kind + ": " +
                  (kind == "command"         ? check.command
                   : kind == "answer_schema" ? runtime::to_line(check.schema)
                                             : check.text.source());
    return check;
  }

  void read_file_check(const std::string& task, const YamlValue& value, Check& check) {
    const YamlMap map = value.map({"path", "exists", "equals", "contains", "matches"});
    check.kind = Check::Kind::file;
    const auto path = map.find("path");
    if (!path) value.fail("want a path, found none");
    check.text = template_of(task, *path);
    if (const auto x = map.find("exists")) check.exists = x->boolean();
    if (const auto x = map.find("equals")) check.equals = template_of(task, *x);
    if (const auto x = map.find("contains")) check.contains = template_of(task, *x);
    if (const auto x = map.find("matches")) check.matches = pattern_of(task, *x);
    if (!check.exists && (check.equals || check.contains || check.matches))
      value.fail("a file that must not exist has no contents to check");
  }

  // An expression without ${{ }} can be compiled now; one with has to wait for its values.
  Template pattern_of(const std::string& task, const YamlValue& value) {
    Template text = template_of(task, value);
    try {
      if (text.paths().empty()) Regex(text.expand({}));
    } catch (const std::invalid_argument& error) {
      value.fail(error.what());
    }
    return text;
  }

  static std::vector<std::string> collected(const YamlValue& value) {
    std::vector<std::string> paths;
    for (const YamlValue& item : value.items()) {
      const fs::path path = fs::path(item.text()).lexically_normal();
      if (path.empty() || path.is_absolute() || *path.begin() == "..")
        item.fail("want a path beneath the working folder, found \"" + item.text() + '"');
      paths.push_back(path.string());
    }
    return paths;
  }

  void check_references(const std::string& name) const {
    const auto found = references_.find(name);
    if (found == references_.end()) return;
    for (const auto& [value, path] : found->second) {
      if (path[0] == "input") {
        check_key(value, path, input_keys_, "inputs");
      } else if (path[0] == "matrix") {
        std::set<std::string> keys;
        for (const auto& [key, unused] : workflow_.matrix) keys.insert(key);
        check_key(value, path, keys, "matrix");
      } else if (path[0] == "tasks") {
        check_task(value, path, name);
      } else {
        value.fail("want input.…, matrix.… or tasks.…, found " + path[0]);
      }
    }
  }

  static void check_key(const YamlValue& value, const Path& path, const std::set<std::string>& keys,
                        const std::string& section) {
    if (path.size() < 2) value.fail("want " + path[0] + ".NAME, found " + path[0]);
    if (keys.contains(path[1])) return;
    const std::vector<std::string> known(keys.begin(), keys.end());
    value.fail(section + (section == "matrix" ? " has" : " have") + " no \"" + path[1] + '"' +
               did_you_mean(path[1], known));
  }

  void check_task(const YamlValue& value, const Path& path, const std::string& from) const {
    const std::string wanted = path.size() < 2 ? "" : path[1];
    if (std::ranges::find(names_, wanted) == names_.end())
      value.fail("no task named \"" + wanted + '"' + did_you_mean(wanted, names_));
    if (!is_needed(from, wanted)) value.fail("the task " + wanted + " has to stand in `needs` of " + from);
    if (path.back() == kWorkdir) {
      if (std::ranges::find(tasks_.at(from).needs, wanted) == tasks_.at(from).needs.end())
        value.fail("the task " + wanted + " has to stand in `needs` of " + from + " itself");
      return;
    }
    const std::vector<std::string> known{"answer", "passed", "status"};
    const std::string attribute = path.size() == 3 ? path[2] : "";
    if (std::ranges::find(known, attribute) == known.end())
      value.fail("want tasks." + wanted + ".answer, .passed or .status, found \"" + attribute + '"' +
                 did_you_mean(attribute, known));
  }

  bool is_needed(const std::string& by, const std::string& wanted) const {
    std::set<std::string> seen{by};
    std::vector<std::string> open{by};
    while (!open.empty()) {
      const std::string name = open.back();
      open.pop_back();
      for (const std::string& need : tasks_.at(name).needs) {
        if (need == wanted) return true;
        if (seen.insert(need).second) open.push_back(need);
      }
    }
    return false;
  }

  void visit(const std::string& name) {
    if (done_.contains(name)) return;
    if (std::ranges::find(path_, name) != path_.end()) {
      std::string circle;
      for (auto at = std::ranges::find(path_, name); at != path_.end(); ++at) circle += *at + " needs ";
      places_.at(name).fail("the tasks need each other: " + circle + name);
    }
    path_.push_back(name);
    for (const std::string& need : tasks_.at(name).needs) visit(need);
    path_.pop_back();
    done_.insert(name);
    ordered_.push_back(std::move(tasks_.at(name)));
  }

  const Workflow& workflow_;
  const TaskDefaults& defaults_;
  std::set<std::string> input_keys_;  // that every input has
  std::vector<std::string> names_;
  std::map<std::string, YamlValue> places_;
  std::map<std::string, Task> tasks_;
  std::map<std::string, std::vector<std::pair<YamlValue, Path>>> references_;  // by task
  std::vector<std::string> path_;
  std::set<std::string> done_;
  std::vector<Task> ordered_;
};

}  // namespace

std::vector<Task> read_tasks(const YamlValue& value, const Workflow& workflow, const TaskDefaults& defaults) {
  return TaskReader(workflow, defaults).read(value);
}

Agent agent_of(const YamlValue& value, const fs::path& folder) {
  if (value.is_map()) return read_inline_agent(value, "inline", folder);
  try {
    return load_agent(beside(value.text(), folder));
  } catch (const UsageError& error) {
    value.fail(error.what());
  }
}

void check_policy(const YamlValue& value, const std::string& policy) {
  try {
    load_policy(policy);
  } catch (const UsageError& error) {
    value.fail(error.what());
  }
}

void read_retries(const YamlValue& value, int64_t& retries, std::chrono::milliseconds& backoff) {
  if (value.is_text()) {
    retries = value.integer(0, 100);
    return;
  }
  const YamlMap map = value.map({"times", "backoff"});
  if (const auto x = map.find("times")) retries = x->integer(0, 100);
  if (const auto x = map.find("backoff")) backoff = x->duration();
}

}  // namespace corvid::agents
