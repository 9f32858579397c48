// Messages <-> tokens in MiniMax-M3's chat format. This folder alone knows the template.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

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
  // `messages` can become a special token. An assistant message with `tokens` is put back exactly as generated.
  std::vector<Token> render(const Prompt& prompt, std::span<const Message> messages) const;

  bool is_end_of_turn(Token token) const;
  const Tokenizer& tokenizer() const { return *tokenizer_; }

 private:
  const Tokenizer* tokenizer_;
};

// Turns one assistant turn's tokens into a Message as they come. One parser per reply; not thread-safe.
class ReplyParser {
 public:
  ReplyParser(const ChatFormat& format, const Prompt& prompt, std::string call_id_prefix, int64_t first_call_number);
  ReplyParser(ReplyParser&&) noexcept;
  ~ReplyParser();

  // Takes the next token; returns the visible answer text that is certain by now (no markup, no reasoning; complete
  // UTF-8 sequences), often empty.
  std::string push(Token token);
  // True once the turn is complete: end-of-turn token seen.
  bool is_done() const;
  // Ends the turn. An unfinished call (cut by a token limit) is dropped and `error` says so; markup that is no valid
  // call leaves its raw text in Message::text and `error` says what was wrong.
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
