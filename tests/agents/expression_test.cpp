#include "agents/expression.h"

#include <gtest/gtest.h>

#include "tests/support/throws.h"

namespace corvid::agents {
namespace {

const Json kScope{{"input", {{"file", "a.log"}, {"n", 2}, {"none", nullptr}}},
                  {"matrix", {{"seed", 1}}},
                  {"tasks", {{"count", {{"answer", "7 lines"}, {"passed", true}, {"status", "passed"}}}}}};

bool holds(const std::string& text) { return parse_condition(text).holds(kScope); }

TEST(Template, PutsValuesInTheirPlaces) {
  EXPECT_EQ(Template::parse("lines of ${{ input.file }}, ${{input.n}} of ${{ matrix.seed }}").expand(kScope),
            "lines of a.log, 2 of 1");
  EXPECT_EQ(Template::parse("plain $ {{ text }}").expand(kScope), "plain $ {{ text }}");
  EXPECT_EQ(Template::parse("[${{ input.none }}][${{ input.missing }}]").expand(kScope), "[][]");
  EXPECT_EQ(Template::parse("${{ '}}' }}").expand(kScope), "}}");
}

TEST(Template, AValueIsNeverReadAsATemplateAgain) {
  const Json scope{{"input", {{"file", "${{ matrix.seed }}"}}}};
  EXPECT_EQ(Template::parse("${{ input.file }}").expand(scope), "${{ matrix.seed }}");
}

TEST(Template, NamesWhatItRefersTo) {
  EXPECT_EQ(Template::parse("${{ input.file }} ${{ tasks.count.answer == 'x' }}").paths(),
            (std::vector<Path>{{"input", "file"}, {"tasks", "count", "answer"}}));
}

TEST(Condition, Holds) {
  for (const char* text : {"tasks.count.passed", "${{ tasks.count.passed }}", "!false", "input.n == 2",
                           "input.n == 2.0", "input.file == 'a.log'", "input.file != \"b.log\"", "true && (false || 1)",
                           "!input.missing", "'it''s' == 'it''s'", "input.n == '2'", "true || false && false"})
    EXPECT_TRUE(holds(text)) << text;
  for (const char* text : {"!tasks.count.passed", "input.none", "input.missing.deeper", "0", "''", "input.n == 3",
                           "tasks.count.passed && matrix.seed == 2", "(true || false) && false"})
    EXPECT_FALSE(holds(text)) << text;
}

TEST(Expression, SaysWhatIsWrong) {
  const auto message = [](const std::string& text) { return test::message_of([&] { Template::parse(text); }); };
  EXPECT_EQ(message("${{ input. }}"), "${{ input. }}: want a name, a text in quotes or a number, found the end");
  EXPECT_EQ(message("${{ a b }}"), "${{ a b }}: want the end or an operator, found \"b\"");
  EXPECT_EQ(message("${{ (a }}"), "${{ (a }}: want a ), found the end");
  EXPECT_EQ(message("${{ 'a }}"), "want }} behind \"${{ 'a }}\", found none");
  EXPECT_EQ(message("${{ 1x }}"), "${{ 1x }}: want a number, found \"1x\"");
  EXPECT_EQ(message("x ${{ a"), "want }} behind \"${{ a\", found none");
  EXPECT_NE(message("${{ " + std::string(1000, '(') + " }}").find("at most 64 levels"), std::string::npos);
}

}  // namespace
}  // namespace corvid::agents
