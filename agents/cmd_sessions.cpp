// corvid sessions: the stored trajectories.
#include <unistd.h>

#include <ctime>
#include <iostream>

#include "agents/assemble.h"
#include "agents/commands.h"
#include "agents/export.h"
#include "agents/progress.h"
#include "agents/terminal.h"

namespace corvid::agents {

namespace {

using runtime::Json;

std::string local_time(int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[64];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts));
}

std::string padded(std::string text, size_t width) {
  text.resize(std::max(text.size(), width), ' ');
  return text;
}

int run_list(const Args& args) {
  const auto store = open_store(args, load_config());
  const std::vector<runtime::SessionSummary> sessions = store->list(args.integer("limit", 1, 1'000'000).value_or(100));
  if (args.text("output").value_or("text") == "json") {
    Json list = Json::array();
    for (const runtime::SessionSummary& session : sessions) {
      list.push_back({{"session_id", session.id},
                      {"status", session.status},
                      {"created", iso_time(session.created_ms)},
                      {"updated", iso_time(session.updated_ms)},
                      {"workdir", session.workdir.string()},
                      {"agent", session.agent},
                      {"model", session.model_name},
                      {"messages", session.messages},
                      {"prompt", session.prompt}});
    }
    std::cout << to_output_line(list) << "\n";
    return 0;
  }
  if (sessions.empty()) std::cerr << "no sessions in " << store->file() << "\n";
  const size_t columns = is_terminal(STDOUT_FILENO) ? static_cast<size_t>(terminal_columns(STDOUT_FILENO)) : 160;
  for (const runtime::SessionSummary& session : sessions) {
    const std::string left = session.id + "  " + local_time(session.updated_ms) + "  " + padded(session.status, 11) +
                             "  " + padded(std::to_string(session.messages), 3) + "  ";
    std::cout << left << one_line(session.prompt, std::max<size_t>(20, columns - std::min(columns, left.size() + 1)))
              << "\n";
  }
  return 0;
}

std::string indented(const std::string& text, const char* indent) {
  std::string out = indent;
  for (const char c : text) {
    out += c;
    if (c == '\n') out += indent;
  }
  return out;
}

void print_entry(const runtime::Entry& entry, size_t number, bool colour) {
  const model::Message& message = entry.message;
  // Through a pipe the text goes out as it is; a terminal must not obey it.
  const std::string text = is_terminal(STDOUT_FILENO) ? plain(message.text) : message.text;
  if (message.role == model::Role::user) {
    std::cout << "\n"
              << coloured("[" + std::to_string(number) + "] ", Colour::dim, colour)
              << coloured("> " + text, Colour::bold, colour) << "\n";
  } else if (message.role == model::Role::assistant) {
    if (!text.empty()) std::cout << text << "\n";
    for (const model::Call& call : message.calls)
      std::cout << coloured("· ", Colour::dim, colour) << describe_call(call, 400) << "\n";
  } else if (message.role == model::Role::tool) {
    if (entry.result) {
      char ms[32];
      std::snprintf(ms, sizeof ms, "  %.0f ms", entry.result->duration_ms);
      std::cout << "  " << coloured(tools::to_text(entry.result->status) + std::string(ms), Colour::dim, colour)
                << "\n";
    }
    std::cout << indented(text, "  ") << "\n";
  }
}

int run_show(const Args& args) {
  const auto store = open_store(args, load_config());
  const runtime::SessionRecord record = find_session(*store, *args.positional(0));
  const std::vector<runtime::Entry> entries = store->load(record.id);
  if (args.text("output").value_or("text") == "json") {
    std::cout << to_output_line(session_json(record, entries, false)) << "\n";
    return 0;
  }
  const bool colour = wants_colour(STDOUT_FILENO);
  std::cout << "session " << record.id << ": " << record.status << "\n  folder   " << plain(record.workdir.string())
            << "\n  agent    " << plain(record.agent) << "\n  model    " << plain(record.model_name) << "\n  started  "
            << local_time(record.created_ms) << "\n  touched  " << local_time(record.updated_ms) << "\n";
  if (!record.parent.empty()) std::cout << "  parent   " << record.parent << "\n";
  for (size_t i = 0; i < entries.size(); ++i) print_entry(entries[i], i, colour);
  return 0;
}

int run_resume(const Args& args) {
  const auto prompt = args.positional(1);
  if (!prompt) {
    if (args.has("output")) throw UsageError("--output needs a PROMPT: without one, resume is a chat");
    return run_chat(args, args.positional(0));
  }
  return run_task(args, *prompt == "-" ? read_stdin() : *prompt, args.positional(0));
}

int run_rm(const Args& args) {
  const auto store = open_store(args, load_config());
  std::vector<std::string> ids;
  for (const std::string& id : args.positionals()) ids.push_back(find_session(*store, id).id);
  for (const std::string& id : ids) {
    store->remove(id);
    if (const auto caches = session_cache()) caches->remove(id);
    std::cerr << "removed " << id << "\n";
  }
  return 0;
}

}  // namespace

std::vector<Command> sessions_commands() {
  std::vector<Flag> resume_flags = session_flags();
  resume_flags.insert(resume_flags.begin(), output_flag({"text", "json", "jsonl"}));
  const char* id_help = "an id, the beginning of one, or last";
  std::vector<Command> list = {
      {.name = "sessions list",
       .summary = "List the stored sessions, newest first.",
       .positionals = {},
       .flags = {output_flag({"text", "json"}), {"limit", "N", "at most so many (default: 100)"}, db_flag()},
       .examples = {"corvid sessions list --limit 10", "corvid sessions list --output json"},
       .notes = "",
       .run = run_list},
      {.name = "sessions show",
       .summary = "Show what was said and done in a session.",
       .positionals = {{"ID", id_help}},
       .flags = {output_flag({"text", "json"}), db_flag()},
       .examples = {"corvid sessions show last"},
       .notes = "",
       .run = run_show},
      {.name = "sessions resume",
       .summary = "Go on with a session: one task with PROMPT, a chat without.",
       .positionals = {{"ID", id_help}, {"PROMPT", "the next task; - reads it from standard input", false}},
       .flags = std::move(resume_flags),
       .examples = {"corvid sessions resume last", "corvid sessions resume last 'and the other folder?'"},
       .notes = "The session keeps its folder (unless --workdir is given), its instructions and its tools.",
       .run = run_resume},
      {.name = "sessions rm",
       .summary = "Remove sessions from the store, with all that belongs to them.",
       .positionals = {{.name = "ID", .help = id_help, .repeats = true}},
       .flags = {db_flag()},
       .examples = {"corvid sessions rm last"},
       .notes = "",
       .run = run_rm}};
  for (Command& command : session_copy_commands()) list.push_back(std::move(command));
  return list;
}

}  // namespace corvid::agents
