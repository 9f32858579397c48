"""The skills, one function each (or several functions for one skill; their weights add up).

To add one, write in a module of this folder (modules are found by themselves):

    from world.scene import Name, join
    from world.skills import skill

    SIZE = ["how big is $f in bytes?", "{tell me|give me} the size of $f in bytes", ...]   # families; see phrases.py

    @skill("files.size", weight=1.0)                  # needs=("git",) skips it where a program is missing
    def size(s):                                      # s: a Scene (scene.py)
        f = s.file(s.folder())                        # 1. the world: files with real content, look-alikes, clutter
        s.lookalike(f)
        s.clutter()
        s.user(SIZE, f=Name(f))                       # 2. the request; slots: Name, Value, Quoted, T or a template
        n = s.shell("stat -c %s " + f)                # 3. the gold call, really run; its text comes back
        s.require(n == str(len(s.files[f][0])), n)    # 4. compare with what Python knows
        s.answer(["$f is $n bytes.", "it has $n bytes."], f=Name(f), n=Value(n))
        s.says(n)                                     # 5. the answer holds what is asked

Rules: the call depends on nothing that the prompt and earlier results have not shown; the same skill always acts in the
same shape; on a missing file nothing may be made (a command that writes begins with `ls INPUT &&`, unless it fails
before it writes); the answer says what DOMAIN asks for and no candidate besides. will_write(), will_move(), ... say how
the folder looks afterwards; whatever else changes drops the trajectory. An order in a template begins with its verb and
has no full stop, a statement ends with `.`, a question with `?`; all are lower case, the dressing makes the variety.

A request about a file that is not there is made for every ordinary skill: beside the skill, register how its request and
its gold call look for a file that is missing (fail.missing does the rest, skills/fail.py):

    @missing("txt", "md")                             # endings that such a file may have; none: any
    def size_of_missing(s, f):
        s.user(SIZE, f=Name(f))
        s.shell("stat -c %s " + f)
"""

import importlib
import pkgutil
import shutil

from world.execute import PATH

SKILLS = {}  # skill -> [(weight, function, needs)]
MISSING = []  # (endings, function)


def skill(name, weight=1.0, needs=()):
    def register(function):
        SKILLS.setdefault(name, []).append((weight, function, needs))
        return function
    return register


def missing(*endings):
    def register(function):
        MISSING.append((endings, function))
        return function
    return register


def load():
    """All skills whose programs are at hand, and the names of the skipped ones: (SKILLS, {skill: program})."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(__name__ + "." + module.name)
    skipped = {}
    usable = {}
    for name in sorted(SKILLS):
        for weight, function, needs in SKILLS[name]:
            missing = [p for p in needs if shutil.which(p, path=PATH) is None]
            if missing:
                skipped[name] = missing[0]
            else:
                usable.setdefault(name, []).append((weight, function, needs))
    return usable, skipped
