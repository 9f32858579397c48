#include "agents/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agents/inputs.h"

namespace corvid::agents {
namespace {

using testing::ElementsAre;

std::vector<std::string> answers_in_csv(const std::vector<std::string>& answers) {
  std::vector<Row> rows;
  for (const std::string& answer : answers) {
    Row& row = rows.emplace_back();
    row.task = "a";
    row.answer = answer;
  }
  std::vector<std::string> found;
  const auto table = parse_csv(to_csv(rows));
  for (size_t i = 1; i < table.size(); ++i) found.push_back(table[i][4]);
  return found;
}

TEST(Csv, NoCellIsAFormula) {
  EXPECT_THAT(answers_in_csv({"=HYPERLINK(\"x\")", "+1+cmd|x", "-1", "-1e3", "@SUM(A1)", "\t=1", "a=1", "-"}),
              ElementsAre("'=HYPERLINK(\"x\")", "'+1+cmd|x", "-1", "-1e3", "'@SUM(A1)", "'\t=1", "a=1", "'-"));
}

}  // namespace
}  // namespace corvid::agents
