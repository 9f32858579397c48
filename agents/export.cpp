#include "agents/export.h"

#include <algorithm>
#include <ctime>

#include "runtime/sampler_json.h"
#include "tools/text.h"

namespace corvid::agents {

namespace {

using runtime::Entry;
using runtime::Json;
using runtime::SessionRecord;

constexpr const char* kPageHead = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
  :root { color-scheme: light dark; }
  body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 55rem; padding: 0 1rem; }
  h1 { font-size: 1.3rem; }
  dl { display: grid; grid-template-columns: 8rem 1fr; gap: .1rem .6rem; }
  dt, .what { color: #777; }
  dd { margin: 0; }
  section { border-left: 3px solid #8884; margin: 1rem 0; padding: .1rem .8rem; }
  section.user { border-color: #36c; }
  section.assistant { border-color: #2a7d46; }
  pre { margin: .2rem 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.4 ui-monospace, monospace; }
</style>
)";

Json head_json(const SessionRecord& record) {
  Json json = {{"session_id", record.id},
               {"status", record.status},
               {"created", iso_time(record.created_ms)},
               {"updated", iso_time(record.updated_ms)},
               {"workdir", record.workdir.string()},
               {"agent", record.agent},
               {"model", record.model_name},
               {"model_fingerprint", record.model_fingerprint},
               {"instructions", record.prompt.instructions}};
  if (!record.parent.empty()) json["parent"] = record.parent;
  return json;
}

// `is_whole`: with what a replay elsewhere would take.
Json message_json(const Entry& entry, size_t seq, bool is_whole) {
  const model::Message& message = entry.message;
  Json json = {{"seq", seq},
               {"role", runtime::to_text(message.role)},
               {"created", iso_time(entry.created_ms)},
               {"text", message.text}};
  if (!message.reasoning.empty()) json["reasoning"] = message.reasoning;
  for (const model::Call& call : message.calls) {
    Json arguments = Json::parse(call.args, nullptr, false);
    if (arguments.is_discarded()) arguments = call.args;
    json["calls"].push_back({{"id", call.id}, {"name", call.name}, {"arguments", std::move(arguments)}});
  }
  if (!message.call_id.empty()) json["call_id"] = message.call_id;
  if (entry.result) {
    json["status"] = tools::to_text(entry.result->status);
    if (entry.result->exit_code) json["exit_code"] = *entry.result->exit_code;
    json["duration_ms"] = entry.result->duration_ms;
  }
  if (entry.usage) {
    json["usage"] = {{"prompt_tokens", entry.usage->prompt_tokens},
                     {"cached_tokens", entry.usage->cached_tokens},
                     {"completion_tokens", entry.usage->completion_tokens},
                     {"prefill_ms", entry.usage->prefill_ms},
                     {"decode_ms", entry.usage->decode_ms}};
  }
  if (!is_whole) return json;
  if (!message.tokens.empty()) json["tokens"] = message.tokens;
  if (!entry.model_fingerprint.empty()) json["model_fingerprint"] = entry.model_fingerprint;
  return json;
}

// Between more backticks than stand together in it.
std::string fenced(const std::string& text) {
  size_t longest = 2;
  for (size_t i = 0, run = 0; i < text.size(); ++i) {
    run = text[i] == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fence + "\n" + text + (text.ends_with('\n') ? "" : "\n") + fence + "\n";
}

// "assistant", "tool: ok, 12 ms"
std::string title_of(const Entry& entry) {
  std::string title = runtime::to_text(entry.message.role);
  if (!entry.result) return title;
  return title + ": " + tools::to_text(entry.result->status) + ", " +
         std::to_string(static_cast<int64_t>(entry.result->duration_ms + 0.5)) + " ms";
}

std::string html(const std::string& text) {
  std::string out;
  for (const char c : tools::to_valid_utf8(text)) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c;
  }
  return out;
}

// The record's lines for people.
std::vector<std::pair<std::string, std::string>> facts_of(const SessionRecord& record) {
  std::vector<std::pair<std::string, std::string>> facts = {
      {"status", record.status},    {"folder", record.workdir.string()},      {"agent", record.agent},
      {"model", record.model_name}, {"started", iso_time(record.created_ms)}, {"touched", iso_time(record.updated_ms)}};
  if (!record.parent.empty()) facts.emplace_back("forked from", record.parent);
  return facts;
}

}  // namespace

std::string iso_time(int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

Json session_json(const SessionRecord& record, const std::vector<Entry>& entries, bool is_whole) {
  Json json = head_json(record);
  if (is_whole) {
    json["sampler"] = runtime::to_json(record.sampler);
    json["tools"] = Json::array();
  }
  for (const model::ToolDecl& tool : record.prompt.tools)
    json["tools"].push_back(
        is_whole ? Json{{"name", tool.name}, {"description", tool.description}, {"parameters", tool.parameters}}
                 : Json(tool.name));
  json["messages"] = Json::array();
  for (size_t i = 0; i < entries.size(); ++i) json["messages"].push_back(message_json(entries[i], i, is_whole));
  return json;
}

std::string session_jsonl(const SessionRecord& record, const std::vector<Entry>& entries) {
  Json head = {{"type", "session"}};
  const Json whole = session_json(record, {}, true);
  for (const auto& [key, value] : whole.items()) {
    if (key != "messages") head[key] = value;
  }
  std::string lines = runtime::to_line(head) + "\n";
  for (size_t i = 0; i < entries.size(); ++i) {
    Json line = {{"type", "message"}};
    line.update(message_json(entries[i], i, true));
    lines += runtime::to_line(line) + "\n";
  }
  return lines;
}

std::string session_markdown(const SessionRecord& record, const std::vector<Entry>& entries) {
  std::string out = "# Session " + record.id + "\n\n";
  for (const auto& [name, value] : facts_of(record)) out += "- " + name + ": " + tools::one_line(value) + "\n";
  for (const Entry& entry : entries) {
    const model::Message& message = entry.message;
    out += "\n## " + title_of(entry) + "\n\n";
    if (!message.text.empty()) out += fenced(tools::to_valid_utf8(message.text));
    for (const model::Call& call : message.calls)
      out += "\nCalls `" + call.name + "`:\n\n" + fenced(tools::to_valid_utf8(call.args));
  }
  return out;
}

std::string session_html(const SessionRecord& record, const std::vector<Entry>& entries) {
  std::string out = kPageHead + ("<title>Session " + html(record.id) + "</title>\n</head>\n<body>\n<h1>Session " +
                                 html(record.id) + "</h1>\n<dl>\n");
  for (const auto& [name, value] : facts_of(record)) out += "<dt>" + name + "</dt><dd>" + html(value) + "</dd>\n";
  out += "</dl>\n";
  for (const Entry& entry : entries) {
    const model::Message& message = entry.message;
    out += std::string("<section class=\"") + runtime::to_text(message.role) + "\">\n<span class=\"what\">" +
           html(title_of(entry)) + "</span>\n";
    if (!message.text.empty()) out += "<pre>" + html(message.text) + "</pre>\n";
    for (const model::Call& call : message.calls)
      out += "<pre>→ " + html(call.name) + " " + html(call.args) + "</pre>\n";
    out += "</section>\n";
  }
  return out + "</body>\n</html>\n";
}

}  // namespace corvid::agents
