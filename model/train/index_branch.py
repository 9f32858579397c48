"""Trains the index branch, which chooses the blocks that sparse attention reads, and measures how well it chooses.

The rest of the model stays as it is. On long rows (one prefix, one session, positions from 0) the main attention of
sampled queries is computed in full; the index scores then learn its distribution, averaged over the heads of a group:
by Kullback-Leibler divergence over tokens, and over blocks with the block's largest score, which is what selection
ranks. The local blocks are always selected, so the blocks' divergence leaves them out.
"""

import math
import random

import torch

import m3


def _sample(cfg, layer, x, cos, sin, rows, row, queries):
    """Main and index attention of sampled queries of one layer.

    x: the layer's input [rows * row, dim]; queries: positions in the row [rows, Q], the same for all rows' sampling.
    Returns (p, s, local): main attention [rows, groups, Q, row], index scores of the same shape with -inf where unseen,
    and the local blocks [rows, 1, Q, blocks].
    """
    groups, hd = cfg.num_key_value_heads, cfg.head_dim
    flat = (queries + torch.arange(rows, device=x.device)[:, None] * row).reshape(-1)
    seen = torch.arange(row, device=x.device)[None, None] <= queries[..., None]  # [rows, Q, row]
    with torch.no_grad():
        h = m3.gemma_norm(x, layer.attn_norm, cfg.rms_norm_eps)
        q = (h[flat] @ layer.wq.t()).reshape(len(flat), -1, hd)
        q = m3.rotate(m3.gemma_norm(q, layer.q_norm, cfg.rms_norm_eps), cos[flat], sin[flat])
        k = m3.rotate(m3.gemma_norm((h @ layer.wk.t()).reshape(-1, groups, hd), layer.k_norm, cfg.rms_norm_eps), cos, sin)
        q = q.reshape(rows, queries.shape[1], groups, -1, hd)
        p = torch.zeros(rows, groups, queries.shape[1], row, device=x.device)
        for n in range(q.shape[3]):  # a head of each group at a time: the full scores are large
            score = torch.einsum("rqgd,rkgd->rgqk", q[:, :, :, n], k.reshape(rows, row, groups, hd)) * hd**-0.5
            p += score.masked_fill(~seen[:, None], -math.inf).softmax(-1)
        p /= q.shape[3]
    d = cfg.index_head_dim
    iq = m3.gemma_norm((h[flat] @ layer.iq.t()).reshape(len(flat), -1, d), layer.iq_norm, cfg.rms_norm_eps)
    iq = m3.rotate(iq, cos[flat], sin[flat]).reshape(rows, queries.shape[1], -1, d)
    ik = m3.rotate(m3.gemma_norm((h @ layer.ik.t())[:, None], layer.ik_norm, cfg.rms_norm_eps), cos, sin)
    s = torch.einsum("rqgd,rkd->rgqk", iq, ik.reshape(rows, row, d)) * d**-0.5
    s = s.masked_fill(~seen[:, None], -math.inf)
    block = torch.arange(row // cfg.index_block_size, device=x.device)[None, None]
    here = queries[..., None] // cfg.index_block_size
    local = (block <= here) & (block > here - cfg.index_local_blocks)
    return p, s, local[:, None]


def _divergences(cfg, p, s, local):
    """(over tokens, over the blocks that are not local), each a mean over queries."""
    logq = s.log_softmax(-1)
    tokens = (p * (p.clamp_min(1e-9).log() - logq.masked_fill(p == 0, 0.0))).sum(-1).mean()
    mass = p.unflatten(-1, (-1, cfg.index_block_size)).sum(-1).masked_fill(local, 0.0)
    score = s.unflatten(-1, (-1, cfg.index_block_size)).amax(-1).masked_fill(local, -math.inf)
    share = mass.sum(-1, keepdim=True)
    target = mass / share.clamp_min(1e-9)
    logb = score.log_softmax(-1)
    blocks = (target * (target.clamp_min(1e-9).log() - logb.masked_fill(target == 0, 0.0))).sum(-1)
    return tokens, (blocks * share[..., 0].clamp_max(1.0).sqrt()).mean()


@torch.no_grad()
def recall(cfg, p, s, local, queries):
    """For queries that see more blocks than are selected: (count, share of dense attention's top blocks that were
    selected, share of the attention's mass in the selected blocks).
    """
    top = cfg.index_topk_blocks
    many = (queries // cfg.index_block_size >= top).nonzero(as_tuple=True)
    if many[0].numel() == 0:
        return 0, 0.0, 0.0
    mass = p.unflatten(-1, (-1, cfg.index_block_size)).sum(-1)
    score = s.unflatten(-1, (-1, cfg.index_block_size)).amax(-1).masked_fill(local, math.inf)
    pick = lambda values: torch.zeros_like(mass, dtype=torch.bool).scatter(-1, values.topk(top, -1).indices, True)
    chosen, best = pick(score), pick(mass.masked_fill(local, math.inf))
    at = lambda t: t.transpose(1, 2)[many]  # [n, groups, ...]
    return many[0].numel(), at((chosen & best).float().sum(-1) / top).mean().item(), at((mass * chosen).sum(-1)).mean().item()


class Trainer:
    """forward(batch) -> each layer's input [T, dim], by the dense main path; rows of `row` tokens. average(tensors): over
    the processes of a training.
    """

    def __init__(self, model, forward, row, lr=3e-3, average=None):
        self.model, self.forward, self.row, self.average = model, forward, row, average
        self.layers = [(i, layer) for i, layer in enumerate(model.layers) if not layer.dense]
        self.params = [p for _, layer in self.layers for p in layer.index_parameters()]
        self.adam, self.lr = torch.optim.AdamW(self.params, lr=lr, betas=(0.9, 0.98), weight_decay=0.0), lr

    def _each_layer(self, batch, per_row, recalls):
        cfg, row = self.model.cfg, self.row
        inputs = self.forward(batch)
        rows, device = batch.size // row, batch.token.device
        cos, sin = m3.rope_table(cfg, batch.pos)
        first = min(row - 1, cfg.index_block_size * 2)
        queries = torch.randint(first, row, (rows, per_row), device=device)
        for i, wanted in enumerate(recalls or []):
            if wanted:  # half of the row's queries
                at = torch.tensor(random.choices(wanted, k=per_row // 2), device=device)
                queries[i, : per_row // 2] = at.clamp_min(first)
        for i, layer in self.layers:
            yield (*_sample(cfg, layer, inputs[i].detach(), cos, sin, rows, row, queries), queries)

    def step(self, batch, scale, per_row=32, recalls=None):
        """One update from a loaded batch; returns the divergences as tensors. recalls: data.recalls of the batch."""
        self.adam.zero_grad(set_to_none=True)
        sums = torch.zeros(2, device=batch.token.device)
        for p, s, local, _ in self._each_layer(batch, per_row, recalls):
            tokens, blocks = _divergences(self.model.cfg, p, s, local)
            (tokens + blocks).backward()
            sums += torch.stack([tokens.detach(), blocks.detach()])
        if self.average:
            self.average([p.grad for p in self.params])
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.lr * scale
        self.adam.step()
        return sums / len(self.layers)

    @torch.no_grad()
    def measure(self, batch, per_row=32, recalls=None):
        """Mean block recall and mass recall over layers, and the worst layer's mass recall."""
        found = [recall(self.model.cfg, *sample) for sample in self._each_layer(batch, per_row, recalls)]
        found = [f for f in found if f[0]]
        if not found:
            return {"block_recall": None, "mass_recall": None, "worst_layer_mass": None}
        n = len(found)
        return {"block_recall": sum(f[1] for f in found) / n, "mass_recall": sum(f[2] for f in found) / n,
                "worst_layer_mass": min(f[2] for f in found)}  # fmt: skip
