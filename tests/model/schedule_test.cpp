// Fair turns: who gets how many rows of a pass.
#include "model/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace corvid::model {
namespace {

using testing::ElementsAre;

std::vector<int64_t> shared(std::vector<int64_t> left, int64_t prompt_rows = 512) {
  return share_rows(left, 512, prompt_rows);
}

TEST(ShareRows, GivesShortWorkAllAndPromptsTheRest) {
  EXPECT_THAT(shared({1, 9000, 4}), ElementsAre(1, 507, 4));
  EXPECT_THAT(shared({9000, 1, 1, 1}, 64), ElementsAre(64, 1, 1, 1));
  EXPECT_THAT(shared({}), ElementsAre());
}

TEST(ShareRows, SharesEvenlyBetweenPromptsAndWhatIsLeftOverWithTheFirst) {
  EXPECT_THAT(shared({1000, 1000}), ElementsAre(256, 256));
  EXPECT_THAT(shared({1000, 1000, 30}, 300), ElementsAre(170, 100, 30));
}

TEST(ShareRows, LetsSomeWaitRatherThanGivingEverybodyTooLittle) {
  EXPECT_THAT(shared({100, 100, 100, 100}, 64), ElementsAre(32, 32, 0, 0));
  const std::vector<int64_t> rows = shared(std::vector<int64_t>(600, 1));
  EXPECT_EQ(rows[511], 1);
  EXPECT_EQ(rows[512], 0);
}

TEST(ShareRows, KeepsRowsForAPromptHoweverManyDecode) {
  std::vector<int64_t> left(60, kShortRows);
  left.push_back(9000);
  const std::vector<int64_t> rows = shared(left, 64);
  EXPECT_EQ(rows.back(), 36);  // kept are 32, and 4 are too few for a further one of 17
  EXPECT_EQ(std::ranges::count(rows, kShortRows), 28);
  EXPECT_EQ(std::ranges::count(rows, 0), 32);
}

TEST(Pace, BoundsPromptsOnlyWhileSomebodyDecodes) {
  Pace pace;
  EXPECT_EQ(pace.prompt_rows(512, false), 512);
  EXPECT_EQ(pace.prompt_rows(512, true), 64);  // nothing known yet
  pace.note_pass(500, std::chrono::milliseconds(250));
  EXPECT_EQ(pace.prompt_rows(512, true), 200);
  pace.note_pass(1, std::chrono::milliseconds(250));  // says nothing about prompts
  EXPECT_EQ(pace.prompt_rows(512, true), 200);
  EXPECT_EQ(pace.prompt_rows(512, false), 512);
  for (int i = 0; i < 50; ++i) pace.note_pass(500, std::chrono::seconds(50));
  EXPECT_EQ(pace.prompt_rows(512, true), 64);
}

}  // namespace
}  // namespace corvid::model
