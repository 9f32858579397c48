#include "agents/completion.h"

#include <algorithm>

namespace corvid::agents {

namespace {

std::string family_of(const Command& command) { return command.name.substr(0, command.name.find(' ')); }

std::string words_after(std::span<const Command> commands, const std::string& family) {
  std::vector<std::string> words;
  for (const Command& command : commands) {
    const size_t space = command.name.find(' ');
    const std::string word = family.empty() ? family_of(command)
                             : space != std::string::npos && family_of(command) == family
                                 ? command.name.substr(space + 1)
                                 : "";
    if (!word.empty() && std::ranges::find(words, word) == words.end()) words.push_back(word);
  }
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : " ") + word;
  return all;
}

const char* bash_kind(Completes completes) { return completes == Completes::folders ? "-d" : "-f"; }

// What follows a flag that takes a value, as a `compgen` argument; empty for a value that nothing is known of.
std::string bash_values(const Flag& flag) {
  if (!flag.choices.empty()) {
    std::string choices;
    for (const std::string& choice : flag.choices) choices += (choices.empty() ? "" : " ") + choice;
    return "-W '" + choices + "'";
  }
  return flag.completes == Completes::nothing ? "" : bash_kind(flag.completes);
}

}  // namespace

std::string bash_completion(std::span<const Command> commands) {
  std::string out =
      "# bash completion for corvid; load it with: source <(corvid completion bash)\n"
      "_corvid() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}\n"
      "  local flags='' words=''\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W '" +
      words_after(commands, "") +
      " --help --version' -- \"$cur\")\n"
      "    return\n"
      "  fi\n"
      "  case $command in\n";
  std::vector<std::string> families;
  for (const Command& command : commands) {
    const std::string family = family_of(command);
    if (command.name == family || std::ranges::find(families, family) != families.end()) continue;
    families.push_back(family);
    out += "    " + family +
           ")\n      if [ \"$COMP_CWORD\" -eq 2 ]; then\n        mapfile -t COMPREPLY < <(compgen -W '" +
           words_after(commands, family) +
           " --help' -- \"$cur\")\n        return\n      fi\n"
           "      command=\"$command ${COMP_WORDS[2]}\" ;;\n";
  }
  out += "  esac\n  case \"$command:$prev\" in\n";
  for (const Command& command : commands) {
    for (const Flag& flag : command.flags) {
      if (flag.value.empty()) continue;
      const std::string values = bash_values(flag);
      out += "    '" + command.name + ":--" + flag.name + "')";
      out += values.empty() ? " return ;;\n"
                            : " mapfile -t COMPREPLY < <(compgen " + values + " -- \"$cur\"); return ;;\n";
    }
  }
  out += "  esac\n  case $command in\n";
  for (const Command& command : commands) {
    std::string flags = "--help";
    for (const Flag& flag : command.flags) flags += " --" + flag.name;
    std::string rest;
    for (const Positional& positional : command.positionals) {
      if (positional.completes != Completes::nothing) rest = bash_kind(positional.completes);
    }
    out += "    '" + command.name + "') flags='" + flags + "'; words='" + rest + "' ;;\n";
  }
  out +=
      "  esac\n"
      "  if [[ $cur == -* ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$cur\")\n"
      "  elif [ -n \"$words\" ]; then\n"
      "    mapfile -t COMPREPLY < <(compgen \"$words\" -- \"$cur\")\n"
      "  fi\n"
      "}\n"
      "complete -o filenames -F _corvid corvid\n";
  return out;
}

namespace {

// Inside single quotes and an _arguments specification: quotes, brackets and colons have meanings there.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else if (c == '[' || c == ']' || c == ':' || c == '\\')
      out += std::string("\\") + c;
    else
      out += c;
  }
  return out;
}

std::string zsh_action(Completes completes) {
  if (completes == Completes::files) return "_files";
  return completes == Completes::folders ? "_files -/" : " ";
}

std::string zsh_arguments(const Command& command, const std::string& indent) {
  std::string out = indent + "_arguments '--help[show this help]'";
  for (const Flag& flag : command.flags) {
    out += " \\\n" + indent + "  '" + (flag.repeats ? "*" : "") + "--" + flag.name + "[" + zsh_text(flag.help) + "]";
    if (!flag.value.empty()) {
      std::string choices;
      for (const std::string& choice : flag.choices) choices += (choices.empty() ? "(" : " ") + choice;
      out += ":" + zsh_text(flag.value) + ":" + (choices.empty() ? zsh_action(flag.completes) : choices + ")");
    }
    out += "'";
  }
  for (const Positional& positional : command.positionals) {
    out += " \\\n" + indent + "  '" + (positional.takes_rest || positional.repeats ? "*" : "") + ":" +
           zsh_text(positional.name) + ":" + zsh_action(positional.completes) + "'";
  }
  return out + " ;;\n";
}

}  // namespace

std::string zsh_completion(std::span<const Command> commands) {
  std::string out =
      "#compdef corvid\n"
      "# zsh completion for corvid; put it into a folder of $fpath as _corvid\n"
      "_corvid() {\n"
      "  if (( CURRENT == 2 )); then\n"
      "    compadd -- " +
      words_after(commands, "") +
      " --help --version\n"
      "    return\n"
      "  fi\n"
      "  local command=$words[2]\n"
      "  case $command in\n";
  std::vector<std::string> families;
  for (const Command& command : commands) {
    const std::string family = family_of(command);
    if (command.name == family || std::ranges::find(families, family) != families.end()) continue;
    families.push_back(family);
    out += "    " + family + ")\n      if (( CURRENT == 3 )); then\n        compadd -- " +
           words_after(commands, family) +
           " --help\n        return\n      fi\n      command=\"$command $words[3]\"\n      shift words\n      (( "
           "CURRENT-- )) ;;\n";
  }
  out += "  esac\n  shift words\n  (( CURRENT-- ))\n  case $command in\n";
  for (const Command& command : commands) out += "    '" + command.name + "')\n" + zsh_arguments(command, "      ");
  return out + "  esac\n}\nif [ \"$funcstack[1]\" = _corvid ]; then _corvid \"$@\"; else compdef _corvid corvid; fi\n";
}

}  // namespace corvid::agents
