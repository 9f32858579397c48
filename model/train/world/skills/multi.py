"""multi.*: several steps, where an earlier result decides what comes next."""

import json

from world import content
from world.scene import Name, Quoted, T, Value, join, many
from world.skills import files_change, files_look, skill
from world.skills.fail import page
from world.skills.files_change import base
from world.wording import kind, kind_name, names, quote

# -- find_act -----------------------------------------------------------------------------------------------------------

ACT = {
    "copy": ["copy {all |}{the |}files $which {into|to} {the folder |}$d", "find {all |}the files $which and copy them {into|to} {the folder |}$d", "put copies of {all |}the files $which {into|in} {the folder |}$d", "which files $which? copy those {into|to} {the folder |}$d",
             "every file $which1 should be copied {into|to} {the folder |}$d.", "look for files $which and copy {each of them|them all} {into|to} {the folder |}$d", "i need copies of {all |}the files $which in {the folder |}$d.", "back up the files $which {into|to} {the folder |}$d",
             "the folder $d should get a copy of every file $which1."],
    "move": ["move {all |}{the |}files $which {into|to} {the folder |}$d", "find {all |}the files $which and move them {into|to} {the folder |}$d", "put {all |}the files $which {into|in} {the folder |}$d", "every file $which1 {should go|belongs} {into|to} {the folder |}$d.", "look for files $which and {move|put} {each of them|them} {into|in} {the folder |}$d",
             "collect {all |}the files $which in {the folder |}$d", "i want {all |}the files $which in {the folder |}$d.", "gather {all |}the files $which in {the folder |}$d", "take the files $which and move them to {the folder |}$d", "sort the files $which into {the folder |}$d"],
    "delete": ["{delete|remove} {all |}{the |}files $which", "find {all |}the files $which and {delete|remove} them", "get rid of {all |}{the |}files $which", "every file $which1 can {go|be deleted}.", "look for files $which and {delete|remove} {each of them|them}", "i don't need the files $which anymore, {delete|remove} them",
               "clean up: {delete|remove} {all |}the files $which", "throw away {all |}the files $which", "search for files $which and {delete|erase} them", "all files $which should be {deleted|removed}."],
    "count": ["how many files {are there |}$which?", "count the files $which", "how many files $which are there?", "{tell me|find out} how many files there are $which", "what is the number of files $which?", "i need to know how many files there are $which.", "number of files $which?"],
    "list": ["find {all |}{the |}files $which", "{which|what} files are there $which?", "list {all |}the files $which", "look for files $which", "search for {all |}{the |}files $which", "i am looking for {all |}the files $which.", "show me {all |}the files $which",
             "find {all |}the files $which and {name|list} them", "find {all |}the files $which and tell me {their names|which they are|where they are|what they are called}", "{find out|tell me|say} which files there are $which", "find every file $which1", "where are the files $which?",
             "search for files $which and {give me|show me} {the list|their names|their paths}", "name every file $which1", "are there {any |}files $which? which ones?", "i need to find the files $which.", "{can you see|do you see} files $which? {list|name} them{, don't touch them|}.",
             "find {all |}the files $which, {just list them|only the names|do not change anything|names only}"],
}
TEXT_WHICH = ["{that|which} {contain|mention|have|hold} {the word |}$w", "{containing|mentioning|with} {the word |}$w{ in them|}", "in which {the word |}$w {appears|occurs|stands}", "that have {the word |}$w in them"]
TEXT_WHICH1 = ["{that|which} {contains|mentions|has|holds} {the word |}$w", "{containing|mentioning|with} {the word |}$w in it"]
SIZE_WHICH = {"+": ["{larger|bigger} than $n bytes", "{of|with} more than $n bytes", "over $n bytes", "that are {larger|bigger} than $n bytes", "whose size is {over|above} $n bytes"],
              "-": ["smaller than $n bytes", "{of|with} {less|fewer} than $n bytes", "under $n bytes", "that are smaller than $n bytes", "whose size is {under|below} $n bytes"]}
AND_COUNT = [" and {tell me|say} how many {there were|it were|there are}", " and {give|tell} me the number", ", how many were {there|that}?", " and count them"]


@skill("multi.find_act", weight=1.8)
def find_act(s):
    act = s.choice(["copy", "move", "delete", "copy", "move", "delete", "count", "list", "list", "list"])
    how = s.choice(["text", "text", "size", "kind"] if act != "count" else ["text", "size"])
    root = s.folder(0) if s.chance(0.45) else ""
    sub = [root] + [s.fresh_folder(root) for _ in range(s.choice([0, 0, 1, 2]) if how != "kind" else s.number(1, 3))]
    ext = s.choice(["txt", "md", "log", "csv", None])
    if how == "text":
        w = files_look.any_word(s)
        want = [s.fresh(s.choice(sub), ext) for _ in range(s.number(1, 5))]
        extra = [s.fresh(s.choice(sub), ext) for _ in range(s.number(1, 4))]
        s.require(not any(w.lower() in p.lower() for p in want + extra), "in a name")
        files_look.planted(s, w, want, extra)
        slots = dict(w=files_look.shown_word(s, w))
        which, which1 = s.say_rng.choice(TEXT_WHICH), s.say_rng.choice(TEXT_WHICH1)
        find = "grep -rl%sw '%s' %s | sort" % (files_look.grep_case(w), w, root or "*")
    elif how == "size":
        n, sign = s.choice([50, 80, 100, 150, 200, 300, 500, 1000, s.number(40, 2000)]), s.choice("+-")
        large = [s.fresh(s.choice(sub), ext) for _ in range(s.number(1, 4))]
        small = [s.fresh(s.choice(sub), ext) for _ in range(s.number(1, 4))]
        for p in large:
            s.put(p, "x" * (n + s.number(1, 900)) + "\n")
        for p in small:
            s.put(p, "y" * s.number(1, n - 3) + "\n")
        want = large if sign == "+" else small
        slots = dict(n=Value(n))
        which = which1 = s.say_rng.choice(SIZE_WHICH[sign])
        which1 = which1.replace("that are", "that is")
        find = "find %s -type f -size %s%dc%s | sort" % (root or ".", sign, n, "" if root else " -printf '%P\\n'")
    else:
        e = s.choice(["txt", "md", "csv", "log", "json", "jpg", "png", "tmp", "bak", "pdf"])
        want = [s.file(s.choice(sub), e) for _ in range(s.number(1, 6))]
        for _ in range(s.number(1, 5)):
            s.file(s.choice(sub), s.choice([x for x in ("txt", "md", "ini", "sh", e + "2") if x != e]))
        slots = {}
        find = "find %s -type f -name '*.%s'%s | sort" % (root or ".", e, "" if root else " -printf '%P\\n'")
    place = ""
    if root:
        place = s.say_rng.choice([" in $r", " in $r", " below $r", " in the folder $r", " under $r"])
        slots["r"] = s.dir_name(root)
    elif len(sub) > 1 and s.chance(0.5):
        place = s.say_rng.choice([" in all folders", " anywhere below", " here and in the subfolders", " in any folder"])
    if how == "kind" and not place:
        place = s.say_rng.choice([" in all folders", " anywhere below", " here and in the subfolders", " from all the subfolders"])
    d = s.fresh_folder() if s.chance(0.75) else s.folder(0, depth=1)
    s.require("." not in d and not any(p.startswith(d + "/") for p in s.files) and len({base(p) for p in want}) == len(want), "the target is not empty")
    if how == "kind" and root and any(p.rpartition("/")[0] != root for p in want):
        place = s.say_rng.choice([" anywhere below $r", " in $r and its subfolders", " under $r at any depth"])
    template = s.pick(ACT[act])
    asked = act not in ("count", "list") and s.chance(0.3) and template[-1] not in "?."
    if how == "kind":
        template = template.replace("{all |}{the |}files $which", "{all |}{the |}$kind_").replace("{all |}the files $which", "{all |}the $kind_").replace("the files $which", "the $kind_") \
            .replace("file $which1", "$kind1_").replace("files $which", "$kind_")
        s.require("$which" not in template, "no such form")
        slots.update(kind_=T("$k_" + place, k_=kind(s, e), **slots), kind1_=T("$k_" + place, k_=kind(s, e, True), **slots))
    else:
        where_first = place and s.say_rng.random() < 0.5
        slots["which"] = T((place + " " if where_first else "") + which + ("" if where_first else place), **slots)
        slots["which1"] = T((place + " " if where_first else "") + which1 + ("" if where_first else place), **slots)
    if asked:
        template += s.say_rng.choice(AND_COUNT)
    s.user(template, d=s.dir_name(d), **slots)
    if act == "count":
        n = s.shell(find.replace(" | sort", " | wc -l"))
        s.require(n == str(len(want)), n)
        files_look.count_answer(s, len(want), "file")
        return
    out = s.shell(find)
    if act == "list":
        return files_look.found(s, out, want)
    got = sorted(want, key=str.encode)
    s.require(out == "\n".join(got), out)
    listed = " ".join(got)
    if act == "delete":
        for p in want:
            s.will_remove(p)
        out = s.shell("rm -v %s%s" % (listed, " | wc -l" if asked else ""))
        verb = "deleted"
    else:
        for p in want:
            (s.will_copy if act == "copy" else s.will_move)(p, join(d, base(p)))
        tool = "cp" if act == "copy" else "mv"
        out = s.shell("mkdir -p %s && %s -v %s %s/%s" % (d, tool, listed, d, " | wc -l" if asked else ""))
        verb = "copied" if act == "copy" else "moved"
    if asked:
        s.require(out == str(len(want)), out)
        s.answer(["i %s $n." % verb if act == "delete" else "i %s $n to $d." % verb, "$n %s %s." % ("was" if len(want) == 1 else "were", verb)], n=many(len(want), "file"), d=Name(d))
        s.says(len(want))
    else:
        s.answer(["i %s $names." % verb, "$names %s %s." % ("was" if len(want) == 1 else "were", verb)] if act == "delete" else ["i %s $names to $d." % verb, "{done, i|i} %s $names {into|to} $d." % verb],
                 names=names(got), d=Name(d))


@skill("multi.find_act", weight=0.15)
def find_nothing(s):
    act = s.choice(["copy", "move", "delete"])
    w = s.names.made_up(3, 4) if s.chance(0.6) else s.choice(files_look.MARKS)
    root = s.folder(0) if s.chance(0.4) else ""
    files_look.planted(s, w, [], [s.fresh(root, s.choice(["txt", "md"])) for _ in range(s.number(1, 5))])
    d = s.fresh_folder()
    s.require("." not in d, "like a file")
    place = T("{in|below|under} $r", r=s.dir_name(root)) if root else ""
    s.user(ACT[act], which=T(s.say_rng.choice(TEXT_WHICH) + " $p", p=place, w=Name(w)), which1=T(s.say_rng.choice(TEXT_WHICH1) + " $p", p=place, w=Name(w)), d=s.dir_name(d))
    out = s.shell("grep -rl%sw '%s' %s | sort" % (files_look.grep_case(w), w, root or "*"))
    s.require(out == "[no output]", out)
    s.answer(["no file {contains|mentions} $w, so {i did nothing|nothing was {changed|done}}.", "{i found|there is} no file with $w{, nothing was changed|}."], w=Name(w))


# -- config_use ---------------------------------------------------------------------------------------------------------

BY_KEY = "{{given|named|set|listed} {as|under|by} $key in $f|that $f {gives|names|has} {as|for|under} $key|from $key in $f|that $key in $f {names|points to}|in the $key {setting|entry|line} of $f|which $f {calls|lists as} $key}"
LOOK_UP = "look up $key in $f and "
LOOK_UP_ALSO = ["read $key {in|from} $f{,| and} ", "see what $key is in $f, then ", "{take|get} $key from $f and ", "find $key in $f and then ", "check $key in $f, then ", "{use|take} the $key {of|from|in} $f: ", "$f has a setting $key. ",
                "$key is set in $f. ", "in $f you find $key. ", "first look at $key in $f, then ", "the $key is {given|written|set} in $f: "]


def widened(templates):
    """A list of requests in which what comes after looking a setting up also follows other ways to say so."""
    return templates + [other + t.removeprefix(LOOK_UP) for t in templates if t.startswith(LOOK_UP) for other in LOOK_UP_ALSO]


FOLDER_COUNT = widened(["how many files are in the folder $by?", "count the files in the folder $by", "{tell me|find out} how many files {there are |}are in the folder $by", "number of files in the folder $by?", "look up $key in $f and count the files in that folder", "$f has a setting $key with a folder. how many files are in {it|there}?",
                "read $key from $f, it is a folder. how many files does it hold?"])
FOLDER_LIST = widened(["which files are in the folder $by?", "list the files in the folder $by", "what is in the folder $by?", "look up $key in $f and list {the files in |}that folder", "$f has a setting $key with a folder. what is in {it|there}?"])
FOLDER_COPY = widened(["copy $a {into|to} the folder $by", "put a copy of $a {into|in} the folder $by", "look up $key in $f and copy $a {there|into that folder}", "$a should be copied to the folder $by.", "copy $a to wherever $key in $f points", "read $key {in|from} $f and copy $a to that folder"])
FOLDER_MOVE = widened(["move $a {into|to} the folder $by", "put $a {into|in} the folder $by", "look up $key in $f and move $a {there|into that folder}", "$a belongs in the folder $by, move it there", "read $key {in|from} $f and move $a to that folder"])
FOLDER_MAKE = widened(["{create|make} the folder $by", "{make|create} the {directory|folder} $by, it is not there yet", "look up $key in $f and {create|make} that folder", "the folder $by {is missing|does not exist}, {create|make} it", "read $key {in|from} $f and make a folder with that name"])
FILE_LINES = widened(["how many lines {are in|has} the file $by?", "count the lines of the file $by", "look up $key in $f and count the lines of that file", "number of lines in the file $by?", "$f has a setting $key with a file name. how many lines are in that file?", "read $key from $f and tell me how many lines that file has"])
FILE_SIZE = widened(["how {big|large} is the file $by in bytes?", "what is the size of the file $by?", "look up $key in $f and tell me the size of that file in bytes", "how many bytes has the file $by?"])
FILE_HEAD = widened(["what is the first line of the file $by?", "show me the first line of the file $by", "look up $key in $f and show me the first line of that file", "how does the file $by begin? first line only."])
FILE_DELETE = widened(["{delete|remove} the file $by", "look up $key in $f and {delete|remove} that file", "get rid of the file $by", "the file $by can go, {delete|remove} it"])
FILE_SORT = widened(["sort {the lines of |}the file $by alphabetically", "look up $key in $f and sort {the lines of |}that file from a to z", "put the lines of the file $by in alphabetical order"])
FILE_MAKE = widened(["{create|make} the file $by with the text $q", "write $q {into|to} the file $by", "look up $key in $f and write $q {into|to} that file", "save $q in the file $by"])
URL_SAVE = widened(["{download|fetch} the {url|URL|address|page} $by {and save it as|to|into} $g", "look up $key in $f, {download|fetch} it and save it as $g", "save what is at the {url|URL|address} $by {in|to|as} $g", "read the {url|URL|address} from $key in $f and download it to $g", "get the {page|url|URL} $by and store it in $g",
            "{download|fetch} whatever $key in $f points to and save it {as|in} $g"])
URL_FIELD = widened(["{fetch|get|ask} the {url|URL|address} $by and tell me the $k in the reply", "what $k does the {url|URL|address} $by give?", "look up $key in $f, fetch {it|that url|that URL} and tell me the $k {in|from} the {json|JSON|reply|answer}", "read $key from $f, call that {url|URL|address}, and give me the $k", "what is the $k at the {url|URL|address} $by?"])
URL_STATUS = widened(["which status {code |}does the {url|URL|address} $by give?", "check the {url|URL|address} $by and tell me the status code", "look up $key in $f and tell me which status code {it|that url|that URL} returns", "what is the status code of the {url|URL|address} $by?"])
FOLDER_KEYS = "data_dir backup_dir output_dir input_dir target_dir archive_dir work_dir cache_dir upload_dir export_dir folder directory target source_folder backup_folder output_folder destination inbox outbox store".split()
FILE_KEYS = "input_file output_file log_file data_file list_file report_file source_file main_file notes_file members_file input report template index_file file filename names_file".split()
URL_KEYS = "url api_url base_url endpoint server_url source_url feed_url download_url status_url link address homepage service source health_url".split()


def a_key(s, usual):
    """A usual key, or a word before the last part of one."""
    return s.choice(usual) if s.chance(0.7) else "%s_%s" % (s.names.noun(), s.choice(usual).rpartition("_")[2])


def config(s, key, value):
    """A config file that has the key among others, some of them similar; the file's path."""
    f = s.fresh(s.folder(0.75), s.choice(["conf", "ini", "cfg", "txt", "conf"]))
    others = [k for k in content.some_keys(s, s.number(2, 6)) if k != key]
    pairs = [(k, content.config_value(s, k)) for k in others]
    pairs.insert(s.number(0, len(pairs)), (key, value))
    if s.chance(0.4):
        pairs.insert(s.number(0, len(pairs)), ("old_" + key, content.config_value(s, key) + "x"))
    if s.chance(0.25):
        cut = s.number(1, len(pairs))
        a, b = content.some_sections(s, 2)
        text = content.ini(s, [(a, pairs[:cut])] + ([(b, pairs[cut:])] if pairs[cut:] else []))
    else:
        text = content.settings(s, pairs)
    return s.put(f, text)


def by_slots(s, f, key):
    shown = files_look.spoken(s, key)
    return dict(by=T(BY_KEY, key=shown, f=Name(f)), key=shown, f=Name(f))


@skill("multi.config_use", weight=1.0)
def config_folder(s):
    key = a_key(s, FOLDER_KEYS)
    x = s.number(0, 4)
    d = s.fresh_folder(s.folder(0.8)) if x == 4 or x >= 2 and s.chance(0.3) else s.folder(0)
    s.require("." not in d, "like a file")
    f = config(s, key, d)
    s.require(f.rpartition("/")[0] != d and not d.startswith(f), "inside")
    slots = by_slots(s, f, key)
    if x <= 1:
        files = [s.file(d) for _ in range(s.number(1, 7))]
        s.clutter(0, 3, 1)
        files = [p for p in s.files if p.rpartition("/")[0] == d]
        s.user(FOLDER_LIST if x else FOLDER_COUNT, **slots)
        s.require(d in s.read(f), "not there")
        if x == 0:
            n = s.shell("find %s -maxdepth 1 -type f | wc -l" % d)
            s.require(n == str(len(files)), n)
            s.answer(["there %s $n in $d." % ("is" if n == "1" else "are"), "$d has $n.", "$n."], n=many(len(files), "file"), d=Name(d))
            s.says(n)
        else:
            out = s.shell("ls " + d)
            files_look.listed(s, out.split("\n"), "files")
    elif x <= 3:
        a = s.file(s.folder(0.8))
        s.clutter(0, 3, 1)
        b = join(d, base(a))
        s.require(b not in s.files and a.rpartition("/")[0] != d, "taken")
        s.user(FOLDER_MOVE if x == 3 else FOLDER_COPY, a=Name(a), **slots)
        s.require(d in s.read(f), "not there")
        (s.will_move if x == 3 else s.will_copy)(a, b)
        out = s.shell("ls %s && mkdir -p %s && %s %s %s/" % (a, d, "mv" if x == 3 else "cp", a, d))
        s.require(out == a, out)
        s.answer(["$a is in $d now.", "%s $a to $d." % ("moved" if x == 3 else "copied")], a=Name(base(a)), d=Name(d))
    else:
        s.user(FOLDER_MAKE, **slots)
        s.require(d in s.read(f), "not there")
        s.will_mkdir(d)
        s.shell("mkdir -p " + d)
        s.answer(["created {the folder |}$d.", "the folder $d is there now."], d=Name(d))


@skill("multi.config_use", weight=1.0)
def config_file(s):
    key = a_key(s, FILE_KEYS)
    g = s.fresh(s.folder(0.6), s.choice(["txt", "csv", "log", "md"]))
    f = config(s, key, g)
    x = s.number(0, 5)
    lines = content.lines(s, 2, 12)
    if x < 5:
        s.put(g, "\n".join(lines) + "\n")
    s.clutter(0, 3, 1)
    slots = by_slots(s, f, key)
    line = content.line(s)
    s.user([FILE_LINES, FILE_SIZE, FILE_HEAD, FILE_DELETE, FILE_SORT, FILE_MAKE][x], q=Quoted(line), **slots)
    s.require(g in s.read(f), "not there")
    if x == 0:
        n = s.shell("grep -c '' " + g)
        s.require(n == str(len(lines)), n)
        s.answer(["$g has $n.", "$n.", "there are $n in $g."], n=many(len(lines), "line"), g=Name(g))
        s.says(n)
    elif x == 1:
        n = s.shell("stat -c %s " + g)
        s.answer(["$g is $n bytes.", "$n bytes.", "it is $n bytes."], n=Value(n), g=Name(g))
        s.says(n)
    elif x == 2:
        s.answer("$t", t=Value(s.shell("head -n 1 " + g)))
    elif x == 3:
        s.will_remove(g)
        s.shell("rm " + g)
        s.answer(["deleted $g.", "$g is gone.", "i deleted $g."], g=Name(g))
    elif x == 4:
        s.will_write(g, "\n".join(sorted(lines, key=str.encode)) + "\n")
        s.shell("sort -o %s %s" % (g, g))
        s.answer(["$g is sorted.", "sorted $g."], g=Name(g))
    else:
        s.will_write(g, line + "\n")
        s.write(g, line + "\n")
        s.answer(files_change.CREATED, f=Name(g))


@skill("multi.config_use", weight=0.8)
def config_url(s):
    key = a_key(s, URL_KEYS)
    x = s.number(0, 3)
    if x <= 1:
        body = content.text(s, 1, 8)
        url = s.serve(page(s), body)
    elif x == 2:
        reply = {k: content.config_value(s, k) for k in content.some_keys(s, s.number(2, 5))}
        url = s.serve(page(s), reply)
    else:
        status = s.choice([200, 200, 201, 301, 403, 404, 404, 500, 503])
        url = s.serve(page(s), "ok\n" if status < 300 else "no\n", status=status)
    f = config(s, key, url)
    s.clutter(0, 3, 1)
    slots = by_slots(s, f, key)
    if x <= 1:
        g = s.fresh(s.folder(0.8))
        s.user(URL_SAVE, g=Name(g), **slots)
        s.read(f)
        s.will_write(g, body)
        s.require("saved" in s.http("GET", url, save_to=g), "not saved")
        s.answer(["{i saved|saved} $u {as|to} $g.", "$g {is saved|is there now}.", "{done, it is|it is} saved in $g."], u=Name(url), g=Name(g))
    elif x == 2:
        k = s.choice(list(reply))
        s.user(URL_FIELD, k=Value(k), **slots)
        s.read(f)
        s.http("GET", url)
        s.answer(["the $k is $v.", "it is $v.", "$v."], k=Value(k), v=Value(reply[k]))
        s.says(reply[k])
    else:
        s.user(URL_STATUS, **slots)
        s.read(f)
        s.http("GET", url)
        s.answer(["$u {answers with|gives|returns} status $c.", "the status {code |}is $c.", "it is $c."], u=Name(url), c=Value(status))


FILE_TAIL = widened(["what is the last line of the file $by?", "show me the last line of the file $by", "look up $key in $f and show me the last line of that file", "how does the file $by end? last line only."])
FILE_WORDS = widened(["how many words {are in|has} the file $by?", "count the words of the file $by", "look up $key in $f and count the words of that file", "number of words in the file $by?"])
FILE_COPY = widened(["copy the file $by to $g", "make a copy of the file $by {called|named} $g", "look up $key in $f and copy that file to $g", "i need a copy of the file $by under the name $g."])
FILE_MOVE = widened(["rename the file $by to $g", "look up $key in $f and rename that file to $g", "give the file $by the {new |}name $g", "the file $by should be called $g."])
FILE_APPEND = widened(["add {the line |}$q to the file $by", "look up $key in $f and add {the line |}$q {to|at the end of} that file", "append $q to the file $by", "put $q at the end of the file $by"])
FILE_SUM = widened(["what is the sha256 {sum|checksum|hash} of the file $by?", "look up $key in $f and {compute|give me} the sha256 {sum|checksum} of that file", "sha256 of the file $by?"])
FILE_UNIQUE = widened(["drop the repeated lines from the file $by, keep the order", "look up $key in $f and remove the duplicate lines from that file, keeping the order", "every line of the file $by should be there only once, in the order they are."])
FOLDER_LARGEST = widened(["{which is|what is} the largest file in the folder $by?", "look up $key in $f and tell me the largest file in that folder", "which file is the largest in the folder $by?", "$f has a setting $key with a folder. which file in it is the largest?"])
FOLDER_KIND = widened(["how many $kind are in the folder $by?", "count the $kind in the folder $by", "look up $key in $f and count the $kind in that folder", "$f has a setting $key with a folder. how many $kind are {in it|there}?"])
FOLDER_EMPTY = widened(["{delete|remove} {all |}the $kind in the folder $by", "look up $key in $f and {delete|remove} {all |}the $kind in that folder", "get rid of the $kind in the folder $by"])
FOLDER_KIND_INTO = widened(["move {all |}the $kind {into|to} the folder $by", "look up $key in $f and move {all |}the $kind {there|into that folder}", "the $kind belong in the folder $by, move them there", "copy {all |}the $kind {into|to} the folder $by", "look up $key in $f and copy {all |}the $kind {there|into that folder}", "put copies of the $kind {into|in} the folder $by"])


@skill("multi.config_use", weight=1.0)
def config_file_more(s):
    """The named file looked at or changed in further ways."""
    key = a_key(s, FILE_KEYS)
    g = s.fresh(s.folder(0.6), s.choice(["txt", "csv", "log", "md", "list"]))
    f = config(s, key, g)
    x = s.choice(["tail", "words", "copy", "move", "append", "sum", "unique"])
    lines = content.lines(s, 2, 9)
    if x == "unique":
        lines += [s.choice(lines) for _ in range(s.number(1, 3))]
    s.put(g, "\n".join(lines) + "\n")
    s.clutter(0, 3, 1)
    h, line = s.fresh(g.rpartition("/")[0], g.rpartition(".")[2]), files_change.short_line(s)
    forms = dict(tail=FILE_TAIL, words=FILE_WORDS, copy=FILE_COPY, move=FILE_MOVE, append=FILE_APPEND, sum=FILE_SUM, unique=FILE_UNIQUE)[x]
    s.user(forms, g=Name(h), q=Quoted(line) if s.say_rng.random() < 0.6 else Value(line), **by_slots(s, f, key))
    s.require(g in s.read(f), "not there")
    if x == "tail":
        s.answer("$t", t=Value(s.shell("tail -n 1 " + g)))
    elif x == "words":
        n = s.shell("wc -w < " + g)
        s.require(n == str(sum(len(t.split()) for t in lines)), n)
        s.answer(["$g has $n.", "$n.", "there are $n in $g."], n=many(int(n), "word"), g=Name(g))
        s.says(n)
    elif x == "copy":
        s.will_copy(g, h)
        s.shell("cp %s %s" % (g, h))
        s.answer(["copied $a to $b.", "$b is a copy of $a now.", "i copied $a to $b."], a=Name(g), b=Name(h))
    elif x == "move":
        s.will_move(g, h)
        s.shell("mv %s %s" % (g, h))
        s.answer(["$a is {now called|now} $b.", "renamed $a to $b.", "i renamed $a to $b."], a=Name(g), b=Name(h))
    elif x == "append":
        s.will_write(g, "\n".join(lines + [line]) + "\n")
        s.shell("sed -i '$a\\' %s && echo %s >> %s" % (g, quote(s, line), g))
        s.answer(["i added the line to $g.", "the line is at the end of $g now."], g=Name(g))
    elif x == "sum":
        out = s.shell("sha256sum " + g)
        s.answer(["$h.", "the sha256 sum {of $g |}is $h.", "it is $h."], h=Value(out.split(" ")[0]), g=Name(g))
    else:
        s.will_write(g, "\n".join(dict.fromkeys(lines)) + "\n")
        s.shell("out=$(awk '!seen[$0]++' %s) && echo \"$out\" > %s" % (g, g))
        s.answer(["$g has every line once now.", "the repeated lines are gone from $g."], g=Name(g))


@skill("multi.config_use", weight=0.8)
def config_folder_more(s):
    """The named folder searched, cleared or filled."""
    key, ext = a_key(s, FOLDER_KEYS), s.choice(["txt", "md", "csv", "log", "json"])
    other = s.choice([e for e in ("txt", "ini", "sh", "md") if e != ext])
    x = s.choice(["largest", "count", "empty", "into", "into"])
    d = s.fresh_folder() if x == "into" and s.chance(0.5) else s.folder(0)
    s.require("." not in d, "like a file")
    f = config(s, key, d)
    s.require(f.rpartition("/")[0] != d and not d.startswith(f), "inside")
    slots = dict(kind=kind(s, ext), **by_slots(s, f, key))
    if x == "largest":
        paths = [s.fresh(d) for _ in range(s.number(2, 6))]
        for p, n in zip(paths, s.sample(range(3, 900), len(paths))):
            s.put(p, "x" * n + "\n")
        s.user(FOLDER_LARGEST, **slots)
        s.require(d in s.read(f), "not there")
        out = s.shell("ls -Sp %s | grep -v / | head -1" % d)
        s.require(join(d, out) == max(paths, key=lambda p: len(s.files[p][0])), out)
        s.answer(["$g.", "the largest file is $g.", "it is $g."], g=Name(out))
        return
    source = "" if x == "into" else d
    mine = [s.file(source, ext) for _ in range(s.number(1, 5))]
    for _ in range(s.number(1, 4)):
        s.file(source, other)
    s.require(f not in mine and not (x == "into" and any(p.startswith(d + "/") for p in s.files)), "in the way")
    if x == "count":
        s.user(FOLDER_KIND, **slots)
        s.require(d in s.read(f), "not there")
        n = s.shell("find %s -maxdepth 1 -type f -name '*.%s' | wc -l" % (d, ext))
        s.require(n == str(len(mine)), n)
        files_look.count_answer(s, int(n), "file")
    elif x == "empty":
        s.user(FOLDER_EMPTY, **slots)
        s.require(d in s.read(f), "not there")
        for p in mine:
            s.will_remove(p)
        s.shell("rm -v %s/*.%s" % (d, ext))
        s.answer(["deleted the $k in $d.", "the $k in $d are gone."], k=kind_name(ext), d=Name(d))
    else:
        template = s.pick(FOLDER_KIND_INTO)
        copying = "cop" in template
        s.user(template, **slots)
        s.require(d in s.read(f), "not there")
        for p in mine:
            (s.will_copy if copying else s.will_move)(p, join(d, base(p)))
        out = s.shell("ls *.%s && mkdir -p %s && %s *.%s %s/" % (ext, d, "cp" if copying else "mv", ext, d))
        s.require(sorted(out.split("\n")) == sorted(mine), out)
        s.answer(["the $k are in $d now."] if not copying else ["copies of the $k are in $d now.", "copied the $k to $d."], k=kind_name(ext), d=Name(d))


# -- fetch_write --------------------------------------------------------------------------------------------------------

GET = "{fetch|download|get} $u"
SORT = [GET + ", sort the lines {alphabetically|from a to z|} and {save|write|put} {them|the result} {to|in|into|as} $f", "save the lines of $u {sorted|in alphabetical order} {to|in|as} $f", "$f should hold the lines from $u in alphabetical order.", GET + " and write its lines, sorted, {to|into} $f",
        "make $f with the sorted lines of $u", "sort what $u {gives|returns} {by line|alphabetically} and save it as $f", "put the lines of $u into $f, {sorted|in alphabetical order}", "i need the sorted lines from $u in $f."]
SORT_N = [GET + ", sort the {numbers|lines} {by number|numerically|from small to large} and {save|write} {them|the result} {to|in|as} $f", "$f should hold the numbers from $u, {smallest first|in ascending order}.", "save the numbers at $u to $f, sorted {by number|numerically|from small to large}", "write the numbers of $u {to|into} $f, the smallest first"]
PICK = [GET + " and {save|write|put} {only |}the lines {with|that contain|containing} {the word |}$w {to|in|into} $f", "save the lines of $u that {contain|mention} $w {to|in|as} $f", "$f should hold only the lines from $u with {the word |}$w.", "pick {out |}the lines with $w from $u and {save|write} them {to|in} $f",
        "from $u, keep only the lines {with|containing} $w in {a file |}$f", "write {to|into} $f all lines of $u that {have|contain} {the word |}$w", "make $f with the lines from $u {in which|where} {the word |}$w {occurs|appears}"]
COUNT = [GET + ", count the lines and write {the number|just the number|the count} {to|into} $f", "how many lines does $u have? write {only |}the number {to|into} $f.", "write the number of lines {at|of|in} $u {to|into} $f", "count the lines of $u and {save|put} the number in $f", "$f should hold the number of lines of $u, nothing else."]
SUM = [GET + ", add up the numbers and write {the sum|the total|only the sum} {to|into} $f", "write the sum of the numbers {at|from|in} $u {to|into} $f", "sum the numbers from $u and {save|put} the {total|sum|result} in $f", "$f should hold the sum of the numbers at $u, nothing else.", "add {up |}all numbers at $u, the {total|sum} goes {to|into} $f",
       "what is the total of the numbers at $u? write it {to|into} $f."]
LARGEST = [GET + " and write the {largest|highest|biggest} number {to|into} $f", "write the {largest|highest|biggest} of the numbers at $u {to|into} $f", "find the {largest|highest} number at $u and {save|put} it in $f", "$f should hold the {largest|highest} number from $u."]
FIELD = [GET + " and write the $k {to|into} $f", "{fetch|get} the $k from $u and {save|put|store} it in $f", "write the $k {given at|from|that comes from} $u {to|into} $f", "save the $k of the reply from $u {to|in|as} $f", "$f should hold {just |only |}the $k that $u {gives|returns}.", "ask $u for the $k and write it {to|into} $f", "look up the $k at $u and {save|write} it {to|into} $f"]
JSON_SUM = ["{fetch|get} the list {at|from} $u, add up all {$ks|the $ks} and {put|write} {just |only |}the {sum|total} {in|into} $f", "the entries at $u have {$ks|a $k}. {put|write} the {sum|total} of {them all|all $ks} {in|into} $f", "what do all the $ks at $u add up to? write {just |}the number {in|to|into} $f.",
            GET + ", sum {up |}the $ks and save {just |only |}the {number|sum} {in|as} $f", "$f should hold {just |}the total of all $ks {at|from} $u.", GET + ", add up the $k of all {entries|items} and write the {sum|total} {to|into} $f", "write the total $k of the items at $u {to|into} $f", "sum {up |}the $k values from $u and {save|put} the {sum|total} in $f", "$f should hold the sum of all $k {values |}at $u.", "$u has a list with a $k each. write their sum {to|into} $f."]
JSON_NAMES = [GET + " and write the $k of {every|each} {entry|item} {to|into} $f, one per line", "save the $k of all entries at $u {to|in} $f, one per line", "make a list of every $k at $u in $f, one per line", "write each $k from $u {to|into} $f, {one a line|one per line}", "$f should list the $k of every entry at $u, one per line."]
SORTED_TOO = [", sorted", ", in alphabetical order", ", sorted alphabetically"]


def in_place(command, f):
    return "out=$(%s) && echo \"$out\" > %s" % (command, f)


@skill("multi.fetch_write", weight=1.2, needs=("awk", "python3"))
def fetch_text(s):
    x = s.choice(["sort", "sort", "sort_n", "pick", "pick", "count", "sum", "sum", "largest"])
    f = s.fresh(s.folder(0.75), s.choice(["txt", "txt", "md", "list", "out"]))
    numbers = [s.number(1, s.choice([50, 900, 9999])) for _ in range(s.number(3, 12))]
    style = s.choice(["bare", "bare", "named"]) if x in ("sum", "largest") else "bare"
    w = s.names.noun()
    if x == "sort":
        source = s.choice([s.names.first, s.names.city, s.names.noun, s.names.product, s.names.word])
        lines = s.names.words(s.number(3, 12), source)
        want = sorted(lines, key=str.encode)
        command, look = "sort -o %s %s" % (f, f), False
    elif x == "sort_n":
        numbers = sorted(set(numbers))
        want = [str(n) for n in numbers]
        lines = want[:]
        s.rng.shuffle(lines)
        command, look = "sort -n -o %s %s" % (f, f), False
    elif x == "pick":
        lines = [t for t in content.lines(s, 2, 8) if w not in t.lower()]
        for _ in range(s.number(1, 4)):
            lines.insert(s.number(0, len(lines)), s.choice(["the %s is %s", "a %s and a %s", "no %s for the %s", "%s %s"]) % (w, s.names.noun()))
        want = [t for t in lines if w in t.split()]
        command, look = in_place("grep -iw '%s' %s" % (w, f), f), False
    elif x == "count":
        lines = content.lines(s, 2, 14)
        want = [str(len(lines))]
        command, look = in_place("grep -c '' %s" % f, f), False
    else:
        lines = [str(n) for n in numbers] if style == "bare" else ["%s %d" % (s.names.noun(), n) for n in numbers]
        want = [str(sum(numbers) if x == "sum" else max(numbers))]
        if style == "bare":  # as multi_fetch.py computes
            command = in_place("python3 -c \"v=[float(t) for t in open('%s')]; print('%%.10g' %% round(%s(v), 2))\"" % (f, "sum" if x == "sum" else "max"), f)
        elif x == "sum":
            command = in_place("awk '{n += $2} END {print n}' %s" % f, f)
        else:
            command = in_place("awk '$2 > n {n = $2} END {print n}' %s" % f, f)
        look = True
    body = "\n".join(lines) + "\n"
    s.require(len(body) <= 1000, "a long page")
    url = s.serve(page(s), body)
    s.clutter(0, 3, 1)
    s.user(dict(sort=SORT, sort_n=SORT_N, pick=PICK, count=COUNT, sum=SUM, largest=LARGEST)[x], u=Name(url), f=Name(f), w=files_look.shown_word(s, w))
    s.will_write(f, "\n".join(want) + "\n")
    s.require("saved" in s.http("GET", url, save_to=f), "not saved")
    if look:
        s.require(s.read(f) == body.rstrip("\n"), "other text")
    out = s.shell(command)
    s.require(out == "[no output]", out)
    s.answer({"sort": ["the sorted lines are in $f.", "$f has the sorted lines.", "i saved the sorted lines to $f."], "sort_n": ["the sorted numbers are in $f.", "$f has the numbers in order."],
              "pick": ["the lines with $w are in $f.", "$f has the lines with $w."], "count": ["$f has the number of lines now.", "the count is in $f."],
              "sum": ["the sum is in $f.", "$f has the sum now."], "largest": ["the largest number is in $f.", "$f has the largest number now."]}[x], f=Name(f), w=Name(w))


@skill("multi.fetch_write", weight=0.9, needs=("python3",))
def fetch_json(s):
    x = s.choice(["field", "field", "sum", "names"])
    f = s.fresh(s.folder(0.75), s.choice(["txt", "txt", "md", "out"]))
    n = s.names
    sort_too = ""
    if x == "field":
        reply = {k: content.config_value(s, k) for k in content.some_keys(s, s.number(2, 6))}
        k = s.choice(list(reply))
        want = reply[k]
    else:
        number = s.choice(["price", "amount", "count", "age", "score", "points", "weight", "stock", "hours", n.noun(), n.noun()])
        name = s.choice(["name", "city", "title", "item", "user"])
        source = dict(name=n.first, city=n.city, title=n.noun, item=n.product, user=n.made_up)[name]
        reply = [{name: v, number: s.number(1, 400)} for v in n.words(s.number(2, 6), source)]
        k = number if x == "sum" else name
        want = str(sum(r[number] for r in reply)) if x == "sum" else "\n".join(r[name] for r in reply)
        if x == "names" and s.chance(0.3):
            sort_too = s.say_rng.choice(SORTED_TOO)
            want = "\n".join(sorted(r[name] for r in reply))
    body = json.dumps(reply, indent=s.choice([None, None, 1, 2]))
    s.require(len(body) <= 1000, "a long page")
    url = s.serve(page(s), body, kind="application/json")
    s.clutter(0, 3, 1)
    template = s.pick(dict(field=FIELD, sum=JSON_SUM, names=JSON_NAMES)[x])
    if sort_too:
        s.require(template[-1] not in ".?", "no place for more")
        template += sort_too
    s.user(template, u=Name(url), f=Name(f), k=Value(k), ks=Value(k if k.endswith("s") or k == "stock" else k + "s"))
    s.will_write(f, want + "\n")
    if x == "field":
        s.http("GET", url)
        s.write(f, want + "\n")
        s.answer(["the $k $v is in $f.", "$f has the $k now: $v.", "i wrote $v to $f."], k=Value(k), v=Value(want), f=Name(f))
        return
    s.require("saved" in s.http("GET", url, save_to=f), "not saved")
    s.require(s.read(f) == body, "other text")
    if x == "sum":
        expression = "print(sum(x['%s'] for x in d))" % k
    elif sort_too:
        expression = "print('\\n'.join(sorted(x['%s'] for x in d)))" % k
    else:
        expression = "print('\\n'.join(x['%s'] for x in d))" % k
    out = s.shell(in_place("python3 -c \"import json; d=json.load(open('%s')); %s\"" % (f, expression), f))
    s.require(out == "[no output]", out)
    s.answer(["the sum of the $k values is in $f.", "$f has the sum now."] if x == "sum" else ["every $k is in $f now.", "$f has the $k of each entry."], k=Value(k), f=Name(f))


@skill("multi.fetch_write", weight=0.15)
def fetch_gone(s):
    s.serve(page(s), "x\n")
    path = page(s)
    s.require(("GET", path) not in s.routes, "it is there")
    f = s.fresh(s.folder(0.75), "txt")
    s.clutter(0, 3, 1)
    s.user(s.say_rng.choice([SORT, PICK, COUNT, SUM]), u=Name(s.url(path)), f=Name(f), w=Name(s.names.noun()))
    out = s.http("GET", s.url(path), save_to=f)
    s.require("[not saved: status 404]" in out, out)
    s.answer(["the {request|download} failed: the server answered 404, so nothing was written.", "that failed: status 404, $f was not made."], f=Name(f))


# -- if_exists ----------------------------------------------------------------------------------------------------------

IF = ["if {there is a file |the file |}$f {exists|is there}, $yes{,|;} {otherwise|if not, |else|or else} $no", "$yes if $f {exists|is there}, {otherwise|else|if not,} $no", "check {if|whether} $f {exists|is there}. if {so|yes|it does}, $yes. {if not,|otherwise} $no", "is {there a file |}$f{ there|}? then $yes, {otherwise|else|if not} $no",
      "{when|in case} $f exists, $yes, and if {it doesn't|it does not|not}, $no", "if $f is {missing|not there}, $no, {otherwise|else|but if it is there} $yes", "look for $f. if you find it, $yes, {otherwise|if not} $no", "$no if there is no {file |}$f, {otherwise|but if there is} $yes", "does $f exist? if it does, $yes, else $no",
      "should $f be there, $yes; should it not, $no", "should $f exist, $yes; if {it doesn't|it does not|not}, $no", "if there is a file {called|named} $f, $yes, {otherwise|else|if not,} $no", "in case of a file {called|named} $f being there, $yes. {otherwise|if not} $no",
      "i am not sure {if|whether} $f {exists|is there}. if it {is|does}, $yes, {otherwise|else} $no", "do i have {a file |}$f? if {so|yes}, $yes, {otherwise|if not} $no", "{look|see|check} if $f is {there|here}; {when|if} it is, $yes, {when|if} it is not, $no", "only if $f {exists|is there} $yes, {in the other case|otherwise} $no",
      "see {if|whether} there is {a file |}$f: if yes $yes, if no $no"]
IF = [t.replace("if {there is a file |the file |}$f {exists|is there}, $yes", "if {the file |}$f {exists|is there}, $yes").replace("is {there a file |}$f{ there|}? then", "is there a file $f? then") for t in IF]


def branch(s, f, there):
    """(phrase, what to do: a function that acts and returns (template, slots) of the answer's second half)"""
    d = f.rpartition("/")[0]
    ext = f.rpartition(".")[2]
    x = s.choice(["copy", "rename", "delete", "append", "create", "mkdir", "move", "lines", "sort"] if there else ["create", "create", "create", "mkdir"])
    if x == "copy":
        g = s.fresh(d, ext)

        def run():
            s.will_copy(f, g)
            s.shell("cp %s %s" % (f, g))
            return "copied it to $g_", dict(g_=Name(g))
        return T("{copy it {to|as}|make a copy of it {called|named}} $g_", g_=Name(g)), run
    if x == "rename":
        g = s.fresh(d, ext)

        def run():
            s.will_move(f, g)
            s.shell("mv %s %s" % (f, g))
            return "renamed it to $g_", dict(g_=Name(g))
        return T("{rename it to|change its name to|rename it} $g_", g_=Name(g)), run
    if x == "move":
        to = s.fresh_folder()
        s.require("." not in to, "like a file")

        def run():
            s.will_move(f, join(to, base(f)))
            s.shell("ls %s && mkdir -p %s && mv %s %s/" % (f, to, f, to))
            return "moved it to $g_", dict(g_=Name(to))
        return T("{move|put} it {into|in} the folder $g_", g_=s.dir_name(to)), run
    if x == "delete":
        def run():
            s.will_remove(f)
            s.shell("rm " + f)
            return "{deleted|removed} it", {}
        return T("{delete|remove} it"), run
    if x == "lines":
        def run():
            n = s.shell("grep -c '' " + f)
            s.require(n == str(len(s.text(f).splitlines())), n)
            return "counted its lines: $n_", dict(n_=Value(n))
        return T("{tell me|say} how many lines it has"), run
    if x == "sort":
        def run():
            s.will_write(f, "\n".join(sorted(s.text(f).splitlines(), key=str.encode)) + "\n")
            s.shell("sort -o %s %s" % (f, f))
            return "sorted it", {}
        return T("sort {it|its lines}{ alphabetically|}"), run
    if x == "append":
        line = content.line(s) if s.chance(0.6) else files_change.short_line(s)

        def run():
            body = s.text(f)
            s.will_write(f, body + line + "\n")
            s.shell("sed -i '$a\\' %s && echo %s >> %s" % (f, quote(s, line), f))
            return "added the line to it", {}
        return T("{add {the line |}$q_ to it|append $q_ to it|put $q_ at {its|the} end}", q_=Quoted(line)), run
    if x == "mkdir":
        to = s.fresh_folder()

        def run():
            s.will_mkdir(to)
            s.shell("mkdir -p " + to)
            return "made the folder $g_", dict(g_=Name(to))
        return T("{create|make} {the folder|a folder|a folder called} $g_", g_=s.dir_name(to)), run
    if s.chance(0.2):
        g = f if not there and s.chance(0.4) else s.fresh(d, s.choice(["txt", "md", "log", ext]))

        def run():
            s.will_write(g, "")
            s.shell("touch " + g)
            return "made the empty file $g_", dict(g_=Name(g))
        return T("{create|make} {it empty|it as an empty file|an empty file with that name}" if g == f else "{create|make} {an empty file|an empty file called|an empty file named|the empty file} $g_", g_=Name(g)), run
    g = f if not there and s.chance(0.6) else s.fresh(d, s.choice(["txt", "md", ext]))
    line = content.line(s)

    def run():
        s.will_write(g, line + "\n")
        s.write(g, line + "\n")
        return "created $g_", dict(g_=Name(g))
    if g == f:
        return T("{create it|make it|create the file} {with {the text |}$q_|and write $q_ {in|into} it}", q_=Quoted(line)), run
    return T("{{create|make} {a file |}$g_ {with {the text |}|that says |saying |containing }$q_|write $q_ {to|into} {a {new |}file |}$g_}", g_=Name(g), q_=Quoted(line)), run


@skill("multi.if_exists", weight=1.1)
def if_exists(s):
    d = s.folder(0.7)
    f = s.fresh(d, s.choice(["txt", "txt", "md", "csv", "log", "conf"]))
    exists = s.chance(0.5)
    if exists:
        s.put(f, content.text(s, 1, 5))
    if s.chance(0.5):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    yes, do_yes = branch(s, f, True)
    no, do_no = branch(s, f, False)
    s.user(IF, f=Name(f), yes=yes, no=no)
    out = s.shell("ls " + f)
    s.require((out == f) == exists, out)
    said, slots = (do_yes if exists else do_no)()
    if exists:
        s.answer(["$f {exists|is there}, so i %s." % said, "$f {was|is} there: i %s." % said], f=Name(f), **slots)
    else:
        s.answer(["$f {does not exist|is not there}, so i %s." % said, "there is no $f, so i %s." % said], f=Name(f), **slots)


IF_ONLY = ["if $f {exists|is there}, $yes", "$yes, but only if $f {exists|is there}", "in case {there is a file |}$f{ exists|}, $yes", "if there is a file $f, $yes", "check for $f and if it {is there|exists}, $yes", "should there be a file $f, $yes"]
IF_ONLY[2] = "in case there is a file $f, $yes"
UNLESS = ["if $f {does not exist|is missing|is not there}, $no", "$no, but only if there is no {file |}$f", "unless $f {exists|is there}, $no", "if there is no {file |}$f{ yet|}, $no", "check for $f and if it is {missing|not there}, $no"]


@skill("multi.if_exists", weight=0.4)
def if_only(s):
    f = s.fresh(s.folder(0.7), s.choice(["txt", "txt", "md", "csv", "log"]))
    exists, positive = s.chance(0.5), s.chance(0.5)
    if exists:
        s.put(f, content.text(s, 1, 5))
    if s.chance(0.5):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    phrase, do = branch(s, f, positive)
    s.user(IF_ONLY if positive else UNLESS, f=Name(f), yes=phrase, no=phrase)
    out = s.shell("ls " + f)
    s.require((out == f) == exists, out)
    if exists == positive:
        said, slots = do()
        s.answer(["$f %s, so i %s." % ("{exists|is there}" if exists else "{does not exist|is not there}", said)], f=Name(f), **slots)
    else:
        s.answer(["$f %s, so {i did nothing|there was nothing to do|nothing was done}." % ("{exists|is there}" if exists else "{does not exist|is not there}")], f=Name(f))
