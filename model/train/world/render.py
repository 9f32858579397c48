"""Records as the exact text that the model reads, in pieces, with the weight of every character in the loss.

A piece is (special, text, runs). Special pieces are single tokens; the texts of other pieces are encoded without looking
for special tokens. Neighbouring text pieces are already joined, so each is encoded by itself. `runs` is a list of
(length, weight) that covers the text: weight 0 is read but not learned. A token that spans several weights takes the
largest. Together the pieces' texts are what tests/golden/chat shows.
"""

import json
import re

BOS, TURN, END, NS = "]~!b[", "]~b]", "[e~[", "]<]minimax[>["
THINK, NO_THINK = "<mm:think>", "</mm:think>"

# Errors of small models are wrong values, then wrong names; the markup is right early.
VALUE, NAME, ARGUMENT, MARKUP, ANSWER, COPIED, STOP = 4.0, 2.0, 1.5, 0.5, 1.0, 3.0, 1.0

# In answers: numbers, names with dots, dashes or slashes, quoted text. These are copied, so they count more.
COPIED_WORD = re.compile(r"[\w./:-]*[\d_./:-][\w./:-]*\w|\d|\"[^\"]+\"")


class Pieces:
    def __init__(self):
        self.pieces = []

    def special(self, text, weight=0.0):
        self.pieces.append((True, text, [(len(text), weight)]))

    def text(self, text, weight=0.0):
        if not text:
            return
        if self.pieces and not self.pieces[-1][0]:
            special, before, runs = self.pieces[-1]
            self.pieces[-1] = (False, before + text, runs + [(len(text), weight)])
        else:
            self.pieces.append((False, text, [(len(text), weight)]))

    def tag(self, name, weight=0.0):
        """A tag of a call, with its marker."""
        self.special(NS, weight)
        self.text("<%s>" % name, weight)


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def prefix_pieces(prefix):
    """The system and developer turns; shared by all records of one prefix."""
    out = Pieces()
    out.special(BOS)
    out.special(TURN)
    out.text("system\nYou are corvid, an agent that uses tools.\n\n<thinking_instructions>\nAnswer at once, without thinking.\n"
             "</thinking_instructions>")
    out.special(END)
    out.text("\n")
    out.special(TURN)
    out.text("developer\n" + prefix["instructions"].rstrip())
    if prefix["tools"]:
        out.text("\n\n# Tools\nYou can call these tools:\n<tools>\n")
        for tool in prefix["tools"]:
            out.text("<tool>%s</tool>\n" % dump({k: tool[k] for k in ("name", "description", "parameters")}))
        out.text("</tools>\n\nA call looks like this:\n")
        out.tag("tool_call")
        out.text("\n")
        out.tag('invoke name="NAME"')
        out.tag("ARGUMENT")
        out.text("value")
        out.tag("/ARGUMENT")
        out.tag("/invoke")
        out.text("\n")
        out.tag("/tool_call")
    out.special(END)
    out.text("\n")
    return out.pieces


def _value(out, value):
    if isinstance(value, bool):
        out.text("true" if value else "false", VALUE)
    elif isinstance(value, dict):
        for k, v in value.items():
            out.tag(k, VALUE)
            _value(out, v)
            out.tag("/" + k, MARKUP)
    elif isinstance(value, list):
        for v in value:
            out.tag("item", ARGUMENT)
            _value(out, v)
            out.tag("/item", MARKUP)
    else:
        out.text(str(value), VALUE)


def _call(out, call):
    out.special(NS, MARKUP)
    out.text('<invoke name="', MARKUP)
    out.text(call["name"], NAME)
    out.text('">', MARKUP)
    for name, value in call["args"].items():
        out.tag(name, ARGUMENT)
        _value(out, value)
        out.tag("/" + name, ARGUMENT)  # ends the value: as much a decision as the value itself
    out.tag("/invoke", ARGUMENT)
    out.text("\n", MARKUP)


def _answer(out, text, kept=None):
    """kept: a value in the text that the answer is about."""
    at = text.find(kept) if kept else -1
    if at >= 0:
        _answer(out, text[:at])
        out.text(kept, VALUE)
        text = text[at + len(kept):]
    at = 0
    for m in COPIED_WORD.finditer(text):
        out.text(text[at:m.start()], ANSWER)
        out.text(m.group(0), COPIED)
        at = m.end()
    out.text(text[at:], ANSWER)


def message_pieces(messages):
    """The turns after the prefix. The last message may be a user's or a tool's: then the header of the reply follows."""
    out = Pieces()
    for i, m in enumerate(messages):
        role = m["role"]
        if role == "user":
            out.special(TURN)
            out.text("user\n" + m["text"])
        elif role == "tool":
            if i and messages[i - 1]["role"] == "tool":
                out.text("\n")
            else:
                out.special(TURN)
                out.text("tool\n")
            out.text("<response>%s</response>" % m["text"])
            if i + 1 < len(messages) and messages[i + 1]["role"] == "tool":
                continue
        else:
            out.special(TURN)
            out.text("ai\n")
            out.special(NO_THINK)
            _answer(out, m["text"], m.get("kept"))
            if m["calls"]:
                out.tag("tool_call", NAME)
                out.text("\n", MARKUP)
                for call in m["calls"]:
                    _call(out, call)
                out.tag("/tool_call", MARKUP)
        out.special(END, STOP if role == "assistant" else 0.0)
        out.text("\n")
    if messages and messages[-1]["role"] != "assistant":
        out.special(TURN)
        out.text("ai\n")
        out.special(NO_THINK)
    return out.pieces


def text_of(pieces):
    return "".join(text for _, text, _ in pieces)


def weights(runs):
    """The weight of each character of a piece."""
    out = []
    for length, weight in runs:
        out.extend([weight] * length)
    return out
