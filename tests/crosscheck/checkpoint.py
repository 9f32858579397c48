"""Makes up a small Hugging Face checkpoint whose rows fit every block format:  checkpoint.py FAMILY FOLDER

FAMILY is minimax-m3, minimax-m2, qwen3-moe, or "tokenizer", which only adds a tokenizer.json to a folder: llama.cpp's
binding needs one, and any of at most the vocabulary's size will do.
"""
import array
import json
import random
import struct
import sys
from pathlib import Path

DIM, HEADS, KV_HEADS, HEAD_DIM, FFN, EXPERTS, VOCAB, LAYERS = 256, 4, 2, 64, 256, 4, 512, 3


def config(family):
    common = {"hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCAB, "rms_norm_eps": 1e-6,
              "max_position_embeddings": 4096, "rope_theta": 1e6, "num_experts_per_tok": 2, "num_local_experts": EXPERTS,
              "intermediate_size": FFN, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
              "tie_word_embeddings": False}
    return common | {
        "minimax-m3": {"model_type": "minimax_m3_vl_text", "rotary_dim": 32, "dense_intermediate_size": FFN,
                       "shared_intermediate_size": FFN, "routed_scaling_factor": 2.0,
                       "layer_types": ["full_attention"] + ["minimax_m3_sparse"] * (LAYERS - 1),
                       "mlp_layer_types": ["dense"] + ["sparse"] * (LAYERS - 1), "index_n_heads": 2,
                       "index_head_dim": 32, "index_block_size": 16, "index_topk_blocks": 8, "index_local_blocks": 1},
        "minimax-m2": {"model_type": "minimax_m2", "rotary_dim": 32},
        "qwen3-moe": {"model_type": "qwen3_moe", "moe_intermediate_size": FFN, "norm_topk_prob": True,
                      "decoder_sparse_step": 1, "mlp_only_layers": []},
    }[family]


def tensors(family):
    """Name, shape, and size of the random numbers: such that one layer's rounding does not drown in the next."""
    m3, m2 = family == "minimax-m3", family == "minimax-m2"
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM

    def linear(name, rows, columns, size=1.0):
        yield name, (rows, columns), size / columns**0.5

    def norm(name, size):
        yield name, (size,), 0.2

    yield from linear("model.embed_tokens.weight", VOCAB, DIM, DIM**0.5)
    yield from linear("lm_head.weight", VOCAB, DIM, 4)
    yield from norm("model.norm.weight", DIM)
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        yield from norm(at + "input_layernorm.weight", DIM)
        yield from norm(at + "post_attention_layernorm.weight", DIM)
        yield from linear(at + "self_attn.q_proj.weight", q, DIM)
        yield from linear(at + "self_attn.k_proj.weight", kv, DIM)
        yield from linear(at + "self_attn.v_proj.weight", kv, DIM)
        yield from linear(at + "self_attn.o_proj.weight", DIM, q, 2)
        yield from norm(at + "self_attn.q_norm.weight", q if m2 else HEAD_DIM)
        yield from norm(at + "self_attn.k_norm.weight", kv if m2 else HEAD_DIM)
        if m3 and i > 0:
            yield from linear(at + "self_attn.indexer.q_proj.weight", 64, DIM)
            yield from linear(at + "self_attn.indexer.k_proj.weight", 32, DIM)
            yield from norm(at + "self_attn.indexer.q_norm.weight", 32)
            yield from norm(at + "self_attn.indexer.k_norm.weight", 32)
        mlp = at + ("block_sparse_moe." if m2 else "mlp.")
        if m3 and i == 0:
            yield from linear(mlp + "gate_up_proj.weight", 2 * FFN, DIM)
            yield from linear(mlp + "down_proj.weight", DIM, FFN)
            continue
        yield from linear(mlp + "gate.weight", EXPERTS, DIM, 4)
        if m3:
            yield mlp + "gate.e_score_correction_bias", (EXPERTS,), 0.1
            yield mlp + "experts.gate_up_proj", (EXPERTS, 2 * FFN, DIM), 1 / DIM**0.5
            yield mlp + "experts.down_proj", (EXPERTS, DIM, FFN), 1 / FFN**0.5
            yield from linear(mlp + "shared_experts.gate_up_proj.weight", 2 * FFN, DIM)
            yield from linear(mlp + "shared_experts.down_proj.weight", DIM, FFN)
            continue
        if m2:
            yield mlp + "e_score_correction_bias", (EXPERTS,), 0.1
        gate, up, down = ("w1", "w3", "w2") if m2 else ("gate_proj", "up_proj", "down_proj")
        for e in range(EXPERTS):
            yield from linear(f"{mlp}experts.{e}.{gate}.weight", FFN, DIM)
            yield from linear(f"{mlp}experts.{e}.{up}.weight", FFN, DIM)
            yield from linear(f"{mlp}experts.{e}.{down}.weight", DIM, FFN)


def write(family, folder):
    rng = random.Random(7)
    header, data, offset = {}, [], 0
    for name, shape, size in tensors(family):
        count = 1
        for n in shape:
            count *= n
        centre = 1.0 if len(shape) == 1 and family != "minimax-m3" and "bias" not in name else 0.0
        values = array.array("f", (centre + size * (rng.random() + rng.random() - 1) * 2.45 for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * count]}
        offset += 4 * count
        data.append(values.tobytes())
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    (folder / "config.json").write_text(json.dumps(config(family)))
    tokenizer(folder)


def tokenizer(folder):
    source = Path(__file__).resolve().parents[1] / "golden/tokenizer-minimax/tokenizer.json"
    made = json.loads(source.read_text())
    letters = [token for token in made["model"]["vocab"] if len(token) == 1]
    special = ["<pad>", "<bos>", "<eos>"]
    made["model"]["vocab"] = {token: i for i, token in enumerate(special + letters)}
    made["model"]["merges"] = []
    made["added_tokens"] = [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                             "normalized": False, "special": True} for i, token in enumerate(special)]
    (folder / "tokenizer.json").write_text(json.dumps(made))


if __name__ == "__main__":
    if sys.argv[1] == "tokenizer":
        tokenizer(Path(sys.argv[2]))
    else:
        write(sys.argv[1], Path(sys.argv[2]))
