"""recall.*: something is looked at, and later in the session a question that refers back is answered from what was shown.

The rule: a question that refers back ("what was ... again?", "you told me ...", recall_words.py) about something that the
session has shown is answered from the session, and nothing is called. The same question about something that the session
has not shown, and a question about what is the case now, are looked up. What lies between the parts of a record is put
there by data.py: other work of any length.

A source is something shown: show() speaks and acts for it, `facts` may be asked for afterwards.
"""

import json

from world import content
from world.scene import Drop, Name, Quoted, T, Value, join
from world.skills import SKILLS, files_change, files_look, git, http, log, skill, system, table, text
from world.skills.recall_words import CQ, KEY, NP

READ = ["{read|open|show me} $f", "what is in $f?", "{have a look at|look into|look at} $f", "show me what $f {says|holds|contains}", "what does $f {say|contain}?", "print $f", "display {the file |}$f", "can you read $f?", "$f please, what is in it?", "let me see $f", "cat $f", "what's in {the file |}$f?", "read {out |}the file $f"]
WAS = ["it was $v.", "$v.", "it was $v."]


class Fact:
    """value, and how it is asked for: by noun phrase (np), by key and file (k, f), or by clause (cq). now: (templates, slots) of a
    question about the present, which look() answers by calls, returning the value again.
    """

    def __init__(self, value, np=(), cq=(), k=None, f=None, slots=None, now=None, look=None, said=WAS):
        self.value, self.np, self.cq, self.k, self.f, self.slots = value, list(np), list(cq), k, f, slots or {}
        self.now, self.look, self.said = now, look, said


class Source:
    def __init__(self, show, facts):
        self.show, self.facts = show, facts


def ask(s, fact):
    """The question that refers back."""
    r = s.say_rng
    forms = [x for x in (fact.np and "np", fact.k and "key", fact.cq and "cq") if x]
    form = r.choice(forms)
    plain = r.random() < 0.4
    if form == "key":
        s.user(KEY, plain, k=fact.k, f=Name(fact.f))
    elif form == "np":
        s.user(NP, plain, np=T(r.choice(fact.np), **fact.slots))
    else:
        s.user(CQ, plain, cq=T(r.choice(fact.cq), **fact.slots))


def tell(s, fact, templates=None):
    s.answer(templates or fact.said, v=Name(fact.value) if isinstance(fact.value, Name) else Value(fact.value), **fact.slots)
    s.says(fact.value)
    s.messages[-1]["kept"] = fact.value


def remember(s, sources, most=3, far=True):
    """The whole of a record: each source shown, then some of their facts asked for; or asked for without having been shown.
    far=False: asked at once, because the rest of a long session may hold the same under the same name.
    """
    facts = [f for x in sources for f in x.facts]
    s.require(facts, "nothing to ask")
    unseen = [f for f in facts if f.look]
    if unseen and s.chance(0.06):
        fact = s.choice(unseen)
        ask(s, fact)
        s.require(fact.look() == fact.value, "looked up something else")
        return tell(s, fact, ["it is $v.", "$v."])
    for i, source in enumerate(sources):
        if i and far:
            s.apart()
        source.show()
    for fact in s.sample(facts, min(len(facts), s.choice([1, 2, 2, 3, 4, most]))):
        if far:
            s.later()
        if fact.now and s.chance(0.12):
            templates, slots = fact.now
            s.user(templates, **slots)
            s.require(fact.look() == fact.value, "looked up something else")
            tell(s, fact, ["it is $v.", "$v."])
        else:
            ask(s, fact)
            tell(s, fact)
    return None


def several(s, make):
    """One to four sources of a kind; some have names like the one before."""
    out = []
    for _ in range(s.choice([1, 1, 2, 2, 3, 4])):
        out.append(make(out))
    return out


def near(s, before, ext, folder=0.6):
    """A new file's path; now and then a look-alike of one before."""
    if before and s.chance(0.5):
        d, _, name = before[-1].path.rpartition("/")
        other = join(d, s.names.like(name))
        if other not in s.files:
            return other
    return s.fresh(s.folder(folder), ext)


# -- values read from files --------------------------------------------------------------------------------------------------


def pairs_of(s, keys=None):
    """Settings with distinct values: [(key, value)]."""
    keys = list(keys or []) + content.some_keys(s, s.number(2, 7))
    if s.chance(0.4):
        keys = s.sample(files_look.similar_keys(s, keys[0]), s.number(1, 2)) + keys
    keys = list(dict.fromkeys(keys))[:8]
    s.rng.shuffle(keys)
    pairs = [(k, str(content.config_value(s, k))) for k in keys]
    s.require(len({v for _, v in pairs}) == len(pairs), "the same value twice")
    return pairs


def read_source(s, f, facts, whole=None, one=None):
    """A file that is read: shown whole, or asked for one thing; one: (templates, slots, answer's templates, answer's slots)."""
    def show():
        if one and not (s.chance(0.4) if whole is None else whole):
            s.user(one[0], f=Name(f), **one[1])
            s.read(f)
            s.answer(one[2], f=Name(f), **one[3])
        else:
            s.user(READ, f=Name(f))
            out = s.read(f)
            s.require(len(out) < 1200, "long")
            s.answer("$t", t=Value(out))
    source = Source(show, facts)
    source.path = f
    return source


def by_reading(s, f, v):
    def look():
        return v if v in s.read(f) else ""
    return look


VALUE_NOW = [t for t in files_look.VALUE if "did we" not in t and "have i" not in t]


@skill("recall.setting", weight=2.4)
def setting(s):
    shared = [k for k in content.some_keys(s, 2)] if s.chance(0.6) else []

    def make(before):
        pairs = pairs_of(s, shared)
        f = near(s, before, s.choice(["conf", "ini", "cfg", "txt", "conf"]))
        s.put(f, content.settings(s, pairs))
        facts = [Fact(v, k=files_look.spoken(s, k), f=f, np=["{the |}$k {in|of|from} $f"], slots=dict(k=files_look.spoken(s, k), f=Name(f)),
                      now=(VALUE_NOW, dict(key=files_look.spoken(s, k), f=Name(f))), look=by_reading(s, f, v), said=WAS + ["the $k {was|is} $v."]) for k, v in pairs]
        k, v = pairs[0]
        return read_source(s, f, facts, one=(files_look.VALUE, dict(key=files_look.spoken(s, k)), files_look.VALUE_ANSWER, dict(key=Value(k), v=Value(v))))
    sources = several(s, make)
    s.clutter(0, 3, 1)
    remember(s, sources, 5)


THINGS = ["code", "number", "password", "date", "price", "room", "key", "owner", "color", "time", "address", "city", "name", "pin", "weight", "height", "phone", "token", "place", "deadline"]


@skill("recall.note", weight=2.0)
def note(s):
    """A line of a note that says something in words."""
    n = s.names
    shared = s.choice(THINGS)

    def make(before):
        thing = "%s %s" % (n.noun(), shared if s.chance(0.5) else s.choice(THINGS))
        value = s.choice([lambda: str(s.number(10, 99999)), n.code, n.made_up, n.city, n.first, n.word, lambda: "%s-%d" % (n.word(), s.number(1, 999)), lambda: "%d:%02d" % (s.number(1, 23), s.number(0, 59)), n.date])()
        lines = content.lines(s, 0, 6)
        s.require(not any(value.lower() in t.lower() or thing in t.lower() for t in lines), "twice")
        if s.chance(0.25):
            lines.insert(s.number(0, len(lines)), "%s %s: %s" % (s.choice(["old", "former", "wrong", "second", "other"]), thing, n.code()))
        lines.insert(s.number(0, len(lines)), s.choice(["the %s is %s", "%s: %s", "the %s is %s.", "remember: the %s is %s", "%s = %s", "%s is %s now"]) % (thing, value))
        f = near(s, before, s.choice(["txt", "md", "txt"]))
        s.put(f, "\n".join(lines) + "\n")
        slots = dict(k=Value(thing), f=Name(f))
        s.require(not any(o.facts[0].slots["k"] == thing for o in before), "the same thing")
        fact = Fact(value, k=Value(thing), f=f, np=["the $k", "the $k", "the $k {in|from} $f"], slots=slots, look=by_reading(s, f, value), said=WAS + ["the $k {was|is} $v."])
        what = ["what does $f say about the $k?", "what is the $k {in|according to} $f?", "look up the $k in $f", "which $k does $f {give|mention}?", "find the $k in $f", "$f: what is the $k?", "tell me the $k from $f"]
        return read_source(s, f, [fact], one=(what, dict(k=Value(thing)), ["the $k is $v.", "it is $v.", "$v."], dict(k=Value(thing), v=Value(value))))
    sources = several(s, make)
    for x in sources:  # without the file, a look would be a search
        if s.chance(0.7):
            x.facts[0].look = None if x.facts[0].np[0] != "the $k {in|from} $f" else x.facts[0].look
    s.clutter(0, 3, 1)
    remember(s, sources, 4)


def flat_reply(s):
    """A reply's plain fields, two or more with different values."""
    for _ in range(20):
        d = {k: v for k, v in http.reply_object(s).items() if not isinstance(v, (dict, list, bool)) and v is not None}
        if len(d) >= 2 and len({str(v) for v in d.values()}) == len(d):
            return d
    raise Drop("no two fields")


@skill("recall.reply", weight=1.6)
def reply(s):
    def make(before):
        d = flat_reply(s)
        url = s.serve(http.page(s), d)
        k, v = s.choice(list(d.items()))

        def show():
            s.user(http.FIELD, u=Name(url), k=Value(k))
            s.http("GET", url)
            s.answer(["the $k {was|is} $v.", "it is $v.", "$v."], k=Value(k), v=Value(v))

        def looks(k, v):
            return lambda: str(v) if str(v) in s.http("GET", url) else ""
        return Source(show, [Fact(str(v), k=Value(k), f=url, np=["the $k {from|at|of} $u", "the $k that $u {gave|sent|returned}"], slots=dict(k=Value(k), u=Name(url)),
                                  now=(http.FIELD, dict(u=Name(url), k=Value(k))), look=looks(k, v)) for k, v in d.items()])
    remember(s, several(s, make), 4)


@skill("recall.status", weight=0.5)
def status(s):
    s.serve("/", "x")

    def make(before):
        code, reason = s.choice([(200, "ok"), (204, ""), (201, "made")] + http.REASONS)
        url = s.serve(http.page(s), reason + "\n" if reason else "", status=code)

        def show():
            s.user(["which status code does $u give?", "what status does $u return?", "{check|look up} the status code of $u", "{call|ask} $u and tell me the status code", "status of $u ?", "is $u up? which status code?"], u=Name(url))
            s.http("GET", url)
            s.answer(["{it answers with|it is} status $c.", "$c.", "the status code is $c."], c=Value(str(code)))
        return Source(show, [Fact(str(code), np=["the status{ code|} of $u", "the status{ code|} that $u gave"], cq=["{which|what} status{ code|} did $u give", "what did $u answer with"], slots=dict(u=Name(url)))])
    remember(s, several(s, make), 3)


@skill("recall.json", weight=1.0)
def json_file(s):
    def make(before):
        d = flat_reply(s)
        f = near(s, before, "json")
        s.put(f, json.dumps(d, indent=s.choice([None, 1, 2])) + "\n")
        return read_source(s, f, [Fact(str(v), k=Value(k), f=f, np=["the $k {in|of|from} $f"], slots=dict(k=Value(k), f=Name(f)), look=by_reading(s, f, str(v)), said=WAS + ["the $k {was|is} $v."]) for k, v in d.items()])
    remember(s, several(s, make), 5)


@skill("recall.row", weight=1.2)
def row(s):
    """A cell of a small table that was shown whole."""
    t = table.Table(s, 3, 8)
    columns, rows = t.columns, [[str(r[c]) for c in t.columns] for r in t.rows]
    f = s.put(s.fresh(s.folder(0.6), "csv"), "\n".join([",".join(columns)] + [",".join(r) for r in rows]) + "\n")
    at = columns.index(t.key)
    others = [c for c in columns if c not in (t.key, "id")]
    s.require(others, "one column")
    facts = []
    for _ in range(4):
        r, c = s.choice(rows), s.choice(others)
        facts.append(Fact(r[columns.index(c)], np=["the $c of $m in $f", "the $c of $m", "the $c {for|of} $m {from|in} $f", "the $c {for|of} {the |}$m"],
                          cq=["{which|what} $c did $m have in $f", "{which|what} $c did $m have", "what {did $f give|did $f list|stood in $f} as {the |}$c {of|for} $m", "{which|what} $c {belonged to|was given for} $m", "what was {the |}$m's $c", "how much $c did $m have"],
                          slots=dict(c=Value(c), m=Value(r[at]), f=Name(f))))
    remember(s, [read_source(s, f, facts, whole=True)], 4)


# -- numbers, places and names that were found ---------------------------------------------------------------------------------

COUNTS = {
    "size": (files_look.SIZE, "stat -c %s ", ["the size of $f", "the size of $f in bytes", "the number of bytes {in|of} $f"], ["how big was $f", "how many bytes did $f have", "what size did $f have", "how large was $f"]),
    "lines": (text.COUNT_LINES, "grep -c '' ", ["the number of lines {in|of} $f", "the line count of $f"], ["how many lines did $f have", "how many lines were in $f", "how long was $f, in lines"]),
    "words": (text.COUNT_WORDS, "wc -w < ", ["the number of words {in|of} $f", "the word count of $f"], ["how many words did $f have", "how many words were in $f"]),
    "md5": (["{what is the|compute the|give me the} md5 {sum|checksum|hash} of $f", "md5 of $f?"], "md5sum ", ["the md5 {sum|checksum|hash} of $f", "the checksum of $f", "the md5 of $f"], ["{what|which} md5 sum did $f have"]),
    "sha1": (["{what is the|compute the|give me the} sha1 {sum|checksum|hash} of $f", "sha1 of $f?"], "sha1sum ", ["the sha1 {sum|checksum|hash} of $f", "the checksum of $f"], ["{what|which} sha1 sum did $f have"]),
}


@skill("recall.measure", weight=2.2)
def measure(s):
    """A number or a sum of a file."""
    kind = s.choice(list(COUNTS))

    def make(before):
        x = kind if s.chance(0.6) else s.choice(["size", "lines", "words"])
        f = near(s, before, s.choice(["txt", "csv", "log", "md", "bin"]))
        s.put(f, content.text(s, 2, 14))
        now, command, np, cq = COUNTS[x]

        def look():
            return s.shell(command + f).split(" ")[0]

        fact = Fact(None, np=np, cq=cq, slots=dict(f=Name(f)), now=(now, dict(f=Name(f))), look=look, said=WAS)

        def show():
            s.user(now, f=Name(f))
            fact.value = look()
            s.answer(["$v.", "it is $v."], v=Value(fact.value))
        data = s.files[f][0]
        import hashlib
        fact.value = {"size": str(len(data)), "lines": str(data.count(b"\n")), "words": str(len(data.split())), "md5": hashlib.md5(data).hexdigest(), "sha1": hashlib.sha1(data).hexdigest()}[x]
        source = Source(show, [fact])
        source.path = f
        return source
    sources = several(s, make)
    s.clutter(0, 3, 1)
    remember(s, sources, 4)


@skill("recall.count", weight=1.2)
def counted(s):
    """How many files of a kind there are, how many lines of a level a log has."""
    def files(before):
        d, ext = s.folder(0, 1), s.choice(["txt", "md", "csv", "log", "json", "py", "sh"])
        n = s.number(1, 7)
        for _ in range(n):
            s.file(d, ext)
        for _ in range(s.number(0, 3)):
            s.file(d, s.choice([e for e in ["bak", "html", "ini", "pdf"] if e != ext]))
        look = lambda: s.shell("find %s -maxdepth 1 -type f -name '*.%s' | wc -l" % (d, ext))

        def show():
            s.user(["how many .$e files are in $d?", "count the $e files in {the folder |}$d", "number of .$e files in $d?", "how many $e files does {the folder |}$d have?"], e=Value(ext), d=Name(d))
            s.require(look() == str(n), "count")
            s.answer(["there are $n.", "$n."] if n != 1 else ["there is 1.", "1."], n=Value(str(n)))
        return Source(show, [Fact(str(n), np=["the number of $e files in $d", "the count of .$e files in {the folder |}$d"], cq=["how many $e files were in $d", "how many .$e files did {the folder |}$d have", "how many $e files were there in $d"], slots=dict(e=Value(ext), d=Name(d)))])

    def levels(before):
        f = s.fresh(s.folder(0.6), "log")
        rows = content.level_log(s, s.number(4, 40))
        level = s.choice([r.split()[2] for r in rows])
        s.put(f, "\n".join(rows) + "\n")
        n = str(sum(level in r.split() for r in rows))

        def show():
            s.user(log.COUNT, f=Name(f), l=Value(level))
            s.require(s.shell("grep -cw %s %s" % (level, f)).split("\n")[0] == n, "count")
            s.answer(["$f has $n $l line%s." % ("" if n == "1" else "s"), "$n."], f=Name(f), n=Value(n), l=Value(level))
        return Source(show, [Fact(n, np=["the number of $l lines in $f", "the $l count of $f"], cq=["how many $l lines did $f have", "how many $l lines were in $f"], slots=dict(f=Name(f), l=Value(level)))])
    remember(s, several(s, s.choice([files, levels])), 4)


@skill("recall.place", weight=1.4)
def found(s):
    """Where a word was found, which file was the largest, which branch it was."""
    w = s.names.made_up(3, 4) if s.chance(0.5) else files_look.any_word(s)
    paths = [s.fresh(s.choice(["", s.names.folder()]), s.choice(["txt", "md", "log"])) for _ in range(s.number(2, 5))]
    s.require(not any(w.lower() in p.lower() for p in paths), "in a name")
    files_look.planted(s, w, paths[:1], paths[1:])

    def show():
        s.user(files_look.SEARCH, w=files_look.shown_word(s, w))
        out = s.shell("grep -rl%sw '%s' * | sort" % (files_look.grep_case(w), w))
        s.require(out == paths[0], out)
        s.answer(["only $f.", "$f.", "it is in $f."], f=Name(out))
    cq = ["which file {had|contained|mentioned} $w", "in which file {was $w|did you find $w}", "where {did you find $w|was $w}", "which file it was that mentioned $w"]
    sources = [Source(show, [Fact(Name(paths[0]), np=["the file {with|that had|that mentioned} $w", "the name of the file with $w"], cq=cq, slots=dict(w=Name(w)))])]
    remember(s, sources)


@skill("recall.largest", weight=1.2)
def largest(s):
    def make(before):
        d = s.folder(0.2 if not before else 0)
        paths = [s.fresh(d) for _ in range(s.number(2, 6))]
        for p, n in zip(paths, s.sample(range(3, 900), len(paths))):
            s.put(p, "x" * n + "\n")
        place = T("in $r", r=s.dir_name(d)) if d else T("here")

        def show():
            s.user(files_look.LARGEST, most=files_look.BIG, **{"in": s.place(d)})
            out = s.shell("ls -Sp%s | grep -v / | head -1" % (" " + d if d else ""))
            s.require(join(d, out) == max(paths, key=lambda p: len(s.files[p][0])), out)
            s.answer(["the largest file is $f.", "$f.", "it is $f."], f=Name(out))
        best = max(paths, key=lambda p: len(s.files[p][0])).rpartition("/")[2]
        source = Source(show, [Fact(Name(best), np=["the {largest|biggest} file $place", "the name of the {largest|biggest} file $place"], cq=["which file was the {largest|biggest} $place", "which was the {largest|biggest} file $place", "what the {largest|biggest} file $place was called"], slots=dict(place=place))])
        source.folder = d
        return source
    sources = [make([])]
    here = bool(sources[0].folder)
    if here and s.chance(0.4):
        sources.append(make(sources))
    remember(s, sources, far=here)


@skill("recall.branch", weight=0.5, needs=("git",))
def branch(s):
    r = git.Repository(s, s.number(1, 6), s.number(0, 2))

    def show_branch():
        s.user(git.BRANCH)
        s.require(s.shell("git branch --show-current") == r.branch, "branch")
        s.answer(["you are on $b.", "the current branch is $b.", "it is $b."], b=Value(r.branch))

    def show_last():
        s.user(git.LAST)
        s.require(s.shell("git log -1 --format=%s") == r.subjects[-1], "subject")
        s.answer(["the last commit is: $x", "the message is \"$x\"."], x=Value(r.subjects[-1]))
    sources = [Source(show_branch, [Fact(r.branch, np=["the {git |}branch", "the branch name", "the current branch"], cq=["which branch {i was on|it was}", "{on |}which branch {was i|were we}{ on|}"])]),
               Source(show_last, [Fact(r.subjects[-1], np=["the {subject|message} of the last commit", "the last commit message"], cq=["what the last commit {was|said}"], said=["it was: $v", "\"$v\"."])])]
    s.rng.shuffle(sources)
    remember(s, sources[: s.number(1, 2)], far=False)


@skill("recall.system", weight=0.5)
def machine(s):
    n, kernel = str(s.number(1, 128)), "%d.%d.%d" % (s.number(3, 7), s.number(0, 19), s.number(0, 250))
    s.functions["nproc"], s.functions["uname"] = "echo %s;" % n, "echo %s;" % kernel

    def cpus():
        s.user(system.CPUS)
        s.require(s.shell("nproc") == n, "nproc")
        s.answer(["this machine has $n CPUs.", "$n."], n=Value(n))

    def version():
        s.user(system.KERNEL)
        s.require(s.shell("uname -r") == kernel, "uname")
        s.answer(["the kernel is $v.", "it is $v."], v=Value(kernel))
    sources = [Source(cpus, [Fact(n, np=["the number of {cpus|cores|processors}", "the cpu count"], cq=["how many {cpus|cores|processors} {there were|this machine had}"])]),
               Source(version, [Fact(kernel, np=["the kernel {version|release}"], cq=["which kernel {it was|this machine had}"])])]
    s.rng.shuffle(sources)
    remember(s, sources[: s.number(1, 2)], far=False)


@skill("recall.table", weight=1.6, needs=("awk", "python3"))
def aggregate(s):
    """A sum, an average, a number of rows or the best row of a table, as table.* computes them."""
    kind = s.choice(["sum", "average", "max", "min"])

    def make(before):
        t = table.Table(s, 3, 12)
        f = near(s, before, "csv")
        t.put(s, f)
        numbers = [float(r[t.number]) for r in t.rows]
        best = (min if kind == "min" else max)(numbers)
        s.require(numbers.count(best) == 1, "two rows share the place")
        row = t.rows[numbers.index(best)]
        slots = dict(c=Value(t.number), f=Name(f), k=Value(t.key))
        if kind in ("sum", "average"):
            value = table.number_text(sum(numbers) / (len(numbers) if kind == "average" else 1))
        else:
            value = str(row[t.key])

        def show():
            if kind in ("sum", "average"):
                s.user(table.AVERAGE if kind == "average" else table.SUM, c=Value(t.number), f=Name(f))
                table.look(s, f)
                n = s.shell('python3 -c "import csv; v=[float(r[\'%s\']) for r in csv.DictReader(open(\'%s\'))]; print(\'%%.10g\' %% round(%s, 2))"' % (
                    t.number, f, "sum(v)/len(v)" if kind == "average" else "sum(v)"))
                s.require(n == value, n)
                s.answer(["it is $n.", "$n.", "the %s of $c in $f is $n." % ("average" if kind == "average" else "sum")], c=Value(t.number), f=Name(f), n=Value(n))
            else:
                s.user(table.MIN if kind == "min" else table.MAX, k=Value(t.key), c=Value(t.number), f=Name(f))
                table.look(s, f)
                s.shell("python3 -c \"import csv; r=%s(csv.DictReader(open('%s')), key=lambda r: float(r['%s'])); print(r['%s'], r['%s'])\"" % (kind, f, t.number, t.key, t.number))
                s.answer(["it is $k, with a $c of $n.", "$k, with a $c of $n."], k=Value(value), c=Value(t.number), n=Value(row[t.number]))
        asked = {"sum": (["the {sum|total} of {the |}$c {column |}in $f", "the total $c in $f"], ["what {the |}$c in $f {added up to|came to}", "how much {the |}$c in $f was in total"]),
                 "average": (["the {average|mean} {of {the |}$c|$c} in $f", "the {average|mean} $c {of|in|for} $f"], ["what the {average|mean} of $c in $f was", "how high {the |}$c in $f was on average"]),
                 "max": (["the $k with the {highest|largest|biggest} $c in $f", "the name with the highest $c in $f"], ["which $k had the {highest|largest|biggest} $c in $f", "who or what had the highest $c in $f"]),
                 "min": (["the $k with the {lowest|smallest} $c in $f", "the name with the lowest $c in $f"], ["which $k had the {lowest|smallest} $c in $f", "who or what had the lowest $c in $f"])}[kind]
        source = Source(show, [Fact(value, np=asked[0], cq=asked[1], slots=slots)])
        source.path = f
        return source
    remember(s, [make([]), *([make([])] if s.chance(0.5) else [])], 2)


@skill("recall.lines", weight=0.6)
def first_line(s):
    """The first or last line of a file."""
    def make(before):
        lines = content.lines(s, 2, 12)
        f = near(s, before, s.choice(["txt", "md", "log"]))
        s.put(f, "\n".join(lines) + "\n")
        w = s.choice(["first", "last"])
        want = lines[0 if w == "first" else -1]

        def show():
            s.user(text.ONE["head" if w == "first" else "tail"], f=Name(f))
            out = s.shell("%s -n 1 %s" % ("head" if w == "first" else "tail", f))
            s.require(out == want, out)
            s.answer("$t", t=Value(out))
        source = Source(show, [Fact(want, np=["the $w line {of|in} $f"], cq=["what the $w line of $f {said|was}", "how $f %s" % ("began" if w == "first" else "ended")], slots=dict(f=Name(f), w=T(w)), said=["$v", "\"$v\"."])])
        source.path = f
        return source
    remember(s, several(s, make), 3)


# -- what was done -------------------------------------------------------------------------------------------------------------


@skill("recall.act", weight=2.0)
def act(s):
    """What was renamed, copied, moved, made or deleted."""
    def rename(before):
        f = s.file(s.folder(0.7), s.choice(["txt", "md", "csv", "log"]))
        g = s.fresh(f.rpartition("/")[0], f.rpartition(".")[2])

        def show():
            s.user(files_change.RENAME, a=Name(f), b=Name(g))
            s.will_move(f, g)
            s.shell("mv %s %s" % (f, g))
            s.answer(["$a is now $b.", "renamed $a to $b."], a=Name(f), b=Name(g))
        return Source(show, [Fact(Name(g), np=["the new name of $a", "the name that $a got"], cq=["what $a {is|was} called {now|afterwards}", "what {did we rename|did you rename|was} $a {to|renamed to}"][:1] + ["what {did you|did we} rename $a to", "how {did you|did we} rename $a"], slots=dict(a=Name(f))),
                             Fact(Name(f), np=["the old name of $b", "the former name of $b"], cq=["what $b was called {before|at first}", "which file became $b"], slots=dict(b=Name(g)))])

    def copy(before):
        f = s.file(s.folder(0.7), s.choice(["txt", "md", "csv", "log"]))
        g = s.fresh("", f.rpartition(".")[2])

        def show():
            s.user(files_change.COPY, a=Name(f), b=Name(g))
            s.will_copy(f, g)
            s.shell("cp %s %s" % (f, g))
            s.answer(["copied $a to $b.", "$b is a copy of $a now."], a=Name(f), b=Name(g))
        return Source(show, [Fact(Name(g), np=["the copy of $a, its name", "the name of the copy of $a"], cq=["what {the copy of $a is called|i called the copy of $a}", "where {did you|did we} copy $a to"], slots=dict(a=Name(f))),
                             Fact(Name(f), np=["the original of $b"], cq=["which file {did you|did we} copy to $b", "which file $b is a copy of"], slots=dict(b=Name(g)))])

    def delete(before):
        f = s.file(s.folder(0.7))

        def show():
            s.user(files_change.DELETE, f=Name(f))
            s.will_remove(f)
            s.shell("rm " + f)
            s.answer(["deleted $f.", "$f is gone.", "i deleted $f."], f=Name(f))
        fact = Fact(Name(f), np=["the name of the file {you deleted|i had you delete|that is gone now}", "the file {you deleted|that was deleted}"], cq=["which file {did you|did we|did i have you} delete", "which file was deleted", "what {did you|did we} delete"])
        s.require(not before, "two deletions")
        return Source(show, [fact])

    def create(before):
        f, t = s.fresh(s.folder(0.7), s.choice(["txt", "md", "list"])), content.line(s)

        def show():
            s.user(files_change.CREATE, f=Name(f), q=Quoted(t))
            s.will_write(f, t + "\n")
            s.write(f, t + "\n")
            s.answer(files_change.CREATED, f=Name(f))
        return Source(show, [Fact(t, np=["the text {you wrote into|of} $f", "the line in $f"], cq=["what {did you|did we} write {in|into} $f", "what $f {says|said}", "what text {did i|did we} put in $f"], slots=dict(f=Name(f)), said=["it was: $v", "\"$v\"."])])
    kinds = [rename, copy, create, delete]
    first = s.choice(kinds)
    sources = [first([])]
    for _ in range(s.choice([0, 0, 1, 2])):
        sources.append(s.choice([k for k in kinds if k is not delete])(sources))
    s.clutter(0, 3, 1)
    remember(s, sources, 4, far=first is not delete)


@skill("recall.changed", weight=1.2)
def changed(s):
    """A value that is changed in the course of the session: before, after, now."""
    pairs = pairs_of(s)
    f = s.put(s.fresh(s.folder(0.6), s.choice(["conf", "ini", "cfg"])), content.settings(s, pairs))
    k, v = s.choice(pairs)
    key = files_look.spoken(s, k)
    s.require(s.text(f).count(v) == 1, "twice")
    v2 = next((x for x in (str(content.config_value(s, k)) for _ in range(20)) if x not in s.text(f) and v not in x), None)
    s.require(v2, "the same")
    s.user(files_look.VALUE, key=key, f=Name(f))
    s.read(f)
    s.answer(["it is $v.", "$v.", "the $k is $v."], k=Value(k), v=Value(v))
    s.apart()
    s.user(["{set|change} {the |}$k in $f to $w", "in $f{,|} {set|change} {the |}$k to $w", "{make|let} {the |}$k in $f $w", "{the |}$k in $f should be $w now."], k=key, f=Name(f), w=Value(v2))
    s.will_write(f, s.text(f).replace(v, v2))
    line = next(t for t in s.text(f).split("\n") if v in t)
    s.read(f)
    s.call("edit_file", path=f, old=line, new=line.replace(v, v2))
    s.answer(["$k is now $w.", "done, $k in $f is $w now.", "i set $k to $w."], k=Value(k), f=Name(f), w=Value(v2))
    for x in s.sample(["old", "new", "now"], s.number(1, 2)):
        s.later()
        if x == "old":
            s.user(["what was {the |}$k in $f {before the change|before you changed it|originally|at first|to begin with|before}?", "what did {the |}$k in $f use to be?", "which $k did $f have before {we|you} changed it?", "what {was|had been} the old $k in $f?", "remind me of the {old|former|original} $k in $f", "from what {did you|did we} change {the |}$k in $f?",
                    "i forgot the {old|first|original} $k of $f.", "before the change, what was {the |}$k in $f?", "what was {the |}$k in $f at the start?", "the {old|previous} $k in $f, what was it?"], k=key, f=Name(f))
            s.answer(WAS, v=Value(v))
            s.says(v)
            s.messages[-1]["kept"] = v
        elif x == "new":
            s.user(["to what {did you|did we} {set|change} {the |}$k in $f?", "what {did you|did we|did i have you} {set|change} {the |}$k in $f to?", "what was the new $k for $f{ again|}?", "which $k {did you|did i} put in $f?", "remind me what you changed {the |}$k in $f to", "i forgot the new $k {of|in} $f.", "tell me again what {the |}$k in $f was changed to",
                    "what was the new value of {the |}$k in $f{ again|}?"], k=key, f=Name(f))
            s.answer(["to $v.", "$v.", "it was $v."], v=Value(v2))
            s.says(v2)
            s.messages[-1]["kept"] = v2
        else:
            s.user(VALUE_NOW, key=key, f=Name(f))
            s.require(v2 in s.read(f), "not there")
            s.answer(["it is $v.", "$v."], v=Value(v2))
            s.says(v2)


# -- whole answers ---------------------------------------------------------------------------------------------------------------

LOOKING = ["text.count", "files.count", "files.size", "table.sum_average", "table.max", "log.count", "log.first_last", "log.top", "meta.checksum", "meta.compare", "http.status", "http.field", "files.largest", "files.newest", "files.search", "files.find",
           "files.list", "table.json_read", "table.count_by", "files.read_value", "fail.command", "fail.missing", "system.account"]
ABOUT = ["what did you {say|tell me|answer} about $f{ " + "{earlier|before|a while ago}" + "|}?", "what was your answer about $f?", "repeat what you {said|told me} about $f", "i asked about $f {earlier|before}. what did you {say|answer}?", "remind me what you {said|found} about $f", "what did we {find out|learn} about $f?",
         "say again what you {found|told me} about $f", "what came out when i asked about $f?", "tell me again what you {said|answered} about $f", "what was it about $f {again|that you told me}?", "earlier you told me something about $f. what was it?", "i forgot your answer about $f. say it again."]
QUOTING = ["i asked you {earlier|before|a while ago}: \"$q\" what did you {answer|say}?", "what was your answer {to|when i asked} \"$q\"?", "repeat your answer to \"$q\"", "remind me what you {said|answered} when i asked \"$q\"", "earlier i asked \"$q\" and you told me. what was it?",
           "what did you {say|reply} to my question \"$q\"?", "say again what you answered to: \"$q\"", "i forgot what you said to \"$q\"."]

REPEAT = ["say that again{, please|}", "what was that{ again|}?", "sorry, what did you say?", "repeat that{, please|}", "can you repeat {that|your answer}?", "what did you just say?", "i missed that. {say it again|what was it}?", "once more{, please|}?", "what was it again?", "tell me that again",
          "i did not {read|see|catch} that. {can you repeat it|what was it}?", "what was your {last |}answer{ again|}?"]


@skill("recall.answer", weight=2.0)
def answer(s):
    """Any question of an ordinary skill, and its answer asked for again: about its file, or quoting the question."""
    name = s.choice(LOOKING)
    s.require(name in SKILLS, "no such skill")
    options = [(w, f) for w, f, needs in SKILLS[name] if "git" not in needs]
    s.rng.choices([f for _, f in options], [w for w, _ in options])[0](s)
    s.require(len([m for m in s.messages if m["role"] == "user"]) == 1, "a conversation")
    question, said = s.messages[0]["text"], s.messages[-1]["text"]
    s.require(len(said) < 160, "long")
    f = next((v for v in s.slots.values() if isinstance(v, Name)), None)
    at_once = s.chance(0.2)
    if not at_once:
        s.later()
    if at_once:
        s.user(REPEAT, True)
    elif f and s.say_rng.random() < 0.6:
        s.user(ABOUT, s.say_rng.random() < 0.5, f=f)
    else:
        s.require('"' not in question and len(question.split()) < 30, "long")
        s.user(QUOTING, True, q=Value(question))
    s.messages.append({"role": "assistant", "text": said, "calls": [], "kept": said})
