"""The model on its device with its compiled passes: one training step, one evaluation pass, checkpoints."""

import math

import numpy as np
import torch

import data as data_module
import m3
import optim
import packed

PEAK_FLOPS = 989e12  # dense bf16 of an H100 or H200; what the log's MFU is a share of


def check_flex(device, tokens=1024):
    """Compares compiled flex_attention on a packed mask with attention by definition: outputs and gradients.

    Returns the largest relative difference; raises what the compiler raises.
    """
    batch, rng = packed.Batch(tokens), np.random.default_rng(0)
    for lengths in ((130, 90, 41), (7, 200, 300)):
        parts = [rng.integers(0, 99, n) for n in lengths]
        codes = lambda part: np.minimum(np.arange(len(part)), 1).astype(np.uint8)
        batch.add_section(parts[0], [[(p, codes(p), None)] for p in parts[1:]])
    flex = packed.DeviceBatch(torch, tokens, tokens, "flex", device).load(batch)
    plain = packed.DeviceBatch(torch, tokens, tokens, "explicit", device).load(batch)
    attend = torch.compile(packed.make_attend(torch, "flex", tokens), dynamic=False)
    torch.manual_seed(1)
    inputs = [torch.randn(tokens, heads, 64, device=device, dtype=torch.bfloat16) for heads in (6, 2, 2)]
    weight = torch.randn(tokens, 6 * 64, device=device)
    results = []
    for function, mask in ((attend, flex.mask), (m3.attend_explicit, plain.mask)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves, mask)
        (out.float() * weight).sum().backward()
        results.append([out.detach().float()] + [x.grad.float() for x in leaves])
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(*results))


def choose_attention(wanted, device, log):
    """ "auto" takes flex where it compiles and is right, else masks per row; on a CPU the definition."""
    if wanted != "auto":
        return wanted
    if device == "cpu":
        return "explicit"
    try:
        worst = check_flex(device)
        log(f"flex_attention against the definition: largest relative difference {worst:.2e}")
        if worst < 2e-2:
            return "flex"
    except Exception as error:  # whatever the compiler throws: the other path needs no compiler
        log(f"flex_attention failed: {type(error).__name__}: {str(error)[:600]}")
    log("falling back to scaled_dot_product_attention with a mask per row")
    return "rows"


class Runner:
    def __init__(self, cfg, tokens, attention, device, compile_it, row=4096, z_loss=1e-5, balance=1e-3, bias_rate=1e-3, lrs=None,
                 average=None):  # fmt: skip
        """average(tensors): takes the mean of gradients and of experts' loads over the processes of a training."""
        torch.manual_seed(1234)
        self.average = average
        self.cfg, self.tokens, self.device, self.attention = cfg, tokens, device, attention
        self.row = row if attention == "rows" else tokens
        self.z_loss, self.balance, self.bias_rate = z_loss, balance, bias_rate
        self.model = m3.Model(cfg).to(device)
        self.batch = packed.DeviceBatch(torch, tokens, self.row, attention, device)
        compiler = (lambda f: torch.compile(f, dynamic=False)) if compile_it else (lambda f: f)
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        attend = packed.make_attend(torch, attention, self.row)
        self.forward, self.head = m3.make_forward(cfg, attend, dtype, compiler)
        self.optimizer = optim.Optimizer(self.model, **(lrs or {}))
        self.step_count = 0
        self.table = torch.arange(256, device=device).float() / 16
        self.table[data_module.CONTEXT] = 0.0
        self.own_table = self.table.clone()

    def set_context_weight(self, weight):
        self.table[data_module.CONTEXT] = weight

    def matmul_flops(self):
        """Multiplications and additions of one token's forward pass through the matrices as they are evaluated."""
        skip = {id(p) for layer in self.model.layers for p in layer.index_parameters()} | {id(self.model.embed)}
        return 2 * sum(p.numel() for p in self.model.parameters() if p.dim() > 1 and id(p) not in skip)

    def train_flops(self, batch):
        """Of a training step: three times the forward pass; a token sees pos + 1 tokens."""
        seen = float(batch.pos.astype(np.int64).sum() + batch.size)
        attention = 4 * self.cfg.num_hidden_layers * self.cfg.num_attention_heads * self.cfg.head_dim * seen
        return 3 * (self.matmul_flops() * batch.size + attention)

    def _loss(self, loaded, table=None):
        weights = (self.table if table is None else table)[loaded.code]
        hidden, routing, _ = self.forward(self.model, loaded.token, loaded.pos, loaded.mask)
        loss, z, right = self.head(self.model, hidden, loaded.target, weights)
        return loss, z, right, weights, routing

    def step(self, batch, scale, update=True):
        """One update; returns tensors (loss, accuracy on the agent's tokens, largest expert load over the mean)."""
        loaded = self.batch.load(batch)
        loss, z, right, weights, routing = self._loss(loaded)
        mean = loss / weights.sum().clamp_min(1.0)  # a batch with nothing to learn gives 0
        extra = sum(balance for _, balance in routing) * self.balance
        (mean + z / (weights > 0).sum().clamp_min(1) * self.z_loss + extra).backward()
        if update:
            if self.average:
                self.average([p.grad for p in self.model.parameters() if p.grad is not None] + [load for load, _ in routing])
            self.optimizer.step(scale)
            self.step_count += 1
            self._balance(routing, scale)
        self.optimizer.zero_grad(self.model)
        own = (loaded.code > 0) & (loaded.code < data_module.CONTEXT)
        skew = torch.stack([load.max() / load.mean() for load, _ in routing]).max() if routing else torch.ones_like(mean)
        return mean.detach(), (right & own).sum() / own.sum(), skew

    @torch.no_grad()
    def _balance(self, routing, scale):
        """Nudges each expert's selection bias towards equal load; the weights of experts never see the bias."""
        moe = [layer for layer in self.model.layers if not layer.dense]
        for layer, (load, _) in zip(moe, routing):
            layer.bias += self.bias_rate * min(1.0, scale * 2) * torch.sign(load.mean() - load)
            layer.bias -= layer.bias.mean()

    def evaluate(self, loaded):
        """(weighted loss sum, weight sum, right [T]) over the agent's tokens. The graph is built and dropped: the
        compiled training pass is used as it is, a second one without gradients would have to be compiled.
        """
        loss, _, right, weights, _ = self._loss(loaded, self.own_table)
        return loss.detach(), weights.sum(), right

    @torch.enable_grad()
    def layer_inputs(self, loaded):
        """Each layer's input [T, dim]. With the graph, as in evaluate: also for callers that want no gradients."""
        return self.forward(self.model, loaded.token, loaded.pos, loaded.mask)[2]

    def save(self, path, **more):
        temporary = path.with_suffix(".part")
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state(), "step": self.step_count, **more}, temporary)
        temporary.rename(path)

    def restore(self, path):
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load(state["optimizer"])
        self.step_count = state["step"]
        return state

    def agrees(self, device_batch, batch, prefixes_of, samples=3):
        """Largest difference between the logits of the training path (bf16) and of the reference (float32) over the
        first trajectories of a batch, relative to the logits' spread, and the share of equal most likely tokens.
        """
        loaded = device_batch.load(batch)
        hidden = self.forward(self.model, loaded.token, loaded.pos, loaded.mask)[0].detach()
        found = []
        for key, at in batch.placed[:samples]:
            prefix, tokens = prefixes_of(key)
            ids = torch.tensor([*map(int, prefix), *map(int, tokens)], device=self.device)
            want = m3.reference_logits(self.model, ids)[len(prefix) :]
            h = m3.gemma_norm(hidden[at : at + len(tokens)], self.model.norm, self.cfg.rms_norm_eps)
            got = (h @ self.model.head.t()).detach()
            found.append((((got - want).abs().max() / want.std()).item(), (got.argmax(-1) == want.argmax(-1)).float().mean().item()))
        return max(f[0] for f in found), sum(f[1] for f in found) / len(found)


def finite(value):
    if not math.isfinite(value):
        raise RuntimeError(f"the loss is {value}: training has diverged")
    return value
