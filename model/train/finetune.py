"""Trains on from the model that ships, within a given number of seconds, everything counted from the command's start:

    python3 model/train/finetune.py --init configs/models/corvid-small.gguf --out DIR --seconds 140

The tokenizer and the architecture stay. Data are made from the first second, while PyTorch loads and compiles. The
learning rate warms up to a part of the first training's peak and falls to zero with the clock; then the index branch is
trained for a short while. The model is written into DIR on the way too, so that little is lost when the command is cut
off. On several GPUs each step takes a batch of every one of them (parallel.py).
"""

import time

BEGAN = time.monotonic()

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import sys
import traceback

import feeder
import gguf_file
import parallel


RANK = 0  # among the processes of this training; the first one speaks


def log(text):
    if RANK == 0:
        print(f"[{time.monotonic() - BEGAN:6.1f}] {text}", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--init", required=True, help="the model to go on from, a GGUF file")
    parser.add_argument("--out", required=True, help="folder for the exported model and the report")
    parser.add_argument("--work", default="/tmp/finetune", help="folder for data")
    parser.add_argument("--seconds", type=float, default=140, help="wall time from start to the last file")
    parser.add_argument("--index-seconds", type=float, default=9, help="of these, for the index branch")
    parser.add_argument("--tail-seconds", type=float, default=7, help="of these, for export and validation")
    parser.add_argument("--peak", type=float, default=0.4, help="learning rates as a part of the first training's peaks")
    parser.add_argument("--warmup", type=int, default=40, help="steps")
    parser.add_argument("--tokens", type=int, help="tokens of one step on one GPU; default: 131072, of several GPUs 65536 each")
    parser.add_argument("--ranks", type=int, help="processes, one a GPU; default: as many as there are GPUs")
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--long-share", type=float, default=0.5, help="share of the tokens in long sessions")
    parser.add_argument("--long", type=int, nargs="+", default=[3072, 4096, 8192, 8192, 16384, 32768], help="tokens of a long session")
    parser.add_argument("--index-rows", type=int, nargs="+", default=[8192, 16384, 32768], help="lengths of sessions for the index branch")
    parser.add_argument("--context", type=int, default=32768, help="the model's longest session")
    parser.add_argument("--rope-theta", type=float, help="the rotation's base; default: as it is")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--jobs", type=int, help="generator processes; default: the cores but three for each rank")
    parser.add_argument("--variants", type=int, default=4, help="wordings of each generated world")
    parser.add_argument("--shard", type=int, default=2000, help="records in a data shard")
    parser.add_argument("--first-records", type=int, default=2000, help="records of the first shard")
    parser.add_argument("--least", type=int, default=1500, help="trajectories to begin with")
    parser.add_argument("--validation", type=int, default=1500, help="held-out trajectories in the last validation")
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: cuda where there is one")
    parser.add_argument("--generator", default="", help="further arguments of the generator, blank-separated")
    args = parser.parse_args()
    args.count = 20000000
    args.device = args.device or ("cuda" if parallel.devices() else "cpu")
    args.ranks = args.ranks or (max(1, len(parallel.devices())) if args.device == "cuda" else 1)
    args.jobs = args.jobs or max(1, (os.cpu_count() or 2) - 3 * args.ranks)
    args.tokens = args.tokens or (131072 if args.ranks == 1 else 65536)
    return args


def start_feed(args, work):
    """Writes the tokenizer and starts the generator. Returns (feed, keys and tensors of the model)."""
    keys, tensors = gguf_file.read(args.init)
    shutil.rmtree(work, ignore_errors=True)
    (work / "data").mkdir(parents=True)
    text = json.dumps(gguf_file.tokenizer(args.init, keys), ensure_ascii=False)
    (work / "data" / "tokenizer.json").write_text(text, encoding="utf-8")
    return feeder.Feed(args, work / "data", keys["minimax-m3.vocab_size"]), (keys, tensors)


class Reader:
    """The feed as the other processes see it: rank 0 keeps the generator."""

    def __init__(self):
        self.process = self

    def poll(self):
        return None

    def state(self):
        return {}

    def stop(self):
        pass


def make_runner(args, parts, group):
    """The model on its device, its passes compiled. Without flex_attention where that fails."""
    import torch

    import runner
    import train

    device = args.device
    source = gguf_file.model(*parts)
    changes = {"max_position_embeddings": args.context, "rope_theta": args.rope_theta or source.cfg.rope_theta}
    source.cfg = dataclasses.replace(source.cfg, **changes)
    for attention in ["flex", "rows"] if device == "cuda" else ["explicit"]:
        run = runner.Runner(source.cfg, args.tokens, attention, device, device == "cuda", average=group.average if group.ranks > 1 else None)
        run.model.load_state_dict(source.state_dict())
        log(f"{torch.cuda.get_device_name() if device == 'cuda' else 'cpu'}: model loaded, attention {attention}")
        try:
            train.warm_up(run, source.cfg.vocab_size)
            break
        except Exception as error:  # whatever the compiler throws: the other path needs less of it
            log(f"attention {attention} failed: {type(error).__name__}: {str(error)[:600]}")
            if attention != "flex":
                raise
    return run


def scale_at(step, progress, peak, warmup):
    """Part of the first training's learning rate: up in `warmup` steps, then down to zero with the clock."""
    return peak * min(1.0, (step + 1) / warmup) * max(0.0, 1 - progress)


def learn(args, run, trajectories, feed, end, save, group):
    """The training loop, until `end` by rank 0's clock; save() is called three times on the way."""
    import torch

    import data
    import runner
    import train

    packer = data.Packer(trajectories, args.tokens, run.row, seed=args.seed + 1000 * group.rank)
    packer.add(list(trajectories.train))
    prefetch = train.Prefetch(trajectories, packer)
    prefetch.long_share, prefetch.long = args.long_share, args.long
    prefetch.start()
    run.set_context_weight(0.0)
    begin = mark = time.monotonic()
    losses, tokens, total, saves = [], 0, 0, [0.5, 0.75, 0.92]
    while True:
        if run.step_count % 5 == 0 and (progress := group.told((time.monotonic() - begin) / max(1.0, end - begin))) >= 1:
            break
        batch = prefetch.get()
        losses.append(run.step(batch, scale_at(run.step_count, progress, args.peak, args.warmup)))
        tokens, total = tokens + batch.used, total + batch.used
        if run.step_count % 5 == 0:
            runner.finite(losses[-1][0].item())  # also keeps the host from running ahead of the device
        now = time.monotonic()
        if now - mark > 8:
            loss, right, skew = (torch.stack([x[i] for x in losses]).mean().item() for i in range(3))
            log(f"step {run.step_count} {progress:5.1%} loss {loss:.4f} acc {right:.4f} {group.ranks * tokens / (now - mark) / 1e6:.3f}M tok/s "
                f"skew {skew:.2f} epoch {packer.epoch} data {len(trajectories.train)} trajectories queue {prefetch.queue.qsize()}")  # fmt: skip
            losses, tokens, mark = [], 0, now
            if feed.process.poll():
                log(f"the generator stopped: {feed.tail()[-600:]}; training goes on with what is there")
                feed.process.returncode = 0
        if saves and progress >= saves[0]:
            saves.pop(0)
            save(f"at {progress:.0%}")
    prefetch.stopped = True
    seconds = time.monotonic() - begin
    return {"steps": run.step_count, "train_seconds": round(seconds), "train_tokens": total * group.ranks, "epochs": packer.epoch,
            "tokens_per_second": round(total * group.ranks / seconds), "trajectories": len(trajectories.train)}  # fmt: skip


def main():
    global RANK
    args = arguments()
    RANK = args.rank
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the feeder is stopped too
    sys.setswitchinterval(5e-4)  # the training thread must not wait long for the one that packs
    work, out, workers = pathlib.Path(args.work), pathlib.Path(args.out), []
    if args.rank:
        feed, parts = Reader(), gguf_file.read(args.init)
    else:
        feed, parts = start_feed(args, work)
        workers, args.port = parallel.start_workers(args.ranks)
    try:
        status = run_rank(args, feed, parts, work, out)
        for worker in workers:
            worker.wait(60)
        return status
    finally:
        feed.stop()
        for worker in workers:
            worker.kill()


def run_rank(args, feed, parts, work, out):
    import torch

    import data
    import evaluate
    import export
    import train

    log(f"torch {torch.__version__}, {os.cpu_count()} cpus, {args.ranks} ranks; {' '.join(k for k, v in train.programs().items() if not v)} missing")
    train.log = log
    if hasattr(torch, "_dynamo"):
        torch._dynamo.config.recompile_limit = 64
    group = parallel.Group(args.rank, args.ranks, args.port, args.device)
    run = make_runner(args, parts, group)
    trajectories = data.Trajectories(work / "data")
    train.wait_for_data(feed, trajectories, args.least)
    encoder = data.Encoder(work / "data" / "tokenizer.json")
    train.check_tokenizer(work / "data" / "tokenizer.json", encoder, trajectories)
    log(f"data: {feed.state()}; mean trajectory {trajectories.tokens / len(trajectories.train):.0f} tokens")
    report = {"arguments": vars(args), "torch": torch.__version__, "problems": []}
    result, text = work / "result", ""

    def save(when):
        if args.rank:
            return
        began = time.monotonic()
        export.export(run.model, work / "data" / "tokenizer.json", result)
        (result / "report.json").write_text(json.dumps(report, indent=1))
        (result / "report.txt").write_text(text + "\n")
        train.deliver(result, out, work / "none")
        log(f"written {when}, in {time.monotonic() - began:.1f} s")

    def validate(name, keys):
        loss, skills = evaluate.Validation(trajectories, encoder, keys, args.tokens, run.row).run(run.batch, run.evaluate)
        report[name] = {"count": len(keys), "loss": loss, "skills": {k: dict(v) for k, v in skills.items()}}
        log(f"validation {name} on {len(keys)}: loss {loss:.4f} {evaluate.line(evaluate.total(skills))}")
        return evaluate.table(skills)

    same_keys = [] if args.rank else trajectories.valid[: min(400, args.validation)]
    if same_keys:
        validate("before", same_keys)
    end = BEGAN + args.seconds - args.index_seconds - args.tail_seconds
    report.update(learn(args, run, trajectories, feed, end, save, group))
    feed.stop()
    log(json.dumps({k: v for k, v in report.items() if isinstance(v, (int, float))}))
    save("before the index branch")
    spare = group.told(BEGAN + args.seconds - args.tail_seconds - time.monotonic())
    try:
        train.train_index(args, run, trajectories, min(args.index_seconds, spare), report, 1e-3, group)
    except Exception as error:  # the branch as it was serves too
        report["problems"].append(f"index branch: {type(error).__name__}: {error}")
        traceback.print_exc()
    save("at the end")
    if same_keys:
        validate("after", same_keys)
        text = validate("validation", trajectories.valid[: args.validation])
        if args.rank == 0:
            print(text, flush=True)
        save("with its report")
    log("done" + "".join("; problem: " + p for p in report["problems"]))
    group.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
