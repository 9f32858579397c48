#!/usr/bin/env python3
"""Times cuBLAS (through PyTorch) and torch._grouped_mm on the shapes of products_cuda, by graph replay over weights that
don't fit the cache: the peers of its figures, to be run on the same GPU beside it."""
import statistics

import torch


def measure(calls):
    """Microseconds of one call: the median of graph replays of all of them, when the card is warm (products_cuda.cu)."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for call in calls:
                call()
    times, warm_ms = [], 0
    while len(times) < 9:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        if warm_ms < 50:
            warm_ms += start.elapsed_time(end)
        else:
            times.append(start.elapsed_time(end) * 1000 / len(calls))
    return statistics.median(times)


def report(name, us, nbytes, flops):
    print(f"{name:46} {us:9.1f} us {nbytes / 1e6:8.1f} MB {nbytes / us / 1e3:7.0f} GB/s {flops / us / 1e6:7.1f} TFLOP/s")


def products(name, k, n, rows):
    sets = max(2, min(24, 400_000_000 // (2 * n * k) + 1))
    weights = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) for _ in range(sets)]
    x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
    if rows == 1:
        us = min(measure([lambda w=w: torch.mv(w, x[0]) for w in weights]), measure([lambda w=w: x @ w.T for w in weights]))
    else:
        us = measure([lambda w=w: x @ w.T for w in weights])
    report(f"cuBLAS {name}, rows {rows}", us, 2 * (n * k + rows * (n + k)), 2 * rows * n * k)


def experts(name, dim, ffn, n_experts, top_k, rows):
    """gate and up as one matrix, silu, down, by expert; without the routing, the permutation and the sum."""
    gate_up = torch.randn(n_experts, dim, 2 * ffn, device="cuda", dtype=torch.bfloat16)
    down = torch.randn(n_experts, ffn, dim, device="cuda", dtype=torch.bfloat16)
    calls, active = [], 0
    for _ in range(16 if rows <= 8 else 8 if rows <= 64 else 2):
        ids = torch.stack([torch.randperm(n_experts)[:top_k] for _ in range(rows)]).flatten()
        counts = torch.bincount(ids, minlength=n_experts)
        active += int((counts > 0).sum())
        ends = counts.cumsum(0).to(torch.int32).cuda()
        x = torch.randn(rows * top_k, dim, device="cuda", dtype=torch.bfloat16)

        def call(x=x, ends=ends):
            g, u = torch._grouped_mm(x, gate_up, offs=ends).chunk(2, dim=-1)
            return torch._grouped_mm(torch.nn.functional.silu(g) * u, down, offs=ends)

        calls.append(call)
    us = measure(calls)
    report(f"torch._grouped_mm {name}, rows {rows}", us, active / len(calls) * 6 * dim * ffn,
           6 * rows * top_k * dim * ffn)


def main():
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    for rows in (1, 8, 64, 512, 4096):
        products("m3 6144 -> 8192", 6144, 8192, rows)
        products("m3 8192 -> 6144", 8192, 6144, rows)
        products("qwen 2048 -> 5120", 2048, 5120, rows)
        if rows <= 64:
            products("m3 6144 -> 200064", 6144, 200064, rows)
    for rows in (1, 8, 64, 512, 4096):
        experts("qwen", 2048, 768, 128, 8, rows)
    for rows in (1, 8, 64, 512, 4096):
        experts("m3", 6144, 3072, 128, 4, rows)


if __name__ == "__main__":
    main()
