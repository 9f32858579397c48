#!/usr/bin/env python3
"""Dense attention through PyTorch on the same GPU as msa_cuda: what others reach, for docs/gpu.md.

    python3 tests/bench/cuda_peers.py [PATTERN]

cuDNN and FlashAttention behind scaled_dot_product_attention, bf16, timed as msa_cuda times: graph replays that rotate
over caches larger than L2, median and quartiles. A prefill chunk attends to all keys: 8,192 queries are few beside
them, and neither backend masks a chunk at the end of a longer context cheaply. Prints a line of JSON a cell. Needs
PyTorch and a GPU.
"""
import json
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def quartiles(launches, replays):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for launch in launches[:2]:
            launch()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for launch in launches:
                launch()
        times = []
        for _ in range(replays + 2):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record(stream)
            graph.replay()
            end.record(stream)
            end.synchronize()
            times.append(1000 * begin.elapsed_time(end) / len(launches))
    times = sorted(times[2:])
    return times[len(times) // 2], times[len(times) // 4], times[3 * len(times) // 4]


def measure(pattern, name, heads, kv_heads, batch, context, queries, replays, causal=False):
    for backend, kind in BACKENDS.items():
        cell = f"{backend} {name}"
        if pattern not in cell:
            continue
        try:
            q = torch.randn(batch, heads, queries, 128, device="cuda", dtype=torch.bfloat16)
            size = batch * kv_heads * context * 128 * 2 * 2
            copies = max(1, min(8, 200_000_000 // size + 1)) if queries == 1 else 1
            caches = [
                [torch.randn(batch, kv_heads, context, 128, device="cuda", dtype=torch.bfloat16) for _ in "kv"]
                for _ in range(copies)
            ]

            def call(k, v):
                with sdpa_kernel(kind):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

            launches = [lambda k=k, v=v: call(k, v) for k, v in caches] * (max(1, 8 // copies) if queries == 1 else 1)
            median, low, high = quartiles(launches, replays)
            line = {"cell": cell, "us": round(median, 2), "low": round(low, 2), "high": round(high, 2)}
            if queries == 1:
                line["tb_per_s"] = round(size / median / 1e6, 3)
            else:
                pairs = queries * context / (2 if causal else 1)
                line["tflops"] = round(pairs * heads * 128 * 4 / median / 1e6, 1)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            line = {"cell": cell, "error": str(error).splitlines()[0]}
        print(json.dumps(line), flush=True)
        caches = q = None
        torch.cuda.empty_cache()


def main():
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__}))
    for name, heads, kv_heads in (("m2", 48, 8), ("m3", 64, 4)):
        for context in (8192, 131072, 1048576):
            measure(pattern, f"{name} decode batch 1 context {context}", heads, kv_heads, 1, context, 1, 20)
    measure(pattern, "qwen3 decode batch 8 context 4096", 32, 4, 8, 4096, 1, 20)
    measure(pattern, "m3 prefill of 8192 context 8192", 64, 4, 1, 8192, 8192, 5, causal=True)
    for name, heads, kv_heads in (("m2", 48, 8), ("m3", 64, 4)):
        measure(pattern, f"{name} prefill of 8192 context 131072", heads, kv_heads, 1, 131072, 8192, 3)
    measure(pattern, "m2 prefill of 8192 context 1048576", 48, 8, 1, 1048576, 8192, 1)


if __name__ == "__main__":
    main()
