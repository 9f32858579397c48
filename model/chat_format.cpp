#include "model/chat_format.h"

#include <algorithm>

#include "model/call_markup.h"
#include "model/error.h"

namespace corvid::model {
namespace {

std::string_view thinking_instructions(Thinking thinking) {
  switch (thinking) {
    case Thinking::disabled:
      return "Answer at once, without thinking.";
    case Thinking::enabled:
      return "Think before you answer.";
    case Thinking::adaptive:
      break;
  }
  return "Think before you answer when it helps.";
}

std::string_view trimmed_at_end(std::string_view text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

// Collects special tokens by id and text that is only text. Neighbouring texts are tokenised as one, so that where one
// ends and the next begins leaves no trace in the tokens.
class Writer {
 public:
  explicit Writer(const ChatFormat& format) : format_(format), m_(format.markers()) {}

  void special(Token token) {
    flush();
    tokens_.push_back(token);
  }
  void text(std::string_view text) { text_ += text; }
  void open_turn(std::string_view role) {
    special(m_.turn);
    text(role);
    text("\n");
  }
  void close_turn() {
    special(m_.end);
    text("\n");
  }
  void open_thinking(Thinking thinking) {
    if (thinking == Thinking::enabled) special(m_.think_open);
    if (thinking == Thinking::disabled) special(m_.think_close);
  }
  // Tokens as they were generated, and the end of the turn if they lack it (the reply was cut).
  void generated(std::span<const Token> tokens) {
    flush();
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    if (tokens.back() != m_.end) tokens_.push_back(m_.end);
    text("\n");
  }
  MarkupSink markup() {
    return {[this] { special(m_.call); }, [this](std::string_view part) { text(part); }};
  }
  std::vector<Token> finish() {
    flush();
    return std::move(tokens_);
  }

 private:
  void flush() {
    if (text_.empty()) return;
    const std::vector<Token> tokens = format_.tokenizer().encode_plain(text_);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    text_.clear();
  }

  const ChatFormat& format_;
  const ChatFormat::Markers& m_;
  std::string text_;
  std::vector<Token> tokens_;
};

void write_tools(Writer& out, const std::vector<ToolDecl>& tools) {
  out.text("# Tools\nYou can call these tools:\n<tools>\n");
  for (const ToolDecl& tool : tools) {
    const Json json = {{"name", tool.name}, {"description", tool.description}, {"parameters", tool.parameters}};
    out.text(concat("<tool>", json.dump(-1, ' ', false, Json::error_handler_t::replace), "</tool>\n"));
  }
  out.text("</tools>\n\nA call looks like this:\n");
  const Call example{"example", "NAME", R"({"ARGUMENT":"value"})"};
  write_calls({example}, out.markup());
}

bool has_developer_turn(const Prompt& prompt) {
  return !trimmed_at_end(prompt.instructions).empty() || !prompt.tools.empty();
}

void write_head(Writer& out, const Prompt& prompt) {
  out.open_turn("system");
  out.text(concat("You are corvid, an agent that uses tools.\n\n<thinking_instructions>\n",
                  thinking_instructions(prompt.thinking), "\n</thinking_instructions>"));
  out.close_turn();
  if (!has_developer_turn(prompt)) return;
  const std::string_view instructions = trimmed_at_end(prompt.instructions);
  out.open_turn("developer");
  out.text(instructions);
  if (!instructions.empty() && !prompt.tools.empty()) out.text("\n\n");
  if (!prompt.tools.empty()) write_tools(out, prompt.tools);
  out.close_turn();
}

void write_assistant(Writer& out, const Message& message, Thinking thinking, int64_t vocab_size) {
  out.open_turn("ai");
  const auto is_known = [&](Token token) { return token >= 0 && token < vocab_size; };
  if (!message.tokens.empty() && std::all_of(message.tokens.begin(), message.tokens.end(), is_known)) {
    out.open_thinking(thinking);
    out.generated(message.tokens);
    return;
  }
  if (!message.reasoning.empty()) {
    out.open_thinking(Thinking::enabled);
    out.text(message.reasoning);
  }
  out.open_thinking(Thinking::disabled);  // the closing tag: after reasoning, and alone without
  out.text(message.text);
  if (!message.calls.empty()) write_calls(message.calls, out.markup());
  out.close_turn();
}

}  // namespace

ChatFormat::ChatFormat(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {
  const auto need = [&](std::string_view text) {
    const std::optional<Token> token = tokenizer.special(text);
    if (!token) fail("tokenizer: want the special token ", text, " of the MiniMax-M3 chat format, found none");
    return *token;
  };
  markers_ = {need("]~!b["), need("]~b]"), need("[e~["), need(kCallMarker), need("<mm:think>"), need("</mm:think>")};
}

std::vector<Token> ChatFormat::render(const Prompt& prompt, std::span<const Message> messages) const {
  Writer out(*this);
  out.special(markers_.begin);
  write_head(out, prompt);
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    switch (message.role) {
      case Role::system:
      case Role::user:
        out.open_turn(message.role == Role::user ? "user" : "developer");
        out.text(message.text);
        out.close_turn();
        break;
      case Role::assistant:
        write_assistant(out, message, prompt.thinking, tokenizer_->vocab_size());
        break;
      case Role::tool: {
        const bool is_first = i == 0 || messages[i - 1].role != Role::tool;
        const bool is_last = i + 1 == messages.size() || messages[i + 1].role != Role::tool;
        if (is_first) out.open_turn("tool");
        out.text(concat(is_first ? "" : "\n", "<response>", message.text, "</response>"));
        if (is_last) out.close_turn();
        break;
      }
    }
  }
  out.open_turn("ai");
  out.open_thinking(prompt.thinking);
  return out.finish();
}

int64_t ChatFormat::fixed_tokens(const Prompt& prompt, std::span<const Token> rendered) const {
  int turns = has_developer_turn(prompt) ? 2 : 1;  // no text can become the marker
  const auto next = std::find_if(rendered.begin(), rendered.end(),
                                 [&](Token token) { return token == markers_.turn && turns-- == 0; });
  return next - rendered.begin() + (next != rendered.end());
}

}  // namespace corvid::model
