"""Validation: loss and exactness on held-out families, by skill.

A turn of the agent is exact when, given the true history, the most likely token is the true one at each of its
positions, the stop included; greedy decoding would then write exactly that turn. A trajectory is exact when all its
turns are. Other wordings of a right answer count as wrong here, so this is a lower bound.
"""

import collections

import torch

import data as data_module


class Validation:
    """A fixed set of held-out trajectories, packed once."""

    def __init__(self, data, encoder, keys, tokens, row=None):
        self.data, self.count = data, len(keys)
        self.batches = data_module.pack_keys(data, keys, tokens, row)
        self.turns = {key: data_module.turns(encoder, data.get(key)[1]) for key in keys}

    def run(self, device_batch, evaluate, batches=None):
        """evaluate(device batch) -> (weighted loss sum, weight sum, right [T]). Returns (loss, {skill: counts})."""
        loss = weight = 0.0
        skills = collections.defaultdict(collections.Counter)
        for batch in self.batches[:batches]:
            part, share, right = evaluate(device_batch.load(batch))
            loss, weight, right = loss + float(part), weight + float(share), right.cpu().numpy()
            for key, at in batch.placed:
                count, whole = skills[self.data.skill(key)], True
                for begin, end, kind in self.turns[key]:
                    exact = bool(right[at + begin - 1 : at + end - 1].all())
                    name = "calls" if kind == data_module.CALL else "answers"
                    count[name] += 1
                    count[name + "_exact"] += exact
                    whole &= exact
                count["tasks"] += 1
                count["tasks_exact"] += whole
        return loss / max(weight, 1e-9), skills


def total(skills):
    return sum(skills.values(), collections.Counter())


def share(counts, name):
    return counts[name + "_exact"] / counts[name] if counts[name] else float("nan")


def line(counts):
    return " ".join(f"{name} {share(counts, name):.3f}" for name in ("calls", "answers", "tasks"))


def table(skills):
    """A line per skill: tasks, and the exact shares of calls, answers and whole tasks."""
    out = [f"{'skill':<22}{'n':>5} {'call':>6} {'answer':>6} {'task':>6}"]
    for skill, counts in [*sorted(skills.items()), ("all", total(skills))]:
        shares = " ".join(f"{share(counts, name):6.3f}" for name in ("calls", "answers", "tasks"))
        out.append(f"{skill:<22}{counts['tasks']:>5} {shares}")
    return "\n".join(out)


def greedy(model, encoder, prefix, tokens, limit=96):
    """What the model really writes after tokens (sparse, float32, no cache: for a few samples)."""
    ids = torch.tensor([*map(int, prefix), *map(int, tokens)], device=model.embed.device)
    begin, stop = len(ids), encoder.specials[data_module.bpe.EOS]
    from m3 import reference_logits

    while len(ids) < begin + limit:
        ids = torch.cat([ids, reference_logits(model, ids)[-1].argmax()[None]])
        if int(ids[-1]) == stop:
            break
    return encoder.decode(ids[begin:].tolist())
