"""Packed batches: T tokens in one row, holding many trajectories, and the attention masks over them.

A batch is a row of sections. A section is one prefix (the agent's system text and tools) and many documents that
continue it. A token sees its section's prefix and the earlier tokens of its own document, and each document's
positions go on from the prefix, so a document looks exactly as if it stood alone behind its prefix. For the masks it is
enough to know per token where its document starts and where its prefix begins and ends:

    visible(q, k) = k <= q and (k >= start[q] or prefix_begin[q] <= k < prefix_end[q])
"""

import numpy as np

BLOCK = 128  # the tile of the block mask, both ways


class Batch:
    """Arrays [T] for one step, filled by add_section; `placed` says where each trajectory went.

    target[i] is the token after i, and code[i] its weight code (0 where nothing is learnt). Sections do not cross a
    multiple of `row`, so that a batch may also be attended as T / row independent rows.
    """

    def __init__(self, tokens, row=None):
        self.size, self.row, self.used, self.trained = tokens, row or tokens, 0, 0
        self.token, self.target = np.zeros(tokens, np.int64), np.zeros(tokens, np.int64)
        self.pos, self.code = np.zeros(tokens, np.int32), np.zeros(tokens, np.uint8)
        self.start = np.arange(tokens, dtype=np.int32)  # padding sees itself alone
        self.prefix_begin, self.prefix_end = np.zeros(tokens, np.int32), np.zeros(tokens, np.int32)
        self.sections, self.placed, self._tiles = [], [], None

    def room(self):
        """Tokens left in the current row."""
        return self.row - self.used % self.row if self.used < self.size else 0

    def skip_row(self):
        self.used = min(self.size, (self.used // self.row + 1) * self.row)

    def add_section(self, prefix, documents):
        """documents: lists of (tokens, codes, tag) trajectories; those of one document follow each other in time."""
        total = len(prefix) + sum(len(tokens) for document in documents for tokens, _, _ in document)
        if total > self.room():
            raise ValueError(f"a section of {total} tokens does not fit the {self.room()} left in the row")
        begin = self.used
        end = begin + len(prefix)
        self._put(begin, prefix, None, 0)
        self.start[begin:end], self.prefix_begin[begin:end], self.prefix_end[begin:end] = begin, begin, end
        spans, at = [], end
        for document in documents:
            first = at
            for tokens, codes, tag in document:
                self._put(at, tokens, codes, len(prefix) + at - first)
                self.placed.append((tag, at))
                at += len(tokens)
            self.start[first:at] = first
            spans.append((first, at))
        self.prefix_begin[end:at], self.prefix_end[end:at] = begin, end
        self.sections.append((begin, end, spans))
        self.used, self.trained = at, self.trained + at - end

    def _put(self, at, tokens, codes, pos):
        n = len(tokens)
        self.token[at : at + n] = tokens
        self.pos[at : at + n] = np.arange(pos, pos + n)
        if codes is None:
            return
        self.target[at : at + n - 1] = tokens[1:]
        self.code[at : at + n - 1] = codes[1:]
        if codes[0]:  # only a trajectory that goes on in the middle of a document has a weight on its first token
            raise ValueError("the first token of a trajectory cannot be learnt: nothing certain stands before it")

    def blocks(self):
        """(partial, full): bool [T/128, T/128], which key tiles a query tile sees in part or wholly."""
        if self._tiles is None:
            self._tiles = self._find_blocks()
        return self._tiles

    def _find_blocks(self):
        n = self.size // BLOCK
        some, full = np.zeros((n, n), bool), np.zeros((n, n), bool)
        np.fill_diagonal(some, True)
        for begin, end, spans in self.sections:
            last = spans[-1][1] if spans else end
            cover = slice(begin // BLOCK, (end - 1) // BLOCK + 1)
            inner = slice(-(-begin // BLOCK), end // BLOCK)
            some[begin // BLOCK : (last - 1) // BLOCK + 1, cover] = True
            full[-(-end // BLOCK) : last // BLOCK, inner] = True
            for first, stop in [(begin, end), *spans]:
                cover = slice(first // BLOCK, (stop - 1) // BLOCK + 1)
                some[cover, cover] = True
                inner = slice(-(-first // BLOCK), stop // BLOCK)
                full[inner, inner] = True
        full &= np.tri(n, k=-1, dtype=bool)  # the diagonal tile is causal inside
        some &= np.tri(n, dtype=bool)
        return some & ~full, full

    def visible(self):
        """[T, T] bool by the definition above; for tests and small machines."""
        at = np.arange(self.size)
        key, query = at[None], at[:, None]
        prefix = (key >= self.prefix_begin[:, None]) & (key < self.prefix_end[:, None])
        return (key <= query) & ((key >= self.start[:, None]) | prefix)


class DeviceBatch:
    """One batch's tensors on the device. Buffers and mask objects are made once and refilled, so compiled programs see
    the same objects at every step.

    kind: "flex" (flex_attention with a block mask), "rows" (scaled_dot_product_attention with a mask per row) or
    "explicit" (the definition; small T only).
    """

    def __init__(self, torch, tokens, row, kind, device):
        self.torch, self.kind, self.device, self.size, self.row = torch, kind, device, tokens, row
        make = lambda dtype, *shape: torch.zeros(*shape, dtype=dtype, device=device)
        self.token, self.target = make(torch.int64, tokens), make(torch.int64, tokens)
        self.pos, self.code = make(torch.int32, tokens), make(torch.int64, tokens)
        self.start, self.prefix_begin, self.prefix_end = (make(torch.int32, tokens) for _ in range(3))
        if kind == "flex":
            self.mask = self._block_mask(make)
        elif kind == "rows":
            self.mask = make(torch.bool, tokens // row, 1, row, row)
        else:
            self.mask = make(torch.bool, tokens, tokens)

    def _block_mask(self, make):
        from torch.nn.attention.flex_attention import BlockMask

        torch, n = self.torch, self.size // BLOCK
        start, prefix_begin, prefix_end = self.start, self.prefix_begin, self.prefix_end

        def visible(b, h, q, k):
            return (k <= q) & ((k >= start[q]) | ((k >= prefix_begin[q]) & (k < prefix_end[q])))

        index = lambda: (make(torch.int32, 1, 1, n), make(torch.int32, 1, 1, n, n))
        return BlockMask.from_kv_blocks(*index(), *index(), BLOCK_SIZE=BLOCK, mask_mod=visible,
                                        seq_lengths=(self.size, self.size))  # fmt: skip

    def load(self, batch):
        """Copies a Batch in; returns self."""
        torch = self.torch

        def send(values):
            host = torch.from_numpy(np.ascontiguousarray(values))
            return host.pin_memory().to(self.device, non_blocking=True) if self.device == "cuda" else host

        for name in ("token", "target", "pos", "code", "start", "prefix_begin", "prefix_end"):
            getattr(self, name).copy_(send(getattr(batch, name)))
        if self.kind == "flex":
            partial, full = (send(tiles.view(np.uint8)).to(torch.int32)[None, None] for tiles in batch.blocks())
            m = self.mask
            for tiles, count, ids in ((partial, m.kv_num_blocks, m.kv_indices), (full, m.full_kv_num_blocks,
                                      m.full_kv_indices), (partial.transpose(2, 3), m.q_num_blocks, m.q_indices),
                                      (full.transpose(2, 3), m.full_q_num_blocks, m.full_q_indices)):  # fmt: skip
                count.copy_(tiles.sum(-1))
                ids.copy_(torch.argsort(tiles, dim=-1, descending=True, stable=True))
        elif self.kind == "rows":
            rows, r = self.size // self.row, self.row
            base = (torch.arange(rows, device=self.device) * r)[:, None]
            start, begin, end = ((t.reshape(rows, r) - base)[:, :, None] for t in
                                 (self.start, self.prefix_begin, self.prefix_end))  # fmt: skip
            k, q = torch.arange(r, device=self.device)[None, None], torch.arange(r, device=self.device)[None, :, None]
            self.mask[:, 0] = (k <= q) & ((k >= start) | ((k >= begin) & (k < end)))
        else:
            self.mask.copy_(send(batch.visible()))
        return self


def make_attend(torch, kind, row, enable_gqa=True):
    """attend(q, k, v, mask) for m3.make_forward: [T, heads, head_dim] -> [T, heads * head_dim]."""
    if kind == "explicit":
        from m3 import attend_explicit

        return attend_explicit
    if kind == "flex":
        from torch.nn.attention.flex_attention import flex_attention

        def attend(q, k, v, mask):
            n = q.shape[1] // k.shape[1]
            if not enable_gqa:
                k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
            q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
            out = flex_attention(q, k, v, block_mask=mask, enable_gqa=enable_gqa)
            return out[0].transpose(0, 1).reshape(q.shape[2], -1)

        return attend

    def attend(q, k, v, mask):
        t, n = q.shape[0], q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
        q, k, v = (x.reshape(t // row, row, -1, x.shape[-1]).transpose(1, 2) for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(t, -1)

    return attend
