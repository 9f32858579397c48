"""MiniMax-M3's text architecture in PyTorch: a fast training path over packed tokens, and a plain reference forward.

The training path treats one batch as a single row of T tokens; who sees whom is the attention mask's business
(packed.py). Layers are pure functions of tensors, so torch.compile builds one program for all mixture layers.

The experts are so small that evaluating all of them as one wide feed-forward is faster than gathering tokens: each
expert's activation is multiplied by its gate, zero for the unselected, before the shared down projection. That equals
the mixture exactly. Up to `index_topk_blocks * index_block_size` visible tokens block selection keeps everything, so
the training path attends densely; the index branch is trained by index_branch.py.
"""

import dataclasses
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass(frozen=True)
class Config:
    """The fields of the Hugging Face configuration, with the sizes of corvid's small model as defaults."""

    vocab_size: int = 4096
    hidden_size: int = 384
    num_hidden_layers: int = 10
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 64
    rotary_dim: int = 32
    rope_theta: float = 100000.0
    dense_layers: int = 1  # the first layers: dense feed-forward, full attention
    dense_intermediate_size: int = 1024
    num_local_experts: int = 12
    num_experts_per_tok: int = 2
    intermediate_size: int = 128
    shared_intermediate_size: int = 256
    routed_scaling_factor: float = 2.0
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    index_n_heads: int = 2
    index_head_dim: int = 64
    index_block_size: int = 128
    index_topk_blocks: int = 16
    index_local_blocks: int = 1
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    bos_token_id: int = 4090
    eos_token_id: int = 4092

    def to_hf(self, dtype="bfloat16"):
        """The flat spelling that transformers and our converter read."""
        dense, sparse = self.dense_layers, self.num_hidden_layers - self.dense_layers
        values = dataclasses.asdict(self)
        theta = values.pop("rope_theta")
        values.pop("dense_layers")
        return {
            "architectures": ["MiniMaxM3VLForCausalLM"],
            "model_type": "minimax_m3_vl_text",
            "dtype": dtype,
            **values,
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "layer_types": ["full_attention"] * dense + ["minimax_m3_sparse"] * sparse,
            "mlp_layer_types": ["dense"] * dense + ["sparse"] * sparse,
            "output_router_logits": False,
            "pad_token_id": None,
            "rope_parameters": {
                "partial_rotary_factor": self.rotary_dim / self.head_dim,
                "rope_theta": theta,
                "rope_type": "default",
            },
            "router_aux_loss_coef": 0.001,
            "router_jitter_noise": 0.0,
            "tie_word_embeddings": False,
            "use_cache": True,
        }

    @classmethod
    def from_hf(cls, values):
        names = {field.name for field in dataclasses.fields(cls)}
        known = {name: value for name, value in values.items() if name in names}
        known["rope_theta"] = values["rope_parameters"]["rope_theta"]
        known["dense_layers"] = values["mlp_layer_types"].count("dense")
        return cls(**known)


def _matrix(*shape, std=None):
    """A normal matrix [..., out, in]; std defaults to in^-1/2, so that outputs keep the scale of inputs."""
    return nn.Parameter(torch.randn(*shape) * (shape[-1] ** -0.5 if std is None else std))


def _zeros(*shape):
    return nn.Parameter(torch.zeros(*shape))


class Layer(nn.Module):
    """The parameters of one layer. Output projections begin at zero: each layer starts as the identity."""

    def __init__(self, cfg, dense):
        super().__init__()
        dim, hd = cfg.hidden_size, cfg.head_dim
        self.dense = dense
        self.attn_norm, self.ffn_norm = _zeros(dim), _zeros(dim)
        self.wq = _matrix(cfg.num_attention_heads * hd, dim)
        self.wk = _matrix(cfg.num_key_value_heads * hd, dim)
        self.wv = _matrix(cfg.num_key_value_heads * hd, dim)
        self.wo = _zeros(dim, cfg.num_attention_heads * hd)
        self.q_norm, self.k_norm = _zeros(hd), _zeros(hd)
        if dense:
            width = cfg.dense_intermediate_size
            self.gate, self.up, self.down = _matrix(width, dim), _matrix(width, dim), _zeros(dim, width)
            return
        n, width, shared = cfg.num_local_experts, cfg.intermediate_size, cfg.shared_intermediate_size
        self.router = _matrix(n, dim, std=0.02)
        self.register_buffer("bias", torch.zeros(n))
        self.e_gate, self.e_up, self.e_down = _matrix(n, width, dim), _matrix(n, width, dim), _zeros(n, dim, width)
        self.s_gate, self.s_up, self.s_down = _matrix(shared, dim), _matrix(shared, dim), _zeros(dim, shared)
        self.iq = _matrix(cfg.index_n_heads * cfg.index_head_dim, dim)
        self.ik = _matrix(cfg.index_head_dim, dim)
        self.iq_norm, self.ik_norm = _zeros(cfg.index_head_dim), _zeros(cfg.index_head_dim)

    def index_parameters(self):
        return [] if self.dense else [self.iq, self.ik, self.iq_norm, self.ik_norm]


class Model(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        # Tokens enter at the scale of the layers' outputs, so that copying heads still see them in the last layers.
        self.embed = _matrix(cfg.vocab_size, cfg.hidden_size, std=0.5)
        self.layers = nn.ModuleList(Layer(cfg, i < cfg.dense_layers) for i in range(cfg.num_hidden_layers))
        self.norm = _zeros(cfg.hidden_size)
        self.head = _matrix(cfg.vocab_size, cfg.hidden_size, std=0.02)


def gemma_norm(x, weight, eps):
    """x / rms(x) * (1 + weight) in float32."""
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * (1.0 + weight)


def rope_table(cfg, pos):
    """cos and sin [T, rotary_dim / 2] at the given positions."""
    half = torch.arange(0, cfg.rotary_dim, 2, device=pos.device, dtype=torch.float32) / cfg.rotary_dim
    angle = pos.float()[:, None] * (cfg.rope_theta**-half)[None]
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Half-split rotation of the first 2 * cos.shape[-1] of the last dimension. x: [T, heads, head_dim]."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


def swigluoai(gate, up, alpha, limit):
    gate, up = gate.float().clamp(max=limit), up.float().clamp(-limit, limit)
    return (up + 1.0) * gate * torch.sigmoid(alpha * gate)


def make_forward(cfg, attend, dtype, compiler=lambda f: f):
    """Returns forward(model, tokens, pos, mask) -> (hidden [T, dim] before the last norm, routing, layer inputs) and
    head(model, hidden, targets, weights) -> (loss sum, z sum, right [T] bool).

    attend(q, k, v, mask): [T, heads, head_dim] each (k and v with their own head count) -> [T, heads * head_dim].
    routing: per mixture layer (tokens per expert [n], balance loss). dtype: that of matrix products.
    """
    eps, hd, top_k, n_exp = cfg.rms_norm_eps, cfg.head_dim, cfg.num_experts_per_tok, cfg.num_local_experts
    alpha, limit, scale = cfg.swiglu_alpha, cfg.swiglu_limit, cfg.routed_scaling_factor

    def attention(x, cos, sin, mask, norm, wq, wk, wv, wo, q_norm, k_norm):
        h = gemma_norm(x, norm, eps).to(dtype)
        qkv = h @ torch.cat([wq, wk, wv]).to(dtype).t()
        q, k, v = qkv.split([wq.shape[0], wk.shape[0], wv.shape[0]], -1)
        t = x.shape[0]
        q = rotate(gemma_norm(q.reshape(t, -1, hd), q_norm, eps), cos, sin).to(dtype)
        k = rotate(gemma_norm(k.reshape(t, -1, hd), k_norm, eps), cos, sin).to(dtype)
        out = attend(q, k, v.reshape(t, -1, hd), mask)
        return x + (out @ wo.to(dtype).t()).float()

    def dense_layer(x, cos, sin, mask, norm, wq, wk, wv, wo, q_norm, k_norm, ffn_norm, gate, up, down):
        x = attention(x, cos, sin, mask, norm, wq, wk, wv, wo, q_norm, k_norm)
        h = gemma_norm(x, ffn_norm, eps).to(dtype)
        g, u = (h @ torch.cat([gate, up]).to(dtype).t()).chunk(2, -1)
        return x + (swigluoai(g, u, alpha, limit).to(dtype) @ down.to(dtype).t()).float()

    def moe_layer(x, cos, sin, mask, norm, wq, wk, wv, wo, q_norm, k_norm, ffn_norm, router, bias,
                  e_gate, e_up, e_down, s_gate, s_up, s_down):  # fmt: skip
        x = attention(x, cos, sin, mask, norm, wq, wk, wv, wo, q_norm, k_norm)
        h32 = gemma_norm(x, ffn_norm, eps)
        h = h32.to(dtype)
        t, dim, routed = x.shape[0], x.shape[1], e_gate.shape[0] * e_gate.shape[1]
        p = torch.sigmoid(h32 @ router.t())
        # The top k by repeated maximum: a few fused reductions over a dozen columns instead of a sort.
        score, ids = (p + bias).detach(), torch.arange(n_exp, device=x.device)
        chosen = torch.zeros_like(score, dtype=torch.bool)
        for _ in range(top_k):
            best = score.masked_fill(chosen, -1e30).argmax(-1, keepdim=True)
            chosen = chosen | (ids[None] == best)
        weight = torch.where(chosen, p, torch.zeros_like(p))
        weight = weight / weight.sum(-1, keepdim=True) * scale
        wide_gate = torch.cat([e_gate.reshape(routed, dim), s_gate])
        wide_up = torch.cat([e_up.reshape(routed, dim), s_up])
        wide_down = torch.cat([e_down.permute(1, 0, 2).reshape(dim, routed), s_down], 1)
        g, u = (h @ torch.cat([wide_gate, wide_up]).to(dtype).t()).chunk(2, -1)
        act = swigluoai(g, u, alpha, limit)
        # A gate per `unit` columns: an expert's own, and 1 over the shared expert's columns.
        unit = math.gcd(e_gate.shape[1], s_gate.shape[0])
        each = weight.repeat_interleave(e_gate.shape[1] // unit, 1) if unit < e_gate.shape[1] else weight
        each = torch.cat([each, torch.ones_like(each[:, :1]).expand(t, s_gate.shape[0] // unit)], 1)
        act = (act.reshape(t, -1, unit) * each[..., None]).reshape(t, -1)
        x = x + (act.to(dtype) @ wide_down.to(dtype).t()).float()
        load = chosen.float().sum(0)
        balance = (load / load.sum() * (p / p.sum(-1, keepdim=True)).mean(0)).sum() * n_exp
        return x, load, balance

    def head(hidden, norm, weight, targets, weights):
        h = gemma_norm(hidden, norm, eps).to(dtype)
        logits = (h @ weight.to(dtype).t()).float()
        lse = torch.logsumexp(logits, -1)
        ce = lse - logits.gather(1, targets[:, None])[:, 0]
        right = logits.detach().argmax(-1) == targets
        return (ce * weights).sum(), (lse * lse * (weights > 0)).sum(), right

    dense_fn, moe_fn, head_fn = compiler(dense_layer), compiler(moe_layer), compiler(head)

    def forward(model, tokens, pos, mask):
        cos, sin = rope_table(cfg, pos)
        x = F.embedding(tokens, model.embed)
        routing, inputs = [], []
        for layer in model.layers:
            inputs.append(x)
            shared = (x, cos, sin, mask, layer.attn_norm, layer.wq, layer.wk, layer.wv, layer.wo, layer.q_norm,
                      layer.k_norm, layer.ffn_norm)  # fmt: skip
            if layer.dense:
                x = dense_fn(*shared, layer.gate, layer.up, layer.down)
            else:
                x, load, balance = moe_fn(*shared, layer.router, layer.bias, layer.e_gate, layer.e_up, layer.e_down,
                                          layer.s_gate, layer.s_up, layer.s_down)  # fmt: skip
                routing.append((load, balance))
        return x, routing, inputs

    return forward, lambda model, hidden, targets, weights: head_fn(hidden, model.norm, model.head, targets, weights)


def select_blocks(cfg, iq, ik, positions):
    """MSA's choice: iq [Q, groups, d], ik [T, d], the queries' positions [Q] -> chosen [Q, groups, blocks] bool.

    Score of a block: the largest product with a visible token. The local blocks always count among the top k.
    """
    block, t = cfg.index_block_size, ik.shape[0]
    blocks = (t + block - 1) // block
    s = torch.einsum("qgd,td->qgt", iq, ik)
    s = s.masked_fill(torch.arange(t, device=ik.device)[None, None] > positions[:, None, None], -math.inf)
    s = F.pad(s, (0, blocks * block - t), value=-math.inf).reshape(*s.shape[:2], blocks, block).amax(-1)
    local = (positions // block)[:, None, None]
    ids = torch.arange(blocks, device=ik.device)[None, None]
    s = s.masked_fill((ids <= local) & (ids > local - cfg.index_local_blocks), math.inf)
    top = torch.topk(s, min(cfg.index_topk_blocks, blocks), -1)
    chosen = torch.zeros_like(s, dtype=torch.bool)
    return chosen.scatter(-1, top.indices, top.values > -math.inf)


def index_qk(cfg, layer, h, cos, sin):
    """The index branch's queries [T, index heads, d] and keys [T, d] from the normalised input h."""
    d = cfg.index_head_dim
    iq = gemma_norm((h @ layer.iq.t()).reshape(h.shape[0], -1, d), layer.iq_norm, cfg.rms_norm_eps)
    ik = gemma_norm((h @ layer.ik.t())[:, None], layer.ik_norm, cfg.rms_norm_eps)
    return rotate(iq, cos, sin), rotate(ik, cos, sin)[:, 0]


@torch.no_grad()
def reference_logits(model, tokens, sparse=True):
    """One sequence, float32, every step written out as the architecture defines it. tokens [T] -> logits [T, vocab]."""
    cfg, t = model.cfg, tokens.shape[0]
    eps, hd, groups = cfg.rms_norm_eps, cfg.head_dim, cfg.num_key_value_heads
    pos = torch.arange(t, device=tokens.device)
    cos, sin = rope_table(cfg, pos)
    causal = pos[:, None] >= pos[None]
    x = model.embed[tokens].float()
    for layer in model.layers:
        h = gemma_norm(x, layer.attn_norm, eps)
        q = rotate(gemma_norm((h @ layer.wq.t()).reshape(t, -1, hd), layer.q_norm, eps), cos, sin)
        k = rotate(gemma_norm((h @ layer.wk.t()).reshape(t, -1, hd), layer.k_norm, eps), cos, sin)
        v = (h @ layer.wv.t()).reshape(t, -1, hd)
        q = q.reshape(t, groups, -1, hd)
        scores = torch.einsum("qgnd,kgd->gnqk", q, k) * hd**-0.5
        seen = causal[None].expand(groups, t, t)
        if sparse and not layer.dense:
            chosen = select_blocks(cfg, *index_qk(cfg, layer, h, cos, sin), pos)
            seen = seen & chosen.repeat_interleave(cfg.index_block_size, -1)[..., :t].permute(1, 0, 2)
        prob = scores.masked_fill(~seen[:, None], -math.inf).softmax(-1)
        x = x + torch.einsum("gnqk,kgd->qgnd", prob, v).reshape(t, -1) @ layer.wo.t()
        h = gemma_norm(x, layer.ffn_norm, eps)
        if layer.dense:
            x = x + swigluoai(h @ layer.gate.t(), h @ layer.up.t(), cfg.swiglu_alpha, cfg.swiglu_limit) @ layer.down.t()
            continue
        p = torch.sigmoid(h @ layer.router.t())
        ids = torch.topk(p + layer.bias, cfg.num_experts_per_tok, -1).indices
        weight = p.gather(1, ids)
        weight = weight / weight.sum(-1, keepdim=True) * cfg.routed_scaling_factor
        y = swigluoai(h @ layer.s_gate.t(), h @ layer.s_up.t(), cfg.swiglu_alpha, cfg.swiglu_limit) @ layer.s_down.t()
        for e in range(cfg.num_local_experts):
            act = swigluoai(h @ layer.e_gate[e].t(), h @ layer.e_up[e].t(), cfg.swiglu_alpha, cfg.swiglu_limit)
            y = y + (act @ layer.e_down[e].t()) * (weight * (ids == e)).sum(-1, keepdim=True)
        x = x + y
    return gemma_norm(x, model.norm, eps) @ model.head.t()


def attend_explicit(q, k, v, mask):
    """Attention by its definition; mask [T, T] bool. For tests and machines without a GPU."""
    t, groups, hd = q.shape[0], k.shape[1], q.shape[2]
    scores = torch.einsum("qgnd,kgd->gnqk", q.reshape(t, groups, -1, hd).float(), k.float()) * hd**-0.5
    prob = scores.masked_fill(~mask, -math.inf).softmax(-1)
    return torch.einsum("gnqk,kgd->qgnd", prob, v.float()).reshape(t, -1).to(q.dtype)


def to_hf_tensors(model):
    """{Hugging Face name: float32 array}: gate and up fused row-wise, as the checkpoints have them."""
    out = {"model.embed_tokens.weight": model.embed, "lm_head.weight": model.head, "model.norm.weight": model.norm}
    for i, l in enumerate(model.layers):
        at, ffn = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
        out[f"model.layers.{i}.input_layernorm.weight"] = l.attn_norm
        out[f"model.layers.{i}.post_attention_layernorm.weight"] = l.ffn_norm
        for name, value in (("q_proj", l.wq), ("k_proj", l.wk), ("v_proj", l.wv), ("o_proj", l.wo),
                            ("q_norm", l.q_norm), ("k_norm", l.k_norm)):  # fmt: skip
            out[f"{at}{name}.weight"] = value
        if l.dense:
            out[ffn + "gate_up_proj.weight"] = torch.cat([l.gate, l.up])
            out[ffn + "down_proj.weight"] = l.down
            continue
        for name, value in (("q_proj", l.iq), ("k_proj", l.ik), ("q_norm", l.iq_norm), ("k_norm", l.ik_norm)):
            out[f"{at}indexer.{name}.weight"] = value
        out[ffn + "gate.weight"], out[ffn + "gate.e_score_correction_bias"] = l.router, l.bias
        out[ffn + "experts.gate_up_proj"] = torch.cat([l.e_gate, l.e_up], 1)
        out[ffn + "experts.down_proj"] = l.e_down
        out[ffn + "shared_experts.gate_up_proj.weight"] = torch.cat([l.s_gate, l.s_up])
        out[ffn + "shared_experts.down_proj.weight"] = l.s_down
    return {name: value.detach().float().cpu().numpy() for name, value in out.items()}


@torch.no_grad()
def from_hf_tensors(cfg, tensors):
    """The inverse of to_hf_tensors: a float32 model on the CPU."""
    model = Model(cfg)
    want = to_hf_tensors(model)
    for name, value in want.items():
        if name not in tensors or tensors[name].shape != value.shape:
            found = tensors[name].shape if name in tensors else "nothing"
            raise ValueError(f"tensor {name}: want {value.shape}, found {found}")
    get = lambda name: torch.from_numpy(tensors[name].copy())
    model.embed.copy_(get("model.embed_tokens.weight"))
    model.head.copy_(get("lm_head.weight"))
    model.norm.copy_(get("model.norm.weight"))
    for i, l in enumerate(model.layers):
        at, ffn = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
        l.attn_norm.copy_(get(f"model.layers.{i}.input_layernorm.weight"))
        l.ffn_norm.copy_(get(f"model.layers.{i}.post_attention_layernorm.weight"))
        for name, value in (("q_proj", l.wq), ("k_proj", l.wk), ("v_proj", l.wv), ("o_proj", l.wo),
                            ("q_norm", l.q_norm), ("k_norm", l.k_norm)):  # fmt: skip
            value.copy_(get(f"{at}{name}.weight"))
        if l.dense:
            gate, up = get(ffn + "gate_up_proj.weight").chunk(2)
            l.gate.copy_(gate), l.up.copy_(up), l.down.copy_(get(ffn + "down_proj.weight"))
            continue
        for name, value in (("q_proj", l.iq), ("k_proj", l.ik), ("q_norm", l.iq_norm), ("k_norm", l.ik_norm)):
            value.copy_(get(f"{at}indexer.{name}.weight"))
        l.router.copy_(get(ffn + "gate.weight")), l.bias.copy_(get(ffn + "gate.e_score_correction_bias"))
        gate, up = get(ffn + "experts.gate_up_proj").chunk(2, 1)
        l.e_gate.copy_(gate), l.e_up.copy_(up), l.e_down.copy_(get(ffn + "experts.down_proj"))
        gate, up = get(ffn + "shared_experts.gate_up_proj.weight").chunk(2)
        l.s_gate.copy_(gate), l.s_up.copy_(up), l.s_down.copy_(get(ffn + "shared_experts.down_proj.weight"))
    return model


def load_folder(folder):
    """A Hugging Face folder as a float32 model."""
    import weights_file

    cfg = Config.from_hf(json.loads((pathlib.Path(folder) / "config.json").read_text()))
    return from_hf_tensors(cfg, weights_file.read_folder(folder))
