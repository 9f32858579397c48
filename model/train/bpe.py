"""The byte-level BPE tokenizer: learns the merges, writes tokenizer.json, and encodes in plain Python for tests.

A small model copies names best when a name is the same tokens wherever it stands: after a blank, a slash, a quote or at
a line's start. The pre-tokenizer of the M3 family (o200k's) glues a leading blank or mark to a word, so the merges are
learnt on a stricter split: runs of letters alone; digits never merge; blanks, newlines, and each of . _ - / ~ only with
their own kind; other marks among themselves. As no merge then joins a word to what stands before it, the family's
pre-tokenizer gives the same tokens for it everywhere.
"""

import collections
import functools
import heapq
import json

import regex

_UP, _LOW = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
FAMILY_SPLIT = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UP}]*[{_LOW}]+{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?[{_UP}]+[{_LOW}]*{_SUFFIX}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_STRICT_SPLIT = regex.compile(
    rf"(?P<word>[{_UP}]*[{_LOW}]+|[{_UP}]+)|\p{{N}}| +|\n+|\t+|</|([._\-/~])\2*|[^\s\p{{L}}\p{{N}}._\-/~]+|."
)
SPECIALS = ["]~!b[", "]~b]", "[e~[", "]<]minimax[>[", "<mm:think>", "</mm:think>"]
BOS, EOS = SPECIALS[0], SPECIALS[2]


@functools.lru_cache(1)
def byte_chars():
    """GPT-2's printable stand-in for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    chars, extra = {}, 0
    for b in range(256):
        if b in plain:
            chars[b] = chr(b)
        else:
            chars[b], extra = chr(256 + extra), extra + 1
    return chars


def count_words(texts):
    """How often each piece of the strict split stands in the texts; single digits are left out."""
    counts = collections.Counter()
    for text in texts:
        counts.update(m.group() for m in _STRICT_SPLIT.finditer(text))
    return collections.Counter({w: n for w, n in counts.items() if len(w.encode()) > 1 and not w[0].isdigit()})


def learn_merges(counts, n_merges, temper=0.65, max_words=80000):
    """The n_merges best merges [(left, right)] in byte characters.

    Counts are tempered (count ** temper), so that the few fixed sentences of every prompt do not take the places of
    the many words that stand in file names.
    """
    chars = byte_chars()
    words, weights, where, pairs = [], [], collections.defaultdict(set), collections.Counter()
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:max_words]:
        words.append([chars[b] for b in word.encode()])
        weights.append(count**temper)
        for pair in zip(words[-1], words[-1][1:]):
            pairs[pair] += weights[-1]
            where[pair].add(len(words) - 1)
    heap = [(-weight, pair) for pair, weight in pairs.items()]
    heapq.heapify(heap)
    merges, known = [], set(chars.values())
    while heap and len(merges) < n_merges:
        weight, pair = heapq.heappop(heap)
        if pair not in pairs or abs(pairs[pair] + weight) > 1e-6 * abs(weight):
            continue  # an outdated entry: the pair's weight changed since, and a newer entry stands for it
        joined = pair[0] + pair[1]
        if joined not in known:  # a second way to a known token would leave a hole in the vocabulary
            merges.append(pair)
            known.add(joined)
        changed = set()
        for at in where.pop(pair):
            old = words[at]
            new, i = [], 0
            while i < len(old):
                if i + 1 < len(old) and (old[i], old[i + 1]) == pair:
                    new.append(joined)
                    i += 2
                else:
                    new.append(old[i])
                    i += 1
            for p in zip(old, old[1:]):
                pairs[p] -= weights[at]
                changed.add(p)
            for p in zip(new, new[1:]):
                pairs[p] += weights[at]
                where[p].add(at)
                changed.add(p)
            words[at] = new
        pairs.pop(pair, None)
        for p in changed:
            if p in pairs and p != pair:
                if pairs[p] > 1e-9:
                    heapq.heappush(heap, (-pairs[p], p))
                else:
                    del pairs[p]
    return merges


def tokenizer_json(merges, vocab_size):
    """The tokenizer as the `tokenizers` library (and our converter) reads it. Specials take the last ids."""
    vocab = {char: i for i, char in enumerate(sorted(byte_chars().values()))}
    for left, right in merges:
        vocab[left + right] = len(vocab)
    if len(vocab) + len(SPECIALS) > vocab_size:
        raise ValueError(f"{len(vocab)} tokens and {len(SPECIALS)} specials do not fit a vocabulary of {vocab_size}")
    first = vocab_size - len(SPECIALS)
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": FAMILY_SPLIT}, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": first + i, "content": text, **flags} for i, text in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(pair) for pair in merges],
        },
    }


def train(texts, vocab_size, path):
    """Learns from texts and writes tokenizer.json; returns a line for the log."""
    counts = count_words(texts)
    merges = learn_merges(counts, vocab_size - 256 - len(SPECIALS))
    # A corpus too small for all merges leaves ids without a token in the middle; the specials keep the last ids.
    with open(path, "w", encoding="utf-8") as file:
        json.dump(tokenizer_json(merges, vocab_size), file, ensure_ascii=False)
    whole = {left + right for left, right in merges}
    chars = byte_chars()
    held = sum(n for w, n in counts.items() if "".join(chars[b] for b in w.encode()) in whole)
    return f"bpe: {len(counts)} words, {len(merges)} merges, {held / max(1, sum(counts.values())):.1%} of words are one token"


class Bpe:
    """Encodes as the `tokenizers` library does, without special parsing; with that library where it is installed."""

    def __init__(self, path, plain=False):
        spec = json.loads(open(path, encoding="utf-8").read())
        if spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] != FAMILY_SPLIT:
            raise ValueError(f"{path}: the pre-tokenizer is not the M3 family's")
        self.vocab = spec["model"]["vocab"]
        self.ranks = {tuple(pair): i for i, pair in enumerate(spec["model"]["merges"])}
        self.specials = {t["content"]: t["id"] for t in spec["added_tokens"]}
        chars = byte_chars()
        self.chars, self.bytes = [chars[b] for b in range(256)], {c: b for b, c in chars.items()}
        self.size = max([*self.vocab.values(), *self.specials.values()]) + 1
        self.text = [b""] * self.size  # each token's bytes; the specials' as they are written
        for token, i in self.vocab.items():
            self.text[i] = bytes(self.bytes[c] for c in token)
        for token, i in self.specials.items():
            self.text[i] = token.encode()
        self.split, self.cache, self.fast = regex.compile(FAMILY_SPLIT), {}, None
        if not plain:
            try:
                import tokenizers

                self.fast = tokenizers.Tokenizer.from_str(json.dumps(spec))
                self.fast.encode_special_tokens = True  # text that spells a special token stays text
            except ImportError:
                pass  # the same tokens, only slower

    def _word(self, word):
        ids = self.cache.get(word)
        if ids is None:
            parts = [self.chars[b] for b in word.encode()]
            while len(parts) > 1:
                rank, at = min((self.ranks.get(pair, 1 << 30), i) for i, pair in enumerate(zip(parts, parts[1:])))
                if rank == 1 << 30:
                    break
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            ids = self.cache[word] = [self.vocab[p] for p in parts]
        return ids

    def encode(self, text):
        return self.encode_all([text])[0]

    def encode_all(self, texts):
        """Token ids of each text."""
        if self.fast is None:
            return [[i for m in self.split.finditer(text) for i in self._word(m.group())] for text in texts]
        encode = getattr(self.fast, "encode_batch_fast", self.fast.encode_batch)
        return [e.ids for e in encode(texts, add_special_tokens=False)]

    def decode(self, ids):
        return b"".join(self.text[i] for i in ids).decode(errors="replace")
