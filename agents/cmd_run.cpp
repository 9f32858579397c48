// corvid run: one task, no questions asked.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>

#include "agents/assemble.h"
#include "agents/commands.h"
#include "agents/progress.h"
#include "runtime/interrupt.h"

namespace corvid::agents {

namespace {

void print_line(const runtime::Json& json) { std::cout << to_output_line(json) << std::endl; }

int run_run(const Args& args) {
  std::string prompt = *args.positional(0);
  if (prompt == "-") {
    prompt = read_stdin();
    while (prompt.ends_with('\n')) prompt.pop_back();
  }
  const auto resume = args.text("resume");
  return run_task(args, prompt, resume);
}

}  // namespace

std::string read_stdin() {
  return std::string(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
}

void print_failed_run(const std::string& error, bool is_jsonl) {
  runtime::RunResult result;
  result.status = runtime::RunStatus::error;
  result.error = error;
  print_line(is_jsonl ? runtime::to_json(runtime::Event(runtime::DoneEvent{result})) : runtime::to_json(result));
}

int run_task(const Args& args, const std::string& prompt, const std::optional<std::string>& resume) {
  if (prompt.find_first_not_of(" \t\r\n") == std::string::npos) throw UsageError("PROMPT is empty");
  const std::string output = args.text("output").value_or("text");
  if (args.has("logprobs") && output != "jsonl") throw UsageError("--logprobs: want --output jsonl, found " + output);
  const runtime::Interrupt interrupt;
  Assembly assembly(args, resume);
  Progress progress(output == "text" && isatty(STDOUT_FILENO) == 1);
  assembly.session().watch([&](runtime::Event event) {
    if (output == "jsonl") print_line(runtime::to_json(event));
    progress.show(event);
  });
  const runtime::RunResult result =
      assembly.session().run(prompt, assembly.run_options(interrupt.token()), interrupt.token());
  if (output == "json") print_line(runtime::to_json(result));
  if (output == "text") progress.print_answer(result);
  progress.print_end(result);
  std::cout.flush();  // whoever reads has it all before the cache is written
  assembly.keep_cache();
  return runtime::exit_code(result.status);
}

std::vector<Command> run_commands() {
  std::vector<Flag> run_flags = session_flags();
  run_flags.insert(run_flags.begin(),
                   {output_flag({"text", "json", "jsonl"}), {"resume", "ID|last", "go on with a stored session"}});
  run_flags.push_back({"logprobs", "N", "log-probabilities in jsonl's token events, with those of N likeliest tokens"});
  return {
      {.name = "run",
       .summary = "Do one task, no questions asked.",
       .positionals = {{"PROMPT", "the task; - reads it from standard input"}},
       .flags = std::move(run_flags),
       .examples = {"corvid run 'how many txt files are in notes?'",
                    "corvid run --workdir ~/garden --timeout 2m - < task.txt",
                    "corvid run --output json --allow-host api.example.org 'fetch ...'",
                    "corvid run --resume last 'and how many lines have they?'"},
       .notes = "The answer goes to standard output, what the tools do to standard error. With --output json the last\n"
                "line is one object; with jsonl every event is a line.\n"
                "Exit status: 0 completed, 1 failed, 2 wrong usage, 3 a limit ended it, 130 interrupted.",
       .run = run_run},
      {.name = "chat",
       .summary = "Talk with the agent, line by line.",
       .positionals = {},
       .flags =
           [] {
             std::vector<Flag> flags = session_flags();
             flags.insert(flags.begin(), Flag{"resume", "ID|last", "go on with a stored session"});
             return flags;
           }(),
       .examples = {"corvid", "corvid chat --workdir ~/garden", "printf 'what is here?\\n' | corvid chat"},
       .notes = "Ctrl-C cancels the running turn, Ctrl-D ends.",
       .run = [](const Args& args) { return run_chat(args, args.text("resume")); }}};
}

}  // namespace corvid::agents
