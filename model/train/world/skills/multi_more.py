"""multi.find_act: files told by two marks at once, or by their place in an order, and what is done with them."""

from world.scene import Name, T, Value, join
from world.skills import files_look, skill
from world.skills.files_change import base
from world.skills.multi import ACT, AND_COUNT, TEXT_WHICH
from world.wording import kind, names

BY_SIZE = {"+": ["{larger|bigger} than $n bytes", "over $n bytes", "that are {larger|bigger} than $n bytes", "with more than $n bytes", "of more than $n bytes"],
           "-": ["smaller than $n bytes", "under $n bytes", "that are smaller than $n bytes", "with {less|fewer} than $n bytes", "below $n bytes"]}
BY_NAME = {"start": ["{whose|where the} name {starts|begins} with $part", "that {start|begin} with $part", "whose names {start|begin} with $part"],
           "part": ["with $part in {the|their} name", "that have $part in {the|their} name", "whose name {contains|has} $part{ in it|}"]}
LIST = ["which $kind_ are {there|those}?", "list {all |}the $kind_", "which are the $kind_?", "{find|name} {all |}the $kind_", "show me {all |}the $kind_", "are there $kind_, and which?"]
COUNTS = ["how many $kind_ {are there|do i have|can you find}?", "count {all |}the $kind_", "{tell me|find out} how many $kind_ there are", "what is the number of $kind_?", "number of $kind_?", "how many of the $kind_?"]
MENTION = ["how many of the $kind $in {mention|contain|have|hold} {the word |}$w?", "of the $kind $in, how many {mention|contain} {the word |}$w?", "in how many {of the |}$kind $in does {the word |}$w {appear|occur|stand}?", "count the $kind $in {that|which} {mention|contain|have} {the word |}$w"]


def act_on(s, act, want, d, asked):
    """The calls and the answer for files that were just found."""
    got = sorted(want, key=str.encode)
    listed = " ".join(got)
    if act == "delete":
        for p in want:
            s.will_remove(p)
        out = s.shell("rm -v %s%s" % (listed, " | wc -l" if asked else ""))
    else:
        for p in want:
            (s.will_copy if act == "copy" else s.will_move)(p, join(d, base(p)))
        out = s.shell("mkdir -p %s && %s -v %s %s/%s" % (d, "cp" if act == "copy" else "mv", listed, d, " | wc -l" if asked else ""))
    verb = {"copy": "copied", "move": "moved", "delete": "deleted"}[act]
    to = "" if act == "delete" else " to $d"
    if asked:
        s.require(out == str(len(want)), out)
        s.answer(["i %s $n%s." % (verb, to), "$n %s %s%s." % ("was" if len(want) == 1 else "were", verb, to)], n=Value("%d file%s" % (len(want), "" if len(want) == 1 else "s")), d=Name(d))
        s.says(len(want))
    else:
        s.answer(["i %s $names%s." % (verb, to), "$names %s %s%s." % ("was" if len(want) == 1 else "were", verb, to)], names=names(got), d=Name(d))


@skill("multi.find_act", weight=1.5)
def two_marks(s):
    """Files of a kind that also have a size, a word or a part in the name."""
    act = s.choice(["copy", "move", "delete", "delete", "count", "count", "list", "list", "list"])
    how = s.choice(["size", "size", "text", "text", "start", "part"])
    root = s.folder(0) if s.chance(0.5) else ""
    sub = [root] + [s.fresh_folder(root) for _ in range(s.choice([0, 1, 2]))]
    ext = s.choice(["txt", "md", "log", "csv", "bak", "tmp", "json", "jpg", "png", "pdf"] if how != "text" else ["txt", "md", "log", "csv"])
    other = s.choice([e for e in ("txt", "md", "dat", "ini") if e != ext])
    slots = {}
    name_test, tail = "-name '*.%s'" % ext, "" if root else " -printf '%P\\n'"
    if how in ("start", "part"):
        part = s.names.word()
        names_ = [s.names.word() for _ in range(s.number(2, 6))]
        s.require(part not in names_ and len(set(names_)) == len(names_) and not any(part in x for x in names_), "names")
        make = (lambda x: part + s.choice(["-", "_", ""]) + x) if how == "start" else (lambda x: x + s.choice(["-", "_", "-new-"]) + part)
        cut = s.number(1, len(names_) - 1)
        want = [s.put(join(s.choice(sub), make(x) + "." + ext), "x\n") for x in names_[:cut]]
        for x in names_[cut:]:
            s.put(join(s.choice(sub), x + "." + ext), "y\n")
        s.put(join(s.choice(sub), make(s.names.word()) + "." + other), "z\n")
        slots["part"], which = Value(part), s.say_rng.choice(BY_NAME[how])
        name_test = "-name '%s.%s'" % (part + "*" if how == "start" else "*%s*" % part, ext)
        find = "find %s -type f %s%s | sort" % (root or ".", name_test, tail)
    elif how == "size":
        n, sign = s.choice([50, 100, 200, 300, 500, 1000, 2000, s.number(40, 3000)]), s.choice("+-")
        groups = {"large": [s.fresh(s.choice(sub), ext) for _ in range(s.number(1, 3))], "small": [s.fresh(s.choice(sub), ext) for _ in range(s.number(1, 3))]}
        for p in groups["large"]:
            s.put(p, "x" * (n + s.number(1, 900)) + "\n")
        for p in groups["small"]:
            s.put(p, "y" * s.number(1, n - 3) + "\n")
        for _ in range(s.number(1, 3)):
            s.put(s.fresh(s.choice(sub), other), "z" * (n + s.number(1, 300) if sign == "+" else s.number(1, n - 3)) + "\n")
        want = groups["large" if sign == "+" else "small"]
        slots["n"], which = Value(n), s.say_rng.choice(BY_SIZE[sign])
        find = "find %s -type f %s -size %s%dc%s | sort" % (root or ".", name_test, sign, n, tail)
    else:
        w = files_look.any_word(s)
        want = [s.fresh(s.choice(sub), ext) for _ in range(s.number(1, 4))]
        no = [s.fresh(s.choice(sub), ext) for _ in range(s.number(1, 3))]
        more = [s.fresh(s.choice(sub), other) for _ in range(s.number(1, 3))]
        s.require(not any(w.lower() in p.lower() for p in want + no + more), "in a name")
        files_look.planted(s, w, want + more, no)
        slots["w"], which = files_look.shown_word(s, w), s.say_rng.choice(TEXT_WHICH)
        find = "grep -rl%sw --include='*.%s' '%s' %s | sort" % (files_look.grep_case(w), ext, w, root or "*")
    d = s.fresh_folder() if s.chance(0.75) else s.folder(0, depth=1)
    s.require("." not in d and not any(p.startswith(d + "/") for p in s.files) and len({base(p) for p in want}) == len(want), "the target is not empty")
    if root:
        place, slots["r"] = s.say_rng.choice([" in $r", " below $r", " in the folder $r", " under $r", " in $r and below"]), s.dir_name(root)
    else:
        place = s.say_rng.choice(["", "", " in all folders", " anywhere below", " below this folder", " here and in the subfolders"] if len(sub) > 1 else ["", "", " here"])
    k = T("$k_ " + which + place if s.say_rng.random() < 0.7 or not place else "$k_" + place + " " + which, k_=kind(s, ext), **slots)
    if act == "count" and how == "text" and s.say_rng.random() < 0.6:
        s.user(MENTION, kind=kind(s, ext), w=slots["w"], **{"in": s.place(root) if root or len(sub) == 1 else T("{in all folders|anywhere below|here and below}")})
    elif act in ("count", "list"):
        s.user(COUNTS if act == "count" else LIST, kind_=k)
    else:
        forms = [t for t in ACT[act] if "the files $which" in t or "the |}files $which" in t]
        template = s.pick(forms).replace("{all |}{the |}files $which", "{all |}{the |}$kind_").replace("{the |}files $which", "{the |}$kind_").replace("the files $which", "the $kind_")
        s.require("$which" not in template, "no such form")
        asked = s.chance(0.35) and template[-1] not in "?."
        s.user(template + (s.say_rng.choice(AND_COUNT) if asked else ""), kind_=k, d=s.dir_name(d))
    if act == "count":
        n = s.shell(find.replace(" | sort", " | wc -l"))
        s.require(n == str(len(want)), n)
        files_look.count_answer(s, len(want), "file")
        return
    out = s.shell(find)
    s.require(out == "\n".join(sorted(want, key=str.encode)), out)
    if act == "list":
        files_look.found(s, out, want)
    else:
        act_on(s, act, want, d, asked)


EXTREME_ACT = {
    "copy": ["copy the $most file $in {into|to} {the folder |}$d", "find the $most file $in and copy it {into|to} {the folder |}$d", "which file $in is the $most? copy {it|that one} {into|to} {the folder |}$d", "put a copy of the $most file $in {into|in} {the folder |}$d", "take the $most file $in and copy it to {the folder |}$d"],
    "move": ["move the $most file $in {into|to} {the folder |}$d", "find the $most file $in and move it {into|to} {the folder |}$d", "which file $in is the $most? move {it|that one} {into|to} {the folder |}$d", "take the $most file $in and put it {into|in} {the folder |}$d"],
    "delete": ["{delete|remove} the $most file $in", "find the $most file $in and {delete|remove} it", "get rid of the $most file $in", "which file $in is the $most? {delete|remove} {it|that one}", "the $most file $in can go, {delete|remove} it"],
    "lines": ["how many lines has the $most file $in?", "find the $most file $in and {count its lines|tell me how many lines it has}", "which file $in is the $most, and how many lines does it have?", "count the lines of the $most file $in"],
}


@skill("multi.find_act", weight=0.6)
def extreme(s):
    """The largest, smallest, newest or oldest file of a folder, and then something done with it."""
    act, how = s.choice(list(EXTREME_ACT)), s.choice(["large", "small", "new", "old"])
    root = s.folder(0.4)
    paths = [s.fresh(root, s.choice(["txt", "md", "log", "csv"])) for _ in range(s.number(2, 6))]
    sizes = s.sample(range(2, 30), len(paths))
    for p, n, t in zip(paths, sizes, s.sample(range(2_000_000), len(paths))):
        s.put(p, "".join("%s\n" % s.names.word() for _ in range(n)), mtime=1_600_000_000 + 60 * t)
    key = (lambda p: len(s.files[p][0])) if how in ("large", "small") else (lambda p: s.files[p][2])
    s.require(len({key(p) for p in paths}) == len(paths), "two alike")
    f = (max if how in ("large", "new") else min)(paths, key=key)
    d = s.fresh_folder()
    s.require("." not in d, "like a file")
    most = {"large": files_look.BIG, "small": files_look.SMALL, "new": files_look.NEW, "old": files_look.OLD}[how]
    s.user(EXTREME_ACT[act], most=most, d=s.dir_name(d), **{"in": s.place(root)})
    out = s.shell("ls -%sp%s | grep -v / | %s -1" % ("S" if how in ("large", "small") else "t", " " + root if root else "", "head" if how in ("large", "new") else "tail"))
    s.require(out == base(f), out)
    if act == "lines":
        n = s.shell("grep -c '' " + f)
        s.answer(["$f has $n lines.", "the file is $f, it has $n lines.", "$f: $n lines."], f=Name(base(f)), n=Value(n))
        s.says(n)
        return
    if act == "delete":
        s.will_remove(f)
        s.shell("rm " + f)
        s.answer(["deleted $f.", "$f was deleted."], f=Name(base(f)))
        return
    (s.will_copy if act == "copy" else s.will_move)(f, join(d, base(f)))
    s.shell("mkdir -p %s && %s %s %s/" % (d, "cp" if act == "copy" else "mv", f, d))
    s.answer(["{%s|i %s} $f to $d." % (("copied",) * 2 if act == "copy" else ("moved",) * 2), "$f is in $d now."], f=Name(base(f)), d=Name(d))
