"""One training over several GPUs of a machine: a process for each, which average their gradients after every step.

The first process (rank 0) decides what depends on the clock and tells the others, logs and writes; all of them read the
same data and pack other batches from them. PyTorch is loaded late: devices() and start_workers() come before it.
"""

import os
import socket
import subprocess
import sys


def devices():
    """The GPUs that CUDA_VISIBLE_DEVICES names, else those that nvidia-smi lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [d for d in named.split(",") if d.strip()]
    try:
        found = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    except FileNotFoundError:
        return []
    return [str(i) for i in range(found.count("GPU "))]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_workers(count):
    """Starts the processes of rank 1 and up with this command's own arguments; returns them and the port that all meet at."""
    port, workers = free_port(), []
    for rank in range(1, count):
        command = [sys.executable, *sys.argv, "--rank", str(rank), "--ranks", str(count), "--port", str(port)]
        workers.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "2"}, stdin=subprocess.DEVNULL))
    return workers, port


class Group:
    """All processes of a training. With one rank every method is free."""

    def __init__(self, rank=0, ranks=1, port=None, device="cpu"):
        import torch

        self.rank, self.ranks, self.device, self.torch = rank, ranks, device, torch
        if ranks > 1:
            import torch.distributed

            if device == "cuda":
                torch.cuda.set_device(rank)
            backend = "nccl" if device == "cuda" else "gloo"
            torch.distributed.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)

    def average(self, tensors):
        """Each tensor becomes its mean over the processes, in one exchange."""
        if self.ranks == 1:
            return
        with self.torch.no_grad():
            flat = self.torch.cat([t.reshape(-1).float() for t in tensors])
            self.torch.distributed.all_reduce(flat)
            flat /= self.ranks
            at = 0
            for t in tensors:
                t.copy_(flat[at : at + t.numel()].view_as(t))
                at += t.numel()

    def told(self, value):
        """Rank 0's number, for all."""
        if self.ranks == 1:
            return value
        box = self.torch.tensor([float(value)], dtype=self.torch.float64, device=self.device)
        self.torch.distributed.broadcast(box, 0)
        return box.item()

    def close(self):
        if self.ranks > 1:
            self.torch.distributed.destroy_process_group()
