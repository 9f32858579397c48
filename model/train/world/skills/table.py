"""table.*: sums, maxima, filters and counts over CSV files; fields of JSON files.

A table is always looked at first (`head -3`), so that the column's true name is seen before it is used; the second call
finds the column by that name.
"""

import collections
import json

from world import content
from world.scene import Name, Quoted, T, Value, join, mentions
from world.skills import skill

NUMBERS = """price amount quantity total score points age weight height length cost salary hours stock seats size budget
distance population duration rating units sales goals visitors pages minutes temperature rent fee speed""".split()
KINDS = """city color category status team department country type kind level group region shop grade size_class
material owner section season genre role""".split()
KEYS = {"name": "first", "item": "product", "product": "product", "city": "city", "title": "words", "person": "first",
        "player": "first", "place": "city", "member": "person_", "customer": "surname", "plant": "noun", "article": "noun"}
MOST = {"price": ("most expensive", "cheapest"), "cost": ("most expensive", "cheapest"), "age": ("oldest", "youngest"),
        "weight": ("heaviest", "lightest"), "height": ("tallest", "shortest"), "length": ("longest", "shortest"),
        "score": ("best", "worst"), "points": ("best", "worst"), "population": ("most populated", "least populated"),
        "salary": ("best paid", "worst paid"), "rating": ("best rated", "worst rated"), "speed": ("fastest", "slowest"),
        "duration": ("longest", "shortest"), "size": ("largest", "smallest"), "distance": ("farthest", "nearest"),
        "sales": ("best selling", "worst selling"), "stock": ("best stocked", "worst stocked")}
HEADER_AWK = "NR==1{for(i=1;i<=NF;i++)if($i==\"%s\")c=i%s}"


class Table:
    """A random CSV table with a key, a number and a category column among others, in any order."""

    def __init__(self, s, low=3, high=40):
        n = s.names
        self.key = s.choice(list(KEYS)) if s.chance(0.85) else n.noun()
        self.number, self.other = n.words(2, lambda: s.choice(NUMBERS) if s.chance(0.75) else n.noun() + s.choice(["", "s"]))
        self.kind = s.choice(KINDS) if s.chance(0.8) else n.noun()
        s.require(len({self.key, self.number, self.other, self.kind, "date", "id"}) == 6, "a column twice")
        columns = [self.key, self.number]
        columns += [c for c in (self.kind, self.other, "date", "id") if s.chance(0.45)][: s.number(0, 4)]
        if self.kind not in columns:
            columns.append(self.kind)
        s.rng.shuffle(columns)
        if "id" in columns and s.chance(0.7):
            columns.remove("id")
            columns.insert(0, "id")
        self.columns = columns
        self.cents = s.chance(0.35)
        self.values = self.kind_values(s)
        draw = KEYS.get(self.key, "noun")
        source = {"words": lambda: "%s %s" % (n.adjective(), n.noun()), "person_": n.person}.get(draw) or getattr(n, draw)
        # few rows often: small tables are what people paste, long ones are what they have
        count = s.number(low, high if s.chance(0.35) else min(high, 12))
        names = {}  # in order of drawing: the order of a set would differ from process to process
        for _ in range(count * 4):
            if len(names) < count:
                names[source()] = True
        self.rows = []
        for i, name in enumerate(sorted(names, key=lambda _: s.rng.random())):
            row = {self.key: name, self.number: self.draw(s), self.kind: s.choice(self.values), self.other: s.number(1, 900),
                   "date": n.date(), "id": i + 1}
            self.rows.append({c: row[c] for c in columns})

    def kind_values(self, s):
        n = s.names
        source = {"city": n.city, "country": n.city, "color": n.color, "owner": n.first, "team": n.noun}.get(self.kind, n.word)
        return n.words(s.number(2, 5), source)

    def draw(self, s):
        if self.cents:
            return "%.2f" % (s.number(50, 99999) / 100)
        return s.number(1, s.choice([20, 100, 1000, 90000]))

    def text(self, s):
        return content.csv(s, self.columns, [r.values() for r in self.rows])

    def put(self, s, path):
        return s.put(path, self.text(s))


def look(s, path):
    return s.shell("head -3 %s" % path)


def is_missing(s, path):
    """With a small chance the file is not there; gone() then ends the scene."""
    return s.chance(0.05)


GONE = ["there is no file {named|called|} $f {here|in this folder|}, so {i could not do that|i changed nothing|i cannot answer}.",
        "i could not find $f: {there is no such file|it is not there|it does not exist}.",
        "$f does not exist{ here|}, so {there is nothing to read|i cannot tell|i did nothing}.",
        "sorry, {there is no file|i found no file} {named|called} $f{ here|}."]


def gone(s, path, command):
    """The end of a scene whose file is missing: only one like it is there, the command fails, the answer says so."""
    s.lookalike(path)
    result = s.shell(command)
    s.require("No such file" in result, result)
    s.answer(GONE, f=Name(path))
    s.says(path.rpartition("/")[2])


def csv_path(s):
    return s.fresh(s.folder(0.7), "csv")


SUM = ["{what is|what's|whats} the {sum|total} of {the |}$c column in $f?", "{sum|add} up the $c column {in|of} $f",
       "what do the {values|numbers|entries} {in|of} the $c column of $f add up to?", "add up all the $c values in $f",
       "{total|sum} of $c in $f?", "{calculate|compute|work out|find} the {sum|total} of {the column $c|the $c column|$c} in $f",
       "how much is the $c {column |}{in total|all together|altogether} in $f?", "in $f, what is the total {of the|} $c?",
       "i need the {sum|total} of {all |}$c {values|entries|numbers} from $f", "what is the total $c in $f?",
       "{take|open|look at} $f and {add up|total|sum} the $c column", "give me the total of column $c in the file $f",
       "what does the $c column in $f sum to?", "{tell me|say} what all the $c numbers in $f {make together|add up to}",
       "how much $c is there in $f all together?", "the file $f has a column $c. what is its sum?",
       "$f has a $c column. {please add it up|what is the total|sum it up}."]
AVERAGE = ["{what is|what's|whats} the {average|mean} {of the $c column|$c|of $c} in $f?", "{average|mean} $c in $f?",
           "{calculate|compute|work out|find} the {average|mean} {of the $c column|$c} in $f", "how high is the $c in $f on average?",
           "on average, what is the $c in $f?", "what is the {average|mean} of all {the |}$c values in $f?",
           "give me the {average|mean} {value |}of column $c in $f", "i need the {average|mean} $c from $f",
           "in $f, what is the {average|mean} $c?", "{tell me|say} the {average|mean} of the $c numbers in $f",
           "the file $f has a column $c. what is its {average|mean}?", "{take|open|look at} $f and {work out|give me} the average $c",
           "what does the $c column of $f come to on average?"]


def number_text(x):
    return "%.10g" % round(x, 2)


@skill("table.sum_average", weight=1.3, needs=("awk", "python3"))
def sum_average(s):
    t, path = Table(s), csv_path(s)
    c = t.number if s.chance(0.8) or t.other not in t.columns else t.other
    mean = s.chance(0.45)
    absent = is_missing(s, path)
    if not absent:
        t.put(s, path)
    s.clutter(0, 3)
    s.user(AVERAGE if mean else SUM, c=Value(c), f=Name(path))
    if absent:
        return gone(s, path, "head -3 " + path)
    s.require(c in look(s, path).split("\n")[0].split(","), "no such column")
    values = "import csv; v=[float(r['%s']) for r in csv.DictReader(open('%s'))]; " % (c, path)
    n = s.shell('python3 -c "%sprint(\'%%.10g\' %% round(%s, 2))"' % (values, "sum(v)/len(v)" if mean else "sum(v)"))
    numbers = [float(r[c]) for r in t.rows]
    want = sum(numbers) / len(numbers) if mean else sum(numbers)
    s.require(abs(float(n) - want) < 0.006, n)
    if mean:
        s.answer(["the average $c in $f is $n.", "the {mean|average} of $c is $n.", "on average the $c is $n.",
                  "the average of the $c column in $f is $n."], c=Value(c), f=Name(path), n=Value(n))
    else:
        s.answer(["the $c column in $f adds up to $n.", "the {sum|total} of $c is $n.", "the total $c in $f is $n.",
                  "the sum of the $c column in $f is $n."], c=Value(c), f=Name(path), n=Value(n))
    s.says(n)


MAX = ["which $k {in $f |}has the {highest|largest|biggest|greatest} $c{ in $f|}?", "who or what has the highest $c in $f?",
       "{find|show me|tell me|give me} the $k with the {highest|largest|biggest} $c in $f", "in $f, which $k has the {highest|most|largest} $c?",
       "{the |}$k with the {highest|top|largest} $c in $f?", "look in $f for the $k with the {highest|greatest} $c",
       "{what|which} row of $f has the {highest|largest|maximum} $c?", "what is the $k with the {maximum|highest} $c in $f?",
       "which entry in $f has the biggest $c?", "{who|which $k} is at the top by $c in $f?",
       "{which|what} $k leads in $c according to $f?", "i want to know which $k in $f has the highest $c",
       "name the $k with the most $c in $f"]
MIN = ["which $k {in $f |}has the {lowest|smallest|least} $c{ in $f|}?", "who or what has the lowest $c in $f?",
       "{find|show me|tell me|give me} the $k with the {lowest|smallest} $c in $f", "in $f, which $k has the {lowest|least|smallest} $c?",
       "{the |}$k with the {lowest|smallest} $c in $f?", "look in $f for the $k with the {lowest|smallest} $c",
       "{what|which} row of $f has the {lowest|smallest|minimum} $c?", "what is the $k with the {minimum|lowest} $c in $f?",
       "which entry in $f has the smallest $c?", "{who|which $k} is at the bottom by $c in $f?",
       "{which|what} $k comes last in $c according to $f?", "i want to know which $k in $f has the lowest $c",
       "name the $k with the least $c in $f"]
SUPERLATIVE = ["{which|what} {is|was} the $w $k in $f?", "{find|show me|tell me|give me} the $w $k in $f", "{what|which} $k in $f is the $w?",
               "look in $f: {which|what} $k is the $w?", "{the |}$w $k in $f?", "in $f, {what|which} is the $w $k?",
               "who or what is the $w in $f?", "i need the $w $k from $f", "{what is|what's} the $w $k listed in $f?",
               "according to $f, {what|which} is the $w $k?", "name the $w $k in $f"]


@skill("table.max", weight=1.3, needs=("awk", "python3"))
def maximum(s):
    t, path = Table(s), csv_path(s)
    low = s.chance(0.45)
    numbers = [float(r[t.number]) for r in t.rows]
    best = min(numbers) if low else max(numbers)
    s.require(numbers.count(best) == 1, "two rows share the place")
    absent = is_missing(s, path)
    if not absent:
        t.put(s, path)
    s.clutter(0, 3)
    if t.number in MOST and s.chance(0.6):
        s.user(SUPERLATIVE, w=T(MOST[t.number][low]), k=Value(t.key), f=Name(path))
    else:
        s.user(MIN if low else MAX, k=Value(t.key), c=Value(t.number), f=Name(path))
    if absent:
        return gone(s, path, "head -3 " + path)
    look(s, path)
    out = s.shell("python3 -c \"import csv; r=%s(csv.DictReader(open('%s')), key=lambda r: float(r['%s'])); print(r['%s'], r['%s'])\""
                  % ("min" if low else "max", path, t.number, t.key, t.number))
    row = t.rows[numbers.index(best)]
    s.require(out == "%s %s" % (row[t.key], row[t.number]), out)
    s.answer(["$k has the %s $c in $f: $n." % ("lowest" if low else "highest"), "it is $k, with a $c of $n.",
              "$k, with a $c of $n."], k=Value(row[t.key]), c=Value(t.number), n=Value(row[t.number]), f=Name(path))
    s.says(row[t.key])
    for r in t.rows:
        s.require(r is row or not mentions(s.messages[-1]["text"], str(r[t.key])), "another candidate is named")


FILTER = ["from $f{,|} {keep|take} {only |}the rows where $c is $v and {write|save|put} them{, with the header,| with the header|} {to|into|in} $o",
          "{write|save|put|store} the rows of $f {where|whose|in which the} $c is $v {to|into|in} $o{, with the header|, header included| and keep the header|}",
          "{make|create} {a new file|a file|} $o with {only |}the rows {of|from} $f where $c is $v{, with the header|, plus the header line|}",
          "filter $f for $c = $v and {save|write} {it|the result|that} {to|as|in} $o{ with the header|}",
          "{copy|extract|pick} {all|the} {rows|lines|entries} with $c $v from $f {to|into} $o{, header included|}",
          "i need a csv $o with the header and all rows of $f that have $v as $c", "{select|get} {everything|all rows} with $v as {its |}$c in $f and {save|put} {it|them} in $o, with the header",
          "{take|get} all the $v rows (column $c) from $f and {put|write} them with the header line into $o",
          "{can i have|i want} only the $c $v rows of $f in a new file $o{, with the header|}",
          "{store|save} in $o the header of $f and the rows whose $c is $v",
          "{only|just} the rows of $f with $c equal to $v should go to $o, {header too|with the header}",
          "{split out|sort out} the rows with $c $v from $f into $o and keep the header line"]


@skill("table.filter", weight=1.3, needs=("awk", "python3"))
def filter_rows(s):
    t, path = Table(s), csv_path(s)
    out = s.fresh(path.rpartition("/")[0] if s.chance(0.6) else "", "csv")
    v = s.choice([r[t.kind] for r in t.rows])
    s.require(" " not in v, "a blank in the value")
    absent = is_missing(s, path)
    if not absent:
        t.put(s, path)
    s.clutter(0, 3)
    s.user(FILTER, f=Name(path), o=Name(out), c=Value(t.kind), v=Value(v) if s.chance(0.7) else Quoted(v))
    if absent:
        return gone(s, path, "head -3 " + path)
    look(s, path)
    rows = [r for r in t.rows if r[t.kind] == v]
    s.will_write(out, content.csv(s, t.columns, [r.values() for r in rows]))
    s.shell("awk -F, '%s NR==1||$c==\"%s\"' %s > %s" % (HEADER_AWK % (t.kind, ""), v, path, out))
    s.answer(["{i wrote|i saved} {the|all the} rows where $c is $v {to|in} $o.", "done: $o has the header and the rows where $c is $v.",
              "$o now has the rows of $f where $c is $v{, with the header|}."], o=Name(out), c=Value(t.kind), v=Value(v), f=Name(path))


COUNT_BY = ["how many {rows|entries|lines|items|records} {are there |}{for|of} each $c {are there |}in $f?", "count the {rows|entries|lines} {in|of} $f {by|for each|per} $c",
            "how many of each $c {are|do we have|are there|are listed} in $f?", "how {often|many times} does each $c {come up|occur|appear|stand} in $f?",
            "{give me|show me|i need} the number of {rows|entries} {per|for each|for every} $c in $f", "{what are the counts|give me counts} by $c in $f?",
            "break down $f by $c: how many {rows|entries} {each|for each}?", "for {each|every} $c in $f, {tell me how many rows there are|how many rows are there}?",
            "which values does the $c column of $f have, and how many of each?", "$f: how many per $c?", "group $f by $c and count{ the rows|}",
            "tally the $c column {in|of} $f", "how many {lines|rows} does $f have for each $c?", "{tell me|say} how many of every $c are in $f"]


@skill("table.count_by", weight=1.3, needs=("awk", "python3"))
def count_by(s):
    t, path = Table(s), csv_path(s)
    absent = is_missing(s, path)
    if not absent:
        t.put(s, path)
    s.clutter(0, 3)
    s.user(COUNT_BY, f=Name(path), c=Value(t.kind))
    if absent:
        return gone(s, path, "head -3 " + path)
    look(s, path)
    out = s.shell("awk -F, '%s NR>1{n[$c]++} END{for(k in n)print k, n[k]}' %s | sort" % (HEADER_AWK % (t.kind, ""), path))
    counts = collections.Counter(r[t.kind] for r in t.rows)
    s.require(dict((line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in out.split("\n")) == counts, out)
    pairs = [Value("%s %d" % (line.rpartition(" ")[0], int(line.rpartition(" ")[2]))) for line in out.split("\n")]
    s.answer(["{in|for} $f: $p.", "the counts by $c are $p.", "by $c: $p."], f=Name(path), c=Value(t.kind), p=pairs)
    for k, n in counts.items():
        s.says("%s %d" % (k, n))


# -- JSON ---------------------------------------------------------------------------------------------------------------

def scalar(s, key):
    v = content.config_value(s, key)
    if v in ("true", "false"):
        return v == "true"
    if v.count(".") == 1 and v.replace(".", "").isdigit() and s.chance(0.6):
        return float(v)
    return int(v) if v.isdigit() else v


def json_keys(s, n):
    return s.names.words(n, lambda: content.config_key(s).replace(".", "_").replace("-", "_"))


def document(s):
    """A JSON object of at most three levels, and the paths of its scalars: [(path, value)]."""
    d = {k: scalar(s, k) for k in json_keys(s, s.number(1, 4))}
    for k in s.names.words(s.number(0, 3), lambda: content.section(s)):
        if k not in d:
            d[k] = {i: scalar(s, i) for i in json_keys(s, s.number(1, 4))}
            if s.chance(0.2):
                d[k][s.choice(["limits", "options", "extra"])] = {i: scalar(s, i) for i in json_keys(s, s.number(1, 3))}
    items = list(d.items())
    s.rng.shuffle(items)
    return dict(items)


def paths(d, before=()):
    for k, v in d.items():
        if isinstance(v, dict):
            yield from paths(v, before + (k,))
        else:
            yield before + (k,), v


def dump(s, d):
    return json.dumps(d, indent=s.choice([2, 2, 2, 4, None])) + "\n"


def json_text(v):
    return v if isinstance(v, str) else json.dumps(v)


def spoken(s, path):
    """A path as a user says it: `port of server`, `server.port`, `the port under server`."""
    last = Value(path[-1])
    if len(path) == 1:
        return last
    if s.say_rng.random() < 0.3:
        return Value(".".join(path))
    if len(path) == 2:
        return T(s.say_rng.choice(["$last_ {in|of|under|inside} {the |}$top_{ section| part|}", "$top_ $last_", "$last_ {of|for} the $top_"]),
                 last_=last, top_=Value(path[0]))
    return T("$last_ {in|of|under} $mid_ {in|of|under} $top_", last_=last, mid_=Value(path[1]), top_=Value(path[0]))


READ = ["{what is|what's|whats} the {value of |}$p in $f?", "{which|what} $p {is set|does it say|stands} in $f?", "{read|get|give me|tell me|show me} the {value of |}$p {from|in} $f",
        "{what does|what did} $f {say|have|hold} for $p?", "look up $p in $f", "$p in $f?", "what value does $p have in $f?",
        "i need the $p {from|out of} $f", "{find|check} $p in $f and tell me {its value|what it is}", "according to $f, what is the $p?",
        "in $f, what is $p {set to|}?", "open $f and {tell me|read out} the $p"]
MEMBER = ["{what is|what's} the $k of $m in $f?", "{which|what} $k does $m have in $f?", "{tell me|give me|show me} the $k {of|for} $m {from|in} $f",
          "look up the $k of $m in $f", "in $f, what is the $k of $m?", "$k of $m in $f?", "what does $f say is the $k of $m?",
          "i need $m's $k from $f", "{find|check} $m in $f and tell me the $k", "according to $f, what $k does $m have?",
          "what $k is {listed|given} for $m in $f?", "what $k does the {$one|entry|one} {called|named} $m have in $f?", "in $f there is {a $one|an entry} {called|named} $m. what is its $k?",
          "the $one $m in $f: what $k does it have?", "$f lists several $many. {tell me|what is} the $k of $m?", "{tell me|give me} the $k of the {$one|entry} {called|named} $m in $f", "in $f, what $k does {the $one |}$m have?",
          "which $k is written down for {the $one |}$m in $f?", "how much or what is the $k of $m, going by $f?"]


@skill("table.json_read", weight=0.9, needs=("awk", "python3"))
def json_read(s):
    d, path = document(s), s.fresh(s.folder(0.7), "json")
    p, v = s.choice(list(paths(d)))
    text = dump(s, d)
    absent = is_missing(s, path)
    if not absent:
        s.put(path, text)
    s.clutter(0, 3)
    s.user(READ, p=spoken(s, p), f=Name(path))
    if absent:
        return gone(s, path, "cat " + path)
    s.shell("cat " + path)
    s.answer(["$p in $f is $v.", "the $p is $v.", "it is $v.", "$p is set to $v{ in $f|}."], p=Value(p[-1]), f=Name(path), v=Value(json_text(v)))
    s.says(json_text(v))


@skill("table.json_read", weight=0.9, needs=("awk", "python3"))
def json_member(s):
    n = s.names
    key = s.choice(["name", "id", "title", "name"])
    fields = s.sample(NUMBERS + ["city", "email", "color", "phone", "status", "country"], s.number(1, 4))
    source = s.choice([n.first, n.city, n.product, n.noun, n.person]) if key != "id" else (lambda: str(s.number(100, 999)))
    members = n.words(s.number(2, 6), source)

    def field(k):
        return {"city": n.city, "country": n.city, "email": lambda: "%s@%s.example" % (n.first().lower(), n.word()), "color": n.color,
                "phone": lambda: n.digits(7), "status": n.word}.get(k, lambda: s.number(1, 9999))()
    if s.chance(0.4):  # keys beyond the usual ones
        fields = [k for k in dict.fromkeys(s.choice([n.noun, n.word])() if s.chance(0.6) else k for k in fields) if k != key]
    rows = [{key: int(m) if key == "id" else m, **{k: field(k) for k in fields}} for m in members]
    k, i = s.choice(fields), s.number(0, len(rows) - 1)
    one = n.noun() if s.chance(0.6) else s.choice(["item", "user", "member", "book", "room"])
    many_ = one if one.endswith("s") else one[:-1] + "ies" if one[-1] == "y" and one[-2] not in "aeiou" else one + "s"
    top = s.choice([many_, many_, "items", "people", "entries", "list", "data"]) if s.chance(0.65) else None
    path = s.put(s.fresh(s.folder(0.7), "json"), dump(s, {top: rows} if top else rows))
    s.clutter(0, 3)
    s.user(MEMBER, k=Value(k), m=Value(members[i]), f=Name(path), one=Value(one), many=Value(many_))
    s.shell("cat " + path)
    quoted = members[i] if key == "id" else "'%s'" % members[i]
    out = s.shell("python3 -c \"import json; d=json.load(open('%s')); print([x['%s'] for x in d%s if x['%s']==%s][0])\""
                  % (path, k, "['%s']" % top if top else "", key, quoted))
    s.require(out == json_text(rows[i][k]), out)
    s.answer(["the $k of $m is $v.", "$m has {the |}$k $v.", "it is $v."], k=Value(k), m=Value(members[i]), v=Value(out))
    s.says(out)


CHANGE = ["{set|change} {the value of |}$p {in $f |}to $v{ in $f|}", "in $f{,|} {set|change} {the |}$p to $v", "{make|let} $p $v in $f",
          "$p in $f should be $v", "{update|edit} $f so that $p is $v", "$f: set $p to $v", "{change|switch} {the |}$p in $f to $v and leave the rest {alone|as it is|untouched}",
          "i want $p {in $f |}to be $v{ in $f|}", "{give|put} {the |}$p in $f the value $v", "the $p in $f {needs to|must|should} be $v.",
          "{open|take} $f and set $p to $v, nothing else", "put $v as {the |}$p in $f", "{replace|change} the $p in $f {with|to} $v",
          "set $p = $v in $f"]


@skill("table.json_change", weight=1.6, needs=("awk", "python3"))
def json_change(s):
    d, path = document(s), s.fresh(s.folder(0.7), "json")
    p, old = s.choice(list(paths(d)))
    new = (not old) if isinstance(old, bool) else s.number(1, 9999) if isinstance(old, int) else s.number(1, 9999) / 10 if isinstance(old, float) else scalar(s, p[-1])
    if isinstance(old, str):
        new = str(new) if not isinstance(new, bool) else s.names.word()
        if new.isdigit():
            new = s.names.word()
    s.require(new != old, "no change")
    absent = is_missing(s, path)
    if not absent:
        s.put(path, dump(s, d))
    s.clutter(0, 3)
    s.user(CHANGE, p=spoken(s, p), v=Value(json_text(new)) if not isinstance(new, str) or s.chance(0.6) else Quoted(new), f=Name(path))
    if absent:
        return gone(s, path, "cat " + path)
    s.shell("cat " + path)
    s.will_change(path)
    value = repr(new)
    s.shell("python3 -c \"import json; d=json.load(open('%s')); d%s=%s; json.dump(d, open('%s', 'w'), indent=2)\""
            % (path, "".join("['%s']" % k for k in p), value, path))
    want = json.loads(json.dumps(d))
    inner = want
    for k in p[:-1]:
        inner = inner[k]
    inner[p[-1]] = new

    def check(box):
        got = json.loads(box.state()[0][path][0])
        return None if got == want else "wrong JSON"
    s.check(check)
    s.answer(["{done, |}$p {in $f |}is now $v{ in $f|}.", "{i set|i changed} $p to $v in $f.", "done: $p is $v now."],
             p=Value(p[-1]), f=Name(path), v=Value(json_text(new)))
