"""What selecting blocks without training costs: logits with `--attention sparse` beside those with `--attention dense`.

    python3 tests/eval/attention_error.py --corvid build/release/corvid tests/golden/qwen3-moe --tokens 4000

Prints, over positions spread from 2,300 to the last token of a prompt: the largest and the mean difference of logits, the
mean divergence KL(dense || sparse) in nats, and the share of positions with the same likeliest token. The prompt is
random tokens, or with --text the tokens of a file.
"""

import argparse
import json
import math
import random
import subprocess


def logits(corvid, model, ids, positions, attention):
    command = [corvid, "model", "logits", model, "--prompt-ids", ",".join(map(str, ids)), "--attention", attention,
               "--positions", ",".join(map(str, positions)), "--output", "json"]  # fmt: skip
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)["logits"]


def log_softmax(row):
    top = max(row)
    total = top + math.log(sum(math.exp(x - top) for x in row))
    return [x - total for x in row]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--corvid", default="build/release/corvid")
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--positions", type=int, default=40)
    parser.add_argument("--vocab", type=int, default=256, help="random token ids are below")
    parser.add_argument("--text", help="a file whose first tokens are the prompt")
    args = parser.parse_args()
    rng = random.Random(1)
    if args.text:
        with open(args.text, "rb") as text:
            tokens = subprocess.run([args.corvid, "model", "tokenize", args.model], stdin=text, stdout=subprocess.PIPE, check=True)
        ids = json.loads(tokens.stdout)[: args.tokens]
    else:
        ids = [rng.randrange(3, args.vocab) for _ in range(args.tokens)]
    first, last = 2300, len(ids) - 1
    positions = [first + (last - first) * i // (args.positions - 1) for i in range(args.positions)]
    dense, sparse = (logits(args.corvid, args.model, ids, positions, a) for a in ("dense", "sparse"))
    largest = mean = divergence = same = 0
    for d, s in zip(dense, sparse):
        differences = [abs(x - y) for x, y in zip(d, s)]
        largest = max(largest, max(differences))
        mean += sum(differences) / len(differences)
        p, q = log_softmax(d), log_softmax(s)
        divergence += sum(math.exp(x) * (x - y) for x, y in zip(p, q))
        same += d.index(max(d)) == s.index(max(s))
    n = len(positions)
    print(f"{args.model}: {len(ids)} tokens, {n} positions: |difference| at most {largest:.4f}, {mean / n:.4f} on average; "
          f"KL {divergence / n:.5f}; same likeliest token {same / n:.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
