"""Tables and the plot of docs/performance.md, out of what cpu.py measured."""
import platform
import statistics
import sys
from pathlib import Path

CORVID, FLASH, PLAIN = "corvid", "llama.cpp, flash attention", "llama.cpp"
NAMES = {PLAIN: "llama.cpp, without"}
BEGIN, END = "<!-- script/bench cpu writes from here -->", "<!-- to here -->"
PLOT = "![decode speed over depth](performance.svg)"


def median(found, file, program, case):
    samples = found.samples.get((file, program, case))
    return statistics.median(samples) if samples else None


def case_name(case):
    if case[0] == "first_token_ms":
        return "load and first token, ms"
    if case[0] == "peak_bytes":
        return "peak memory, MB"
    phase, tokens, depth = case
    return f"decode at {depth:,}" if phase == "decode" else f"prefill {tokens:,}" + (f" at {depth:,}" if depth else "")


def cases_of(found, file):
    """Of both programs, in the order of reading."""
    cases = {case for name, _, case in found.samples if name == file}
    ours = {case for name, program, case in found.samples if name == file and program == CORVID}
    theirs = {case for name, program, case in found.samples if name == file and program != CORVID}
    order = {"prefill": 0, "decode": 1, "first_token_ms": 2, "peak_bytes": 3}
    return sorted(cases & ours & theirs, key=lambda case: (order[case[0]], case[2:], case[1:]))


def limit(found, file, case):
    """Tokens per second if reading the bytes took all the time, at the speed at which memory was read beside the case; nothing
    for prefill, which computes more than it reads."""
    bytes_ = found.bytes.get((file, case))
    return statistics.median(found.memory[file, case]) / bytes_ if bytes_ else None


def rows_of(found, file):
    for case in cases_of(found, file):
        values = [median(found, file, program, case) for program in (CORVID, FLASH, PLAIN)]
        scale = 1e-6 if case[0] == "peak_bytes" else 1
        less_is_better = len(case) == 1
        theirs = [value for value in values[1:] if value is not None]
        ratio = values[0] / (min(theirs) if less_is_better else max(theirs))
        bound = limit(found, file, case)

        def shown(value):
            value = None if value is None else value * scale
            return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"

        yield [case_name(case), *(shown(value) for value in values), f"{ratio:.2f}", shown(bound),
               f"{100 * values[0] / bound:.0f}%" if bound else ""]


HEAD = ["tokens per second", "corvid", "llama.cpp, flash attention", "llama.cpp, without", "corvid / the better",
        "memory's limit", "reached"]


def cost_of_depth(found, file):
    """Sentences on what depth costs, by how keys and values are kept."""
    costs = {case[1:]: samples for (name, _, case), samples in found.samples.items() if name == file and case[0] == "cost"}
    for cache_type in dict.fromkeys(cache_type for cache_type, _ in costs):
        parts = [f"{statistics.median(samples):.2f} ({min(samples):.2f} to {max(samples):.2f}) at {depth:,}"
                 for (of, depth), samples in costs.items() if of == cache_type]
        yield f"A token's time in multiples of one at depth 0, keys and values in {cache_type}: {', '.join(parts)}."


def markdown(found, threads):
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("model name")), ": " + platform.machine())
    lines = [f"{flags.split(':', 1)[1].strip()}, {threads} threads, tier {found.about['tier']}; memory read at "
             f"{statistics.median(sum(found.memory.values(), [])) / 1e9:.1f} GB/s (median while measuring); llama.cpp "
             f"{found.about['version']}."]
    for file in dict.fromkeys(name for name, _, _ in found.samples):
        lines += ["", f"**{file}**", "", "| " + " | ".join(HEAD) + " |", "| --- " + "| ---: " * (len(HEAD) - 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows_of(found, file)]
        lines += ["", *cost_of_depth(found, file)]
    return "\n".join(lines)


def print_table(found, threads):
    print(markdown(found, threads))


def svg(found, files):
    """Decode speed over depth, a panel for each file: both programs, and what memory allows."""
    width, height, left, top, gap = 360, 260, 46, 34, 40
    colours = {CORVID: "#0b6e4f", FLASH: "#c8553d", PLAIN: "#e0a458", "memory's limit": "#888888"}
    out = []
    for panel, file in enumerate(files):
        cases = [case for case in cases_of(found, file) if case[0] == "decode"]
        series = {program: [(case[2], median(found, file, program, case)) for case in cases]
                  for program in (CORVID, FLASH, PLAIN)}
        series["memory's limit"] = [(case[2], limit(found, file, case)) for case in cases]
        series = {name: [point for point in points if point[1] is not None] for name, points in series.items()}
        highest = max(value for points in series.values() for _, value in points) * 1.05
        deepest = max(case[2] for case in cases)
        x0 = left + panel * (width + gap + left)

        def place(depth, value, x0=x0, highest=highest, deepest=deepest):
            return f"{x0 + width * depth / deepest:.1f},{top + height * (1 - value / highest):.1f}"

        out.append(f'<text x="{x0}" y="{top - 14}" font-weight="bold">{file}: decode, tokens per second</text>')
        step = next(s * 10**power for power in range(9) for s in (1, 2, 5) if highest / (s * 10**power) <= 7)
        for value in range(0, int(highest) + 1, step):
            y = place(0, value).split(",")[1]
            out.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
            out.append(f'<text x="{x0 - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{value}</text>')
        for depth in sorted({case[2] for case in cases}):
            x = place(depth, 0).split(",")[0]
            text = f"{depth // 1024}k" if depth else "0"
            out.append(f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{text}</text>')
        out.append(f'<text x="{x0 + width / 2}" y="{top + height + 32}" text-anchor="middle">tokens before</text>')
        for name, points in series.items():
            dash = ' stroke-dasharray="5 4"' if name == "memory's limit" else ""
            line = " ".join(place(*point) for point in points)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2"{dash}/>')
            if not dash:
                for point in points:
                    x, y = place(*point).split(",")
                    out.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colours[name]}"/>')
    total = len(files) * (width + gap + left)
    x, y = left, top + height + 56
    for name, colour in colours.items():
        out.append(f'<line x1="{x}" x2="{x + 24}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{x + 30}" y="{y}" dominant-baseline="middle">{NAMES.get(name, name)}</text>')
        x += 60 + 7 * len(NAMES.get(name, name))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {top + height + 70}" font-family="sans-serif" '
            f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(out) + "\n</svg>\n")


def write_docs(found, threads, folder: Path):
    """Replaces what stands between the marks in performance.md, and the plot."""
    page = folder / "performance.md"
    text = page.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{page}: want the lines {BEGIN} and {END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{markdown(found, threads)}\n\n{PLOT}\n\n{END}{after}")
    files = list(dict.fromkeys(name for name, _, _ in found.samples if name.endswith("q8_0")))
    (folder / "performance.svg").write_text(svg(found, files))
