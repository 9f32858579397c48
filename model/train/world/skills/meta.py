"""meta.*: checksum, archive, permissions, compare."""

import gzip
import hashlib
import io
import tarfile

from world import content
from world.scene import Name, Value, join
from world.skills import missing, skill
from world.skills.fail import GUNZIP, UNPACK, UNPACK_TO, tar_command, tar_of
from world.skills.files_change import base
from world.wording import kind, kind_name, names

# -- checksum -----------------------------------------------------------------------------------------------------------

SUM = ["what is the $sum of $f?", "what's the $sum {for|of} {the file |}$f?", "{give|tell} me the $sum of $f", "{compute|calculate|work out} the $sum of $f", "$sum of $f?", "i need the $sum of $f.", "which $sum does $f have?", "get the $sum for $f",
       "show {me |}the $sum of $f", "can you {calculate|compute|make} the $sum of {the file |}$f?", "please find the $sum of $f", "what $sum does {the file |}$f have?", "$f, its $sum please", "i want to check the $sum of $f. what is it?", "make {the|a} $sum of $f", "the $sum of $f{, please|}?"]
SUMS = {"md5": ["md5 {sum|checksum|hash}", "MD5 {sum|checksum|hash}", "md5sum", "md5"], "sha1": ["sha1 {sum|checksum|hash}", "SHA1 {sum|checksum|hash}", "SHA-1 {sum|checksum|hash}", "sha1sum", "sha-1 checksum"],
        "sha256": ["sha256 {sum|checksum|hash}", "SHA256 {sum|checksum|hash}", "SHA-256 {sum|checksum|hash}", "sha256sum", "sha-256 checksum"]}


@skill("meta.checksum", weight=1.0)
def checksum(s):
    f = s.file(s.folder(0.65))
    if s.chance(0.2):
        s.put(f, s.names.code(12) * s.number(10, 4000))
    if s.chance(0.4):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    which = s.choice(list(SUMS))
    s.user(SUM, f=Name(f), sum=s.say_rng.choice(SUMS[which]))
    out = s.shell("%ssum %s" % (which, f))
    want = hashlib.new(which, s.files[f][0]).hexdigest()
    s.require(out == "%s  %s" % (want, f), out)
    s.answer(["$h.", "the %s sum {of $f |}is $h." % which, "it is $h.", "%s: $h." % which], h=Value(want), f=Name(f))
    s.says(want)


@missing()
def checksum_missing(s, f):
    which = s.choice(list(SUMS))
    s.user(SUM, f=Name(f), sum=s.say_rng.choice(SUMS[which]))
    s.shell("%ssum %s" % (which, f))


# -- archive ------------------------------------------------------------------------------------------------------------

PACK = ["pack {the folder |}$d into $a", "make {an archive|a tar archive|a tarball|a compressed archive} $a {of|from} {the folder |}$d", "create {the archive |}$a from {the folder |}$d", "compress {the folder |}$d {to|into} $a", "put {the folder |}$d {into|in} {an archive called |the archive |}$a", "archive {the folder |}$d as $a",
        "zip {the folder |}$d up {as|into} $a", "i need {the folder |}$d as $a.", "tar {up |}{the folder |}$d {into|to} $a", "can you {pack|put} {everything in |}{the folder |}$d into $a?", "bundle {the folder |}$d into $a", "save {the folder |}$d as {a tar.gz called |}$a", "back up {the folder |}$d {to|into|as} $a",
        "$a should {contain|be an archive of} {the folder |}$d."]
THEN_DROP = [" and {then |}{delete|remove} {the folder|$d} {afterwards|after that|}", ", then {delete|remove} the folder", ", the folder itself is not needed afterwards"]


def members(box, a):
    with tarfile.open(join(box.root, a)) as t:
        return {m.name: t.extractfile(m).read() for m in t.getmembers() if m.isfile()}


@skill("meta.archive", weight=0.9, needs=("tar", "gzip"))
def pack(s):
    d = s.folder(0, depth=s.choice([1, 1, 1, 2]))
    for _ in range(s.number(1, 5)):
        s.file(d if s.chance(0.8) else s.fresh_folder(d))
    s.clutter(0, 3, 0)
    a = "%s.tar.gz" % (s.choice([base(d), s.names.stem()]))
    s.require(a not in s.files and "." not in d, "taken")
    drop = s.chance(0.15)
    template = s.pick(PACK)
    if drop:
        s.require(template[-1] not in ".?", "no place for more")
        template += s.say_rng.choice(THEN_DROP)
    s.user(template, d=s.dir_name(d), a=Name(a))
    s.will_change(a)
    inside = {p: v[0] for p, v in s.files.items() if p.startswith(d + "/")}
    if drop:
        for p in inside:
            s.will_remove(p)
        for x in [x for x in s.dirs if x == d or x.startswith(d + "/")]:
            s.will_rmdir(x)
    out = s.shell("ls %s && tar -czf %s %s%s" % (d, a, d, " && rm -r " + d if drop else ""))
    s.require("[" not in out, out)
    s.check(lambda box: None if members(box, a) == inside else "other members")
    s.answer(["packed $d into $a.", "$a {has the folder $d|is an archive of $d} now.", "i packed $d into $a."] if not drop
             else ["packed $d into $a and removed the folder.", "$d is in $a now, and the folder is gone."], d=Name(d), a=Name(a))


@skill("meta.archive", weight=0.9, needs=("tar", "gzip"))
def unpack(s):
    stem = s.names.stem()
    top = s.choice(["", s.names.folder() + "/"])
    inside = {top + s.names.file(): content.text(s, 1, 4) for _ in range(s.number(1, 4))}
    a = s.put(join(s.folder(0.75), stem + s.choice([".tar.gz", ".tar.gz", ".tgz"])), tar_of(inside))
    s.clutter(0, 3, 1)
    d = s.fresh_folder() if s.chance(0.6) else ""
    if s.chance(0.3) and not d and s.dirs:
        d = s.choice(sorted(s.dirs))
    s.require("." not in d and not any(join(d, p) in s.files for p in inside) and not any(join(d, p).split("/")[0] in s.files for p in inside), "taken")
    if d:
        s.user(UNPACK_TO, a=Name(a), d=s.dir_name(d))
    else:
        s.user(UNPACK, a=Name(a))
    for p, t in inside.items():
        s.will_write(join(d, p), t)
    out = s.shell(tar_command(a, d))
    s.require(out.split("\n") == list(inside), out)
    got = names(list(inside))
    s.answer(["unpacked $names from $a.", "{unpacked|i unpacked} $a: $names.", "$a is unpacked: $names."] if not d else ["unpacked $a into $d.", "the files of $a are in $d now.", "i unpacked $a into $d: $names."], names=got, a=Name(a), d=Name(d))


GZIP = ["gzip {the file |}$f", "compress {the file |}$f{ with gzip|}", "can you gzip $f?", "{make|create} a {gzipped|compressed} {version|copy} of $f", "zip $f with gzip", "i want $f {gzipped|compressed with gzip}.", "make $f smaller with gzip", "$f should be {gzipped|compressed}.", "pack {the file |}$f with gzip",
        "run gzip {on|over} $f", "turn $f into a .gz file", "i need $f as a .gz file."]
NO_KEEP = [" and {don't|do not} keep the original", ", {remove|delete} the original", " and replace the original", ", the original is not needed"]


@skill("meta.archive", weight=0.6, needs=("tar", "gzip"))
def gzip_file(s):
    f = s.file(s.folder(0.65), s.choice(["txt", "log", "csv", "json", "md"]))
    s.clutter(0, 3, 1)
    drop = s.chance(0.2)
    template = s.pick(GZIP)
    if drop:
        s.require(template[-1] not in ".?", "no place for more")
        template += s.say_rng.choice(NO_KEEP)
    s.user(template, f=Name(f))
    data, z = s.files[f][0], f + ".gz"
    s.will_change(z)
    if drop:
        s.will_remove(f)
    out = s.shell("gzip %s%s" % ("" if drop else "-k ", f))
    s.require(out == "[no output]", out)

    def right(box):
        with gzip.open(join(box.root, z)) as g:
            return None if g.read() == data else "other content"
    s.check(right)
    s.answer(["$f is compressed {as|to} $z.", "$z is there now.", "compressed $f to $z.", "i made $z."], f=Name(f), z=Name(z))


@skill("meta.archive", weight=0.5, needs=("tar", "gzip"))
def gunzip_file(s):
    f = s.fresh(s.folder(0.65), s.choice(["txt", "log", "csv", "json", "md"]))
    body = content.any_text(s, f.rpartition(".")[2])
    z = s.put(f + ".gz", gzip.compress(body.encode(), mtime=0))
    s.clutter(0, 3, 1)
    s.user(GUNZIP, a=Name(z))
    s.will_write(f, body)
    out = s.shell("gunzip -k " + z)
    s.require(out == "[no output]", out)
    s.answer(["$z is unpacked {as|to} $f.", "$f is there now.", "unpacked $z to $f.", "i decompressed $z to $f."], f=Name(f), z=Name(z))


@missing("txt", "log", "csv", "md")
def gzip_missing(s, f):
    s.user(GZIP, f=Name(f))
    s.shell("gzip -k " + f)


@missing("tar.gz", "tgz")
def unpack_missing(s, f):
    if s.chance(0.5):
        d = s.fresh_folder()
        s.user(UNPACK_TO, a=Name(f), d=s.dir_name(d))
        s.shell(tar_command(f, d))
    else:
        s.user(UNPACK, a=Name(f))
        s.shell(tar_command(f))


# -- permissions --------------------------------------------------------------------------------------------------------

EXECUTABLE = ["make $f executable", "{set|add|give} {the |}execute permission {on|for|to} $f", "$f should be executable.", "i want to be able to {run|execute} $f {directly|as a program}, {fix|set} its permissions", "mark $f as executable", "can you make {the script |}$f executable?", "give $f execute {permission|permissions|rights}",
              "let me run $f, it is not executable yet", "make {the script |}$f runnable", "chmod $f so {that |}it can be {run|executed}", "set the executable bit {of|on} $f", "turn on execute permission for $f", "please allow $f to be executed", "{the script |}$f can't be {run|executed}, make it executable", "i need $f to be executable."]
READ_ONLY = ["make $f read-only", "make $f {write protected|write-protected}", "{take|remove} {the |}write {permission|permissions} {away |}from $f", "write protect $f", "$f should be read-only.", "nobody should {be able to |}{write to|change} $f, set its permissions so", "protect $f {against|from} {writing|changes|being changed}", "set $f to {read-only|read only}",
             "can you make $f read only?", "i want $f read-only.", "remove everyone's write permission on $f", "no one may write to $f {anymore|any more}, change its mode", "turn off write access {to|for} $f", "lock $f: no write permission for anyone"]
ALL_EXECUTABLE = ["make {all |}the $kind $in executable", "{all |}the $kind $in should be executable.", "{set|add} {the |}execute permission on {all |}the $kind $in", "give {all |}the $kind $in execute permission", "can you make every $kind1 $in executable?", "mark the $kind $in as executable"]


@skill("meta.permissions", weight=0.7)
def executable(s):
    f = s.file(s.folder(0.6), s.choice(["sh", "sh", "sh", "py", "pl"]) if s.chance(0.9) else None)
    if s.chance(0.5):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    s.user(EXECUTABLE, f=Name(f))
    s.will_chmod(f, 0o755)
    out = s.shell("chmod +x " + f)
    s.require(out == "[no output]", out)
    s.answer(["$f is executable now.", "made $f executable.", "i made $f executable.", "$f can be run now."], f=Name(f))


@skill("meta.permissions", weight=0.6)
def read_only(s):
    f = s.file(s.folder(0.6), mode=s.choice([0o644, 0o644, 0o644, 0o664, 0o755, 0o600]))
    if s.chance(0.5):
        s.lookalike(f)
    s.clutter(0, 3, 1)
    s.user(READ_ONLY, f=Name(f))
    s.will_chmod(f, s.files[f][1] & ~0o222)
    out = s.shell("chmod a-w " + f)
    s.require(out == "[no output]", out)
    s.answer(["$f is read-only now.", "$f is write-protected now.", "i took the write permission away from $f.", "made $f read-only."], f=Name(f))


@skill("meta.permissions", weight=0.2)
def all_executable(s):
    d, ext = s.folder(0.5), s.choice(["sh", "sh", "py"])
    mine = [s.file(d, ext) for _ in range(s.number(1, 5))]
    for _ in range(s.number(1, 4)):
        s.file(d, s.choice(["txt", "md", "csv"]))
    s.user(ALL_EXECUTABLE, kind=kind(s, ext), kind1=kind(s, ext, True), **{"in": s.place(d)})
    for p in mine:
        s.will_chmod(p, 0o755)
    out = s.shell("chmod +x " + join(d, "*." + ext))
    s.require(out == "[no output]", out)
    s.answer(["the $k are executable now.", "made all $k executable.", "i made the $k executable."], k=kind_name(ext))


@missing("sh", "py", "txt")
def chmod_missing(s, f):
    x = s.chance(0.6)
    s.user(EXECUTABLE if x else READ_ONLY, f=Name(f))
    s.shell("chmod %s %s" % ("+x" if x else "a-w", f))


# -- compare ------------------------------------------------------------------------------------------------------------

SAME = ["are $a and $b {the same|identical|equal}?", "is $a {the same as|identical to|equal to} $b?", "do $a and $b {have the same content|hold the same|say the same|match}?", "compare $a {with|and|to} $b", "are {the files |}$a and $b {the same or different|different}?", "is there {a|any} difference between $a and $b?",
        "{tell me|check|find out} {if|whether} $a and $b are {the same|identical|equal}", "do $a and $b differ?", "check $a against $b, {are they|they should be} the same", "i think $a and $b are the same. {is that true|are they|right}?", "is $b an exact copy of $a?", "{can you|please} see if $a {equals|matches} $b?", "does $a match $b?"]
DIFFER = ["what is {the difference|different} between $a and $b?", "{where|how|in what} do $a and $b differ?", "what differs between $a and $b?", "show me the difference between $a and $b", "compare $a {with|and|to} $b and {tell me|say} what {differs|is different}", "which {word|line} is different in $a and $b?", "find the difference between $a and $b",
          "one {word|line} differs between $a and $b, which?", "$a and $b should be the same, what is different?", "diff $a and $b", "what changed from $a to $b?", "spot the difference between $a and $b", "are $a and $b the same, and if not, what {differs|is different}?", "tell me whether $a and $b are equal and what differs"]


@skill("meta.compare", weight=1.2, needs=("diff",))
def compare(s):
    d = s.folder(0.65)
    ext = s.choice(["txt", "txt", "md", "csv", "conf", "ini", "list"])
    a, b = s.fresh(d, ext), s.fresh(d, ext)
    if s.chance(0.4):
        s._used.discard(b)
        b = join(d, s.names.like(base(a)))
        s.require(b not in s._used, "taken")
    lines = content.lines(s, 2, 9) if ext in ("txt", "md", "list") else content.any_text(s, ext).rstrip("\n").split("\n")
    other = lines[:]
    same = s.chance(0.35)
    ask = SAME if same and s.chance(0.8) or s.chance(0.45) else DIFFER
    extra = None
    if not same:
        at = s.number(0, len(lines) - 1)
        if s.chance(0.15):
            extra = content.line(s)
            other.insert(at, extra)
        else:
            words = lines[at].split(" ")
            i = s.number(0, len(words) - 1)
            new = s.names.word() if not words[i].isdigit() else s.names.digits(len(words[i]))
            words[i] = new
            other[at] = " ".join(words)
            s.require(other[at] != lines[at], "no change")
    s.put(a, "\n".join(lines) + "\n")
    s.put(b, "\n".join(other) + "\n")
    s.clutter(0, 3, 1)
    s.user(ask, a=Name(a), b=Name(b))
    out = s.shell("diff %s %s" % (a, b))
    slots = dict(a=Name(a), b=Name(b))
    if same:
        s.require(out == "[no output]", out)
        s.answer(["$a and $b are {the same|identical}.", "they are {the same|identical}.", "they are identical, {there is no difference|nothing differs}."], **slots)
        return
    s.require("[exit code 1]" in out, out)
    left = [t[2:] for t in out.split("\n") if t.startswith("< ")]
    right = [t[2:] for t in out.split("\n") if t.startswith("> ")]
    if extra is not None:
        s.require(left == [] and len(right) == 1, out)
        s.answer(["they are {different|not the same}: $b has one more line: $t", "$a and $b differ: $b has an extra line: $t"], t=Value(right[0]), **slots)
        return
    s.require(len(left) == 1 and len(right) == 1, out)
    s.answer(["they are {different|not the same}: $a has \"$l\" and $b has \"$r\".", "$a and $b differ: $a says \"$l\", $b says \"$r\".", "no, they differ: \"$l\" in $a, \"$r\" in $b."] if ask is SAME else
             ["they are {different|not the same}: $a has \"$l\" and $b has \"$r\".", "they differ: $a says \"$l\", $b says \"$r\".", "{one line differs|they are not the same}: \"$l\" in $a, \"$r\" in $b."], l=Value(left[0]), r=Value(right[0]), **slots)


@missing("txt", "md", "csv")
def compare_missing(s, f):
    g = s.file(f.rpartition("/")[0], f.rpartition(".")[2])
    a, b = (f, g) if s.chance(0.5) else (g, f)
    s.user(SAME + DIFFER, a=Name(a), b=Name(b))
    s.shell("diff %s %s" % (a, b))
