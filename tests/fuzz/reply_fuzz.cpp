// Replies, as arbitrary sequences of tokens: nothing that the model said gets lost, and what was shown stays.
// Bytes 1 to 4 are the special tokens of the format, 5 takes any token by the two bytes behind it, 6 is the name of a
// parameter in a tag; all others are tokens of one byte.
#include <array>

#include "model/utf8.h"
#include "tests/fuzz/target.h"
#include "tests/support/golden_chat.h"

namespace corvid {
namespace {

using model::Token;

std::vector<Token> tokens_of(std::string_view input) {
  const model::Tokenizer& tokenizer = test::chat_tokenizer();
  const model::ChatFormat::Markers& m = test::chat_format().markers();
  const std::array<Token, 4> markers = {m.call, m.think_open, m.think_close, m.end};
  std::vector<Token> tokens;
  for (size_t i = 0; i < input.size(); ++i) {
    const auto byte = static_cast<unsigned char>(input[i]);
    if (byte >= 1 && byte <= markers.size()) {
      tokens.push_back(markers[byte - 1]);
    } else if (byte == 5 && i + 2 < input.size()) {
      const int number = static_cast<unsigned char>(input[i + 1]) << 8 | static_cast<unsigned char>(input[i + 2]);
      tokens.push_back(static_cast<Token>(number % tokenizer.vocab_size()));
      i += 2;
    } else {
      tokens.push_back(tokenizer.encode_plain(input.substr(i, 1))[0]);
    }
  }
  return tokens;
}

bool is_valid(std::string_view text) {
  while (!text.empty()) {
    const int length = model::utf8_length(text);
    if (length <= 0) return false;
    text.remove_prefix(static_cast<size_t>(length));
  }
  return true;
}

// How often each visible ASCII character comes.
std::array<int64_t, 128> letters(std::string_view text) {
  std::array<int64_t, 128> counts{};
  for (const char c : text) {
    if (c > ' ' && c < 127) ++counts[static_cast<size_t>(c)];
  }
  return counts;
}

// Of a reply without calls and special tokens, all that is visible ASCII is text or reasoning but for thinking tags.
void must_keep_the_text(std::string_view said, const model::Message& message) {
  std::array<int64_t, 128> missing = letters(said);
  const auto take = [&](const std::array<int64_t, 128>& counts, int64_t times) {
    for (size_t c = 0; c < counts.size(); ++c) missing[c] -= counts[c] * times;
  };
  take(letters(message.text), 1);
  take(letters(message.reasoning), 1);
  const int64_t closed = missing['/'], opened = missing['<'] - closed;
  fuzz::must(closed >= 0 && opened >= 0, "no text is made up");
  take(letters("</mm:think>"), closed);
  take(letters("<mm:think>"), opened);
  for (const int64_t count : missing) fuzz::must(count == 0, "no text is lost");
}

}  // namespace
}  // namespace corvid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace corvid;
  const std::string_view input = fuzz::text_of(data, size);
  if (input.empty()) return 0;
  model::Prompt prompt = test::golden_prompt();
  prompt.thinking = static_cast<model::Thinking>(data[0] % 3);
  const std::vector<Token> tokens = tokens_of(input.substr(1));
  const model::ChatFormat& format = test::chat_format();
  model::ReplyParser parser(format, prompt, "call_", 1);
  std::string shown, said;
  std::vector<Token> taken;
  bool is_plain = true;
  for (const Token token : tokens) {
    if (!parser.is_done()) taken.push_back(token);
    const std::string visible = parser.push(token);
    fuzz::must(is_valid(visible), "what is shown is UTF-8");
    shown += visible;
    is_plain = is_plain && !format.tokenizer().is_special(token);
    said += format.tokenizer().piece(token);
  }
  const model::ReplyParser::Result result = parser.finish();
  fuzz::must(result.message.tokens == taken, "a reply keeps its tokens");
  fuzz::must(result.message.text.starts_with(shown), "what was shown stays");
  fuzz::must(is_valid(result.message.text) && is_valid(result.message.reasoning), "a message is UTF-8");
  for (const model::Call& call : result.message.calls) {
    fuzz::must(nlohmann::json::accept(call.args), "a call's arguments are JSON");
  }
  if (is_plain) must_keep_the_text(said, result.message);
  // What was read can be put back into a prompt.
  std::vector<model::Message> messages(1);
  messages[0].text = "go";
  messages.push_back(result.message);
  format.render(prompt, messages);
  return 0;
}
