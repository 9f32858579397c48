"""The whole making of the model, in one command and a given number of minutes:

    python3 model/train/train.py --out DIR --minutes 18

generates data on the CPU cores while the GPU trains on what is there, then trains the index branch, evaluates, exports.
The learning rate follows the clock: whatever the machine's speed, training ends in time. script/train wraps this.
"""

import argparse
import json
import os
import pathlib
import queue
import random
import shutil
import signal
import sys
import tarfile
import threading
import time
import traceback

import torch

import data
import evaluate
import export
import feeder
import index_branch
import m3
import optim
import packed
import parallel
import runner

BEGAN = time.monotonic()


def log(text):
    print(f"[{time.monotonic() - BEGAN:6.1f}] {text}", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for the exported model, log and report")
    parser.add_argument("--work", default="/tmp/train", help="folder for data and checkpoints")
    parser.add_argument("--minutes", type=float, default=18, help="wall time from start to export")
    parser.add_argument("--smoke", action="store_true", help="a short trial of everything: small data, little training")
    parser.add_argument("--smoke-seconds", type=float, default=90, help="time for training in a trial")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint and the data in --work")
    parser.add_argument("--attention", choices=["auto", "flex", "rows", "explicit"], default="auto")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=131072, help="tokens of one step")
    parser.add_argument("--config", type=json.loads, default={}, help="JSON: fields of m3.Config that differ")
    parser.add_argument("--lrs", type=json.loads, default={}, help="JSON: peak learning rates and weight decay of optim.Optimizer")
    parser.add_argument("--long-share", type=float, default=0.35, help="share of the tokens in long sessions, at the end")
    parser.add_argument("--long", type=int, nargs="+", default=[8192, 16384, 32768], help="tokens of a long session")
    parser.add_argument("--context", type=float, default=0.06, help="loss weight of text not written by the agent, at the start")
    parser.add_argument("--index-seconds", type=float, default=70, help="time for the index branch")
    parser.add_argument("--index-rows", type=int, nargs="+", default=[8192, 16384, 32768], help="lengths of sessions for the index branch")
    parser.add_argument("--tail-seconds", type=float, default=60, help="time kept for evaluation, export and checks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20000000, help="records to generate at most")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 3), help="generator processes")
    parser.add_argument("--variants", type=int, default=4, help="wordings of each generated world")
    parser.add_argument("--first-records", type=int, default=12000, help="records that the tokenizer is learnt from")
    parser.add_argument("--shard", type=int, default=4000, help="records in a data shard")
    parser.add_argument("--evaluate-every", type=float, default=100, help="seconds between validations")
    parser.add_argument("--validation", type=int, default=3000, help="held-out trajectories in the last validation")
    parser.add_argument("--generator", default="", help="further arguments of the generator, blank-separated")
    args = parser.parse_args()
    if args.smoke:
        args.first_records, args.index_seconds = min(args.first_records, 6000), min(args.index_seconds, 20)
        args.evaluate_every = min(args.evaluate_every, 40)
        args.shard, args.validation = min(args.shard, 2000), min(args.validation, 1000)
    return args


class Prefetch(threading.Thread):
    """Packs batches ahead of the training loop and takes in new shards."""

    def __init__(self, trajectories, packer):
        super().__init__(daemon=True)
        self.trajectories, self.packer, self.queue = trajectories, packer, queue.Queue(6)
        self.long_share, self.long, self.error, self.stopped = 0.0, (7168,), None, False

    def run(self):
        polled = time.monotonic()
        try:
            while not self.stopped:
                if time.monotonic() - polled > 3:
                    self.packer.add(self.trajectories.poll())
                    polled = time.monotonic()
                batch = self.packer.batch(self.long_share, self.long)
                if batch.used:
                    batch.blocks()  # found here, off the training thread
                    while not self.stopped:
                        try:
                            self.queue.put(batch, timeout=1)
                            break
                        except queue.Full:
                            continue
        except Exception as error:  # handed to the training loop, which raises it
            self.error = error

    def get(self):
        while True:
            try:
                return self.queue.get(timeout=2)
            except queue.Empty:
                if self.error:
                    raise self.error from None


def programs():
    return {name: bool(shutil.which(name)) for name in ("git", "curl", "gawk", "mawk", "python3", "jq", "bwrap", "file", "tree")}


def wait_for_data(feed, trajectories, least):
    while len(trajectories.train) < least:
        trajectories.poll()
        feed.state()
        if feed.process.poll() == 0 and len(trajectories.train):
            break
        time.sleep(0.5)


def check_tokenizer(path, encoder, trajectories):
    """The library and our own encoder must agree, and decoding must give the text back."""
    plain = data.bpe.Bpe(path, plain=True)
    texts = []
    for key in trajectories.train[:200]:
        text = encoder.decode(trajectories.get(key)[1].tolist())
        for special in encoder.specials:  # never part of a text piece
            text = text.replace(special, "\0")
        texts += text.split("\0")
    ours, theirs = plain.encode_all(texts), encoder.encode_all(texts)
    if ours != theirs or any(encoder.decode(ids) != text for ids, text in zip(theirs, texts)):
        raise RuntimeError(f"{path}: the tokenizers library and bpe.Bpe differ on the training texts")


def warm_up(run, vocab):
    """Compiles the passes on a made-up batch, while the first data are generated."""
    began, rng = time.monotonic(), random.Random(0)
    batch = packed.Batch(run.tokens, run.row)
    while batch.room() > 400:
        document = [rng.randrange(vocab) for _ in range(150)]
        codes = torch.full((150,), 16, dtype=torch.uint8).numpy()
        codes[0] = 0
        batch.add_section([rng.randrange(vocab) for _ in range(100)], [[(torch.tensor(document).numpy(), codes, None)]])
    if batch.used:
        run.step(batch, 0.0, update=False)
        loss = run.step(batch, 0.0, update=False)[0]
        log(f"compiled and warm in {time.monotonic() - began:.0f} s; loss on noise {loss.item():.3f}")


def sessions(args, progress):
    """Share of the tokens in long sessions, and the sessions' lengths, by the part of the training that is over."""
    if progress < 0.3:
        return 0.3 * args.long_share, (8192,)
    return (0.6 if progress < 0.6 else 1.0) * args.long_share, args.long


def train(args, run, trajectories, encoder, feed, end, report):
    packer = data.Packer(trajectories, args.tokens, run.row, seed=args.seed + run.step_count)
    packer.add(list(trajectories.train))
    prefetch = Prefetch(trajectories, packer)
    prefetch.start()
    begin, done_before = time.monotonic(), report.get("progress", 0.0)
    span = max(1.0, end - begin) / max(1e-6, 1 - done_before)
    checkpoint = pathlib.Path(args.work) / "checkpoint.pt"
    losses, flops, tokens, own, mark, saved, evaluated = [], 0.0, 0, 0, time.monotonic(), time.monotonic(), time.monotonic()
    total = 0
    while True:
        progress = min(1.0, done_before + (time.monotonic() - begin) / span)
        if progress >= 1.0:
            break
        scale = optim.lr_scale(run.step_count, progress)
        run.set_context_weight(args.context * max(0.0, 1 - progress / 0.6))
        prefetch.long_share, prefetch.long = sessions(args, progress)
        batch = prefetch.get()
        losses.append(run.step(batch, scale))
        flops, tokens, own, total = flops + run.train_flops(batch), tokens + batch.used, own + batch.trained, total + batch.used
        if run.step_count % 10 == 0:
            runner.finite(losses[-1][0].item())  # also keeps the host from running ahead of the device
        now = time.monotonic()
        if now - mark > (10 if args.smoke else 30):
            mean = [torch.stack([x[i] for x in losses]).mean().item() for i in range(3)]
            rate = tokens / (now - mark)
            mfu = flops / (now - mark) / runner.PEAK_FLOPS if args.device == "cuda" else 0.0
            try:
                state = feed.state()
            except RuntimeError as error:
                log(f"data: {error}; training goes on with what is there")
                feed.process.returncode, state = 0, {"records": 0, "tokens": 0}
            log(f"step {run.step_count} {progress:5.1%} loss {mean[0]:.4f} acc {mean[1]:.4f} lr {scale:.3f} {rate / 1e6:.3f}M tok/s "
                f"mfu {mfu:.1%} own {own / tokens:.2f} skew {mean[2]:.2f} epoch {packer.epoch} data {state['records']}r {state['tokens'] / 1e6:.1f}M "
                f"queue {prefetch.queue.qsize()}")  # fmt: skip
            losses, flops, tokens, own, mark = [], 0.0, 0, 0, now
        if now - evaluated > args.evaluate_every and trajectories.valid:
            keys = trajectories.valid[: min(600, args.validation)]
            loss, skills = evaluate.Validation(trajectories, encoder, keys, args.tokens, run.row).run(run.batch, run.evaluate)
            log(f"validation {len(keys)}: loss {loss:.4f} {evaluate.line(evaluate.total(skills))} ({time.monotonic() - now:.1f} s)")
            evaluated = time.monotonic()
        if now - saved > 200:
            run.save(checkpoint, progress=progress)
            saved = time.monotonic()
            log(f"checkpoint saved in {saved - now:.1f} s")
    prefetch.stopped = True
    seconds = time.monotonic() - begin
    report.update(steps=run.step_count, train_seconds=round(seconds), train_tokens=total, tokens_per_second=round(total / seconds),
                  epochs=packer.epoch, trajectories=len(trajectories.train), data_tokens=trajectories.tokens)  # fmt: skip
    run.save(checkpoint, progress=1.0)


def train_index(args, run, trajectories, seconds, report, lr=3e-3, group=None):
    """Trains the index branch on sessions of each length in `args.index_rows` by turns, and measures it on each. group: the
    processes that do this together.
    """
    group = group or parallel.Group()
    least = run.cfg.index_block_size * (run.cfg.index_topk_blocks + 2)
    rows = [r for r in args.index_rows if least <= r <= min(run.row, run.cfg.max_position_embeddings) and args.tokens % r == 0]
    if all(layer.dense for layer in run.model.layers):
        return
    if not rows:
        log(f"index branch: no row of {args.index_rows} fits {args.tokens} tokens and is long enough to choose blocks from; left as it is")
        return
    rng, began, step = random.Random(args.seed + 7 + 1000 * group.rank), time.monotonic(), 0
    trainer = index_branch.Trainer(run.model, run.layer_inputs, rows[0], lr, run.average)

    def load(row):
        batch, trainer.row = data.long_rows(trajectories, rng, args.tokens, row), row
        return run.batch.load(batch), data.recalls(batch, row)

    def measure():
        out = {}
        for row in rows:
            batch, late = load(row)
            out[row] = {**trainer.measure(batch), "recalls": trainer.measure(batch, recalls=late)}
        return out

    before = measure()
    while (spent := group.told(time.monotonic() - began)) < seconds:
        scale = min(1.0, (step + 1) / 20, 0.02 + (1 - spent / seconds) / 0.7)
        batch, late = load(rows[step % len(rows)])
        sums = trainer.step(batch, scale, recalls=late)
        step += 1
        if step % 50 == 0:
            log(f"index step {step}: divergence over tokens {sums[0].item():.4f}, over blocks {sums[1].item():.4f}")
    after = measure()
    show = lambda m: " ".join(f"{k} {v:.3f}" for k, v in m.items() if isinstance(v, float))
    for row in rows:
        log(f"index branch, {step} steps, sessions of {row}: {show(before[row])} -> {show(after[row])}; "
            f"half of the queries where something is recalled: {show(before[row]['recalls'])} -> {show(after[row]['recalls'])}")  # fmt: skip
    report["index"] = {"rows": rows, "steps": step, "before": before, "after": after}


def finish(args, run, trajectories, encoder, result, report):
    """Last validation, export and checks. Returns the problems found."""
    problems, work = [], pathlib.Path(args.work)
    export.export(run.model, work / "tokenizer.json", result)
    log(f"exported to {result}")
    keys = trajectories.valid[: args.validation]
    text = "no validation trajectories"
    if keys:
        validation = evaluate.Validation(trajectories, encoder, keys, args.tokens, run.row)
        loss, skills = validation.run(run.batch, run.evaluate)
        text = evaluate.table(skills)
        report["validation"] = {"loss": loss, "skills": {k: dict(v) for k, v in skills.items()}}
        log(f"validation of {len(keys)}: loss {loss:.4f} {evaluate.line(evaluate.total(skills))}")
        pair = lambda key: (trajectories.prefixes[trajectories.get(key)[0]], trajectories.get(key)[1])
        worst, same = run.agrees(run.batch, validation.batches[0], pair)
        log(f"training path against reference: difference {worst:.3f} of the logits' spread, same best token {same:.4f}")
        report["path_against_reference"] = {"difference": worst, "same": same}
        if same < 0.97:
            problems.append("the training path and the reference forward disagree")
        text += "\n\n" + samples(run, trajectories, encoder, keys)
    try:
        long = data.long_rows(trajectories, random.Random(3), 4096, 4096).token.tolist() if run.tokens >= 4096 else []
        prompts = [list(pair(key)[0]) + list(pair(key)[1]) for key in keys[:2]] + ([long[:3000]] if long else [])
        found = export.check(result, prompts)  # on the CPU: the plainest arithmetic of both
        log("export against transformers: " + ", ".join(f"{f['tokens']} tokens: {f['max_diff']:.2e}" for f in found))
        report["transformers"] = found
        if any(f["max_diff"] > 2e-3 or f["same_argmax"] < 0.999 for f in found):
            problems.append("the export and transformers disagree")
    except ImportError as error:
        log(f"export not checked: {error}")
    except Exception as error:
        problems.append(f"checking the export failed: {type(error).__name__}: {error}")
        traceback.print_exc()
    report["problems"] = problems
    (result / "report.json").write_text(json.dumps(report, indent=1))
    (result / "report.txt").write_text(text + "\n")
    print(text, flush=True)
    return problems


def samples(run, trajectories, encoder, keys, count=4):
    """First turns that the model really writes, beside the true ones."""
    out = []
    for key in keys[:: max(1, len(keys) // count)][:count]:
        prefix, tokens, _ = trajectories.get(key)
        begin, end, _ = data.turns(encoder, tokens)[0]
        wrote = evaluate.greedy(run.model, encoder, trajectories.prefixes[prefix], tokens[:begin], 80)
        asked = encoder.decode(tokens[:begin].tolist())[:300]
        out.append(f"{asked!r}\n  true  {encoder.decode(tokens[begin:end].tolist())!r}\n  wrote {wrote!r}")
    return "\n".join(out)


def deliver(result, out, log_path):
    """Copies the model's shards as they are, and packs the small files into one, so that few files come out. Each file
    appears whole: an older delivery may be replaced until the last moment.
    """
    out.mkdir(parents=True, exist_ok=True)
    part = out / "next.part"
    for shard in result.glob("*.safetensors"):
        shutil.copy(shard, part)
        part.rename(out / shard.name)
    with tarfile.open(part, "w:gz") as tar:
        for path in sorted(result.iterdir()):
            if path.suffix != ".safetensors":
                tar.add(path, path.name)
    part.rename(out / "small.tar.gz")
    shutil.copy(result / "report.txt", out / "report.txt")
    if log_path.exists():
        shutil.copy(log_path, out / "train.log")


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the feeder is stopped too
    sys.setswitchinterval(5e-4)  # the training thread must not wait long for the one that packs
    work, result = pathlib.Path(args.work), pathlib.Path(args.work) / "result"
    if not args.resume:
        shutil.rmtree(work / "data", ignore_errors=True)
        for name in ("tokenizer.json", "checkpoint.pt"):
            (work / name).unlink(missing_ok=True)
    (work / "data").mkdir(parents=True, exist_ok=True)
    cfg = m3.Config(**args.config)
    report = {"arguments": vars(args), "torch": torch.__version__, "programs": programs(), "cpus": os.cpu_count()}
    log(f"programs: {' '.join(k for k, v in report['programs'].items() if v)}; missing: "
        f"{' '.join(k for k, v in report['programs'].items() if not v) or 'none'}; {os.cpu_count()} cpus; torch {torch.__version__}")  # fmt: skip
    end = BEGAN + args.minutes * 60 - args.index_seconds - args.tail_seconds
    feed = feeder.Feed(args, work / "data", cfg.vocab_size)
    try:
        if args.device == "cuda":
            torch._dynamo.config.recompile_limit = 64
            log(f"{torch.cuda.get_device_name()}")
        attention = runner.choose_attention(args.attention, args.device, log)
        compile_it = args.device == "cuda" and not args.no_compile
        run = runner.Runner(cfg, args.tokens, attention, args.device, compile_it, lrs=args.lrs)
        parameters = sum(p.numel() for p in run.model.parameters())
        log(f"{parameters / 1e6:.2f}M parameters, {run.matmul_flops() / 1e6:.1f} MFLOP a token forward, attention {attention}")
        warm_up(run, cfg.vocab_size)
        trajectories = data.Trajectories(work / "data")
        wait_for_data(feed, trajectories, 500)
        shutil.copy(work / "data" / "tokenizer.json", work / "tokenizer.json")
        encoder = data.Encoder(work / "tokenizer.json")
        check_tokenizer(work / "tokenizer.json", encoder, trajectories)
        log(f"data: {feed.tail().strip()[:300]}; first shards: {feed.state()}; default prefix {len(trajectories.prefixes[0])} tokens, "
            f"mean trajectory {trajectories.tokens / max(1, len(trajectories.train) + len(trajectories.valid)):.0f} tokens")  # fmt: skip
        if args.resume and (work / "checkpoint.pt").exists():
            report["progress"] = run.restore(work / "checkpoint.pt")["progress"]
            log(f"resumed at step {run.step_count}, {report['progress']:.1%}")
        if args.smoke:
            end = time.monotonic() + args.smoke_seconds
        train(args, run, trajectories, encoder, feed, end, report)
        report["feed"] = made = feed.state()
        feed.stop()
        log(f"generator: {made['records']} records, {made['tokens'] / 1e6:.1f}M tokens, {made['records'] / max(1, made['seconds']):.0f} records/s")
        if args.device == "cuda":
            log(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; {json.dumps({k: report[k] for k in ('steps', 'train_tokens', 'tokens_per_second', 'epochs')})}")
        train_index(args, run, trajectories, args.index_seconds, report)
        shutil.rmtree(result, ignore_errors=True)
        problems = finish(args, run, trajectories, encoder, result, report)
        deliver(result, pathlib.Path(args.out), work / "train.log")
        log("done" if not problems else "done, with problems: " + "; ".join(problems))
        return 1 if problems else 0
    finally:
        feed.stop()


if __name__ == "__main__":
    sys.exit(main())
