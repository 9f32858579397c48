"""Asks, at the end of long sessions, for values that early tool results have shown:

    python3 tests/eval/retrieval.py --corvid build/release/corvid --model configs/models/corvid-small.gguf

Each session begins with a few things that are looked at, goes on with other chores until it has the wanted number of
tokens, and ends with one question about each of the first things. The steps are real: the training world's generator
ran every call (model/train/world, with the words and wordings that it keeps from training), and they are put into
corvid's store as if corvid had just done them. The questions go through `corvid sessions resume` in an empty folder, so
that nothing but the session can answer them. A question counts as answered where the answer holds the value and no tool
was called. Needs Python's `regex`.
"""

import argparse
import json
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "model/train"), str(pathlib.Path(__file__).parent)]

import run_eval


def records(seed, count, skills, jobs):
    command = [sys.executable, "-m", "world.generate", "--seed", str(seed), "--count", str(count), "--jobs", str(jobs),
               "--validation", "1", "--skills", *skills, "--out", "-"]  # fmt: skip
    lines = subprocess.run(command, cwd=ROOT / "model/train", stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [r for r in map(json.loads, lines[1:]) if r["prefix"] == 0]


class Counter:
    """Tokens of messages as the model reads them."""

    def __init__(self, model, folder):
        import bpe
        import gguf_file
        from world import render

        keys, _ = gguf_file.read(model)
        path = folder / "tokenizer.json"
        path.write_text(json.dumps(gguf_file.tokenizer(model, keys), ensure_ascii=False), encoding="utf-8")
        self.bpe, self.pieces = bpe.Bpe(path, plain=True), render.message_pieces

    def __call__(self, messages):
        return sum(1 if special else len(self.bpe.encode(text)) for special, text, _ in self.pieces(messages))


def parts_of(record):
    """(messages that show something, [(question, value)] of the questions that refer back and need no call)."""
    messages, shown, asked = record["messages"], [], []
    cuts = [(0, False), *record.get("gaps", ()), (len(messages), False)]
    for (begin, asks), (end, _) in zip(cuts, cuts[1:]):
        part = messages[begin:end]
        if not asks:
            shown += part
        elif len(part) == 2 and part[1].get("kept"):
            asked.append((part[0]["text"], part[1]["kept"]))
    return shown, asked


def session(rng, count, tokens, facts, filler):
    """(messages, [(question, value)]) of a session of about that many tokens: all facts first, a question about each last."""
    messages, asked = [], []
    for fact in facts:
        shown, questions = parts_of(fact)
        messages += shown
        asked.append(rng.choice(questions))
    used = count(messages)
    while used < tokens:
        more = rng.choice(filler)["messages"]
        messages += more
        used += count(more)
    return messages, asked


def store(path, like, messages):
    """Adds a session with these messages to a store, with the agent and tools of the session `like`."""
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM results"), db.execute("DELETE FROM calls"), db.execute("DELETE FROM messages"), db.execute("DELETE FROM runs")
        now = int(time.time() * 1000)
        call = 0
        names = {}
        for seq, m in enumerate(messages):
            known = names.get(m.get("call"))
            db.execute("INSERT INTO messages (session, seq, created_ms, role, text, reasoning, call_id) VALUES (?,?,?,?,?,?,?)",
                       (like, seq, now, m["role"], m["text"], "", known))  # fmt: skip
            for i, c in enumerate(m.get("calls", ())):
                call += 1
                names[c["id"]] = f"call_{call}"
                db.execute("INSERT INTO calls VALUES (?,?,?,?,?,?)", (like, names[c["id"]], seq, i, c["name"], json.dumps(c["args"])))
            if m["role"] == "tool":
                db.execute("INSERT INTO results VALUES (?,?,?,'ok',NULL,1.0,'{}')", (like, known, seq))


def ask(args, db, like, folder, attention, questions, before):
    """The answers of one process to the questions, in order, and the tokens of the first prompt."""
    command = [args.corvid, "sessions", "resume", like, "--db", str(db), "--model", args.model, "--workdir", str(folder), "--attention", attention]
    subprocess.run(command, input="\n".join(questions) + "\n", text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with sqlite3.connect(db) as connection:
        rows = connection.execute("SELECT role, text, prompt_tokens FROM messages WHERE session = ? AND seq >= ? ORDER BY seq", (like, before)).fetchall()
    answers = [[] for _ in questions]
    at = -1
    for role, text, _ in rows:
        at += role == "user"
        if role != "user" and 0 <= at < len(answers):
            answers[at].append((role, text))
    first = next((tokens for _, _, tokens in rows if tokens), 0)
    return answers, first


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corvid", default=str(ROOT / "build/release/corvid"))
    parser.add_argument("--model", default=str(ROOT / "configs/models/corvid-small.gguf"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[8000, 16000, 32000], help="tokens of session")
    parser.add_argument("--sessions", type=int, default=4, help="sessions of each length")
    parser.add_argument("--facts", type=int, default=5, help="things asked for in each session")
    parser.add_argument("--attention", nargs="+", default=["sparse", "dense"])
    parser.add_argument("--seed", type=int, default=90001)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--why", action="store_true", help="print what was answered wrong")
    args = parser.parse_args()
    args.corvid, args.model = str(pathlib.Path(args.corvid).resolve()), str(pathlib.Path(args.model).resolve())
    need = len(args.lengths) * args.sessions * args.facts
    facts = [r for r in records(args.seed, 3 * need + 20, ["recall"], args.jobs) if r["skill"] != "recall.answer" and parts_of(r)[1]]
    groups = ["files", "text", "meta", "table", "log", "http", "multi", "fail"]
    filler = records(args.seed + 1, 400, groups, args.jobs)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        folder = work / "folder"
        folder.mkdir()
        count = Counter(args.model, work)
        empty = work / "empty.db"
        subprocess.run([args.corvid, "run", "--db", str(empty), "--model", args.model, "--workdir", str(folder), "hello"], check=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        like = sqlite3.connect(empty).execute("SELECT id FROM sessions").fetchone()[0]
        print(f"{'tokens':>7} {'attention':>9} {'asked':>6} {'right':>6} {'share':>7} {'seconds':>8}")
        for length in args.lengths:
            cases = [session(rng, count, length - 900, [facts.pop() for _ in range(args.facts)], filler) for _ in range(args.sessions)]
            for attention in args.attention:
                right, wrong, tokens, began = 0, [], 0, time.monotonic()
                for messages, asked in cases:
                    db = work / "case.db"
                    for old in work.glob("case.db*"):  # a log of the case before would not fit
                        old.unlink()
                    shutil.copy(empty, db)
                    store(db, like, messages)
                    answers, first = ask(args, db, like, folder, attention, [q for q, _ in asked], len(messages))
                    tokens = max(tokens, first)
                    for (question, value), said in zip(asked, answers):
                        good = len(said) == 1 and run_eval.has_text(said[0][1], value)
                        right += good
                        if not good:
                            wrong.append(f"    {question!r} wants {value!r}: {said}")
                asked = args.sessions * args.facts
                print(f"{tokens:7} {attention:>9} {asked:6} {right:6} {right / asked:7.1%} {time.monotonic() - began:8.1f}", flush=True)
                if args.why:
                    print("\n".join(wrong), flush=True)


if __name__ == "__main__":
    main()
