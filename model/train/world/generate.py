"""Makes trajectories:  python3 -m world.generate --seed 1 --count 1000 --jobs 2 --out data.jsonl.gz --report

Record i depends on the seed and i alone, not on the number of jobs. Every `--variants` neighbouring records share one
world and its executed calls and differ in wording. The first line of the output is {"prefixes": [...]}; records refer
to them by "prefix". A record:

    {"skill", "split", "family", "prompt_variant", "prefix", "messages": [
        {"role": "user", "text"}, {"role": "assistant", "text", "calls": [{"id", "name", "args"}]},
        {"role": "tool", "text", "call"}, ...]}

A record with "gaps": [[number of messages, asks], ...] may have any other work of the same session before each of these
messages; where `asks`, a question follows that refers back to what the record has shown before.
"""

import argparse
import collections
import gzip
import json
import multiprocessing
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time

from . import execute, prefixes, skills
from .scene import Drop, OtherPath, Scene

# Shares of the groups; within a group the skills' own weights count.
GROUPS = {"files": 29, "text": 10, "meta": 8, "table": 11, "log": 6, "http": 9, "system": 4, "git": 3, "multi": 17, "chat": 15,
          "fail": 15, "none": 5, "extra": 2, "recall": 45}
VALIDATION_SHARE = 0.02
DEFAULT_PREFIX_SHARE = 0.75
ATTEMPTS = 6
HOMES = ["/home/%s", "/home/%s/work", "/home/%s/projects", "/home/%s/Documents", "/srv/%s", "/tmp/%s", "/Users/%s", "/data/%s", "/work/%s"]


class Maker:
    def __init__(self, seed, only, variants, validation_share, worlds, scratch):
        self.seed, self.variants, self.validation_share, self.worlds = seed, variants, validation_share, worlds
        self.skills, self.skipped = skills.load()
        if only:
            self.skills = {k: v for k, v in self.skills.items() if any(k.startswith(o) for o in only)}
        if not self.skills:
            raise SystemExit("no such skills")
        self.choices, self.weights = [], []
        for group, share in GROUPS.items():
            mine = [(n, f, w) for n, fs in self.skills.items() if n.split(".")[0] == group for w, f, _ in fs]
            total = sum(w for _, _, w in mine)
            for name, function, weight in mine:
                self.choices.append((name, function))
                self.weights.append(share * weight / total)
        self.prefixes = prefixes.all_prefixes()
        self.scratch, self.boxes = scratch, 0

    def group(self, number):
        """The records of one world: ([record], {reason: count})."""
        dropped = collections.Counter()
        for attempt in range(ATTEMPTS):
            key = "%d/%d/%d" % (self.seed, number, attempt)
            rng = random.Random(key)
            name, function = rng.choices(self.choices, self.weights)[0]
            validation = rng.random() < self.validation_share
            records, recorded = [], None
            world_seed = rng.random()
            for variant in range(self.variants):
                say_rng = random.Random("%s/%d" % (key, variant))
                scene = Scene(name, random.Random(world_seed), say_rng, validation, self._open_box(key), recorded)
                try:
                    function(scene)
                    scene.finish()
                except Drop as e:
                    dropped["%s: %s" % (name, e)] += 1
                    if variant == 0:
                        break
                    continue
                except OtherPath:
                    dropped["(other calls in a variant)"] += 1
                    continue
                finally:
                    scene.close()
                if recorded is None:
                    recorded = scene.calls
                records.append(self._record(scene, say_rng, variant))
            if records:
                return records, dropped
        return [], dropped

    def _record(self, scene, rng, variant):
        prefix, messages = self.prefixes[0], scene.messages
        if rng.random() >= DEFAULT_PREFIX_SHARE:
            for _ in range(8):
                other = rng.choice(self.prefixes[1:])
                translated = prefixes.translate(other, scene.messages)
                if translated is not None:
                    prefix, messages = other, translated
                    break
        world = {"world": scene.world()} if self.worlds else {}
        return {"skill": scene.skill, "split": "validation" if scene.validation else "train", "family": "+".join(scene.families),
                "prompt_variant": variant, "prefix": prefix["id"], **({"gaps": scene.gaps} if scene.gaps else {}), "messages": messages, **world}

    def _open_box(self, key):
        def open_box(shown):
            self.boxes += 1
            rng = random.Random(key + "/path")
            if shown is None:
                shown = rng.choice(HOMES) % ("%s%d" % (rng.choice(["u", "m", "p", "box"]), rng.randrange(1000))) + "/" + rng.choice(
                    ["project", "files", "stuff", "folder", "things", "box", "desk"])
            return execute.Box(os.path.join(self.scratch, "w%d" % self.boxes, "p"), shown)
        return open_box


_maker = None


def _start(seed, only, variants, validation_share, worlds, base):
    global _maker
    os.umask(0o022)
    scratch = tempfile.mkdtemp(prefix="j", dir=base)
    _maker = Maker(seed, only, variants, validation_share, worlds, scratch)


def _work(numbers):
    out, dropped = [], collections.Counter()
    for n in numbers:
        records, lost = _maker.group(n)
        out.append([json.dumps(r, separators=(",", ":")) for r in records])
        dropped.update(lost)
    shutil.rmtree(_maker.scratch)
    os.makedirs(_maker.scratch)
    return out, dropped


def generate(seed, count, jobs, only=(), variants=1, validation_share=VALIDATION_SHARE, first=0, worlds=False):
    """Yields (line, {reason: count}) for each record, in order."""
    base = tempfile.mkdtemp(prefix="world-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    groups = range(first // variants, (first + count + variants - 1) // variants)
    chunks = [groups[i:i + 32] for i in range(0, len(groups), 32)]
    setup = (seed, tuple(only), variants, validation_share, worlds, base)
    try:
        made = 0
        if jobs == 1:
            _start(*setup)
            results = map(_work, chunks)
            pool = None
        else:
            pool = multiprocessing.get_context("fork").Pool(jobs, _start, setup)
            results = pool.imap(_work, chunks)
        for lists, dropped in results:
            yield None, dropped
            for lines in lists:
                for line in lines:
                    if made < count:
                        made += 1
                        yield line, None
        if pool:
            pool.close()
            pool.join()
    finally:
        shutil.rmtree(base, ignore_errors=True)


def quantiles(values):
    values = sorted(values)
    return "median %d, 95%% %d, max %d" % (statistics.median(values), values[int(0.95 * (len(values) - 1))], values[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000, help="records (a few less when worlds are dropped)")
    parser.add_argument("--first", type=int, default=0, help="number of the first record, a multiple of --variants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--variants", type=int, default=1, help="wordings of each executed world")
    parser.add_argument("--validation", type=float, default=VALIDATION_SHARE, help="share of validation worlds")
    parser.add_argument("--skills", nargs="*", default=[], help="prefixes of skill names")
    parser.add_argument("--worlds", action="store_true", help="put the folder that each record began in beside it, for replays")
    parser.add_argument("--out", required=True, help="a .jsonl or .jsonl.gz file, or - for standard output")
    parser.add_argument("--report", action="store_true", help="figures on standard error")
    args = parser.parse_args()

    usable, skipped = skills.load()
    for name, program in sorted(skipped.items()):
        print("skipped %s: no %s here" % (name, program), file=sys.stderr)
    out = sys.stdout if args.out == "-" else gzip.open(args.out, "wt", compresslevel=4) if args.out.endswith(".gz") else open(args.out, "w")
    began = time.monotonic()
    out.write(json.dumps({"prefixes": prefixes.all_prefixes()}, separators=(",", ":")) + "\n")
    count, drops = 0, collections.Counter()
    by_skill, prompts, prompt_words, answers, chars, wholes = collections.Counter(), set(), [], [], [], set()
    duplicates = calls = 0
    words, families = collections.Counter(), {"train": set(), "validation": set()}
    for line, lost in generate(args.seed, args.count, args.jobs, args.skills, args.variants, args.validation, args.first, args.worlds):
        if line is None:
            drops.update(lost)
            continue
        out.write(line + "\n")
        count += 1
        if args.report:
            record = json.loads(line)
            by_skill[record["skill"]] += 1
            said = [m["text"] for m in record["messages"] if m["role"] == "user"]
            prompt_words += [len(t.split()) for t in said]
            prompts.update(hash(t) for t in said)
            words.update(w for t in said for w in re.findall(r"[a-z]+", t.lower()))
            families[record["split"]].update((record["skill"], f) for f in record["family"].split("+"))
            answers += [len(m["text"]) for m in record["messages"] if m["role"] == "assistant" and not m["calls"]]
            calls += sum(len(m.get("calls", ())) for m in record["messages"])
            chars.append(len(line))
            whole = hash(json.dumps(record["messages"]))
            duplicates += whole in wholes
            wholes.add(whole)
    if out is not sys.stdout:
        out.close()
    if args.report:
        took = time.monotonic() - began
        err = sys.stderr
        print("%d records in %.1f s: %.0f a second with %d jobs" % (count, took, count / took, args.jobs), file=err)
        print("prompts: %d, %d different, words %s" % (len(prompt_words), len(prompts), quantiles(prompt_words)), file=err)
        print("words of requests: %d different, %d of them ten times or more" % (len(words), sum(n >= 10 for n in words.values())), file=err)
        print("families of requests: %d in training, %d in validation, %d in both" % (
            len(families["train"]), len(families["validation"]), len(families["train"] & families["validation"])), file=err)
        print("answers: %d, characters %s; calls: %d" % (len(answers), quantiles(answers), calls), file=err)
        print("record length %s; %d duplicates" % (quantiles(chars), duplicates), file=err)
        for name in sorted(by_skill):
            lost = sum(n for r, n in drops.items() if r.startswith(name + ":"))
            print("  %-20s %7d  %5.1f%%  dropped %d" % (name, by_skill[name], 100 * by_skill[name] / count, lost), file=err)
        print("dropped worlds and variants: %d" % sum(drops.values()), file=err)
        for reason, n in drops.most_common(25):
            print("  %6d  %s" % (n, reason[:160]), file=err)


if __name__ == "__main__":
    main()
