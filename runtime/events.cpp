#include "runtime/events.h"

#include <cmath>
#include <string_view>

namespace corvid::runtime {

namespace {

// The one place where an end becomes what users see.
struct EndRow {
  End end;
  const char* text;
  RunStatus status;
};
constexpr EndRow kEnds[] = {
    {End::answered, "answered", RunStatus::completed},   {End::turn_limit, "turn_limit", RunStatus::limit},
    {End::token_limit, "token_limit", RunStatus::limit}, {End::call_limit, "call_limit", RunStatus::limit},
    {End::time_limit, "time_limit", RunStatus::limit},   {End::context_limit, "context_limit", RunStatus::limit},
    {End::loop_limit, "loop_limit", RunStatus::limit},   {End::cancelled, "cancelled", RunStatus::interrupted},
};
struct StatusRow {
  RunStatus status;
  const char* text;
  int exit_code;
};
constexpr StatusRow kStatuses[] = {
    {RunStatus::completed, "completed", 0},
    {RunStatus::limit, "limit", 3},
    {RunStatus::error, "error", 1},
    {RunStatus::interrupted, "interrupted", 130},
};
static_assert(kEnds[size_t(End::cancelled)].end == End::cancelled);
static_assert(kStatuses[size_t(RunStatus::interrupted)].status == RunStatus::interrupted);

// Three decimals are enough of a millisecond, and keep the lines short.
double rounded(double ms) { return std::round(ms * 1000) / 1000; }

Json to_json(const TokenLogprob& token) {
  // Six decimals: beyond them libm's logarithms differ between platforms. + 0.0 makes a zero of -0.0.
  return {{"id", token.id}, {"token", token.text}, {"logprob", std::round(token.logprob * 1e6) / 1e6 + 0.0}};
}

// What the model wrote, as JSON when it is JSON.
Json arguments(const model::Call& call) {
  Json json = Json::parse(call.args, nullptr, /*allow_exceptions=*/false);
  return json.is_discarded() ? Json(call.args) : json;
}

Json to_json(const ToolCallRecord& record) {
  Json json{
      {"name", record.call.name}, {"arguments", arguments(record.call)}, {"status", tools::to_text(record.status)}};
  if (record.exit_code) json["exit_code"] = *record.exit_code;
  json["duration_ms"] = rounded(record.duration_ms);
  return json;
}

struct EventToJson {
  Json operator()(const SessionEvent& e) const {
    Json json{{"event", "session"}, {"session_id", e.session_id}, {"resumed", e.is_resumed}};
    if (!e.notice.empty()) json["notice"] = e.notice;
    return json;
  }
  Json operator()(const TokenEvent& e) const {
    Json json{{"event", "token"}, {"text", e.piece.text}};
    if (e.piece.logprobs) {
      json["logprobs"] = to_json(e.piece.logprobs->chosen);
      Json& top = json["logprobs"]["top"] = Json::array();
      for (const TokenLogprob& token : e.piece.logprobs->top) top.push_back(to_json(token));
    }
    return json;
  }
  Json operator()(const ToolCallEvent& e) const {
    return {{"event", "tool_call"}, {"id", e.call.id}, {"name", e.call.name}, {"arguments", arguments(e.call)}};
  }
  Json operator()(const ToolResultEvent& e) const {
    Json json{{"event", "tool_result"}, {"id", e.record.call.id}};
    json.update(to_json(e.record));
    json.erase("arguments");
    json["text"] = e.text;
    return json;
  }
  Json operator()(const MessageEvent& e) const {
    Json json{{"event", "message"}, {"seq", e.seq}, {"role", to_text(e.message.role)}, {"text", e.message.text}};
    if (!e.message.reasoning.empty()) json["reasoning"] = e.message.reasoning;
    if (!e.message.call_id.empty()) json["call_id"] = e.message.call_id;
    for (const model::Call& call : e.message.calls)
      json["tool_calls"].push_back({{"id", call.id}, {"name", call.name}, {"arguments", arguments(call)}});
    return json;
  }
  Json operator()(const DoneEvent& e) const {
    Json json{{"event", "done"}};
    json.update(runtime::to_json(e.result));
    return json;
  }
};

}  // namespace

const char* to_text(model::Role role) {
  switch (role) {
    case model::Role::system:
      return "system";
    case model::Role::user:
      return "user";
    case model::Role::assistant:
      return "assistant";
    case model::Role::tool:
      return "tool";
  }
  return "";
}

const char* to_text(End end) { return kEnds[size_t(end)].text; }
RunStatus status_of(End end) { return kEnds[size_t(end)].status; }
const char* to_text(RunStatus status) { return kStatuses[size_t(status)].text; }
int exit_code(RunStatus status) { return kStatuses[size_t(status)].exit_code; }

Json to_json(const RunResult& result) {
  Json json{{"session_id", result.session_id}, {"status", to_text(result.status)}, {"answer", result.answer}};
  if (result.status != RunStatus::completed) json["error"] = result.error;
  json["turns"] = result.turns;
  json["tool_calls"] = Json::array();
  for (const ToolCallRecord& record : result.tool_calls) json["tool_calls"].push_back(to_json(record));
  json["usage"] = {
      {"prompt_tokens", result.usage.prompt_tokens},         {"cached_tokens", result.usage.cached_tokens},
      {"completion_tokens", result.usage.completion_tokens}, {"prefill_ms", rounded(result.usage.prefill_ms)},
      {"decode_ms", rounded(result.usage.decode_ms)},        {"tool_ms", rounded(result.tool_ms)},
      {"drafted_tokens", result.usage.drafted_tokens},       {"accepted_tokens", result.usage.accepted_tokens}};
  return json;
}

Json to_json(const Event& event) { return std::visit(EventToJson{}, event); }

std::string to_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace corvid::runtime
