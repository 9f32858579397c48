#include <algorithm>

#include "model/call_markup.h"
#include "model/chat_format.h"
#include "model/error.h"
#include "model/utf8.h"

namespace corvid::model {
namespace {

constexpr std::string_view kOpen = "<mm:think>", kClose = "</mm:think>";

bool begins_with(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

// Length of the longest end of `text` that begins `marker` without being all of it.
size_t held_for(std::string_view text, std::string_view marker) {
  for (size_t length = std::min(text.size(), marker.size() - 1); length > 0; --length) {
    if (begins_with(marker, text.substr(text.size() - length))) return length;
  }
  return 0;
}

}  // namespace

struct ReplyParser::Impl {
  // start: nothing visible yet, a thinking tag may come; text: visible; call: the block, and all that follows it.
  enum class State : uint8_t { start, reasoning, text, call };

  const ChatFormat& format;
  std::vector<ToolDecl> tools;
  std::string call_id_prefix;
  int64_t next_call;
  State state;
  bool is_done = false;
  Message message;
  std::string held;  // in start and reasoning: bytes that may begin a thinking tag
  Utf8Stream text, reasoning;
  CallReader calls;
  std::string markup;  // the raw text of the block

  Impl(const ChatFormat& chat_format, const Prompt& prompt, std::string prefix, int64_t first)
      : format(chat_format),
        tools(prompt.tools),
        call_id_prefix(std::move(prefix)),
        next_call(first),
        state(prompt.thinking == Thinking::enabled ? State::reasoning : State::start),
        calls(tools) {
    message.role = Role::assistant;
  }
  Impl(const Impl&) = delete;  // `calls` refers to `tools`

  std::string show(std::string_view bytes) {
    std::string visible = text.push(bytes);
    message.text += visible;
    return visible;
  }

  // Takes what ordinary tokens say.
  std::string bytes(std::string_view piece) {
    if (state == State::call) {
      calls.text(piece);
      markup += piece;
      return "";
    }
    if (state == State::text) return show(piece);
    held += piece;
    while (true) {
      if (state == State::reasoning) {
        const size_t end = held.find(kClose);
        const size_t certain = end == std::string::npos ? held.size() - held_for(held, kClose) : end;
        message.reasoning += reasoning.push(std::string_view(held).substr(0, certain));
        held.erase(0, end == std::string::npos ? certain : certain + kClose.size());
        if (end == std::string::npos) return "";
        close_reasoning();
        continue;
      }
      const size_t space = std::min(held.find_first_not_of(" \t\r\n"), held.size());
      const std::string_view rest = std::string_view(held).substr(space);
      if (begins_with(rest, kOpen)) {
        held.erase(0, space + kOpen.size());
        state = State::reasoning;
      } else if (begins_with(rest, kClose)) {
        held.erase(0, space + kClose.size());
      } else if (begins_with(kOpen, rest) || begins_with(kClose, rest)) {
        return "";  // also when nothing but white space has come
      } else {
        return release();
      }
    }
  }

  // What was held is no tag.
  std::string release() {
    const std::string what = std::move(held);
    held.clear();
    if (state == State::reasoning) {
      message.reasoning += reasoning.push(what);
      return "";
    }
    if (state != State::start || is_blank(what)) return "";
    state = State::text;
    return show(what);
  }

  void close_reasoning() {
    message.reasoning += reasoning.finish();
    state = State::start;
  }

  // Ends text or reasoning for good: nothing waits any more.
  std::string settle() {
    std::string visible = release();
    if (state == State::reasoning) close_reasoning();
    const std::string rest = text.finish();
    message.text += rest;
    return visible + rest;
  }

  std::string push(Token token) {
    const std::string_view piece = format.tokenizer().piece(token);
    const ChatFormat::Markers& m = format.markers();
    message.tokens.push_back(token);
    if (token == m.end) {
      is_done = true;
      return state == State::call ? "" : settle();
    }
    if (token == m.call) {
      // Reasoning may lack its closing tag before a call.
      std::string visible = state == State::call ? "" : settle();
      state = State::call;
      calls.marker();
      markup += piece;
      return visible;
    }
    if (state == State::call) return bytes(piece);
    if (token == m.think_open || token == m.think_close) {
      std::string visible = release();
      if (state == State::reasoning && token == m.think_close) {
        close_reasoning();
      } else if (token == m.think_open && state != State::reasoning) {
        state = State::reasoning;
      }
      return visible;
    }
    if (format.tokenizer().is_special(token)) return "";  // markup of turns has no place in a reply
    return bytes(piece);
  }

  Result finish() {
    Result result;
    if (state == State::call) {
      CallReader::Result read = calls.finish(!is_done);
      result.error = read.error;
      if (result.error.empty() && read.is_unfinished) {
        result.error = is_done ? "call markup: the reply ended inside a call" : "the reply was cut inside a call";
      }
      // A cut is nobody's mistake: the calls before it stand. Wrong markup is shown, and none of it is carried out.
      if (result.error.empty() || (read.error.empty() && !is_done)) {
        for (Call& call : read.calls) {
          call.id = concat(call_id_prefix, next_call++);
          message.calls.push_back(std::move(call));
        }
      } else {
        message.text += text.push(markup) + text.finish();
      }
    } else {
      settle();
    }
    result.message = std::move(message);
    return result;
  }
};

ReplyParser::ReplyParser(const ChatFormat& format, const Prompt& prompt, std::string call_id_prefix,
                         int64_t first_call_number)
    : impl_(std::make_unique<Impl>(format, prompt, std::move(call_id_prefix), first_call_number)) {}
ReplyParser::ReplyParser(ReplyParser&&) noexcept = default;
ReplyParser::~ReplyParser() = default;

std::string ReplyParser::push(Token token) { return impl_->is_done ? "" : impl_->push(token); }
bool ReplyParser::is_done() const { return impl_->is_done; }
ReplyParser::Result ReplyParser::finish() { return impl_->finish(); }

}  // namespace corvid::model
