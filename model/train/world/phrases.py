"""A small grammar that turns templates into requests and answers.

A template is text with `{this|that|}` choices, which nest, and `$slot` places. What a slot holds decides what becomes
of it:

    Name   a file, folder, ... name: kept exactly, bare or in the quotes that the whole request uses
    Value  kept exactly, never quoted (numbers, text after a colon)
    Tail   like Value, and the request ends with it
    Quoted kept exactly, always in quotes
    T      a template with its own slots
    str    a template that sees the slots of the one around it

The last character says what a template is: `?` a question, `.` or `!` a statement, otherwise an order that begins with
its verb. Requests are then dressed: politeness, a sentence of background, capitals or none, at most one slip of the
keyboard. Kept text (names, values) is never touched.
"""

import functools
import re


class Name(str):
    pass


class Value(str):
    pass


class Quoted(str):
    pass


class Tail(str):
    """Kept exactly, bare, with nothing after it: text that a request ends with."""


class T:
    def __init__(self, template, **slots):
        self.template, self.slots = template, slots


MAX_WORDS = 60
SLOT = re.compile(r"\$([a-z_0-9]+)")


@functools.lru_cache(maxsize=100_000)
def parse(template):
    """A tree: ("seq", [...]), ("alt", [...]), ("slot", name) or a plain str."""
    position = 0

    def alternatives(depth):
        nonlocal position
        options, sequence, text = [], [], []

        def flush():
            if text:
                sequence.append("".join(text))
                text.clear()

        while position < len(template):
            c = template[position]
            if c == "{":
                flush()
                position += 1
                sequence.append(alternatives(depth + 1))
            elif c == "|" and depth:
                flush()
                options.append(("seq", sequence[:]))
                sequence.clear()
                position += 1
            elif c == "}" and depth:
                position += 1
                flush()
                options.append(("seq", sequence[:]))
                return ("alt", options)
            elif c == "$" and (m := SLOT.match(template, position)):
                flush()
                sequence.append(("slot", m.group(1)))
                position = m.end()
            else:
                text.append(c)
                position += 1
        if depth:
            raise ValueError("unclosed { in template: " + template)
        flush()
        return ("seq", sequence)

    return alternatives(0)


class Writer:
    """Expands templates for one request; `quote` is the mark around names ("" for none)."""

    def __init__(self, rng, quote=""):
        self.rng, self.quote = rng, quote

    def pieces(self, template, slots):
        """[(text, kept)]"""
        out = []
        self._walk(parse(template), slots, out)
        return tidy(out)

    def text(self, template, slots):
        return "".join(t for t, _ in self.pieces(template, slots))

    def _walk(self, node, slots, out):
        if isinstance(node, str):
            out.append((node, False))
        elif node[0] == "seq":
            for part in node[1]:
                self._walk(part, slots, out)
        elif node[0] == "alt":
            self._walk(self.rng.choice(node[1]), slots, out)
        else:
            self._slot(slots[node[1]], slots, out)

    def _slot(self, value, slots, out):
        if isinstance(value, Name):
            q = self.quote if self.quote not in value else ""
            out.append((q + value + q, True))
        elif isinstance(value, Value):
            out.append((str(value), True))
        elif isinstance(value, Tail):
            out.append((str(value), "tail"))
        elif isinstance(value, Quoted):
            q = self.quote or self.rng.choice("\"'")
            if q in value:
                q = next(c for c in "\"'`" if c not in value)
            out.append((q + value + q, True))
        elif isinstance(value, T):
            self._walk(parse(value.template), {**slots, **value.slots}, out)
        elif isinstance(value, (list, tuple)):  # names: "a, b and c"
            for i, item in enumerate(value):
                if i:
                    out.append((" and " if i == len(value) - 1 else ", ", False))
                self._slot(item, slots, out)
        else:
            self._walk(parse(str(value)), slots, out)


def tidy(pieces):
    """Neighbouring free text joined, double blanks and blanks before punctuation taken out."""
    joined = []
    for text, kept in pieces:
        if joined and not kept and not joined[-1][1]:
            joined[-1] = (joined[-1][0] + text, False)
        elif text:
            joined.append((text, kept))
    out = []
    for i, (text, kept) in enumerate(joined):
        if not kept:
            text = re.sub(r"[ ]{2,}", " ", text)
            text = re.sub(r" +([,.!:;?])(?![\w*])", r"\1", text)
            if i == 0:
                text = text.lstrip(" ")
            if i == len(joined) - 1:
                text = text.rstrip(" ")
        if text:
            out.append((text, kept))
    return out


def after_urls(pieces):
    """Nothing stands right behind a bare URL but a comma, or a blank and a question mark."""
    out = list(pieces)
    for i in range(1, len(out)):
        if out[i - 1][1] and out[i - 1][0].startswith("http://") and not out[i][1]:
            text = out[i][0]
            if text.startswith("?"):
                text = " " + text
            elif text.rstrip() in (".", "!"):
                text = ""
            elif text[:1] in ".:;!":
                text = "," + text[1:]
            out[i] = (text, False)
    return [p for p in out if p[0]]


def transform(pieces, function):
    return [(text if kept else function(text), kept) for text, kept in pieces]


def capitalise(pieces):
    """First letters of sentences and the word I."""
    def fix(text):
        text = re.sub(r"\bi\b(?!\.)", "I", text)
        return re.sub(r"([.!?] +|\n)([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)
    out = transform(pieces, fix)
    if out and not out[0][1]:
        out[0] = (out[0][0][:1].upper() + out[0][0][1:], False)
    for i in range(1, len(out)):  # a sentence that begins right after kept text: `a.txt. then`
        text, kept = out[i]
        if not kept:
            out[i] = (re.sub(r"^([.!?] +)([a-z])", lambda m: m.group(1) + m.group(2).upper(), text), False)
    return out


# Words that may stand for others in any request, so that a template is not tied to one of them.
SYNONYMS = [(re.compile(r"\b(?:%s)\b" % a), b.split("|")) for a, b in [
    ("folder", "directory|dir"), ("directory|dir", "folder"), ("folders", "directories"), ("directories", "folders"), ("subfolders", "subdirectories|sub-folders|inner folders"),
    ("delete", "remove|erase|get rid of"), ("remove", "delete|erase"), ("create", "make|set up|produce"), ("show me", "let me see|display|print"), ("tell me", "let me know|say|report"), ("give me", "hand me|get me|show me"),
    ("contain", "include|have"), ("contains", "includes|has"), ("called", "named|with the name"), ("i need", "i want|i'd like|i require"), ("find", "locate|look up|track down"), ("every", "each"), ("largest", "biggest"), ("biggest", "largest"),
    ("smallest", "tiniest"), ("save", "store|keep"), ("compute", "calculate|determine"), ("the lines", "the text lines|all lines"), ("below", "underneath"), ("instead of", "in place of"), ("rename", "re-name"), ("copy", "duplicate"),
    ("what is", "what's|whats"), ("download", "fetch|pull down"), ("fetch", "get|download|retrieve"), ("the word", "the term|the text"), ("in total", "overall|altogether"), ("belongs", "goes"), ("run", "execute|start"), ("script", "shell script|program"),
    ("anymore", "any longer"), ("file name", "filename"), ("line number", "number of the line"), ("which", "what"), ("alphabetically", "in alphabetical order"), ("duplicate lines", "double lines|repeated lines"), ("mention", "contain|talk about"),
    ("reply", "response|answer"), ("response", "reply"), ("highest", "largest|top"), ("lowest", "smallest"), ("average", "mean"), ("total", "sum"), ("the end", "the very end|the bottom"), ("sorted", "ordered"), ("sort", "order"), 
    ("move", "shift|transfer"), ("append", "add"), ("unpack", "extract"), ("compress", "pack|shrink"), ("identical", "the same|equal"), ("checksum", "check sum|hash"), ("number of", "count of"), ("how many", "how many|how many|what number of"),
    ("empty", "blank|empty"), ("first", "first|very first"), ("last", "last|very last|final"), ("setting", "option|entry"), ("value", "setting"), ("currently", "right now"), ("branch", "git branch"), ("page", "document"), ("otherwise", "else|if not"),
]]
KEEP = {"which", "first", "last", "value", "how many"}  # only now and then


def synonyms(pieces, rng):
    def fix(text):
        for pattern, words in SYNONYMS:
            if rng.random() < 0.10 and (m := pattern.search(text)):
                if m.group(0) in KEEP and rng.random() < 0.6:
                    continue
                text = text[:m.start()] + rng.choice(words) + text[m.end():]
        return text
    return transform(pieces, fix)


SLOPPY = [("please", "pls"), ("thanks", "thx"), ("thank you", "thx"), (" you ", " u "), (" your ", " ur "), (" and ", " n "),
          ("because", "cuz"), (" to ", " 2 "), (" for ", " 4 "), ("tomorrow", "tmrw"), ("message", "msg"), (" are ", " r ")]


def sloppy(pieces, rng):
    """No capitals, no apostrophes, short forms, careless punctuation."""
    swaps = [s for s in SLOPPY if rng.random() < (0.7 if s[0] in ("please", "thanks", "thank you") else 0.06)]
    commas, dots = rng.random() < 0.5, rng.random() < 0.6

    def fix(text):
        text = text.lower().replace("'", "")
        for a, b in swaps:
            text = text.replace(a, b)
        if commas:
            text = text.replace(",", "")
        return text
    out = transform(pieces, fix)
    if dots and out and not out[-1][1]:
        out[-1] = (out[-1][0].rstrip(".!? "), False)
    return [p for p in out if p[0]]


WORD = re.compile(r"(?<![\w.'/-])[A-Za-z]{4,}(?![\w'/-])")
KEYBOARD = {"a": "s", "s": "a", "d": "f", "e": "r", "r": "e", "i": "o", "o": "i", "t": "r", "n": "m", "m": "n", "l": "k",
            "u": "y", "y": "u", "c": "v", "h": "j", "g": "h", "p": "o", "w": "e", "f": "d", "b": "v"}


def slip(pieces, rng):
    """One slip of the keyboard in an ordinary word."""
    spots = [(i, m) for i, (text, kept) in enumerate(pieces) if not kept for m in WORD.finditer(text)]
    if not spots:
        return pieces
    i, m = rng.choice(spots)
    word = m.group(0)
    at = rng.randint(1, len(word) - 2)
    kind = rng.randrange(4)
    if kind == 0:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2:]
    elif kind == 1:
        word = word[:at] + word[at + 1:]
    elif kind == 2:
        word = word[:at] + word[at] + word[at:]
    else:
        word = word[:at] + KEYBOARD.get(word[at], word[at]) + word[at + 1:]
    text = pieces[i][0]
    return pieces[:i] + [(text[:m.start()] + word + text[m.end():], False)] + pieces[i + 1:]


ORDER_PREFIX = ["please ", "could you ", "can you ", "would you ", "can you please ", "could you please ", "would you please ",
                "i need you to ", "i want you to ", "i'd like you to ", "go ahead and ", "hey, ", "hi, ", "hello, ", "now ",
                "ok, ", "okay, ", "hi! please ", "hey, can you ", "hi, could you ", "would you mind: ", "help me out: ",
                "one more thing: ", "do me a favor and ", "do me a favour and ", "kindly ", "you should ", "will you ",
                "may i ask you to ", "i would like you to ", "it would be great if you could ", "be so kind and ", "quickly "]
ASKING = ("could you", "can you", "would you", "hey, can you", "hi, could you", "will you", "may i")
ORDER_SUFFIX = [" please", ", please", " for me", " for me please", ", thanks", " thanks", ", thank you", ". thanks!", ". thank you.",
                ", would you?", ", ok?", " now", ". that's all", ". cheers", ". much appreciated", " if you can", " real quick",
                ". nothing else.", " when you have a moment", ". thx"]
QUESTION_PREFIX = ["quick question: ", "hey, ", "hi, ", "hello, ", "question: ", "so, ", "ok, ", "tell me: ", "just wondering: ",
                   "can you tell me: ", "i wonder, ", "please tell me, ", "hi! ", "sorry to bother you, ", "one question, ",
                   "and ", "um, ", "by the way, "]
QUESTION_SUFFIX = [" thanks!", " thanks.", " thank you.", " please tell me.", " just asking.", " thx", " i forgot.", " i need to know.",
                   " just the answer please.", " cheers", " can you look?", " please check.", " anyone?"]
BACKGROUND = [
    "i'm {cleaning up|sorting out|tidying|going through|looking after|working on} {my|our|the|some old} $bg_n {files|papers|notes|things|stuff|project}.",
    "i am {getting ready|preparing} for {the|a} $bg_n {meeting|party|trip|sale|exam|visit|season}.",
    "we {are planning|had|talked about|finished|started|lost|sold} {a|the} $bg_a $bg_n {yesterday|last week|today|this morning|on $bg_day|}.",
    "my {boss|sister|brother|teacher|neighbor|friend|colleague|mother|father|aunt|partner} {$bg_p |}{asked me|wants to know|keeps asking|called|needs it} {about this|today|again|}.",
    "{it's|it is} {late|early|raining|nearly lunch time|a long day|my first day here|a mess in here} {and i am {tired|in a hurry|curious}|}.",
    "the $bg_n {club|team|shop|group|office|school} {meets|closes|opens|starts} {on $bg_day|soon|at nine|tomorrow}.",
    "$bg_p {sent|gave|left|made} me {these|some|all these} files {last week|on $bg_day|yesterday|}.",
    "i {can't|cannot} remember {what i did|anything|how this works|much} {today|anymore|}.",
    "this is {for|about} {the|our|my} $bg_a $bg_n.", "i have a {meeting|call|lesson|deadline} {in ten minutes|soon|on $bg_day}.",
    "{someone|$bg_p} {said|told me|thinks} {this folder is a mess|we should keep things tidy|it matters|it is urgent}.",
    "we are moving to {$bg_c|a new office|another house} {soon|next month|in $bg_m}.",
    "i {already|have already} {looked at|printed|sent|checked|read} $bg_f {yesterday|last week|}.", "{don't worry about|forget about|never mind} $bg_f{ for now|}.",
    "i {love|like|miss|hate} {my|the} $bg_a $bg_n.", "the $bg_n is {$bg_a|broken|gone|back|ready} {again|now|}.",
    "i {just|finally} got back from $bg_c.", "{a friend|$bg_p} is {visiting|waiting|helping} {today|on $bg_day|}.",
    "i'm new {here|to this|at this}.", "i was away {all week|for a while|until $bg_day}.", "our $bg_n {project|list|plan} is {due|nearly done|behind}.",
]
NAMED_BEFORE = [
    "{i|we} {have|keep|made|saved|got|found|wrote} {a file {called|named} |a file |the file |}$f {here|yesterday|last week|some time ago|}.", "there is {a file {called|named} |a file |}$f {here|in this folder|}.", "{somebody|my colleague|a friend} sent me $f.",
    "{i am|i'm} {looking at|working on|busy with} $f{ right now| today|}.", "this is about $f.", "take {the file |}$f.", "look at $f{, please|}.", "you know the file $f.", "{it's|it is} about {the file |}$f.", "see $f.",
]
AFTERWARDS = [
    "it's for {the|my|our} $bg_n {report|meeting|club|class|friend}.", "{no hurry|no rush|take your time}.", "i need it {today|soon|for a meeting|by $bg_day}.",
    "$bg_p is waiting for it.", "{that would help|that helps me} {a lot|}.", "i'll {explain|check|use it} later.", "then we are done.",
    "{i'm|i am} {curious|in a hurry|not sure}.", "i promised it to $bg_p.", "it matters to {me|us|$bg_p}.", "i forgot {to do it|how}.",
]


# Templates that begin so are no orders, even without a full stop: nothing polite can stand before them.
NO_VERB = re.compile(r"(i|i'm|i'd|the|all|there|they|it|its|that|this|these|those|we|my|a|an|in|from|only|of|and|ok|good|new|now|file|files|"
                     r"please|where|if|unless|when|should|number|first|last|size|bytes|lines|words|line|so|one|every|each|let's|somewhere|according|kindly|does|how|what|which)\b")


def background_slots(names):
    r = names.rng
    return dict(bg_f=Name(names.file()), bg_n=names.noun(), bg_a=names.adjective(), bg_p=names.first(), bg_c=names.city(),
                bg_day=r.choice("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()),
                bg_m=r.choice("January March May July September November".split()))


def request(rng, names, template, slots, plain=False):
    """One dressed request as text. `plain` leaves background and greetings out (for short follow-up turns)."""
    for attempt in range(6):
        quote = rng.choices(["", "'", '"', "`"], [62, 14, 16, 8])[0]
        writer = Writer(rng, quote)
        core = writer.pieces(template, slots)
        if not core:
            raise ValueError("empty template: " + template)
        end = core[-1][0][-1:] if not core[-1][1] else ""
        kind = {"?": "?", ".": ".", "!": "."}.get(end, "!")
        if kind == "!" and (core[0][1] or NO_VERB.match(core[0][0])):
            kind = "."
        open_end = core[-1][1] == "tail"
        core = synonyms(core, rng)
        before, after = [], []
        if kind == "!":
            prefix = rng.choice(ORDER_PREFIX) if rng.random() < 0.42 else ""
            suffix = rng.choice(ORDER_SUFFIX) if rng.random() < 0.18 and not open_end else ""
            if prefix.rstrip(" :,").endswith("please") and "please" in suffix:
                suffix = ""
            end = ""
            if not open_end and not re.search(r"[.!?]$", suffix):
                if prefix.strip().startswith(ASKING):
                    end = "?" if rng.random() < 0.75 else ""
                elif rng.random() < 0.35:
                    end = "."
            core = [(prefix, False)] + core + [(suffix + end, False)]
        elif kind == "?":
            prefix = rng.choice(QUESTION_PREFIX) if rng.random() < 0.15 else ""
            suffix = rng.choice(QUESTION_SUFFIX) if rng.random() < 0.10 else ""
            core = [(prefix, False)] + core + [(suffix, False)]
        elif not plain and rng.random() < 0.12:
            core = [(rng.choice(["hi, ", "hey, ", "hello! ", "ok, ", "so, "]), False)] + core
        if not plain and attempt < 4:
            x = rng.random()
            if x < 0.17:
                before = writer.pieces(rng.choice(BACKGROUND), background_slots(names)) + [(" ", False)]
            elif x < 0.23 and not open_end:
                ended = re.search(r"[.!?]$", core[-1][0] or core[-2][0])
                after = [(" " if ended else ". ", False)] + writer.pieces(rng.choice(AFTERWARDS), background_slots(names))
        whole = tidy(before + core + after)
        style = rng.random()
        if style < 0.22:
            whole = sloppy(whole, rng)
        elif style < 0.80:
            whole = capitalise(whole)
        else:
            whole = transform(whole, lambda t: re.sub(r"\bi\b(?!\.)", "I", t)) if rng.random() < 0.5 else whole
        if rng.random() < {"?": 0.06, ".": 0.3}.get(kind, 0) and whole[-1][0][-1:] in "?." and not whole[-1][1]:
            whole = whole[:-1] + [(whole[-1][0][:-1], False)]
        if rng.random() < 0.08:
            whole = slip(whole, rng)
        text = "".join(t for t, _ in after_urls(whole)).strip(" ")
        if len(text.split()) <= MAX_WORDS:
            return text
    raise ValueError("a request of more than %d words: %s" % (MAX_WORDS, text))


def answer(rng, template, slots):
    """(text, [kept texts])"""
    pieces = capitalise(Writer(rng).pieces(template, slots))
    return "".join(t for t, _ in pieces), [t for t, kept in pieces if kept]
