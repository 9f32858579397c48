// Messages <-> tokens in MiniMax-M3's chat format. This folder alone knows the template.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/message.h"
#include "model/tokenizer.h"

namespace corvid::model {

using Json = nlohmann::ordered_json;

// What the model is told of a tool. `parameters` is a JSON Schema of type object.
struct ToolDecl {
  std::string name;
  std::string description;
  Json parameters;
};

enum class Thinking : uint8_t { disabled, enabled, adaptive };

struct Prompt {
  std::string instructions;  // the developer turn's text
  std::vector<ToolDecl> tools;
  Thinking thinking = Thinking::disabled;
};

class ChatFormat {
 public:
  // Throws std::runtime_error when the tokenizer lacks a special token that the format needs. Keeps a reference:
  // the tokenizer must outlive this object.
  explicit ChatFormat(const Tokenizer& tokenizer);

  // The system and developer turns, the messages, and the header of the assistant's next turn. No text in `prompt` or
  // `messages` can become a special token. An assistant message with `tokens` is put back exactly as generated, behind
  // what `prompt.thinking` opens a turn with. A message of role system becomes a developer turn of its own.
  // Throws std::invalid_argument naming the call when a message without tokens has a call that can't be written (its
  // arguments are no JSON object, or an argument's name can't be a tag).
  std::vector<Token> render(const Prompt& prompt, std::span<const Message> messages) const;

  // How many tokens of what render() made are the same whatever the messages: instructions, tools, and the marker that
  // opens the next turn.
  int64_t fixed_tokens(const Prompt& prompt, std::span<const Token> rendered) const;

  bool is_end_of_turn(Token token) const { return token == markers_.end; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }

  struct Markers {
    Token begin;                    // ]~!b[           once, at the very start
    Token turn, end;                // ]~b]  [e~[      around a turn
    Token call;                     // ]<]minimax[>[   before every tag of call markup
    Token think_open, think_close;  // <mm:think>  </mm:think>
  };
  const Markers& markers() const { return markers_; }

 private:
  const Tokenizer* tokenizer_;
  Markers markers_;
};

// Turns one assistant turn's tokens into a Message as they come. One parser per reply; not thread-safe.
//
// Call markup begins with the special token ]<]minimax[>[ alone: the same text in ordinary tokens is text, so a file
// that the model quotes can't make it call anything. Thinking tags also count when the model spells them in ordinary
// tokens, where it means them: an opening one before any visible text, a closing one inside reasoning.
class ReplyParser {
 public:
  // `format` must outlive the parser. Whether the reply begins inside reasoning follows from prompt.thinking, as the
  // prompt that render() made ends. Ids of calls are the prefix and a number: "call_1", "call_2".
  ReplyParser(const ChatFormat& format, const Prompt& prompt, std::string call_id_prefix, int64_t first_call_number);
  ReplyParser(ReplyParser&&) noexcept;
  ~ReplyParser();

  // Takes the next token; returns the visible answer text that is certain by now (no markup, no reasoning; complete
  // UTF-8 sequences; bytes that are no UTF-8 as U+FFFD), often empty. All of it together begins Message::text. Throws
  // std::invalid_argument for an id outside the vocabulary. Tokens after the end of the turn are ignored.
  std::string push(Token token);
  // True once the turn is complete: end-of-turn token seen.
  bool is_done() const;
  // Ends the turn; call it once. An unfinished call (cut by a token limit) is dropped and `error` says so; markup that
  // is no valid call leaves its raw text in Message::text, no calls, and `error` says what was wrong.
  struct Result {
    Message message;
    std::string error;  // empty when the turn parsed
  };
  Result finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corvid::model
