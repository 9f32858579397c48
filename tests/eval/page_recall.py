"""What a trained model loses when blocks are chosen without training (`--attention sparse` of a model that attends to
everything): key-value recall beside dense attention.

    python3 tests/eval/page_recall.py --corvid build/release/corvid --lengths 4000 8000 16000

A prompt is a listing of made-up paths, no two alike, and at its end some paths that stood in it begin again; a path is
recalled where its last part, a word and a number that nothing else says, is the model's likeliest continuation token
for token. Paths are asked for from every tenth of the prompt's depth. `unseen` asks the same of paths that were not
listed: what can be guessed. Beside whole paths stand single tokens: the share of those that were likeliest, how many nats
they took (-log of their probability, mean), and the mean divergence KL(dense || this) of what follows.

A model whose layers were trained to select blocks (MiniMax-M3) is measured as its twin without index branches: the same
file, but with every layer marked as one that attends to everything. `trained` is then the model itself, with the blocks
that its index branches choose.
"""

import argparse
import json
import math
import pathlib
import random
import struct
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of GGUF's plain types
TEXT, ARRAY, BOOL, U32 = 8, 9, 7, 4
WORDS = """amber anchor apple arrow autumn badge bamboo barley basil beacon birch bishop bottle branch bridge bronze brook button
cabin camera candle canyon carbon castle cedar cherry cinder cipher citrus clover cobalt coffee copper coral cotton crater
crystal dagger dahlia delta desert dragon ember engine falcon feather fennel fiddle flint forest fossil garden garnet ginger
glacier granite harbor hazel helmet heron hollow indigo iris island ivory jasper jungle kettle ladder lagoon lantern laurel
lemon linen lotus magnet maple marble meadow mirror monsoon needle nickel oasis olive orchid otter paddle panther pebble
pepper pigeon pillar pine plaza plum pollen prairie quartz quill rabbit raven ribbon river rocket saddle saffron salmon
sapphire scarlet shadow silver spruce stable summit sunset tango temple thistle thunder timber topaz tulip tundra valley
velvet violet walnut willow winter zephyr""".split()


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def skip(self, kind):
        if kind == TEXT:
            self.text()
        elif kind == ARRAY:
            kind, count = self.take("I"), self.take("Q")
            for _ in range(count):
                self.skip(kind)
        else:
            self.at += FIXED[kind]


def write_twin(path, out):
    """The model in `path` with every layer attending to everything. False when that is what it does already."""
    data = pathlib.Path(path).read_bytes()
    reader = Reader(data)
    if reader.take("4s") != b"GGUF" or reader.take("I") != 3:
        raise SystemExit(f"{path}: want a GGUF file of version 3")
    n_tensors, n_keys = reader.take("Q"), reader.take("Q")
    keys, layers, align, indexed = [], 0, 32, False
    for _ in range(n_keys):
        begin = reader.at
        name, kind = reader.text(), reader.take("I")
        value_at = reader.at
        reader.skip(kind)
        if kind == U32 and name.endswith(".block_count"):
            (layers,) = struct.unpack_from("<I", data, value_at)
        if name == "general.alignment":
            (align,) = struct.unpack_from("<I", data, value_at)
        indexed |= ".attention.indexer." in name
        if name != "corvid.sparse_attention_layers":
            keys.append(data[begin : reader.at])
    tensors = []
    for _ in range(n_tensors):
        begin = reader.at
        name, n_dims = reader.text(), reader.take("I")
        reader.at += 8 * n_dims + 4 + 8
        if ".indexer." not in name:
            tensors.append(data[begin : reader.at])
    if not indexed:
        return False
    name = b"corvid.sparse_attention_layers"
    keys.append(struct.pack("<Q", len(name)) + name + struct.pack("<IIQ", ARRAY, BOOL, layers) + bytes(layers))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
    data_at = -(-reader.at // align) * align
    pathlib.Path(out).write_bytes(head + bytes(-len(head) % align) + data[data_at:])
    return True


class Program:
    def __init__(self, corvid):
        self.corvid = corvid

    def encode(self, model, text):
        command = [self.corvid, "model", "tokenize", model, "--no-special"]
        return json.loads(subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout)

    def logits(self, model, ids, positions, attention):
        command = [self.corvid, "model", "logits", model, "--prompt-ids", ",".join(map(str, ids)), "--attention", attention,
                   "--positions", ",".join(map(str, positions)), "--cache-type", "f16", "--output", "json"]  # fmt: skip
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["logits"]


def log_softmax(row):
    top = max(row)
    total = top + math.log(sum(math.exp(x - top) for x in row))
    return [x - total for x in row]


def path(rng):
    """(what is asked with, what is to be recalled)"""
    a, b, c = rng.sample(WORDS, 3)
    return f"{a}/{b}/", f"{c}-{rng.randrange(100, 1000)}.txt"


def prompts(rng, program, model, length, asked):
    """(ids, positions whose likeliest tokens are asked for, those tokens): of listed paths, then of others."""
    lines, used = [], set()
    tokens_a_line = len(program.encode(model, "".join("".join(path(rng)) + "\n" for _ in range(200)))) / 200
    while len(lines) < length / tokens_a_line:
        begin, end = path(rng)
        if begin not in used:
            used.add(begin)
            lines.append((begin, end))
    # One of each tenth, in any order, so that no question follows from the one before.
    places = [int((i + rng.random()) * len(lines) / asked) for i in range(asked)]
    rng.shuffle(places)
    seen = [lines[place] for place in places]
    unseen = []
    while len(unseen) < asked:
        begin, end = path(rng)
        if begin not in used:
            unseen.append((begin, end))
    listing = "".join(begin + end + "\n" for begin, end in lines)
    for questions in (seen, unseen):
        ids, positions, wanted, groups = program.encode(model, listing), [], [], []
        for begin, end in questions:
            ids += program.encode(model, begin)
            answer = program.encode(model, end)
            groups.append(range(len(wanted), len(wanted) + len(answer)))
            positions += range(len(ids) - 1, len(ids) - 1 + len(answer))
            wanted += answer
            ids += answer + program.encode(model, "\n")
        yield ids, positions, wanted, groups


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corvid", default=str(ROOT / "build/release/corvid"))
    parser.add_argument("--model", default=str(ROOT / "configs/models/corvid-small.gguf"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[4000, 8000, 16000], help="tokens of the listing")
    parser.add_argument("--prompts", type=int, default=2, help="listings of each length")
    parser.add_argument("--asked", type=int, default=20, help="paths asked for at the end of each")
    args = parser.parse_args()
    program, rng = Program(args.corvid), random.Random(11)
    with tempfile.TemporaryDirectory() as folder:
        twin = pathlib.Path(folder) / "twin.gguf"
        cases = [("dense", args.model, "dense"), ("sparse", args.model, "sparse")]
        if write_twin(args.model, twin):
            cases = [("dense", str(twin), "dense"), ("sparse", str(twin), "sparse"), ("trained", args.model, "auto")]
        print(f"{'':17} {'------------ listed ------------':>34} {'------- unseen -------':>24}")
        print(f"{'tokens':>7} {'attention':>9} {'paths':>7} {'tokens':>7} {'nats':>7} {'KL':>10} {'paths':>8} {'tokens':>7} {'nats':>7}")
        for length in args.lengths:
            sums = {(name, is_seen): [0, 0, 0.0, 0.0] for name, _, _ in cases for is_seen in (True, False)}
            counts = {True: [0, 0], False: [0, 0]}
            for _ in range(args.prompts):
                for is_seen, (ids, positions, wanted, groups) in zip((True, False), prompts(rng, program, args.model, length, args.asked)):
                    counts[is_seen][0] += len(groups)
                    counts[is_seen][1] += len(wanted)
                    dense = None
                    for name, model, attention in cases:
                        logs = [log_softmax(row) for row in program.logits(model, ids, positions, attention)]
                        dense = dense or logs
                        right = [row.index(max(row)) == token for row, token in zip(logs, wanted)]
                        at = sums[name, is_seen]
                        at[0] += sum(all(right[i] for i in group) for group in groups)
                        at[1] += sum(right)
                        at[2] -= sum(row[token] for row, token in zip(logs, wanted))
                        at[3] += sum(math.exp(x) * (x - y) for d, s in zip(dense, logs) for x, y in zip(d, s))
            for name, _, _ in cases:
                (p, t, nats, divergence), (up, ut, unats, _) = sums[name, True], sums[name, False]
                (paths, tokens), (upaths, utokens) = counts[True], counts[False]
                print(f"{length:7} {name:>9} {p / paths:7.1%} {t / tokens:7.1%} {nats / tokens:7.3f} {divergence / tokens:10.4f} "
                      f"{up / upaths:8.1%} {ut / utokens:7.1%} {unats / utokens:7.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
