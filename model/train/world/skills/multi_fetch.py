"""multi.fetch_write: one number, or a few lines, out of a fetched text, table or JSON list; which function is the point.

Every request names its function in its own words, over the same kinds of pages, so that the word decides what is run.
"""

import json

from world import content
from world.scene import Name, T, Value
from world.skills import skill
from world.skills.fail import page
from world.skills.multi import GET, in_place
from world.skills.table import Table, number_text

# What may be computed: (ways to say it; the words stand for "the ... of the numbers"), Python over the list v.
FUNCTIONS = {
    "sum": (["sum", "total", "sum", "grand total"], "sum(v)"),
    "mean": (["average", "mean", "average value", "arithmetic mean"], "sum(v)/len(v)"),
    "max": (["highest", "largest", "biggest", "greatest", "maximum"], "max(v)"),
    "min": (["lowest", "smallest", "least", "minimum"], "min(v)"),
    "count": (["number", "count"], "len(v)"),
    "range": (["difference between the {highest|largest} and the {lowest|smallest}", "difference between the {lowest|smallest} and the {highest|largest}"], "max(v)-min(v)"),
}
WRITE = "{write|save|put|store}"
INTO = "{to|into|in} {the file |a file |}$f"
OF_NUMBERS = [
    GET + " and " + WRITE + " the $fn of the numbers " + INTO, WRITE + " the $fn of the numbers {at|from|in} $u " + INTO, "{work out|find|compute|calculate} the $fn of the numbers {at|from|in} $u and " + WRITE + " it " + INTO,
    "{the file |}$f should hold the $fn of the numbers {at|from} $u{, nothing else|}.", "what is the $fn of the numbers at $u? " + WRITE + " it " + INTO + ".", GET + ". it has a number {on each|per} line. " + WRITE + " {only |just |}their $fn " + INTO,
    "take the numbers {at|from} $u and " + WRITE + " their $fn " + INTO, "i need the $fn of the numbers {at|from} $u in $f.", "read the numbers from $u and " + WRITE + " {only |just |}the $fn " + INTO,
]
BIGGEST = [
    GET + " and " + WRITE + " the $fn number " + INTO, WRITE + " the $fn {number|value} {at|from|in|of} $u " + INTO, "find the $fn {number|value} {at|from|in} $u and " + WRITE + " it " + INTO, "{the file |}$f should hold the $fn number {at|from} $u{, nothing else|}.",
    "what is the $fn number at $u? " + WRITE + " it " + INTO + ".", "which number at $u is the $fn? " + WRITE + " it " + INTO + ".", "i need the $fn number {at|from} $u in $f.", "take the $fn of the numbers {at|from} $u and " + WRITE + " it " + INTO,
]
OF_COLUMN = [
    GET + " and " + WRITE + " the $fn of {the $c column|the column $c|$c} " + INTO, WRITE + " the $fn of {the $c column|the column $c} {at|from|in} $u " + INTO, "{work out|find|compute|calculate} the $fn of {the column $c|the $c column|all $c values} {at|from|in} $u and " + WRITE + " it " + INTO,
    "{the file |}$f should hold the $fn of {the $c column|the column $c} {at|from|of} $u{, nothing else|}.", "what is the $fn of {the $c values|the $c column} at $u? " + WRITE + " it " + INTO + ".", "$u has a column $c. " + WRITE + " {only |just |}its $fn " + INTO,
    "get the table at $u and " + WRITE + " the $fn of its $c column " + INTO, "i need the $fn of {the column $c|all $c values} {at|from} $u in $f.", "from the csv at $u, " + WRITE + " {only |just |}the $fn of {the column $c|$c} " + INTO,
]
BIGGEST_COLUMN = [
    GET + " and " + WRITE + " the $fn $c " + INTO, WRITE + " the $fn {value of the column |}$c {at|from|in} $u " + INTO, "find the $fn $c {at|from|in} $u and " + WRITE + " it " + INTO, "{the file |}$f should hold the $fn $c {at|from|of} $u{, nothing else|}.",
    "what is the $fn $c at $u? " + WRITE + " {only |just |}the number " + INTO + ".", "get the table at $u and " + WRITE + " {only |just |}the $fn $c " + INTO, "i need the $fn $c {at|from} $u in $f.", "from the csv at $u, " + WRITE + " the $fn $c " + INTO,
]
WHO = [
    GET + " and " + WRITE + " the $k with the $fn $c " + INTO, WRITE + " {to|into} $f which $k {at|from|in} $u has the $fn $c", "find the $k with the $fn $c {at|from|in} $u and " + WRITE + " it " + INTO, "which $k at $u has the $fn $c? " + WRITE + " it " + INTO + ".",
    "{the file |}$f should {name|hold} the $k with the $fn $c {at|from} $u{, nothing else|}.", "get the {table|list} at $u and " + WRITE + " {only |just |}the $k with the $fn $c " + INTO, "i need the $k with the $fn $c {at|from} $u in $f.",
]
LINES = {
    "reverse": (["sort the lines {backwards|from z to a|in reverse order|in reverse}", "put the lines in reverse alphabetical order"], "sort -r %s"),
    "down": (["sort the numbers {from large to small|in descending order|with the largest first|downwards}", "put the numbers in order, {largest|biggest} first"], "sort -rn %s"),
    "unique": (["drop the {repeated|double|duplicate} lines", "keep each line {only once|just once}", "remove {repeated lines|duplicates|lines that repeat}"], "awk '!seen[$0]++' %s"),
    "sort_unique": (["sort the lines and {drop the repeated ones|keep each only once|remove duplicates}", "take the different lines, sorted"], "sort -u %s"),
    "head": (["{keep|take} {only |just |}the first $n lines", "take the {top|first} $n lines"], "head -n $n %s"),
    "tail": (["{keep|take} {only |just |}the last $n lines", "take the {bottom|last} $n lines"], "tail -n $n %s"),
    "without": (["leave out {the|all} lines {with|containing} {the word |}$w", "drop {the|all|every} {line|lines} {with|containing} {the word |}$w", "remove the lines that {mention|contain} $w"], "grep -viw '$w' %s"),
    "words": (["count the words"], "wc -w < %s"),
    "first": (["take {only |just |}the first line"], "head -n 1 %s"),
}
DO_LINES = [GET + ", $do and {save|write|put} the result " + INTO, GET + ", $do, and {save|write} it as $f", "{get|fetch} {the text at |}$u, $do and {store|save} what you get in $f", "from $u, $do and put {it|the result} in $f"]
DONE = ["$f is written.", "{the result|it} is in $f now.", "{done: |}$f has {the result|it} now.", "i wrote {it|the result} to $f."]


def fetch(s, url, f, body):
    s.require("saved" in s.http("GET", url, save_to=f), "not saved")
    s.require(s.read(f) == body.rstrip("\n"), "other text")


def spoken(s, x):
    return T(s.say_rng.choice(FUNCTIONS[x][0]))


def target(s):
    return s.fresh(s.folder(0.75), s.choice(["txt", "txt", "md", "list", "out", "dat"]))


def finish(s, f, want, command):
    s.will_write(f, want + "\n")
    out = s.shell(in_place(command, f))
    s.require(out == "[no output]", out)
    s.answer(DONE, f=Name(f))


def answer_number(s, x, v):
    want = eval(FUNCTIONS[x][1], {"v": v, "sum": sum, "len": len, "max": max, "min": min})
    return number_text(want)


PRINT = "print('%.10g' % round({}, 2))"


@skill("multi.fetch_write", weight=1.0, needs=("python3",))
def numbers(s):
    """Bare numbers, one a line."""
    f, x = target(s), s.choice(["mean", "max", "min", "sum", "mean", "max", "min", "sum", "range", "count"])
    values = [s.number(1, s.choice([50, 900, 9999])) for _ in range(s.number(3, 12))]
    if s.chance(0.2):
        values = ["%.2f" % (v + s.number(0, 99) / 100) for v in values]
    body = "\n".join(str(v) for v in values) + "\n"
    url = s.serve(page(s), body)
    s.clutter(0, 3, 1)
    s.user(BIGGEST if x in ("max", "min") else OF_NUMBERS, fn=spoken(s, x), u=Name(url), f=Name(f))
    fetch(s, url, f, body)
    finish(s, f, answer_number(s, x, [float(v) for v in values]),
           "python3 -c \"v=[float(t) for t in open('%s')]; %s\"" % (f, PRINT.format(FUNCTIONS[x][1])))


@skill("multi.fetch_write", weight=1.2, needs=("python3",))
def column(s):
    """A column of a CSV table."""
    f, t = target(s), Table(s, 3, 12)
    x = s.choice(["mean", "max", "min", "sum", "range"])
    c = t.number if s.chance(0.8) or t.other not in t.columns else t.other
    body = t.text(s)
    s.require(len(body) <= 1000, "a long page")
    url = s.serve(page(s), body, kind="text/csv")
    s.clutter(0, 3, 1)
    who = x in ("max", "min") and s.chance(0.4)
    v = [float(r[c]) for r in t.rows]
    s.user(WHO if who else BIGGEST_COLUMN if x in ("max", "min") else OF_COLUMN, fn=spoken(s, x), u=Name(url), f=Name(f), c=Value(c), k=Value(t.key))
    fetch(s, url, f, body)
    if who:
        best = (max if x == "max" else min)(v)
        s.require(v.count(best) == 1, "two rows share the place")
        finish(s, f, str(t.rows[v.index(best)][t.key]),
               "python3 -c \"import csv; print(%s(csv.DictReader(open('%s')), key=lambda r: float(r['%s']))['%s'])\"" % (x, f, c, t.key))
    else:
        finish(s, f, answer_number(s, x, v),
               "python3 -c \"import csv; v=[float(r['%s']) for r in csv.DictReader(open('%s'))]; %s\"" % (c, f, PRINT.format(FUNCTIONS[x][1])))


JSON_COUNT = [GET + " and " + WRITE + " the number of {entries|items} " + INTO, "how many {entries|items} are in the list at $u? " + WRITE + " the number " + INTO + ".", "count the {entries|items} at $u and " + WRITE + " the {number|count} " + INTO, "{the file |}$f should hold the number of {entries|items} at $u."]


@skill("multi.fetch_write", weight=1.0, needs=("python3",))
def json_list(s):
    """A JSON list of objects."""
    f, n = target(s), s.names
    c = s.choice(["price", "amount", "age", "score", "points", "weight", "stock", "hours", "size", "rating"])
    k = s.choice(["name", "city", "title", "item", "user"])
    source = dict(name=n.first, city=n.city, title=n.noun, item=n.product, user=n.made_up)[k]
    items = [{k: w, c: s.number(1, 400)} for w in n.words(s.number(2, 7), source)]
    x = s.choice(["mean", "max", "min", "mean", "max", "min", "sum", "count"])
    body = json.dumps(items, indent=s.choice([None, None, 1]))
    s.require(len(body) <= 1000, "a long page")
    url = s.serve(page(s), body, kind="application/json")
    s.clutter(0, 3, 1)
    who = x in ("max", "min") and s.chance(0.4)
    v = [i[c] for i in items]
    forms = JSON_COUNT if x == "count" else WHO if who else BIGGEST_COLUMN if x in ("max", "min") else OF_COLUMN
    forms = tuple(t.replace("from the csv at", "from the list at").replace("the table at", "the list at").replace("a column $c", "a $c in each entry").replace("its $c column", "the $c values")
                  .replace("the $c column", "the $c values").replace("the column $c", "the $c of all items").replace("value of the column |", "") for t in forms)
    s.user(forms, fn=spoken(s, x), u=Name(url), f=Name(f), c=Value(c), k=Value(k))
    fetch(s, url, f, body)
    load = "import json; d=json.load(open('%s')); " % f
    if who:
        best = (max if x == "max" else min)(v)
        s.require(v.count(best) == 1, "two share the place")
        finish(s, f, items[v.index(best)][k], "python3 -c \"%sprint(%s(d, key=lambda r: r['%s'])['%s'])\"" % (load, x, c, k))
    elif x == "count":
        finish(s, f, str(len(items)), "python3 -c \"%sprint(len(d))\"" % load)
    else:
        finish(s, f, answer_number(s, x, v), "python3 -c \"%sv=[r['%s'] for r in d]; %s\"" % (load, c, PRINT.format(FUNCTIONS[x][1])))


@skill("multi.fetch_write", weight=0.8, needs=("awk",))
def some_lines(s):
    """Other lines than the sorted ones or those with a word."""
    f, x, w, n = target(s), s.choice(list(LINES)), s.names.noun(), s.number(2, 4)
    if x == "down":
        lines = [str(v) for v in s.sample(range(1, 900), s.number(4, 10))]
        want = sorted(lines, key=int, reverse=True)
    else:
        lines = s.names.words(s.number(5, 10)) if s.chance(0.5) else content.lines(s, 5, 9)
        s.require(not any(w.lower() in t.lower() for t in lines) and len(set(lines)) == len(lines), "the word or a line twice")
        if "unique" in x:
            for _ in range(s.number(1, 3)):
                lines.insert(s.number(0, len(lines)), s.choice(lines))
        if x == "without":
            for _ in range(s.number(1, 3)):
                lines.insert(s.number(0, len(lines)), s.choice(["the %s is %s", "a %s and a %s", "no %s for the %s"]) % (w, s.names.noun()))
        kept = list(dict.fromkeys(lines))
        want = {"reverse": sorted(lines, key=str.encode, reverse=True), "unique": kept, "sort_unique": sorted(kept, key=str.encode), "head": lines[:n], "tail": lines[-n:], "first": lines[:1],
                "without": [t for t in lines if w not in t.split()], "words": [str(sum(len(t.split()) for t in lines))]}[x]
    body = "\n".join(lines) + "\n"
    s.require(len(body) <= 1000, "a long page")
    url = s.serve(page(s), body)
    s.clutter(0, 3, 1)
    phrases, command = LINES[x]
    number = Value(["", "", "two", "three", "four"][n] if s.say_rng.random() < 0.5 else n)
    s.user(DO_LINES, do=T(s.say_rng.choice(phrases), n=number, w=Name(w)), u=Name(url), f=Name(f))
    s.require("saved" in s.http("GET", url, save_to=f), "not saved")
    finish(s, f, "\n".join(want), command.replace("$n", str(n)).replace("$w", w) % f)
