#include "agents/terminal.h"

#include <gtest/gtest.h>

namespace corvid::agents {
namespace {

TEST(PlainText, ControlSequencesAreTakenOutWhole) {
  EXPECT_EQ(plain("a\x1b[31mred\x1b[0m b"), "ared b");
  EXPECT_EQ(plain("\x1b]0;title\x07text"), "text");
  EXPECT_EQ(plain("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"), "link");
  EXPECT_EQ(plain("\x1bP1$q\x1b\\after"), "after");
  EXPECT_EQ(plain("\x1b(Bx\x1b"
                  "7y"),
            "xy");
  EXPECT_EQ(plain("\xc2\x9b"
                  "31mred"),
            "red");
  EXPECT_EQ(plain("\x9b"
                  "2Jtext"),
            "text");
  EXPECT_EQ(plain("\xc2\x9d"
                  "0;t\x07text"),
            "text");
  EXPECT_EQ(plain("one\rtwo\b\x7f\x07 three\tfour\n"), "onetwo three\tfour\n");
}

TEST(PlainText, OrdinaryTextStaysAsItIs) {
  const std::string text = "größe 大きさ 🐦\u00a0— “quoted”\n";
  EXPECT_EQ(plain(text), text);
  EXPECT_EQ(plain("\xff\xfe"
                  "ab\xe2\x82"),
            "\uFFFD\uFFFD"
            "ab\uFFFD");
  EXPECT_EQ(plain("\xed\xa0\x80\xe0\x80\x80\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD");
}

TEST(PlainText, ASequenceMayBeCutAnywhere) {
  const std::string text =
      "a\x1b[1;31mb\x1b]0;t\x1b\\c\xc2\x9b"
      "1md€\xc2\xa9";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    PlainText filter;
    std::string out = filter.push(text.substr(0, cut));
    out += filter.push(text.substr(cut));
    out += filter.finish();
    EXPECT_EQ(out, "abcd€©") << cut;
  }
}

TEST(PlainText, AnUnterminatedSequenceHidesNeitherTheNextLineNorEverything) {
  EXPECT_EQ(plain("\x1b]0;hidden\nshown"), "\nshown");
  EXPECT_EQ(plain("\x1b[\nshown"), "\nshown");
  EXPECT_NE(plain("\x1b]" + std::string(5000, 'x')), "");
}

TEST(OneLine, IsPlainShortAndCountsCharacters) {
  EXPECT_EQ(one_line("a\nb\tc", 10), "a b c");
  EXPECT_EQ(one_line("ééééé", 5), "ééééé");
  EXPECT_EQ(one_line("éééééé", 5), "éééé…");
  EXPECT_EQ(one_line("\x1b[31mabc", 3), "abc");
}

}  // namespace
}  // namespace corvid::agents
