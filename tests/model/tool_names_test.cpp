#include "model/tool_names.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/golden_chat.h"

namespace corvid::model {
namespace {

using test::chat_format;
using test::chat_tokenizer;

std::vector<ToolDecl> tools_named(const std::vector<std::string>& names) {
  std::vector<ToolDecl> tools;
  for (const std::string& name : names) tools.push_back({name, "", Json::object()});
  return tools;
}

// The texts of the tokens that are possible after `reply` (special tokens and all) among those that spell `texts`.
std::vector<std::string> possible_after(const std::string& reply, const std::vector<std::string>& tools,
                                        const std::vector<std::string>& texts) {
  const std::vector<ToolDecl> declared = tools_named(tools);
  ToolNames names(chat_format(), declared);
  for (const Token token : chat_tokenizer().encode(reply, true)) names.push(token);
  const std::vector<float> logits(size_t(chat_tokenizer().vocab_size()), 1.0F);
  const std::span<const float> left = names.possible(logits);
  std::vector<std::string> possible;
  for (const std::string& text : texts) {
    const std::vector<Token> tokens = chat_tokenizer().encode(text, true);
    EXPECT_EQ(tokens.size(), 1u) << text << " is no single token";
    if (std::isfinite(left[size_t(tokens[0])])) possible.push_back(text);
  }
  return possible;
}

using Texts = std::vector<std::string>;

TEST(ToolNamesTest, OnlyWhatGoesOnTowardsANameIsPossibleInTheNamesPlace) {
  const std::string opened = "]<]minimax[>[<invoke name=\"";
  EXPECT_EQ(possible_after(opened, {"shell", "read"}, {"s", "r", "x", " ", "\"", "[e~[", "]<]minimax[>["}),
            (Texts{"s", "r"}));
  EXPECT_EQ(possible_after(opened + "s", {"shell", "read"}, {"h", "r", "e", "\""}), (Texts{"h"}));
  EXPECT_EQ(possible_after(opened + "shell", {"shell", "read"}, {"s", "\"", ">", "_"}), (Texts{"\""}));
  EXPECT_EQ(possible_after(opened + "shell", {"shell", "shell_x"}, {"\"", "_", "x"}), (Texts{"\"", "_"}))
      << "one name begins another";
  EXPECT_EQ(possible_after(opened + "shell\"", {"shell"}, {">", " ", "x"}), (Texts{">"}));
}

TEST(ToolNamesTest, EverythingIsPossibleElsewhere) {
  const Texts any = {"s", "x", "\"", "[e~[", "]<]minimax[>["};
  for (const std::string reply : {
           "",
           "<invoke name=\"",  // ordinary text, which calls nothing
           "]<]minimax[>[",
           "]<]minimax[>[<tool_call>",
           "]<]minimax[>[<in",
           "]<]minimax[>[</invoke>",
           "]<]minimax[>[<invoke name=\"shell\">",  // the name is complete
           "]<]minimax[>[<invoke name=\"shell\">]<]minimax[>[<command>ls <invoke name=\"",
       })
    EXPECT_EQ(possible_after(reply, {"shell"}, any), any) << reply;
  EXPECT_EQ(possible_after("]<]minimax[>[<invoke name=\"", {}, any), any) << "without tools";
}

TEST(ToolNamesTest, RulesNothingOutWhenNothingWouldBeLeft) {
  const std::vector<ToolDecl> declared = tools_named({"shell"});
  ToolNames names(chat_format(), declared);
  for (const Token token : chat_tokenizer().encode("]<]minimax[>[<invoke name=\"", true)) names.push(token);
  std::vector<float> logits(size_t(chat_tokenizer().vocab_size()), -std::numeric_limits<float>::infinity());
  logits[size_t(chat_tokenizer().encode("x", true)[0])] = 2;
  EXPECT_EQ(names.possible(logits).data(), logits.data());
}

}  // namespace
}  // namespace corvid::model
