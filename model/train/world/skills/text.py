"""text.*: sort, unique, join, head_tail, count."""

from world import content
from world.scene import Name, T, Value, join
from world.skills import skill
from world.wording import names


def words_of(s, low, high):
    """Lines of one sort, as people keep them in lists."""
    n = s.names
    source = s.choice([n.first, n.city, n.noun, n.product, n.person, n.word, n.color, n.made_up])
    return [source() for _ in range(s.number(low, high))]


def listed_file(s, lines, ext=None):
    d = s.folder(0.7)
    f = s.fresh(d, ext or s.choice(["txt", "txt", "md", "list", "csv", "log"]))
    return s.put(f, "\n".join(lines) + "\n")


SORT = ["sort {the lines of |the lines in |}$f $how", "{put|bring} the lines {of|in} $f {in|into} $order", "can you sort $f $how?", "sort the file $f $how", "i want $f sorted $how.", "$f should be sorted $how.", "order the lines of $f $how",
        "arrange {the lines of |}$f $how", "the lines in $f should be in $order.", "sort $f in place, $how", "please get $f into $order", "i need the lines of $f in $order.", "reorder $f so that {the lines are|it is} in $order", "$f is unsorted, {sort|order} it $how"]
SORT_TO = ["sort {the lines of |}$f $how {and save {the result|it|that} {as|to|in}|into|and write {the result|it} to} $g", "write the lines of $f {in $order|sorted $how} {to|into} $g", "{make|create} $g with the lines of $f {in $order|sorted $how}",
           "save a sorted copy of $f{ $how|, $how,} {as|to} $g", "i need a file $g with the lines of $f in $order.", "take $f, sort {it|its lines} $how{,| and} {put|save} the result in $g", "$g should hold the lines of $f in $order.",
           "sort $f $how but {leave|keep} $f as it is, the result goes to $g", "put the lines of $f into $g, sorted $how", "sort $f $how, output to $g"]
HOW = {"": ["alphabetically", "by letter", "from a to z", "by alphabet", "in alphabetical order", "a to z", "alphabetically please", "in abc order"],
       "-r": ["in reverse alphabetical order", "from z to a", "alphabetically, {backwards|in reverse|descending}", "z to a", "in reverse alphabetical order"],
       "-n": ["by number", "numerically", "from small to large", "from the {smallest|lowest} to the {largest|highest} number", "in ascending numerical order", "by number, {smallest|lowest} first", "with the smallest number first"],
       "-rn": ["by number, {largest|highest|biggest} first", "from large to small", "from the {largest|highest} to the {smallest|lowest} number", "numerically in descending order", "by number, descending", "with the {largest|highest} number first"]}
ORDER = {"": ["alphabetical order", "order from a to z", "abc order"], "-r": ["reverse alphabetical order", "order from z to a"],
         "-n": ["numerical order", "order of number", "ascending numerical order", "order from small to large"], "-rn": ["descending numerical order", "order from large to small"]}
SORTED = ["$g is sorted.", "sorted $f.", "the lines of $f are sorted now.", "i sorted $f."]
SORTED_TO = ["the sorted lines are in $g.", "sorted $f into $g.", "$g has the sorted lines of $f.", "i wrote the sorted lines to $g."]


@skill("text.sort", weight=1.2)
def sort(s):
    flags = s.choice(["", "", "-r", "-n", "-rn"])
    if "n" in flags:
        values = s.sample(range(1, s.choice([60, 500, 10000])), s.number(3, 14))
        x = s.rng.random()
        lines = ["%d" % v for v in values] if x < 0.5 else ["%d %s" % (v, s.names.noun()) for v in values] if x < 0.85 else \
            ["%.2f" % (v / 100) for v in values]
        key = (lambda t: float(t.split()[0]))
    else:
        lines = words_of(s, 3, 15) if s.chance(0.85) else content.lines(s, 3, 9)
        key = str.encode
        s.require(len({t[0].isupper() for t in lines}) == 1, "capitals and small letters")
    f = listed_file(s, lines)
    want = sorted(lines, key=key, reverse="r" in flags)
    s.clutter(0, 3, 1)
    how, order = s.say_rng.choice(HOW[flags]), s.say_rng.choice(ORDER[flags])
    if s.chance(0.5):
        s.user(SORT, f=Name(f), how=how, order=order)
        g = f
    else:
        g = s.fresh(f.rpartition("/")[0] if s.chance(0.6) else s.folder(1), f.rpartition(".")[2])
        if s.chance(0.3):
            stem, _, ext = f.rpartition(".")
            g = "%s%s.%s" % (stem, s.choice(["_sorted", "-sorted", ".sorted"]), ext)
        s.user(SORT_TO, f=Name(f), g=Name(g), how=how, order=order)
    s.will_write(g, "\n".join(want) + "\n")
    out = s.shell("sort %s-o %s %s" % (flags + " " if flags else "", g, f))
    s.require(out == "[no output]", out)
    s.answer(SORTED if g == f else SORTED_TO, f=Name(f), g=Name(g))


UNIQUE = ["{remove|drop|delete} {the |all |}{duplicate|repeated|double} lines {from|in} $f$order", "$f has {duplicate|repeated|double} lines, {remove|drop} them$order", "every line {of|in} $f should {appear|stand|be there} only once$order.", "make the lines of $f unique$order",
          "get rid of the {duplicates|repeated lines|doubles} in $f$order", "keep each line of $f only once$order", "dedupe $f$order", "clean up $f so that no line {appears|is there} twice$order", "take out the lines in $f that appear more than once, keep one of each$order",
          "remove duplicates {from|in} $f$order", "i want no {repeated|duplicate} lines in $f$order.", "throw out the repeated lines of $f$order"]
UNIQUE_TO = ["write {the lines of |}$f without {duplicates|repeated lines|the duplicate lines} to $g$order", "save {the |}{unique|different|distinct} lines of $f {in|to|as} $g$order", "make $g with every line of $f only once$order", "create $g from $f without the {repeated|duplicate} lines$order",
             "i need $g to have each line of $f once$order.", "copy $f to $g but {leave out|without} the repeated lines$order", "remove the duplicate lines of $f and put the result in $g$order", "put the lines of $f into $g, each only once$order"]
UNIQUE_COUNT = ["how many different lines {are there in|are in} $f?", "how many different lines does $f have?", "how many {unique|distinct} lines {are in|are there in} $f?", "count the {unique|different|distinct} lines {of|in} $f", "how many lines of $f are different?", "number of {unique|different|distinct} lines in $f?",
                "if you count repeated lines {only |just |}once, how many lines are in $f?", "{tell me|say} how many different lines $f has", "not counting duplicates, how many lines does $f have?", "how many different entries are in $f?", "without repeats, how many lines has $f?"]
KEEP = ["", "", "{, keep|, but keep|, keeping} the order", ", {the order must stay|leave the order as it is|in the order they are}", ", {keep|keeping} the first of each"]
SORT_TOO = [" and sort {them|it|the rest}", ", sorted {alphabetically|from a to z}", ", and sort the result", ", in alphabetical order"]


def repeated(s):
    pool = words_of(s, 2, 8) if s.chance(0.8) else content.lines(s, 2, 6)
    pool = list(dict.fromkeys(pool))
    lines = pool + [s.choice(pool) for _ in range(s.number(1, 8))]
    s.rng.shuffle(lines)
    return lines


@skill("text.unique", weight=1.0, needs=("awk",))
def unique(s):
    lines = repeated(s)
    f = listed_file(s, lines)
    s.clutter(0, 3, 1)
    sort_too = s.chance(0.3)
    if sort_too:
        s.require(len({t[0].isupper() for t in lines}) == 1, "capitals and small letters")
    order = T(s.say_rng.choice(SORT_TOO if sort_too else KEEP))
    want = list(dict.fromkeys(lines))
    if sort_too:
        want = sorted(set(lines), key=str.encode)
    if s.chance(0.55):
        s.user(UNIQUE, f=Name(f), order=order)
        g = f
        command = "sort -u -o %s %s" % (f, f) if sort_too else "out=$(awk '!seen[$0]++' %s) && echo \"$out\" > %s" % (f, f)
    else:
        g = s.fresh(f.rpartition("/")[0] if s.chance(0.6) else s.folder(1), f.rpartition(".")[2])
        s.user(UNIQUE_TO, f=Name(f), g=Name(g), order=order)
        command = "sort -u -o %s %s" % (g, f) if sort_too else "out=$(awk '!seen[$0]++' %s) && echo \"$out\" > %s" % (f, g)
    s.will_write(g, "\n".join(want) + "\n")
    out = s.shell(command)
    s.require(out == "[no output]", out)
    if g == f:
        s.answer(["$f has every line only once now.", "the repeated lines are gone from $f.", "i removed the repeated lines from $f."], f=Name(f))
    else:
        s.answer(["$g has every line of $f once.", "the lines without repeats are in $g.", "i wrote each line of $f once to $g."], f=Name(f), g=Name(g))


@skill("text.unique", weight=0.6)
def unique_count(s):
    lines = repeated(s)
    f = listed_file(s, lines)
    s.clutter(0, 3, 1)
    s.user(UNIQUE_COUNT, f=Name(f))
    n = s.shell("sort -u %s | wc -l" % f)
    s.require(n == str(len(set(lines))), n)
    s.answer(["$n different lines.", "$f has $n different lines.", "there are $n different lines in $f.", "$n."], n=Value(n), f=Name(f))
    s.says(n)


JOIN = ["join {the files |}$fs {into|to} $g", "{combine|merge} {the files |}$fs {into|in} {one file |a file |}{called |}$g", "put {the files |}$fs together {in|into} {one file |}$g{, in that order|}", "concatenate {the files |}$fs {into|to} $g", "make {one file |a file |}$g {out of|from} $fs{, in this order|}",
        "write {the contents of |}$fs {one after the other|one after another|in this order} {to|into} $g", "$g should hold {the contents of |}$fs, {in this order|one after the other}.", "{append|glue} $fs together {as|into} $g", "i need one file $g with the text of $fs, in that order.",
        "create $g by joining $fs", "stick $fs together, in that order, and save {it|the result} as $g", "take $fs and make one file {called |named |}$g out of them", "cat $fs into $g", "join $fs in this order, the result should be called $g",
        "merge $fs{, in this order,| in this order|} into $g", "{glue|paste|string} $fs together {in this order |in that order |}{as|into} $g", "build $g {from|out of} $fs", "$fs should become one file $g.", "{one|a single} file $g with everything from $fs{, please|}.",
        "i want $fs in one file {called|named} $g.", "write $fs into $g, one {after another|after the other|behind the other}", "let $g be $fs in this order", "copy $fs one after the other into $g", "put everything from $fs into $g in that order", "{collect|gather} the text of $fs in $g, in the order given",
        "$g is to be made of $fs, in that order."]
JOIN_FIRST = ["join {the files |}$a and $b into $g, $b {first|comes first}", "make $g: first $a, then $b", "put $a and then $b into $g", "write $a followed by $b {to|into} $g", "$g should be $a followed by $b.", "create $g from $a with $b {after it|at the end}", "{combine|merge} $a and $b in $g, with $a {first|on top}",
              "make a file $g that begins with $a and ends with $b"]


def series(s, d, ext, n):
    """Files whose names differ in a number or letter only; mostly in their order."""
    base = s.choice([s.names.word(), s.names.word(), s.choice(["part", "chapter", "page", "day", "week", "log", "notes", "file", "step", "volume"])]) + s.choice(["", "", "-", "_", ".", "-v"])
    first = s.choice([0, 1, 1, 1, 1, s.number(2, 30)])
    marks = [chr(97 + i) for i in range(n)] if s.chance(0.25) else ["%0*d" % (s.choice([1, 1, 2]), first + i) for i in range(n)]
    if s.chance(0.3):
        s.rng.shuffle(marks)
    paths = [join(d, base + mark + "." + ext) for mark in marks]
    s.require(len(set(paths)) == n and not any(p in s.files for p in paths), "taken")
    return [s.put(p, content.text(s, 1, 5)) for p in paths]


@skill("text.join", weight=1.4)
def join_files(s):
    d = s.folder(0.7)
    n = s.choice([2, 2, 3, 3, 4])
    ext = s.choice(["txt", "txt", "md", "csv", "log", None])
    fs = series(s, d, ext or "txt", n) if s.chance(0.35) else [s.file(d, ext, text=content.text(s, 1, 5)) for _ in range(n)]
    g = s.fresh(d if s.chance(0.7) else "", ext)
    s.clutter(0, 3, 1)
    if n == 2 and s.say_rng.random() < 0.4:
        template = s.pick(JOIN_FIRST)
        if "$b {first" in template:
            s.user(template, a=Name(fs[1]), b=Name(fs[0]), g=Name(g))
        else:
            s.user(template, a=Name(fs[0]), b=Name(fs[1]), g=Name(g))
    else:
        s.user(JOIN, fs=names(fs), g=Name(g))
    s.will_write(g, "".join(s.text(f) for f in fs))
    listed = " ".join(fs)
    out = s.shell("ls %s && cat %s > %s" % (listed, listed, g))
    s.require(out.split("\n") == sorted(fs, key=str.encode), out)
    s.answer(["$g has the text of $fs.", "joined $fs into $g.", "i joined $fs in $g.", "$g holds $fs now."], g=Name(g), fs=names(fs))


FIRST = ["{show|give|read} me the first $n lines of $f", "what are the first $n lines {of|in} $f?", "first $n lines of $f?", "print the {first|top} $n lines of $f", "how does $f {begin|start}? {show |give me |}the first $n lines{ are enough|}.", "show the {first|top} $n lines of $f",
         "what do the first $n lines of $f say?", "i want to see the first $n lines of $f.", "read the first $n lines of $f", "what is in the first $n lines of $f?", "{display|quote} the {first|top} $n lines {of|from} $f", "the $n lines at the top of $f, what are they?", "head of $f, $n lines",
         "tell me what the first $n lines of $f are"]
LAST = ["{show|give|read} me the last $n lines of $f", "what are the last $n lines {of|in} $f?", "last $n lines of $f?", "print the {last|final|bottom} $n lines of $f", "how does $f end? {show |give me |}the last $n lines{ are enough|}.", "show the {last|final} $n lines of $f", "what do the last $n lines of $f say?",
        "i want to see the last $n lines of $f.", "read the last $n lines of $f", "what is in the last $n lines of $f?", "{display|quote} the {last|final} $n lines {of|from} $f", "the $n lines at the end of $f, what are they?", "tail of $f, $n lines", "tell me what the last $n lines of $f are"]
ONE = {"head": ["what is the first line {of|in} $f?", "show me the first line of $f", "what does the first line of $f say?", "first line of $f?", "read {me |}the {first|top} line of $f", "how does $f {start|begin}? just the first line.", "give me {just |only |}the first line of $f"],
       "tail": ["what is the last line {of|in} $f?", "show me the last line of $f", "what does the last line of $f say?", "last line of $f?", "read {me |}the {last|final} line of $f", "how does $f end? just the last line.", "give me {just |only |}the last line of $f"]}
SAVE = ["{save|write|put} the $which $n lines of $f {to|in|into} $g", "copy the $which $n lines of $f {to|into} $g", "make {a file |}$g with the $which $n lines of $f", "create $g from the $which $n lines of $f", "i need the $which $n lines of $f in {a file |}$g.",
        "take the $which $n lines of $f and save them {as|to|in} $g", "$g should have the $which $n lines of $f.", "extract the $which $n lines of $f {to|into} $g", "store the $which $n lines {of|from} $f in {a new file |}$g", "cut the $which $n lines out into $g, from $f, but leave $f as it is"]


@skill("text.head_tail", weight=1.0)
def head_tail(s):
    top = s.chance(0.5)
    save = s.chance(0.35)
    lines = content.lines(s, 3, 14)
    if s.chance(0.25):
        lines += [content.line(s) for _ in range(s.number(10, 80))]
    if s.chance(0.3):
        lines = content.level_log(s, len(lines))
    n = 1 if not save and s.chance(0.2) else s.number(2, min(9, len(lines)))
    f = listed_file(s, lines)
    s.clutter(0, 3, 1)
    tool = "head" if top else "tail"
    shown = Value(n if s.say_rng.random() < 0.5 else ["", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][n])
    want = lines[:n] if top else lines[-n:]
    if save:
        g = s.fresh(f.rpartition("/")[0] if s.chance(0.5) else "", f.rpartition(".")[2])
        s.user(SAVE, f=Name(f), g=Name(g), n=shown, which="first" if top else "last")
        s.will_write(g, "\n".join(want) + "\n")
        out = s.shell("ls %s && %s -n %d %s > %s" % (f, tool, n, f, g))
        s.require(out == f, out)
        s.answer(["the $w $n lines of $f are in $g.", "$g has the $w $n lines of $f.", "i saved the $w $n lines to $g."], f=Name(f), g=Name(g), n=Value(n), w="first" if top else "last")
    else:
        s.user(ONE[tool] if n == 1 else FIRST if top else LAST, f=Name(f), n=shown)
        out = s.shell("%s -n %d %s" % (tool, n, f))
        s.require(out.split("\n") == want, out)
        s.answer("$t", t=Value(out))


COUNT_LINES = ["how many lines {are in|are there in} $f?", "how many lines does $f {have|contain}?", "count the lines {of|in} $f", "number of lines in $f?", "what's the {number of lines|line count} {of|in} $f?", "how long is $f{,|} in lines?", "{tell me|say} how many lines {are in $f|$f has}", "line count of $f?",
               "i need the number of lines in $f.", "$f has how many lines?", "lines in $f?", "find out how many lines {are in $f|$f has}", "give me the line count {of|for} $f", "how many lines is $f?", "count how many lines there are in $f", "what is the total number of lines in $f?"]
COUNT_WORDS = ["how many words {are in|are there in} $f?", "how many words does $f {have|contain}?", "count the words {of|in} $f", "number of words in $f?", "what's the {number of words|word count} {of|in} $f?", "how long is $f{,|} in words?", "{tell me|say} how many words {are in $f|$f has}", "word count of $f?", "i need the number of words in $f.",
               "$f has how many words?", "words in $f?", "find out how many words {are in $f|$f has}", "give me the word count {of|for} $f", "count how many words there are in $f", "what is the total number of words in $f?"]


@skill("text.count", weight=1.0)
def count(s):
    words = s.chance(0.4)
    lines = content.lines(s, 1, 12) if s.chance(0.7) else content.level_log(s, s.number(5, 120))
    d = s.folder(0.65)
    f = s.fresh(d, s.choice(["txt", "txt", "md", "log", "csv", None]))
    text = "\n".join(lines) + ("\n" if s.chance(0.92) else "")
    if s.chance(0.1):
        text = text.replace("\n", "\n\n", s.number(1, 3))
    s.put(f, text)
    if s.chance(0.5):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    s.user(COUNT_WORDS if words else COUNT_LINES, f=Name(f))
    n = s.shell("wc -w < %s" % f if words else "grep -c '' %s" % f)
    s.require(n == str(len(text.split()) if words else len(text.rstrip("\n").split("\n")) if not text.endswith("\n\n") else text.count("\n")), n)
    what = ("word" if words else "line") + ("" if n == "1" else "s")
    s.answer(["$f has $n $what.", "$n $what.", "there are $n $what in $f.", "$n."] if n != "1" else ["$f has $n $what.", "$n $what."], n=Value(n), f=Name(f), what=what)
    s.says(n)
