"""chat.ask_more and chat.act_on again: short further questions that leave out what was said before ("and the port?")."""

import json

from world import content
from world.scene import Name, Quoted, Value, join, many
from world.skills import chat, files_look, http, log, skill, table, text
from world.skills.files_change import base
from world.wording import kind

ALSO = ["and {the |}$x?", "what about {the |}$x?", "and what is {the |}$x?", "{and |}{the |}$x?", "how about {the |}$x?", "what is {the |}$x {then|there|in it|in that file|}?", "tell me {the |}$x {too|as well|}", "and {the |}$x{, please|}?", "now {the |}$x",
        "i also need {the |}$x.", "same for {the |}$x?", "ok, and {the |}$x?", "thanks, and {the |}$x?"]


@skill("chat.ask_more", weight=0.35)
def other_setting(s):
    """The file was read for the first question; the second answer stands in it."""
    f = s.fresh(s.folder(0.75), s.choice(["conf", "ini", "cfg", "txt"]))
    pairs = [(k, content.config_value(s, k)) for k in content.some_keys(s, s.number(3, 7))]
    s.put(f, content.settings(s, pairs))
    s.clutter(0, 2, 1)
    for i, (k, v) in enumerate(s.sample(pairs, s.choice([2, 2, 3]))):
        if i == 0:
            s.user(files_look.VALUE, key=files_look.spoken(s, k), f=Name(f))
            s.read(f)
        else:
            s.user(ALSO, plain=True, x=files_look.spoken(s, k))
        s.answer(files_look.VALUE_ANSWER, key=Name(k), v=Value(v), f=Name(f))
        s.says(v)


@skill("chat.ask_more", weight=0.3)
def other_field(s):
    reply = {k: content.config_value(s, k) for k in content.some_keys(s, s.number(2, 5))}
    url = s.serve(http.page(s), reply)
    s.clutter(0, 2, 1)
    for i, k in enumerate(s.sample(list(reply), 2)):
        if i == 0:
            s.user(http.FIELD, u=Name(url), k=Value(k))
            out = s.http("GET", url)
            s.require(json.dumps(reply)[:20] in out, out)
        else:
            s.user(ALSO, plain=True, x=Value(k))
        s.answer(["the $k is $v.", "it is $v.", "$v."], k=Value(k), v=Value(reply[k]))
        s.says(reply[k])


HOW_MANY_ALSO = ["and how many $x?", "and $x?", "what about $x?", "how about $x?", "how many $x {then|are there|}?", "and how many $x are there?", "same for $x?", "now count the $x", "and the $x?"]


@skill("chat.ask_more", weight=0.35)
def other_kind(s):
    d = s.folder(0.4)
    e1, e2 = s.sample(["txt", "md", "csv", "log", "json", "jpg", "png", "sh", "pdf", "html"], 2)
    n = {e: s.number(0 if e == e2 and s.chance(0.1) else 1, 6) for e in (e1, e2)}
    for e in (e1, e2):
        for _ in range(n[e]):
            s.file(d, e, text="x\n")
    s.clutter(0, 2, 1) if d else None
    for i, e in enumerate((e1, e2)):
        if i == 0:
            s.user(files_look.COUNT_KIND, kind=kind(s, e), **{"in": s.place(d)})
        else:
            s.user(HOW_MANY_ALSO, plain=True, x=kind(s, e))
        out = s.shell("find %s -maxdepth 1 -type f -name '*.%s' | wc -l" % (d or ".", e))
        s.require(out == str(n[e]), out)
        files_look.count_answer(s, n[e], ".%s file" % e)


@skill("chat.ask_more", weight=0.2)
def other_folder(s):
    a, b = s.folder(0, depth=1), s.folder(0, depth=1)
    e = s.choice(["txt", "md", "csv", "log", "json", "png"])
    for d in (a, b):
        for _ in range(s.number(1, 6)):
            s.file(d, e if s.chance(0.7) else None, text="x\n")
    for i, d in enumerate((a, b)):
        if i == 0:
            s.user(files_look.COUNT_KIND, kind=kind(s, e), **{"in": s.place(d)})
        else:
            s.user(["and in $d?", "what about $d?", "and how many {are |}in $d?", "how about {the folder |}$d?", "and in the folder $d?", "same for $d?", "now {count|look} in $d"], plain=True, d=s.dir_name(d))
        out = s.shell("find %s -maxdepth 1 -type f -name '*.%s' | wc -l" % (d, e))
        s.require(out == str(sum(p.rpartition("/")[0] == d and p.endswith("." + e) for p in s.files)), out)
        files_look.count_answer(s, int(out), ".%s file" % e)


@skill("chat.ask_more", weight=0.35)
def other_file(s):
    """The same question about another file."""
    d = s.folder(0.6)
    a, b = [s.put(s.fresh(d, "txt" if s.chance(0.5) else None), "\n".join(content.lines(s, 1, 12)) + "\n") for _ in range(2)]
    s.clutter(0, 2, 1)
    templates, command, one = s.choice([(files_look.SIZE, "stat -c %%s %s", "byte"), (text.COUNT_LINES, "grep -c '' %s", "line"), (text.COUNT_WORDS, "wc -w < %s", "word")])
    for i, f in enumerate((a, b)):
        if i == 0:
            s.user(templates, f=Name(f))
        else:
            s.user(["and $f?", "what about $f?", "and how about $f?", "how about $f?", "{and |}the same for $f?", "and for $f?", "now $f please", "same question for $f."], plain=True, f=Name(f if s.say_rng.random() < 0.8 or not d else base(f)))
        n = s.shell(command % f)
        s.answer(["$f has $n.", "$n.", "it has $n."] if one != "byte" else ["$f is $n.", "$n.", "it is $n."], f=Name(base(f)), n=many(int(n), one))
        s.says(n)


@skill("chat.ask_more", weight=0.3)
def other_level(s):
    f = log.log_path(s)
    rows = content.level_log(s, s.number(4, 60))
    s.put(f, "\n".join(rows) + "\n")
    s.clutter(0, 2, 1)
    for i, level in enumerate(s.sample(content.LEVELS, 2)):
        if i == 0:
            s.user(log.COUNT, f=Name(f), l=Value(level))
        else:
            s.user(["and how many $l?", "and $l?", "what about $l?", "how about $l {lines|entries|messages}?", "and how many $l {lines|entries} are there?", "how many are $l?", "same for $l?", "{now |}count the $l {lines|ones} too"], plain=True, l=Value(level))
        n = s.shell("grep -cw %s %s" % (level, f)).split("\n")[0]
        s.require(int(n) == sum(level in r.split() for r in rows), n)
        s.answer(["there are $n." if n != "1" else "there is $n.", "$f has $n.", "$n."], f=Name(f), n=many(int(n), level + " line"))
        s.says(n)


@skill("chat.ask_more", weight=0.35, needs=("python3",))
def other_end(s):
    """Highest, then lowest; sum, then average."""
    t, f = table.Table(s), table.csv_path(s)
    numbers = [float(r[t.number]) for r in t.rows]
    t.put(s, f)
    s.clutter(0, 2, 1)
    if s.chance(0.5):
        for i, low in enumerate(s.choice([(False, True), (True, False)])):
            best = min(numbers) if low else max(numbers)
            s.require(numbers.count(best) == 1, "two rows share the place")
            if i == 0:
                s.user(table.MIN if low else table.MAX, k=Value(t.key), c=Value(t.number), f=Name(f))
                table.look(s, f)
            else:
                s.user(["and the %s?", "and which has the %s?", "what about the %s?", "which one has the %s {$c|}?", "and the %s $c?", "now the %s"][s.say_rng.randrange(6)] % ("{lowest|smallest}" if low else "{highest|largest}"), plain=True, c=Value(t.number))
            out = s.shell("python3 -c \"import csv; r=%s(csv.DictReader(open('%s')), key=lambda r: float(r['%s'])); print(r['%s'], r['%s'])\"" % ("min" if low else "max", f, t.number, t.key, t.number))
            row = t.rows[numbers.index(best)]
            s.require(out == "%s %s" % (row[t.key], row[t.number]), out)
            s.answer(["$k has the %s $c: $n." % ("lowest" if low else "highest"), "it is $k, with a $c of $n.", "$k, with a $c of $n."], k=Value(row[t.key]), c=Value(t.number), n=Value(row[t.number]))
            s.says(row[t.key])
        return
    values = "import csv; v=[float(r['%s']) for r in csv.DictReader(open('%s'))]; " % (t.number, f)
    for i, mean in enumerate(s.choice([(False, True), (True, False)])):
        if i == 0:
            s.user(table.AVERAGE if mean else table.SUM, c=Value(t.number), f=Name(f))
            table.look(s, f)
        else:
            s.user(["and the %s?", "what about the %s?", "and what is the %s?", "now the %s", "i also need the %s.", "the %s too, please"][s.say_rng.randrange(6)] % ("{average|mean}" if mean else "{sum|total}"), plain=True)
        n = s.shell('python3 -c "%sprint(\'%%.10g\' %% round(%s, 2))"' % (values, "sum(v)/len(v)" if mean else "sum(v)"))
        s.answer(["the %s is $n." % ("average" if mean else "sum"), "it is $n."], n=Value(n))
        s.says(n)


ALSO_DO = {"copy": ["and copy $b too", "now {do the same with|copy} $b {too|as well|}", "$b too, please", "{do|please do} the same {with|for} $b", "and $b as well?", "same for $b."],
           "delete": ["and delete $b too", "now {do the same with|delete} $b {too|as well|}", "$b too, please", "{do|please do} the same {with|for} $b", "and $b as well?", "$b can go too."],
           "move": ["and move $b too", "now {do the same with|move} $b {too|as well|}", "$b too, please", "{do|please do} the same {with|for} $b", "and $b as well?", "put $b there too"]}


@skill("chat.act_on", weight=0.4)
def do_the_same(s):
    """An act on one file, then the same on another."""
    from world.skills import files_change
    what = s.choice(["copy", "delete", "move"])
    d = s.folder(0.75)
    a, b = s.file(d), s.file(d)
    s.clutter(0, 2, 1)
    to = s.fresh_folder()
    s.require("." not in to, "like a file")
    for i, f in enumerate((a, b)):
        if i:
            s.user(ALSO_DO[what], plain=True, b=Name(f))
        elif what == "delete":
            s.user(files_change.DELETE, f=Name(f))
        else:
            s.user(files_change.COPY_INTO if what == "copy" else files_change.MOVE_ONE, a=Name(f), d=s.dir_name(to))
        if what == "delete":
            s.will_remove(f)
            s.shell("rm " + f)
            s.answer(["deleted $f.", "$f is gone.", "i deleted $f."], f=Name(f))
            continue
        (s.will_copy if what == "copy" else s.will_move)(f, join(to, base(f)))
        out = s.shell("ls %s && mkdir -p %s && %s %s %s/" % (f, to, "cp" if what == "copy" else "mv", f, to))
        s.require(out == f, out)
        s.answer(["copied $f to $d.", "i copied $f {into|to} $d."] if what == "copy" else ["moved $f to $d.", "$f is in $d now."], f=Name(base(f)), d=Name(to))


UNDO = {"rename": ["rename it back", "change the name back", "please undo that", "{no, |oh no, |sorry, |}undo that", "give it back its old name", "i changed my mind, rename it back"],
        "move": ["move it back", "put it back", "please undo that", "{no, |oh no, |sorry, |}undo that", "put it back where it was", "i changed my mind, move it back"]}


@skill("chat.act_on", weight=0.2)
def undo(s):
    from world.skills import files_change
    d = s.folder(0.7)
    a = s.file(d)
    s.clutter(0, 3, 1)
    if s.chance(0.5):
        b = s.fresh(d, a.rpartition(".")[2])
        s.user(files_change.RENAME, a=Name(a), b=Name(b))
        s._start()
        s.shell("mv %s %s" % (a, b))
        s.answer(["$a is now $b.", "renamed $a to $b."], a=Name(a), b=Name(b))
        s.user(UNDO["rename"], plain=True)
        s.shell("mv %s %s" % (b, a))
        s.answer(["it is called $a again.", "renamed $b back to $a."], a=Name(a), b=Name(b))
    else:
        to = s.folder(0, depth=1)
        s.require("." not in to and to != d and join(to, base(a)) not in s.files, "like a file")
        s.user(files_change.MOVE_ONE, a=Name(a), d=s.dir_name(to))
        s.shell("ls %s && mkdir -p %s && mv %s %s/" % (a, to, a, to))
        s.answer(["$f is in $d now.", "moved $f to $d."], f=Name(base(a)), d=Name(to))
        s.user(UNDO["move"], plain=True)
        s.shell("mv %s %s" % (join(to, base(a)), a))
        s.answer(["$a is back.", "moved it back to $a."], a=Name(a))


SAVE_IT = ["{save|write|put} {that|it|the result|the answer|this number|the number} {to|in|into} $f", "write {that|the number|it} down in {a new file |}$f", "{ok, |good, |now |}{save|store} {that|the number} in $f", "$f should hold that number.", "can you put that {number|} into $f?"]


@skill("chat.act_on", weight=0.3)
def save_number(s):
    """A count, then the number written to a file."""
    d = s.folder(0.6)
    g = s.put(s.fresh(d, "txt" if s.chance(0.6) else None), "\n".join(content.lines(s, 1, 14)) + "\n")
    s.clutter(0, 2, 1)
    templates, command, one = s.choice([(files_look.SIZE, "stat -c %%s %s", "byte"), (text.COUNT_LINES, "grep -c '' %s", "line"), (text.COUNT_WORDS, "wc -w < %s", "word")])
    s.user(templates, f=Name(g))
    n = s.shell(command % g)
    s.answer(["$f has $n.", "$n."] if one != "byte" else ["$f is $n.", "$n."], f=Name(g), n=many(int(n), one))
    f = s.fresh(s.folder(0.8), "txt")
    s.user(SAVE_IT, plain=True, f=Name(f))
    s.will_write(f, n + "\n")
    s.write(f, n + "\n")
    s.answer(["$f holds $n now.", "i wrote $n to $f.", "saved $n in $f."], f=Name(f), n=Value(n))


@skill("chat.act_on", weight=0.3)
def change_setting(s):
    """A setting is read, then changed."""
    f = s.fresh(s.folder(0.75), s.choice(["conf", "ini", "cfg"]))
    pairs = [(k, content.config_value(s, k)) for k in content.some_keys(s, s.number(3, 6))]
    k, old = s.choice(pairs)
    new = content.config_value(s, k)
    body = content.settings(s, pairs, s.choice([" = ", "=", ": "]))
    line = [t for t in body.split("\n") if t.startswith(k) and t.endswith(old) and len(t) - len(k) - len(old) <= 3]
    s.require(len(line) == 1 and new != old and body.count(line[0]) == 1, "not clear")
    s.put(f, body)
    s.clutter(0, 2, 1)
    s.user(files_look.VALUE, key=files_look.spoken(s, k), f=Name(f))
    s.read(f)
    s.answer(files_look.VALUE_ANSWER, key=Name(k), v=Value(old), f=Name(f))
    shown = s.say_rng.choice([Name, Quoted])(new)
    s.user(["{change|set} it to $v", "set {it|that|the value} to $v {instead|}", "it should be $v, {change|fix} it", "make it $v", "please change that to $v", "{ok, |}now set it to $v", "$v is right, change it", "i want it to be $v."], plain=True, v=shown)
    changed = line[0][:len(line[0]) - len(old)] + new
    s.will_write(f, body.replace(line[0], changed))
    s.call("edit_file", path=f, old=line[0], new=changed)
    s.answer(["$k is $v now.", "i set $k to $v in $f.", "changed $k to $v."], k=Name(k), v=Value(new), f=Name(f))


NAME_AGAIN = ["{and |sorry, |wait, |}what was {its|the file's|that file's} name{ again|}?", "{and |}{which|what} file was {it|that}{ again|}?", "what was {it|that file|the file} called{ again|}?", "i forgot the name of {the|that} file.", "say {its|the file's} name again", "remind me of {its|the file's} name", "which one was it{ again|}?",
              "what did you say the file is called?", "the name again{, please|}?", "tell me again which file {it|that} was", "what is it called again?"]
WHAT_AGAIN = ["{and |sorry, |wait, |}what was that{ number| value|} again?", "what did you {just |}say?", "say that again{, please|}", "repeat {that|the last one|your last answer}", "can you say that once more?", "{sorry, |}once more{, please|}?", "i missed your last answer."]


@skill("chat.ask_more", weight=0.5)
def again(s):
    """The name of the file that the conversation is about, or the last answer, once more: nothing is called for it."""
    f = s.choice(chat.FIRST_ONE)(s)
    for _ in range(s.choice([0, 1, 1, 2])):
        chat.ask(s, f)
    if s.chance(0.6):
        s.require(any(base(f) in m["text"] for m in s.messages), "not named")
        s.user(NAME_AGAIN, True)
        s.answer(["$f.", "it was $f.", "the file {is|was} $f."], f=Name(base(f)))
        s.says(base(f))
    else:
        said = s.messages[-1]["text"]
        s.require(len(said) < 160, "long")
        s.user(WHAT_AGAIN, True)
        s.messages.append({"role": "assistant", "text": said, "calls": []})
