"""Reads a model that `corvid model convert` wrote, so that training can go on from the file that ships.

Matrices in Q8_0 come back as scale times integer: what the engine computes with, not the weights before rounding. The
tokenizer comes back as the tokenizer.json it was converted from.
"""

import pathlib
import struct

import numpy as np

import bpe

_PLAIN = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8"}
_TEXT, _ARRAY = 8, 9
_F32, _F16, _Q8_0, _BF16 = 0, 1, 8, 30
_BLOCK = np.dtype([("scale", "<f2"), ("value", "i1", 32)])  # Q8_0: 32 values of a row


class _Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def plain(self, kind, count=None):
        values = np.frombuffer(self.data, _PLAIN[kind], 1 if count is None else count, self.at)
        self.at += values.nbytes
        return values[0].item() if count is None else values.tolist()

    def text(self):
        (length,) = struct.unpack_from("<Q", self.data, self.at)
        self.at += 8 + length
        return self.data[self.at - length : self.at].decode()

    def value(self):
        kind = self.plain(4)
        if kind == _TEXT:
            return self.text()
        if kind != _ARRAY:
            return self.plain(kind)
        kind, count = self.plain(4), self.plain(10)
        return [self.text() for _ in range(count)] if kind == _TEXT else self.plain(kind, count)


def _values(data, kind, count, name):
    if kind == _F32:
        return np.frombuffer(data, "<f4", count)
    if kind == _F16:
        return np.frombuffer(data, "<f2", count).astype(np.float32)
    if kind == _BF16:
        return (np.frombuffer(data, "<u2", count).astype(np.uint32) << 16).view(np.float32)
    if kind == _Q8_0:
        blocks = np.frombuffer(data, _BLOCK, count // 32)
        return (blocks["scale"].astype(np.float32)[:, None] * blocks["value"]).reshape(-1)
    raise ValueError(f"tensor {name}: want F32, F16, BF16 or Q8_0, found type {kind}")


def read(path):
    """(keys, {tensor name: float32 array, outermost dimension first})"""
    data = pathlib.Path(path).read_bytes()
    cursor = _Cursor(data)
    if data[:4] != b"GGUF" or struct.unpack_from("<I", data, 4)[0] != 3:
        raise ValueError(f"{path}: not a GGUF file of version 3")
    cursor.at = 8
    n_tensors, n_keys = cursor.plain(10), cursor.plain(10)
    keys, places = {}, []
    for _ in range(n_keys):
        name = cursor.text()
        keys[name] = cursor.value()
    for _ in range(n_tensors):
        name = cursor.text()
        shape = cursor.plain(10, cursor.plain(4))[::-1]
        places.append((name, shape, cursor.plain(4), cursor.plain(10)))
    align = keys.get("general.alignment", 32)
    begin = -(-cursor.at // align) * align
    tensors = {}
    for name, shape, kind, at in places:
        tensors[name] = _values(memoryview(data)[begin + at :], kind, int(np.prod(shape)), name).reshape(shape)
    return keys, tensors


def config(keys):
    """The m3.Config of a file's keys; what they don't say keeps its default."""
    import m3

    a = "minimax-m3."
    if keys["general.architecture"] != "minimax-m3":
        raise ValueError(f"architecture: want minimax-m3, found {keys['general.architecture']}")
    known = {
        "vocab_size": "vocab_size", "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length", "rotary_dim": "rope.dimension_count", "rope_theta": "rope.freq_base",
        "dense_layers": "leading_dense_block_count", "dense_intermediate_size": "feed_forward_length",
        "num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
        "intermediate_size": "expert_feed_forward_length", "shared_intermediate_size": "expert_shared_feed_forward_length",
        "routed_scaling_factor": "expert_weights_scale", "index_n_heads": "attention.indexer.head_count",
        "index_head_dim": "attention.indexer.key_length", "index_topk_blocks": "attention.indexer.top_k",
        "index_block_size": "attention.indexer.block_size", "index_local_blocks": "attention.indexer.local_blocks",
        "max_position_embeddings": "context_length",
    }  # fmt: skip
    values = {field: keys[a + key] for field, key in known.items()}
    values["rms_norm_eps"] = float("%.6g" % keys[a + "attention.layer_norm_rms_epsilon"])  # 1e-6, not its float32
    return m3.Config(**values, bos_token_id=keys["tokenizer.ggml.bos_token_id"], eos_token_id=keys["tokenizer.ggml.eos_token_id"])


def hf_tensors(cfg, t):
    """The tensors under their Hugging Face names, the inverse of `corvid model convert` (which adds 1 to norms)."""
    both = lambda out, part, axis: np.concatenate([t[out + "ffn_gate" + part], t[out + "ffn_up" + part]], axis)
    norm = lambda name: t[name] - np.float32(1)
    out = {"model.embed_tokens.weight": t["token_embd.weight"], "lm_head.weight": t["output.weight"],
           "model.norm.weight": norm("output_norm.weight")}  # fmt: skip
    for i in range(cfg.num_hidden_layers):
        b, layer = f"blk.{i}.", f"model.layers.{i}."
        at, ffn = layer + "self_attn.", layer + "mlp."
        out[layer + "input_layernorm.weight"] = norm(b + "attn_norm.weight")
        out[layer + "post_attention_layernorm.weight"] = norm(b + "ffn_norm.weight")
        for name, source in (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output")):
            out[f"{at}{name}_proj.weight"] = t[f"{b}{source}.weight"]
        for name in ("q_norm", "k_norm"):
            out[f"{at}{name}.weight"] = norm(f"{b}attn_{name}.weight")
        if i < cfg.dense_layers:
            out[ffn + "gate_up_proj.weight"] = both(b, ".weight", 0)
            out[ffn + "down_proj.weight"] = t[b + "ffn_down.weight"]
            continue
        for name in ("q", "k"):
            out[f"{at}indexer.{name}_proj.weight"] = t[f"{b}indexer.{name}_proj.weight"]
            out[f"{at}indexer.{name}_norm.weight"] = norm(f"{b}indexer.{name}_norm.weight")
        out[ffn + "gate.weight"] = t[b + "ffn_gate_inp.weight"]
        out[ffn + "gate.e_score_correction_bias"] = t[b + "exp_probs_b.bias"]
        out[ffn + "experts.gate_up_proj"] = both(b, "_exps.weight", 1)
        out[ffn + "experts.down_proj"] = t[b + "ffn_down_exps.weight"]
        out[ffn + "shared_experts.gate_up_proj.weight"] = both(b, "_shexp.weight", 0)
        out[ffn + "shared_experts.down_proj.weight"] = t[b + "ffn_down_shexp.weight"]
    return out


def tokenizer(path, keys):
    """tokenizer.json as a dict; needs no PyTorch."""
    if keys["tokenizer.ggml.pre"] != "minimax-m2":
        raise ValueError(f"{path}: the pre-tokenizer is not the M3 family's")
    tokens = keys["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    made = bpe.tokenizer_json(merges, len(tokens))
    ids = {**made["model"]["vocab"], **{t["content"]: t["id"] for t in made["added_tokens"]}}
    wrong = [token for token, i in ids.items() if tokens[i] != token]
    if wrong:
        raise ValueError(f"{path}: token {wrong[0]!r} stands elsewhere than bpe.py puts it")
    return made


def model(keys, tensors):
    """A float32 model on the CPU."""
    import m3

    cfg = config(keys)
    return m3.from_hf_tensors(cfg, hf_tensors(cfg, tensors))
