// Keeps a reply from calling a tool that there is not: where a call's name stands, only the tools' names are possible.
//
//   ]<]minimax[>[ <invoke name=" sh | ell | ">      after the marker and the opening, a token is possible when it goes
//   on
//                                ^^   ^^^   ^^      towards a tool's name, or completes one
//
// The model chooses among what is left; everything before the name, and everything behind it, is as it would be
// without.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_format.h"

namespace corvid::model {

// One reply's. Used by one thread. `format` must outlive it.
class ToolNames {
 public:
  // Without tools nothing is ruled out: a call then becomes an error that the model is told of.
  ToolNames(const ChatFormat& format, std::span<const ToolDecl> tools);

  void push(Token token);  // the reply's next token
  // The logits, or, where a name stands, a copy with -inf for the tokens that no name goes on with; valid until the
  // next call. When that would leave none (a tokenizer that can't spell the names), the logits as they are.
  std::span<const float> possible(std::span<const float> logits);
  // Whether possible() is the logits as they are, whatever they are.
  bool is_anything_possible() const { return !is_in_tag_; }

 private:
  bool is_possible(std::string_view more) const;

  const ChatFormat& format_;
  std::vector<std::string> heads_;  // <invoke name="NAME">
  bool is_in_tag_ = false;          // behind a marker, in what may still become the head of a call
  std::string tag_;                 // what was said since the marker
  std::string with_;                // tag_ and a token
  std::vector<float> changed_;      // [vocab]
};

}  // namespace corvid::model
