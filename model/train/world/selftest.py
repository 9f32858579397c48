"""python3 -m world.selftest [--each N]: golden files of the chat format, determinism, and trajectories of every skill."""

import argparse
import json
import os
import sys
import time

from . import execute, generate, prefixes, render, skills

GOLDEN = os.path.join(os.path.dirname(__file__), "../../../tests/golden/chat")


def golden(name):
    with open(os.path.join(GOLDEN, name), newline="") as f:
        return f.read()


def check_rendering():
    messages = [
        {"role": "user", "text": "how many txt files are in notes?"},
        {"role": "assistant", "text": "", "calls": [{"id": "call_1", "name": "shell", "args": {"command": "ls notes/*.txt | wc -l"}}]},
        {"role": "tool", "text": "3", "call": "call_1"},
        {"role": "assistant", "text": "There are 3 txt files in notes.", "calls": []},
        {"role": "user", "text": "thanks"},
    ]
    head = render.prefix_pieces(prefixes.DEFAULT)
    assert render.text_of(head) == golden("prefix.txt"), "prefix.txt differs"
    assert render.text_of(head + render.message_pieces(messages)) == golden("conversation.txt"), "conversation.txt differs"
    with open(os.path.join(GOLDEN, "../../../configs/agents/default.yaml")) as f:
        assert prefixes.INSTRUCTIONS in f.read(), "configs/agents/default.yaml has other instructions"
    for pieces in (head, render.message_pieces(messages)):
        for (special, text, runs), following in zip(pieces, pieces[1:] + [(True, "", [])]):
            assert sum(n for n, _ in runs) == len(text) and (special or following[0]), "pieces are not joined"
    one = json.loads(golden("prefix.txt").split("<tool>")[1].split("</tool>")[0])
    assert set(execute.ARGUMENTS["shell"]) == set(one["parameters"]["properties"])


def check_variants():
    for p in prefixes.all_prefixes()[1:]:
        names = [t["name"] for t in p["tools"]]
        assert len(names) == len(set(names)) and "shell" in p["rename"], "a variant with two tools of one name"
        for t in p["tools"]:
            assert all(k in t["parameters"]["properties"] for k in t["parameters"]["required"]), t


def check_determinism():
    first = [line for line, _ in generate.generate(5, 60, 1, variants=2) if line]
    second = [line for line, _ in generate.generate(5, 60, 2, variants=2) if line]
    assert first == second, "the records depend on the number of jobs"
    later = [line for line, _ in generate.generate(5, 20, 1, variants=2, first=40) if line]
    assert first[40:] == later, "the records depend on where the run begins"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--each", type=int, default=200, help="trajectories of each skill")
    parser.add_argument("--skills", nargs="*", default=[])
    args = parser.parse_args()
    check_rendering()
    check_variants()
    usable, skipped = skills.load()
    if not args.skills:
        check_determinism()
    print("rendering, prefixes, determinism: ok; %d skills, skipped %s" % (len(usable), skipped or "none"))
    bad = 0
    for name in sorted(usable):
        if args.skills and not any(name.startswith(p) for p in args.skills):
            continue
        began, count, lost, reasons = time.monotonic(), 0, 0, {}
        for line, dropped in generate.generate(11, args.each, os.cpu_count(), [name], 1, 0.1):
            if line:
                count += 1
            else:
                lost += sum(dropped.values())
                reasons.update(dropped)
        share = lost / (lost + count)
        print("  %-20s %5d good, %4d dropped, %4.0f a second%s" % (
            name, count, lost, (count + lost) / (time.monotonic() - began), "   <-- " + max(reasons, key=reasons.get) if share > 0.03 else ""))
        bad += share > 0.1
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
