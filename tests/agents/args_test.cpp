#include "agents/args.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace corvid::agents {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using Words = std::vector<std::string>;

const Command kRun{.name = "run",
                   .summary = "Do one task.",
                   .positionals = {{"PROMPT", "the task"}},
                   .flags = {{"model", "FILE", "the model"},
                             {"device", "DEVICE", "where", {"auto", "cpu", "cuda"}},
                             {"allow-host", "HOST", "a host", {}, Completes::nothing, true},
                             {"quick", "", "a switch"}},
                   .examples = {"corvid run hello"},
                   .notes = "",
                   .run = nullptr};
const Command kSandbox{.name = "sandbox",
                       .summary = "Run a command.",
                       .positionals = {{"COMMAND", "the command", true, true}},
                       .flags = {{"workdir", "DIR", "the folder"}},
                       .examples = {},
                       .notes = "",
                       .run = nullptr};

std::string error_of(const Command& command, const Words& words) {
  try {
    parse(command, words);
    return "no error";
  } catch (const UsageError& error) {
    return error.what();
  }
}

TEST(Args, FlagsMayStandBeforeAndAfterTheArgumentAndUseAnEqualsSign) {
  const Args args = parse(kRun, Words{"--allow-host", "a", "do it", "--model=x.gguf", "--allow-host=b:80", "--quick"});
  EXPECT_EQ(args.text("model"), "x.gguf");
  EXPECT_THAT(args.texts("allow-host"), ElementsAre("a", "b:80"));
  EXPECT_THAT(args.positionals(), ElementsAre("do it"));
  EXPECT_TRUE(args.has("quick"));
  EXPECT_FALSE(args.has("device"));
}

TEST(Args, TheLastOfTwoCounts) {
  EXPECT_EQ(parse(kRun, Words{"--model", "a", "--model", "b", "x"}).text("model"), "b");
}

TEST(Args, APromptIsTakenAsItIs) {
  for (const std::string prompt : {"-5 degrees, is that cold?", "- buy milk", "[a, b]", "++", "-", "", "run", "{}"}) {
    EXPECT_THAT(parse(kRun, Words{prompt}).positionals(), ElementsAre(prompt));
  }
  EXPECT_THAT(parse(kRun, Words{"--", "--model"}).positionals(), ElementsAre("--model"));
}

TEST(Args, WordsOfAnotherProgramPassThrough) {
  const Words words{"bash", "-c", "[[ -f x ]]", "--", "--workdir", "{}", ""};
  Words with_mark{"--workdir", "d", "--"}, without{"--workdir", "d"};
  with_mark.insert(with_mark.end(), words.begin(), words.end());
  without.insert(without.end(), words.begin(), words.end());
  EXPECT_EQ(parse(kSandbox, with_mark).positionals(), words);
  EXPECT_EQ(parse(kSandbox, without).positionals(), words);
}

TEST(Args, WhatIsWrongIsNamedWithTheNearestKnown) {
  EXPECT_EQ(error_of(kRun, {"--modle", "x", "p"}), "unknown flag --modle; did you mean \"--model\"?");
  EXPECT_EQ(error_of(kRun, {"--modle=x", "p"}), "unknown flag --modle; did you mean \"--model\"?");
  EXPECT_EQ(error_of(kRun, {"-q", "p"}), "unknown flag -q");
  EXPECT_EQ(error_of(kRun, {"--zebra", "p"}), "unknown flag --zebra");
  EXPECT_EQ(error_of(kRun, {"--device", "cpuu", "p"}),
            "--device: want auto, cpu, cuda, found \"cpuu\"; did you mean \"cpu\"?");
  EXPECT_EQ(error_of(kRun, {"p", "--model"}), "--model needs a value (FILE)");
  EXPECT_EQ(error_of(kRun, {"--quick=1", "p"}), "--quick takes no value, found \"1\"");
  EXPECT_EQ(error_of(kRun, {}), "PROMPT is missing");
  EXPECT_EQ(error_of(kRun, {"list", "files"}), "unexpected argument \"files\"; quote a text of several words");
}

TEST(Args, NumbersAreRangeCheckedAndMustEndWhereTheTextEnds) {
  const Args args = parse(kRun, Words{"--model", "12x", "p"});
  EXPECT_THROW(args.integer("model", 1, 100), UsageError);
  const Args number = parse(kRun, Words{"--model=101", "p"});
  try {
    number.integer("model", 1, 100);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "--model: want a whole number from 1 to 100, found \"101\"");
  }
  EXPECT_EQ(number.integer("model", 1, 101), 101);
  EXPECT_EQ(parse_integer("99999999999999999999"), std::nullopt);
  EXPECT_EQ(parse_number("nan"), std::nullopt);
  EXPECT_EQ(parse_number("1e999"), std::nullopt);
  EXPECT_EQ(parse_number("0.5"), 0.5);
  EXPECT_THAT(*parse(kRun, Words{"--model", "1,2, 3", "p"}).integers("model", 0, 9), ElementsAre(1, 2, 3));
  EXPECT_THROW(parse(kRun, Words{"--model", "1,,3", "p"}).integers("model", 0, 9), UsageError);
  EXPECT_THROW(parse(kRun, Words{"--model", "1,2,", "p"}).integers("model", 0, 9), UsageError);
}

TEST(Args, SizesHaveUnits) {
  EXPECT_EQ(parse_bytes("4096"), 4096);
  EXPECT_EQ(parse_bytes("64KiB"), 64 << 10);
  EXPECT_EQ(parse_bytes("3GiB"), int64_t{3} << 30);
  for (const char* text :
       {"", "MiB", "1.5GiB", "-1", "1GB", "1 MiB", "1KiBMiB", "9999999999GiB", "9223372036854775808"})
    EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
}

TEST(Args, DurationsHaveUnits) {
  EXPECT_EQ(parse_duration("500ms"), milliseconds(500));
  EXPECT_EQ(parse_duration("30s"), milliseconds(30'000));
  EXPECT_EQ(parse_duration("5m"), milliseconds(300'000));
  EXPECT_EQ(parse_duration("1h30m"), milliseconds(5'400'000));
  EXPECT_EQ(parse_duration("1.5s"), milliseconds(1500));
  EXPECT_EQ(parse_duration("20"), milliseconds(20'000));
  for (const char* text : {"", "s", "5x", "5 m", "-5s", "5m30", "1e9h", "inf", "nan", "99999999h", "5mm"}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
  }
}

TEST(Args, HelpNamesEveryFlagAndExample) {
  const std::string help = help_text(kRun);
  for (const char* part :
       {"Usage: corvid run [flags] PROMPT", "--device auto|cpu|cuda", "a host (repeatable)", "corvid run hello"}) {
    EXPECT_THAT(help, testing::HasSubstr(part));
  }
  EXPECT_TRUE(parse(kRun, Words{"--help"}).wants_help());
}

TEST(Nearest, IsSilentWhenNothingIsClose) {
  const Words known{"sessions", "sandbox", "run"};
  EXPECT_EQ(nearest("sesions", known), "sessions");
  EXPECT_EQ(nearest("rnu", known), "run");
  EXPECT_EQ(nearest("elephant", known), std::nullopt);
  EXPECT_EQ(nearest(std::string(100'000, 'x'), known), std::nullopt);
}

}  // namespace
}  // namespace corvid::agents
