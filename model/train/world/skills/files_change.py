"""files.*, changing: create, append, replace, move, copy, delete, mkdir."""

import re

from world import content
from world.scene import Name, Quoted, T, Tail, Value, join
from world.skills import skill
from world.wording import kind, kind_name, names, quote

def base(path):
    return path.rpartition("/")[2]


def about_file(s):
    """A line that names a file, and says something that one could do with it: it is text all the same."""
    n = s.names
    known = sorted(s.files)
    f, k = s.choice(known).rpartition("/")[2] if known and s.chance(0.5) else n.file(s.choice(["log", "txt", "csv"])), s.number(0, 99)
    if f not in {p.rpartition("/")[2] for p in s.files} and s.chance(0.5):
        f = s.file("", f.rpartition(".")[2]) if "." in f else f
    return s.choice([lambda: "%s has %d %s lines." % (f, k, s.choice(["ERROR", "WARN", "INFO", "empty", "long"])), lambda: "%s has %d lines" % (f, k), lambda: "see %s for the %s" % (f, n.noun()),
                     lambda: "copy %s to %s" % (f, n.file("txt")), lambda: "the total of %s is %d" % (f, k), lambda: "%s is %d bytes" % (f, k), lambda: "read %s first" % f, lambda: "delete %s on %s" % (f, s.choice(["Monday", "Friday"])),
                     lambda: "sort %s by name" % f, lambda: "%s and %s are the same" % (f, n.file("txt")), lambda: "%s: %d errors" % (f, k), lambda: "count the lines of %s" % f, lambda: "found %d matches in %s" % (k, f)])()


def free_line(s):
    """A line that users dictate; sometimes with an apostrophe."""
    x = s.rng.random()
    n = s.names
    if s.chance(0.3):
        return about_file(s)
    if x < 0.08:
        return "%s's %s is %s" % (n.first(), n.noun(), n.adjective())
    if x < 0.14:
        return "don't forget the %s" % n.noun()
    if x < 0.2:
        return "%s = %s" % (content.plain_key(s), content.config_value(s))
    if x < 0.26:
        return "call %s at %d:%02d" % (n.first(), s.number(7, 20), s.number(0, 59))
    if x < 0.32:
        return "%s %s %s" % (n.adjective(), n.noun(), n.code())
    if x < 0.38:
        return n.made_up()
    if x < 0.44:
        return "- %s the %s" % (n.verb(), n.noun())
    return content.line(s)


PLAIN_LINE = re.compile(r"[A-Za-z0-9]+( [A-Za-z0-9]+){0,2}")


def short_line(s):
    """One to three words."""
    n, x = s.names, s.rng.random()
    if x < 0.4:
        return n.word()
    if x < 0.55:
        return "%s %s" % (n.verb(), n.noun())
    if x < 0.7:
        return "%s %s" % (n.adjective(), n.noun())
    if x < 0.78:
        return "%s %s" % (s.choice(["call", "ask", "meet", "pay", "thank", "visit", "write"]), n.first())
    if x < 0.86:
        return n.first() if s.chance(0.5) else n.person()
    if x < 0.92:
        return n.city()
    return "%s %d" % (n.noun(), s.number(1, 99))


# -- create -------------------------------------------------------------------------------------------------------------

CREATE = [
    "create {a file |a new file |}$f {with the text|containing|that says|with the content|with} $q", "make {a file |a new file |}{called |named |}$f {with the text|that contains|containing|with} $q {in it|}", "write $q {to|into} {a new file |a file |the file |}{called |}$f",
    "put $q {into|in} a {new |}file {called |named |}$f", "save {the text |}$q {as|to|in} $f", "i need a {new |}file $f {with the text|containing|that says} $q.", "write {a file |}$f with {this|the following} text: $q",
    "can you make a file called $f and write $q {in it|into it}?", "create $f and put $q in it", "store $q in a file named $f", "add a new file $f, content: $q", "start a {new |}file {called |named |}$f with $q as its only line",
    "$f should be a new file that says $q.", "make me a text file $f. it should say $q.", "generate a file {called |}$f that holds {the line |}$q", "there should be a file $f with {the text |}$q in it.",
    "write the sentence $q to $f", "new file $f: $q", "create {a file |}$f holding {just |only |}$q", "please note down $q in a new file $f",
]
CREATE_TAIL = [
    "create {a file |a new file |}{called |named |}$f {with the text|that says|containing}{:|} $t", "write {this |the following |}{to|into} {a new file |}$f: $t", "make a {new |}file {called |named |}$f with this {line|text|content}: $t",
    "save this {as|to|in} $f: $t", "new file $f with the text: $t", "put {this|the following} in {a file called |a new file |}$f: $t", "create $f. content: $t", "write {a file |}$f saying: $t",
]
CREATE_LINES = [
    "create {a file |a new file |}{called |named |}$f with {the|these} {$n |}lines $qs", "make {a file |}$f with {$n |the |these }lines: $qs", "write {a file |}$f with $n lines: $qs", "create $f with one line each for $qs",
    "put {the lines |}$qs into a new file $f, {each on its own line|one per line|one a line}", "save $qs {to|in} $f, one per line", "i need a file $f with the lines $qs.", "start a file called $f holding the lines $qs",
    "write $qs to {a new file |}$f, each on {its|a} own line", "make a list in $f with {the lines |}$qs", "new file $f, {$n lines|lines}: $qs", "create a file named $f. first line $first, {then|and after that} $rest",
    "the file $f should have the lines $qs.", "create $f containing $qs on separate lines",
]
CREATE_BLOCK = [
    "create {a file |a new file |}{called |named |}$f with {these|the following|this}{ $n|} lines:\n$block", "write {this|the following} {to|into} {a new file |}$f:\n$block", "make $f with {this content|these lines|the following text}:\n$block",
    "save this as $f:\n$block", "new file $f:\n$block", "put these lines in {a new file called |}$f:\n$block", "please {write|create} $f with exactly these lines:\n$block",
]
CREATE_LIST = [
    "create {a file |}{called |named |}$f with {the words|the names|the items|} $items, {one per line|each on its own line|one on each line|one word per line}", "make a list {called |in |}$f with $items, one {item |}per line", "write $items {to|into} $f, one {on each|per} line",
    "put $items in a new file $f, {each on a line of its own|one per line|on separate lines}", "save a list with $items {to|as} $f, one {a|per} line", "new file $f, one per line: $items_tail", "create $f and write {one per line|on separate lines} $items",
    "i need a file $f that lists $items, one per line.",
]
CREATE_BARE = [  # the text stands without quotes in the middle of the request
    "create {a file |a new file |}{called |named |}$f {with the text|containing|that says|with the word|with the line} $v", "write $v {to|into} {a new file |a file |}{called |}$f", "put $v {into|in} {a new |a |}file {called |named |}$f",
    "make $f with {just |only |}$v in it", "save {the text |the line |}$v {as|to|in} $f", "i need a file $f that says $v.", "a new file $f should {say|hold|contain} $v.", "make a file called $f and write $v {in|into} it",
]
CREATE_LINES_BARE = [
    "create {a file |a new file |}{called |named |}$f with {the|these} {$n |}lines{:|} $qs", "make {a file |}$f with {$n |the |these }lines: $qs", "write {a file |}$f with $n lines: $qs", "create {a file |}{called |}$f with $n lines: $all",
    "{create|make} {a file |}$f {containing|holding|that has} {the |}$n lines{:|} $all", "start a {file|list} {called |named |}$f with $n {lines|entries|items}: $all", "write $n lines {to|into} {a new file |}$f: $all", "i want a file $f with $n lines: $qs.",
    "{make|create} $f, $n lines: $all", "put {these |the |}$n lines {in|into} {a new file |}$f: $all", "new file $f with the lines $qs", "the file $f should have $n lines: $qs.", "save {the|these} lines $qs in $f", "create {a file |}$f. line 1: $first, {then|next|after that} $rest",
    "{make|create} {a list|a list file} {called |named |}$f with {the entries|the items|entries for|lines for} $qs", "{write|put} $qs in {a file|a new file} {called |named |}$f as $n lines",
]
CREATED = ["i created $f.", "created $f.", "$f {is there|is written} now.", "done: $f {has the text|is written}.", "i wrote it to $f."]


@skill("files.create", weight=1.8)
def create(s):
    d = s.folder(0.6)
    f = s.fresh(d, s.choice(["txt", "txt", "md", "txt", None]))
    if d and s.chance(0.3):
        s.dirs.discard(d)  # a folder that is yet to be made
        while "/" in d:
            d = d.rpartition("/")[0]
            s.dirs.discard(d)
    s.clutter(0, 4, 1)
    way = s.rng.random()
    short = s.chance(0.45)  # lines that may stand without quotes
    if way < 0.45:
        lines = [short_line(s) if short else free_line(s)]
    elif way < 0.8:
        lines = [short_line(s) if short else free_line(s) for _ in range(s.number(2, 5))]
    else:
        lines = s.names.words(s.number(2, 6), s.choice([s.names.word, s.names.first, s.names.product, s.names.noun, s.names.city]))
    text = "\n".join(lines) + "\n"
    number = Value(["", "one", "two", "three", "four", "five", "six"][len(lines)] if s.chance(0.7) else len(lines))
    bare = all(PLAIN_LINE.fullmatch(line) for line in lines)
    if way < 0.45:
        if bare and s.say_rng.random() < 0.7:
            s.user(CREATE_BARE, f=Name(f), v=Value(lines[0]))
        elif s.say_rng.random() < 0.6:
            s.user(CREATE, f=Name(f), q=Quoted(lines[0]))
        else:
            s.user(CREATE_TAIL, f=Name(f), t=Tail(lines[0]))
    elif bare and s.say_rng.random() < (0.6 if way < 0.8 else 0.45):
        qs = [Value(t) for t in lines]
        s.user(CREATE_LINES_BARE, f=Name(f), n=number, qs=qs, all=Tail(", ".join(lines)), first=qs[0], rest=qs[1:])
    elif way < 0.8:
        if s.say_rng.random() < 0.6:
            qs = [Quoted(t) for t in lines]
            s.user(CREATE_LINES, f=Name(f), n=number, qs=qs, first=qs[0], rest=qs[1:])
        else:
            s.user(CREATE_BLOCK, f=Name(f), n=number, block=Tail("\n".join(lines)))
    else:
        quoted = s.say_rng.random() < 0.3
        s.user(CREATE_LIST, f=Name(f), items=[Quoted(w) if quoted else Value(w) for w in lines], items_tail=Tail(", ".join(lines)))
    s.will_write(f, text)
    s.write(f, text)
    s.answer(CREATED, f=Name(f))


@skill("files.create", weight=0.7)
def create_about(s):
    """A text that names a file, or says what could be done with one, is written as it stands."""
    s.clutter(1, 5, 1)
    line = about_file(s)
    f = s.fresh(s.folder(0.7), s.choice(["txt", "md", "txt", "log"]))
    if s.chance(0.6):
        s.user(CREATE, f=Name(f), q=Quoted(line))
    else:
        s.user(CREATE_TAIL, f=Name(f), t=Tail(line))
    s.will_write(f, line + "\n")
    s.write(f, line + "\n")
    s.answer(CREATED, f=Name(f))


@skill("files.append", weight=0.5)
def append_about(s):
    s.clutter(1, 5, 1)
    line = about_file(s)
    old = content.text(s, 1, 5)
    f = s.put(s.fresh(s.folder(0.7), s.choice(["txt", "md", "txt", "log"])), old)
    if s.chance(0.65):
        s.user(APPEND, f=Name(f), q=Quoted(line))
    else:
        s.user(APPEND_TAIL, f=Name(f), t=Tail(line))
    s.will_write(f, old + line + "\n")
    out = s.shell("sed -i '$a\\' %s && echo %s >> %s" % (f, quote(s, line), f))
    s.require(out == "[no output]", out)
    s.answer(["i added the line to $f.", "added{ it|} to {the end of |}$f.", "the line is at the end of $f now.", "done: $f has the new line."], f=Name(f))


CREATE_EMPTY = ["create {an|a new} empty file {called |named |}$f", "make an empty file $f", "i need an empty file {called|named} $f.", "create $f without any content", "touch $f", "add an empty {file |}$f",
                "make a file {called |}$f with nothing in it", "create $f, leave it empty"]


@skill("files.create", weight=0.1)
def create_empty(s):
    f = s.fresh(s.folder(0.7))
    s.clutter(0, 4, 1)
    s.user(CREATE_EMPTY, f=Name(f))
    s.will_write(f, "")
    s.shell("touch " + f)
    s.answer(["i created {the empty file |}$f.", "created {an empty file |}$f."], f=Name(f))


# -- append -------------------------------------------------------------------------------------------------------------

APPEND = [
    "add {the line |a line |}$q to {the end of |}$f", "append $q to $f", "add $q {at|to} the {end|bottom} of $f", "put $q at the {end|bottom} of $f", "write $q {as the last line of|at the end of} $f", "$f needs {one more line|another line}: $q.",
    "append {a line|the line} {saying |that says |}$q to {the file |}$f", "i want $q added to $f.", "add one {more |}line to $f: $q", "extend $f {with|by} {the line |}$q", "insert $q {at the end of|as the last line in} $f", "add a {new |last |}line $q to $f",
    "can you add {the line |}$q to $f?", "could $q go at the end of $f?", "$q should be the {last|new last} line of $f.", "attach {the line |}$q to $f", "please write one more line into $f: $q", "tack {the line |}$q onto the end of $f",
    "add $q to my $f", "put another line in $f, {it should say|saying} $q",
]
APPEND_TAIL = [
    "add {this|the following} line to {the end of |}$f: $t", "append {this |the following |}to $f: $t", "add to {the end of |}$f: $t", "put this {line |}at the {end|bottom} of $f: $t", "write this at the end of $f: $t", "$f, add a line: $t",
    "one more line for $f: $t", "please append to $f the line: $t",
]


APPEND_BARE = [
    "add {the line |the word |the entry |}$v {at|to} the {end|bottom|very end} of $f", "append {the line |}$v to {the file |}$f", "add {the line |}$v to {the file |}$f", "put {the line |}$v at the {end|bottom} of $f", "write $v {as the last line of|at the end of} $f",
    "$f needs {one more line|another line}, $v.", "add one {more |}line, $v, to $f", "add $v as {the last|a new|one more} line {to|of} $f", "$v should be the {new |}last line of $f.", "please add $v {to|at the end of} $f", "i want $v added {to|at the end of} $f.",
    "could you add $v to $f?", "extend $f {with|by} {the line |}$v", "{add|append} $v {to the list in|to the list} $f", "{add|append} a {new |last |}line $v to $f", "{add|append} a line {that says|saying} $v {to|at the end of} $f",
]


@skill("files.append", weight=1.5)
def append(s):
    d = s.folder(0.65)
    f = s.fresh(d, s.choice(["txt", "txt", "md", "log", "csv", None, "list"]))
    old = content.any_text(s, f.rpartition(".")[2])
    if s.chance(0.15):
        old = old.rstrip("\n")
    s.put(f, old)
    if s.chance(0.4):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    line = short_line(s) if s.chance(0.4) else free_line(s)
    if PLAIN_LINE.fullmatch(line) and s.say_rng.random() < 0.6:
        s.user(APPEND_BARE, f=Name(f), v=Value(line))
    elif s.say_rng.random() < 0.65:
        s.user(APPEND, f=Name(f), q=Quoted(line))
    else:
        s.user(APPEND_TAIL, f=Name(f), t=Tail(line))
    s.will_write(f, (old if old.endswith("\n") or not old else old + "\n") + line + "\n")
    out = s.shell("sed -i '$a\\' %s && echo %s >> %s" % (f, quote(s, line), f))
    s.require(out == "[no output]", out)
    s.answer(["i added the line to $f.", "added{ it|} to {the end of |}$f.", "the line is at the end of $f now.", "done: $f has the new line."], f=Name(f))


# -- replace ------------------------------------------------------------------------------------------------------------

REPLACE = [
    "replace {every |all |each |}$a {with|by} $b in $f", "in $f, {replace|change|turn} {every |all |}$a {with|into|to} $b", "change {all |every |}$a to $b in $f", "change {the word |}$a {into|to} $b everywhere in $f",
    "swap {the word |}$a for $b in $f", "replace the word $a {with|by} $b {everywhere |throughout |}in {the file |}$f", "in $f it should say $b instead of $a.", "$f says $a, it should {say|be} $b {everywhere|}.", "substitute $b for $a in $f",
    "i want {every |}$a in $f {changed to|replaced by|replaced with} $b.", "could every $a in $f become $b?", "rename $a to $b {everywhere in|inside|within} {the file |}$f", "$a should be $b in $f, {change|fix|replace} {it|that} everywhere",
    "find $a in $f and replace it with $b", "fix $f: {all|every} $a must be $b", "use $b instead of $a in $f", "turn every $a {into|to} $b in $f", "correct $a to $b in $f", "do a search and replace in $f: $a becomes $b",
    "put $b wherever $f says $a",
]


@skill("files.replace", weight=1.3)
def replace(s):
    d = s.folder(0.65)
    f = s.fresh(d, s.choice(["txt", "txt", "md", "conf", "csv", "ini", "html", None]))
    x = s.rng.random()
    old = s.names.digits(s.number(2, 4)) if x < 0.08 else s.names.first() if x < 0.25 else s.names.city() if x < 0.35 else s.names.word()
    new = s.names.digits(s.number(2, 4)) if x < 0.08 else s.names.first() if x < 0.25 else s.names.city() if x < 0.35 else s.names.word()
    s.require(old not in new and new not in old, "words inside each other")
    lines, count = [], s.choice([1, 2, 2, 3, 3, 4, 5])
    for _ in range(count):
        words = [w for w in content.sentence(s).rstrip(".").split() if old not in w]
        words.insert(s.number(0, len(words)), old)
        lines.append(" ".join(words) + s.choice([".", "", "!"]))
    lines += [t for t in content.lines(s, 0, 5) if old not in t]
    s.rng.shuffle(lines)
    text = "\n".join(lines) + "\n"
    s.put(f, text)
    if s.chance(0.6):
        s.lookalike(f, text="%s and %s\n" % (old, s.names.word()))
    s.clutter(0, 3, 1)
    shown = Quoted if s.say_rng.random() < 0.35 else Name
    s.user(REPLACE, f=Name(f), a=shown(old), b=shown(new))
    s.will_write(f, text.replace(old, new))
    out = s.call("edit_file", path=f, old=old, new=new, all=True)
    n = text.count(old)
    s.require(out == "replaced %d time%s in %s" % (n, "" if n == 1 else "s", f), out)
    s.answer(["replaced $a with $b in $f.", "$a is {now $b|replaced by $b} {everywhere |}in $f.", "i replaced $a with $b {$n |}in $f.", "done: $f says $b {now|instead of $a}."],
             a=Name(old), b=Name(new), f=Name(f), n="once" if n == 1 else "%d times" % n)


@skill("files.replace", weight=0.12)
def replace_absent(s):
    f = s.file(s.folder(0.65), s.choice(["txt", "md", "conf", "csv"]))
    a, b = s.names.words(2)
    s.require(a not in s.text(f), "it is there")
    s.clutter(0, 3, 1)
    shown = Quoted if s.say_rng.random() < 0.35 else Name
    s.user(REPLACE, f=Name(f), a=shown(a), b=shown(b))
    out = s.call("edit_file", path=f, old=a, new=b, all=True)
    s.require(out.startswith("[error: the old text is not in"), out)
    s.answer(["there is no $a in $f, so nothing was changed.", "$a is not in $f{, i changed nothing|}.", "$f does not contain $a, nothing was replaced."], a=Name(a), f=Name(f))


# -- move ---------------------------------------------------------------------------------------------------------------

RENAME = [
    "rename $a to $b", "rename {the file |}$a {as|to|into} $b", "change the name of $a to $b", "$a should be {called|named} $b.", "i want $a to be {called|named} $b.", "give $a the {new |}name $b", "the new name of $a should be $b.",
    "call $a $b from now on", "{let's |}rename {my |}$a: it should be called $b", "$a needs a new name: $b.", "can $a be renamed to $b?", "please name $a $b instead", "could {the file |}$a get the name $b?", "$a has the wrong name, {make it|it should be} $b.",
    "i'd rather have $a called $b.",
]
MOVE_ONE = [
    "move $a {into|to} {the folder |}$d", "move {the file |}$a {into|to} the {folder $d|$d folder}", "put $a {into|in} {the folder |}$d", "$a belongs in {the folder |}$d, {move|put} it there", "$a should be in {the folder |}$d.",
    "take $a and {put|move} it {into|in} {the folder |}$d", "can you move $a {into|to} {the |}$d {folder|directory}?", "shift $a to {the folder |}$d", "i want $a moved {into|to} {the folder |}$d.", "file $a under {the folder |}$d", "relocate $a to {the folder |}$d",
    "bring $a over to {the folder |}$d",
]
MOVE_KIND = [
    "move {all |}{the |}$kind {into|to} {the folder |}$d", "put {all |}{the |}$kind {into|in} {the folder |a folder called |a folder named |}$d", "move every $kind1 {into|to} {the folder |}$d", "all {the |}$kind {should go|belong} {into|in} {the folder |}$d.",
    "can you move {all |}the $kind {into|to} the $d {folder|directory}?", "take all {the |}$kind and put them {into|in} {the folder |a folder |}$d", "collect {all |}{the |}$kind in {the folder |a folder |}$d", "i want {all |}{the |}$kind in {the folder |a folder |}$d.",
    "sort the $kind into {the folder |}$d", "gather the $kind in {the folder |a new folder |}$d", "the $kind should {all |}be in {the folder |}$d.", "make a folder $d and move {all |}{the |}$kind {into it|there}", "clear the $kind away into {the folder |}$d",
]
MOVE_KIND_FROM = [
    "move {all |}{the |}$kind from $src {into|to} {the folder |}$d", "put {all |}{the |}$kind {from|of|that are in} $src {into|in} {the folder |}$d", "move every $kind1 in $src {into|to} {the folder |}$d", "take the $kind out of $src and put them in {the folder |}$d",
    "all {the |}$kind in $src should go {into|to} {the folder |}$d.", "can you move the $kind from $src {into|to} {the folder |}$d?", "bring the $kind from $src over to {the folder |}$d",
]


@skill("files.move", weight=0.6)
def rename(s):
    d = s.folder(0.65)
    a = s.file(d)
    full = s.chance(0.5)
    b = s.fresh(d, a.rpartition(".")[2] if s.chance(0.8) else None)
    if s.chance(0.5):
        s.lookalike(a)
    s.clutter(0, 3, 1)
    s.user(RENAME, a=Name(a), b=Name(b if full else base(b)))
    s.will_move(a, b)
    out = s.shell("mv %s %s" % (a, b))
    s.require(out == "[no output]", out)
    s.answer(["$a is {now called|now} $b.", "renamed $a to $b.", "i renamed $a to $b.", "done: $a is now $b."], a=Name(a), b=Name(b))


def target(s, avoid=""):
    """A folder that exists or not."""
    d = s.folder(0) if s.chance(0.5) else s.fresh_folder(s.folder(0.85))
    s.require("." not in d and d != avoid, "the folder looks like a file")
    return d


@skill("files.move", weight=0.7)
def move_one(s):
    a = s.file(s.folder(0.7))
    if s.chance(0.4):
        s.lookalike(a)
    s.clutter(0, 3, 1)
    d = target(s, a.rpartition("/")[0])
    b = join(d, base(a))
    s.require(b not in s.files, "taken")
    s.user(MOVE_ONE, a=Name(a), d=s.dir_name(d))
    s.will_move(a, b)
    out = s.shell("ls %s && mkdir -p %s && mv %s %s/" % (a, d, a, d))
    s.require(out == a, out)
    s.answer(["$a is in $d now.", "moved $a to $d.", "i moved $a {into|to} $d.", "done: $a is now in $d."], a=Name(base(a)), d=Name(d))


def of_kind(s, src=None):
    """Files of a kind and others in a folder: (source folder, ending, their paths)."""
    src = s.folder(0.6) if src is None else src
    ext = s.choice(["txt", "md", "csv", "log", "json", "jpg", "png", "sh", "py", "pdf", "html", "tmp", "bak", "old"])
    mine = [s.file(src, ext) for _ in range(s.number(1, 6))]
    for _ in range(s.number(0, 4)):
        s.file(src, s.choice([e for e in ("txt", "md", "csv", "json", "ini") if e != ext]))
    if s.chance(0.4):
        s.put("%s.%s" % (mine[0], s.choice(["bak", "orig", "1"])), "old\n")
    if s.chance(0.3):
        s.file(s.fresh_folder(src), s.choice([e for e in ("txt", "md", "csv") if e != ext]))
    return src, ext, mine


@skill("files.move", weight=0.8)
def move_kind(s):
    src, ext, mine = of_kind(s)
    d = target(s, src)
    s.require(not any(p.startswith(d + "/") for p in s.files), "the folder is not empty")
    if src:
        s.user(MOVE_KIND_FROM, kind=kind(s, ext), kind1=kind(s, ext, True), src=s.dir_name(src), d=s.dir_name(d))
    else:
        s.user(MOVE_KIND, kind=kind(s, ext), kind1=kind(s, ext, True), d=s.dir_name(d))
    for p in mine:
        s.will_move(p, join(d, base(p)))
    glob = join(src, "*." + ext)
    s.will_mkdir(d)
    out = s.shell("ls %s && mkdir -p %s && mv %s %s/" % (glob, d, glob, d))
    s.require(sorted(out.split("\n")) == sorted(mine), out)
    if s.decided("names", [True, False, False]):
        s.answer(["moved $names to $d.", "i moved $names to $d."], names=names([base(p) for p in out.split("\n")]), d=Name(d))
    else:
        s.answer(["the $kind are in $d now.", "moved all $kind to $d.", "i moved the $kind {into|to} $d."], kind=kind_name(ext), d=Name(d))


# -- copy ---------------------------------------------------------------------------------------------------------------

COPY = [
    "copy $a to $b", "copy {the file |}$a {to|as|into} $b", "make a copy of $a {called|named|as} $b", "make a {copy|duplicate} of $a and {call|name} it $b", "i need a copy of $a {called|named|under the name} $b.", "duplicate $a as $b",
    "save a copy of $a as $b", "back up $a {as|to|under the name} $b", "$b should be a copy of $a.", "keep a copy of $a under the name $b", "can i have a copy of $a called $b?", "create $b as a copy of $a", "make a backup of $a {called|named} $b", "clone $a to $b",
    "store a copy of $a as $b", "copy $a, the copy should be called $b",
]
COPY_INTO = [
    "copy $a {into|to} {the folder |}$d", "copy {the file |}$a {into|to} the {folder $d|$d folder}", "put a copy of $a {into|in} {the folder |}$d", "make a copy of $a in {the folder |}$d", "i need a copy of $a in {the folder |}$d.",
    "save a copy of $a in {the folder |}$d", "can you copy $a {into|to} {the |}$d {folder|directory}?", "place a copy of $a in {the folder |}$d", "{the folder |}$d should get a copy of $a.", "keep a copy of $a in {the folder |}$d", "duplicate $a into {the folder |}$d",
]
COPY_KIND = [
    "copy {all |}{the |}$kind {into|to} {the folder |}$d", "put copies of {all |}the $kind {into|in} {the folder |}$d", "copy every $kind1 {into|to} {the folder |}$d", "make copies of all {the |}$kind in {the folder |}$d", "i want copies of the $kind in {the folder |}$d.",
    "back up {all |}the $kind {to|into} {the folder |}$d", "can you copy {all |}the $kind {into|to} the $d {folder|directory}?", "all {the |}$kind should be copied to {the folder |}$d.",
]
COPY_KIND_FROM = [t.replace("$kind1", "$kind1 in $src").replace("$kind ", "$kind from $src ").replace("$kind?", "$kind from $src?") for t in COPY_KIND]


@skill("files.copy", weight=1.0)
def copy(s):
    d = s.folder(0.65)
    a = s.file(d)
    b = s.fresh(d if s.chance(0.7) else s.folder(0.5), a.rpartition(".")[2] if s.chance(0.8) else None)
    if s.chance(0.5):
        s.lookalike(a)
    s.clutter(0, 3, 1)
    s.user(COPY, a=Name(a), b=Name(b))
    s.will_copy(a, b)
    out = s.shell("cp %s %s" % (a, b))
    s.require(out == "[no output]", out)
    s.answer(["copied $a to $b.", "$b is a copy of $a now.", "i copied $a to $b.", "done: $b is a copy of $a."], a=Name(a), b=Name(b))


@skill("files.copy", weight=0.6)
def copy_into(s):
    a = s.file(s.folder(0.7))
    if s.chance(0.4):
        s.lookalike(a)
    s.clutter(0, 3, 1)
    d = target(s, a.rpartition("/")[0])
    b = join(d, base(a))
    s.require(b not in s.files, "taken")
    s.user(COPY_INTO, a=Name(a), d=s.dir_name(d))
    s.will_copy(a, b)
    out = s.shell("ls %s && mkdir -p %s && cp %s %s/" % (a, d, a, d))
    s.require(out == a, out)
    s.answer(["copied $a to $d.", "there is a copy of $a in $d now.", "i copied $a {into|to} $d."], a=Name(base(a)), d=Name(d))


@skill("files.copy", weight=0.5)
def copy_kind(s):
    src, ext, mine = of_kind(s)
    d = target(s, src)
    s.require(not any(p.startswith(d + "/") for p in s.files), "the folder is not empty")
    s.user(COPY_KIND_FROM if src else COPY_KIND, kind=kind(s, ext), kind1=kind(s, ext, True), src=s.dir_name(src), d=s.dir_name(d))
    for p in mine:
        s.will_copy(p, join(d, base(p)))
    glob = join(src, "*." + ext)
    out = s.shell("ls %s && mkdir -p %s && cp %s %s/" % (glob, d, glob, d))
    s.require(sorted(out.split("\n")) == sorted(mine), out)
    s.answer(["copied the $kind to $d.", "copies of the $kind are in $d now.", "i copied all $kind {into|to} $d."], kind=kind_name(ext), d=Name(d))


EVERYTHING = "{everything|all files|all the files|the contents|all the contents|what is|whatever is|whatever lies|what lies}"
UNDER = " {in|under|below|inside} {the folder |}$src"
COPY_ALL = ["copy " + EVERYTHING + UNDER + " {into|to} {the folder |}$d", "make a copy of " + EVERYTHING + UNDER + " in {the folder |}$d", "put a copy of " + EVERYTHING + UNDER + " {into|in} {the folder |}$d", "i need a copy of " + EVERYTHING + UNDER + " in {the folder |}$d.",
            "back up " + EVERYTHING + UNDER + " {into|to} {the folder |}$d", "can you copy " + EVERYTHING + UNDER + " {into|to} {the folder |}$d?", "take " + EVERYTHING + UNDER + " and copy it {into|to} {the folder |}$d", "{the folder |}$d should get a copy of " + EVERYTHING + UNDER + "."]
MOVE_ALL = ["move " + EVERYTHING + UNDER + " {into|to} {the folder |}$d", "put " + EVERYTHING + UNDER + " {into|in} {the folder |}$d", EVERYTHING + UNDER + " should go {into|to} {the folder |}$d.", "can you move " + EVERYTHING + UNDER + " {into|to} {the folder |}$d?",
            "take " + EVERYTHING + UNDER + " and move it {into|to} {the folder |}$d", "i want " + EVERYTHING + UNDER + " moved {into|to} {the folder |}$d.", "empty {the folder |}$src into {the folder |}$d"]


@skill("files.copy", weight=0.6)
def copy_all(s):
    """What a folder holds, with or without the folders in it, into another folder."""
    src, moving = s.folder(0), s.chance(0.35)
    inner = [src] + [s.fresh_folder(src) for _ in range(0 if moving else s.choice([0, 0, 1, 2]))]
    for p in inner:
        for _ in range(s.number(1, 4)):
            s.file(p)
    mine = [p for p in s.files if p.startswith(src + "/")]
    s.clutter(0, 3, 0)
    d = target(s, src)
    s.require(not (d + "/").startswith(src + "/") and not src.startswith(d + "/") and not any(p.startswith(d + "/") for p in s.files), "inside each other")
    s.user(MOVE_ALL if moving else COPY_ALL, src=s.dir_name(src), d=s.dir_name(d))
    s.will_mkdir(d)
    for p in mine:
        (s.will_move if moving else s.will_copy)(p, d + p[len(src):])
    if moving:
        out = s.shell("ls %s && mkdir -p %s && mv %s/* %s/" % (src, d, src, d))
    else:
        out = s.shell("ls %s && mkdir -p %s && cp -r %s/. %s/" % (src, d, src, d))
    s.require("[" not in out, out)
    s.answer(["%s everything in $src to $d." % ("moved" if moving else "copied"), "the contents of $src are in $d now.", "i %s what was in $src {into|to} $d." % ("moved" if moving else "copied")], src=Name(src), d=Name(d))


# -- delete -------------------------------------------------------------------------------------------------------------

DELETE = [
    "delete {the file |}$f", "remove {the file |}$f", "{get rid of|erase|throw away|trash} {the file |}$f", "i don't need $f {anymore|any more|any longer}, {delete|remove} it", "$f can go.", "$f can be {deleted|removed}.", "can you {delete|remove} $f?",
    "$f is no longer needed, {please |}{delete|remove} it", "rm $f", "i want $f {gone|deleted|removed}.", "please {delete|remove|erase} {the file |}$f, {and |}nothing else", "clean up: {delete|remove} $f", "{delete|remove} $f from {this|the} folder",
    "drop {the file |}$f", "{make sure|see to it that} $f is gone", "only {delete|remove} $f",
]
DELETE_KIND = [
    "{delete|remove} {all |}{the |}$kind $in", "{get rid of|erase|clear out|throw away} {all |}the $kind $in", "{delete|remove} every $kind1 $in", "all {the |}$kind $in can {go|be deleted|be removed}.", "i don't need the $kind $in {anymore|any more}, {delete|remove} them",
    "clean up the $kind $in", "can you {delete|remove} {all |}the $kind $in?", "{delete|remove} the $kind $in, {but |}nothing else", "$in, {delete|remove} all {the |}$kind", "i want all {the |}$kind $in gone.", "wipe the $kind $in", "the $kind $in are no longer needed, {delete|remove} them",
]
DELETE_COUNT = ["{and tell me|and say|then tell me} how many {there were|you deleted|it were|were deleted}", "and {give|tell} me the number", "and count them", "how many were {there|deleted}?", "how many did you {delete|remove}?"]
DEEP_DELETE = ["{everywhere|anywhere} {below|in here|in this folder}", "in all {the |}{folders|subfolders}", "here and in {all |the |}subfolders", "{including|also in} {the |all |}subfolders", "anywhere below"]


@skill("files.delete", weight=0.8)
def delete(s):
    f = s.file(s.folder(0.6))
    for _ in range(s.number(0, 2)):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    s.user(DELETE, f=Name(f))
    s.will_remove(f)
    out = s.shell("rm " + f)
    s.require(out == "[no output]", out)
    s.answer(["deleted $f.", "$f is gone.", "i deleted $f.", "$f has been deleted."], f=Name(f))


@skill("files.delete", weight=1.0)
def delete_kind(s):
    deep = s.chance(0.35)
    src, ext, mine = of_kind(s, s.folder(0.6))
    if deep:
        for _ in range(s.number(1, 3)):
            mine.append(s.file(s.fresh_folder(src), ext))
    elif src and s.chance(0.4):
        s.file("", ext)
    count = s.chance(0.4)
    place = s.place(src, here="{here|in this folder|in the current folder|}")
    if deep:
        place = T("$p_ " + s.say_rng.choice(DEEP_DELETE), p_=s.place(src, here="{here|}")) if src else T(s.say_rng.choice(DEEP_DELETE))
    template = s.pick(DELETE_KIND)
    if count:
        ask = s.say_rng.choice(DELETE_COUNT)
        template = template.rstrip("?.") + (" " + ask if ask.startswith("{and") or ask.startswith("and") else ". " + ask)
    s.user(template, kind=kind(s, ext), kind1=kind(s, ext, True), **{"in": place})
    for p in mine:
        s.will_remove(p)
    if deep:
        out = s.shell("find %s -type f -name '*.%s' -print -delete%s" % (src or ".", ext, " | wc -l" if count else ""))
    else:
        out = s.shell("rm -v %s%s" % (join(src, "*." + ext), " | wc -l" if count else ""))
    if count:
        s.require(out == str(len(mine)), out)
        n = Value(out)
        one = out == "1"
        s.answer(["$n {$e file|file} was {deleted|removed}." if one else "$n {$e files|files} were {deleted|removed}.", "i deleted $n $e file%s." % ("" if one else "s")], n=n, e=Value("." + ext))
        s.says(out)
    else:
        s.require(len(out.split("\n")) == len(mine), out)
        s.answer(["deleted the $kind.", "the $kind are gone.", "i deleted all $kind{ $where_|}.", "all $kind have been deleted."], kind=kind_name(ext), where_=T("in $d", d=Name(src)) if src else "there")


DELETE_START = ["{delete|remove} {all |}{the |}files {that|whose names} {start|begin} with $p $in", "{delete|remove} every file $in whose name {starts|begins} with $p", "get rid of the files $in {starting|beginning} with $p",
                "all files $in {that start|starting|beginning} with $p can go.", "clear out everything $in that begins with $p", "i don't need the files $in that start with $p anymore, {delete|remove} them"]


@skill("files.delete", weight=0.2)
def delete_start(s):
    d = s.folder(0.6)
    part = s.names.word()
    mine = []
    for _ in range(s.number(1, 5)):
        f = join(d, "%s%s%s.%s" % (part, s.choice(["-", "_", ""]), s.names.word(), s.names.extension()))
        if f not in s.files:
            mine.append(s.put(f, content.text(s, 1, 3)))
    s.put(join(d, "%s-%s.txt" % (s.choice(["my", "old", "new", "our"]), part)), content.text(s, 1, 3))
    for _ in range(s.number(0, 4)):
        f = s.file(d)
        s.require(not base(f).startswith(part), "begins alike")
    s.user(DELETE_START, p=Quoted(part) if s.say_rng.random() < 0.6 else Name(part), **{"in": s.place(d)})
    for p in mine:
        s.will_remove(p)
    out = s.shell("rm -v %s*" % join(d, part))
    s.require(len(out.split("\n")) == len(mine), out)
    s.answer(["deleted $names.", "i deleted $names.", "$names %s gone." % ("is" if len(mine) == 1 else "are")], names=names([base(p) for p in sorted(mine, key=str.encode)]))


DELETE_EMPTY = ["{delete|remove} {all |}{the |}empty files", "get rid of {all |}{the |}files {that are empty|with nothing in them|without content}", "{delete|remove} every empty file {here|anywhere below|in all folders|}", "all empty files can go.", "clean up the files that have no content",
                "i want all empty files {gone|deleted|removed}.", "throw away the files with zero bytes"]


@skill("files.delete", weight=0.15)
def delete_empty(s):
    places = [""] + [s.folder(0) for _ in range(s.number(0, 2))]
    mine = [s.file(s.choice(places), text="") for _ in range(s.number(1, 4))]
    for _ in range(s.number(1, 5)):
        s.file(s.choice(places))
    s.user(DELETE_EMPTY)
    for p in mine:
        s.will_remove(p)
    out = s.shell("find . -type f -empty -printf '%P\\n' -delete")
    s.require(sorted(out.split("\n")) == sorted(mine), out)
    s.answer(["deleted $names.", "i deleted {the empty %s |}$names." % ("file" if len(mine) == 1 else "files")], names=names(out.split("\n")))


# -- mkdir --------------------------------------------------------------------------------------------------------------

MKDIR = [
    "{create|make} {a folder|a directory|a new folder|a new directory} {called |named |}$d", "i need a {new |}{folder|directory} {called |named |}$d.", "{create|make|add} {the |a |}folder $d", "mkdir $d", "{create|make} $d, it should be a folder", "there should be a {folder|directory} {called|named} $d.",
    "set up a {folder|directory} {called |named |}$d", "can i have a {new |}folder {called|named} $d?", "add a {new |}directory {called |named |}$d", "please make me a {folder|directory} {with the name|called|named} $d", "new folder: $d", "a folder named $d {please|is needed}",
    "make an empty folder $d",
]
MKDIR_MANY = [
    "{create|make} {the |}{folders|directories} $ds", "{create|make} {the |}$n folders{:|} $ds", "i need {the folders|folders called|folders named} $ds.", "make {new |}{folders|directories} {called |named |}$ds", "set up {folders|directories} for $ds", "there should be folders {called |named |}$ds.",
    "add {new |the |}{folders|directories} $ds", "can you create {folders|directories} {called |named |}$ds?", "mkdir $ds", "a folder each for $ds please", "new folders: $ds", "create one folder for each of $ds",
]
MKDIR_INSIDE = [
    "{create|make} {the |}{folders|directories} $ds {in|inside} {the folder |}$p", "inside $p {create|make} {the |}folders $ds", "{create|make} a folder $p with {the |}subfolders $ds", "i need a folder $p with {the |}subfolders $ds.", "set up $p with subfolders {called |named |}$ds",
    "$p should have the subfolders $ds.", "in $p, make {the |}directories $ds", "add the subfolders $ds to $p",
]


@skill("files.mkdir", weight=0.6)
def mkdir(s):
    d = s.fresh_folder(s.folder(0.75))
    if s.chance(0.2):
        d = join(d, s.names.folder())
    s.clutter(0, 4, 1)
    s.user(MKDIR, d=s.dir_name(d))
    s.will_mkdir(d)
    s.shell("mkdir -p " + d)
    s.answer(["created {the folder |}$d.", "the folder $d is there now.", "i made the folder $d.", "$d has been created."], d=Name(d))


@skill("files.mkdir", weight=0.5)
def mkdir_many(s):
    parent = s.choice(["", "", s.folder(0), s.fresh_folder()])
    count = s.number(2, 5)
    ds = s.names.words(count, s.choice([s.names.folder, s.names.word, s.names.first]))
    if parent == "":
        ds = [d for d in ds if d not in s.dirs]
    s.require(len(ds) == count, "taken")
    s.clutter(0, 3, 1)
    number = Value(["", "", "two", "three", "four", "five"][count] if s.chance(0.6) else count)
    if parent:
        s.user(MKDIR_INSIDE, ds=[Name(d) for d in ds], p=s.dir_name(parent), n=number)
    else:
        s.user(MKDIR_MANY, ds=[Name(d) for d in ds], n=number)
    paths = [join(parent, d) for d in ds]
    for p in paths:
        s.require(p not in s._used, "taken")
        s.will_mkdir(p)
    s.shell("mkdir -p " + " ".join(paths))
    s.answer(["created {the folders |}$ds.", "the folders $ds are there now.", "i made {the folders |}$ds."], ds=names(paths))
