"""Muon for the matrices, AdamW for the rest, and the learning rate over the time given.

Muon (Jordan et al., 2024): momentum, then the nearest semi-orthogonal matrix by five Newton-Schulz steps. Each expert's
matrix is orthogonalised by itself; all matrices of one shape, whatever their layer, go through one batched product.
"""

import math

import torch


def orthogonalise(g, steps=5):
    """[N, m, n], m <= n -> about U V^T of each matrix's singular value decomposition."""
    a, b, c = 3.4445, -4.7750, 2.0315  # the quintic that takes singular values in (0, 1] near 1 fastest
    x = g / (g.float().norm(dim=(1, 2), keepdim=True) + 1e-7).to(g.dtype)
    for _ in range(steps):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x


class Muon:
    def __init__(self, params, momentum=0.95, weight_decay=0.01, dtype=torch.bfloat16):
        self.momentum, self.weight_decay, self.dtype = momentum, weight_decay, dtype
        shapes = {}
        for p in params:
            m, n = p.shape[-2:]
            shapes.setdefault((min(m, n), max(m, n)), []).append(p)
        self.groups = [(shape, members) for shape, members in sorted(shapes.items())]
        self.buffers = [None] * len(self.groups)

    @staticmethod
    def _flat(tensor):
        """A parameter's matrices as [N, m, n] with m <= n."""
        t = tensor.reshape(-1, *tensor.shape[-2:])
        return t.transpose(1, 2) if t.shape[1] > t.shape[2] else t

    @torch.no_grad()
    def step(self, lr):
        for i, (_, members) in enumerate(self.groups):
            g = torch.cat([self._flat(p.grad) for p in members])
            if self.buffers[i] is None:
                self.buffers[i] = torch.zeros_like(g)
            self.buffers[i].lerp_(g, 1 - self.momentum)
            update = orthogonalise(g.lerp(self.buffers[i], self.momentum).to(self.dtype)).float()
            at = 0
            for p in members:
                out, inner = p.shape[-2:]
                n = p.numel() // (out * inner)
                part = update[at : at + n]
                part = (part.transpose(1, 2) if out > inner else part).reshape(p.shape)
                p.mul_(1 - lr * self.weight_decay).add_(part, alpha=-lr * max(1.0, out / inner) ** 0.5)
                at += n

    def state(self):
        return self.buffers

    def load(self, buffers):
        self.buffers = buffers


class Optimizer:
    """All of a model's parameters but the index branch's. Learning rates are the peaks, scaled by lr_scale(progress)."""

    def __init__(self, model, muon_lr=0.02, embed_lr=0.006, head_lr=0.002, vector_lr=0.004, router_lr=0.001,
                 weight_decay=0.01):  # fmt: skip
        matrices, vectors, routers = [], [], []
        for layer in model.layers:
            index = {id(p) for p in layer.index_parameters()}
            for name, p in layer.named_parameters():
                if id(p) not in index:
                    (routers if name == "router" else vectors if p.dim() == 1 else matrices).append(p)
        fused = model.embed.is_cuda
        groups = [{"params": [model.embed], "lr": embed_lr}, {"params": [model.head], "lr": head_lr},
                  {"params": vectors + [model.norm], "lr": vector_lr}, {"params": routers, "lr": router_lr}]  # fmt: skip
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0, **({"fused": True} if fused else {}))
        self.adam_params = [p for g in groups for p in g["params"]]
        self.peaks = [g["lr"] for g in groups]
        self.muon, self.muon_lr = Muon(matrices, weight_decay=weight_decay, dtype=torch.bfloat16 if fused else torch.float32), muon_lr

    def step(self, scale):
        torch.nn.utils.clip_grad_norm_(self.adam_params, 1.0)
        for group, peak in zip(self.adam.param_groups, self.peaks):
            group["lr"] = peak * scale
        self.adam.step()
        self.muon.step(self.muon_lr * scale)

    def zero_grad(self, model):
        for p in model.parameters():
            p.grad = None

    def state(self):
        return {"adam": self.adam.state_dict(), "muon": self.muon.state()}

    def load(self, state):
        self.adam.load_state_dict(state["adam"])
        self.muon.load(state["muon"])


def lr_scale(step, progress, warmup=200, decay=0.45, floor=0.02):
    """Warm-up by steps, a plateau, then a cosine to `floor` over the last `decay` of the time. progress in [0, 1]."""
    up = min(1.0, (step + 1) / warmup)
    if progress < 1 - decay:
        return up
    x = min(1.0, (progress - (1 - decay)) / decay)
    return up * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * x)))
