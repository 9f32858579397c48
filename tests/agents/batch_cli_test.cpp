// corvid batch, end to end with real processes, a real store and small real models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <csignal>
#include <sstream>
#include <thread>

#include "tests/support/home.h"
#include "tests/support/tiny_model.h"

namespace corvid {
namespace {

using test::Finished;
using test::Home;
using test::Json;
using test::Program;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kAnswer = "Nothing to do.";

class BatchCommand : public testing::Test {
 protected:
  // A workflow in the working folder whose model answers kAnswer to everything.
  void write_workflow(const std::string& rest) {
    home.write("work/w.yaml", "version: 1\nmodel: { path: " + model() + " }\n" + rest);
  }
  std::string model() {
    if (model_.empty()) model_ = test::write_tiny_model(home / "answering", kAnswer).string();
    return model_;
  }
  Finished batch(std::vector<std::string> flags = {}) const {
    flags.insert(flags.begin(), {"batch", "w.yaml", "--output", "json"});
    return home.corvid(flags);
  }
  std::vector<Json> rows(const std::string& folder = "out") const {
    std::vector<Json> all;
    std::istringstream lines(home.read("work/" + folder + "/results.jsonl"));
    for (std::string line; std::getline(lines, line);) all.push_back(Json::parse(line));
    return all;
  }
  static std::vector<int64_t> counts(const Finished& finished) {
    const Json summary = Json::parse(finished.last_line());
    return {summary["total"], summary["passed"], summary["failed"], summary["skipped"]};
  }
  std::vector<std::string> statuses() const {
    std::vector<std::string> all;
    for (const Json& row : rows()) all.push_back(row["status"]);
    return all;
  }
  Home home;

 private:
  std::string model_;
};

TEST_F(BatchCommand, RunsEveryTaskOnceForEachInputAndCell) {
  write_workflow(R"yaml(
concurrency: 3
inputs: [ { word: one }, { word: "it's $(two)" } ]
matrix: { seed: [1, 2] }
tasks:
  say:
    prompt: Say ${{ input.word }}
    setup: ['printf %s "$CORVID_INPUT_WORD" > word.txt']
    checks:
      - answer_matches: '^Nothing\b'
      - answer_equals: Nothing to do.
      - file: { path: word.txt, equals: "${{ input.word }}" }
      - command: 'test "$CORVID_ANSWER" = "Nothing to do." && test "$CORVID_MATRIX_SEED" -ge 1'
  again:
    needs: [say]
    prompt: You said ${{ tasks.say.answer }}
    workdir: { from: say }
    checks: [ { file: { path: word.txt } } ]
    collect: [word.txt, missing.txt]
)yaml");
  const Finished finished = batch();
  EXPECT_EQ(finished.status, 0) << finished.err << home.read("work/out/results.jsonl");
  EXPECT_THAT(counts(finished), ElementsAre(8, 8, 0, 0));
  const std::vector<Json> all = rows();
  ASSERT_EQ(all.size(), 8u);
  EXPECT_EQ(all[7]["task"], "again");
  EXPECT_EQ(all[7]["input"], (Json{{"word", "it's $(two)"}}));
  EXPECT_EQ(all[7]["matrix"], (Json{{"seed", 2}}));
  EXPECT_EQ(all[7]["answer"], kAnswer);
  EXPECT_EQ(all[7]["checks"].size(), 1u);
  const std::string kept = all[7]["collected"][0];
  EXPECT_EQ(home.read("work/out/" + kept), "it's $(two)");
  // The store holds the session, and what the agent was asked.
  const Finished shown = home.corvid({"sessions", "show", all[7]["session_id"].get<std::string>()});
  EXPECT_THAT(shown.out, HasSubstr("You said Nothing to do."));
}

TEST_F(BatchCommand, TheSameCommandAgainMakesNothingTwice) {
  write_workflow(
      "inputs: [ { n: 1 }, { n: 2 } ]\ntasks:\n  a:\n    prompt: Say ${{ input.n }}\n    checks: [ { command: "
      "'test \"$CORVID_INPUT_N\" = 1' } ]\n");
  EXPECT_EQ(batch().status, 1);
  const std::vector<Json> first = rows();
  const Finished again = batch();
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(counts(again), ElementsAre(2, 1, 1, 2));
  EXPECT_EQ(rows(), first);

  const Finished retried = batch({"--retry-failed"});
  EXPECT_THAT(counts(retried), ElementsAre(2, 1, 1, 1));
  EXPECT_EQ(rows()[0], first[0]);
  EXPECT_NE(rows()[1]["session_id"], first[1]["session_id"]);

  EXPECT_THAT(counts(batch({"--force"})), ElementsAre(2, 1, 1, 0));
  EXPECT_NE(rows()[0]["session_id"], first[0]["session_id"]);
}

TEST_F(BatchCommand, AChangedTaskIsMadeAnewWithThoseThatNeedIt) {
  const auto workflow = [](const std::string& prompt) {
    return "tasks:\n  a: { prompt: " + prompt + " }\n  b: { prompt: y, needs: [a] }\n  c: { prompt: z }\n";
  };
  write_workflow(workflow("x"));
  EXPECT_EQ(batch().status, 0);
  write_workflow(workflow("another"));
  EXPECT_THAT(counts(batch()), ElementsAre(3, 3, 0, 1));
}

TEST_F(BatchCommand, WhatNeedsAFailureIsSkippedOrNotAsTheFileSays) {
  write_workflow(R"yaml(
tasks:
  fails: { prompt: x, retries: { times: 2, backoff: 1ms }, checks: [ { answer_equals: something else } ] }
  skipped: { prompt: x, needs: [fails] }
  skipped_too: { prompt: x, needs: [skipped] }
  asked: { prompt: x, needs: [fails], if: "tasks.fails.status == 'failed'" }
  broken: { prompt: x, setup: ['printf "no good" >&2; exit 3'], on_failure: continue }
  proceeds: { prompt: x, needs: [broken] }
)yaml");
  const Finished finished = batch();
  EXPECT_EQ(finished.status, 1);
  EXPECT_THAT(statuses(), ElementsAre("failed", "skipped", "skipped", "passed", "error", "passed"));
  EXPECT_THAT(counts(finished), ElementsAre(6, 2, 2, 2));
  const std::vector<Json> all = rows();
  EXPECT_EQ(all[0]["tries"], 3);
  EXPECT_EQ(all[0]["checks"][0]["found"], "\"Nothing to do.\"");
  EXPECT_EQ(all[4]["error"], "setup: exit status 3: printf \"no good\" >&2; exit 3: no good");
}

TEST_F(BatchCommand, StopsWhenATaskSaysSo) {
  write_workflow(
      "inputs: [ { n: 1 }, { n: 2 }, { n: 3 } ]\ntasks:\n  a: { prompt: x, checks: [ { answer_equals: y } ], "
      "on_failure: stop }\n");
  const Finished finished = batch();
  EXPECT_EQ(finished.status, 1);
  EXPECT_EQ(rows().size(), 1u);
}

TEST_F(BatchCommand, SigtermEndsItWith75AndTheSameCommandGoesOn) {
  const std::string endless = test::write_tiny_model(home / "endless", "and so on, again", true).string();
  home.write("work/w.yaml", "version: 1\nmodel: { path: " + endless +
                                " }\ndefaults: { limits: { tokens: 1000000 } }\ntasks: { a: { prompt: x } }\n");
  Program running(Home::command({"batch", "w.yaml", "--output", "json"}), home.setup());
  const auto has_begun = [&] {
    return home.corvid({"sessions", "list", "--output", "json"}).out.find("running") != std::string::npos;
  };
  for (int i = 0; i < 600 && !has_begun(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  running.signal(SIGTERM);
  const Finished finished = running.wait();
  EXPECT_EQ(finished.status, 75) << finished.err;
  EXPECT_TRUE(rows().empty());

  write_workflow("tasks: { a: { prompt: x } }\n");
  EXPECT_EQ(batch().status, 0);
}

TEST_F(BatchCommand, ATerminalShowsHowFarItIs) {
  write_workflow(
      "inputs: [ { n: 1 }, { n: 2 }, { n: 3 } ]\ntasks: { a: { prompt: x, setup: ['sleep 1.5'], checks: [ { command: "
      "'test \"$CORVID_INPUT_N\" != 2' } ] } }\n");
  const Finished finished = Program(Home::command({"batch", "w.yaml"}), home.setup("", true)).wait();
  EXPECT_EQ(finished.status, 1);
  EXPECT_THAT(finished.out, HasSubstr("0 of 3 done, 1 running, 0 failed, 0 tokens a second"));
  EXPECT_THAT(finished.out,
              testing::ContainsRegex("2 of 3 done, 1 running, 1 failed, [0-9]+ tokens a second, [0-9.]+ s left"));
  EXPECT_THAT(finished.out, HasSubstr("failed\x1b[0m  a  n=2"));  // a line of its own for what did not pass
  EXPECT_THAT(finished.out, testing::Not(HasSubstr("n=3")));
  EXPECT_THAT(finished.out, HasSubstr("\r\x1b[K2 of 3 passed, 1 failed"));
  // The line is drawn anew while nothing happens: three runs of more than a second.
  size_t drawn = 0;
  for (size_t at = 0; (at = finished.out.find(" done, 1 running", at)) != std::string::npos; ++at) ++drawn;
  EXPECT_GE(drawn, 6u);
}

TEST_F(BatchCommand, AKilledRunsHalfLineIsPassedOverAndAForeignOneIsNot) {
  write_workflow("tasks: { a: { prompt: x }, b: { prompt: y } }\n");
  EXPECT_EQ(batch().status, 0);
  const std::string whole = home.read("work/out/results.jsonl");
  home.write("work/out/results.jsonl", whole.substr(0, whole.size() - 20));
  EXPECT_THAT(counts(batch()), ElementsAre(2, 2, 0, 1));
  home.write("work/out/results.jsonl", "{\"task\": 1}\n" + whole);
  const Finished refused = batch();
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("results.jsonl:1: want a row of results"));
}

TEST_F(BatchCommand, ShardsMakeTogetherWhatOneMakes) {
  write_workflow(
      "matrix: { k: [1, 2, 3] }\ntasks: { a: { prompt: \"x ${{ matrix.k }}\", setup: ['echo $CORVID_MATRIX_K > k'], "
      "collect: [k] } }\n");
  EXPECT_THAT(counts(batch({"--shard", "1/2"})), ElementsAre(2, 2, 0, 0));
  home.environment["SLURM_ARRAY_TASK_ID"] = "8";
  home.environment["SLURM_ARRAY_TASK_MIN"] = "7";
  home.environment["SLURM_ARRAY_TASK_COUNT"] = "2";
  EXPECT_THAT(counts(batch()), ElementsAre(1, 1, 0, 0));
  EXPECT_EQ(rows("out/shard-1-of-2").size() + rows("out/shard-2-of-2").size(), 3u);
  EXPECT_TRUE(std::filesystem::exists(home.work() / "out/shard-2-of-2/corvid.db"));
  EXPECT_EQ(batch({"--shard", "3/2"}).status, 2);

  // Without a shard it gathers what the parts made.
  for (const char* name : {"ID", "MIN", "COUNT"}) home.environment.erase(std::string("SLURM_ARRAY_TASK_") + name);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(counts(batch()), ElementsAre(3, 3, 0, 3));
    EXPECT_EQ(rows().size(), 3u);
  }
  EXPECT_THAT(home.read("work/out/" + rows()[2]["collected"][0].get<std::string>()), HasSubstr("3"));
  for (const Json& row : rows())
    EXPECT_EQ(home.corvid({"sessions", "show", row["session_id"].get<std::string>()}).status, 0);
  EXPECT_EQ(Json::parse(home.corvid({"sessions", "list", "--output", "json"}).out).size(), 3u);
}

// The environment that Kubernetes gives a pod of the job, by the file that ships.
TEST_F(BatchCommand, APodOfAnIndexedJobTakesItsPart) {
  write_workflow("matrix: { k: [1, 2, 3, 4, 5, 6, 7, 8, 9] }\ntasks: { a: { prompt: x } }\n");
  const YAML::Node spec = YAML::LoadFile(CORVID_SOURCE_DIR "/configs/cluster/kubernetes.yaml")["spec"];
  const YAML::Node container = spec["template"]["spec"]["containers"][0];
  EXPECT_EQ(spec["completionMode"].as<std::string>(), "Indexed");
  EXPECT_EQ(container["command"][1].as<std::string>(), "batch");
  for (const auto& variable : container["env"])
    home.environment[variable["name"].as<std::string>()] = variable["value"].as<std::string>();
  const int pods = spec["completions"].as<int>();
  int64_t runs = 0;
  for (int pod = 0; pod < pods; ++pod) {
    home.environment["JOB_COMPLETION_INDEX"] = std::to_string(pod);
    const Finished planned = home.corvid({"batch", "w.yaml", "--dry-run"});
    ASSERT_EQ(planned.status, 0) << planned.err;
    runs += std::count(planned.out.begin(), planned.out.end(), '\n') - 1;  // and a line of their number
  }
  EXPECT_EQ(runs, 9);
  home.environment["JOB_COMPLETION_INDEX"] = std::to_string(pods);
  EXPECT_EQ(home.corvid({"batch", "w.yaml", "--dry-run"}).status, 2);
}

TEST_F(BatchCommand, OneTaskAloneLeavesTheOthersRowsAndFallbacksAreNotMadeTwice) {
  write_workflow(R"yaml(
tasks:
  a: { prompt: x }
  fix: { prompt: x, needs: [a], if: "!tasks.a.passed" }
  last: { prompt: x, needs: [a, fix], if: "true" }
)yaml");
  EXPECT_THAT(counts(batch()), ElementsAre(3, 2, 0, 1));
  EXPECT_THAT(counts(batch()), ElementsAre(3, 2, 0, 3));
  EXPECT_THAT(counts(batch({"--only", "a", "--force"})), ElementsAre(1, 1, 0, 0));
  EXPECT_EQ(rows().size(), 3u);
}

TEST_F(BatchCommand, ALinkToAFolderIsCopiedAsThatFolderAndOnlyFilesAreFiles) {
  home.write("work/real/f.txt", "mine");
  std::filesystem::create_directory_symlink(home.work() / "real", home.work() / "link");
  write_workflow(R"yaml(
tasks:
  a:
    prompt: x
    workdir: { copy: link }
    setup: ['echo theirs > f.txt; mkdir folder; mkfifo pipe']
    checks: [ { file: { path: folder, exists: false } }, { file: { path: pipe, exists: false } } ]
  b: { prompt: x, needs: [a], workdir: { from: a }, checks: [ { file: { path: f.txt, contains: theirs } } ] }
)yaml");
  EXPECT_EQ(batch().status, 0) << home.read("work/out/results.jsonl");
  EXPECT_EQ(home.read("work/real/f.txt"), "mine");
}

TEST_F(BatchCommand, ClonesARepository) {
  const Finished made = Program({"/bin/sh", "-c",
                                 "git init -q repo && cd repo && echo one > f && git add f && git -c user.name=a "
                                 "-c user.email=a@b commit -qm one && echo two > f"},
                                home.setup())
                            .wait();
  ASSERT_EQ(made.status, 0) << made.err;
  write_workflow(
      "tasks:\n  a:\n    prompt: x\n    workdir: { git: repo }\n    checks: [ { file: { path: f, equals: "
      "\"one\\n\" } }, { command: 'git log --oneline | grep -q one && test -z \"$(git status --porcelain)\"' } "
      "]\n");
  home.environment["GIT_DIR"] = (home.work() / "repo/.git").string();  // as in a hook: not to be followed
  EXPECT_EQ(batch().status, 0) << home.read("work/out/results.jsonl");
  EXPECT_THAT(home.read("work/repo/.git/HEAD"), HasSubstr("ref: refs/heads/"));
}

TEST_F(BatchCommand, ValuesInAnExpressionStandForThemselves) {
  write_workflow(R"yaml(
inputs: [ { t: "Nothing to do." }, { t: "N.*" }, { t: "d|z" } ]
tasks:
  whole: { prompt: x, checks: [ { answer_matches: '^${{ input.t }}$' } ] }
  class: { prompt: x, checks: [ { answer_matches: '^Nothing to [${{ input.t }}]' } ] }
  file: { prompt: x, setup: ['echo "$CORVID_INPUT_T" > f'], checks: [ { file: { path: f, matches: '^${{ input.t }}$' } } ] }
)yaml");
  EXPECT_EQ(batch().status, 1);
  EXPECT_THAT(statuses(),
              ElementsAre("passed", "passed", "passed", "failed", "failed", "passed", "failed", "passed", "passed"));
}

// Not even where the policy shows the folder that it lies in.
TEST_F(BatchCommand, NoTaskSeesTheStore) {
  home.write("work/policy.yaml", "version: 1\nread: [" + (home / "work").string() + "]\n");
  const std::string store = (home / "work/all.db").string();
  write_workflow("policy: ./policy.yaml\ntasks:\n  a:\n    prompt: Say hello\n    checks:\n      - command: 'test -s " +
                 (home / "work/w.yaml").string() + "'\n      - command: 'test ! -s " + store + "'\n");
  const Finished finished = batch({"--db", store});
  EXPECT_EQ(finished.status, 0) << finished.err << home.read("work/out/results.jsonl");
  EXPECT_NE(home.read("work/all.db"), "");
}

TEST_F(BatchCommand, AValueMayBeLongerThanACommandLine) {
  home.write("work/long.jsonl",
             Json{{"t", std::string(300'000, 'x') + "'end"}, {"u", std::string(60'000, 'u')}}.dump());
  write_workflow(R"yaml(
inputs: { jsonl: long.jsonl }
tasks:
  a:
    prompt: x
    setup: ['printf %s "$CORVID_INPUT_T" > t']
    checks:
      - file: { path: t, matches: "^(x{60000}){5}'end$" }
      - command: '[ ${#CORVID_INPUT_T} = 300004 ] && ! read line && [ -z "$CORVID_" ]'
      - command: 'python3 -c "import os; assert len(os.environ[''CORVID_INPUT_U'']) == 60000; assert ''CORVID_INPUT_T'' not in os.environ"'
)yaml");
  EXPECT_EQ(batch().status, 0) << home.read("work/out/results.jsonl").substr(0, 4000);
}

TEST_F(BatchCommand, WritesReportsThatParse) {
  write_workflow(
      "inputs: [ { t: \"<b>&]]>\\x01\\uffff\" } ]\ntasks:\n  a: { prompt: x }\n  b: { prompt: x, checks: [ { "
      "answer_equals: \"</script><script>alert(1)</script>\" } ] }\noutputs: { formats: [jsonl, junit, csv, "
      "markdown, html] }\n");
  EXPECT_EQ(batch().status, 1);
  const char* script =
      "import xml.etree.ElementTree as E, csv, json, re\n"
      "root = E.parse('out/junit.xml').getroot()\n"
      "assert (root.get('tests'), root.get('failures')) == ('2', '1'), root.attrib\n"
      "assert [c.get('name') for c in root.iter('testcase')] == ['t=<b>&]]>\\ufffd\\ufffd'] * 2\n"
      "assert len(list(root.iter('failure'))) == 1\n"
      "rows = list(csv.DictReader(open('out/results.csv', newline='')))\n"
      "assert [r['status'] for r in rows] == ['passed', 'failed'], rows\n"
      "assert json.loads(rows[0]['input']) == {'t': '<b>&]]>\\x01\\uffff'}\n"
      "page = open('out/report.html').read()\n"
      "assert page.count('<script') == 2 and page.count('</script>') == 2\n"
      "data = json.loads(re.search('id=\"data\">(.*?)</script>', page, re.S).group(1))\n"
      "assert [s['role'] for s in data['rows'][0]['timeline']] == ['user', 'assistant'], data\n"
      "assert '| b |' in open('out/summary.md').read()\n";
  const Finished parsed = Program({"/usr/bin/env", "python3", "-c", script}, home.setup()).wait();
  EXPECT_EQ(parsed.status, 0) << parsed.err;
}

TEST_F(BatchCommand, TheWorkflowThatShipsPassesWithTheModelThatShips) {
  const std::string file = CORVID_SOURCE_DIR "/configs/workflows/triage.yaml";
  const Finished finished = home.corvid({"batch", file, "--out", (home / "out").string(), "--output", "json"});
  EXPECT_EQ(finished.status, 0) << finished.err << home.read("out/results.jsonl");
  EXPECT_THAT(counts(finished), ElementsAre(4, 4, 0, 0));
}

TEST_F(BatchCommand, DryRunAndValidateRunNothing) {
  write_workflow("inputs: [ { w: one } ]\ntasks: { a: { prompt: \"Say ${{ input.w }}\" } }\n");
  const Finished plan = home.corvid({"batch", "w.yaml", "--dry-run"});
  EXPECT_EQ(plan.status, 0);
  EXPECT_THAT(plan.out, HasSubstr("Say one"));
  EXPECT_FALSE(std::filesystem::exists(home.work() / "out"));
  EXPECT_EQ(home.corvid({"batch", "validate", "w.yaml"}).status, 0);
  write_workflow("tasks: { a: { promt: x } }\n");
  const Finished wrong = home.corvid({"batch", "validate", "w.yaml"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("w.yaml:3:15: unknown key \"promt\"; did you mean \"prompt\"?"));
}

}  // namespace
}  // namespace corvid
