"""recall.*: something is looked at, and much later in the session a question about it is answered from what was shown.

The later question says that it is about something seen before; nothing is called for it. What lies between is put there
by data.py: any other work of any length.
"""

import json

from world import content
from world.scene import Name, T, Value, join
from world.skills import files_look, http, skill
from world.skills.http import page, reply_object

EARLIER = "{earlier|before|a while ago|some time ago|at the {beginning|start}|first|earlier today|earlier on|in the beginning}"
READ = ["{read|open|show me} $f", "what is in $f?", "{have a look at|look into|look at} $f", "show me what $f {says|holds|contains}", "what does $f {say|contain}?", "print $f", "display {the file |}$f", "can you read $f?"]
# $k of $f, asked for again: no call.
AGAIN = [
    "what was {the |}$k in $f again?", EARLIER + " you read $f. what was {the |}$k{ in it| there|}?", "{remind me|tell me again}: {what is|what was|which was} the $k in $f{ that you read " + EARLIER + "|}?",
    "{without looking again|do you remember|from memory}, what was {the |}$k in $f?", "what $k did $f {have|give|show|say} when you {read|opened} it " + EARLIER + "?", "you {read|saw|opened} $f " + EARLIER + ". tell me {the |}$k from it",
    "going back to $f: what was {the |}$k there?", "which $k did you see in $f " + EARLIER + "?", "i forgot the $k you found in $f. what was it?", "what did $f say about {the |}$k {when you read it|when we looked|earlier}?",
    "$f, the {file|one} from " + "{before|earlier}: what was its $k?", "repeat the $k from $f that {came up|was shown|you showed me} " + EARLIER,
]
VALUE = ["the $k {was|is} $v.", "it {was|is} $v.", "$v."]
FOUND = ["{what was|tell me again} the $what of $f{ again|}?", "{remind me|say again}: {what was|what is} the $what of $f{ that you {found|told me} " + EARLIER + "|}?", EARLIER + " you told me the $what of $f. what was it?",
         "you {looked up|gave me|worked out} the $what of $f " + EARLIER + ", what was it?", "which $what did you {give|tell} me for $f " + EARLIER + "?", "repeat the $what of $f, please{, the one from before|}", "{do you remember|from memory,} the $what of $f?",
         "i forgot the $what of $f that you told me " + EARLIER + ". what was it?", "going back to $f: what was its $what?"]




def pairs_of(s):
    """Settings with distinct values: [(key, value)], as text that read_file shows."""
    keys = content.some_keys(s, s.number(2, 7))
    pairs = [(k, str(content.config_value(s, k))) for k in keys]
    s.require(len({v for _, v in pairs}) == len(pairs), "the same value twice")
    return pairs


@skill("recall.setting", weight=2.0)
def setting(s):
    pairs = pairs_of(s)
    f = s.put(s.fresh(s.folder(0.6), s.choice(["conf", "ini", "cfg", "txt", "conf"])), content.settings(s, pairs))
    s.clutter(0, 3, 1)
    asks = s.sample(pairs, min(len(pairs), s.choice([2, 2, 3])))
    k, v = asks[0]
    if s.chance(0.6):
        s.user(files_look.VALUE, f=Name(f), key=files_look.spoken(s, k))
        s.require(v in s.read(f), "not there")
        s.answer(VALUE, k=Value(k), v=Value(v))
    else:
        s.user(READ, f=Name(f))
        s.answer("$t", t=Value(s.read(f)))
    s.later()
    for k, v in asks[1:]:
        s.user(AGAIN, k=files_look.spoken(s, k), f=Name(f))
        s.answer(VALUE, k=Value(k), v=Value(v))
        s.says(v)


@skill("recall.note", weight=1.6)
def note(s):
    """A line of a note that says something in words."""
    n = s.names
    thing = "%s %s" % (n.noun(), s.choice(["code", "number", "password", "date", "price", "room", "key", "owner", "color", "time", "address", "city", "name", "pin", "weight", "height", "phone", "token", "place", "deadline"]))
    value = s.choice([lambda: str(s.number(10, 99999)), n.code, n.made_up, n.city, n.first, n.word, lambda: "%s-%d" % (n.word(), s.number(1, 999))])()
    lines = content.lines(s, 0, 6)
    s.require(not any(value.lower() in t.lower() for t in lines), "twice")
    lines.insert(s.number(0, len(lines)), s.choice(["the %s is %s", "%s: %s", "the %s is %s.", "remember: the %s is %s", "%s = %s"]) % (thing, value))
    f = s.put(s.fresh(s.folder(0.6), s.choice(["txt", "md", "txt"])), "\n".join(lines) + "\n")
    s.clutter(0, 3, 1)
    whole = s.chance(0.5)
    s.user(READ if whole else ["what does $f say about the $k?", "what is the $k {in|according to} $f?", "look up the $k in $f", "which $k does $f {give|mention}?", "find the $k in $f"], f=Name(f), k=Value(thing))
    out = s.read(f)
    s.require(value in out, "not there")
    s.answer("$t" if whole else ["the $k is $v.", "it is $v.", "$v."], t=Value(out), k=Value(thing), v=Value(value))
    s.later()
    s.user(AGAIN if s.chance(0.6) else ["what was the $k{ again|}?", "{remind me|tell me again}, what was the $k?", "which $k did you read " + EARLIER + "?", "i forgot the $k, what was it?", EARLIER + " you read me the $k. what was it?", "do you remember the $k?"],
           k=Value(thing), f=Name(f))
    s.answer(VALUE, k=Value(thing), v=Value(value))
    s.says(value)


@skill("recall.reply", weight=1.2)
def reply(s):
    d = {k: v for k, v in reply_object(s).items() if not isinstance(v, (dict, list, bool)) and v is not None}
    s.require(len(d) >= 2 and len({str(v) for v in d.values()}) == len(d), "too little")
    url = s.serve(page(s), d)
    (k, v), (k2, v2) = s.sample(list(d.items()), 2)
    s.user(http.FIELD, u=Name(url), k=Value(k))
    s.http("GET", url)
    s.answer(VALUE, k=Value(k), v=Value(v))
    s.later()
    s.user(AGAIN, k=Value(k2), f=Name(url))
    s.answer(VALUE, k=Value(k2), v=Value(v2))
    s.says(str(v2))


@skill("recall.json", weight=0.8)
def json_file(s):
    d = {k: v for k, v in reply_object(s).items() if not isinstance(v, (dict, list, bool)) and v is not None}
    s.require(len(d) >= 2 and len({str(v) for v in d.values()}) == len(d), "too little")
    f = s.put(s.fresh(s.folder(0.6), "json"), json.dumps(d, indent=s.choice([None, 1, 2])) + "\n")
    k2, v2 = s.choice(list(d.items()))
    s.user(READ, f=Name(f))
    s.answer("$t", t=Value(s.read(f)))
    s.later()
    s.user(AGAIN, k=Value(k2), f=Name(f))
    s.answer(VALUE, k=Value(k2), v=Value(v2))
    s.says(str(v2))


@skill("recall.measure", weight=1.4)
def measure(s):
    """A number or a sum of a file."""
    f = s.file(s.folder(0.6), s.choice(["txt", "csv", "log", "md", "bin"]), content.text(s, 2, 14))
    s.clutter(0, 3, 1)
    x = s.choice(["size", "lines", "words", "md5", "sha1"])
    if x == "size":
        s.user(files_look.SIZE, f=Name(f))
        v, what = s.shell("stat -c %s " + f), ["size", "size in bytes", "number of bytes"]
    elif x == "lines":
        s.user(["how many lines {has|are in} $f?", "count the lines of $f"], f=Name(f))
        v, what = s.shell("grep -c '' " + f), ["number of lines", "line count", "count of lines"]
    elif x == "words":
        s.user(["how many words {has|are in} $f?", "count the words of $f"], f=Name(f))
        v, what = s.shell("wc -w < " + f), ["number of words", "word count", "count of words"]
    else:
        s.user(["{what is the|compute the|give me the} %s {sum|checksum|hash} of $f" % x], f=Name(f))
        v, what = s.shell("%ssum %s" % (x, f)).split(" ")[0], ["%s sum" % x, "%s checksum" % x, x, "checksum"]
    s.answer(["$v.", "it is $v."], v=Value(v))
    s.later()
    s.user(FOUND, what=Value(s.say_rng.choice(what)), f=Name(f))
    s.answer(["it was $v.", "$v.", "the $what of $f was $v."], v=Value(v), what=s.say_rng.choice(what), f=Name(f))
    s.says(v)


@skill("recall.line", weight=0.8)
def found_line(s):
    """Where a word was found."""
    w = s.names.made_up(3, 4) if s.chance(0.5) else files_look.any_word(s)
    paths = [s.fresh(s.choice(["", s.names.folder()]), s.choice(["txt", "md", "log"])) for _ in range(s.number(2, 5))]
    s.require(not any(w.lower() in p.lower() for p in paths), "in a name")
    files_look.planted(s, w, paths[:1], paths[1:])
    s.user(files_look.SEARCH, w=files_look.shown_word(s, w))
    out = s.shell("grep -rl%sw '%s' * | sort" % (files_look.grep_case(w), w))
    s.require(out == paths[0], out)
    s.answer(["only $f.", "$f.", "it is in $f."], f=Name(out))
    s.later()
    s.user(["which file was it that {had|contains|mentions} $w{ again|}?", "{remind me|tell me again}: which file {had|mentions} $w?", "you searched for $w " + EARLIER + ". where was it?", "in which file did you find $w " + EARLIER + "?",
            "where did you find $w " + EARLIER + "?", "do you remember which file mentions $w?", "{from memory, |}which file had $w in it?", "i forgot which file had $w, {say it again|tell me again}"], w=Name(w))
    s.answer(["$f.", "it was $f.", "it was in $f."], f=Name(out))
    s.says(out)


@skill("recall.listing", weight=0.6)
def largest(s):
    d = s.folder(0.2)
    paths = [s.fresh(d) for _ in range(s.number(2, 6))]
    for p, n in zip(paths, s.sample(range(3, 900), len(paths))):
        s.put(p, "x" * n + "\n")
    place = T("in $r", r=s.dir_name(d)) if d else T("here")
    s.user(files_look.LARGEST, most=files_look.BIG, **{"in": s.place(d)})
    out = s.shell("ls -Sp%s | grep -v / | head -1" % (" " + d if d else ""))
    s.require(join(d, out) == max(paths, key=lambda p: len(s.files[p][0])), out)
    s.answer(["the largest file is $f.", "$f.", "it is $f."], f=Name(out))
    s.later()
    s.user(["which file was the {largest|biggest} $place{ again|}?", "{remind me|tell me again}: which was the {largest|biggest} file $place?", "you found the {largest|biggest} file $place " + EARLIER + ". which was it?",
            "do you remember which file $place was the {largest|biggest}?", "i forgot which file was the {largest|biggest} $place, say it again"], place=place)
    s.answer(["$f.", "it was $f.", "the {largest|biggest} was $f."], f=Name(out))
    s.says(out)
