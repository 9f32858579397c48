#include "agents/cli.h"

#include <algorithm>
#include <iostream>

#include "agents/commands.h"
#include "agents/completion.h"
#include "agents/terminal.h"

namespace corvid::agents {

namespace {

int run_completion(const Args& args) {
  const std::string shell = *args.positional(0);
  if (shell == "bash") {
    std::cout << bash_completion(commands());
  } else if (shell == "zsh") {
    std::cout << zsh_completion(commands());
  } else {
    throw UsageError("SHELL: want bash or zsh, found \"" + shell + '"');
  }
  return 0;
}

Command completion_command() {
  return {.name = "completion",
          .summary = "Print the completion script of a shell.",
          .positionals = {{"SHELL", "bash or zsh"}},
          .flags = {},
          .examples = {"source <(corvid completion bash)", "corvid completion zsh > ~/.zfunc/_corvid"},
          .notes = "",
          .run = run_completion};
}

std::string overview() {
  std::string out =
      "corvid: an agent with its language model inside the process\n\n"
      "Usage: corvid COMMAND [flags] [arguments]      without a command: corvid chat\n\nCommands:\n";
  size_t width = 0;
  for (const Command& command : commands()) width = std::max(width, command.name.size());
  for (const Command& command : commands()) {
    out += "  " + command.name + std::string(width - command.name.size() + 2, ' ') + command.summary + "\n";
  }
  return out +
         "\nFlags:\n  --help     show this help; after a command, that command's (also: corvid help COMMAND)\n  "
         "--version  print the version\n"
         "\nExamples:\n  corvid run 'how many txt files are in notes?'\n  corvid run --output json --workdir DIR - < "
         "task.txt\n"
         "  corvid sessions list\n  corvid doctor\n";
}

// The command that `words` begin with, and how many words its name takes. Throws UsageError for none.
std::pair<const Command*, size_t> find_command(const std::vector<std::string>& words) {
  const std::vector<Command>& all = commands();
  const auto named = [&](const std::string& name) -> const Command* {
    const auto found = std::ranges::find(all, name, &Command::name);
    return found == all.end() ? nullptr : &*found;
  };
  if (words.empty() || words[0].starts_with('-')) return {named("chat"), 0};
  if (words.size() > 1) {
    if (const Command* command = named(words[0] + " " + words[1])) return {command, 2};
  }
  if (const Command* command = named(words[0])) return {command, 1};
  std::vector<std::string> families, members;
  for (const Command& command : all) {
    const size_t space = command.name.find(' ');
    families.push_back(command.name.substr(0, space));
    if (space != std::string::npos && command.name.substr(0, space) == words[0])
      members.push_back(command.name.substr(space + 1));
  }
  if (members.empty()) {
    throw UsageError("unknown command \"" + words[0] + '"' + did_you_mean(words[0], families, "corvid "));
  }
  std::string list;
  for (const std::string& member : members) list += (list.empty() ? "" : ", ") + member;
  if (words.size() < 2 || words[1].starts_with('-')) throw UsageError("corvid " + words[0] + " needs one of: " + list);
  throw UsageError("unknown command \"" + words[0] + " " + words[1] + "\"; there is " + list +
                   did_you_mean(words[1], members, "corvid " + words[0] + " "));
}

std::string family_overview(const std::string& family) {
  std::string out;
  for (const Command& command : commands()) {
    if (command.name == family || command.name.starts_with(family + " "))
      out += (out.empty() ? "" : "\n") + help_text(command);
  }
  return out;
}

// json or jsonl when the command line asks for it, read without a parse: the parse may be what failed.
std::string wanted_output(const std::vector<std::string>& words) {
  std::string output;
  for (size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    if (words[i] == "--output" && i + 1 < words.size()) output = words[i + 1];
    if (words[i].starts_with("--output=")) output = words[i].substr(9);
  }
  return output;
}

void say(const std::string& message) {
  const bool colour = wants_colour(2);
  std::cout.flush();
  std::cerr << coloured("corvid: ", Colour::red, colour) << plain(message) << "\n";
}

int dispatch(const std::vector<std::string>& words) {
  const Command* command = nullptr;
  const auto failed = [&](const std::string& message) {
    const std::string output = wanted_output(words);
    const bool is_run = command != nullptr && (command->name == "run" || command->name == "sessions resume");
    if (is_run && (output == "json" || output == "jsonl")) print_failed_run(message, output == "jsonl");
    say(message);
  };
  try {
    if (words.size() == 2 && (words[1] == "--help" || words[1] == "-h") && !family_overview(words[0]).empty()) {
      std::cout << family_overview(words[0]);
      return 0;
    }
    size_t used = 0;
    std::tie(command, used) = find_command(words);
    const Args args = parse(*command, std::span(words).subspan(used));
    if (args.wants_help()) {
      std::cout << help_text(*command);
      return 0;
    }
    return command->run(args);
  } catch (const UsageError& error) {
    failed(error.what());
    std::cerr << "Try: corvid " << (command != nullptr ? command->name + " " : "") << "--help\n";
    return 2;
  } catch (const std::exception& error) {
    failed(error.what());
    return 1;
  }
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> all = [] {
    std::vector<Command> list;
    for (auto family : {run_commands(), batch_commands(), sessions_commands(), model_commands(), bench_commands(),
                        tools_commands(), doctor_commands()}) {
      list.insert(list.end(), std::make_move_iterator(family.begin()), std::make_move_iterator(family.end()));
    }
    list.push_back(completion_command());
    return list;
  }();
  return all;
}

int run_program(const std::vector<std::string>& words) {
  if (!words.empty() && words[0] == "--version") {
    std::cout << "corvid " CORVID_VERSION "\n";
    return 0;
  }
  const bool is_help = !words.empty() && words[0] == "help";
  if (!words.empty() && (words[0] == "--help" || words[0] == "-h" || (is_help && words.size() == 1))) {
    std::cout << overview();
    return 0;
  }
  std::vector<std::string> wanted = words;
  if (is_help) {  // `help sessions list` is `sessions list --help`
    wanted.erase(wanted.begin());
    wanted.emplace_back("--help");
  }
  const int status = dispatch(wanted);
  std::cout.flush();
  if (!std::cout) {
    say("standard output: could not be written");
    return status == 0 ? 1 : status;
  }
  return status;
}

}  // namespace corvid::agents
