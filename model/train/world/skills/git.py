"""git.*: branch, history, changed files of a repository that git fast-import really makes."""

from world import content
from world.scene import Name, Value, join
from world.skills import skill

SUBJECTS = ["add $n", "fix $n", "remove the $a $n", "update $f", "rename $n to $m", "make the $n $a", "first commit", "clean up $n", "move $n into $d", "fix typo in $f", "$v the $n", "bump version to %d.%d", "merge $n changes",
            "write about $n", "drop old $n", "initial import", "add tests for $n", "speed up the $n", "describe the $a $n", "sort the $n list", "fix #%d%d: $n is $a", "use $n instead of $m"]


def subject(s):
    n = s.names
    t = s.choice(SUBJECTS)
    for k, v in (("$n", n.noun()), ("$m", n.noun()), ("$a", n.adjective()), ("$f", n.file("txt")), ("$d", n.folder()), ("$v", n.verb())):
        t = t.replace(k, v)
    if "%d" in t:
        t = t % (s.number(0, 9), s.number(0, 30))
    return t.capitalize() if s.chance(0.6) else t


def branch_name(s):
    n = s.names
    return s.choice([lambda: s.choice(["main", "master", "develop", "trunk"]), lambda: "%s-%s" % (n.word(), n.noun()), n.word, lambda: "feature/%s" % n.noun(), lambda: "fix/%s-%d" % (n.noun(), s.number(1, 99)),
                     lambda: "release-%d.%d" % (s.number(0, 9), s.number(0, 20)), lambda: "%s_%s" % (n.adjective(), n.noun()), lambda: "%s/%s" % (n.first().lower(), n.word())])()


class Repository:
    """Files put into the scene, a history of `commits` whose last one holds `tracked` (path -> text), other branches."""

    def __init__(self, s, commits, branches=0):
        self.branch = branch_name(s)
        self.subjects = [subject(s) for _ in range(commits)]
        self.tracked = {}
        for _ in range(s.number(2, 6)):
            path = s.file(s.folder(0.7))
            self.tracked[path] = s.text(path)
        self.others = [b for b in s.names.words(branches, lambda: branch_name(s)) if b != self.branch and not b.startswith(self.branch + "/") and not self.branch.startswith(b + "/")]
        who = "%s <%s@example.org>" % (s.names.person(), s.names.word())
        time, stream, mark = 1_600_000_000 + s.number(0, 200_000_000), [], 0
        for i, text in enumerate(self.subjects):
            time += s.number(60, 500_000)
            mark += 1
            stream += ["commit refs/heads/" + self.branch, "mark :%d" % mark, "committer %s %d +0000" % (who, time), "data %d" % len(text), text]
            if i:
                stream.append("from :%d" % (mark - 1))
            files = self.tracked if i == commits - 1 else {"notes-%d.txt" % i: text + "\n"}
            if i == commits - 1:
                stream.append("deleteall")
            for path, data in files.items():
                stream += ["M 100644 inline " + path, "data %d" % len(data.encode()), data]
        for b in self.others:
            stream += ["reset refs/heads/" + b, "from :%d" % s.number(1, mark)]
        s.prepare.append("git init -q --template= -b '%s' . && git fast-import --quiet <<'END_OF_STREAM'\n%s\nEND_OF_STREAM\ngit reset -q" % (self.branch, "\n".join(stream)))


BRANCH = ["{which|what} {git |}branch {am i on|is this|are we on|is checked out|is it}{ here|}?", "{what is|what's|whats} the {current |}{git |}branch{ called|'s name| here|}?", "{tell me|give me|show me} the {current |name of the current |}{git |}branch",
          "on {which|what} {git |}branch {am i|are we}?", "current branch?", "which branch {of this repository |}is checked out{ here| right now|}?", "i forgot {on which branch i am|which branch this is}, {can you check|please look}?", "{check|find out|look up} {which branch i am on|the current branch}",
          "{name|say} the branch {i am on|we are on|that is checked out}", "i need the {name of the |}{current |}branch", "what branch is this {repository|repo|folder} on?"]


@skill("git.branch", weight=0.8, needs=("git",))
def branch(s):
    r = Repository(s, s.number(1, 4), s.number(0, 3))
    s.user(BRANCH)
    s.require(s.shell("git branch --show-current") == r.branch, "branch")
    s.answer(["you are on {the branch |branch |}$b.", "the current branch is $b.", "it is $b."], b=Value(r.branch))
    s.says(r.branch)


LAST = ["{what is|what's|whats} the {subject|message|title} of the {last|latest|most recent|newest} commit{ here| in this repository|}?", "{what|which} was the {last|latest|most recent} commit{ about| here|}?", "{tell me|give me|show me} the {last|latest|newest} commit {message|subject|title}",
        "{last|latest|most recent} commit {message|subject}?", "what does the {last|latest} commit say?", "{how is|what is} the {last|newest|latest} commit {called|titled}?", "i need the {subject|message} of the {last|latest} commit", "{look up|check} the {subject|message} of the {last|latest} commit",
        "what did {i|we} commit last?", "read out the {subject|message|title} of the {newest|last} commit", "with {which|what} message was the last commit made?"]
NUMBER = ["how many commits {does this {repository|repo|project} have|are there{ here|}|are in {this|the} {repository|repo}|do we have{ here|}|were made{ here|}}?", "{number of|count of} commits{ here| in this repository|}?", "{tell me|give me|show me} the number of commits{ here| in this {repo|repository}|}",
          "count the commits{ here| in this {repo|repository}| on this branch|}", "how long is the history{ here|}, in commits?", "how many commits has this {branch|repo|repository|project}{ got|}?", "i need {to know |}how many commits there are",
          "{check|find out} how many commits {there are|this repository has}", "how many times did {we|people|someone} commit here?", "what is the commit count{ of this {repo|repository}|}?"]


@skill("git.history", weight=1.2, needs=("git",))
def history(s):
    r = Repository(s, s.number(1, 20), s.number(0, 1))
    if s.chance(0.5):
        s.user(LAST)
        s.require(s.shell("git log -1 --format=%s") == r.subjects[-1], "subject")
        return s.answer(["the last commit is: $x", "{its|the} {subject|message} is \"$x\".", "the {last|latest} commit says \"$x\"."], x=Value(r.subjects[-1]))
    s.user(NUMBER)
    n = s.shell("git rev-list --count HEAD")
    s.require(n == str(len(r.subjects)), n)
    s.answer(["there are $n commits." if n != "1" else "there is 1 commit.", "this repository has $n commit%s." % ("" if n == "1" else "s"), "$n commit%s." % ("" if n == "1" else "s")], n=Value(n))
    return s.says(n)


CHANGED = ["{which|what} {tracked |}files {have changed|did i change|were changed|differ}{ since the last commit| from the last commit|}?", "{list|show me|tell me|name} the {tracked |}files that {have changed|changed|differ}{ since the last commit| from the last commit|}",
           "what {have i|did i|did we} change{d|} since the last commit? {i mean the files|just the file names}.", "which files are {modified|different}{ here| since the last commit| in the working tree|}?", "{changed|modified} files{ since the last commit|}?", "what is {different|changed} {compared with|compared to|since} the last commit?",
           "{find|check} which {tracked |}files {are modified|differ from the last commit|i changed}", "which of the tracked files {are not|aren't} as {in the last commit|committed}?", "i need the {names of the |}{modified|changed} files{ here|}", "did i change anything since the last commit? which files?",
           "what files would {be in a commit|i have to commit} now?", "what has {been changed|changed} but not {been committed|committed}?"]


@skill("git.changed", weight=1.0, needs=("git",))
def changed(s):
    r = Repository(s, s.number(1, 5))
    paths = sorted(r.tracked)
    touched = sorted(s.sample(paths, s.number(1, min(3, len(paths))))) if s.chance(0.92) else []
    for path in touched:
        old = r.tracked[path]
        s.files[path][0] = (old + content.line(s) + "\n" if s.chance(0.6) else content.text(s)).encode()
        s.require(s.files[path][0].decode() != old, "same text")
    s.user(CHANGED)
    out = s.shell("git diff --name-only HEAD")
    if not touched:
        s.require(out == "[no output]", out)
        return s.answer(["no tracked file {differs from the last commit|has changed}.", "nothing has changed since the last commit."])
    s.require(out.split("\n") == touched, out)
    s.answer(["changed since the last commit: $l.", "$l {differs|has changed}{ since the last commit|}." if len(touched) == 1 else "$l {differ from the last commit|have changed}.", "these files {differ|changed}: $l." if len(touched) > 1 else "only $l has changed."],
             l=[Name(p) for p in touched])
    s.says(*touched)
    return None
