#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "model/chat_format.h"
#include "model/utf8.h"
#include "tests/support/golden_chat.h"

namespace corvid::model {
namespace {

using test::chat_format;
using test::chat_tokenizer;
using test::golden_prompt;

// Shorthand for markup: NS, OPEN and CLOSE are special tokens, END the end of the turn.
std::vector<Token> tokens_of(std::string text) {
  const std::pair<std::string_view, std::string_view> names[] = {
      {"NS", "]<]minimax[>["}, {"OPEN", "<mm:think>"}, {"CLOSE", "</mm:think>"}, {"END", "[e~["}};
  std::vector<Token> tokens;
  std::string plain;
  const auto flush = [&] {
    const auto more = chat_tokenizer().encode_plain(plain);
    tokens.insert(tokens.end(), more.begin(), more.end());
    plain.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const auto found = std::find_if(std::begin(names), std::end(names), [&](const auto& name) {
      return text.compare(at, name.first.size(), name.first) == 0;
    });
    if (found == std::end(names)) {
      plain += text[at++];
      continue;
    }
    flush();
    tokens.push_back(*chat_tokenizer().special(found->second));
    at += found->first.size();
  }
  flush();
  return tokens;
}

// The same with one token a byte: every marker spelled in ordinary text is split at every byte.
std::vector<Token> byte_tokens_of(std::string_view text) {
  std::vector<Token> tokens;
  for (const char c : text) tokens.push_back(chat_tokenizer().encode_plain({&c, 1})[0]);
  return tokens;
}

struct Parsed {
  ReplyParser::Result result;
  std::string shown;  // what push() returned, together
};

Parsed parse(const std::vector<Token>& tokens, const Prompt& prompt = golden_prompt()) {
  ReplyParser parser(chat_format(), prompt, "call_", 1);
  Parsed parsed;
  for (const Token token : tokens) {
    const std::string visible = parser.push(token);
    for (std::string_view rest = visible; !rest.empty();) {
      const int length = utf8_length(rest);
      EXPECT_GT(length, 0) << "visible text comes in complete UTF-8 sequences";
      if (length <= 0) break;
      rest.remove_prefix(static_cast<size_t>(length));
    }
    parsed.shown += visible;
  }
  parsed.result = parser.finish();
  EXPECT_EQ(parsed.result.message.tokens, tokens);
  EXPECT_EQ(parsed.result.message.text.substr(0, parsed.shown.size()), parsed.shown);
  return parsed;
}
Parsed parse(const std::string& text, const Prompt& prompt = golden_prompt()) { return parse(tokens_of(text), prompt); }

Prompt thinking(Thinking mode) {
  Prompt prompt = golden_prompt();
  prompt.thinking = mode;
  return prompt;
}

std::string calls_of(const Message& message) {
  std::string text;
  for (const Call& call : message.calls) text += call.id + " " + call.name + " " + call.args + "\n";
  return text;
}

// The arguments of one call to a tool `t` with this schema for its properties; or the error.
std::string args_of(const std::string& arguments, const std::string& properties) {
  Prompt prompt;
  prompt.tools.push_back({"t", "", Json::parse(R"({"type":"object","properties":)" + properties + "}")});
  const Parsed p = parse("NS<tool_call>\nNS<invoke name=\"t\">" + arguments + "NS</invoke>\nNS</tool_call>END", prompt);
  return p.result.error.empty() ? p.result.message.calls.at(0).args : p.result.error;
}

const std::string kShell = "NS<invoke name=\"shell\">NS<command>lsNS</command>NS</invoke>\n";

TEST(ReplyParserTest, ReadsAnAnswer) {
  const Parsed p = parse("There are 3 txt files.END");
  EXPECT_EQ(p.result.message.text, "There are 3 txt files.");
  EXPECT_EQ(p.shown, "There are 3 txt files.");
  EXPECT_EQ(p.result.message.role, Role::assistant);
  EXPECT_EQ(p.result.message.reasoning, "");
  EXPECT_EQ(p.result.error, "");
}

TEST(ReplyParserTest, SaysWhenTheTurnIsOverAndTakesNothingAfterIt) {
  ReplyParser parser(chat_format(), golden_prompt(), "call_", 1);
  for (const Token token : tokens_of("hi")) parser.push(token);
  EXPECT_FALSE(parser.is_done());
  parser.push(tokens_of("END")[0]);
  EXPECT_TRUE(parser.is_done());
  EXPECT_EQ(parser.push(tokens_of("x")[0]), "");
  const Message message = parser.finish().message;
  EXPECT_EQ(message.text, "hi");
  EXPECT_EQ(message.tokens, tokens_of("hiEND"));
}

TEST(ReplyParserTest, ReadsTheCallsThatTheFormatWrites) {
  const std::vector<Call> calls = {
      {"call_1", "shell", R"({"command":"grep -c 'a\"b' *.txt\n","timeout_s":5})"},
      {"call_2", "http_request",
       R"({"method":"GET","url":"http://x/?a=b&c","headers":{"Accept":"text/plain","-x":"3"},"body":""})"},
      {"call_3", "edit_file", R"({"path":"a b.txt","old":"x\n","new":"  \"y\" <z>\n\n","all":true})"}};
  Message message;
  message.role = Role::assistant;
  message.text = "Let me see. ";
  message.calls = calls;
  const std::vector<Token> rendered = chat_format().render(golden_prompt(), std::span(&message, 1));
  const std::vector<Token> head = chat_format().render(golden_prompt(), {});
  const auto end = std::find(rendered.begin() + static_cast<std::ptrdiff_t>(head.size()), rendered.end(),
                             chat_format().markers().end);
  const Parsed p = parse(std::vector<Token>(rendered.begin() + static_cast<std::ptrdiff_t>(head.size()), end + 1));
  EXPECT_EQ(calls_of(p.result.message), calls_of(message));
  EXPECT_EQ(p.result.message.text, "Let me see. ");
  EXPECT_EQ(p.shown, "Let me see. ");
}

TEST(ReplyParserTest, ReadsSeveralCallsWithWhiteSpaceBetweenTags) {
  const Parsed p = parse("NS<tool_call>\n\n " + kShell +
                         " \nNS <invoke name='list_dir'> \n NS</invoke>NS<invoke name=x>\nNS<a>1"
                         "NS</a>\n NS</invoke>\n\nNS</tool_call>\nEND");
  EXPECT_EQ(calls_of(p.result.message),
            "call_1 shell {\"command\":\"ls\"}\ncall_2 list_dir {}\ncall_3 x {\"a\":\"1\"}\n");
  EXPECT_EQ(p.result.error, "");
  EXPECT_EQ(p.result.message.text, "");
}

TEST(ReplyParserTest, DiscardsWhatFollowsTheBlock) {
  const Parsed p =
      parse("Look.NS<tool_call>\n" + kShell + "NS</tool_call>Done, I made it up.NS<tool_call>" + kShell + "END");
  EXPECT_EQ(calls_of(p.result.message), "call_1 shell {\"command\":\"ls\"}\n");
  EXPECT_EQ(p.result.message.text, "Look.");
  EXPECT_EQ(p.result.error, "");
}

TEST(ReplyParserTest, TakesReasoningByIdOrSpelledAtAnySplit) {
  for (const bool spelled : {false, true}) {
    const auto tokens = [&](const std::string& text) {
      if (!spelled) return tokens_of(text + "END");
      std::string plain = text;
      for (const auto& [name, tag] : {std::pair("OPEN", "<mm:think>"), std::pair("CLOSE", "</mm:think>")}) {
        for (size_t at; (at = plain.find(name)) != std::string::npos;) plain.replace(at, strlen(name), tag);
      }
      std::vector<Token> bytes = byte_tokens_of(plain);
      bytes.push_back(chat_format().markers().end);
      return bytes;
    };
    const Parsed inside = parse(tokens("so < that </mm is <b>CLOSEAnswer"), thinking(Thinking::enabled));
    EXPECT_EQ(inside.result.message.reasoning, "so < that </mm is <b>");
    EXPECT_EQ(inside.result.message.text, "Answer");
    EXPECT_EQ(inside.shown, "Answer");
    for (const Thinking mode : {Thinking::adaptive, Thinking::disabled}) {
      const Parsed opened = parse(tokens("\nOPENhmmCLOSE\n\nAnswer"), thinking(mode));
      EXPECT_EQ(opened.result.message.reasoning, "hmm");
      EXPECT_EQ(opened.shown, "\n\nAnswer");
      const Parsed bare = parse(tokens("CLOSEAnswer"), thinking(mode));
      EXPECT_EQ(bare.result.message.reasoning, "");
      EXPECT_EQ(bare.shown, "Answer");
      const Parsed none = parse(tokens("<mm:thi Answer"), thinking(mode));
      EXPECT_EQ(none.shown, "<mm:thi Answer");
    }
  }
}

TEST(ReplyParserTest, KeepsReasoningOutOfWhatIsShownWhereverItBegins) {
  const Parsed p = parse("One OPENsecretCLOSE two CLOSEthreeEND", thinking(Thinking::adaptive));
  EXPECT_EQ(p.shown, "One  two three");
  EXPECT_EQ(p.result.message.reasoning, "secret");
}

TEST(ReplyParserTest, ShowsATagThatTheAnswerQuotes) {
  EXPECT_EQ(parse("The file says <mm:think> and ]<]minimax[>[<tool_call>.END").shown,
            "The file says <mm:think> and ]<]minimax[>[<tool_call>.");
}

TEST(ReplyParserTest, LetsACallEndReasoning) {
  const Parsed p = parse("I need to lookNS<tool_call>\n" + kShell + "NS</tool_call>END", thinking(Thinking::enabled));
  EXPECT_EQ(p.result.message.reasoning, "I need to look");
  EXPECT_EQ(calls_of(p.result.message), "call_1 shell {\"command\":\"ls\"}\n");
  EXPECT_EQ(p.result.message.text, "");
}

TEST(ReplyParserTest, NeverCallsWhatStandsInOrdinaryTokens) {
  const std::string quoted = "]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name=\"shell\">]<]minimax[>[</invoke>";
  std::vector<Token> tokens = byte_tokens_of(quoted);
  tokens.push_back(chat_format().markers().end);
  const Parsed p = parse(tokens);
  EXPECT_EQ(p.result.message.calls.size(), 0u);
  EXPECT_EQ(p.shown, quoted);
}

TEST(ReplyParserTest, KeepsMarkersInsideATextArgument) {
  const auto content = [](const std::string& value) {
    const Parsed p = parse("NS<tool_call>\nNS<invoke name=\"write_file\">NS<path>aNS</path>NS<content>" + value +
                           "NS</content>NS</invoke>\nNS</tool_call>END");
    EXPECT_EQ(p.result.error, "");
    return p.result.message.calls.empty() ? std::string("no call")
                                          : Json::parse(p.result.message.calls[0].args)["content"].get<std::string>();
  };
  EXPECT_EQ(content("a ]<]minimax[>[</content> b"), "a ]<]minimax[>[</content> b") << "in ordinary tokens";
  EXPECT_EQ(content("a NS<x>1NS</x> NS b"), "a ]<]minimax[>[<x>1]<]minimax[>[</x> ]<]minimax[>[ b") << "as the token";
  EXPECT_EQ(content("OPEN CLOSE </content>"), "<mm:think> </mm:think> </content>");
  EXPECT_EQ(content(""), "");
  EXPECT_EQ(content("\n one\n\ttwo \n\n"), "\n one\n\ttwo \n\n");
}

TEST(ReplyParserTest, TypesArgumentsByTheSchema) {
  EXPECT_EQ(args_of("NS<i> 007\nNS</i>NS<n>1.50NS</n>NS<b>TrueNS</b>NS<s>1NS</s>",
                    R"({"i":{"type":"integer"},"n":{"type":"number"},"b":{"type":"boolean"},"s":{"type":"string"}})"),
            R"({"i":7,"n":1.50,"b":true,"s":"1"})");
  const auto one = [](const std::string& value, const std::string& schema) {
    return args_of("NS<x>" + value + "NS</x>", "{\"x\":" + schema + "}");
  };
  const std::string i = R"({"type":"integer"})", n = R"({"type":"number"})", b = R"({"type":"boolean"})";
  EXPECT_EQ(one("-9223372036854775808", i), R"({"x":-9223372036854775808})");
  EXPECT_EQ(one("9223372036854775808", i), R"({"x":"9223372036854775808"})");
  EXPECT_EQ(one("three", i), R"({"x":"three"})");
  EXPECT_EQ(one("3.0", i), R"({"x":"3.0"})");
  EXPECT_EQ(one("1e3", n), R"({"x":1e3})");
  EXPECT_EQ(one("1e999", n), R"({"x":"1e999"})");
  EXPECT_EQ(one("nan", n), R"({"x":"nan"})");
  EXPECT_EQ(one("0", b), R"({"x":false})");
  EXPECT_EQ(one("yes", b), R"({"x":"yes"})");
  EXPECT_EQ(one("null", R"({"type":["integer","null"]})"), R"({"x":null})");
  EXPECT_EQ(one("NULL", R"({"anyOf":[{"type":"string"},{"type":"null"}]})"), R"({"x":null})");
  EXPECT_EQ(one("null", R"({"type":"string"})"), R"({"x":"null"})");
  EXPECT_EQ(one("null", R"({"type":"string","nullable":true})"), R"({"x":null})");
  EXPECT_EQ(one("5", R"({"oneOf":[{"type":"boolean"},{"type":"integer"},{"type":"string"}]})"), R"({"x":5})");
  EXPECT_EQ(one("2", R"({"enum":["a",2,null]})"), R"({"x":2})");
  EXPECT_EQ(one("a", R"({"enum":["a",2]})"), R"({"x":"a"})");
  EXPECT_EQ(one("c", R"({"enum":["a",2]})"), R"({"x":"c"})");
  EXPECT_EQ(one("{\"k\": [1, 2.50]}", R"({"type":"object"})"), R"({"x":{"k": [1, 2.50]}})");
  EXPECT_EQ(one("[1,", R"({"type":"array"})"), R"({"x":"[1,"})");
  EXPECT_EQ(one(" ", R"({"type":"object"})"), R"({"x":{}})");
  EXPECT_EQ(one("", R"({"type":"array"})"), R"({"x":[]})");
  EXPECT_EQ(one(std::string(5000, '[') + std::string(5000, ']'), R"({"type":"array"})"),
            "{\"x\":\"" + std::string(5000, '[') + std::string(5000, ']') + "\"}");
  EXPECT_EQ(one("5", "true"), R"({"x":"5"})");
  EXPECT_EQ(one("5", "{}"), R"({"x":"5"})");
}

TEST(ReplyParserTest, NestsObjectsAndArrays) {
  EXPECT_EQ(args_of("NS<city>PortoNS</city>NS<nights>3NS</nights>NS<guests>\nNS<item>NS<name>AnaNS</name>NS<age>30NS</"
                    "age>NS</item>"
                    "\nNS<item>NS<name>BoNS</name>NS</item>\nNS</guests>",
                    R"({"city":{"type":"string"},"nights":{"type":"integer"},"guests":{"type":"array","items":
                        {"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}}}}})"),
            R"({"city":"Porto","nights":3,"guests":[{"name":"Ana","age":30},{"name":"Bo"}]})");
  EXPECT_EQ(args_of("NS<h>NS<-Accept>1NS</-Accept>NS</h>", R"({"h":{"type":"object","additionalProperties":
                    {"type":"string"}}})"),
            R"({"h":{"-Accept":"1"}})");
  EXPECT_EQ(args_of("NS<h>NS<item>1NS</item>NS</h>", R"({"h":{"type":"object"}})"), R"({"h":{"item":"1"}})");
  EXPECT_EQ(args_of("NS<h>NS<item>1NS</item>NS</h>", "{}"), R"({"h":["1"]})") << "no schema";
  EXPECT_EQ(args_of("NS<n>1NS</n>NS<m>0NS</m>NS<n>2NS</n>", R"({"n":{"type":"array","items":{"type":"integer"}}})"),
            R"({"n":[1,2],"m":"0"})")
      << "repeated";
  EXPECT_EQ(args_of("NS<o>words NS<a>1NS</a>NS</o>", "{}"), R"({"o":{"a":"1","$text":"words "}})");
  EXPECT_EQ(args_of("NS<-flag>xNS</-flag>", "{}"), R"({"-flag":"x"})");
  std::string deep;
  for (int k = 0; k < 70; ++k) deep += "NS<a>";
  EXPECT_EQ(args_of(deep, "{}"), "call markup: want at most 64 nested elements, found <a>");
}

TEST(ReplyParserTest, LeavesWrongMarkupInTheTextAndSaysWhatIsWrong) {
  const auto parsed = [](const std::string& markup, const std::string& error) {
    const Parsed p = parse("Hm. " + markup + "END");
    EXPECT_EQ(p.result.error, "call markup: " + error);
    EXPECT_EQ(p.result.message.calls.size(), 0u) << markup;
    EXPECT_EQ(p.shown, "Hm. ");
    EXPECT_EQ(p.result.message.text, "Hm. " + chat_tokenizer().decode(tokens_of(markup)));
  };
  parsed("NS", "want a tag, found nothing");
  parsed("NShello", "want a tag, found hello");
  parsed("NS<invoke name=\"shell\">NS</invoke>", "want <tool_call>, found <invoke name=\"shell\">");
  parsed("NS<tool_call>", "the reply ended inside a call");
  parsed("NS<tool_call>NS</tool_call>", "want a call, found an empty block");
  parsed("NS<tool_call>NS<invoke>NS</invoke>NS</tool_call>",
         "want <invoke name=\"...\"> or </tool_call>, found <invoke>");
  parsed("NS<tool_call>NS<invoke name=\"shell\">lsNS</invoke>NS</tool_call>", "want an argument, found ls");
  parsed("NS<tool_call>" + kShell + "NS<invoke name=\"shell\">NS</tool_call>",
         "want an argument or </invoke>, found </tool_call>");
  parsed("NS<tool_call>NS<invoke name=\"x\">NS<a>1NS</b>NS</invoke>NS</tool_call>", "want </a>, found </b>");
  parsed("NS<tool_call>NS<invoke name=\"shell\">NS<command>lsNS</command>andNS</invoke>NS</tool_call>",
         "want a tag after </command>, found and");
  parsed("NS<tool_call>NS<invoke name=\"shell\">NS<command>ls", "the reply ended inside a call");
}

TEST(ReplyParserTest, DropsACallThatWasCutAndKeepsTheOnesBefore) {
  const std::vector<Token> whole = tokens_of("Look. NS<tool_call>\n" + kShell + kShell + "NS</tool_call>END");
  const size_t first_end = tokens_of("Look. NS<tool_call>\n" + kShell.substr(0, kShell.size() - 1)).size();
  const size_t second_end = tokens_of("Look. NS<tool_call>\n" + kShell + kShell.substr(0, kShell.size() - 1)).size();
  const size_t block_begin = tokens_of("Look. ").size();
  for (size_t length = 0; length < whole.size(); ++length) {
    const Parsed p = parse(std::vector<Token>(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
    EXPECT_EQ(p.result.message.calls.size(), length >= second_end ? 2u : length >= first_end ? 1u : 0u) << length;
    if (length <= block_begin || length >= second_end) {
      EXPECT_EQ(p.result.error, "") << length;
    } else if (length < first_end) {
      EXPECT_EQ(p.result.error, "the reply was cut inside a call") << length;
    }
    EXPECT_EQ(p.result.message.text, std::string("Look. ").substr(0, p.result.message.text.size()));
  }
}

TEST(ReplyParserTest, ShowsTextInCompleteSequencesWhateverTheTokens) {
  const std::string text = "na\xC3\xAFve \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80!";
  EXPECT_EQ(parse(byte_tokens_of(text)).shown, text);
  const Parsed broken =
      parse(byte_tokens_of("a\xFF"
                           "b\xE4\xBD"));
  EXPECT_EQ(broken.shown,
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(broken.result.message.text,
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
}

TEST(ReplyParserTest, NumbersCallsFromWhereItIsTold) {
  ReplyParser parser(chat_format(), golden_prompt(), "c", 41);
  for (const Token token : tokens_of("NS<tool_call>" + kShell + kShell + "NS</tool_call>END")) parser.push(token);
  const Message message = parser.finish().message;
  EXPECT_EQ(calls_of(message), "c41 shell {\"command\":\"ls\"}\nc42 shell {\"command\":\"ls\"}\n");
}

TEST(ReplyParserTest, RefusesATokenOutsideTheVocabulary) {
  ReplyParser parser(chat_format(), golden_prompt(), "call_", 1);
  EXPECT_THROW(parser.push(-1), std::invalid_argument);
  EXPECT_THROW(parser.push(1500), std::invalid_argument);
  EXPECT_TRUE(parser.finish().message.tokens.empty());
}

TEST(ReplyParserTest, SurvivesAnyTokens) {
  // Random pieces of markup: whatever comes out is valid UTF-8 text and JSON objects, and markup is never shown.
  const std::vector<std::string> pieces = {"NS",           "OPEN",
                                           "CLOSE",        "<tool_call>",
                                           "</tool_call>", "<invoke name=\"",
                                           "shell",        "\">",
                                           "</invoke>",    "<command>",
                                           "</command>",   "<headers>",
                                           "<item>",       "</item>",
                                           "\n",           "\xFF",
                                           "{\"a\":",      "NS<tool_call>",
                                           "NS</invoke>",  "NS<invoke name=\"http_request\">",
                                           "NS<headers>",  "NS</headers>",
                                           "<mm:",         "think>",
                                           "\xE4\xBD"};
  uint32_t state = 3;
  const auto next = [&] { return (state = state * 1664525u + 1013904223u) >> 8; };
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (uint32_t n = next() % 30; n > 0; --n) text += pieces[next() % pieces.size()];
    if (round % 2) text += "END";
    const Parsed p = parse(text, thinking(static_cast<Thinking>(next() % 3)));
    EXPECT_EQ(p.shown.find("]<]minimax[>["), std::string::npos);
    for (const Call& call : p.result.message.calls) EXPECT_TRUE(Json::parse(call.args).is_object()) << call.args;
    EXPECT_NO_THROW(Json(p.result.message.text + p.result.message.reasoning).dump());
  }
}

}  // namespace
}  // namespace corvid::model
