"""fail.*: what is not there, and what goes wrong. Plus extra.run: the same scripts when they work."""

import functools
import gzip
import io
import tarfile

from world import content
from world.scene import Denied, Name, Quoted, Tail, Value, join
from world.skills import MISSING, files_change, files_look, load, missing, skill, text
from world.wording import is_missing, kind, kind_name, names, quote

# -- fail.missing -------------------------------------------------------------------------------------------------------

NOT_THERE = ["there is no file {called |named |}$f{ here|}.", "i can't find $f: there is no such file.", "$f does not exist.", "$f does not exist, so {i did nothing|nothing was done}.",
             "i could not do that: $f is not there.", "sorry, there is no $f.", "there is no file $f, nothing was changed."]
NOT_THERE_ASKED = ["there is no file {called |named |}$f{ here|}.", "i can't find $f: there is no such file.", "$f does not exist.", "i can't tell: $f does not exist.", "sorry, there is no $f."]


@missing()
def size(s, f):
    s.user(files_look.SIZE, f=Name(f))
    s.shell("stat -c %s " + f)


@missing("conf", "ini", "cfg", "txt")
def value(s, f):
    key = content.plain_key(s)
    s.user(files_look.VALUE, f=Name(f), key=files_look.spoken(s, key))
    s.read(f)


@missing("txt", "md", "log")
def search_line(s, f):
    w = files_look.any_word(s)
    s.user(files_look.SEARCH_LINE_IN, f=Name(f), w=files_look.shown_word(s, w))
    s.shell("grep -n%sw '%s' %s" % (files_look.grep_case(w), w, f))


@missing("txt", "md", "log", "list", "csv")
def append(s, f):
    line = files_change.free_line(s)
    if s.say_rng.random() < 0.65:
        s.user(files_change.APPEND, f=Name(f), q=Quoted(line))
    else:
        s.user(files_change.APPEND_TAIL, f=Name(f), t=Tail(line))
    s.shell("sed -i '$a\\' %s && echo %s >> %s" % (f, quote(s, line), f))


@missing("txt", "md", "conf", "csv", "html")
def replace(s, f):
    a, b = s.names.words(2)
    shown = Quoted if s.say_rng.random() < 0.35 else Name
    s.user(files_change.REPLACE, f=Name(f), a=shown(a), b=shown(b))
    s.call("edit_file", path=f, old=a, new=b, all=True)


@missing()
def rename(s, f):
    b = s.fresh(f.rpartition("/")[0], f.rpartition(".")[2])
    full = s.chance(0.5)
    s.user(files_change.RENAME, a=Name(f), b=Name(b if full else files_change.base(b)))
    s.shell("mv %s %s" % (f, b))


@missing()
def move(s, f):
    d = files_change.target(s, f.rpartition("/")[0])
    s.user(files_change.MOVE_ONE, a=Name(f), d=s.dir_name(d))
    s.shell("ls %s && mkdir -p %s && mv %s %s/" % (f, d, f, d))


@missing()
def copy(s, f):
    b = s.fresh(f.rpartition("/")[0] if s.chance(0.7) else "", f.rpartition(".")[2])
    s.user(files_change.COPY, a=Name(f), b=Name(b))
    s.shell("cp %s %s" % (f, b))


@missing()
def copy_into(s, f):
    d = files_change.target(s, f.rpartition("/")[0])
    s.user(files_change.COPY_INTO, a=Name(f), d=s.dir_name(d))
    s.shell("ls %s && mkdir -p %s && cp %s %s/" % (f, d, f, d))


@missing()
def delete(s, f):
    s.user(files_change.DELETE, f=Name(f))
    s.shell("rm " + f)


@missing("txt", "md", "list", "csv")
def sort(s, f):
    flags = s.choice(["", "-r ", "-n ", "-rn "])
    how, order = s.say_rng.choice(text.HOW[flags.strip()]), s.say_rng.choice(text.ORDER[flags.strip()])
    if s.chance(0.5):
        s.user(text.SORT, f=Name(f), how=how, order=order)
        s.shell("sort %s-o %s %s" % (flags, f, f))
    else:
        g = s.fresh(f.rpartition("/")[0], f.rpartition(".")[2])
        s.user(text.SORT_TO, f=Name(f), g=Name(g), how=how, order=order)
        s.shell("sort %s-o %s %s" % (flags, g, f))


@missing("txt", "md", "list", "csv")
def unique(s, f):
    x = s.rng.random()
    if x < 0.35:
        s.user(text.UNIQUE, f=Name(f), order="")
        s.shell("out=$(awk '!seen[$0]++' %s) && echo \"$out\" > %s" % (f, f))
    elif x < 0.6:
        g = s.fresh(f.rpartition("/")[0], f.rpartition(".")[2])
        s.user(text.UNIQUE_TO, f=Name(f), g=Name(g), order="")
        s.shell("out=$(awk '!seen[$0]++' %s) && echo \"$out\" > %s" % (f, g))
    else:
        s.user(text.UNIQUE_COUNT, f=Name(f))
        s.shell("sort -u %s | wc -l" % f)


@missing("txt", "md", "csv", "log")
def join_files(s, f):
    fs = [s.file(f.rpartition("/")[0], f.rpartition(".")[2]) for _ in range(s.number(1, 2))]
    fs.insert(s.number(0, len(fs)), f)
    g = s.fresh(f.rpartition("/")[0], f.rpartition(".")[2])
    s.user(text.JOIN, fs=names(fs), g=Name(g))
    s.shell("ls %s && cat %s > %s" % (" ".join(fs), " ".join(fs), g))


@missing("txt", "md", "csv", "log")
def head_tail(s, f):
    top = s.chance(0.5)
    tool = "head" if top else "tail"
    n = s.number(2, 9)
    x = s.rng.random()
    if x < 0.25:
        s.user(text.ONE[tool], f=Name(f))
        s.shell("%s -n 1 %s" % (tool, f))
    elif x < 0.6:
        s.user(text.FIRST if top else text.LAST, f=Name(f), n=Value(n))
        s.shell("%s -n %d %s" % (tool, n, f))
    else:
        g = s.fresh(f.rpartition("/")[0], f.rpartition(".")[2])
        s.user(text.SAVE, f=Name(f), g=Name(g), n=Value(n), which="first" if top else "last")
        s.shell("ls %s && %s -n %d %s > %s" % (f, tool, n, f, g))


@missing("txt", "md", "csv", "log")
def count(s, f):
    words = s.chance(0.4)
    s.user(text.COUNT_WORDS if words else text.COUNT_LINES, f=Name(f))
    s.shell("wc -w < %s" % f if words else "grep -c '' %s" % f)


READ = ["what {is|does it say} in $f?", "what does $f {say|contain|hold}?", "show {me |}{the contents of |}$f", "read {me |}$f", "{tell me what|what} {is written|stands} in $f?", "open $f {and tell me what it says|for me}", "print $f", "what is the text of $f?",
        "display {the contents of |}$f", "cat $f", "i want to {read|see} $f.", "what have i written in $f?", "let me see {what is in |}$f", "give me the {contents|text} of $f"]


@missing("txt", "md", "ini", "json")
def read(s, f):
    s.user(READ, f=Name(f))
    s.read(f)


@skill("fail.missing", weight=1.6)
def missing_file(s):
    endings, function = s.choice(MISSING)
    d = s.folder(0.6)
    f = s.fresh(d, s.choice(endings) if endings else None)
    for _ in range(s.choice([0, 1, 1, 1, 2])):
        s.lookalike(f)
    if s.chance(0.2) and d:
        s.put(f.rpartition("/")[2], content.any_text(s, f.rpartition(".")[2]))  # the same name in another folder
    s.clutter(0, 4, 1)
    function(s, f)
    result = s.messages[-1]["text"]
    s.require(is_missing(s, result) or "annot open" in result, "it did not fail: " + result)
    changes = ("sed", "mv", "cp", "rm", "sort -o", "mkdir", ">")
    acts = any(w in str(c[1]) for c in s.calls for w in changes) or s.calls[-1][0] == "edit_file"
    s.answer(NOT_THERE if acts else NOT_THERE_ASKED, f=Name(f))
    s.says(f.rpartition("/")[2])


NO_FOLDER = ["there is no folder {called |named |}$f{ here|}.", "{the folder|folder} $f does not exist.", "i can't find {the folder |}$f: there is no such folder.", "sorry, there is no folder $f."]


@skill("fail.missing", weight=0.35)
def missing_folder(s):
    d = s.fresh_folder(s.folder(0.8))
    for _ in range(s.number(0, 2)):
        other = s.choice([d + "s", d + "-old", "my-" + d.rpartition("/")[2], d + "2", d[:-1] if len(d) > 3 and d[-2] != "/" else d + "x"])
        if other not in s.dirs:
            s.mkdir(other)
            s.file(other)
    s.require(d not in s.dirs, "it exists")
    s.clutter(0, 3, 1)
    ext = s.choice(["txt", "md", "csv", "log", "json", "jpg", "png"])
    place = s.place(d)
    x = s.number(0, 6)
    if x <= 1:
        s.user(files_look.LIST_FOLDER, folder=s.dir_name(d))
        s.shell("ls " + d)
    elif x == 2:
        s.user(files_look.COUNT_ALL, **{"in": place})
        s.shell("find %s -maxdepth 1 -type f | wc -l" % d)
    elif x == 3:
        s.user(files_look.COUNT_KIND, kind=kind(s, ext), **{"in": place})
        s.shell("find %s -maxdepth 1 -type f -name '*.%s' | wc -l" % (d, ext))
    elif x == 4:
        big = s.chance(0.5)
        s.user(files_look.LARGEST, most=files_look.BIG if big else files_look.SMALL, **{"in": place})
        s.shell("ls -Sp %s | grep -v / | %s -1" % (d, "head" if big else "tail"))
    elif x == 5:
        s.user(files_look.FIND_KIND_IN, kind=kind(s, ext), kind1=kind(s, ext, True), folder=s.dir_name(d))
        s.shell("find %s -type f -name '*.%s' | sort" % (d, ext))
    else:
        s.user(files_look.LIST_KIND, kind=kind(s, ext), **{"in": place})
        s.shell("ls -p %s | grep '\\.%s$'" % (d, ext))
    s.require(is_missing(s, s.messages[-1]["text"]), "it did not fail")
    s.answer(NO_FOLDER, f=Name(d))
    s.says(d)


@skill("fail.missing", weight=0.25)
def found_nowhere(s):
    f = s.fresh()
    for _ in range(s.number(0, 3)):
        s.lookalike(f)
    s.clutter(1, 5, 2)
    s.user(files_look.FIND_NAME, f=Name(f))
    out = s.shell("find . -name '%s' -printf '%%P\\n' | sort" % f)
    s.require(out == "[no output]", out)
    s.answer(["there is no file {called |named |}$f{ here| anywhere here|}.", "i can't find $f anywhere.", "$f does not exist{ here|}.", "i found no file {called |}$f."], f=Name(f))
    s.says(f)


@skill("fail.missing", weight=0.3)
def none_of_kind(s):
    d = s.folder(0.5)
    ext = s.choice(["txt", "md", "csv", "log", "json", "jpg", "png", "tmp", "bak", "pdf"])
    for _ in range(s.number(1, 5)):
        s.file(d, s.choice([e for e in ["txt", "md", "csv", "ini", "sh", ext + "x"] if e != ext]))
    if s.chance(0.4):
        s.put(join(d, "%s.%s.old" % (s.names.word(), ext)), "x\n")
    s.clutter(0, 2, 1)
    s.require(not any(p.rpartition("/")[0] == d and p.endswith("." + ext) for p in s.files), "there is one")
    slots = dict(kind=kind(s, ext), kind1=kind(s, ext, True), src=s.dir_name(d or "x"))
    x = s.number(0, 2)
    glob = join(d, "*." + ext)
    if x == 0:
        s.user(files_change.DELETE_KIND, **slots, **{"in": s.place(d)})
        s.shell("rm -v " + glob)
    else:
        to = files_change.target(s, d)
        tool = ["cp", "mv"][x - 1]
        forms = [[files_change.COPY_KIND, files_change.COPY_KIND_FROM], [files_change.MOVE_KIND, files_change.MOVE_KIND_FROM]][x - 1]
        s.user(forms[1] if d else forms[0], d=s.dir_name(to), **slots)
        s.shell("ls %s && mkdir -p %s && %s %s %s/" % (glob, to, tool, glob, to))
    s.require(is_missing(s, s.messages[-1]["text"]), "it did not fail")
    s.answer(["there are no $kind{ there| here|}{, so i did nothing|, so nothing was changed|}.", "i found no $kind{, so nothing was done|}.", "no $kind are there, nothing was changed."], kind=kind_name(ext))


# -- fail.command -------------------------------------------------------------------------------------------------------

RUN = ["run $f", "run $f and {tell me|say|report} {what it says|what happens|the result|what comes out|how it went|whether it works|if it works}", "execute $f", "start {the script |}$f", "can you run {the script |}$f?", "please {run|execute|start} $f and {show|give} me the {result|output}",
       "what {does|happens when i run} $f{ print|}?", "does {the script |}$f {work|run}?", "try {the script |}$f {and see what happens|for me}", "launch {the script |}$f{ and tell me the outcome|}", "i want you to run {the script |}$f.", "test {whether|if} $f {works|runs}", "what is the {output|result} of $f?",
       "run {the script |}$f, does it {work|succeed|go through}?", "call {the script |}$f and tell me what it {prints|says}", "let {the script |}$f run and report back"]


def failing_script(s):
    """(text, exit code, what it complains about)"""
    n = s.names
    code = s.choice([1, 1, 2, 3, 4, 5, 7, 9, 12, 42, 64, 100, s.number(1, 120)])
    complaint = s.choice(["cannot open %s" % n.file(), "%s not found" % n.noun(), "no connection to %s" % n.word(), "%s is full" % n.noun(), "missing %s" % n.word(), "wrong %s" % n.noun(), "invalid %s: %s" % (n.noun(), n.code()),
                          "%s failed" % n.noun(), "permission for %s denied" % n.word(), "timeout after %d seconds" % s.number(2, 90), "%s must not be empty" % n.noun(), "line %d is broken" % s.number(2, 300),
                          "disk %s is not mounted" % n.word(), "checksum of %s does not match" % n.file(), "no %s left" % n.noun(), "%s is locked by %s" % (n.noun(), n.first())])
    complaint = s.choice(["", "", "error: ", "Error: ", "ERROR ", "fatal: "]) + complaint
    head = "#!/bin/bash\n" + ("# %s\n" % content.sentence(s) if s.chance(0.5) else "")
    before = "".join('echo "%s"\n' % t for t in s.sample(["checking %s" % n.word(), "starting %s" % n.word(), "step %d" % s.number(1, 3), "reading %s" % n.noun()], s.choice([0, 0, 1, 2])))
    x = s.rng.random()
    if x < 0.75:
        to = " >&2" if s.chance(0.8) else ""
        return head + before + 'echo "%s"%s\nexit %d\n' % (complaint, to, code), code, complaint
    if x < 0.88:
        tool = n.made_up(2, 3) + s.choice(["", "-tool", "ctl"])
        return head + before + "%s --%s\n" % (tool, n.noun()), 127, "%s: command not found" % tool
    missing_file = n.file()
    return head + "set -e\n" + before + "cat %s\n" % missing_file, 1, "cat: %s: No such file or directory" % missing_file


FAILED = ["$f failed with exit code $c: $m.", "it failed with exit code $c: $m.", "{the script|$f} failed: $m (exit code $c).", "running $f failed with exit code $c. it said: $m."]


def script_file(s):
    f = s.fresh(s.folder(0.65), "sh")
    if s.chance(0.4):
        s.file(f.rpartition("/")[0], "sh")
    s.clutter(0, 3, 1)
    return f


@skill("fail.command", weight=1.0)
def failing(s):
    f = script_file(s)
    script, code, complaint = failing_script(s)
    s.put(f, script, mode=s.choice([0o644, 0o755]))
    s.user(RUN, f=Name(f))
    out = s.shell("bash " + f)
    s.require(out.endswith("[exit code %d]" % code) and complaint in out, out)
    s.answer(FAILED, f=Name(f), c=Value(code), m=Value(complaint))


@skill("fail.command", weight=0.12)
def failing_quietly(s):
    """A script that ends with a code and says nothing about it."""
    f = script_file(s)
    code = s.choice([1, 2, 3, s.number(4, 120)])
    said = "".join('echo "%s"\n' % t for t in s.sample(["starting", "checking %s" % s.names.noun(), "working on %s" % s.names.word()], s.choice([0, 0, 1])))
    s.put(f, "#!/bin/bash\n%s%s\n" % (said, "exit %d" % code if code != 1 or s.chance(0.5) else "false"))
    s.user(RUN, f=Name(f))
    out = s.shell("bash " + f)
    s.require(out.endswith("[exit code %d]" % code), out)
    s.answer(["$f failed with exit code $c{ and gave no reason|}.", "it failed with exit code $c, without {a message|saying why}.", "{the script|$f} failed: exit code $c."], f=Name(f), c=Value(code))


@skill("fail.command", weight=0.12, needs=("python3",))
def failing_python(s):
    f = s.fresh(s.folder(0.7), "py")
    s.clutter(0, 2, 1)
    n = s.names
    name, missing_file, number = n.noun(), n.file(), s.number(2, 99)
    body, reason = s.choice([
        ("total = %d\nprint(total / 0)\n" % number, "ZeroDivisionError: division by zero"),
        ("print(open('%s').read())\n" % missing_file, "FileNotFoundError: [Errno 2] No such file or directory: '%s'" % missing_file),
        ("prices = {'%s': %d}\nprint(prices['%s'])\n" % (n.word(), number, name), "KeyError: '%s'" % name),
        ("print(int('%s'))\n" % name, "ValueError: invalid literal for int() with base 10: '%s'" % name),
        ("import sys\nsys.exit('%s is missing')\n" % name, "%s is missing" % name),
        ("raise RuntimeError('%s is broken')\n" % name, "RuntimeError: %s is broken" % name)])
    s.put(f, body)
    s.user(RUN, f=Name(f))
    out = s.shell("python3 " + f)
    s.require(reason in out and out.endswith("[exit code 1]"), out)
    s.answer(FAILED, f=Name(f), c=Value(1), m=Value(reason))


@skill("extra.run", weight=1.0)
def working(s):
    f = script_file(s)
    said = [s.choice(["all %s checked" % s.names.noun(), "%d %ss done" % (s.number(2, 90), s.names.noun()), "%s is ready" % s.names.word(), "hello %s" % s.names.first(), content.line(s)])
            for _ in range(s.choice([1, 1, 1, 2, 3]))]
    s.put(f, "#!/bin/bash\n" + "".join("echo %s\n" % quote(s, t) for t in said), mode=s.choice([0o644, 0o755]))
    s.user(RUN, f=Name(f))
    out = s.shell("bash " + f)
    s.require(out == "\n".join(said), out)
    s.answer(["it {printed|says}: $t", "$f {printed|says}: $t", "it ran and printed: $t"], f=Name(f), t=Value(out.replace("\n", ", ")))


FETCH = ["{download|fetch|get} $url {and save it as|to|into|and store it in} $f", "save $url {as|to|in} $f", "get me $url and save it as $f", "{download|fetch} $url, {and |}{save|put} it {in|into} $f", "store {the page|what you get from|the text of} $url in $f", "i need $url {saved|downloaded} {as|to} $f.",
         "can you {download|fetch} $url to $f?", "put {the contents of|what is at} $url into $f", "fetch {the page |the file |}$url into {the file |a file |}$f", "write what $url {returns|gives} to $f", "grab $url and keep it as $f", "please get $url {and save|and store} {it|the reply} in $f"]
STATUS_TEXT = {404: "not found", 403: "forbidden", 500: "internal server error", 410: "gone", 503: "service unavailable", 401: "unauthorized", 502: "bad gateway"}


def page(s):
    """A path on the server: /files/summary.txt"""
    parts = [s.names.word() for _ in range(s.choice([0, 1, 1, 2]))]
    last = s.names.file() if s.chance(0.5) else s.names.stem()
    return "/" + "/".join(parts + [last])


def other_pages(s):
    for _ in range(s.number(0, 2)):
        s.serve(page(s), content.text(s, 1, 4))


@skill("fail.command", weight=0.7)
def not_found(s):
    other_pages(s)
    path = page(s)
    x = s.rng.random()
    if x < 0.65:
        s.serve(page(s), content.text(s, 1, 4))
        s.require(("GET", path) not in s.routes, "it is there")
        status = 404
    else:
        status = s.choice(list(STATUS_TEXT))
        s.serve(path, STATUS_TEXT[status] + "\n", status=status)
    f = s.fresh(s.folder(0.8))
    s.clutter(0, 3, 1)
    s.user(FETCH, url=Name(s.url(path)), f=Name(f))
    out = s.http("GET", s.url(path), save_to=f)
    s.require("[not saved: status %d]" % status in out, out)
    s.answer(["the {download|request} failed with status $c, so {nothing was saved|$f was not made}.", "that failed: the server answered {with |}$c, nothing was saved.", "i could not {download|fetch} it: the server {gave|answered with} status $c.",
              "the {download|request} failed: the server answered $c $t. nothing was saved."], c=Value(status), t=Value(STATUS_TEXT[status]), f=Name(f))


FETCH_ONLY = ["{download|fetch|get|grab} $url", "{download|fetch|save} {the file |}$url {here|into this folder|to this folder}", "can you download $url?", "i need the file $url here.", "please {download|save} $url under {the same|its own} name", "get me {the file |}$url",
              "{download|save} $url and keep its name", "store $url in {this|the current} folder"]


@skill("extra.fetch", weight=0.7)
def fetch_by_name(s):
    """A download that is to keep its own name; sometimes it is not there."""
    other_pages(s)
    f = s.names.file()
    path = "/" + "/".join([s.names.word() for _ in range(s.choice([0, 1, 1, 2]))] + [f])
    there = s.chance(0.75)
    body = content.any_text(s, f.rpartition(".")[2])
    if there:
        s.serve(path, body)
    else:
        s.serve(page(s), "x\n")
        s.require(("GET", path) not in s.routes, "it is there")
    s.clutter(0, 3, 1)
    s.require(f not in s.files, "taken")
    s.user(FETCH_ONLY, url=Name(s.url(path)))
    out = s.http("GET", s.url(path), save_to=f)
    if there:
        s.will_write(f, body)
        s.require("saved %d bytes" % len(body) in out, out)
        s.answer(["i saved it as $f.", "{downloaded|saved} $f.", "$f is here now."], f=Name(f))
    else:
        s.require("[not saved: status 404]" in out, out)
        s.answer(["the download failed: the server answered 404, so nothing was saved.", "that failed: status 404, not found."])


@skill("fail.command", weight=0.15)
def no_server(s):
    port = s.number(1024, 60999)
    url = "http://127.0.0.1:%d%s" % (port, page(s))
    f = s.fresh(s.folder(0.8))
    s.clutter(0, 3, 1)
    s.user(FETCH, url=Name(url), f=Name(f))
    out = s.http("GET", url, save_to=f)
    s.require("Connection refused" in out, out)
    s.answer(["the download failed: {i could not connect|no connection} to $h, connection refused.", "i could not fetch it: the connection to $h was refused.", "that failed: the connection to $h was refused, so nothing was saved."], h=Value("127.0.0.1:%d" % port))


UNPACK = ["{unpack|extract|untar|unzip|open up} {the archive |}$a", "{unpack|extract} {the archive |}$a {here|in this folder|in the current folder}", "can you {unpack|extract} $a?", "please {unpack|extract} {the archive |}$a", "get the files out of {the archive |}$a", "i want $a {unpacked|extracted}.",
          "{unpack|extract} everything from $a", "i need the files from {the archive |}$a, unpack it", "decompress {the archive |}$a", "take the files out of $a", "restore the files from {the archive |}$a", "$a needs to be {unpacked|extracted}."]
UNPACK_TO = ["{unpack|extract|untar} {the archive |}$a {into|to|in} {the folder |}$d", "{unpack|extract} $a, the files should go {into|to} {the folder |}$d", "put the {files|contents} of {the archive |}$a {into|in} {the folder |a folder |}$d", "can you {unpack|extract} $a {into|to} {the folder |}$d?",
             "i want the contents of $a in {the folder |}$d.", "get the files out of $a and put them in {the folder |}$d", "{unpack|extract} everything from $a to {the folder |}$d", "make a folder $d and {unpack|extract} $a {there|into it}", "restore the files from $a into {the folder |}$d",
             "{unpack|extract|untar} {the archive |}$a {into|in|to} a {new |}folder {named|called} $d", "{unpack|extract} $a, but {into|in} {the|a} {new |}folder $d", "open up $a in {a|the} {new |}{folder|directory} {named |called |}$d", "{unpack|extract} {the archive |}$a {inside|under} {the folder |}$d",
             "i need {the archive |}$a {unpacked|extracted} {into|in} {a folder called |a folder named |the folder |}$d.", "{unpack|extract} $a and let the files land in {the folder |}$d",
             "{unpack|extract|open} {the archive |}$a, {its files|what is inside|the contents} {belong|belongs|should end up|should land} in {the folder |}$d", "i got $a{ by mail| from a friend|}. {unpack|extract} it {into|in|to} {the folder |}$d", "there is an archive $a. {unpack|extract} it, {but not here, in|into} {the folder |}$d",
             "{unpack|extract} $a. the files should {go|end up|be} in {the folder |}$d.", "$a has to be {unpacked|extracted} and everything in it {goes|should go} {into|to} {the folder |}$d.", "take {the archive |}$a apart {into|in} {the folder |}$d", "{into|in} {the folder |}$d, {unpack|extract} {the archive |}$a",
             "use {the folder |}$d as the place to {unpack|extract} $a", "{unpack|extract} $a for me; target folder: $d", "the files packed in $a should be unpacked to {the folder |}$d."]
GUNZIP = ["{gunzip|unzip|decompress|unpack|uncompress} {the file |}$a", "can you {decompress|unzip|gunzip} $a?", "please {uncompress|unpack|decompress} $a", "i want $a {decompressed|unzipped|unpacked}.", "undo the compression of $a", "expand $a", "$a should be {unzipped|decompressed|unpacked}."]


def tar_of(files):
    """A .tar.gz of {name: text} whose bytes depend on nothing else."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as t:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            data = data.encode() if isinstance(data, str) else data
            info.size, info.mode, info.mtime = len(data), 0o644, 1_700_000_000
            t.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


def tar_command(a, d=""):
    """Listing first: a broken archive leaves nothing behind, and the names can be told."""
    if d:
        return "tar -tzf %s && mkdir -p %s && tar -xzf %s -C %s" % (a, d, a, d)
    return "tar -tzf %s && tar -xzf %s" % (a, a)


@skill("fail.command", weight=0.5, needs=("tar", "gzip"))
def broken_archive(s):
    x = s.rng.random()
    d = s.fresh_folder() if s.chance(0.35) and x < 0.8 else ""
    stem = s.names.stem()
    a = join(s.folder(0.8), stem + (s.choice([".tar.gz", ".tar.gz", ".tgz"]) if x < 0.8 else ".%s.gz" % s.choice(["txt", "log", "csv"])))
    whole = tar_of({s.names.file(): content.text(s, 2, 5) for _ in range(3)}) if x < 0.8 else gzip.compress(content.text(s).encode(), mtime=0)
    cut = s.chance(0.4)
    s.put(a, whole[: len(whole) * 2 // 3] if cut else content.text(s, 1, 4))
    s.clutter(0, 3, 1)
    if x < 0.8:
        s.user(UNPACK_TO if d else UNPACK, a=Name(a), d=s.dir_name(d or "x"))
        out = s.shell(tar_command(a, d))
    else:
        s.user(GUNZIP, a=Name(a))
        out = s.shell("gunzip -k " + a)
    reason = "unexpected end of file" if cut else "not in gzip format"
    code = out.rpartition("[exit code ")[2].rstrip("]")
    s.require(reason in out and code.isdigit(), out)
    s.answer(["{unpacking|opening} $a failed: $r (exit code $c).", "$a could not be unpacked: $r.", "that failed, $a is {broken|damaged}: $r.", "i could not unpack $a: it failed with exit code $c, $r."], a=Name(a), r=Value(reason), c=Value(code))


COMMAND = ["run {the command |}$f", "run {the command |}$f and tell me what {it says|happens}", "execute {the command |}$f", "what does {the command |}$f {print|say}?", "try {the command |}$f", "start $f", "can you run {the command |}$f?"]


@skill("fail.command", weight=0.12)
def no_command(s):
    tool = s.names.made_up(2, 3)
    command = tool + s.choice(["", " --version", " " + s.names.noun(), " -%s" % s.choice("abcdv")])
    s.clutter(0, 3, 1)
    s.user(COMMAND, f=Quoted(command))
    out = s.shell(command)
    s.require("command not found" in out, out)
    s.answer(["that failed: there is no command {called |}$t (exit code 127).", "$t failed: command not found.", "i could not run it: $t: command not found."], t=Name(tool))


# -- denied -------------------------------------------------------------------------------------------------------------

DENIED = "[denied: "
NO_ANSWER = ["that was {denied|not allowed}: $r, so {nothing was done|i could not do it}.", "i could not do that: $r.", "i was not allowed to {do that|run that}: $r. nothing was {done|changed}.", "the call was denied: $r, so i {can't say|can't tell} more.",
             "that {was denied|did not work}, $r."]
TIMED_OUT = ["that failed: it timed out after $r.", "it did not finish: it timed out after $r, so i can't tell {the result|how it ends}.", "the call timed out after $r, so {there is no result|i have no result}."]


@functools.lru_cache(1)
def deniable():
    usable, _ = load()
    return [(name, f) for name, fs in sorted(usable.items()) for _, f, _ in fs if name.split(".")[0] not in ("fail", "none", "extra", "chat")]


@skill("fail.denied", weight=0.8)
def denied(s):
    """Any chore, whose first call (or the one after a look) is not allowed or never ends: no result is made up."""
    name, function = s.choice(deniable())
    s.denied_call = 1 if name.split(".")[0] == "table" or name == "multi.config_use" and s.chance(0.5) else 0
    x = s.rng.random()

    def denial(tool, args):
        if tool == "http_request" and x < 0.5:
            host = args["url"].split("/")[2]
            return "[denied: host %s is not allowed; allow it with --allow-host %s]" % (host, host)
        if tool in ("write_file", "edit_file") and x < 0.3:
            return "[denied: %s is protected from writing]" % args["path"]
        if tool in ("shell", "http_request") and x > 0.85:
            return "[timed out after %d s]" % (30 if x > 0.9 else 60)
        return "[denied: the user said no]" if x < 0.65 else "[denied: this call needs an approval, and nobody is there to give it]"
    s.denial = denial
    try:
        function(s)
        s.require(False, "no such call")
    except Denied:
        s.nothing_changes()
    result = s.messages[-1]["text"]
    if result.startswith(DENIED):
        s.answer(NO_ANSWER, r=Value(result[len(DENIED):-1].split(";")[0]))
    else:
        s.answer(TIMED_OUT, r=Value(result.removeprefix("[timed out after ").rstrip("]")))


# -- extra --------------------------------------------------------------------------------------------------------------


@skill("extra.read", weight=1.0)
def read_file(s):
    f = s.fresh(s.folder(0.65), s.choice(["txt", "txt", "md", "ini", "list", "csv"]))
    lines = content.lines(s, 1, 6)
    s.put(f, "\n".join(lines) + "\n")
    s.clutter(0, 3, 1)
    s.user(READ, f=Name(f))
    out = s.read(f)
    s.require(out == "\n".join(lines), out)
    s.answer("$t", t=Value(out))
