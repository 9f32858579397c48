"""chat.*: two or three requests that build on each other.

A first request settles on one file (`it`) or on several (`them`); the next ones refer back.
"""

from world import content
from world.scene import Name, Quoted, Tail, Value, join, many
from world.skills import files_change, files_look, skill, text
from world.skills.files_change import base
from world.wording import kind, names, quote

IT = "{it|it|it|that file|this file|the file|that one}"
ITS = "{its|its|that file's|the file's}"


def now(s, path):
    """What a file holds at this point of the conversation."""
    s._start()
    return s._want[path][0].decode()


# -- first requests about one file: each returns the file's path ---------------------------------------------------------


def plain_file(s, d, ext=None, low=3, high=12):
    f = s.fresh(d, ext or s.choice(["txt", "txt", "md", "csv", "log", "list"]))
    return s.put(f, "\n".join(content.lines(s, low, high)) + "\n")


def first_largest(s):
    d = s.folder(0.5)
    big = s.chance(0.65)
    sizes = s.sample(range(2, 14), s.number(2, 6))
    paths = [plain_file(s, d, low=k, high=k) for k in sizes]
    lengths = [len(s.files[p][0]) for p in paths]
    s.require(len(set(lengths)) == len(lengths), "same size")
    s.user(files_look.LARGEST, most=files_look.BIG if big else files_look.SMALL, **{"in": s.place(d)})
    out = s.shell("ls -Sp%s | grep -v / | %s -1" % (" " + d if d else "", "head" if big else "tail"))
    f = (max if big else min)(paths, key=lambda p: len(s.files[p][0]))
    s.require(out == base(f), out)
    s.answer(["the %s file is $f." % ("largest" if big else "smallest"), "$f.", "it is $f."], f=Name(out))
    return f


def first_newest(s):
    d = s.folder(0.5)
    new = s.chance(0.65)
    paths = [plain_file(s, d) for _ in range(s.number(2, 6))]
    for p, t in zip(paths, s.sample(range(2_000_000), len(paths))):
        s.files[p][2] = 1_600_000_000 + 60 * t
    s.user(files_look.LARGEST + (files_look.NEWEST_MORE if new else files_look.OLDEST_MORE), most=files_look.NEW if new else files_look.OLD, **{"in": s.place(d)})
    out = s.shell("ls -tp%s | grep -v / | %s -1" % (" " + d if d else "", "head" if new else "tail"))
    f = (max if new else min)(paths, key=lambda p: s.files[p][2])
    s.require(out == base(f), out)
    s.answer(["$f.", "it is $f.", "the %s file is $f." % ("newest" if new else "oldest")], f=Name(out))
    return f


def first_find(s):
    places = files_look.tree(s)
    f = plain_file(s, s.choice(places[1:]))
    s.clutter(1, 4, 1)
    if s.chance(0.4):
        s.lookalike(f)
    s.user(files_look.FIND_NAME, f=Name(base(f)))
    out = s.shell("find . -name '%s' -printf '%%P\\n' | sort" % base(f))
    s.require(out == f, out)
    s.answer(["it is $f.", "$f.", "{i found it|it is} at $f.", "the path is $f."], f=Name(f))
    return f


def first_search(s):
    w = s.names.made_up(3, 4) if s.chance(0.3) else files_look.any_word(s)
    places = [s.choice(["", "", s.names.folder()]) for _ in range(s.number(2, 5))]
    paths = [s.fresh(p, s.choice(["txt", "md", "txt", "log"])) for p in places]
    s.require(not any(w.lower() in p.lower() for p in paths), "in a name")
    files_look.planted(s, w, paths[:1], paths[1:])
    s.user(files_look.SEARCH, w=files_look.shown_word(s, w))
    out = s.shell("grep -rl%sw '%s' * | sort" % (files_look.grep_case(w), w))
    s.require(out == paths[0], out)
    s.answer(["only $f.", "$f.", "it is in $f.", "$f contains it."], f=Name(out))
    return out


def first_create(s):
    f = s.fresh(s.folder(0.65), s.choice(["txt", "txt", "md", "list"]))
    lines = [content.line(s) for _ in range(s.choice([1, 1, 2, 3]))]
    s.clutter(0, 3, 1)
    if len(lines) == 1:
        s.user(files_change.CREATE, f=Name(f), q=Quoted(lines[0]))
    else:
        qs = [Quoted(t) for t in lines]
        s.user(files_change.CREATE_LINES, f=Name(f), qs=qs, n=Value(len(lines)), first=qs[0], rest=qs[1:])
    s.will_write(f, "\n".join(lines) + "\n")
    s.write(f, "\n".join(lines) + "\n")
    s.answer(files_change.CREATED, f=Name(f))
    return f


def first_copy(s):
    f = plain_file(s, s.folder(0.65))
    g = s.fresh(f.rpartition("/")[0], f.rpartition(".")[2])
    s.clutter(0, 3, 1)
    if s.chance(0.5):
        s.user(files_change.COPY, a=Name(f), b=Name(g))
        s.will_copy(f, g)
        s.shell("cp %s %s" % (f, g))
        s.answer(["copied $a to $b.", "i copied $a to $b.", "$b is a copy of $a now."], a=Name(f), b=Name(g))
    else:
        s.user(files_change.RENAME, a=Name(f), b=Name(g))
        s.will_move(f, g)
        s.shell("mv %s %s" % (f, g))
        s.answer(["$a is {now called|now} $b.", "renamed $a to $b.", "i renamed $a to $b."], a=Name(f), b=Name(g))
    return g


def first_count(s):
    f = plain_file(s, s.folder(0.65))
    s.clutter(0, 3, 1)
    x = s.number(0, 3)
    if x == 0:
        s.user(text.COUNT_LINES, f=Name(f))
        n = s.shell("grep -c '' " + f)
        s.answer(["$f has $n.", "$n.", "there are $n in $f."], f=Name(f), n=many(int(n), "line"))
    elif x == 1:
        s.user(files_look.SIZE, f=Name(f))
        n = s.shell("stat -c %s " + f)
        s.answer(["$f is $n bytes.", "$n bytes.", "it has $n bytes."], f=Name(f), n=Value(n))
    elif x == 2:
        s.user(text.COUNT_WORDS, f=Name(f))
        n = s.shell("wc -w < " + f)
        s.answer(["$f has $n.", "$n.", "there are $n in $f."], f=Name(f), n=many(int(n), "word"))
    else:
        top = s.chance(0.5)
        s.user(text.ONE["head" if top else "tail"], f=Name(f))
        out = s.shell("%s -n 1 %s" % ("head" if top else "tail", f))
        s.answer("$t", t=Value(out))
    return f


FIRST_ONE = [first_largest, first_newest, first_find, first_search, first_create, first_copy, first_count]

# -- further questions about `it` ---------------------------------------------------------------------------------------

LINES = ["how many lines does $it have?", "{and |}how many lines {are|are there} in $it?", "how long is $it, in lines?", "count {$its|the} lines{ too|}", "number of lines?", "and the number of lines?", "how many lines?", "tell me how many lines $it has", "how many lines are {there|that}?"]
WORDS = ["how many words does $it have?", "{and |}how many words {are|are there} in $it?", "count {$its|the} words{ too|}", "and the word count?", "how many words?", "tell me how many words $it has", "what is {$its|the} word count?"]
SIZE = ["how big is $it?", "how many bytes {is|has} $it?", "{and |}what is $its size{ in bytes|}?", "how large is $it in bytes?", "and the size{ in bytes|}?", "what size is $it?", "tell me $its size in bytes", "how many bytes is that?"]
HEAD = ["what is $its first line?", "how does $it {begin|start}? {show me |give me |}the first line.", "{and |}the first line?", "show me $its first line", "what does the first line {say|of $it say}?", "read me the first line of $it"]
TAIL = ["what is $its last line?", "how does $it end? {show me |give me |}the last line.", "{and |}the last line?", "show me $its last line", "what does the last line {say|of $it say}?", "read me the last line of $it"]
SAYS = ["what does $it say?", "what is in $it?", "show me what $it {says|holds|contains}", "read $it to me", "{and |}what does $it contain?", "open $it and tell me what it says", "what is written in $it?", "can you show me {the text|what is in it}?"]
HAS = ["does $it {mention|contain} {the word |}$w?", "is {the word |}$w in $it?", "in which line {of $it |}is {the word |}$w?", "which line {of $it |}{has|contains|mentions} {the word |}$w?", "{on|in} what line does $it {mention|say} $w?", "where in $it is {the word |}$w{, which line|}?"]
SUM = ["what is $its {md5 sum|md5|md5 checksum}?", "give me the md5 {sum|checksum} of $it", "{and |}the md5 sum{ of it|}?", "compute the md5 {sum|checksum} of $it"]


def ask(s, f):
    """One more question on f."""
    body = now(s, f)
    lines = body.rstrip("\n").split("\n")
    x = s.rng.random()
    slots = dict(it=IT, its=ITS, f=Name(base(f)))
    if x < 0.24:
        s.user(LINES, plain=True, **slots)
        n = s.shell("grep -c '' " + f)
        s.require(n == str(len(lines)), n)
        s.answer(["it has $n.", "$n.", "$f has $n."], n=many(int(n), "line"), f=slots["f"])
        s.says(n)
    elif x < 0.38:
        s.user(WORDS, plain=True, **slots)
        n = s.shell("wc -w < " + f)
        s.require(n == str(len(body.split())), n)
        s.answer(["it has $n.", "$n.", "$f has $n."], n=many(int(n), "word"), f=slots["f"])
        s.says(n)
    elif x < 0.55:
        s.user(SIZE, plain=True, **slots)
        n = s.shell("stat -c %s " + f)
        s.require(n == str(len(body)), n)
        s.answer(["it is $n bytes.", "$n bytes.", "$f is $n bytes."], n=Value(n), f=slots["f"])
        s.says(n)
    elif x < 0.73:
        top = s.chance(0.5)
        s.user(HEAD if top else TAIL, plain=True, **slots)
        out = s.shell("%s -n 1 %s" % ("head" if top else "tail", f))
        s.require(out == lines[0 if top else -1], out)
        s.answer("$t", t=Value(out))
    elif x < 0.83:
        s.user(SAYS, plain=True, **slots)
        s.require(len(lines) <= 12, "a long file")
        out = s.read(f)
        s.answer("$t", t=Value(out))
    elif x < 0.95:
        at = s.number(0, len(lines) - 1)
        words = [w.strip(".,:") for w in lines[at].split()]
        w = s.choice(words)
        s.require(w.isalpha() and len(w) > 2, "no word")
        s.user(HAS, plain=True, w=files_look.shown_word(s, w), **slots)
        out = s.shell("grep -n%sw '%s' %s" % (files_look.grep_case(w), w, f))
        s.require("\n" not in out and out.startswith("%d:" % (at + 1)), "several lines")
        s.answer(["yes, {it is |}in line $n.", "line $n.", "it is in line $n."] if s.messages[-3]["text"].lower().startswith(("does", "is")) else ["line $n.", "it is {in|on} line $n.", "{in|on} line $n."], n=Value(at + 1))
        s.says(at + 1)
    else:
        s.user(SUM, plain=True, **slots)
        out = s.shell("md5sum " + f)
        s.answer(["the md5 sum is $m.", "$m.", "md5: $m."], m=Value(out.split()[0]))


# -- acts on `it`: each returns the file that `it` is afterwards, or None when there is none -------------------------------

COPY = ["copy $it to $b", "make a copy of $it {called|named|as} $b", "{and |}copy $it as $b", "save a copy of $it as $b", "i need a copy of $it {called|named} $b.", "duplicate $it as $b", "back $it up as $b", "now copy $it to $b"]
COPY_INTO = ["copy $it {into|to} {the folder |}$d", "put a copy of $it {into|in} {the folder |}$d", "now copy $it {into|to} {the folder |}$d", "{and |}make a copy of $it in {the folder |}$d", "save a copy of $it in {the folder |}$d"]
RENAME = ["rename $it to $b", "call $it $b", "{and |}change $its name to $b", "give $it the name $b", "now rename $it to $b", "$it should be called $b.", "i want $it to be called $b."]
MOVE = ["move $it {into|to} {the folder |}$d", "put $it {into|in} {the folder |}$d", "now move $it {into|to} {the folder |}$d", "$it belongs in {the folder |}$d, move it there", "$it should be in {the folder |}$d."]
DELETE = ["delete $it", "remove $it", "{ok, |good, |}{delete|remove} $it", "get rid of $it", "i don't need $it anymore, {delete|remove} it", "throw $it away", "now {delete|remove} $it", "$it can go."]
APPEND = ["add {the line |a line |}$q to {the end of |}$it", "append $q to $it", "put $q at the end of $it", "{and |now |}add {the line |}$q", "write $q at the end of $it", "add one more line to $it: $q", "$it needs one more line: $q."]
SORT = ["sort {$its lines|it|the lines} $how", "now sort {it|its lines} $how", "put $its lines in alphabetical order", "bring the lines {into|in} alphabetical order"]
REPLACE = ["replace $a {with|by} $b in $it", "now change $a to $b in $it", "change {every |}$a to $b {there|in $it}", "in $it, $a should be $b."]


def act(s, f):
    """Something done with f; returns the file that the conversation is about then."""
    body = now(s, f)
    d = f.rpartition("/")[0]
    ext = f.rpartition(".")[2]
    slots = dict(it=IT, its=ITS, f=Name(base(f)))
    x = s.rng.random()
    if x < 0.2:
        g = s.fresh(d if s.chance(0.8) else "", ext)
        full = d == "" or not g.startswith(d + "/") or s.chance(0.6)
        s.require(full or g.startswith(d + "/"), "where to")
        s.user(COPY, plain=True, b=Name(g if full else base(g)), **slots)
        if not full:
            g = join(d, base(g))
        s.will_copy(f, g)
        s.shell("cp %s %s" % (f, g))
        s.answer(["copied $f to $b.", "$b is a copy of $f now.", "i copied $f to $b."], b=Name(g), f=slots["f"])
        return f
    if x < 0.4:
        g = join(d, s.fresh("", ext if s.chance(0.85) else None))
        full = s.chance(0.5)
        s.user(RENAME, plain=True, b=Name(g if full else base(g)), **slots)
        s.will_move(f, g)
        s.shell("mv %s %s" % (f, g))
        s.answer(["$f is {now called|now} $b.", "renamed $f to $b.", "i renamed $f to $b."], b=Name(base(g)), f=slots["f"])
        return g
    if x < 0.6:
        to = s.fresh_folder() if s.chance(0.6) or not s.dirs - {d} else s.choice(sorted(s.dirs - {d}))
        g = join(to, base(f))
        s.require(g not in s._want and "." not in to, "taken")
        tool = s.choice(["cp", "mv"])
        s.user(COPY_INTO if tool == "cp" else MOVE, plain=True, d=s.dir_name(to), **slots)
        (s.will_copy if tool == "cp" else s.will_move)(f, g)
        out = s.shell("ls %s && mkdir -p %s && %s %s %s/" % (f, to, tool, f, to))
        s.require(out == f, out)
        if tool == "cp":
            s.answer(["copied $f to $d.", "there is a copy of $f in $d now.", "i copied $f {into|to} $d."], d=Name(to), f=slots["f"])
            return f
        s.answer(["$f is in $d now.", "moved $f to $d.", "i moved $f {into|to} $d."], d=Name(to), f=slots["f"])
        return g
    if x < 0.72:
        s.user(DELETE, plain=True, **slots)
        s.will_remove(f)
        s.shell("rm " + f)
        s.answer(["deleted $f.", "$f is gone.", "i deleted $f."], f=slots["f"])
        return None
    if x < 0.88:
        line = content.line(s)
        s.user(APPEND, plain=True, q=Quoted(line), **slots)
        s.will_write(f, body + line + "\n")
        s.shell("sed -i '$a\\' %s && echo %s >> %s" % (f, quote(s, line), f))
        s.answer(["i added the line to $f.", "added{ it|} to $f.", "$f has the new line."], f=slots["f"])
        return f
    lines = body.rstrip("\n").split("\n")
    s.require(len(lines) > 1, "one line")
    if x < 0.94:
        s.user(SORT, plain=True, how="{alphabetically|from a to z|by alphabet}", **slots)
        s.will_write(f, "\n".join(sorted(lines, key=str.encode)) + "\n")
        s.shell("sort -o %s %s" % (f, f))
        s.answer(["$f is sorted.", "sorted $f.", "the lines of $f are sorted now."], f=slots["f"])
        return f
    a = s.choice([w for w in body.split() if w.isalpha() and len(w) > 3] or ["the"])
    b = s.names.word()
    s.require(b not in body and body.count(a), "no word")
    s.user(REPLACE, plain=True, a=Name(a), b=Name(b), **slots)
    s.will_write(f, body.replace(a, b))
    s.call("edit_file", path=f, old=a, new=b, all=True)
    s.answer(["replaced $a with $b in $f.", "$a is {now $b|replaced by $b} in $f."], a=Name(a), b=Name(b), f=slots["f"])
    return f


@skill("chat.ask_more", weight=1.0)
def ask_more(s):
    f = s.choice(FIRST_ONE)(s)
    if s.chance(0.2):
        f = act(s, f)
        s.require(f, "nothing to ask about")
    elif s.chance(0.15):
        ask(s, f)
    ask(s, f)


@skill("chat.act_on", weight=0.8)
def act_on(s):
    f = s.choice(FIRST_ONE)(s)
    x = s.rng.random()
    if x < 0.15:
        ask(s, f)
        act(s, f)
    elif x < 0.35:
        f = act(s, f)
        s.require(f, "nothing left")
        act(s, f)
    else:
        act(s, f)


# -- several files ------------------------------------------------------------------------------------------------------

THEM = "{them|them|these|those|these files|those files}"
LIST_THEM = ["which ones?", "what are they called?", "list $them", "what are their names?", "name $them", "which are they?", "show me their names", "{and |}which ones are {they|there}?", "tell me their names"]
HOW_MANY = ["how many are {there|that|they}?", "how many is that?", "count them", "{and |}how many are there?", "how many {files |}are those?", "what is the number of {them|these files}?", "so how many is that in total?"]
LARGEST_OF = ["which {one |}of them is the $most?", "which {one |of them |of these }is the $most?", "{and |}the $most{ one|} of them?", "what is the $most of {them|these}?", "tell me the $most one"]
MOVE_THEM = ["move $them {into|to} {the folder |}$d", "put $them {into|in} {the folder |a folder |}$d", "move all of them {into|to} {the folder |}$d", "{ok, |good, |now |}move $them to {the folder |}$d", "they should {all |}be in {the folder |}$d."]
COPY_THEM = ["copy $them {into|to} {the folder |}$d", "put copies of $them {into|in} {the folder |}$d", "copy all of them {into|to} {the folder |}$d", "{ok, |good, |now |}copy $them to {the folder |}$d", "back $them up {into|to} {the folder |}$d"]
DELETE_THEM = ["delete $them", "remove $them", "delete all of them", "{ok, |good, |now |}{delete|remove} $them", "get rid of $them", "they can {all |}go.", "i don't need $them anymore, delete them"]


def group_kind(s):
    """Files of one kind in one folder, listed or counted: (glob, paths, was it a count)."""
    src, ext, mine = files_change.of_kind(s)
    counted = s.chance(0.5)
    place = s.place(src)
    if counted:
        s.user(files_look.COUNT_KIND, kind=kind(s, ext), **{"in": place})
        n = s.shell("find %s -maxdepth 1 -type f -name '*.%s' | wc -l" % (src or ".", ext))
        s.require(n == str(len(mine)), n)
        files_look.count_answer(s, len(mine), ".%s file" % ext)
    else:
        s.user(files_look.LIST_KIND, kind=kind(s, ext), **{"in": place})
        out = s.shell("ls -p%s | grep '\\.%s$'" % (" " + src if src else "", ext))
        s.require(sorted(out.split("\n")) == sorted(base(p) for p in mine), out)
        files_look.listed(s, out.split("\n"), ".%s files" % ext)
    return src, ext, mine, counted


@skill("chat.ask_more", weight=0.6)
def ask_group(s):
    src, ext, mine, counted = group_kind(s)
    lengths = [len(s.files[p][0]) for p in mine]
    if s.chance(0.4) and len(mine) > 1 and len(set(lengths)) == len(lengths):
        big = s.chance(0.65)
        s.user(LARGEST_OF, plain=True, most=files_look.BIG if big else files_look.SMALL)
        out = s.shell("ls -S %s | %s -1" % (join(src, "*." + ext), "head" if big else "tail"))
        f = (max if big else min)(mine, key=lambda p: len(s.files[p][0]))
        s.require(out == f, out)
        s.answer(["$f.", "the %s is $f." % ("largest" if big else "smallest"), "it is $f."], f=Name(base(f)))
        s.says(base(f))
        if s.chance(0.4):
            (ask if s.chance(0.6) else act)(s, f) if len(s.text(f)) > 3 else None
    elif counted:
        s.user(LIST_THEM, plain=True, them=THEM)
        out = s.shell("ls -p%s | grep '\\.%s$'" % (" " + src if src else "", ext))
        files_look.listed(s, out.split("\n"), ".%s files" % ext)
    else:
        s.user(HOW_MANY, plain=True)
        n = s.shell("find %s -maxdepth 1 -type f -name '*.%s' | wc -l" % (src or ".", ext))
        s.require(n == str(len(mine)), n)
        files_look.count_answer(s, len(mine), ".%s file" % ext)


@skill("chat.act_on", weight=0.6)
def act_group(s):
    src, ext, mine, _ = group_kind(s)
    glob = join(src, "*." + ext)
    x = s.rng.random()
    if x < 0.3:
        s.user(DELETE_THEM, plain=True, them=THEM)
        for p in mine:
            s.will_remove(p)
        s.shell("rm -v " + glob)
        s.answer(["deleted the $k.", "the $k are gone.", "i deleted all $k."], k=Value(".%s files" % ext))
        return
    d = s.fresh_folder() if s.chance(0.7) else s.folder(0)
    s.require("." not in d and d != src, "the folder looks like a file")
    tool = "mv" if x < 0.65 else "cp"
    s.user(MOVE_THEM if tool == "mv" else COPY_THEM, plain=True, them=THEM, d=s.dir_name(d))
    s.require(not any(p.startswith(d + "/") for p in s.files), "the folder is not empty")
    for p in mine:
        (s.will_move if tool == "mv" else s.will_copy)(p, join(d, base(p)))
    out = s.shell("ls %s && mkdir -p %s && %s %s %s/" % (glob, d, tool, glob, d))
    s.require(sorted(out.split("\n")) == sorted(mine), out)
    if tool == "mv":
        s.answer(["the $k are in $d now.", "moved all $k to $d.", "i moved the $k {into|to} $d."], k=Value(".%s files" % ext), d=Name(d))
    else:
        s.answer(["copied the $k to $d.", "copies of the $k are in $d now.", "i copied all $k {into|to} $d."], k=Value(".%s files" % ext), d=Name(d))


@skill("chat.act_on", weight=0.4)
def act_found(s):
    """Files that a search for a word named, then acted on by name."""
    w = s.names.made_up(3, 4) if s.chance(0.3) else files_look.any_word(s)
    ext = s.choice(["txt", "md", "log"])
    paths = [s.fresh(s.choice(["", ""]), ext) for _ in range(s.number(2, 4))]
    extra = [s.fresh("", ext) for _ in range(s.number(1, 4))]
    s.require(not any(w.lower() in p.lower() for p in paths + extra), "in a name")
    files_look.planted(s, w, paths, extra)
    s.user(files_look.SEARCH, w=files_look.shown_word(s, w))
    out = s.shell("grep -rl%sw '%s' * | sort" % (files_look.grep_case(w), w))
    got = out.split("\n")
    s.require(got == sorted(paths, key=str.encode), out)
    s.answer(["$names.", "$names contain it.", "i found it in $names."], names=names(got))
    x = s.rng.random()
    if x < 0.3:
        s.user(DELETE_THEM, plain=True, them=THEM)
        for p in paths:
            s.will_remove(p)
        s.shell("rm " + " ".join(got))
        s.answer(["deleted $names.", "i deleted $names.", "$names are gone."], names=names(got))
        return
    d = s.fresh_folder()
    tool = "mv" if x < 0.65 else "cp"
    s.user(MOVE_THEM if tool == "mv" else COPY_THEM, plain=True, them=THEM, d=s.dir_name(d))
    for p in paths:
        (s.will_move if tool == "mv" else s.will_copy)(p, join(d, p))
    listed = " ".join(got)
    out = s.shell("ls %s && mkdir -p %s && %s %s %s/" % (listed, d, tool, listed, d))
    s.require(out == "\n".join(got), out)
    s.answer(["{moved|i moved} $names to $d." if tool == "mv" else "{copied|i copied} $names to $d."], names=names(got), d=Name(d))
