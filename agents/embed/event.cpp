// What a host sees of a run's events and results, and their JSON.
#include "agents/embed/parts.h"

namespace corvid {
inline namespace v1 {

namespace {

// The public enums have the runtime's words in the same order.
static_assert(int(Status::interrupted) == int(runtime::RunStatus::interrupted));
static_assert(int(ToolStatus::cancelled) == int(tools::Status::cancelled));
static_assert(int(Role::tool) == int(model::Role::tool));

ToolCall to_public(const model::Call& call) { return {call.id, call.name, call.args}; }
model::Call to_inner(const ToolCall& call) { return {call.id, call.name, call.arguments}; }

ToolUse to_public(const runtime::ToolCallRecord& record) {
  return {to_public(record.call), v1::to_public(record.status), record.exit_code, record.duration_ms};
}
runtime::ToolCallRecord to_inner(const ToolUse& use) {
  return {to_inner(use.call), to_tools(use.status), use.exit_code, use.duration_ms};
}

model::Message to_inner(const Message& message) {
  model::Message inner;
  inner.role = model::Role(message.role);
  inner.text = message.text;
  inner.reasoning = message.reasoning;
  inner.call_id = message.call_id;
  for (const ToolCall& call : message.calls) inner.calls.push_back(to_inner(call));
  return inner;
}

runtime::RunResult to_inner(const Result& result) {
  runtime::RunResult inner;
  inner.session_id = result.session_id;
  inner.status = runtime::RunStatus(result.status);
  inner.answer = result.answer;
  inner.error = result.error;
  inner.turns = result.turns;
  for (const ToolUse& use : result.tool_calls) inner.tool_calls.push_back(to_inner(use));
  const Usage& usage = result.usage;
  inner.usage = {usage.prompt_tokens, usage.cached_tokens,  usage.completion_tokens, usage.prefill_ms,
                 usage.decode_ms,     usage.drafted_tokens, usage.accepted_tokens};
  inner.tool_ms = usage.tool_ms;
  return inner;
}

struct ToPublic {
  Event operator()(const runtime::SessionEvent& e) const { return SessionEvent{e.session_id, e.is_resumed, e.notice}; }
  Event operator()(const runtime::TokenEvent& e) const { return TokenEvent{e.piece.text}; }
  Event operator()(const runtime::ToolCallEvent& e) const { return ToolCallEvent{to_public(e.call)}; }
  Event operator()(const runtime::ToolResultEvent& e) const { return ToolResultEvent{to_public(e.record), e.text}; }
  Event operator()(const runtime::MessageEvent& e) const { return MessageEvent{e.seq, v1::to_public(e.message)}; }
  Event operator()(const runtime::DoneEvent& e) const { return DoneEvent{v1::to_public(e.result)}; }
};

struct ToInner {
  runtime::Event operator()(const SessionEvent& e) const {
    return runtime::SessionEvent{e.session_id, e.is_resumed, e.notice};
  }
  runtime::Event operator()(const TokenEvent& e) const { return runtime::TokenEvent{{e.text, std::nullopt}}; }
  runtime::Event operator()(const ToolCallEvent& e) const { return runtime::ToolCallEvent{to_inner(e.call)}; }
  runtime::Event operator()(const ToolResultEvent& e) const {
    return runtime::ToolResultEvent{to_inner(e.use), e.text};
  }
  runtime::Event operator()(const MessageEvent& e) const { return runtime::MessageEvent{e.seq, to_inner(e.message)}; }
  runtime::Event operator()(const DoneEvent& e) const { return runtime::DoneEvent{to_inner(e.result)}; }
};

}  // namespace

ToolStatus to_public(tools::Status status) { return ToolStatus(status); }
tools::Status to_tools(ToolStatus status) { return tools::Status(status); }

Message to_public(const model::Message& message) {
  Message outer{Role(message.role), message.text, message.reasoning, {}, message.call_id};
  for (const model::Call& call : message.calls) outer.calls.push_back(to_public(call));
  return outer;
}

Result to_public(const runtime::RunResult& result) {
  Result outer{result.session_id, Status(result.status), result.answer, result.error, result.turns, {}, {}};
  for (const runtime::ToolCallRecord& record : result.tool_calls) outer.tool_calls.push_back(to_public(record));
  const runtime::Usage& usage = result.usage;
  outer.usage = {usage.prompt_tokens, usage.cached_tokens,  usage.completion_tokens, usage.prefill_ms,
                 usage.decode_ms,     usage.drafted_tokens, usage.accepted_tokens,   result.tool_ms};
  return outer;
}

Event to_public(const runtime::Event& event) { return std::visit(ToPublic{}, event); }

const char* to_text(Status status) noexcept { return runtime::to_text(runtime::RunStatus(status)); }
const char* to_text(ToolStatus status) noexcept { return tools::to_text(to_tools(status)); }
const char* to_text(Role role) noexcept { return runtime::to_text(model::Role(role)); }

std::string to_json(const Result& result) { return runtime::to_line(runtime::to_json(to_inner(result))); }
std::string to_json(const Event& event) { return runtime::to_line(runtime::to_json(std::visit(ToInner{}, event))); }

}  // namespace v1
}  // namespace corvid
