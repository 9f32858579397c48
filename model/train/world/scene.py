"""One scene: a folder, what the user says, what the agent does about it, and what must be true at the end.

A skill (see skills/__init__.py) builds the folder with put() and mkdir(), speaks with user(), acts with shell(), read()
... whose results are real and come back as text, and closes every request with answer(). Along the way it says what it
expects: will_write(), will_remove(), ... for the folder, says() for the last answer. finish() compares.

There are two sources of chance: `rng` makes the world and `names`; `say_rng` chooses only words and wording. A second
trajectory with the same world and other words replays the recorded results instead of running the calls again.
"""

import base64
import json
import re
import zlib

from . import content, phrases
from .execute import server
from .names import Names
from .phrases import Name, Quoted, T, Tail, Value  # noqa: F401  (skills import them from here)


class Drop(Exception):
    """This trajectory is not fit for training; the text says why."""


class Denied(Exception):
    """The call that a scene wanted denied was reached; nothing was run for it."""


class OtherPath(Exception):
    """Other wording led to other calls, so recorded results do not fit."""


def mentions(text, want):
    """`want` stands in `text` as a whole word or name."""
    pattern = r"(?<![\w-])(?<![\w-]\.)" + re.escape(want) + r"(?![\w-])(?!\.\w)"
    return re.search(pattern, text, re.I) is not None


def held_out(templates):
    """The template families of a list that only validation may use; templates: a tuple."""
    if len(templates) < 6:
        return frozenset()
    order = sorted(templates, key=lambda t: zlib.crc32(t.encode()))
    return frozenset(order[: max(1, len(templates) // 10)])


_held = {}


class Scene:
    def __init__(self, skill, rng, say_rng, validation, open_box, recorded=None):
        self.skill, self.rng, self.say_rng, self.validation = skill, rng, say_rng, validation
        self.names = Names(rng, validation)
        self._say_names = Names(say_rng, validation)
        self._open_box, self._recorded = open_box, recorded
        self.box = None
        self.files, self.dirs = {}, set()  # path -> [bytes, mode, mtime or None]
        self.variables, self.functions, self.shown = {}, {}, None
        self.routes, self.port = {}, None
        self.prepare = []  # bash commands that set the folder up once its files are there
        self.messages, self.families, self.calls = [], [], []
        self._want, self._want_dirs, self._free, self._checks = None, None, set(), []
        self._used = set()
        self.denied_call, self.denial = None, None  # the number of a call that is not run, and (name, args) -> its result
        self.gaps = []  # (number of messages, whether a question follows that refers back): other work may come before these
        self.slots = {}  # of the latest request

    # -- chance -----------------------------------------------------------------------------------------------------

    def chance(self, p):
        return self.rng.random() < p

    def choice(self, options):
        return self.rng.choice(options)

    def sample(self, options, n):
        return self.rng.sample(options, n)

    def number(self, low, high):
        return self.rng.randint(low, high)

    def decided(self, name, options):
        """A choice of wording, made with the wording's own chance."""
        return self.say_rng.choice(options)

    # -- the folder -------------------------------------------------------------------------------------------------

    def put(self, path, text, mode=0o644, mtime=None):
        """A file of the world; parents are made."""
        data = text.encode() if isinstance(text, str) else text
        self.files[path] = [data, mode, mtime]
        self._used.add(path)
        self.mkdir(path.rpartition("/")[0])
        return path

    def mkdir(self, path):
        while path:
            self.dirs.add(path)
            self._used.add(path)
            path = path.rpartition("/")[0]

    def text(self, path):
        return self.files[path][0].decode()

    def folder(self, here=0.4, depth=None):
        """A new folder's path; "" (the working folder itself) with probability `here`."""
        if self.chance(here):
            return ""
        while True:
            d = "/".join(self.names.folder() for _ in range(depth or self.rng.choices([1, 2, 3], [75, 20, 5])[0]))
            if d not in self.dirs and d not in self._used:
                self.mkdir(d)
                return d

    def fresh(self, folder="", ext=None, path=True):
        """An unused file name in a folder, as a path."""
        while True:
            name = self.names.file(ext)
            full = join(folder, name)
            if full not in self._used and full.lower() not in {u.lower() for u in self._used}:
                self._used.add(full)
                return full

    def fresh_folder(self, parent=""):
        """The path of a folder that does not exist (and is not made)."""
        while True:
            full = join(parent, self.names.folder())
            if full not in self._used:
                self._used.add(full)
                return full

    def file(self, folder="", ext=None, text=None, **more):
        """A new file with some content; returns its path."""
        path = self.fresh(folder, ext)
        return self.put(path, content.any_text(self, path.rpartition(".")[2]) if text is None else text, **more)

    def lookalike(self, path, text=None):
        """A file whose name is easily mistaken for path's, in the same folder."""
        folder, _, name = path.rpartition("/")
        for _ in range(20):
            other = join(folder, self.names.like(name))
            if other not in self._used:
                return self.put(other, content.any_text(self, other.rpartition(".")[2]) if text is None else text)
        raise Drop("no name for a look-alike")

    def clutter(self, low=0, high=5, folders=2):
        """Other files that the request is not about, in the working folder and in some folders."""
        places = [""] + [self.folder(0) for _ in range(self.number(0, folders))]
        for _ in range(self.number(low, high)):
            self.file(self.choice(places))

    # -- speaking ---------------------------------------------------------------------------------------------------

    def pick(self, templates):
        """One template of a list, from the families of this split."""
        if isinstance(templates, str):
            return templates
        key = tuple(templates)
        held = _held.get(key)
        if held is None:
            held = _held[key] = held_out(key)
        fit = [t for t in templates if (t in held) == self.validation] or list(templates)
        return self.say_rng.choice(fit)

    def user(self, templates, plain=False, **slots):
        template = self.pick(templates)
        self.families.append("%08x" % zlib.crc32(template.encode()))
        self.slots = slots
        if not plain and self.say_rng.random() < 0.07:
            template = self._named_before(template, slots)
        template = self._new_folder(template, slots)
        template, slots = self._apart(template, slots)
        text = phrases.request(self.say_rng, self._say_names, template, slots, plain)
        if not text.isascii():
            raise Drop("request is not ASCII")
        self.messages.append({"role": "user", "text": text})
        return text

    def _named_before(self, template, slots):
        """The template with its file named in a sentence before, and `it` where the name stood; or as it was."""
        for slot in ("f", "a"):
            known = self.skill == "fail.missing" or slots.get(slot) in self.files
            if known and isinstance(slots.get(slot), Name) and len(re.findall(r"\$%s\b" % slot, template)) == 1:
                rest = re.sub(r"(\{the \w+ \|\}|\bthe (file|script|archive|table|log) |\bmy )?\$%s\b" % slot, "{it|it|it|that file|this file}", template)
                if rest.startswith("{it|it|it|"):
                    rest = rest.replace("{it|it|it|", "{it|", 1)
                return self.say_rng.choice(phrases.NAMED_BEFORE).replace("$f", "$" + slot) + " " + rest
        return template

    def _new_folder(self, template, slots):
        """A folder that is not there yet is now and then called a new one."""
        d = slots.get("d")
        if "{the folder |}$d" in template and isinstance(d, Name) and d.removeprefix("./").rstrip("/") not in self.dirs and self.say_rng.random() < 0.3:
            return template.replace("{the folder |}$d", "{a|a|the} {new folder {called|named}|folder {called|named}|new folder,} $d")
        return template

    def _apart(self, template, slots):
        """Now and then a file's folder is said apart from its name: "todo.txt in the garden folder"."""
        out = dict(slots)
        for slot, value in slots.items():
            known = isinstance(value, Name) and "/" in value and (value in self.files or self.skill == "fail.missing")
            if not known or "$" + slot not in template or self.say_rng.random() >= 0.3:
                continue
            folder, _, name = value.rpartition("/")
            alone = sum(isinstance(v, Name) for v in slots.values()) == 1
            if alone and self.say_rng.random() < 0.25 and not template.startswith(("$", "in ")):
                template, out[slot] = "in {the folder $in_folder|the $in_folder folder|$in_folder|folder $in_folder}{,|} " + template, Name(name)
                out["in_folder"] = Name(folder)
            else:
                where = self.say_rng.choice(["$file_ in the $folder_ {folder|folder|directory}", "$file_ in $folder_", "$file_ in {the |}folder $folder_",
                                             "$file_ {inside|from} {the folder |}$folder_", "$file_ {that is|which is} in {the folder |}$folder_"])
                out[slot] = T(where, file_=Name(name), folder_=Name(folder))
        return template, out

    def answer(self, templates, **slots):
        template = templates if isinstance(templates, str) else self.say_rng.choice(templates)
        text, kept = phrases.answer(self.say_rng, template, slots)
        self._grounded(kept)
        self.messages.append({"role": "assistant", "text": text, "calls": []})
        return text

    def _grounded(self, kept):
        """Names and values of an answer must stand in what the model has seen; numbers that it computes itself need not."""
        seen = ("\n".join(m["text"] for m in self.messages) + json.dumps([c[1] for c in self.calls])).lower()
        for text in kept:
            words = text.lower().rstrip(".").split()
            if words and words[0].isdigit():
                continue  # the skill has compared the number
            if not all(w in seen or w.strip(".,:") in seen or w.removesuffix(".gz") in seen or w in ("file", "files") for w in words):
                raise Drop("the answer says %r, which nothing has shown" % text)

    def later(self):
        """What follows asks for what was shown so far, with any amount of other work between (data.py puts it there)."""
        self.gaps.append((len(self.messages), True))

    def apart(self):
        """What follows may come after any amount of other work, too, but shows or does something."""
        self.gaps.append((len(self.messages), False))

    def place(self, folder, here="{here|in this folder|in the current folder|in this directory|in the working folder}"):
        """A phrase for "in that folder"."""
        if folder:
            return T("{in|in|in|inside|in the folder|in the directory|in folder|inside the folder} $folder_", folder_=self.dir_name(folder)) \
                if self.say_rng.random() < 0.75 else T("in the $folder_ {folder|folder|directory|dir}", folder_=self.dir_name(folder))
        return T(here)

    def dir_name(self, folder):
        """A folder as a user writes it: notes, notes/, ./notes."""
        x = self.say_rng.random()
        return Name(folder + "/" if x < 0.12 else "./" + folder if x < 0.15 else folder)

    # -- acting -----------------------------------------------------------------------------------------------------

    def call(self, name, **args):
        """Runs one call and returns the result's text."""
        self._start()
        number = len(self.calls)
        if self._recorded is not None:
            if number >= len(self._recorded) or self._recorded[number][:2] != (name, args):
                raise OtherPath()
            result = self._recorded[number][2]
        else:
            if self.box is None:
                self._materialise()
            result = self.box.run(name, args) if number != self.denied_call else self.denial(name, args)
        self.calls.append((name, args, result))
        call_id = "call_%d" % (number + 1)
        self.messages.append({"role": "assistant", "text": "", "calls": [{"id": call_id, "name": name, "args": args}]})
        self.messages.append({"role": "tool", "text": result, "call": call_id})
        if number == self.denied_call:
            raise Denied(name)
        if "\ufffd" in result:
            raise Drop("a result that is not UTF-8")
        return result

    def shell(self, command):
        return self.call("shell", command=command)

    def read(self, path, **more):
        return self.call("read_file", path=path, **more)

    def write(self, path, text):
        return self.call("write_file", path=path, content=text)

    def http(self, method, url, **more):
        return self.call("http_request", method=method, url=url, **more)

    # -- http -------------------------------------------------------------------------------------------------------

    def serve(self, path, body, status=200, headers=None, method="GET", kind=None, expect=None):
        """A page of the scene's server; returns its URL. headers: more headers, a list of pairs."""
        if self.port is None:
            self.port = self.choice([8000, 8080, 5000, 3000, 8888, 9000]) if self.chance(0.1) else self.number(1024, 60999)
            self._server_style = self.rng.random()
            self._server_date = "%s, %02d %s %d %s GMT" % (self.choice("Mon Tue Wed Thu Fri Sat Sun".split()), self.number(1, 28),
                                                        self.choice("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()),
                                                        self.number(2023, 2027), self.names.time())
        if not isinstance(body, str):
            body = json.dumps(body)
            kind = kind or "application/json"
        self.routes[(method, path)] = (status, self._headers(kind or "text/plain; charset=utf-8", headers or []), body, expect)
        return self.url(path)

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def _headers(self, kind, more):
        style, date = self._server_style, self._server_date
        name = "BaseHTTP/0.6 Python/3.%d.%d" % (9 + int(style * 97) % 5, int(style * 61) % 13)

        def make(length):
            kinds = [("Content-Type", kind), ("Content-Length", str(length))]
            if style < 0.6:
                return [("Server", name), ("Date", date)] + kinds + [("Connection", "close")] + more
            if style < 0.75:
                return [("Server", "nginx"), ("Date", date)] + kinds + more
            if style < 0.85:
                return kinds + more
            return more + [("Date", date)] + kinds + [("Connection", "close")]
        return make

    # -- what must be true ------------------------------------------------------------------------------------------

    def _start(self):
        if self._want is None:
            self._want = {p: (d, m) for p, (d, m, _) in self.files.items()}
            self._want_dirs = set(self.dirs)

    def nothing_changes(self):
        """Takes every will_...() back."""
        self._want, self._checks = None, []
        self._start()

    def will_write(self, path, text):
        """The file holds this text afterwards; a final newline more or less does not matter."""
        self._start()
        mode = self._want[path][1] if path in self._want else 0o644
        self._want[path] = (text.encode() if isinstance(text, str) else text, mode)
        self._free.add(path)
        self.will_mkdir(path.rpartition("/")[0])

    def will_change(self, path):
        """The file may hold anything afterwards; a check() looks at it."""
        self._start()
        self._want[path] = None
        self.will_mkdir(path.rpartition("/")[0])

    def will_chmod(self, path, mode):
        self._start()
        self._want[path] = (self._want[path][0], mode)

    def will_remove(self, path):
        self._start()
        del self._want[path]

    def will_move(self, old, new):
        self._start()
        self._want[new] = self._want.pop(old)
        self.will_mkdir(new.rpartition("/")[0])

    def will_copy(self, old, new):
        self._start()
        self._want[new] = self._want[old]
        self.will_mkdir(new.rpartition("/")[0])

    def will_mkdir(self, path):
        self._start()
        while path:
            self._want_dirs.add(path)
            path = path.rpartition("/")[0]

    def will_rmdir(self, path):
        self._start()
        self._want_dirs.discard(path)

    def check(self, function):
        """function(box) returns what is wrong, or nothing; it runs after the folder was compared."""
        self._checks.append(function)

    def says(self, *texts):
        """The last answer has each text as a whole word or name."""
        for t in texts:
            if not mentions(self.messages[-1]["text"], str(t)):
                raise Drop("the answer lacks %r" % str(t))

    def says_not(self, *texts):
        for t in texts:
            if mentions(self.messages[-1]["text"], str(t)):
                raise Drop("the answer should not say %r" % str(t))

    def require(self, condition, why):
        if not condition:
            raise Drop(why)

    def finish(self):
        if self.messages[-1]["role"] != "assistant" or self.messages[-1]["calls"]:
            raise Drop("no answer at the end")
        for m in self.messages:
            if m["role"] == "assistant" and not m["calls"] and not (0 < len(m["text"]) <= 1500):
                raise Drop("an answer of %d characters" % len(m["text"]))
        if self.box is None:
            return
        files, dirs = self.box.state()
        for path in set(files) | set(self._want):
            if path not in self._want:
                raise Drop("left behind: " + path)
            if path not in files:
                raise Drop("gone: " + path)
            want = self._want[path]
            if want is None:
                continue
            same = files[path][0] == want[0]
            if not same and path in self._free:
                same = files[path][0].rstrip(b"\n") == want[0].rstrip(b"\n")
            if not same:
                raise Drop("wrong content in " + path)
            if files[path][1] != want[1]:
                raise Drop("wrong mode of " + path)
        if dirs != self._want_dirs:
            raise Drop("wrong folders: " + " ".join(sorted(dirs ^ self._want_dirs)))
        for function in self._checks:
            wrong = function(self.box)
            if wrong:
                raise Drop(wrong)

    def _materialise(self):
        self.box = self._open_box(self.shown)
        locale = "C" if zlib.crc32(repr(sorted(self.files)).encode()) % 6 == 0 else "C.UTF-8"  # quotes in messages differ
        self.box.variables, self.box.functions = {"LC_ALL": locale, **self.variables}, self.functions
        self.box.fill(self.dirs, self.files)
        for command in self.prepare:
            code, _, err = self.box.bash(command)
            self.require(code == 0, err)
        if self.port is not None:
            self.box.ports.add(self.port)
            server().routes, server().plain = self.routes, self._headers("text/plain; charset=utf-8", [])
            server().seen.clear()

    def world(self):
        """The scene as it began, for a replay elsewhere: files (base64), folders, pages."""
        def headers(h, body):
            return h(len(body.encode())) if callable(h) else h
        return {"files": {p: {"base64": base64.b64encode(d).decode(), "mode": m, "mtime": t} for p, (d, m, t) in self.files.items()},
                "dirs": sorted(self.dirs), "prepare": self.prepare, "env": self.variables, "simulated": sorted(self.functions), "port": self.port,
                "pages": [{"method": m, "path": p, "status": status, "headers": headers(h, body), "body": body}
                          for (m, p), (status, h, body, _) in self.routes.items()]}

    def close(self):
        if self.box is not None:
            self.box.close()


def join(folder, name):
    return folder + "/" + name if folder else name


def many(n, one, more=None):
    """"1 file", "3 files" as kept text."""
    return Value("%d %s" % (n, one if n == 1 else more or one + "s"))
