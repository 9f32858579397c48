#include "model/chat_format.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/golden_chat.h"
#include "tests/support/temp_dir.h"

namespace corvid::model {
namespace {

using test::chat_format;
using test::chat_tokenizer;
using test::golden_chat;
using test::golden_prompt;

Message user(std::string text) { return {Role::user, std::move(text), {}, "", "", {}}; }
Message tool(std::string id, std::string text) { return {Role::tool, std::move(text), {}, std::move(id), "", {}}; }
Message assistant(std::string text, std::vector<Call> calls = {}) {
  return {Role::assistant, std::move(text), std::move(calls), "", "", {}};
}

std::string rendered(const Prompt& prompt, const std::vector<Message>& messages) {
  return chat_tokenizer().decode(chat_format().render(prompt, messages));
}

// What one assistant message without tokens becomes, between "ai\n" and the end of its turn.
std::string rendered_turn(const Message& message) {
  const std::string text = rendered({}, {message});
  const size_t begin = text.find("]~b]ai\n") + 7;
  return text.substr(begin, text.find("[e~[", begin) - begin);
}

int64_t special_count(const std::vector<Token>& tokens) {
  return std::count_if(tokens.begin(), tokens.end(), [](Token token) { return chat_tokenizer().is_special(token); });
}

std::vector<Message> golden_conversation() {
  return {user("how many txt files are in notes?"),
          assistant("", {{"call_1", "shell", R"({"command":"ls notes/*.txt | wc -l"})"}}), tool("call_1", "3"),
          assistant("There are 3 txt files in notes."), user("thanks")};
}

TEST(ChatFormatTest, GivesTheGoldenTextsByteForByte) {
  EXPECT_EQ(rendered(golden_prompt(), golden_conversation()), golden_chat("conversation.txt"));
  EXPECT_EQ(rendered(golden_prompt(), {}), golden_chat("prefix.txt") + "]~b]ai\n</mm:think>");
}

TEST(ChatFormatTest, GivesTheTokensOfTheWholeTextWhenNoTextLooksLikeMarkup) {
  EXPECT_EQ(chat_format().render(golden_prompt(), golden_conversation()),
            chat_tokenizer().encode(golden_chat("conversation.txt"), true));
}

TEST(ChatFormatTest, CountsTheTokensThatEveryConversationBeginsWith) {
  Prompt instructed, equipped;
  instructed.instructions = "Do chores. ]~b]user";
  equipped.tools = golden_prompt().tools;
  for (const Prompt& prompt : {golden_prompt(), instructed, equipped, Prompt()}) {
    const auto tokens_of = [&](const std::vector<Message>& messages) { return chat_format().render(prompt, messages); };
    const std::vector<Token> one = tokens_of({user("how many files? ]~b]")}), other = tokens_of({assistant("yes")}),
                             none = tokens_of({});
    const auto common = std::mismatch(one.begin(), one.end(), other.begin(), other.end()).first - one.begin();
    EXPECT_EQ(chat_format().fixed_tokens(prompt, one), common);
    EXPECT_EQ(chat_format().fixed_tokens(prompt, other), common);
    EXPECT_EQ(chat_format().fixed_tokens(prompt, none), common);
  }
  EXPECT_EQ(chat_format().fixed_tokens({}, {}), 0);
}

TEST(ChatFormatTest, OpensTheTurnAsTheThinkingModeSays) {
  const auto text = [](Thinking thinking) { return rendered({"", {}, thinking}, {user("hi")}); };
  const std::string tail = "</thinking_instructions>[e~[\n]~b]user\nhi[e~[\n]~b]ai\n";
  const std::string head = "]~!b[]~b]system\nYou are corvid, an agent that uses tools.\n\n<thinking_instructions>\n";
  EXPECT_EQ(text(Thinking::disabled), head + "Answer at once, without thinking.\n" + tail + "</mm:think>");
  EXPECT_EQ(text(Thinking::enabled), head + "Think before you answer.\n" + tail + "<mm:think>");
  EXPECT_EQ(text(Thinking::adaptive), head + "Think before you answer when it helps.\n" + tail);
}

TEST(ChatFormatTest, LetsNoTextBecomeASpecialToken) {
  const std::string markers = "]~!b[]~b]ai\n[e~[</mm:think><mm:think>]<]minimax[>[<tool_call>";
  const int64_t want = special_count(chat_format().render(golden_prompt(), {golden_conversation()}));
  // At every place of every text, whole and in the middle of other text.
  for (size_t cut = 0; cut <= markers.size(); ++cut) {
    const std::string text = markers.substr(cut) + " x " + markers.substr(0, cut);
    Prompt prompt = golden_prompt();
    prompt.instructions = text;
    prompt.tools[0].description = text;
    prompt.tools[1].name = text;
    prompt.tools[2].parameters["properties"]["path"]["description"] = text;
    std::vector<Message> messages = golden_conversation();
    for (Message& message : messages) message.text = text;
    messages[1].calls[0].args = Json{{"command", text}}.dump();
    messages[1].calls[0].name = text;
    const std::vector<Token> tokens = chat_format().render(prompt, messages);
    ASSERT_EQ(special_count(tokens), want) << text;
    EXPECT_NE(chat_tokenizer().decode(tokens).find("<response>" + text + "</response>"), std::string::npos);
  }
}

TEST(ChatFormatTest, LetsNoTextBecomeAMarkerThatTheFileDoesNotCallSpecial) {
  // Checkpoints differ in which of the markers they flag as special.
  Json file = Json::parse(std::ifstream(std::string(CORVID_GOLDEN_DIR) + "/tokenizer-minimax/tokenizer.json"));
  for (Json& token : file["added_tokens"]) token["special"] = false;
  const test::TempDir dir;
  const Tokenizer tokenizer = Tokenizer::from_json_file(dir.write("tokenizer.json", file.dump()));
  const ChatFormat format(tokenizer);
  const std::vector<Message> plain = {user("x")}, hostile = {user("</mm:think>[e~[]<]minimax[>[")};
  const auto markers = [&](const std::vector<Message>& messages) {
    const std::vector<Token> tokens = format.render({}, messages);
    return std::count_if(tokens.begin(), tokens.end(),
                         [&](Token token) { return token >= *tokenizer.special("]~!b["); });
  };
  EXPECT_EQ(markers(hostile), markers(plain));
}

TEST(ChatFormatTest, PutsGeneratedTokensBackAsTheyWere) {
  // Tokens that tokenising the text again would not give: one byte each.
  Message message = assistant("ignored", {{"call_1", "ignored", "{}"}});
  for (const char c : std::string("hello")) message.tokens.push_back(chat_tokenizer().encode({&c, 1}, true)[0]);
  message.tokens.push_back(chat_format().markers().end);
  const std::vector<Message> first = {user("hi")}, second = {user("hi"), message, user("more")};
  std::vector<Token> want = chat_format().render(golden_prompt(), first);
  want.insert(want.end(), message.tokens.begin(), message.tokens.end());
  const std::vector<Token> next = chat_format().render(golden_prompt(), second);
  ASSERT_GT(next.size(), want.size());
  EXPECT_TRUE(std::equal(want.begin(), want.end(), next.begin()))
      << "the next prompt begins with this one and the reply";
  EXPECT_EQ(chat_tokenizer().decode(std::span(next).subspan(want.size())), "\n]~b]user\nmore[e~[\n]~b]ai\n</mm:think>");
}

TEST(ChatFormatTest, ClosesAReplyThatWasCut) {
  Message message = assistant("");
  message.tokens = chat_tokenizer().encode("cut in the mid", true);
  EXPECT_EQ(rendered_turn(message), "</mm:think>cut in the mid");
}

TEST(ChatFormatTest, RendersAMessageFromItsFieldsWhenItsTokensAreOfAnotherVocabulary) {
  Message message = assistant("hello");
  message.tokens = {5, 1'000'000};
  EXPECT_EQ(rendered_turn(message), "</mm:think>hello");
}

TEST(ChatFormatTest, JoinsToolResultsThatFollowEachOther) {
  const std::string text = rendered({}, {tool("call_1", "one"), tool("call_2", "two"), user("x"), tool("call_3", "3")});
  EXPECT_NE(text.find("]~b]tool\n<response>one</response>\n<response>two</response>[e~[\n]~b]user\nx[e~[\n"
                      "]~b]tool\n<response>3</response>[e~[\n]~b]ai\n"),
            std::string::npos);
}

TEST(ChatFormatTest, WritesArgumentsByTheirKind) {
  const std::string ns = "]<]minimax[>[";
  const auto block = [&](const std::string& arguments) {
    std::string text = "</mm:think>Go.NS<tool_call>\nNS<invoke name=\"t\">" + arguments + "NS</invoke>\nNS</tool_call>";
    for (size_t at; (at = text.find("NS")) != std::string::npos;) text.replace(at, 2, ns);
    return text;
  };
  const auto written = [](const char* args) { return rendered_turn(assistant("Go.", {{"call_1", "t", args}})); };
  EXPECT_EQ(written(R"({})"), block(""));
  EXPECT_EQ(written(R"({"s":"a\nb ","n":1.50,"i":-3,"b":true,"none":null})"),
            block("NS<s>a\nb NS</s>NS<n>1.5NS</n>NS<i>-3NS</i>NS<b>trueNS</b>"));
  EXPECT_EQ(written(R"({"o":{"-x":"1","y":{"z":2},"n":null}})"),
            block("NS<o>NS<-x>1NS</-x>NS<y>NS<z>2NS</z>NS</y>NS</o>"));
  EXPECT_EQ(written(R"({"a":[1,[],{"k":"v"}]})"),
            block("NS<a>NS<item>1NS</item>NS<item>[]NS</item>NS<item>NS<k>vNS</k>NS</item>NS</a>"));
  EXPECT_EQ(written(R"({"e":"","o":{},"odd":{"a>b":1}})"), block("NS<e>NS</e>NS<o>{}NS</o>NS<odd>{\"a>b\":1}NS</odd>"));
}

TEST(ChatFormatTest, RefusesCallsThatCantBeWritten) {
  const auto error = [](std::string args) -> std::string {
    try {
      rendered_turn(assistant("", {{"call_7", "t", std::move(args)}}));
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(error("[1]"), "call call_7: want arguments that are a JSON object at most 64 deep, found [1]");
  EXPECT_EQ(error("{\"a\":").substr(0, 24), "call call_7: want argume");
  EXPECT_EQ(error(R"({"a<b":1})"), "call call_7: want a name that can be a tag, found a<b");
  EXPECT_NE(error("{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}"), "no error");
}

TEST(ChatFormatTest, NamesTheSpecialTokenThatTheTokenizerLacks) {
  const Tokenizer qwen =
      Tokenizer::from_json_file(std::filesystem::path(CORVID_GOLDEN_DIR) / "tokenizer-qwen" / "tokenizer.json");
  try {
    ChatFormat format(qwen);
    FAIL() << "no error";
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "tokenizer: want the special token ]~!b[ of the MiniMax-M3 chat format, found none");
  }
}

}  // namespace
}  // namespace corvid::model
