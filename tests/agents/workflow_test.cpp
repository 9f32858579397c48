#include "agents/workflow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agents/inputs.h"
#include "agents/plan.h"
#include "tests/support/temp_dir.h"
#include "tests/support/throws.h"

namespace corvid::agents {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class WorkflowFile : public testing::Test {
 protected:
  Workflow load(const std::string& text) {
    file_ = dir_.write("w.yaml", text);
    return load_workflow(file_);
  }
  // The message without the path in front of it.
  std::string complaint(const std::string& text) {
    const std::string message = test::message_of([&] { load(text); });
    return message.starts_with(file_.string()) ? message.substr(file_.string().size()) : message;
  }
  static std::string with_task(const std::string& lines) {
    return "version: 1\ninputs:\n  - { file: a.log }\nmatrix: { seed: [1, 2] }\ntasks:\n  a:\n    prompt: go\n  b:\n" +
           lines;
  }
  test::TempDir dir_;
  std::filesystem::path file_;
};

TEST_F(WorkflowFile, IsReadWhole) {
  dir_.write("logs/a.log", "x");
  const Workflow workflow = load(R"(
version: 1
name: log triage
concurrency: 4
defaults: { timeout: 60s, retries: { times: 2, backoff: 10ms }, limits: { turns: 12 } }
inputs:
  - { file: a.log, n: 2, word: no, text: "2" }
matrix: { seed: [1, 2], temperature: [0, 0.5] }
tasks:
  report:
    needs: [count]
    if: ${{ tasks.count.passed }}
    prompt: Write ${{ tasks.count.answer }}
    workdir: { from: count }
    limits: { turns: 3 }
    checks: [ { file: { path: report.txt, contains: "7" } } ]
    collect: [report.txt]
  count:
    prompt: How many lines of ${{ input.file }} contain ERROR?
    workdir: { copy: logs }
    on_failure: continue
outputs: { dir: results, formats: [jsonl, junit] }
)");
  EXPECT_EQ(workflow.name, "log triage");
  EXPECT_EQ(workflow.concurrency, 4);
  EXPECT_EQ(workflow.inputs, (std::vector<Json>{{{"file", "a.log"}, {"n", 2}, {"word", "no"}, {"text", "2"}}}));
  EXPECT_EQ(workflow.outputs.dir, dir_ / "results");
  ASSERT_EQ(workflow.tasks.size(), 2u);
  const Task &count = workflow.tasks[0], &report = workflow.tasks[1];  // in the order in which they can run
  EXPECT_EQ(count.name, "count");
  EXPECT_EQ(count.agent.limits.turns, 12);
  EXPECT_EQ(report.agent.limits.turns, 3);
  EXPECT_EQ(count.timeout, std::chrono::seconds(60));
  EXPECT_EQ(count.retries, 2);
  EXPECT_EQ(count.backoff, std::chrono::milliseconds(10));
  EXPECT_EQ(count.on_failure, OnFailure::proceed);
  EXPECT_EQ(report.workdir.kind, Workdir::Kind::from);

  const std::vector<agents::Run> plan = make_plan(workflow, "m");
  ASSERT_EQ(plan.size(), 8u);
  EXPECT_EQ(plan[1].matrix, (Json{{"seed", 1}, {"temperature", 0}}));
  EXPECT_EQ(plan[2].matrix, (Json{{"seed", 1}, {"temperature", 0.5}}));
  EXPECT_THAT(plan[3].needs, ElementsAre(2u));
}

TEST_F(WorkflowFile, ErrorsNameTheirPlaceAndTheNearestKey) {
  EXPECT_EQ(complaint("version: 1\nmatrx: {}\ntasks: { a: { prompt: x } }\n"),
            ":2:1: unknown key \"matrx\"; did you mean \"matrix\"?");
  EXPECT_EQ(complaint("version: 2\ntasks: { a: { prompt: x } }\n"),
            ":1:10: version: want a whole number from 1 to 1, found \"2\"");
  EXPECT_THAT(complaint("tasks: { a: { prompt: x } }\n"), HasSubstr("want `version: 1`"));
  EXPECT_THAT(complaint("version: 1\n"), HasSubstr("want `tasks`"));
  EXPECT_THAT(complaint("version: 1\ntasks:\n  a: { prompt: x }\n  a: { prompt: y }\n"),
              HasSubstr(":4:3: the key \"a\" stands here twice"));
  EXPECT_THAT(complaint("version: 1\ntasks: { a: { } }\n"), HasSubstr("want a prompt, found none"));
  EXPECT_THAT(complaint("version: 1\ntasks: { a: { prompt: x }\n"), HasSubstr(":3:1: "));  // the bracket is not closed
}

TEST_F(WorkflowFile, RefusesReferencesThatLeadNowhere) {
  EXPECT_THAT(complaint(with_task("    prompt: ${{ input.fil }}\n")),
              HasSubstr(":9:13: prompt: inputs have no \"fil\"; did you mean \"file\"?"));
  EXPECT_THAT(complaint(with_task("    prompt: ${{ matrix.sed }}\n")),
              HasSubstr("matrix has no \"sed\"; did you mean \"seed\"?"));
  EXPECT_THAT(complaint(with_task("    prompt: ${{ tasks.a.answer }}\n")),
              HasSubstr("the task a has to stand in `needs` of b"));
  EXPECT_THAT(complaint(with_task("    prompt: ${{ tasks.c.answer }}\n")), HasSubstr("no task named \"c\""));
  EXPECT_THAT(complaint(with_task("    needs: [a]\n    prompt: ${{ tasks.a.anser }}\n")),
              HasSubstr("did you mean \"answer\"?"));
  EXPECT_THAT(complaint(with_task("    prompt: ${{ env.HOME }}\n")),
              HasSubstr("want input.…, matrix.… or tasks.…, found env"));
  EXPECT_THAT(complaint(with_task("    needs: [c]\n    prompt: x\n")), HasSubstr("no task named \"c\""));
}

TEST_F(WorkflowFile, RefusesCircles) {
  EXPECT_THAT(complaint("version: 1\ntasks:\n  a: { prompt: x, needs: [c] }\n  b: { prompt: x, needs: [a] }\n  c: { "
                        "prompt: x, needs: [b] }\n"),
              HasSubstr(":3:6: a: the tasks need each other: a needs c needs b needs a"));
  EXPECT_THAT(complaint("version: 1\ntasks:\n  a: { prompt: x, needs: [a] }\n"), HasSubstr("a needs a"));
}

TEST_F(WorkflowFile, ACommandTakesNoTemplate) {
  EXPECT_THAT(complaint(with_task("    prompt: x\n    setup: ['touch ${{ input.file }}']\n")),
              HasSubstr("a command takes no ${{ }}"));
  EXPECT_THAT(complaint(with_task("    prompt: x\n    checks: [{ command: 'test ${{ input.file }}' }]\n")),
              HasSubstr("CORVID_INPUT_FILE"));
}

TEST_F(WorkflowFile, RefusesChecksThatMakeNoSense) {
  EXPECT_THAT(complaint(with_task("    prompt: x\n    checks: [{ answer_matches: '(' }]\n")),
              HasSubstr("not in order"));
  EXPECT_THAT(complaint(with_task("    prompt: x\n    checks: [{ file: { path: x, exists: no } }]\n")),
              HasSubstr("exists: want true or false, found \"no\""));
  EXPECT_THAT(complaint(with_task("    prompt: x\n    checks: [{ file: { path: x, exists: false, contains: y } }]\n")),
              HasSubstr("has no contents"));
  EXPECT_THAT(complaint(with_task("    prompt: x\n    collect: [../x]\n")),
              HasSubstr("want a path beneath the working folder"));
}

TEST_F(WorkflowFile, RefusesWhatASchemaCheckWouldNotLookAt) {
  const auto schema = [](const std::string& text) {
    return with_task("    prompt: x\n    checks:\n      - answer_schema: " + text + "\n");
  };
  EXPECT_EQ(complaint(schema("{ type: object, propertys: {} }")),
            ":11:40: unknown key \"propertys\"; did you mean \"properties\"?");
  EXPECT_THAT(complaint(schema("{ properties: { n: { type: integer, minimum: 3 } } }")),
              HasSubstr(":11:60: unknown key \"minimum\""));
  EXPECT_THAT(complaint(schema("{ items: { type: strng } }")), HasSubstr("did you mean \"string\"?"));
  EXPECT_THAT(complaint(schema("{ type: object, additionalProperties: no }")),
              HasSubstr(":11:62: additionalProperties: want true or false, found \"no\""));
  EXPECT_THAT(complaint(schema("{ required: name }")), HasSubstr("want a list of texts"));
  EXPECT_THAT(complaint(schema("{ enum: [] }")), HasSubstr("want at least one value"));
  const Workflow workflow = load(schema(
      "{ title: t, type: object, required: [n], properties: { n: { enum: [1, no] } }, additionalProperties: false }"));
  EXPECT_EQ(workflow.tasks[1].checks[0].schema, (Json{{"type", "object"},
                                                      {"required", {"n"}},
                                                      {"properties", {{"n", {{"enum", {1, "no"}}}}}},
                                                      {"additionalProperties", false}}));
}

TEST_F(WorkflowFile, RefusesBytesThatAreNoText) {
  EXPECT_EQ(complaint("version: 1\nmatrix: { word: [a, \"\xff\"] }\ntasks: { a: { prompt: x } }\n"),
            ":2:22: want UTF-8 without NULs, found another byte");
  EXPECT_EQ(complaint("version: 1\nmatrix: { word: [\"a\\0b\"] }\ntasks: { a: { prompt: x } }\n"),
            ":2:18: want a text, found one with a NUL in it");
  dir_.write("bad.csv", "name\nfine\nM\xfcller\n");
  EXPECT_THAT(complaint("version: 1\ninputs: { csv: bad.csv }\ntasks: { a: { prompt: x } }\n"),
              HasSubstr("bad.csv:3: want UTF-8 without NULs, found another byte"));
  dir_.write("logs/\xff.log", "");
  EXPECT_THAT(complaint("version: 1\ninputs: { glob: 'logs/*' }\ntasks: { a: { prompt: x } }\n"),
              HasSubstr(":2:17: glob: want names in UTF-8"));
}

TEST_F(WorkflowFile, RefusesNestingWithoutEnd) {
  EXPECT_THAT(complaint("version: 1\ninputs: " + std::string(500'000, '[') + "\n"),
              HasSubstr("want at most 64 levels"));
  EXPECT_THAT(complaint("version: 1\ninputs: &a [*a]\ntasks: { a: { prompt: x } }\n"), HasSubstr("levels"));
}

TEST_F(WorkflowFile, AFolderThatIsNotThereIsNamedWithItsLine) {
  const auto planned = [&](const std::string& workdir) {
    const Workflow workflow = load(with_task("    prompt: x\n    workdir: " + workdir + "\n"));
    const std::string message = test::message_of([&] { make_plan(workflow, "m"); });
    return message.substr(message.find("w.yaml") + 6);
  };
  EXPECT_EQ(planned("{ copy: nowhere }"), ":10:22: copy: no such folder to copy: " + (dir_ / "nowhere").string());
  EXPECT_EQ(planned("{ copy: 'logs/${{ input.file }}' }"),
            ":10:22: copy: no such folder to copy: " + (dir_ / "logs/a.log").string());
  EXPECT_THAT(planned("{ git: nowhere }"), HasSubstr(":10:21: git: no such repository"));
}

TEST_F(WorkflowFile, RefusesAnAliasBomb) {
  std::string bomb = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int k = 0; k < 9; ++k) bomb += ", " + last;
    bomb += "]\n";
  }
  EXPECT_THAT(complaint(bomb), HasSubstr("want at most 100000 values, found more"));
}

TEST_F(WorkflowFile, InputsComeFromFiles) {
  dir_.write("rows.csv", "name,text\r\nfirst,\"a, \"\"b\"\"\nc\"\r\n\r\nsecond,\r\n");
  dir_.write("rows.jsonl", "{\"x\": 1}\n\n{\"x\": \"two\"}\n");
  dir_.write("logs/b.log", "");
  dir_.write("logs/a.log", "");
  const std::string tasks = "\ntasks: { a: { prompt: x } }\n";
  EXPECT_EQ(load("version: 1\ninputs: { csv: rows.csv }" + tasks).inputs,
            (std::vector<Json>{{{"name", "first"}, {"text", "a, \"b\"\nc"}}, {{"name", "second"}, {"text", ""}}}));
  EXPECT_EQ(load("version: 1\ninputs: { jsonl: rows.jsonl }" + tasks).inputs,
            (std::vector<Json>{{{"x", 1}}, {{"x", "two"}}}));
  EXPECT_EQ(load("version: 1\ninputs: { glob: 'logs/*.log' }" + tasks).inputs,
            (std::vector<Json>{{{"path", dir_ / "logs/a.log"}, {"name", "a.log"}, {"stem", "a"}},
                               {{"path", dir_ / "logs/b.log"}, {"name", "b.log"}, {"stem", "b"}}}));
  EXPECT_THAT(complaint("version: 1\ninputs: { glob: 'nothing/*' }" + tasks),
              HasSubstr("want at least one input, found none"));
  EXPECT_THAT(complaint("version: 1\ninputs: { csv: none.csv }" + tasks), HasSubstr("no such file"));
  dir_.write("bad.jsonl", "{\"x\": 1}\n[2]\n");
  EXPECT_THAT(complaint("version: 1\ninputs: { jsonl: bad.jsonl }" + tasks),
              HasSubstr("bad.jsonl:2: want a JSON object on the line, found array"));
  dir_.write("bad.csv", "a,b\n1\n");
  EXPECT_THAT(complaint("version: 1\ninputs: { csv: bad.csv }" + tasks), HasSubstr("record 1: want 2 fields, found 1"));
}

TEST_F(WorkflowFile, AKeyChangesWithWhatTheOutcomeDependsOn) {
  dir_.write("logs/a.log", "x");
  const std::string text =
      "version: 1\ntasks:\n  a: { prompt: x, workdir: { copy: logs } }\n  b: { prompt: y, needs: [a] }\n";
  const auto keys = [&](const std::string& yaml, const std::string& model) {
    std::vector<std::string> found;
    const Workflow workflow = load(yaml);
    for (const agents::Run& run : make_plan(workflow, model)) found.push_back(run.key);
    return found;
  };
  const std::vector<std::string> before = keys(text, "m");
  EXPECT_EQ(keys(text, "m"), before);
  EXPECT_EQ(keys("name: other\nconcurrency: 3\n" + text, "m"), before);  // who runs it, and how, does not matter
  const auto all_differ = [&](const std::vector<std::string>& after) {
    return after[0] != before[0] && after[1] != before[1];
  };
  EXPECT_TRUE(all_differ(keys(text, "another model")));
  dir_.write("logs/a.log", "y");
  EXPECT_TRUE(all_differ(keys(text, "m")));  // b needs a
}

TEST_F(WorkflowFile, ShardsShareOutTheCells) {
  std::string text =
      "version: 1\nmatrix: { k: [1, 2, 3, 4, 5] }\ntasks:\n  a: { prompt: x }\n  b: { prompt: y, needs: [a] }\n";
  const Workflow workflow = load(text);
  const std::vector<agents::Run> plan = make_plan(workflow, "m");
  std::vector<std::string> all;
  for (int64_t i = 1; i <= 3; ++i) {
    const std::vector<agents::Run> shard = take_shard(plan, i, 3);
    for (size_t k = 0; k < shard.size(); ++k) {
      all.push_back(shard[k].key);
      for (const size_t need : shard[k].needs) EXPECT_EQ(shard[need].cell, shard[k].cell);
    }
  }
  std::vector<std::string> wanted;
  for (const agents::Run& run : plan) wanted.push_back(run.key);
  EXPECT_THAT(all, testing::UnorderedElementsAreArray(wanted));
  EXPECT_EQ(take_tasks(plan, {"a"}).size(), 5u);
  EXPECT_EQ(take_tasks(plan, {"b"}).size(), 10u);
  EXPECT_EQ(take_first(plan, 2).size(), 4u);
}

}  // namespace
}  // namespace corvid::agents
