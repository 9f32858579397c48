"""Checks the training code on a CPU at toy size, in about a minute:  python3 model/train/check.py

With --golden DIR (a folder with config.json, model.safetensors and expected.json of a reference run) also the reference
forward against stored logits.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import tempfile

import numpy as np
import torch

import bpe
import data
import evaluate
import export
import gguf_file
import index_branch
import m3
import optim
import packed
import runner
import weights_file
from world import render

CONFIG = dict(vocab_size=640, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
              rotary_dim=8, dense_intermediate_size=96, num_local_experts=4, intermediate_size=32, shared_intermediate_size=48,
              index_n_heads=2, index_head_dim=16, index_block_size=16, index_topk_blocks=4, max_position_embeddings=512,
              bos_token_id=634, eos_token_id=636)  # fmt: skip
WORDS = "aunt rosa cities draft notes bank river plan green lamp stone paper cloud seven".split()


def toy_records(count, seed=0):
    rng = random.Random(seed)
    for i in range(count):
        name = "-".join(rng.sample(WORDS, 2)) + rng.choice([".txt", ".md", ".csv"])
        n = str(rng.randrange(1000))
        yield {"skill": rng.choice(["files.size", "text.count"]), "split": "validation" if i % 10 == 0 else "train", "prefix": i % 3,
               "messages": [{"role": "user", "text": f"how many lines has {name}?"},
                            {"role": "assistant", "text": "", "calls": [{"name": "shell", "args": {"command": f"wc -l < '{name}'"}}]},
                            {"role": "tool", "text": n, "call": 0},
                            {"role": "assistant", "text": f"{name} has {n} lines.", "calls": []}]}  # fmt: skip


PREFIXES = [{"id": i, "instructions": f"You do chores, agent {i}. " * (i + 1), "tools": []} for i in range(3)]


def check_tokenizer(folder):
    records = list(toy_records(300))
    path = folder / "tokenizer.json"
    bpe.train(data.bpe_texts(PREFIXES, records), CONFIG["vocab_size"], path)
    encoder, plain = data.Encoder(path), bpe.Bpe(path, plain=True)
    texts = [text for r in records[:50] for special, text, _ in render.message_pieces(r["messages"]) if not special]
    texts += ["", "don't  stop\n\n  now 12345 Übung\t\x00 ]~b] 日本"]
    assert encoder.encode_all(texts) == plain.encode_all(texts), "the library and the plain encoder differ"
    assert all(encoder.decode(ids) == text for ids, text in zip(encoder.encode_all(texts), texts)), "decoding loses text"
    assert all(len(plain.text[i]) == 1 for c, i in plain.vocab.items() if any(b.isdigit() for b in c)), "digits merged"
    for name in ("aunt-rosa.txt", "cities_sorted.txt", "draft.v3.md", "README", "helloWorld.py", "x9_alpha.2.csv"):
        own = " ".join(map(str, encoder.encode(name)))
        for before in ["", " ", "/", '"', "'", "`", "(", "\n", "=", ": ", "./", "a/", "  ", ">", "['", "\t", ","]:
            for after in ["", " ", "\n", '"', "'", "`", "?", ",", ")", "/x"]:
                found = " " + " ".join(map(str, encoder.encode(before + name + after))) + " "
                assert f" {own} " in found, f"{before + name + after!r}: the name's tokens depend on what is around it"
    return encoder


def check_data(folder, encoder):
    records = list(toy_records(400))
    arrays = data.encode_records(encoder, records, 4096)
    data.save(folder / "shard-00000.npz", **arrays)
    heads = [ids for ids, _ in data.encode_pieces(encoder, [render.prefix_pieces(p) for p in PREFIXES])]
    data.save(folder / "prefixes.npz", token=np.concatenate(heads), offsets=np.cumsum([0] + [len(h) for h in heads]))
    trajectories = data.Trajectories(folder)
    trajectories.poll()
    assert len(trajectories.train) == 360 and len(trajectories.valid) == 40
    _, tokens, codes = trajectories.get((0, 1))
    text = render.text_of(render.message_pieces(records[1]["messages"]))
    assert encoder.decode(tokens.tolist()) == text
    shell = encoder.encode("shell")
    at = next(i for i in range(len(tokens)) if tokens[i : i + len(shell)].tolist() == shell)
    assert codes[at] == 16 * render.NAME and codes[0] == 0 and codes[1] == data.CONTEXT
    (b0, e0, k0), (b1, e1, k1) = data.turns(encoder, tokens)
    assert (k0, k1) == (data.CALL, data.ANSWER) and encoder.decode(tokens[b1:e1].tolist()).endswith("lines.[e~[")
    return trajectories


def check_packing(trajectories):
    packer = data.Packer(trajectories, 1024, seed=1)
    packer.add(list(trajectories.train))
    counts, batches = {}, [packer.batch(long_share=0.3, long=(300,), section=300) for _ in range(60)]
    for batch in batches:
        for key, at in batch.placed:
            counts[key] = counts.get(key, 0) + 1
            _, tokens, _ = trajectories.get(key)
            assert (batch.token[at : at + len(tokens)] == tokens).all() and (batch.target[at : at + len(tokens) - 1] == tokens[1:]).all()
    assert len(counts) == 360 and max(counts.values()) - min(counts.values()) <= 2, "an epoch repeats or leaves out"
    for batch in batches[:6]:
        seen, (partial, full) = batch.visible(), batch.blocks()
        tiles = seen.reshape(8, 128, 8, 128).transpose(0, 2, 1, 3).reshape(8, 8, -1)
        assert (tiles.any(-1) <= (partial | full)).all() and not (full & ~tiles.all(-1)).any() and not (partial & full).any()
        assert (batch.pos[: batch.used] + 1 == seen.sum(1)[: batch.used]).all(), "positions count the visible tokens"
    parts = [([1, 2, 3, 4, 5], 0, "a"), ([6, 7, 8], 0, "b"), ([9, 10], 0, "c")]
    coded = [(np.array(tokens), np.array([0] + [data.CONTEXT, 16] * 2, np.uint8)[: len(tokens)], key) for tokens, _, key in parts]
    gaps = type("Gaps", (), {"gaps": staticmethod(lambda key: [(3, True)] if key == "a" else [])})
    for seed in range(20):  # the rest of "a" comes after its beginning, and its answer is a recall
        document = data.session(gaps, random.Random(seed), coded)
        tags = [tag for _, _, tag in document]
        assert sorted(len(tokens) for tokens, _, _ in document) == [2, 2, 3, 3] and tags.index("a") < tags.index(data.LATE)
        batch = packed.Batch(128)
        batch.add_section([40] * 10, [document])
        ((at,),) = data.recalls(batch, 128)
        assert batch.token[at : at + 2].tolist() == [4, 5] and batch.code[at] == 16
    rows = data.long_rows(trajectories, random.Random(2), 1024, 256)
    assert (rows.pos == np.tile(np.arange(256), 4)).all() and (rows.visible() == np.kron(np.eye(4), np.tri(256)).astype(bool)).all()
    print(f"packing: {np.mean([b.used for b in batches]) / 1024:.1%} of a batch used, {np.mean([b.trained for b in batches]) / 1024:.1%} trajectories")


def check_model(trajectories):
    """The packed training path equals the reference forward, and learns."""
    cfg = m3.Config(**CONFIG)
    run = runner.Runner(cfg, 512, "explicit", "cpu", False, lrs={"muon_lr": 0.02})
    with torch.no_grad():  # output projections start at zero; something must come through them here
        for p in run.model.parameters():
            p += 0.05 * torch.randn_like(p)
        for layer in run.model.layers[1:]:
            layer.bias += 0.1 * torch.randn_like(layer.bias)
    pair = lambda key: (trajectories.prefixes[trajectories.get(key)[0]], trajectories.get(key)[1])
    wide = dataclasses.replace(cfg, index_topk_blocks=64)  # everything selected: sparse equals dense
    run.model.cfg = wide
    batch = data.pack_keys(trajectories, trajectories.valid, 512)[0]
    worst, same = run.agrees(run.batch, batch, pair)
    assert worst < 1e-3 and same == 1.0, f"training path and reference differ by {worst}"
    rows = packed.DeviceBatch(torch, 512, 256, "rows", "cpu")
    packer = data.Packer(trajectories, 512, row=256)
    in_rows = packer.batch(section=180)
    mask = rows.load(in_rows).mask[:, 0].numpy()
    full = in_rows.visible()
    assert all((mask[i] == full[i * 256 : (i + 1) * 256, i * 256 : (i + 1) * 256]).all() for i in range(2)), "row masks differ"
    assert full.sum() == mask.sum(), "a section crosses a row"
    run.model.cfg = cfg
    packer = data.Packer(trajectories, 512)
    losses = [run.step(packer.batch(section=450), optim.lr_scale(i, i / 40, warmup=5))[0].item() for i in range(40)]
    print(f"training: loss {losses[0]:.2f} -> {losses[-1]:.2f}")
    assert losses[-1] < 0.5 * losses[0], "40 steps did not halve the loss"
    assert any(layer.bias.abs().max() > 0 for layer in run.model.layers[1:])
    return run


def check_optimizer():
    g = torch.randn(3, 8, 20)
    s = torch.linalg.svdvals(optim.orthogonalise(g))
    assert s.min() > 0.5 and s.max() < 1.4, "singular values are not near 1"
    p = torch.nn.Parameter(torch.zeros(20, 8))
    p.grad = torch.randn(20, 8)
    optim.Muon([p], dtype=torch.float32).step(0.1)
    assert (p * p.grad).sum() < 0, "a step must go down"
    scales = [optim.lr_scale(i, i / 1000, warmup=50) for i in range(1001)]
    assert scales[0] < 0.05 and scales[300] == 1.0 and abs(scales[-1] - 0.02) < 1e-6 and max(scales) <= 1.0


def check_index(run, trajectories):
    trainer = index_branch.Trainer(run.model, run.layer_inputs, 256)
    rng = random.Random(5)
    load = lambda: run.batch.load(data.long_rows(trajectories, rng, 512, 256))
    torch.manual_seed(0)
    before = trainer.measure(load(), 64)
    frozen = run.model.layers[1].wq.clone()
    for i in range(40):
        trainer.step(load(), 1.0, 16)
    after = trainer.measure(load(), 64)
    print(f"index: mass recall {before['mass_recall']:.3f} -> {after['mass_recall']:.3f}, blocks {before['block_recall']:.3f} -> {after['block_recall']:.3f}")
    assert after["mass_recall"] > before["mass_recall"] and (run.model.layers[1].wq == frozen).all()
    # The choice that is measured is the choice of the reference forward.
    batch = data.long_rows(trajectories, rng, 512, 256)
    loaded, layer, cfg = run.batch.load(batch), run.model.layers[1], run.model.cfg
    x = run.layer_inputs(loaded)[1].detach()
    cos, sin = m3.rope_table(cfg, loaded.pos)
    queries = torch.arange(100, 256)[None].expand(2, -1)
    with torch.no_grad():
        _, s, local = index_branch._sample(cfg, layer, x, cos, sin, 2, 256, queries)
        h = m3.gemma_norm(x[:256], layer.attn_norm, cfg.rms_norm_eps)
        chosen = m3.select_blocks(cfg, *m3.index_qk(cfg, layer, h, cos[:256], sin[:256]), torch.arange(256))[100:]
    score = s.unflatten(-1, (-1, 16)).amax(-1).masked_fill(local, np.inf)[0]
    mine = torch.zeros_like(score, dtype=torch.bool).scatter(-1, score.topk(4, -1).indices, True)
    assert (mine.transpose(0, 1) == chosen).all()


def check_evaluation(run, trajectories, encoder):
    validation = evaluate.Validation(trajectories, encoder, trajectories.valid, 512)
    loss, skills = validation.run(run.batch, run.evaluate)
    counts = evaluate.total(skills)
    assert counts["tasks"] == 40 and counts["calls"] == 40 and counts["answers"] == 40 and loss > 0
    assert all(0 <= counts[n + "_exact"] <= 40 for n in ("calls", "answers", "tasks"))
    print(evaluate.table(skills))


def check_export(run, folder):
    out = folder / "model"
    tokenizer = folder / "tokenizer.json"
    export.export(run.model, tokenizer, out, dtype="F32", shard_bytes=200000)
    assert len(list(out.glob("*.safetensors"))) > 1
    again = m3.load_folder(out)
    ids = torch.randint(0, 600, (150,))
    assert again.cfg == run.cfg
    assert (m3.reference_logits(again, ids) - m3.reference_logits(run.model, ids)).abs().max() < 1e-5
    dense, sparse = m3.reference_logits(again, ids, sparse=False), m3.reference_logits(again, ids)
    assert (dense - sparse)[:64].abs().max() < 1e-4 < (dense - sparse)[64:].abs().max(), "selection must matter, past 64 tokens only"
    x = np.array([1.0, 1.00390625, -3.14159, 1e-30, 65504.0], np.float32)
    assert np.abs(weights_file.from_bf16(weights_file.to_bf16(x)) / x - 1).max() < 2**-8


def check_golden(folder):
    model, want = m3.load_folder(folder), json.loads((folder / "expected.json").read_text())
    ids = torch.tensor(want["prompt"])
    found = m3.reference_logits(model, ids)[want["prefill_positions"]].numpy()
    worst = np.abs(found - np.array(want["prefill_logits"])).max()
    for token in want["greedy"]:
        assert int(m3.reference_logits(model, ids)[-1].argmax()) == token
        ids = torch.cat([ids, torch.tensor([token])])
    print(f"golden: largest difference of logits {worst:.1e}, all {len(want['greedy'])} greedy tokens equal")
    assert worst < 1e-3


def check_shipped():
    """The model that ships is read as finetune.py reads it."""
    path = pathlib.Path(__file__).parents[2] / "configs/models/corvid-small.gguf"
    keys, tensors = gguf_file.read(path)
    model, tokenizer = gguf_file.model(keys, tensors), gguf_file.tokenizer(path, keys)
    assert dataclasses.replace(model.cfg, max_position_embeddings=m3.Config().max_position_embeddings) == m3.Config(), f"the shipped model's sizes are not the defaults: {model.cfg}"
    assert tokenizer["added_tokens"][0]["id"] == model.cfg.bos_token_id
    with torch.no_grad():
        assert bool(m3.reference_logits(model, torch.tensor([model.cfg.bos_token_id, 1, 2, 3])).isfinite().all())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=pathlib.Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.golden:
        check_golden(args.golden)
    check_shipped()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        encoder = check_tokenizer(folder)
        trajectories = check_data(folder, encoder)
        check_packing(trajectories)
        check_optimizer()
        run = check_model(trajectories)
        check_index(run, trajectories)
        check_evaluation(run, trajectories, encoder)
        check_export(run, folder)
    print("all checks passed")


if __name__ == "__main__":
    main()
