"""files.*, looking: list, find, count, size, largest, newest, search, read_value."""

from world import content, wording
from world.scene import Name, Quoted, T, Value, join, many
from world.skills import skill
from world.wording import kind, kind_name, names

# -- list ---------------------------------------------------------------------------------------------------------------

LIST_ALL = [
    "what's $in?", "what is $in?", "which files and folders are $in?", "what files and folders do i have $in?", "list {all |}the {contents|files and folders} $in", "show me what's $in",
    "{give|get} me {a list|the names} of everything $in", "what does it say $in if you list it?", "tell me what {you find|there is} $in", "name everything $in", "what do we have $in?", "list everything $in",
    "i need {the names|a list} of what is $in.", "what is stored $in?", "which {names|items|entries|things} are $in?", "i want to know what is $in.", "look $in and tell me what is there", "can i see what is $in?",
    "what have we got $in?", "show the contents $in", "names of everything $in?", "what all is $in?", "take a look $in, what do you see?",
]
LIST_THE_FILES = [
    "what files are $in?", "which files are $in?", "{which|what} files do i have $in?", "list {all |}the files $in", "show me {all |}the {file names|files} $in", "{give|get} me {a list|the names} of the files $in",
    "tell me {what|which} files {you find|there are} $in", "name {all the|the} files $in", "can i see a list of the files $in?", "what are the files $in called?", "file names $in?", "enumerate the files $in", "what are the names of the files $in?",
    "i need {the names|a list} of all files $in.", "which files can you see $in?", "the files $in, what are they?", "what files do we have $in?", "write down the names of the files $in for me here in your answer", "say which files are $in",
    "i'd like to know which files are $in.", "what are all the file names $in?",
]
LIST_FOLDER = [
    "what's in $folder?", "list $folder", "contents of $folder?", "what does the folder $folder {contain|hold}?", "show $folder", "show me the {contents|files} of {the folder |}$folder", "list the folder $folder",
    "what is inside $folder?", "whats in the $folder {folder|directory}?",
    "open {the folder |}$folder and list what is in it", "list the contents of $folder", "ls $folder", "what do i have in $folder?", "tell me what {the folder |}$folder {holds|contains}",
]
LIST_FOLDER_FILES = [
    "what files does $folder {contain|have|hold}?", "which files does {the folder |}$folder {have|contain|hold}?", "give me the file names from $folder", "the files in $folder, please name them",
    "which files are {there |}in $folder?", "list the files {of|in} {the folder |}$folder", "file names in $folder?", "show me the files {of|in} $folder",
]
LIST_KIND = [
    "list {all |}{the |}$kind $in", "which $kind are $in?", "what $kind are there $in?", "show me {all |}the $kind $in", "name the $kind $in",
    "what $kind do i have $in?", "{give me|tell me} the names of {all |}the $kind $in", "which $kind are there $in?", "only the $kind $in please, what are they?",
    "i need {a list|the names} of the $kind $in.", "what are the names of the $kind $in?", "list only the $kind $in", "list just the $kind $in, nothing else",
    "are there $kind $in, and which?", "find out which $kind are $in", "show only $kind $in", "which of the files $in are $kind?",
    "can i have the names of the $kind $in?", "what are the $kind called $in?", "say which $kind are $in",
]
LIST_FOLDERS = [
    "which folders are $in?", "list {only |}the {folders|subfolders|directories} $in", "what {folders|subfolders|directories} are {there |}$in?",
    "name the {folders|subfolders|directories} $in", "show me {just |only |}the {folders|directories} $in", "what are the folders called $in?",
    "give me the names of the {folders|subfolders|directories} $in", "which {subfolders|directories} do i have $in?",
    "only the folders $in, what are they called?", "i want to see {only |}the {folders|directories} $in.", "tell me which {folders|subfolders} there are $in",
    "are there folders $in and what are their names?", "list the folder names $in",
]
LIST_FILES = [
    "list {only |just |}the files $in, {not the folders|no folders}", "which files (not folders) are $in?", "name the files $in but not the folders",
    "show {only |}the files $in without the {folders|subfolders|directories}", "what files are $in? {leave out the folders|skip the folders|no folders}.",
    "give me the names of the files $in, without folders", "files only $in, what are they called?", "list the plain files $in, leave the folders out",
]
LISTED = ["there are $names.", "$names.", "the $what are $names.", "{here they are|i found}: $names."]
LISTED_ONE = ["there is only $names.", "only $names.", "there is one: $names.", "just $names."]
NONE_THERE = ["there are no $what there.", "there are none: no $what {are there|were found}.", "no $what are there.", "i found no $what there."]


def listed(s, found, what):
    if not found:
        s.answer(NONE_THERE, what=what)
    elif len(found) == 1:
        s.answer(LISTED_ONE, names=names(found))
    else:
        s.answer(LISTED, names=names(found), what=what)
    s.says(*found)


def populate(s, d, low, high, exts=None, folders=0):
    """Files and folders in d; returns (files, folders) as bare names."""
    files, dirs = [], []
    for _ in range(s.number(low, high)):
        ext = s.choice(exts) if exts else None
        files.append(s.file(d, ext).rpartition("/")[2])
    for _ in range(folders):
        f = s.fresh_folder(d)
        s.mkdir(f)
        if s.chance(0.6):
            s.file(f)
        dirs.append(f.rpartition("/")[2])
    return files, dirs


@skill("files.list", weight=1.4)
def list_all(s):
    d = s.folder(0.4)
    only_files = s.chance(0.5)
    files, dirs = populate(s, d, 1, 9, None, s.choice([0, 0, 1, 2]))
    if d:
        s.clutter(0, 3, 1)
    if d and s.chance(0.5):
        s.user(LIST_FOLDER_FILES if only_files else LIST_FOLDER, folder=s.dir_name(d))
    else:
        s.user(LIST_THE_FILES if only_files else LIST_ALL, **{"in": s.place(d)})
    out = s.shell("ls%s%s%s" % (" -p" if only_files else "", " " + d if d else "", " | grep -v /" if only_files else ""))
    want = files if only_files else files + dirs
    s.require(out.split("\n") == sorted(want, key=str.encode), "ls printed other names")
    listed(s, out.split("\n"), "files" if only_files else "names")


@skill("files.list", weight=0.12)
def list_empty(s):
    d = s.folder(0)
    s.clutter()
    s.user(LIST_FOLDER if s.chance(0.6) else LIST_ALL, folder=s.dir_name(d), **{"in": s.place(d)})
    out = s.shell("ls " + d)
    s.require(out == "[no output]", out)
    s.answer(["$d is empty.", "there is nothing in $d.", "the folder $d is empty: there are no files in it."], d=Name(d))


@skill("files.list", weight=1.1)
def list_kind(s):
    d = s.folder(0.4)
    ext = s.choice(["txt", "txt", "md", "csv", "log", "json", "jpg", "png", "sh", "py", "ini", "pdf", "html", "tmp", "bak"])
    mine = [] if s.chance(0.06) else [s.file(d, ext).rpartition("/")[2] for _ in range(s.number(1, 7))]
    others = [e for e in ["txt", "md", "csv", "log", "json", "png", "bak", "sh", ext + "x", "old"] if e != ext]
    populate(s, d, 1, 6, others, s.choice([0, 0, 1]))
    if mine and s.chance(0.4):
        s.put(join(d, mine[0] + ".bak"), "old\n")
    s.user(LIST_KIND, kind=kind(s, ext), **{"in": s.place(d)})
    out = s.shell("ls -p%s | grep '\\.%s$'" % (" " + d if d else "", ext))
    found = [] if out == "[exit code 1]" else out.split("\n")
    s.require(found == sorted(mine, key=str.encode), "other names")
    listed(s, found, kind_name(ext))


@skill("files.list", weight=0.5)
def list_folders(s):
    d = s.folder(0.5)
    _, dirs = populate(s, d, 1, 5, None, s.number(1, 6))
    s.user(LIST_FOLDERS, **{"in": s.place(d)})
    out = s.shell("ls -p%s | grep /" % (" " + d if d else ""))
    found = [line.rstrip("/") for line in out.split("\n")]
    s.require(found == sorted(set(dirs) | {p.split("/")[0] for p in s.dirs if not d}, key=lambda n: (n + "/").encode()) or set(found) == set(dirs),
              "other folders")
    if len(found) == 1:
        s.answer(["there is only $names.", "there is one folder: $names.", "only $names."], names=names(found))
    else:
        s.answer(["the folders are $names.", "there are $names.", "$names."], names=names(found))
    s.says(*found)


@skill("files.list", weight=0.3)
def list_files_only(s):
    d = s.folder(0.5)
    files, _ = populate(s, d, 1, 7, None, s.number(1, 4))
    s.user(LIST_FILES, **{"in": s.place(d)})
    out = s.shell("ls -p%s | grep -v /" % (" " + d if d else ""))
    s.require(set(out.split("\n")) == set(files), "other files")
    listed(s, out.split("\n"), "files")


# -- find ---------------------------------------------------------------------------------------------------------------

# What may follow an order to find files: to find them is to tell which they are, whatever else the words ask for.
TELLING = "{||||| and {tell|show|give} me {the|their} {names|paths|places}| and {list|name} them| and {say|report|tell me} where they are|, i need {the|their} {paths|names}|, {just|only} {list|name} them| and {make|give me} a list of them| and {report|tell me} what you find}"


def telling(templates):
    return [t if t[-1] in "?.!" else t + TELLING for t in templates]


FIND_NAME = [
    "where is {the file |}$f?", "find {the file |}$f", "in which folder is $f?", "where did i {put|save|leave} {the file |}$f?", "locate $f",
    "i can't find $f{, where is it|, can you}?", "what is the path of $f?", "look for {a file called |}$f", "search for {the file |}$f and tell me {where it is|its path}",
    "i lost {the file |}$f. where is it?", "where can i find $f?", "give me the {full |}path {of|to} $f", "tell me where $f is", "which folder holds $f?",
    "somewhere below here is a file called $f, where?", "show me the path to $f", "is there a file {called|named} $f {somewhere|anywhere}, and where?",
]
FIND_PART = telling([
    "which files have $part in {their|the} name?", "find {all |}files with $part in the name", "where are the files whose name {contains|includes|has} $part?",
    "list the files with $part in their names, subfolders too", "find every file whose name contains $part", "which file names contain $part?",
    "look for files that have $part in their name", "search all folders for files named something with $part", "find files with $part in the file name anywhere below",
])
FIND_START = telling([
    "which files {start|begin} with $part?", "find {all |}files whose name {starts|begins} with $part", "list every file anywhere below whose name begins with $part",
    "where are the files that {start|begin} with $part?", "find the files starting with $part, in all folders", "which file names begin with $part?",
])
FIND_KIND = telling([
    "find {all |}{the |}$kind", "where are {all |}the $kind?", "find every $kind1 {in all folders|anywhere below|in any folder|here and below}",
    "list {all |}the $kind {in all subfolders|anywhere below|with their paths|including subfolders|here and in the subfolders}", "which $kind are there {anywhere|in all the folders|here and below}?",
    "{give me|show me} the paths of {all |}the $kind", "search {everything|all folders} for $kind", "where do i have $kind?", "look {everywhere|in all folders} for $kind",
    "what $kind are there, in any folder?", "i need the paths of all the $kind.", "tell me where the $kind are",
])
FIND_KIND_IN = telling([
    "find {all |}{the |}$kind {anywhere |}{under|below|in} $folder", "which $kind are {anywhere |}{under|below} $folder?", "list every $kind1 {under|below|inside} $folder, at any depth",
    "find the $kind in $folder and its subfolders", "where in $folder are the $kind?", "search $folder and everything below for $kind",
])
FIND_EMPTY = telling([
    "which files are empty?", "find {all |}{the |}empty files", "are there {any |}empty files{, and which| and where}?", "list {all |}{the |}files {that are empty|with nothing in them|without any content|of size zero}",
    "which files have {no content|nothing in them|zero bytes}?", "find files {that are empty|with no content|with zero bytes} {anywhere|in all folders|here and below}",
    "show me {every|each} empty file", "where are the empty files?", "tell me which files hold nothing", "look for empty files {in all folders|everywhere|in the subfolders too}",
    "i think some files are empty. which ones?", "name all files with size 0",
])
FOUND = ["i found $names.", "$names.", "{they are|these are they}: $names.", "there are $names."]
FOUND_ONE = ["it is $names.", "$names.", "i found $names.", "there is one: $names."]


def tree(s):
    """Some folders, for things to be spread over."""
    return [""] + [s.folder(0) for _ in range(s.number(1, 4))]


def found(s, out, want, templates=FOUND, one=FOUND_ONE):
    got = out.split("\n")
    s.require(got == sorted(want, key=str.encode), "found others")
    s.answer(one if len(got) == 1 else templates, names=names(got))
    s.says(*got)


@skill("files.find", weight=0.6)
def find_name(s):
    places = tree(s)
    f = s.file(s.choice(places[1:] if s.chance(0.9) else places))
    name = f.rpartition("/")[2]
    for _ in range(s.number(0, 6)):
        s.file(s.choice(places))
    if s.chance(0.5):
        s.lookalike(f)
    want = [f]
    if s.chance(0.15):
        g = join(s.choice(places), name)
        if g not in s.files:
            want.append(s.put(g, content.text(s)))
    s.user(FIND_NAME, f=Name(name))
    out = s.shell("find . -name '%s' -printf '%%P\\n' | sort" % name)
    found(s, out, want, one=["it is $names.", "$names.", "{i found it|you find it|it is} at $names.", "the path is $names."])


@skill("files.find", weight=0.6)
def find_part(s):
    places, start = tree(s), s.chance(0.35)
    part = s.names.word()
    want = []
    for _ in range(s.number(1, 5)):
        ext, w = s.names.extension(), s.names.word()
        stem = s.choice(["%s-%s", "%s_%s", "%s%s"]) % ((part, w) if start or s.chance(0.5) else (w, part))
        f = join(s.choice(places), "%s.%s" % (stem, ext))
        if f not in s.files:
            want.append(s.put(f, content.any_text(s, ext)))
    for _ in range(s.number(1, 7)):
        f = s.fresh(s.choice(places))
        if part not in f.rpartition("/")[2]:
            s.put(f, content.text(s, 1, 3))
    if start:
        f = join(s.choice(places), "%s-%s.txt" % (s.names.word(), part))
        if not f.rpartition("/")[2].startswith(part):
            s.put(f, "x\n")
    s.user(FIND_START if start else FIND_PART, part=Quoted(part) if s.say_rng.random() < 0.6 else Name(part))
    out = s.shell("find . -type f -name '%s%s*' -printf '%%P\\n' | sort" % ("" if start else "*", part))
    name_of = (lambda p: p.rpartition("/")[2])
    want = [p for p in s.files if (name_of(p).startswith(part) if start else part in name_of(p))]
    found(s, out, want)


@skill("files.find", weight=0.9)
def find_kind(s):
    places = tree(s)
    ext = s.choice(["txt", "md", "csv", "log", "json", "jpg", "png", "sh", "py", "ini", "pdf", "html", "tmp", "bak", "xml"])
    root = s.choice(places[1:]) if s.chance(0.4) else ""
    inside = [p for p in places + [join(root, s.names.folder()) for _ in range(2)] if not root or p == root or p.startswith(root + "/")]
    for _ in range(s.number(1, 6)):
        s.file(s.choice(inside), ext)
    for _ in range(s.number(1, 6)):
        s.file(s.choice(places), s.choice([e for e in ("txt", "md", "csv", "json", "old", ext + "2") if e != ext]))
    if root and s.chance(0.6):
        s.file("", ext)
    want = [p for p in s.files if p.endswith("." + ext) and p.startswith(root + "/" if root else "")]
    if root:
        s.user(FIND_KIND_IN, kind=kind(s, ext), kind1=kind(s, ext, True), folder=s.dir_name(root))
        out = s.shell("find %s -type f -name '*.%s' | sort" % (root, ext))
    else:
        s.user(FIND_KIND, kind=kind(s, ext), kind1=kind(s, ext, True))
        out = s.shell("find . -type f -name '*.%s' -printf '%%P\\n' | sort" % ext)
    found(s, out, want)


@skill("files.find", weight=0.6)
def find_empty(s):
    places = tree(s)
    want = [s.file(s.choice(places), text="") for _ in range(s.number(1, 5))] if s.chance(0.92) else []
    for _ in range(s.number(1, 7)):
        s.file(s.choice(places))
    s.user(FIND_EMPTY)
    out = s.shell("find . -type f -empty -printf '%P\\n' | sort")
    if want:
        found(s, out, want, ["the empty files are $names.", "$names are empty.", "$names."], ["only $names is empty.", "$names.", "it is $names."])
    else:
        s.require(out == "[no output]", out)
        s.answer(["there are no empty files.", "none: no file is empty."])


# -- count --------------------------------------------------------------------------------------------------------------

COUNT_ALL = [
    "how many files are {there |}$in?", "how many files {do i have|do we have} $in?", "count the files $in", "{tell|show} me how many files {are|there are} $in",
    "number of files $in?", "what's the number of files $in?", "give me the number of files $in", "how many files $in", "i need the number of files $in.",
    "can you count how many files are $in?", "find out how many files are $in", "what is the file count $in?",
]
COUNT_KIND = [
    "how many $kind are {there |}$in?", "how many $kind {do i have|do we have|did i save|can you find} $in?", "count the $kind $in", "{tell me|say|find out} how many $kind {are|there are} $in",
    "number of $kind $in?", "what's the number of $kind $in?", "give me the {number|count} of $kind $in", "i need to know how many $kind are $in.", "$in, how many $kind are there?",
    "count how many $kind are $in", "how many of the files $in are $kind?", "what is the total number of $kind $in?", "please {count|number} the $kind $in?",
]
DEEP = ["{including|counting|with} {the |all |}subfolders", "subfolders {included|too|as well}", "and {in |}its subfolders", "at any depth", "and everything below", "in all {the |}subfolders too",
        "including {the |all |}nested folders", "and all folders below", "incl. {the |}subfolders", "counting what is in {its|the} subfolders too", "no matter how deep"]
FLAT = ["{not counting|without|excluding|leaving out} {the |}subfolders", "{not in|ignore} the subfolders", "only directly in it, not below", "not in subfolders", "top level only", "(no subfolders)", "{not counting|without} what {is|lies} in {its|the|any} subfolders", "{right|directly} in it, {the |}subfolders {don't|do not} count", "leave out what is in {the |}subfolders", "just that {folder|level}, nothing below"]
COUNTED = ["there {are|are} $n.", "$n.", "i counted $n.", "there are $n there."]


@skill("files.count", weight=1.3)
def count(s):
    d = s.folder(0.4)
    ext = s.choice(["txt", "md", "csv", "log", "json", "jpg", "png", "sh", "py", "pdf", "html", "tmp", "xml", "ini"]) if s.chance(0.65) else None
    inner = [s.fresh_folder(d) for _ in range(s.choice([0, 1, 1, 2]))]
    for i in inner:
        s.mkdir(i)
    for _ in range(s.number(1, 12)):
        s.file(s.choice([d, d] + inner) if s.chance(0.8) else d, ext if ext and s.chance(0.6) else None, text=content.line(s) + "\n")
    if d:
        s.clutter(0, 3, 1)
    if ext and s.chance(0.3):
        s.put(join(d, "%s.%s.bak" % (s.names.word(), ext)), "x\n")
    mode = s.choice(["deep", "flat", "plain"])
    extra = {"deep": DEEP, "flat": FLAT}.get(mode)
    place = s.place(d)
    if extra:
        tail = s.say_rng.choice(extra)
        place = T("$place_{ |, }" + tail, place_=place)
    kinds = kind(s, ext) if ext else "files"
    s.user(COUNT_KIND if ext else COUNT_ALL, kind=kinds, **{"in": place})
    deep = mode == "deep"
    n = s.shell("find %s%s -type f%s | wc -l" % (d or ".", "" if deep else " -maxdepth 1", " -name '*.%s'" % ext if ext else ""))
    want = [p for p in s.files if (not ext or p.endswith("." + ext)) and (not d or p.startswith(d + "/"))
            and (deep or p.rpartition("/")[0] == d)]
    s.require(n == str(len(want)), "other count")
    what = "%s file" % ("." + ext) if ext else "file"
    count_answer(s, int(n), what)


def count_answer(s, n, what, more=None):
    if n == 0:
        s.answer(["there are 0 $what.", "0, there are no $what.", "none: there are 0 $what."], what=Value(more or what + "s"))
    elif n == 1:
        s.answer(["there is 1 $what.", "1 $what.", "there is just 1 $what."], what=Value(what))
    else:
        s.answer(["there are $n.", "$n.", "i counted $n.", "there are $n {there|in total}."], n=many(n, what, more))
    s.says(n)


# -- size, largest, newest ------------------------------------------------------------------------------------------------

SIZE = [
    "how big is $f?", "how {big|large} is {the file |}$f in bytes?", "what is the size of $f?", "size of $f?", "size of $f in bytes?", "how many bytes {is|has} $f?", "how many bytes does $f have?",
    "{tell|give} me the size of $f {in bytes|}", "how many bytes are in $f?", "what's the {exact |}size of {the file |}$f in bytes?", "i need the size of $f in bytes.",
    "check how {big|large} $f is", "how much space does $f take, in bytes?", "$f, how many bytes?", "find out the size of $f in bytes", "how many bytes does {the file |}$f {take up|contain|hold}?",
    "how large is $f exactly?", "show me the byte size of $f", "bytes in $f?", "report the size of $f",
]


@skill("files.size", weight=0.8)
def size(s):
    d = s.folder(0.6)
    f = s.fresh(d)
    x = s.rng.random()
    text = content.any_text(s, f.rpartition(".")[2]) if x < 0.5 else "".join(s.names.word() + " " for _ in range(s.number(20, 200))) if x < 0.8 \
        else s.choice("abcxyz.#") * s.number(1, 60000)
    s.put(f, text)
    if s.chance(0.6):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    s.user(SIZE, f=Name(f))
    n = s.shell("stat -c %s " + f)
    s.require(n == str(len(s.files[f][0])), n)
    s.answer(["$f is $n bytes.", "$n bytes.", "it has $n bytes.", "$f has a size of $n bytes.", "it is $n bytes {large|big|long}."], f=Name(f), n=Value(n))
    s.says(n)


LARGEST = [
    "{which|what} is the $most file $in?", "which file {is the $most|is $most} $in?", "find the $most file $in", "what's the $most file $in?", "{name|tell me} the $most file $in",
    "which {one |}of the files $in is the $most?", "show me {the name of |}the $most file $in", "$most file $in?", "i need {the name of |}the $most file $in.",
    "of all the files $in, which is the $most?", "what is the name of the $most file $in?", "look for the $most file $in", "give me the $most file $in",
    "which file $in is $most?", "i want to know which file is the $most $in.", "check which file is the $most $in", "$in, which file is the $most?",
]
TAKES = ["which file takes {up |}the $amount space $in?", "which file {has|needs|uses} the $amount bytes $in?", "what takes the $amount space $in?",
         "find the file {that takes|with} the $amount {space|bytes} $in"]
BIG, SMALL = "{largest|biggest|largest|biggest|heaviest}", "{smallest|smallest|tiniest|shortest}"


@skill("files.largest", weight=0.8)
def largest(s):
    d = s.folder(0.5)
    n = s.number(2, 8)
    sizes = s.sample(range(1, 400), n)
    if s.chance(0.4):
        sizes[0] = s.number(2000, 20000)
    paths = []
    for k in sizes:
        f = s.fresh(d)
        s.put(f, "x" * (k - 1) + "\n")
        paths.append(f)
    if s.chance(0.4):
        inner = s.fresh_folder(d)
        s.file(inner, text="y" * s.number(1, 30000))
    if d:
        s.clutter(0, 3, 1)
    big = s.chance(0.6)
    if s.decided("takes", [True, False, False, False, False]) and big:
        s.user(TAKES, amount="most", **{"in": s.place(d)})
    else:
        s.user(LARGEST, most=BIG if big else SMALL, **{"in": s.place(d)})
    out = s.shell("ls -Sp%s | grep -v / | %s -1" % (" " + d if d else "", "head" if big else "tail"))
    best = (max if big else min)(paths, key=lambda p: len(s.files[p][0])).rpartition("/")[2]
    s.require(out == best, "another file")
    word = "largest" if big else "smallest"
    s.answer(["the %s file is $f." % word, "$f.", "it is $f.", "$f is the %s{ file|}." % word], f=Name(best))
    s.says(best)


NEW = "{newest|latest|most recent|most recently {changed|modified|edited}|last {changed|modified|edited}}"
OLD = "{oldest|least recently {changed|modified|edited}}"
NEWEST_MORE = ["which file did i {change|edit|modify|touch|save} last $in?", "which file was {changed|modified|edited|touched|updated} {last|most recently} $in?", "what did i {edit|change|work on} last $in?",
               "which file $in has the {latest|newest|most recent} {date|change|time}?", "what was the last file {changed|modified|saved} $in?", "which file was saved most recently $in?",
               "what have i {changed|edited|worked on} {most recently|last} $in?", "{the file|which file} i {changed|edited|touched} last $in{, which is it|}?", "which one $in did i {work on|change|edit|save} last?", "what is the most recent change $in, which file?"]
OLDEST_MORE = ["which file {hasn't|has not} been {changed|touched|edited|modified} for the longest time $in?", "which file was {changed|modified|edited|touched} {least recently|the longest ago} $in?",
               "which file $in has the oldest date?", "what have i not touched for the longest time $in?", "which file $in is the one that was changed longest ago?", "which file was left alone the longest $in?"]


@skill("files.newest", weight=0.8)
def newest(s):
    d = s.folder(0.5)
    n = s.number(2, 7)
    times = [1_600_000_000 + t * 60 for t in s.sample(range(2_000_000), n)] if s.chance(0.6) else \
        [1_700_000_000 + t for t in s.sample(range(100_000), n)]
    paths = [s.file(d, mtime=t) for t in times]
    if s.chance(0.4):
        inner = s.fresh_folder(d)
        s.file(inner)
    if d:
        s.clutter(0, 3, 1)
    new = s.chance(0.6)
    more = s.decided("more", [True, False])
    s.user((NEWEST_MORE if new else OLDEST_MORE) if more else LARGEST, most=NEW if new else OLD, **{"in": s.place(d)})
    out = s.shell("ls -tp%s | grep -v / | %s -1" % (" " + d if d else "", "head" if new else "tail"))
    best = (max if new else min)(paths, key=lambda p: s.files[p][2]).rpartition("/")[2]
    s.require(out == best, "another file")
    word = "{most recently changed|newest}" if new else "{oldest|least recently changed}"
    s.answer(["the " + word + " file is $f.", "$f.", "it is $f.", "$f {was changed last|is the newest}." if new else "$f is the oldest."], f=Name(best))
    s.says(best)


# -- search -------------------------------------------------------------------------------------------------------------

SEARCH = [
    "which files {contain|mention|have|hold|include} {the word |}$w?", "{find|list} {all |}{the |}files {that contain|containing|that mention|mentioning|with|that have} {the word |}$w{ in them|}",
    "{where|in which files} does {the word |}$w {appear|occur|come up|show up|stand}?", "in which {file|files} is {the word |}$w?", "search {all |}the files for {the word |}$w",
    "which {of my |of the |}files {talk about|mention|speak of} $w?", "look for {the word |}$w in {all |}the files", "what files have the word $w in them?", "who mentions $w? {i mean |}which files?",
    "tell me which files {contain|mention} $w", "i need to know which files contain the word $w.", "find $w in my files", "grep for $w, which files have it?", "does any file mention $w, and which?",
    "i wrote about $w somewhere. which file is it?", "name the files that hold the word $w", "is the word $w in any file{ here|}? which ones?",
]
SEARCH_IN = [
    "which files $in {contain|mention|have|hold} {the word |}$w?", "$in, which files {contain|mention} $w?", "find the files $in that {contain|mention} {the word |}$w", "search {the files |}$in for {the word |}$w",
    "where $in does {the word |}$w {appear|occur}?", "list the files $in {containing|mentioning|with} {the word |}$w", "which file $in talks about $w?", "tell me which files $in have the word $w",
]
SEARCH_LINE = [
    "{in which|on which} line of which file {is|does} {the word |}$w{ stand| appear| occur|}?", "in which file and {on which|in what} line {is|stands|does} {the word |}$w{ appear|}?", "find {the word |}$w and tell me the file and {the |}line{ number|}",
    "where exactly is {the word |}$w? {give me |}file and line{ number|} please?", "which file and line {contain|mention|have} {the word |}$w?", "where is {the word |}$w, file and line number?",
    "tell me the file and line where $w {appears|occurs|stands}", "i need the file name and line number of {the word |}$w.", "show me where $w stands, with the line number",
    "locate {the word |}$w: which file, which line?", "search for $w and give me file name and line number", "$w appears in one of the files. which one and at what line?",
]
SEARCH_LINE_IN = [
    "{in which|on which|in what|at what} line of $f is {the word |}$w?", "what line of $f {has|mentions|contains} {the word |}$w?", "{on|in} which line does $w {appear|stand|occur} in $f?", "find the line number of {the word |}$w in $f",
    "which line in $f {contains|mentions} $w?", "tell me {the|which} line {number |}of $f {where|in which} $w {appears|stands}", "line number of $w in $f?", "where in $f is the word $w? {give me |}the line number?",
]


def planted(s, word, paths, extra):
    """Files with text that lacks the word but for those in paths; returns {path: line number}."""
    places = {}
    for p in paths + extra:
        lines = [line for line in content.lines(s, 2, 10) if word.lower() not in line.lower()] or ["nothing here"]
        if p in paths:
            at = s.number(0, len(lines))
            words = content.sentence(s).rstrip(".").split()
            words = [w for w in words if word.lower() not in w.lower()]
            words.insert(s.number(1, len(words)), word)
            lines.insert(at, " ".join(words) + ".")
            places[p] = at + 1
        elif s.chance(0.3) and word.isalpha():
            lines.append("the %s%s again" % (word, s.choice(["ing", "berry", "xx", "like"])))
        s.put(p, "\n".join(lines) + "\n")
    return places


MARKS = "TODO DONE DRAFT FINAL PAID OPEN CLOSED URGENT SECRET IMPORTANT FIXME OK FAILED PENDING ERROR WARN PRIVATE".split()


def grep_case(word):
    """The letter of grep that ignores case: a word in capitals is meant as it stands."""
    return "" if word.isupper() else "i"


def any_word(s):
    x = s.rng.random()
    if s.chance(0.1):
        return s.choice(MARKS)
    n = s.names
    return n.noun() if x < 0.5 else n.first() if x < 0.6 else n.city() if x < 0.68 else n.surname() if x < 0.74 else n.made_up() if x < 0.82 \
        else n.word() if x < 0.94 else n.adjective()


def shown_word(s, w):
    return Quoted(w) if s.say_rng.random() < 0.4 else Name(w)


@skill("files.search", weight=1.0)
def search(s):
    d = s.folder(0.6)
    sub = [d] + [s.fresh_folder(d) for _ in range(s.choice([0, 1, 2]))]
    ext = ["txt", "md", "txt", "log", None]
    word = any_word(s)
    paths = [s.fresh(s.choice(sub), s.choice(ext)) for _ in range(s.number(1, 4))]
    extra = [s.fresh(s.choice(sub), s.choice(ext)) for _ in range(s.number(1, 5))]
    if any(word.lower() in p.lower() for p in paths + extra):
        word = s.names.made_up(3, 4)
    planted(s, word, paths, extra)
    if d:
        s.user(SEARCH_IN, w=shown_word(s, word), **{"in": s.place(d)})
    else:
        s.user(SEARCH, w=shown_word(s, word))
    out = s.shell("grep -rl%sw '%s' %s | sort" % (grep_case(word), word, d or "*"))
    found(s, out, paths, ["$names.", "$names {contain|mention} it.", "i found it in $names.", "the files are $names."],
          ["only $names.", "$names.", "it is in $names.", "$names contains it."])


OWNER = [
    "which file {mentions|has|contains|talks about} $p's $n?", "in which file {is|stands} $p's $n?", "find the file {with|that has|that mentions} $p's $n", "where {is|did i write} $p's $n? which file?", "i wrote about $p's $n somewhere. which file is it?", "search {all |}the files for $p's $n",
    "which of {my|the} files {mention|mentions} $p's $n?", "{tell me|find out} which file {mentions|has} $p's $n", "look for $p's $n in {all |}the files", "$p's $n is in one of the files, which one?", "what file {says|has} something about $p's $n?", "does any file mention $p's $n, and which?",
    "i need the file with $p's $n.", "look in the files for $p's name, which {one has|ones have} it?", "$p's name is in which file?",
]


@skill("files.search", weight=0.4)
def search_owner(s):
    """Something of somebody's: what is looked for is the name, without its ending."""
    d = s.folder(0.7)
    people = s.names.words(s.number(2, 6), s.names.first)
    thing = s.names.noun()
    paths = [s.fresh(d, s.choice(["txt", "md", "txt", "log", None])) for _ in people]
    s.require(not any(p.lower() in path.lower() for p in people for path in paths), "in a name")
    for person, path in zip(people, paths):
        lines = [t for t in content.lines(s, 1, 7) if not any(p.lower() in t.lower() for p in people)]
        own = s.choice(["%s's %s is %s", "the %s of %s is %s", "%s has a %s that is %s", "%s: %s, %s"])
        words = (thing, person) if own.startswith("the") else (person, thing)
        lines.insert(s.number(0, len(lines)), own % (*words, s.names.adjective()))
        s.put(path, "\n".join(lines) + "\n")
    s.user(OWNER, p=Value(people[0]), n=Value(thing))
    out = s.shell("grep -rl%sw '%s' %s | sort" % (grep_case(people[0]), people[0], d or "*"))
    s.require(out == paths[0], out)
    s.answer(["$f.", "it is in $f.", "only $f.", "i found it in $f."], f=Name(out))
    s.says(out)


@skill("files.search", weight=0.12)
def search_none(s):
    word = s.names.made_up(3, 4)
    planted(s, word, [], [s.fresh(s.choice(["", "", "old"]), s.choice(["txt", "md"])) for _ in range(s.number(1, 5))])
    s.user(SEARCH, w=shown_word(s, word))
    out = s.shell("grep -rl%sw '%s' * | sort" % (grep_case(word), word))
    s.require(out == "[no output]", out)
    s.answer(["no file {contains|mentions} $w.", "none: $w is in no file.", "i found $w in no file."], w=Name(word))


@skill("files.search", weight=0.7)
def search_line(s):
    d = s.folder(0.8)
    ext = ["txt", "md", "txt", "log", None]
    word = any_word(s)
    one = s.chance(0.35)
    paths = [s.fresh(d, s.choice(ext))]
    extra = [s.fresh(s.choice([d, d, "old"]), s.choice(ext)) for _ in range(s.number(0, 4))]
    if any(word.lower() in p.lower() for p in paths + extra):
        word = s.names.made_up(3, 4)
    at = planted(s, word, paths, extra)[paths[0]]
    if one:
        s.user(SEARCH_LINE_IN, w=shown_word(s, word), f=Name(paths[0]))
        out = s.shell("grep -n%sw '%s' %s" % (grep_case(word), word, paths[0]))
        s.require(out.startswith("%d:" % at) and "\n" not in out, out)
        s.answer(["line $n.", "it is {in|on} line $n.", "$w stands {in|on} line $n.", "{in|on} line $n of $f."], n=Value(at), w=Name(word), f=Name(paths[0]))
    else:
        s.user(SEARCH_LINE, w=shown_word(s, word))
        out = s.shell("grep -rn%swH '%s' *" % (grep_case(word), word))
        s.require(out.startswith("%s:%d:" % (paths[0], at)) and "\n" not in out, out)
        s.answer(["it is in $f, line $n.", "{in|it stands in} $f on line $n.", "$f, line $n.", "line $n of $f."], n=Value(at), f=Name(paths[0]))
        s.says(paths[0])
    s.says(at)


# -- read_value ---------------------------------------------------------------------------------------------------------

VALUE = [
    "what is {the |}$key in $f?", "what's {the |}$key in $f?", "what is the value of $key in $f?", "which $key is {set|configured|given} in $f?", "{tell|show} me {the |}$key {from|in} $f",
    "what is $key set to in $f?", "look up $key in $f", "what value does $key have in $f?", "read $key from $f", "{give|get} me the value of $key in $f", "find the $key in $f", "$key in $f?",
    "i need the $key from $f.", "what does $f say {about|for} {the |}$key?", "which value has $key in $f?", "check {the |}$key in $f", "how is $key set in $f?", "according to $f, what is the $key?",
    "in $f, what is {the |}$key?", "what did we set $key to in $f?", "see what $key is in $f", "in $f there is a setting $key. what is it?", "what have i put for {the |}$key in $f?",
]
VALUE_SECTION = [
    "what is {the |}$key {of|for} {the |}$section in $f?", "what is $key in the {section $section|$section section} of $f?", "what's {the |}$key under $section in $f?", "{tell|give} me the $section $key {from|in} $f",
    "which $key does {the |}$section {use|have|get} in $f?", "in $f, what is $key in {section |}$section?", "look up $key in section $section of $f", "read the $key of {the |}$section from $f",
    "what is $key set to for {the |}$section in $f?", "$section $key in $f?", "{find|get} the value of $key in the $section section of $f", "what value has $key in section $section of $f?",
    "i need the $key of {the |}$section from $f.", "in $f under $section, what is {the |}$key?", "according to $f, which $key does {the |}$section have?",
]
VALUE_ANSWER = ["$key is $v.", "it is $v.", "$v.", "the $key {in $f |}is $v.", "$key is set to $v."]


def spoken(s, key):
    """A key as a user may say it: log_level, or `log level`."""
    if s.say_rng.random() < 0.5 or not ("_" in key or "-" in key):
        return Name(key)
    return Value(key.replace("_", " ").replace("-", " "))


def similar_keys(s, key):
    other = content.plain_key(s).split("_")[0]
    base = key.split("_")[-1]
    keys = [key + "_" + other, other + "_" + key, "old_" + key, key + "2", "default_" + key, "max_" + base, base + "_" + other, key + "_backup"]
    return [k for k in dict.fromkeys(keys) if k != key]


@skill("files.read_value", weight=0.8)
def read_value(s):
    d = s.folder(0.7)
    f = s.fresh(d, s.choice(["conf", "ini", "cfg", "txt", "yaml", "conf", "config", "properties", "env", "settings"]))
    keys = content.some_keys(s, s.number(3, 8)) + [content.config_key(s) for _ in range(s.number(0, 2))]
    keys = list(dict.fromkeys(keys))
    key = s.choice(keys)
    if s.chance(0.7):
        keys += [k for k in s.sample(similar_keys(s, key), s.number(1, 3)) if k not in keys]
    s.rng.shuffle(keys)
    values = {}
    for k in keys:
        values[k] = content.config_value(s, k)
    style = ": " if f.endswith("yaml") else "=" if f.endswith("env") else None
    s.put(f, content.settings(s, values.items(), style))
    s.clutter(0, 3, 1)
    s.user(VALUE, key=spoken(s, key), f=Name(f))
    s.read(f)
    s.answer(VALUE_ANSWER, key=Name(key), v=Value(values[key]), f=Name(f))
    s.says(values[key])


@skill("files.read_value", weight=0.6)
def read_ini(s):
    d = s.folder(0.7)
    f = s.fresh(d, s.choice(["ini", "conf", "cfg", "ini"]))
    sections = content.some_sections(s, s.number(2, 4))
    key = content.plain_key(s)
    every = []
    for name in sections:
        keys = content.some_keys(s, s.number(1, 4))
        if key not in keys and s.chance(0.75):
            keys.insert(s.number(0, len(keys)), key)
        every.append((name, [(k, content.config_value(s, k)) for k in keys]))
    section, pairs = s.choice(every)
    if key not in dict(pairs):
        key = s.choice(pairs)[0]
    s.put(f, content.ini(s, every))
    s.clutter(0, 3, 1)
    s.user(VALUE_SECTION, key=spoken(s, key), section=Name(section), f=Name(f))
    s.read(f)
    value = dict(pairs)[key]
    s.answer(VALUE_ANSWER, key=Name(key), v=Value(value), f=Name(f))
    s.says(value)


@skill("files.read_value", weight=0.1)
def read_no_key(s):
    f = s.fresh(s.folder(0.8), s.choice(["conf", "ini", "cfg"]))
    keys = content.some_keys(s, s.number(4, 8))
    key = keys.pop()
    s.put(f, content.settings(s, [(k, content.config_value(s, k)) for k in keys]))
    s.user(VALUE, key=spoken(s, key), f=Name(f))
    s.read(f)
    s.answer(["there is no $key in $f.", "$f has no {entry|setting} $key.", "$key is not set in $f."], key=Name(key), f=Name(f))
