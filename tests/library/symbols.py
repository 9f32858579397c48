#!/usr/bin/env python3
"""The ABI: what the shared library exports is what symbols.txt lists, line by line, and nothing of anybody else's.

    symbols.py LIBRARY            compares
    symbols.py LIBRARY --write    makes the list anew; its diff is what a reviewer reads
"""

import pathlib
import subprocess
import sys

LIST = pathlib.Path(__file__).with_name("symbols.txt")


def exported(library):
    lines = subprocess.run(["nm", "-D", "-C", "--defined-only", "--with-symbol-versions", library], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    # "0000000000012340 T corvid::v1::version()@@CORVID_0.1"; the version itself is an absolute symbol.
    names = {line.split(" ", 2)[2] for line in lines if " A " not in line[:20]}
    return sorted(names)


def main():
    found = exported(sys.argv[1])
    if sys.argv[2:] == ["--write"]:
        LIST.write_text("\n".join(found) + "\n")
        return 0
    wanted = LIST.read_text().splitlines()
    for name in sorted(set(found) - set(wanted)):
        print("exported, but not in the list: " + name)
    for name in sorted(set(wanted) - set(found)):
        print("in the list, but not exported: " + name)
    foreign = [name for name in found if not name.startswith(("corvid_", "corvid::v1::"))]
    for name in foreign:
        print("not corvid's to export: " + name)
    return int(found != wanted or bool(foreign))


if __name__ == "__main__":
    sys.exit(main())
