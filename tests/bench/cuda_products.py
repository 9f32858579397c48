#!/usr/bin/env python3
"""Our products beside PyTorch's on the same GPU, in one run:  cuda_products.py [PROGRAM | --from FILE] [--print]

Runs products_cuda (PROGRAM, by default build/release/tests/bench/products_cuda) and then cuda_products_peers.py, or
reads what both have printed from FILE, and writes the table in docs/gpu.md (--print: prints it)."""
import argparse
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs/gpu.md"
BEGIN, END = "<!-- tests/bench/cuda_products.py writes from here -->", "<!-- to here: products -->"
LINE = re.compile(r"(?P<name>.+?)\s+(?P<us>[\d.]+) us (?:\(\S+\) +)?\s*(?P<mb>[\d.]+) MB\s+(?P<gbs>\d+) GB/s"
                  r"(?:\s+(?P<share>\d+)%)?\s+(?P<tflops>[\d.]+) TFLOP/s(?P<rest>.*)")


def markdown(text):
    ours, peers = {}, {}
    for line in text.splitlines():
        if match := LINE.match(line):
            name = match["name"].strip()
            if "WRONG" in match["rest"]:
                sys.exit(f"a wrong result: {line}")
            if peer := re.match(r"(?:cuBLAS|torch\._grouped_mm) (.*)", name):
                experts = " experts" if name.startswith("torch") else ""
                peers[peer[1].replace(",", experts + ",", 1)] = match
            elif bf16 := re.match(r"(.*) bf16(, rows \d+)$", name):
                ours[bf16[1] + bf16[2]] = match
    head = re.search(r"^(.*): reads (\d+) GB/s", text, re.M)
    lines = [f"{head[1]}, memory read at {int(head[2]) / 1000:.2f} TB/s; bf16; experts with their plan and the sum of "
             "their outputs, PyTorch's (`torch._grouped_mm`) without; matrices by cuBLAS.", "",
             "| product | µs | of the read speed | TFLOP/s | PyTorch, µs | that / ours |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, our in ours.items():
        if peer := peers.get(name):
            share = our["share"] + "%" if int(name.rsplit(" ", 1)[1]) <= 64 else ""
            lines.append(f"| {name} | {float(our['us']):,.1f} | {share} | {float(our['tflops']):,.0f} | "
                         f"{float(peer['us']):,.1f} | {float(peer['us']) / float(our['us']):.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, nargs="?", default=PAGE.parents[1] / "build/release/tests/bench/products_cuda")
    parser.add_argument("--from", dest="file", type=Path)
    parser.add_argument("--print", action="store_true")
    arguments = parser.parse_args()
    if arguments.file:
        text = arguments.file.read_text()
    else:
        commands = [arguments.program, "bf16"], [sys.executable, HERE / "cuda_products_peers.py"]
        text = "".join(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout for command in commands)
    if arguments.print:
        print(markdown(text))
        return
    page = PAGE.read_text()
    if BEGIN not in page or END not in page:
        sys.exit(f"{PAGE}: want the lines {BEGIN} and {END}")
    PAGE.write_text(f"{page.split(BEGIN)[0]}{BEGIN}\n\n{markdown(text)}\n\n{END}{page.split(END)[1]}")


if __name__ == "__main__":
    main()
