"""The chore suite in figures, by skill group, beside baselines:

    python3 tests/eval/report.py --corvid build/release/corvid [--model FILE] [--first FILE] [--tasks DIR]

plays the tasks greedily; with seeds 1, 2 and 3 at temperature 0.7 (pass^3: solved with each of them); with the first
model where --first names it; and with two agents that know nothing: one that runs `shell` with an empty command, one
that looks for a keyword in the request. Columns:

    solved     the task's own checks (run_eval.py)
    tool       the calls are of the kind that the task needs: http_request where the request or its files name a URL, none
               where nothing is to be looked up, any other tool otherwise
    arguments  and every call went through (in the group `fail`: any result)
    confident  not solved, and the answer admits no failure
"""

import argparse
import collections
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ADMITS = re.compile(r"\b(not|no|fail\w*|error|can't|cannot|couldn't|nothing|none|denied|refused)\b", re.I)

# A word of the request, and what is then run with the first name in it.
KEYWORDS = [
    (r"how many lines", "wc -l < {}"), (r"how many words", "wc -w < {}"), (r"how many|count", "ls {} | wc -l"),
    (r"largest|biggest", "ls -S {} | head -1"), (r"newest|latest", "ls -t {} | head -1"), (r"sha256", "sha256sum {}"), (r"md5", "md5sum {}"),
    (r"size|bytes", "stat -c %s {}"), (r"delete|remove", "rm {}"), (r"folder .*(make|create)|(make|create).* folder", "mkdir -p {}"),
    (r"branch", "git branch --show-current"), (r"commit", "git log -1 --format=%s"), (r"executable", "chmod +x {}"), (r"unpack|extract", "tar xzf {}"),
    (r"sort", "sort -o {} {}"), (r"http://", "curl -s {}"), (r"date|day", "date +%F"), (r"cpu|processor", "nproc"), (r"kernel", "uname -r"),
    (r"where am i|current folder", "pwd"), (r"list|which files|what is in", "ls {}"), (r"", "cat {}"),
]  # fmt: skip
NAME = re.compile(r"http://\S+|[\w./-]*[\w-]\.\w+|[\w-]+/[\w/-]*")


def baseline(kind, prompt):
    """What an agent that knows nothing answers, run in the working folder."""
    command = ""
    if kind == "keyword":
        name = (NAME.findall(prompt) or ["."])[0]
        command = next(c for pattern, c in KEYWORDS if re.search(pattern, prompt, re.I)).replace("{}", shlex.quote(name))
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    answer = done.stdout.strip() or "[no output]"
    print(json.dumps({"session_id": "none", "status": "completed", "answer": answer, "turns": 2,
                      "tool_calls": [{"name": "shell", "status": "ok" if done.returncode == 0 else "failed"}]}))  # fmt: skip


def wrapped(log, command):
    """Runs an agent, hands its output on and appends its last line to the log."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    sys.stdout.write(done.stdout)
    with open(log, "a") as file:
        file.write((done.stdout.strip().splitlines() or ["{}"])[-1] + "\n")
    return done.returncode


def play(args, command, scratch, resume="{resume}"):
    """One run of the suite: [(task, its result, what the agent printed in each turn)]."""
    log, out = scratch / "log", scratch / "out.json"
    results = []
    for path in sorted(pathlib.Path(args.tasks).glob("*.json")):
        task = json.loads(path.read_text())
        log.write_text("")
        agent = f"{shlex.quote(sys.executable)} {HERE / 'report.py'} --wrap {log} {command} {resume} {{prompt}}"
        subprocess.run([sys.executable, HERE / "run_eval.py", "--tasks", args.tasks, "--only", task["id"], "--jobs", "1", "--out", out, "--agent", agent],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # fmt: skip
        result = json.loads(out.read_text())["tasks"][0]
        results.append((task, result, [json.loads(line) for line in log.read_text().splitlines()]))
    return results


def judged(task, result, turns):
    group = task["skill"].split(".")[0]
    calls = [c for t in turns for c in t.get("tool_calls", ())]
    kinds = {"http" if c["name"] == "http_request" else "other" for c in calls}
    want = {"http"} if "{{URL}}" in json.dumps(task) else {"other"}
    tool = not calls or group == "none" and task["skill"] != "none.talk" if group == "none" else want <= kinds
    arguments = tool and (group == "fail" or all(c["status"] == "ok" for c in calls))
    confident = not result["solved"] and result["status"] == "completed" and not ADMITS.search(result["answer"] or "")
    return {"tasks": 1, "solved": result["solved"], "tool": tool, "arguments": arguments, "confident": confident,
            "turns": sum(t.get("turns", 0) for t in turns), "seconds": result["seconds"]}  # fmt: skip


def table(results):
    groups = collections.defaultdict(list)
    for played in results:
        groups[played[0]["skill"].split(".")[0]].append(judged(*played))
        groups["all"].append(judged(*played))
    print(f"{'group':<8}{'tasks':>6}{'solved':>8}{'tool':>6}{'arguments':>11}{'confident':>11}{'turns':>7}{'seconds':>9}")
    for group in [g for g in groups if g != "all"] + ["all"]:
        rows = groups[group]
        total = {k: sum(r[k] for r in rows) for k in rows[0]}
        median = sorted(r["seconds"] for r in rows)[len(rows) // 2]
        print(f"{group:<8}{len(rows):6}{total['solved']:8}{total['tool']:6}{total['arguments']:11}{total['confident']:11}{total['turns'] / len(rows):7.1f}{median:9.2f}", flush=True)


def main():
    if sys.argv[1:2] == ["--wrap"]:
        return wrapped(sys.argv[2], sys.argv[3:])
    if sys.argv[1:2] == ["--baseline"]:
        return baseline(sys.argv[2], sys.argv[-1])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corvid", default=str(ROOT / "build/release/corvid"))
    parser.add_argument("--model", default=str(ROOT / "configs/models/corvid-small.gguf"))
    parser.add_argument("--first", help="an older model to compare with")
    parser.add_argument("--tasks", default=str(HERE / "tasks"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="of the runs at temperature 0.7")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        run = lambda model, more="": (f"{pathlib.Path(args.corvid).resolve()} run --output json --db {scratch / 'corvid.db'} --model {pathlib.Path(model).resolve()} "
                                      f"--workdir {{dir}} --allow-host 127.0.0.1 {more}")  # fmt: skip
        agents = [("greedy", run(args.model), "{resume}")]
        if args.first:
            agents.append((f"baseline: {pathlib.Path(args.first).name}, greedy", run(args.first), "{resume}"))
        for kind in ("empty", "keyword"):
            agents.append((f"baseline: {kind} command", f"{sys.executable} {HERE / 'report.py'} --baseline {kind}", "{resume}"))
        for title, command, resume in agents:
            print(f"\n{title}")
            table(play(args, command, scratch, resume))
        runs = [play(args, run(args.model, f"--temperature 0.7 --seed {seed}"), scratch) for seed in args.seeds]
        if runs:
            solved = [{t["id"] for t, r, _ in results if r["solved"]} for results in runs]
            print(f"\ntemperature 0.7, seeds {args.seeds}: solved {[len(s) for s in solved]}; with every seed {len(set.intersection(*solved))} of {len(runs[0])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
