// A Chat that replays replies: the scripted twin of LocalChat for tests of the loop and everything above it.
#pragma once
#include <deque>
#include <functional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/chat.h"

namespace corvid::test {

// Gives its replies one after the other; a reply may also be a function of the messages. Remembers what it was shown.
// Asked for more replies than it has, it throws std::logic_error, which fails the test as an error status.
class ScriptedChat final : public runtime::Chat {
 public:
  using Answer = std::function<runtime::Reply(std::span<const model::Message>, std::stop_token)>;

  ScriptedChat& says(std::string text) {
    runtime::Reply reply;
    reply.message.role = model::Role::assistant;
    reply.message.text = std::move(text);
    return gives(std::move(reply));
  }
  // One message with these calls, each {tool name, arguments as JSON}.
  ScriptedChat& calls(std::vector<std::pair<std::string, std::string>> calls) {
    runtime::Reply reply;
    reply.message.role = model::Role::assistant;
    for (auto& [name, args] : calls)
      reply.message.calls.push_back({"call_" + std::to_string(++n_calls_), std::move(name), std::move(args)});
    return gives(std::move(reply));
  }
  ScriptedChat& gives(runtime::Reply reply) {
    if (reply.usage.completion_tokens == 0) reply.usage = {100, 90, 10, 2.0, 3.0};
    answers_.push_back([reply = std::move(reply)](auto, auto) { return reply; });
    return *this;
  }
  ScriptedChat& answers(Answer answer) {
    answers_.push_back(std::move(answer));
    return *this;
  }

  runtime::Reply reply(std::span<const model::Message> messages, int64_t max_tokens, const OnPiece& on_piece,
                       std::stop_token stop) override {
    seen.emplace_back(messages.begin(), messages.end());
    max_tokens_seen.push_back(max_tokens);
    if (answers_.empty()) throw std::logic_error("ScriptedChat: no reply left");
    const Answer answer = std::move(answers_.front());
    answers_.pop_front();
    runtime::Reply reply = answer(messages, stop);
    if (on_piece && !reply.message.text.empty()) on_piece({reply.message.text, std::nullopt});
    return reply;
  }

  std::vector<std::vector<model::Message>> seen;  // the messages of each request
  std::vector<int64_t> max_tokens_seen;

 private:
  std::deque<Answer> answers_;
  int64_t n_calls_ = 0;
};

}  // namespace corvid::test
