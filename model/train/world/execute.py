"""Runs tool calls in a real scratch folder and gives back exactly the text that corvid's tools give.

`Box` is one scratch folder. `shell` starts `bash -c`, `http_request` goes through a real loopback server (one per
process), the file tools are written out here. Two things are simulated, both because one machine has only one of them:

  * the folder's path: /dev/shm/... is shown as the path that the scene wants (`shown`), by replacing it in results;
  * the server's port: a scene uses any port number it likes, and requests to it reach the process's real server.

A scene may also put shell functions into the environment (`functions`), with which system.* varies what `date`,
`nproc`, `uname`, `df` and `whoami` print; their output has the form of the real programs.
"""

import http.client
import http.server
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import urllib.parse

# As in the sandbox; with this Python's own folder at the end where the system has none.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
if shutil.which("python3", path=PATH) is None:
    PATH += ":" + os.path.dirname(sys.executable)

BASH = shutil.which("bash", path=PATH)  # started as plain `bash`, which is how it names itself in its messages

OUTPUT_LIMIT = 16 * 1024
SHELL_TIMEOUT_S = 30
TOOLS = ["shell", "read_file", "write_file", "edit_file", "list_dir", "http_request"]
ARGUMENTS = {
    "shell": {"command": str, "timeout_s": int},
    "read_file": {"path": str, "offset": int, "limit": int, "numbers": bool},
    "write_file": {"path": str, "content": str},
    "edit_file": {"path": str, "old": str, "new": str, "all": bool},
    "list_dir": {"path": str, "depth": int},
    "http_request": {"method": str, "url": str, "headers": dict, "body": str, "save_to": str},
}


def clip(text, limit=OUTPUT_LIMIT):
    """Head and tail of a text over the limit, the cut said between them."""
    data = text.encode()
    if len(data) <= limit:
        return text
    half = limit // 2
    head, tail = data[:half].decode("utf-8", "ignore"), data[-half:].decode("utf-8", "ignore")
    return "%s\n[... %d bytes cut ...]\n%s" % (head.rstrip("\n"), len(data) - 2 * half, tail)


def ended(text):
    return text if not text or text.endswith("\n") else text + "\n"


def chomp(text):
    return text[:-1] if text.endswith("\n") else text


def nearest_line(text, wanted):
    """The line of a text that shares most letter pairs with what was looked for, as edit_file finds it."""
    def pairs(line):
        out = {}
        for i in range(1, len(line)):
            out[line[i - 1:i + 1]] = out.get(line[i - 1:i + 1], 0) + 1
        return out

    first = next((t.strip(" \t\r") for t in wanted.split("\n") if t.strip(" \t\r")), "")
    want, best, found = pairs(first), 0.0, ""
    for line in text.split("\n"):
        candidate = line.strip(" \t\r")[:1000]
        common = sum(min(n, want[p]) for p, n in pairs(candidate).items() if p in want)
        score = 2.0 * common / max(1, len(candidate) + len(first) - 2)
        if score > best:
            best, found = score, candidate
    return found[:200]


class Outside(Exception):
    """A path that leads out of the working folder."""


class Server:
    """The loopback server of this process; `routes` and `seen` belong to the scene that runs at the moment.

    A route is (status, headers, body, expect): headers a list of pairs, sent as they are; expect, if not None, a function
    of (headers, body) that says whether the request is as wanted (else 400).
    """

    def __init__(self):
        self.routes, self.seen = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def log_message(self, *args):
                pass

            def reply(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                path = self.path
                outer.seen.append({"method": self.command, "path": path, "headers": dict(self.headers.items()), "body": body})
                route = outer.routes.get((self.command, path))
                if route is None:
                    other = any(p == path for _, p in outer.routes)
                    route = (405, outer.plain, "method not allowed\n", None) if other else (404, outer.plain, "not found\n", None)
                status, headers, text, expect = route
                if expect is not None and not expect(self.headers, body):
                    status, headers, text = 400, outer.plain, "bad request\n"
                data = text.encode()
                self.send_response_only(status)
                for name, value in headers(len(data)) if callable(headers) else headers:
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = reply

        self.plain = []  # headers of the server's own error pages, in a route's form
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.5}, daemon=True).start()


_servers = {}  # by process: a forked child inherits the object, but not the thread that serves


def server():
    pid = os.getpid()
    if pid not in _servers:
        _servers[pid] = Server()
    return _servers[pid]


class Box:
    def __init__(self, root, shown):
        """root: an absolute path that does not exist yet; shown: the path that results name instead."""
        self.root, self.shown = root, shown
        self.ports = set()   # port numbers that reach the scene's server
        self.variables = {}  # environment of the agent
        self.functions = {}  # name -> body of a bash function
        os.makedirs(root)

    def close(self):
        try:
            shutil.rmtree(self.root)
        except PermissionError:
            for folder, _, _ in os.walk(self.root):
                os.chmod(folder, 0o755)
            shutil.rmtree(self.root)

    # -- the folder -------------------------------------------------------------------------------------------------

    def fill(self, dirs, files):
        """files: path -> (bytes, mode, mtime or None)"""
        made = set()
        for d in dirs:
            os.makedirs(os.path.join(self.root, d), exist_ok=True)
        for path, (data, mode, mtime) in files.items():
            full = os.path.join(self.root, path)
            folder = os.path.dirname(full)
            if folder not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.write(fd, data)
            os.close(fd)
            if mode != 0o644:
                os.chmod(full, mode)
            if mtime is not None:
                os.utime(full, (mtime, mtime))

    def state(self):
        """path -> (bytes, mode) of every file, and the set of folders; .git is not looked at."""
        files, dirs = {}, set()
        for folder, names, here in os.walk(self.root):
            if ".git" in names:
                names.remove(".git")
            base = os.path.relpath(folder, self.root)
            if base != ".":
                dirs.add(base)
            for name in here:
                full = os.path.join(folder, name)
                with open(full, "rb") as f:
                    data = f.read()
                files[name if base == "." else base + "/" + name] = (data, stat.S_IMODE(os.lstat(full).st_mode))
        return files, dirs

    def bash(self, command, env=None, timeout=SHELL_TIMEOUT_S):
        """(exit code or None after a timeout, stdout, stderr)"""
        base = {"PATH": PATH, "HOME": os.path.dirname(self.root),
                "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PWD": self.root, "TZ": "UTC",
                "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        base.update(self.variables)
        base.update(env or {})
        for name, body in self.functions.items():
            base["BASH_FUNC_%s%%%%" % name] = "() { %s\n}" % body
        process = subprocess.Popen(["bash", "-c", command], executable=BASH, cwd=self.root, env=base, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=False)
        late = []
        previous = signal.signal(signal.SIGALRM, lambda *_: (late.append(True), process.kill()))
        signal.alarm(timeout)  # cheaper than communicate(timeout), which polls
        try:
            out, err = process.communicate()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)
        code = None if late else process.returncode
        return (128 - code if code is not None and code < 0 else code), out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    # -- tools ------------------------------------------------------------------------------------------------------

    def run(self, name, args):
        """The text of a tool's result."""
        if name not in ARGUMENTS:
            return "[error: no tool named %s; the tools are %s]" % (name, ", ".join(TOOLS))
        try:
            text = getattr(self, name)(**args)
        except Outside:
            return "[denied: %s is outside the working folder]" % (args.get("path") or args.get("save_to"))
        return chomp(text.replace(self.root, self.shown))

    def shell(self, command, timeout_s=SHELL_TIMEOUT_S):
        code, out, err = self.bash(command, timeout=timeout_s)
        text = clip(out)
        if err:
            text = ended(text) + "[stderr]\n" + clip(err)
        if code is None:
            text = ended(text) + "[timed out after %d s]" % timeout_s
        elif code:
            text = ended(text) + "[exit code %d]" % code
        return text or "[no output]"

    def _full(self, path):
        full = os.path.normpath(os.path.join(self.root, path.replace(self.shown, self.root, 1) if path.startswith("/") else path))
        if full != self.root and not full.startswith(self.root + "/"):
            raise Outside()
        return full

    def read_file(self, path, offset=1, limit=None, numbers=False):
        full = self._full(path)
        if os.path.isdir(full):
            return "[error: %s is a folder]" % path
        if not os.path.exists(full):
            return "[error: no such file: %s]" % path
        with open(full, "rb") as f:
            data = f.read()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = None
        if text is None or "\0" in text:
            return "[binary file, %d bytes]" % len(data)
        if not text:
            return "[empty file]"
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        last = len(lines) if limit is None else min(len(lines), offset - 1 + limit)
        shown, size = [], 0
        for number in range(offset, last + 1):
            line = "%d: %s" % (number, lines[number - 1]) if numbers else lines[number - 1]
            size += len(line) + 1
            if size > OUTPUT_LIMIT and shown:
                last = number - 1
                break
            shown.append(line)
        out = "\n".join(shown) + "\n"
        if offset > 1 or last < len(lines):
            out += "[lines %d-%d of %d]" % (offset, last, len(lines))
        return out

    def write_file(self, path, content):
        full = self._full(path)
        if os.path.isdir(full):
            return "[error: %s is a folder]" % path
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", newline="") as f:
            f.write(content)
        return "wrote %d bytes to %s" % (len(content.encode()), path)

    def edit_file(self, path, old, new, all=False):
        full = self._full(path)
        if os.path.isdir(full):
            return "[error: %s is a folder]" % path
        if not os.path.exists(full):
            return "[error: no such file: %s]" % path
        with open(full, newline="") as f:
            text = f.read()
        count = text.count(old)
        if count > 1 and not all:
            return "[error: the old text stands %d times in %s; give more of it, or set all]" % (count, path)
        if not count:
            line = nearest_line(text, old)
            return "[error: the old text is not in %s%s]" % (path, "; the nearest line is: " + line if line else "; no line is like it")
        with open(full, "w", newline="") as f:
            f.write(text.replace(old, new))
        return "replaced %d time%s in %s" % (count, "" if count == 1 else "s", path)

    def list_dir(self, path=".", depth=1):
        full = self._full(path)
        if not os.path.exists(full):
            return "[error: no such file: %s]" % path
        if not os.path.isdir(full):
            return "[error: %s is no folder]" % path
        lines = []

        def walk(folder, prefix, left):
            for name in sorted(os.listdir(folder), key=os.fsencode):
                inner = os.path.join(folder, name)
                if os.path.islink(inner):
                    lines.append("%s%s -> %s" % (prefix, name, os.readlink(inner)))
                elif os.path.isdir(inner):
                    lines.append("%s%s/" % (prefix, name))
                    if left > 1:
                        walk(inner, prefix + name + "/", left - 1)
                else:
                    lines.append("%s%s %d" % (prefix, name, os.path.getsize(inner)))

        walk(full, "", depth)
        return "\n".join(lines) or "[empty folder]"

    def http_request(self, method, url, headers=None, body=None, save_to=None):
        full = self._full(save_to) if save_to else None
        parts = urllib.parse.urlsplit(url)
        port = parts.port or 80
        if port not in self.ports:
            return "[error: could not connect to %s:%d: Connection refused]" % (parts.hostname, port)
        connection = http.client.HTTPConnection("127.0.0.1", server().port, timeout=20)
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        connection.request(method, target, body=body, headers={"Host": parts.netloc, **(headers or {})})
        response = connection.getresponse()
        data = response.read()
        connection.close()
        text = "HTTP %d\n" % response.status + "".join("%s: %s\n" % h for h in response.headers.items()) + "\n"
        if full and response.status < 300:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as f:
                f.write(data)
            return text + "saved %d bytes to %s" % (len(data), save_to)
        text += data.decode()
        if save_to:
            text = ended(text) + "[not saved: status %d]" % response.status
        return text
