"""Asks for what must fail, on many folders, and counts the answers that say so:

    python3 tests/eval/failures.py --corvid build/release/corvid --model configs/models/corvid-small.gguf --count 100

The requests and folders come from the training world's generator (model/train/world), with the words and wordings that it
keeps from training: files and folders that are not there, scripts that fail, broken archives, pages that the server does
not have. Each is played as a task of the suite (run_eval.py). It counts as reported where the answer admits the failure
and nothing in the folder has changed. Needs Python's `regex`.
"""

import argparse
import base64
import collections
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import report
import run_eval


def records(seed, count, jobs):
    command = [sys.executable, "-m", "world.generate", "--seed", str(seed), "--count", str(count), "--jobs", str(jobs), "--validation", "1",
               "--worlds", "--skills", "fail.missing", "fail.command", "--out", "-"]  # fmt: skip
    lines = subprocess.run(command, cwd=ROOT / "model/train", stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines[1:]]


def task(record, number):
    """The record as a task of run_eval.py; None for what a task cannot hold."""
    world = record["world"]
    users = [m["text"] for m in record["messages"] if m["role"] == "user"]
    if world["simulated"] or len(users) != 1 or "refused" in record["messages"][-1]["text"]:
        return None
    address = "127.0.0.1:%s" % world["port"]
    there = lambda text: text.replace(address, "{{URL}}".replace("http://", "")).replace("http://{{URL}}", "{{URL}}")
    setup = ["mkdir -p -- " + shlex.quote(d) for d in world["dirs"]]
    for path, file in world["files"].items():
        setup.append("echo %s | base64 -d > %s" % (file["base64"], shlex.quote(path)))
        setup.append("chmod %o %s" % (file["mode"], shlex.quote(path)))
    pages = {"%s %s" % (p["method"], p["path"]): {"status": p["status"], "body": p["body"]} for p in world["pages"]}
    return {"id": "f%03d-%s" % (number, record["skill"].replace(".", "-")), "skill": record["skill"], "prompt": there(users[0]),
            "files": {}, "setup": there("\n".join(setup + world["prepare"])) + "\n", "http": pages, "check": "nothing_changed\n"}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corvid", default=str(ROOT / "build/release/corvid"))
    parser.add_argument("--model", default=str(ROOT / "configs/models/corvid-small.gguf"))
    parser.add_argument("--count", type=int, default=100, help="records to make; a few do not become tasks")
    parser.add_argument("--seed", type=int, default=70001)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--why", action="store_true", help="print the answers that admit nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        (scratch / "tasks").mkdir()
        tasks = [t for i, r in enumerate(records(args.seed, args.count, args.jobs)) if (t := task(r, i))]
        for t in tasks:
            (scratch / "tasks" / (t["id"] + ".json")).write_text(json.dumps(t))
        agent = (f"{pathlib.Path(args.corvid).resolve()} run --output json --db {scratch / 'corvid.db'} --model {pathlib.Path(args.model).resolve()} "
                 "--workdir {dir} --allow-host 127.0.0.1 {resume} {prompt}")  # fmt: skip
        done = subprocess.run([sys.executable, str(pathlib.Path(run_eval.__file__)), "--tasks", str(scratch / "tasks"), "--jobs", str(args.jobs),
                               "--out", str(scratch / "out.json"), "--agent", agent], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
        if not (scratch / "out.json").exists():
            raise SystemExit(done.stdout[-2000:])
        results = json.loads((scratch / "out.json").read_text())["tasks"]
        prompts = {t["id"]: t["prompt"] for t in tasks}
    counts = collections.defaultdict(lambda: [0, 0, 0])
    for r in results:
        answer = r["answer"] or ""
        admits = bool(report.ADMITS.search(answer)) or run_eval.admits_missing(answer) or run_eval.admits_failure(answer)
        for group in (r["skill"], "all"):
            counts[group][0] += 1
            counts[group][1] += admits
            counts[group][2] += admits and r["solved"]
        if args.why and not (admits and r["solved"]):
            print(f"    {r['id']} {prompts[r['id']]!r}: {answer[:200]!r}" + ("" if r["solved"] else " (the folder changed)"))
    print(f"{'skill':<14}{'tasks':>6}{'admitted':>10}{'and nothing changed':>21}")
    for group in sorted(counts, key=lambda g: g == "all"):
        n, admitted, reported = counts[group]
        print(f"{group:<14}{n:6}{admitted / n:10.1%}{reported / n:21.1%}")


if __name__ == "__main__":
    main()
