"""Phrases that many skills share: kinds of files, lists of names, ways to say that something is not there."""

from .scene import Name, T, Value

KIND_WORDS = {"txt": "text", "md": "markdown", "sh": "shell script", "py": "python", "csv": "CSV",
              "json": "JSON", "log": "log", "ini": "ini", "conf": "config", "html": "HTML", "pdf": "PDF", "bak": "backup",
              "tmp": "temporary", "mp3": "music"}
LOOSE = {"bak", "tmp", "mp3", "conf", "md", "sh", "py"}  # words that may mean other endings too: less often


def kind(s, ext, one=False):
    """"txt files", "files ending in .txt", ..."""
    r, files = s.say_rng, "file" if one else "files"
    slots = dict(e=Value(ext), d=Value("." + ext), st=Value("*." + ext))
    x = r.random()
    if ext in KIND_WORDS and x < (0.1 if ext in LOOSE else 0.3):
        word = Value(KIND_WORDS[ext].lower() if r.random() < 0.6 else KIND_WORDS[ext])
        if ext == "sh":
            return T("$word", word=word if one else Value(word + "s"))
        return T("$word " + files, word=word)
    if x < 0.5:
        return T("$d " + files, **slots)
    if x < 0.74:
        return T("$e " + files, **slots)
    if x < 0.78:
        return T("$st " + files, **slots)
    verb = "ends" if one else "end"
    return T(files + (" {ending {in|with} $d|that " + verb + " {in|with} $d|with the {ending|extension} {$d|$e}|of type $e}"), **slots)


def kind_name(ext):
    """The plain form for answers: ".txt files"."""
    return Value(".%s files" % ext)


def names(paths):
    """For answers: "a, b and c"."""
    return [Name(p) for p in paths]


def is_missing(s, result):
    return "No such file" in result or "no such file" in result or "cannot access" in result


MISSING = [
    "there is no {file $f|$f} here.", "{i can't find|i could not find} $f: there is no such file.", "$f does not exist.",
    "$f is not there, so {i could not do that|nothing was done}.", "there is no file called $f.", "sorry, $f does not exist.",
    "there is no $f, so i {changed|did} nothing.",
]
MISSING_ASKED = [
    "there is no {file $f|$f} here.", "{i can't find|i could not find} $f: there is no such file.", "$f does not exist.",
    "there is no file called $f.", "sorry, $f does not exist.", "$f is not there, so i can't tell.",
]
NO_FOLDER = ["there is no folder $f.", "{the folder|folder} $f does not exist.", "i could not find the folder $f: it does not exist."]


def quote(s, text):
    """Text as one word of a bash command."""
    if "'" not in text:
        return "'%s'" % text
    s.require(not any(c in text for c in '"$`\\!'), "text that is hard to quote")
    return '"%s"' % text
