"""What decoding costs on this machine's GPU:  script/bench gpu [--from FILE...] [--print]

Runs `corvid model bench` on models made up at the sizes of released ones: four layers of MiniMax-M3, over the context,
with its sparse attention, with the same heads attending to everything, and with MiniMax-M2's; Qwen3-30B-A3B whole.
--from takes the JSON of such runs from files instead. Writes the tables and the plot in docs/gpu.md (--print:
prints the tables)."""
import argparse
import json
import subprocess
import sys
from pathlib import Path

DEPTHS = [8192, 32768, 131072, 524288, 1048576]
COMMON = ["--device", "cuda", "--gen", "16", "--repeat", "3", "--output", "json"]
M3 = ["--random", "minimax-m3-full:layers=4,dense_layers=1", *COMMON]
RUNS = [
    [*M3, "--prompt", "8192", "--depth", ",".join(map(str, DEPTHS)), "--attention", "sparse,dense,m2"],
    [*M3, "--prompt", "0", "--depth", ",".join(map(str, DEPTHS)), "--index-type", "e4m3"],
    *(["--random", f"qwen3-30b-a3b:type={kind}", "--prompt", "0", "--depth", "1024", "--batch", batch, *COMMON]
      for kind, batch in (("q8_0", "1,8,32"), ("q4_k", "1,8,32"), ("bf16", "1"))),
]
BEGIN, END = "<!-- script/bench gpu writes from here -->", "<!-- to here: gpu -->"
PLOT = "![a step's time over the context](gpu.svg)"
DOCS = Path(__file__).resolve().parents[2] / "docs"


def steps(run):
    return [result for result in run["results"] if result["phase"] == "decode" and "step" in result]


def curve(runs, attention, index="bf16"):
    """Milliseconds of a step of one sequence of MiniMax-M3's stack, by depth."""
    return {result["depth"]: result["step"]["ms"] for run in runs
            if run["architecture"] == "minimax-m3" and run.get("index_type", "bf16") == index
            for result in steps(run) if result["attention"] == attention and result["batch"] == 1}


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|",
                      *("| " + " | ".join(row) + " |" for row in rows)])


def joined(runs):
    """Runs of one model as one, with the ratios that `corvid model bench` gives when it has measured them together."""
    found = {}
    for run in runs:
        key = run["model"], run.get("index_type", "bf16")
        if key not in found:
            found[key] = dict(run, results=[])
        found[key]["results"] += run["results"]
    for run in found.values():
        if run.get("ratios") or run["architecture"] != "minimax-m3":
            continue
        run["ratios"] = []
        for sparse in (result for result in run["results"] if result["attention"] == "sparse"):
            for other in run["results"]:
                same = all(sparse[key] == other[key] for key in ("phase", "depth", "batch", "tokens"))
                if not same or other["attention"] == "sparse":
                    continue
                ratio = {key: other[key] for key in ("phase", "depth", "batch", "tokens")}
                ratio |= {"of": other["attention"], "time": sparse["tokens_per_second"] / other["tokens_per_second"]}
                if "step" in sparse:
                    layers = {"sparse attention": 3, "dense attention": 4}  # that have a part of this name

                    def layer(result, name):
                        return sum(p["ms"] for p in result["step"]["parts"] if p["name"] == name) / layers[name]

                    ratio["step"] = other["step"]["ms"] / sparse["step"]["ms"]
                    ratio["attention"] = layer(other, "dense attention") / layer(sparse, "sparse attention")
                run["ratios"].append(ratio)
    return list(found.values())


def step_table(runs):
    """Of runs of one architecture."""
    rows = []
    for run in runs:
        kind = run["model"].split()[-1]
        index = ", e4m3 index" if run.get("index_type") == "e4m3" else ""
        for result in steps(run):
            step = result["step"]
            slowest = sorted(step["parts"], key=lambda p: -p["ms"])
            parts = ", ".join(f"{p['name']} {1000 * p['ms']:,.0f}" for p in slowest if p["ms"] > 0.02 * step["ms"])
            rows.append([f"{kind}, {result['attention']}{index}, {result['depth']:,} tokens, batch {result['batch']}",
                         f"{1000 * step['ms']:,.0f}", f"{step['bytes'] / 1e6:,.0f}", f"{100 * step['memory_share']:.0f}%",
                         f"{result['tokens_per_second']:,.0f}", parts])
    return table(["a step of", "µs", "MB", "reached", "tokens per second, from outside", "parts, µs"], rows)


def ratio_table(run):
    """How many times as long attending to everything takes as choosing blocks."""
    cells = {}
    for ratio in run.get("ratios", []):
        if ratio["batch"] == 1:
            cells.setdefault(ratio["depth"], {})[ratio["phase"], ratio["of"]] = ratio
    speeds = {result["depth"]: result["tokens_per_second"] for result in run["results"]
              if result["phase"] == "prefill" and result["attention"] == "sparse"}
    rows = []
    for depth, by_case in sorted(cells.items()):
        row = [f"{depth:,}", f"{speeds[depth]:,.0f}" if depth in speeds else ""]
        for of in ("dense", "m2"):
            decode, prefill = by_case.get(("decode", of), {}), by_case.get(("prefill", of), {})
            row += [f"{value:.2f}" if value else "" for value in
                    (decode.get("step"), decode.get("attention"), prefill.get("time"))]
        rows.append(row)
    return table(["tokens before", "prefill, tokens per second", "M3's heads: step", "attention alone", "prefill",
                  "M2's heads: step", "attention alone", "prefill"], rows)


def markdown(runs):
    speeds = [result["memory_bytes_per_second"] for run in runs for result in run["results"]]
    lines = [f"{runs[0]['gpu']}; memory read at {min(speeds) / 1e12:.2f} to {max(speeds) / 1e12:.2f} TB/s."]
    for architecture in dict.fromkeys(run["architecture"] for run in runs):
        of_it = [run for run in runs if run["architecture"] == architecture]
        lines += ["", f"**{architecture}**", "", step_table(of_it)]
        for run in of_it:
            if run.get("ratios"):
                lines += ["", "Prefill of 8,192 tokens by chosen blocks; and attending to everything takes so many times as "
                          "long, by M3's heads (64 over 4) and M2's (48 over 8); of attention alone for a layer, its two "
                          "marks included:", "", ratio_table(run)]
    if curve(runs, "sparse"):
        lines += ["", PLOT]
    return "\n".join(lines)


def svg(runs):
    """A step's time over the context, both on logarithmic scales."""
    import math
    series = {"sparse": ("#0b6e4f", curve(runs, "sparse")),
              "sparse, e4m3 index": ("#5aa9a3", curve(runs, "sparse", "e4m3")),
              "dense": ("#c8553d", curve(runs, "dense")),
              "dense, M2's heads": ("#e0a458", curve(runs, "m2"))}
    series = {name: value for name, value in series.items() if value[1]}
    points = [point for _, by_depth in series.values() for point in by_depth.items()]
    left, top, width, height = 60, 40, 560, 300
    x_low, x_high = (math.log2(f(depth for depth, _ in points)) for f in (min, max))
    y_low = math.floor(math.log2(min(ms for _, ms in points)))
    y_high = math.ceil(math.log2(max(ms for _, ms in points)))

    def x(depth):
        return left + width * (math.log2(depth) - x_low) / max(1, x_high - x_low)

    def y(ms):
        return top + height * (1 - (math.log2(ms) - y_low) / (y_high - y_low))

    out = [f'<text x="{left}" y="{top - 16}" font-weight="bold">Four layers of MiniMax-M3 and the output matrix: '
           'milliseconds for a token</text>']
    for power in range(y_low, y_high + 1):
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(2.0**power):.1f}" y2="{y(2.0**power):.1f}" '
                   'stroke="#dddddd"/>')
        out.append(f'<text x="{left - 8}" y="{y(2.0**power):.1f}" text-anchor="end" dominant-baseline="middle">'
                   f'{2.0**power:g}</text>')
    for depth in sorted({depth for depth, _ in points}):
        name = f"{depth // 1024}k" if depth < 1 << 20 else f"{depth >> 20}M"
        out.append(f'<text x="{x(depth):.1f}" y="{top + height + 18}" text-anchor="middle">{name}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 36}" text-anchor="middle">tokens before</text>')
    for i, (name, (colour, by_depth)) in enumerate(series.items()):
        line = " ".join(f"{x(depth):.1f},{y(ms):.1f}" for depth, ms in sorted(by_depth.items()))
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(depth):.1f}" cy="{y(ms):.1f}" r="3" fill="{colour}"/>'
                for depth, ms in by_depth.items()]
        out.append(f'<line x1="{left + 145 * i}" x2="{left + 145 * i + 24}" y1="{top + height + 58}" '
                   f'y2="{top + height + 58}" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{left + 145 * i + 30}" y="{top + height + 58}" dominant-baseline="middle">{name}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 30} {top + height + 74}" '
            f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n' +
            "\n".join(out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corvid", type=Path)
    parser.add_argument("--from", dest="files", type=Path, nargs="*")
    parser.add_argument("--print", action="store_true")
    arguments = parser.parse_args()
    if arguments.files:
        runs = [json.loads(line) for file in arguments.files for line in file.read_text().splitlines()
                if line.startswith('{"')]
    else:
        runs = []
        for flags in RUNS:
            print("corvid model bench", *flags, file=sys.stderr)
            runs.append(json.loads(subprocess.run([arguments.corvid, "model", "bench", *flags], check=True,
                                                  stdout=subprocess.PIPE).stdout))
    runs = joined(runs)
    if arguments.print:
        print(markdown(runs))
        return
    page = DOCS / "gpu.md"
    text = page.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{page}: want the lines {BEGIN} and {END}")
    page.write_text(f"{text.split(BEGIN)[0]}{BEGIN}\n\n{markdown(runs)}\n\n{END}{text.split(END)[1]}")
    (DOCS / "gpu.svg").write_text(svg(runs))


if __name__ == "__main__":
    main()
