"""Runs data.py beside the training. Needs no PyTorch, so that data are made while it is still loading."""

import json
import os
import pathlib
import subprocess
import sys


class Feed:
    """The generator and the tokenizer in a process of their own, at low priority so that the GPU is never kept waiting."""

    def __init__(self, args, work, vocab):
        command = [sys.executable, str(pathlib.Path(__file__).with_name("data.py")), "--work", str(work), "--seed", str(args.seed),
                   "--count", str(args.count), "--jobs", str(args.jobs), "--variants", str(args.variants), "--shard", str(args.shard),
                   "--bpe-records", str(args.first_records), "--vocab", str(vocab), "--encoders", str(max(3, args.jobs // 8))]  # fmt: skip
        if args.generator:
            command += ["--", *args.generator.split()]
        self.path, self.log = work / "feed.json", work / "feed.log"
        out = open(self.log, "w")
        self.process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, preexec_fn=lambda: os.nice(10))

    def state(self):
        """Progress; raises where the feeder failed."""
        code = self.process.poll()
        if code:
            raise RuntimeError(f"the generator stopped with {code}:\n{self.tail()}")
        return json.loads(self.path.read_text()) if self.path.exists() else {"records": 0, "tokens": 0, "read": 0, "seconds": 0}

    def tail(self):
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def stop(self):
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, 15)
                self.process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
