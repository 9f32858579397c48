"""Measures agents at once in one process against as many processes and against one after the other:  script/bench batch

The same 64 chores with the model that ships, each in a folder of its own with a tool call and a check:

  one process    corvid batch --jobs N
  N processes    corvid batch --shard I/N --jobs 1, N of them at once; each computes with its share of the cores
  a process a task   corvid run, N at once

N = 1 in one process is one after the other. Told are the time until the last chore is done, generated tokens a second,
the peak memory of all processes together (their proportional share of what they share, PSS, looked at every 20 ms), and
how many chores passed. Medians of --rounds rounds; nothing else should run meanwhile.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = """
version: 1
name: batch
inputs: { jsonl: inputs.jsonl }
tasks:
  count:
    prompt: "How many lines of ${{ input.file }} contain ERROR?"
    workdir: { copy: "logs/${{ input.folder }}" }
    checks: [ { answer_matches: '\\b${{ input.errors }}\\b' } ]
"""


class Memory:
    """The peak of the PSS of processes that are added, and of their children, while they run."""

    def __init__(self):
        self.pids, self.peak, self.stop = set(), 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.stop.wait(0.02):
            self.peak = max(self.peak, sum(map(self.pss, list(self.pids))))

    @staticmethod
    def pss(pid):
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        return 0

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.peak


def write_chores(folder, count):
    (folder / "logs").mkdir(parents=True)
    lines = []
    for i in range(count):
        name, errors = f"app{i}.log", i % 7 + 1
        (folder / "logs" / str(i)).mkdir()
        (folder / "logs" / str(i) / name).write_text("INFO fine\n" * (i % 3) + "ERROR bad\n" * errors + "INFO done\n")
        lines.append(json.dumps({"file": name, "errors": errors, "folder": str(i)}))
    (folder / "inputs.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "w.yaml").write_text(WORKFLOW)


def start(corvid, folder, memory, command, *words):
    program, device = corvid
    process = subprocess.Popen([program, command, "--device", device, *map(str, words)], cwd=folder, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               env=os.environ | {"XDG_DATA_HOME": str(folder / "data")})
    memory.pids.add(process.pid)
    return process


def rows_of(folder):
    return [json.loads(line) for file in folder.glob("out/**/results.jsonl") for line in file.read_text().splitlines()]


def one_process(corvid, folder, memory, jobs):
    start(corvid, folder, memory, "batch", "w.yaml", "--jobs", jobs).wait()
    return rows_of(folder)


def many_processes(corvid, folder, memory, jobs):
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    for process in [start(corvid, folder, memory, "batch", "w.yaml", "--jobs", 1, "--shard", f"{i + 1}/{jobs}", "--threads",
                          threads) for i in range(jobs)]:
        process.wait()
    return rows_of(folder)


def process_a_task(corvid, folder, memory, jobs):
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)

    def run(line):
        chore = json.loads(line)
        work = folder / "work" / chore["folder"]
        shutil.copytree(folder / "logs" / chore["folder"], work)
        out, _ = start(corvid, folder, memory, "run", "--workdir", work, "--output", "json", "--threads", threads,
                       f"How many lines of {chore['file']} contain ERROR?").communicate()
        result = json.loads(out.splitlines()[-1])
        is_right = str(chore["errors"]) in result["answer"].replace(chore["file"], "")
        return {"status": "passed" if is_right else "failed", "completion_tokens": result["usage"]["completion_tokens"]}

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(run, (folder / "inputs.jsonl").read_text().splitlines()))


WAYS = {"one process": one_process, "N processes": many_processes, "a process a task": process_a_task}


def measure(corvid, way, jobs, tasks):
    folder = Path(tempfile.mkdtemp(prefix="corvid-batch-"))
    try:
        write_chores(folder, tasks)
        memory = Memory()
        begin = time.monotonic()
        try:
            rows = WAYS[way](corvid, folder, memory, jobs)
        finally:
            peak = memory.end()
        seconds = time.monotonic() - begin
        return {"seconds": seconds, "tokens": sum(row["completion_tokens"] for row in rows) / seconds, "bytes": peak,
                "passed": sum(row["status"] == "passed" for row in rows)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corvid", type=Path, default=ROOT / "build/release/corvid")
    parser.add_argument("--jobs", default="1,4,16,64", help="agents at once (default: 1,4,16,64)")
    parser.add_argument("--device", default="cpu", help="cpu (the default), cuda")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    corvid = args.corvid.resolve(), args.device
    cases = [(way, jobs) for jobs in map(int, args.jobs.split(",")) for way in args.ways.split(",")]
    measure(corvid, "one process", 4, 4)  # what is evaluated once in a machine's life is evaluated
    found = {case: [] for case in cases}
    for _ in range(args.rounds):
        for case in cases:
            found[case].append(measure(corvid, *case, args.tasks))
    base = None
    print("| agents | way | seconds | times faster | tokens a second | memory, MB | passed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (way, jobs), rounds in found.items():
        of = lambda key: statistics.median(one[key] for one in rounds)
        base = base or of("seconds")
        print(f"| {jobs} | {way} | {of('seconds'):.1f} | {base / of('seconds'):.2f} | {of('tokens'):.0f} |"
              f" {of('bytes') / 1e6:.0f} | {of('passed'):.0f} of {args.tasks} |", flush=True)


if __name__ == "__main__":
    main()
