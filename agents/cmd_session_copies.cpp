// corvid sessions fork, merge, export and replay: what becomes of a stored session elsewhere, or once more.
#include <iostream>

#include "agents/assemble.h"
#include "agents/commands.h"
#include "agents/export.h"
#include "agents/paths.h"
#include "agents/progress.h"
#include "agents/terminal.h"
#include "runtime/interrupt.h"
#include "runtime/replay.h"

namespace corvid::agents {

namespace {

using runtime::Json;
using Verdict = runtime::ReplayedReply::Verdict;

bool wants_json(const Args& args) { return args.text("output").value_or("text") == "json"; }

int run_fork(const Args& args) {
  const auto store = open_store(args, load_config());
  const runtime::SessionRecord record = find_session(*store, *args.positional(0));
  const auto at = args.integer("at", 0, INT64_MAX);
  try {
    const std::string id = store->fork(record.id, at.value_or(-1));
    std::cout << (wants_json(args) ? to_output_line({{"session_id", id}, {"parent", record.id}}) : id) << "\n";
  } catch (const runtime::StoreError& error) {
    if (error.code() != 0) throw;  // SQLite's complaint, not a place where no fork can be
    throw UsageError(error.what());
  }
  return 0;
}

int run_merge(const Args& args) {
  const auto store = open_store(args, load_config());
  runtime::MergeResult all;
  Json conflicts = Json::array();
  for (const std::string& file : args.positionals()) {
    const runtime::MergeResult result = store->merge(file);
    all.added += result.added;
    all.continued += result.continued;
    all.unchanged += result.unchanged;
    for (const auto& [session, reason] : result.conflicts) {
      conflicts.push_back({{"session_id", session}, {"file", file}, {"reason", reason}});
      std::cerr << plain(file) << ": conflict: session " << plain(session) << ": " << plain(reason)
                << "; the store's own stays\n";
    }
  }
  if (wants_json(args)) {
    std::cout << to_output_line({{"added", all.added},
                                 {"continued", all.continued},
                                 {"unchanged", all.unchanged},
                                 {"conflicts", conflicts}})
              << "\n";
  } else {
    std::cout << all.added << " added, " << all.continued << " continued, " << all.unchanged << " unchanged, "
              << conflicts.size() << (conflicts.size() == 1 ? " conflict\n" : " conflicts\n");
  }
  return conflicts.empty() ? 0 : 1;
}

int run_export(const Args& args) {
  const auto store = open_store(args, load_config());
  const runtime::SessionRecord record = find_session(*store, *args.positional(0));
  const std::vector<runtime::Entry> entries = store->load(record.id);
  const std::string format = args.text("format").value_or("json");
  const std::string text = format == "jsonl"      ? session_jsonl(record, entries)
                           : format == "markdown" ? session_markdown(record, entries)
                           : format == "html"     ? session_html(record, entries)
                                                  : runtime::to_line(session_json(record, entries, true)) + "\n";
  std::cout << (is_terminal(1) ? plain(text) : text);
  return 0;
}

Json to_json(const runtime::ReplayedReply& reply) {
  Json json{{"message", reply.seq},
            {"verdict", reply.verdict == Verdict::same        ? "same"
                        : reply.verdict == Verdict::different ? "different"
                                                              : "foreign"},
            {"tokens", reply.tokens}};
  if (reply.verdict != Verdict::different) return json;
  if (!reply.stored.tokens.empty() && !reply.found.tokens.empty()) json["differs_at"] = reply.differs_at;
  json["stored"] = reply.stored.text;
  json["found"] = reply.found.text;
  return json;
}

void print_reply(const runtime::ReplayedReply& reply) {
  std::cout << "message " << reply.seq << ": ";
  if (reply.verdict == Verdict::foreign) {
    std::cout << "another model's, not replayed\n";
  } else if (reply.verdict == Verdict::same) {
    std::cout << reply.tokens << (reply.tokens == 1 ? " token, the same\n" : " tokens, the same\n");
  } else {
    std::cout << "differs";
    if (!reply.stored.tokens.empty() && !reply.found.tokens.empty()) std::cout << " from token " << reply.differs_at;
    std::cout << "\n  stored  " << one_line(reply.stored.text, 200) << "\n  found   " << one_line(reply.found.text, 200)
              << "\n";
  }
}

int run_replay(const Args& args) {
  const Config config = load_config();
  const DeviceWish device = device_wish(args, config);
  const auto store = open_store(args, config);
  const runtime::SessionRecord record = find_session(*store, *args.positional(0));
  const std::vector<runtime::Entry> entries = store->load(record.id);
  const auto model =
      model::Model::load(find_model(args.text("model"), config.model).path, load_options_from(args, device));
  if (model->fingerprint() != record.model_fingerprint && !args.has("model"))
    throw UsageError("session " + record.id + " was begun with the model " + record.model_name + " (" +
                     record.model_fingerprint + "), found " + model->name() + " (" + model->fingerprint() +
                     "): name the file with --model");
  runtime::LocalChatOptions options;
  options.prompt = record.prompt;
  options.sampler = record.sampler;
  options.attention = attention_from(args);
  options.cache_format = cache_format_from(args, options.cache_format.kv);
  options.prefixes = prefix_cache();
  options.context = context_from(args, config, *model);
  options.speculate = speculate_from(args).value_or(options.speculate);
  runtime::LocalChat chat(
      model::Engine::create(model, engine_options_from(args, config, device, *model, options.cache_format)), options);
  const runtime::Interrupt interrupt;
  const auto show = [&](const runtime::ReplayedReply& reply) {
    if (!wants_json(args)) print_reply(reply);
  };
  const auto replies = runtime::replay(chat, entries, model->fingerprint(), show, interrupt.token());
  int64_t tokens = 0, same = 0;
  Json list = Json::array();
  for (const runtime::ReplayedReply& reply : replies) {
    tokens += reply.tokens;
    same += reply.verdict == Verdict::same ? 1 : 0;
    list.push_back(to_json(reply));
  }
  const bool is_same = same == std::ssize(replies) && !interrupt.token().stop_requested();
  if (wants_json(args)) {
    std::cout << to_output_line({{"session_id", record.id}, {"same", is_same}, {"tokens", tokens}, {"replies", list}})
              << "\n";
  } else {
    std::cout << same << " of " << replies.size() << (replies.size() == 1 ? " reply" : " replies") << " the same"
              << (is_same ? ", bit for bit: " + std::to_string(tokens) + " tokens" : "") << "\n";
  }
  if (interrupt.token().stop_requested()) return 130;
  return is_same ? 0 : 1;
}

}  // namespace

std::vector<Command> session_copy_commands() {
  const Positional id{"ID", "an id, the beginning of one, or last"};
  return {{.name = "sessions fork",
           .summary = "Begin a new session with what was said in another, and print its id.",
           .positionals = {id},
           .flags = {{"at", "MESSAGE", "with the messages before this number only, as sessions show counts them"},
                     output_flag({"text", "json"}),
                     db_flag()},
           .examples = {"corvid sessions fork last", "corvid sessions fork last --at 4",
                        "corvid sessions resume $(corvid sessions fork last --at 4) 'and now otherwise'"},
           .notes = "The session that was forked stays as it is.",
           .run = run_fork},
          {.name = "sessions merge",
           .summary = "Take over the sessions of other stores, under their ids.",
           .positionals = {{.name = "FILE", .help = "a store", .completes = Completes::files, .repeats = true}},
           .flags = {output_flag({"text", "json"}), db_flag()},
           .examples = {"corvid sessions merge out/shard-*/corvid.db"},
           .notes = "The same file again changes nothing; a session that went on is continued. One that went on\n"
                    "otherwise in each store is a conflict: it is named, and the store's own stays.\n"
                    "Exit status: 0 everything is there, 1 there are conflicts.",
           .run = run_merge},
          {.name = "sessions export",
           .summary = "Print a session for other programs, or for people.",
           .positionals = {id},
           .flags = {{"format",
                      "FORMAT",
                      "json: all of it in one object (the default); jsonl: a line a message",
                      {"json", "jsonl", "markdown", "html"}},
                     db_flag()},
           .examples = {"corvid sessions export last > session.json",
                        "corvid sessions export last --format html > session.html"},
           .notes = "",
           .run = run_export},
          {.name = "sessions replay",
           .summary = "Let the model make a session's replies again, and say whether they are the same.",
           .positionals = {id},
           .flags = {model_flag(),
                     device_flag(),
                     gpus_flag(),
                     attention_flag(),
                     cache_type_flag("f16"),
                     {"context", "N", "tokens of context, at most"},
                     {"speculate", "N|off", "tokens guessed ahead and verified in one pass, at most (default: 16)"},
                     threads_flag(),
                     weights_flag(),
                     index_type_flag(),
                     cache_memory_flag(),
                     output_flag({"text", "json"}),
                     db_flag()},
           .examples = {"corvid sessions replay last"},
           .notes = "With the stored prompts, seed and tool results: no tool runs, nothing is stored. Flags that a\n"
                    "run was given beyond its sampler's (--attention, --cache-type) have to be given again.\n"
                    "Exit status: 0 the same tokens, bit for bit; 1 not.",
           .run = run_replay}};
}

}  // namespace corvid::agents
