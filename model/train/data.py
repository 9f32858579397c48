"""From records to token shards, while the generator still runs, and from shards to packed batches.

    python3 data.py --work DIR --seed 1 --count 2000000 --jobs 12 --variants 4

starts the generator, learns the tokenizer from its first records, and writes shards into DIR as they fill:
    tokenizer.json, prefixes.npz        written once
    shard-00000.npz ...                 token, code (loss weight), offsets, prefix, gap, skill, valid; names in skills
    feed.json                           progress, rewritten with each shard; "done" at the end

A weight code is the loss weight times 16; CONTEXT marks text that is read and not written by the agent (the requests
and the tools' results), whose weight the trainer sets as it goes.
"""

import argparse
import bisect
import collections
import json
import multiprocessing
import os
import pathlib
import random
import subprocess
import sys
import time

import numpy as np

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # several processes share the work instead

import bpe
import packed
from world import render

CONTEXT = 255
CALL, ANSWER = 1, 2
LATE_WEIGHT = 3  # answers to questions that refer back are short beside calls; they weigh this much more
LATE, PART = "late", "part"  # the tags of a trajectory's further parts in a session: questions that refer back, and others


def encode_pieces(encoder, pieces_of):
    """Each list of pieces as (tokens uint16, weights float32), all texts in one batch."""
    texts = [text for pieces in pieces_of for special, text, _ in pieces if not special]
    encoded = iter(encoder.encode_all(texts))
    lengths = encoder.lengths
    out = []
    for pieces in pieces_of:
        ids, weights = [], []
        for special, text, runs in pieces:
            if special:
                ids.append(np.array([encoder.specials[text]]))
                weights.append(np.array([runs[0][1]]))
                continue
            part = np.array(next(encoded), np.int64)
            ids.append(part)
            if all(weight == runs[0][1] for _, weight in runs):
                weights.append(np.full(len(part), runs[0][1]))
                continue
            at, spread = 0, []  # the weight of each byte; a token takes the largest over its bytes
            for length, weight in runs:
                spread.append(np.full(len(text[at : at + length].encode()), weight))
                at += length
            spread = np.concatenate(spread)
            begin = np.concatenate([[0], np.cumsum(lengths[part])[:-1]])
            weights.append(np.maximum.reduceat(spread, begin))
        out.append((np.concatenate(ids).astype(np.uint16), np.concatenate(weights).astype(np.float32)))
    return out


class Encoder(bpe.Bpe):
    def __init__(self, path):
        super().__init__(path)
        self.lengths = np.array([len(t) for t in self.text])


def encode_records(encoder, records, longest):
    """A shard's arrays from records. Trajectories longer than `longest` tokens are left out."""
    encoded = encode_pieces(encoder, [render.message_pieces(r["messages"]) for r in records])
    cuts = [(i, at, asks) for i, r in enumerate(records) for at, asks in r.get("gaps", ())]
    heads = encode_pieces(encoder, [render.message_pieces(records[i]["messages"][:at]) for i, at, _ in cuts])
    gaps = [[] for _ in records]
    for (i, _, asks), (tokens, _) in zip(cuts, heads):
        gaps[i].append((len(tokens), asks))
    fits = [8 < len(tokens) <= longest for tokens, _ in encoded]
    kept = [(r, e) for r, e, fit in zip(records, encoded, fits) if fit]
    names = sorted({r["skill"] for r, _ in kept})
    codes = []
    for (_, (_, weights)), mine in zip(kept, [g for g, fit in zip(gaps, fits) if fit]):
        for (at, asks), (end, _) in zip(mine, [*mine[1:], (len(weights), False)]):
            if asks:
                weights[at:end] *= LATE_WEIGHT
        code = np.clip(np.rint(weights * 16), 0, CONTEXT - 1).astype(np.uint8)
        code[code == 0] = CONTEXT
        code[0] = 0
        codes.append(code)
    return {
        "token": np.concatenate([tokens for _, (tokens, _) in kept]),
        "code": np.concatenate(codes),
        "offsets": np.cumsum([0] + [len(tokens) for _, (tokens, _) in kept]),
        "prefix": np.array([r["prefix"] for r, _ in kept], np.int32),
        "gap": np.array([g for mine, fit in zip(gaps, fits) if fit for g in mine], np.int32).reshape(-1, 2),
        "gap_offsets": np.cumsum([0] + [len(mine) for mine, fit in zip(gaps, fits) if fit]),
        "skill": np.array([names.index(r["skill"]) for r, _ in kept], np.int32),
        "valid": np.array([r["split"] == "validation" for r, _ in kept]),
        "skills": np.array(names),
    }


def save(path, **arrays):
    """np.savez through a temporary name, so that a reader never sees half a file."""
    temporary = path.with_name(path.name + ".part.npz")
    np.savez(temporary, **arrays)
    temporary.rename(path)


_encoder = None


def _start(path):
    global _encoder
    _encoder = Encoder(path)


def _encode_and_save(job):
    path, lines, longest = job
    arrays = encode_records(_encoder, [json.loads(line) for line in lines], longest)
    save(pathlib.Path(path), **arrays)
    return len(arrays["prefix"]), len(arrays["token"])


def bpe_texts(prefixes, records):
    """What the tokenizer is learnt from: every text that the model reads or writes."""
    for prefix in prefixes:
        yield render.text_of([p for p in render.prefix_pieces(prefix) if not p[0]])
    for record in records:
        for special, text, _ in render.message_pieces(record["messages"]):
            if not special:
                yield text


def feed(args):
    """Runs the generator to its end; see the head of this file."""
    work = pathlib.Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "world.generate", "--seed", str(args.seed), "--count", str(args.count), "--jobs",
               str(args.jobs), "--variants", str(args.variants), "--out", "-", *args.generator]  # fmt: skip
    began, parent = time.monotonic(), os.getppid()
    generator = subprocess.Popen(command, cwd=pathlib.Path(__file__).parent, stdout=subprocess.PIPE, text=True)
    prefixes = json.loads(generator.stdout.readline())["prefixes"]
    seen, repeated = set(), 0

    def fresh_lines():
        """The generator's records, without those whose messages came before."""
        nonlocal repeated
        for line in generator.stdout:
            key = hash(line[line.index('"messages":') :])
            if key in seen:
                repeated += 1
                continue
            seen.add(key)
            yield line

    first, stream = [], fresh_lines()
    for line in stream:
        first.append(line)
        if len(first) == args.bpe_records:
            break
    if len(first) < 10:
        raise SystemExit(f"the generator gave {len(first)} records and stopped with {generator.wait()}")
    tokenizer = work / "tokenizer.json"
    if not tokenizer.exists():
        train = [json.loads(line) for line in first]
        print(bpe.train(bpe_texts(prefixes, [r for r in train if r["split"] == "train"]), args.vocab, tokenizer), flush=True)
    encoder = Encoder(tokenizer)
    tokens = [ids for ids, _ in encode_pieces(encoder, [render.prefix_pieces(p) for p in prefixes])]
    order = sorted(range(len(prefixes)), key=lambda i: prefixes[i]["id"])
    if [prefixes[i]["id"] for i in order] != list(range(len(prefixes))):
        raise SystemExit("prefix ids: want 0, 1, 2, ..., found " + str([p["id"] for p in prefixes][:8]))
    save(work / "prefixes.npz", token=np.concatenate([tokens[i] for i in order]),
         offsets=np.cumsum([0] + [len(tokens[i]) for i in order]))  # fmt: skip
    state = {"records": 0, "tokens": 0, "read": len(first), "shards": 0, "seconds": 0.0, "done": False}
    lines, number, pending = first, 0, collections.deque()

    def note(done=False):
        state["repeated"], state["seconds"], state["done"] = repeated, round(time.monotonic() - began, 1), done
        (work / "feed.json.part").write_text(json.dumps(state))
        (work / "feed.json.part").rename(work / "feed.json")

    def collect(limit):
        while len(pending) > limit or (pending and pending[0].ready()):
            records, count = pending.popleft().get()
            state["records"], state["tokens"] = state["records"] + records, state["tokens"] + count
            state["shards"] += 1
            note()

    note()
    with multiprocessing.get_context("fork").Pool(args.encoders, _start, (tokenizer,)) as pool:
        def flush():
            nonlocal lines, number
            for at in range(0, len(lines), args.shard):
                job = (str(work / f"shard-{number:05d}.npz"), lines[at : at + args.shard], args.longest)
                pending.append(pool.apply_async(_encode_and_save, (job,)))
                number += 1
            lines = []
            collect(2 * args.encoders)

        flush()
        for line in stream:
            lines.append(line)
            state["read"] += 1
            if len(lines) >= args.shard:
                flush()
                if os.getppid() != parent:  # the trainer is gone, and with it the reader
                    generator.terminate()
                    raise SystemExit("the trainer has ended")
        flush()
        collect(0)
    note(done=True)
    if generator.wait():
        raise SystemExit(f"the generator stopped with {generator.returncode}")


class Trajectories:
    """Token shards in memory, growing as the feeder writes them; validation apart from training."""

    def __init__(self, work):
        self.work, self.shards, self.skills, self.seen = pathlib.Path(work), [], [], set()
        self.prefixes, self.train, self.valid, self.tokens = None, [], [], 0

    def poll(self):
        """Takes in new shards; returns the new training trajectories as (shard, index)."""
        if self.prefixes is None:
            path = self.work / "prefixes.npz"
            if not path.exists():
                return []
            with np.load(path) as data:
                at, token = data["offsets"], data["token"]
                self.prefixes = [token[a:b] for a, b in zip(at, at[1:])]
        fresh = []
        for path in sorted(self.work.glob("shard-?????.npz")):
            if path.name in self.seen:
                continue
            self.seen.add(path.name)
            with np.load(path) as data:
                shard = {name: data[name] for name in ("token", "code", "offsets", "prefix", "gap", "gap_offsets", "skill", "valid", "skills")}
            number = len(self.shards)
            self.shards.append(shard)
            self.tokens += len(shard["token"])
            for i, valid in enumerate(shard["valid"]):
                (self.valid if valid else fresh).append((number, i))
        self.train += fresh
        return fresh

    def get(self, key):
        """(prefix id, tokens, codes) of a trajectory."""
        shard, i = self.shards[key[0]], key[1]
        a, b = shard["offsets"][i], shard["offsets"][i + 1]
        return int(shard["prefix"][i]), shard["token"][a:b], shard["code"][a:b]

    def gaps(self, key):
        """Where other work may come into a trajectory: [(token, whether what follows asks for what was shown before)]."""
        shard, i = self.shards[key[0]], key[1]
        return [(int(at), bool(asks)) for at, asks in shard["gap"][shard["gap_offsets"][i] : shard["gap_offsets"][i + 1]]]

    def skill(self, key):
        shard = self.shards[key[0]]
        return str(shard["skills"][shard["skill"][key[1]]])


class Packer:
    """Batches over the training trajectories: every trajectory once per epoch, new shards mixed into the running one."""

    def __init__(self, data, tokens, row=None, seed=0):
        self.data, self.tokens, self.row = data, tokens, row
        self.random, self.queue, self.epoch, self.drawn = random.Random(seed), [], 0, 0
        self.waiting, self.waiting_tokens = collections.defaultdict(collections.deque), 0

    def add(self, keys):
        """Mixes new trajectories into what is left of the epoch: each takes a random place, in time O(new)."""
        for key in keys:
            at = self.random.randrange(len(self.queue) + 1)
            self.queue.append(key)
            self.queue[at], self.queue[-1] = self.queue[-1], self.queue[at]

    def _refill(self, want):
        while self.waiting_tokens < want:
            if not self.queue:
                self.queue = list(self.data.train)
                self.random.shuffle(self.queue)
                self.epoch += 1
                if not self.queue:
                    raise RuntimeError("no training trajectories yet")
            key = self.queue.pop()
            prefix, tokens, codes = self.data.get(key)
            self.waiting[prefix].append((self.drawn, tokens, codes, key))
            self.waiting_tokens += len(tokens)
            self.drawn += 1

    def batch(self, long_share=0.0, long=(7168,), section=7168):
        """One packed Batch. A section of `long_share` of the tokens holds a single document of many trajectories, as a
        long session would, of one of the `long` numbers of tokens; the others hold separate trajectories, `section` tokens
        of them at most.
        """
        out = packed.Batch(self.tokens, self.row)
        while out.room():
            self._refill(8 * self.tokens)
            # Oldest first: a rare prefix waits until its trajectories fill a good part of a section.
            prefix = min(self.waiting, key=lambda p: self.waiting[p][0][0])
            length = self.random.choice(long)
            as_one = out.used + self.random.random() * length < long_share * out.size
            if as_one and self.random.random() < 0.8:  # long sessions need the prefix that most trajectories have
                prefix = max(self.waiting, key=lambda p: len(self.waiting[p]))
            line, head = self.waiting[prefix], self.data.prefixes[prefix]
            room = min(out.room() - len(head), length - len(head) if as_one else section)
            if as_one and len(line[0][1]) > room:  # too long for so short a session
                as_one, room = False, min(out.room() - len(head), section)
            taken = []
            while line and len(line[0][1]) <= room:
                _, tokens, codes, key = line.popleft()
                taken.append((tokens, codes, key))
                room -= len(tokens)
                self.waiting_tokens -= len(tokens)
            if not taken and not out.used % out.row:  # does not fit an empty row either
                self.waiting_tokens -= len(line.popleft()[1])
                if line:
                    continue
            if not line:
                del self.waiting[prefix]
            if taken:
                out.add_section(head, [session(self.data, self.random, taken)] if as_one else [[t] for t in taken])
            if not taken or out.room() < len(head) + 64:
                out.skip_row()
        return out


def session(data, random_, taken):
    """Trajectories as one session: what one with gaps shows or asks for late comes anywhere after what stands before it.
    More than a third of the late questions come at the end of the session.
    """
    placed = []  # (place among the trajectories, part)
    for number, (tokens, codes, key) in enumerate(taken):
        cuts = [(0, False), *((at, asks) for at, asks in data.gaps(key) if at < len(tokens))]
        shown = float(number)
        for (begin, asks), (end, _) in zip(cuts, [*cuts[1:], (len(tokens), False)]):
            part, tag, at = codes[begin:end].copy(), key, shown
            part[0] = 0  # nothing certain stands before it
            if asks:
                tag, at = LATE, random_.uniform(shown, len(taken)) if random_.random() < 0.6 else len(taken) + random_.random()
            elif begin:
                tag, at = PART, random_.uniform(shown, len(taken))
                shown = at
            placed.append((at, (tokens[begin:end], part, tag)))
    return [part for _, part in sorted(placed, key=lambda item: item[0])]


def pack_keys(data, keys, tokens, row=None):
    """Batches that hold each of the keys once (validation); `placed` carries the keys."""
    by_prefix = collections.defaultdict(list)
    for key in keys:
        by_prefix[data.get(key)[0]].append(key)
    out, batch = [], packed.Batch(tokens, row)
    for prefix, members in sorted(by_prefix.items()):
        head, at = data.prefixes[prefix], 0
        while at < len(members):
            room, taken = batch.room() - len(head), []
            while at < len(members) and len(data.get(members[at])[1]) <= room:
                _, tokens_, codes = data.get(members[at])
                taken.append([(tokens_, codes, members[at])])
                room -= len(tokens_)
                at += 1
            if taken:
                batch.add_section(head, taken)
            if at < len(members):
                batch.skip_row()
                if not batch.room():
                    out.append(batch)
                    batch = packed.Batch(tokens, row)
    if batch.placed:
        out.append(batch)
    return out


def long_rows(data, random_, tokens, row):
    """A Batch of rows, each one prefix and one document of trajectories that fills the row to its end."""
    by_prefix = collections.defaultdict(list)
    for key in random_.sample(data.train, min(len(data.train), max(400, tokens // 60))):
        by_prefix[data.get(key)[0]].append(key)
    prefixes = sorted(by_prefix, key=lambda p: -len(by_prefix[p]))
    out = packed.Batch(tokens, row)
    for i in range(tokens // row):
        prefix = prefixes[0] if i % 4 else random_.choice(prefixes)
        room, taken = row - len(data.prefixes[prefix]), []
        while room:
            key = random_.choice(by_prefix[prefix])
            _, tokens_, codes = data.get(key)
            taken.append((tokens_[:room], codes[:room], key))
            room -= len(taken[-1][0])
        out.add_section(data.prefixes[prefix], [session(data, random_, taken)])
    return out


def recalls(batch, row):
    """For each row of a batch of sessions, the positions at which the agent writes what an earlier part of the session has shown."""
    out = [[] for _ in range(batch.size // row)]
    begins = sorted(at for _, at in batch.placed) + [batch.size]
    for tag, at in batch.placed:
        if tag is LATE:
            codes = batch.code[at : begins[bisect.bisect_right(begins, at)]]
            out[at // row] += (at % row + np.flatnonzero((codes > 0) & (codes < CONTEXT))).tolist()
    return out


def turns(encoder, tokens):
    """The agent's turns in a trajectory: (begin, end, CALL or ANSWER) from the first generated token to the stop."""
    out, begin = [], None
    think, end, marker = (encoder.specials[s] for s in (render.NO_THINK, render.END, render.NS))
    for at, token in enumerate(tokens.tolist()):
        if token == think:
            begin, kind = at + 1, ANSWER
        elif begin is not None and token == marker:
            kind = CALL
        elif begin is not None and token == end:
            out.append((begin, at + 1, kind))
            begin = None
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--encoders", type=int, default=3, help="processes that tokenize")
    parser.add_argument("--shard", type=int, default=4000, help="records in a shard")
    parser.add_argument("--bpe-records", type=int, default=20000, help="records that the tokenizer is learnt from")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--longest", type=int, default=4096, help="tokens of the longest trajectory kept")
    parser.add_argument("generator", nargs="*", help="further arguments for the generator, after --")
    feed(parser.parse_args())


if __name__ == "__main__":
    main()
