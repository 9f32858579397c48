#!/usr/bin/env python3
"""docs/embedding.md, word for word: every command in it is run, in one shell and in a home folder of its own, and has to
print what stands there. So the build is installed, the examples are built against the installed copy as by a host, and
each runs with the model that was installed. Afterwards the prefix is moved: nothing may remember where it was.

    embedding.py --build BUILD --source SOURCE [--show]

--show prints what was found instead of comparing, to bring the document up to date.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

TIMEOUT_S = 500
END = "=== end of command ==="


def commands(document):
    """[(command, [line that it prints])] of the indented blocks that begin with a prompt."""
    found, prints = [], None
    for line in document.read_text().splitlines():
        if line.startswith("    $ "):
            prints = []
            found.append((line[6:], prints))
        elif line.startswith("    ") and prints is not None:
            prints.append(line[4:])
        else:
            prints = None
    return found


class Shell:
    """A bash that ends, with all that it started, when it takes too long."""

    def __init__(self, folder, env):
        self.process = subprocess.Popen(["bash"], cwd=folder, env=env, text=True, bufsize=1, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.watch = threading.Timer(TIMEOUT_S, lambda: os.killpg(self.process.pid, signal.SIGKILL))
        self.watch.start()

    def run(self, command):
        """The lines that it prints. Ends the test when it fails."""
        self.process.stdin.write("%s\necho; echo '%s' $?\n" % (command, END))
        lines = []
        for line in self.process.stdout:
            if line.startswith(END):
                break
            lines.append(line.rstrip("\n"))
        else:
            sys.exit("%s: the shell ended\n%s" % (command, "\n".join(lines)))
        status = int(line.split()[-1])
        if status != 0:
            sys.exit("%s: exit status %d\n%s" % (command, status, "\n".join(lines)))
        # The empty line that parts an output without a line end from the mark.
        return lines[:-1] if lines and lines[-1] == "" else lines

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.watch.cancel()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    source, build = pathlib.Path(args.source).resolve(), pathlib.Path(args.build).resolve()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="corvid-embedding-") as folder:
        scratch = pathlib.Path(folder)
        (scratch / "tree/build").mkdir(parents=True)
        (scratch / "tree/examples").symlink_to(source / "examples")
        (scratch / "tree/build/release").symlink_to(build)
        # Nothing of this user's: neither configuration nor a model that lies elsewhere.
        env = {"PATH": os.environ["PATH"], "HOME": str(scratch), "LC_ALL": "C.UTF-8"}
        shell = Shell(scratch / "tree", env)
        for command, wanted in commands(source / "docs/embedding.md"):
            if command.startswith("script/build"):
                continue  # that build is what is tested
            found = shell.run(command)
            if args.show:
                print("\n".join(["    $ " + command] + ["    " + line for line in found]), flush=True)
            # Builds say much that is not the document's business.
            elif found != wanted and not command.startswith(("cmake", "script/")):
                wrong.append("%s\n  want %r\n  found %r" % (command, wanted, found))
        shell.close()

        (scratch / "corvid").rename(scratch / "elsewhere")
        env["LD_LIBRARY_PATH"] = str(scratch / "elsewhere/lib")
        moved = subprocess.run([scratch / "tree/build/agent", "garden", "how many txt files are in notes?"], env=env,
                               cwd=scratch / "tree", capture_output=True, text=True)
        if moved.stdout != "2 .txt files.\n":
            wrong.append("after the prefix was moved: found %r %r" % (moved.stdout, moved.stderr))
        model = ("import ctypes, sys; sys.path.insert(0, 'examples'); import agent\n"
                 "lib = agent.load(sys.argv[1]); lib.corvid_engine_model.restype = agent.Text\n"
                 "made = ctypes.c_void_p(); assert lib.corvid_engine_create(None, ctypes.byref(made), None) == 0\n"
                 "print(lib.corvid_engine_model(made)); lib.corvid_engine_free(made)")
        found = subprocess.run([sys.executable, "-c", model, scratch / "elsewhere/lib/libcorvid.so"], env=env,
                               cwd=scratch / "tree", capture_output=True, text=True)
        if found.stdout.strip() != str(scratch / "elsewhere/share/corvid/models/corvid-small.gguf"):
            wrong.append("the installed model: found %r %r" % (found.stdout, found.stderr))
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
