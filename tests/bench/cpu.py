"""Measures corvid and llama.cpp on the same files, in turns, and writes what came out:  script/bench cpu

Both decode and prefill random tokens behind a made-up cache, with the same threads; llama.cpp with flash attention and
without, which differ by more than either from corvid. Every case is measured once a round, the programs one after the
other, so that a machine that slows down slows all of them; the figures are medians over the rounds. What takes llama.cpp
most of a minute is measured in the first round alone, and then with flash attention, which is its faster setting there.
With --keep a run can be cut into pieces:  --quick --keep f.json --file minimax-m3-q8_0 --cases short, and so on.
"""
import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import figures
from figures import CORVID, FLASH, PLAIN

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests/bench/results/cpu.csv"
PACKAGE = "node-llama-cpp@3.22.1"
FAMILIES, TYPES = ["minimax-m3", "qwen3moe"], ["q8_0", "q4_0"]
DEPTHS = [0, 4096, 16384, 32768]


def run(*words, **options):
    return subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def make_file(corvid, cache, family, kind):
    file = cache / f"{family}-{kind}.gguf"
    if not file.exists():
        run(corvid, "model", "bench", "--random", f"{family}:type={kind}", "--save", file)
    return file


def build_peer(cache):
    """llama.cpp's libraries and headers of one release, out of an npm package, and our driver of them."""
    package = cache / "node_modules/node-llama-cpp"
    if not package.exists():
        run("npm", "install", "--silent", "--no-fund", "--no-audit", PACKAGE, cwd=cache,
            env=os.environ | {"NODE_LLAMA_CPP_SKIP_DOWNLOAD": "true"})
    libraries = cache / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
    headers = cache / "llama.cpp"
    if not (headers / "include/llama.h").exists():
        shutil.rmtree(headers, ignore_errors=True)
        headers.mkdir()
        run("git", "clone", "--quiet", "--bare", package / "llama/gitRelease.bundle", headers / "release.git")
        run("git", f"--git-dir={headers}/release.git", "archive", "--output", headers / "headers.tar", "HEAD", "include",
            "ggml/include")
        run("tar", "-C", headers, "-xf", headers / "headers.tar")
    driver = cache / "llama_cpp"
    run("g++", "-std=c++20", "-O2", f"-I{headers}/include", f"-I{headers}/ggml/include",
        ROOT / "tests/bench/llama_cpp.cpp", "-o", driver, f"-L{libraries}",
        *[f"-l:{next(libraries.glob(name)).name}" for name in ("libllama.*so", "libggml.*so", "libggml-base.so")],
        f"-Wl,-rpath,{libraries}", f"-Wl,-rpath-link,{libraries}")
    return driver, libraries


class Figures:
    """All samples, by file, program and case; a case is (phase, tokens, depth), ("cost", cache type, depth),
    ("first_token_ms",) or ("peak_bytes",)."""

    def __init__(self):
        self.samples, self.bytes, self.about = {}, {}, {}
        self.memory = {}  # its speed, as measured just before a case: by file and case

    def add(self, file, program, case, value):
        self.samples.setdefault((file, program, case), []).append(value)

    def save(self, path):
        path.write_text(json.dumps({
            "samples": [[file, program, case, values] for (file, program, case), values in self.samples.items()],
            "bytes": [[file, case, value] for (file, case), value in self.bytes.items()],
            "memory": [[file, case, values] for (file, case), values in self.memory.items()], "about": self.about}))

    def load(self, path):
        kept = json.loads(path.read_text())
        self.samples = {(file, program, tuple(case)): values for file, program, case, values in kept["samples"]}
        self.bytes = {(file, tuple(case)): value for file, case, value in kept["bytes"]}
        self.memory = {(file, tuple(case)): values for file, case, values in kept["memory"]}
        self.about = kept["about"]


def bench(corvid, file, threads, prompts, gen, depths, *options):
    return json.loads(run(corvid, "model", "bench", file, "--prompt", prompts, "--gen", gen, "--depth",
                          ",".join(map(str, depths)), "--threads", threads, "--output", "json", *options))


def measure_costs(found, corvid, file, threads, gen):
    """What a token at a depth takes, as a multiple of one at depth 0 within the same second or two: the memory's speed
    goes up and down within minutes, so quotients of medians would compare its moods."""
    for cache_type in ("f16", "q8_0"):
        depths = [0, *DEPTHS[-2:]]
        out = bench(corvid, file, threads, 0, gen, depths * 3, "--repeat", 1, "--cache-type", cache_type)
        speeds = [result["tokens_per_second"] for result in out["results"]]
        for turn in range(0, len(speeds), len(depths)):
            for depth, speed in zip(depths[1:], speeds[turn + 1:]):
                found.add(file.stem, CORVID, ("cost", cache_type, depth), speeds[turn] / speed)


def measure_corvid(found, corvid, file, threads, prompts, gen, depths, records_load):
    out = bench(corvid, file, threads, prompts, gen, depths, "--repeat", 1)
    for result in out["results"]:
        case = (result["phase"], result["tokens"], result["depth"])
        found.add(file.stem, CORVID, case, result["tokens_per_second"])
        found.memory.setdefault((file.stem, case), []).append(result["memory_bytes_per_second"])
        if "bytes_per_token" in result:
            found.bytes[file.stem, case] = result["bytes_per_token"]["total"]
    found.about["tier"] = out["tier"]
    if records_load:
        found.add(file.stem, CORVID, ("first_token_ms",), out["first_token_ms"])
        found.add(file.stem, CORVID, ("peak_bytes",), out["peak_bytes"])


def measure_peer(found, peer, program, file, threads, cases, records_load):
    driver, libraries = peer
    out = json.loads(run(driver, libraries, file, 1 if program == FLASH else 0, threads,
                         *[":".join(map(str, case)) for case in cases]))
    for result in out["results"]:
        case = (result["phase"], result["tokens"], result["depth"])
        found.add(file.stem, program, case, result["tokens_per_second"])
    found.about["version"] = out["version"]
    if records_load:
        found.add(file.stem, program, ("first_token_ms",), out["first_token_ms"])
        found.add(file.stem, program, ("peak_bytes",), out["peak_bytes"])


def measure(arguments, cache, found):
    corvid, threads = arguments.corvid.resolve(), arguments.threads
    peer = build_peer(cache)
    gen = 16
    short = [("prefill", 512, 0)] + [("decode", gen, depth) for depth in DEPTHS]
    long = [("prefill", 4096, 0), ("prefill", 512, 32768)]
    if arguments.full:
        long += [("prefill", 512, depth) for depth in (4096, 16384)]
    for kind in TYPES[:1] if arguments.quick and not arguments.file else TYPES:
        for family in FAMILIES:
            if arguments.file and f"{family}-{kind}" not in arguments.file:
                continue
            file = make_file(corvid, cache, family, kind)
            file.read_bytes()  # so that it lies in the page cache
            for round_ in range(1 if arguments.quick else arguments.rounds):
                print(f"{file.stem}: round {round_ + 1}", file=sys.stderr, flush=True)
                deep = DEPTHS[1:] if arguments.full else DEPTHS[-1:]  # where llama.cpp's prefill is measured too
                if arguments.cases != "long":
                    measure_corvid(found, corvid, file, threads, 512, gen, [0, DEPTHS[-1]], True)
                    measure_corvid(found, corvid, file, threads, 0, gen, DEPTHS[1:-1], False)
                    measure_costs(found, corvid, file, threads, gen)
                    for program in (FLASH, PLAIN):
                        measure_peer(found, peer, program, file, threads, short, True)
                if arguments.cases != "short":
                    measure_corvid(found, corvid, file, threads, 512, 0, deep, False)
                    measure_corvid(found, corvid, file, threads, 4096, 0, [0], False)
                    if round_ > 0:
                        continue
                    for program in (FLASH, PLAIN) if arguments.full else (FLASH,):
                        measure_peer(found, peer, program, file, threads, long, False)


def write_csv(found):
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["file", "program", "what", "tokens", "depth", "median", "lowest", "highest", "repeats",
                       "bytes_per_token", "memory_bytes_per_second"])
        for (file, program, case), samples in found.samples.items():
            bytes_ = found.bytes.get((file, case)) if program == CORVID else None
            what = [f"cost, {case[1]}", "", case[2]] if case[0] == "cost" else [case[0], *(case[1:] or ("", ""))]
            rows.writerow([file, program, *what,
                           *(f"{value:.6g}" for value in (statistics.median(samples), min(samples), max(samples))),
                           len(samples), f"{bytes_:.0f}" if bytes_ else "",
                           f"{statistics.median(found.memory[file, case]):.4g}" if bytes_ else ""])


def main():
    parser = argparse.ArgumentParser(prog="script/bench cpu")
    parser.add_argument("--corvid", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one round, the q8_0 files, printed and not written")
    parser.add_argument("--file", action="append", metavar="NAME", help="this file alone, as minimax-m3-q4_0; repeatable")
    parser.add_argument("--cases", choices=["short", "long"], help="only what takes seconds, or a minute of llama.cpp")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="go on with the figures kept there, and keep these too")
    parser.add_argument("--full", action="store_true", help="further prefill at depth, with both of llama.cpp's settings")
    parser.add_argument("--rounds", type=int, default=5, help="of everything that is not long (default: 5)")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corvid-bench"
    cache.mkdir(parents=True, exist_ok=True)
    found = Figures()
    if arguments.keep and arguments.keep.exists():
        found.load(arguments.keep)
    measure(arguments, cache, found)
    if arguments.keep:
        found.save(arguments.keep)
    if arguments.quick:
        figures.print_table(found, arguments.threads)
        return
    write_csv(found)
    figures.write_docs(found, arguments.threads, ROOT / "docs")


if __name__ == "__main__":
    main()
