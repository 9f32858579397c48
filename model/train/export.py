"""Writes the model as a Hugging Face folder, and checks such a folder against transformers' own implementation.

    python3 export.py --folder DIR          checks: logits of both implementations on a few prompts
"""

import argparse
import json
import pathlib
import shutil

import torch

import bpe
import m3
import weights_file

PLAIN = ("norm", "gate.weight", "bias")  # small and sensitive: always kept in float32

CHAT_TEMPLATE = """{%- set ns = ']<]minimax[>[' -%}
{%- macro value(v) -%}
{%- if v is mapping -%}{%- for k, x in v.items() -%}{{ ns }}<{{ k }}>{{ value(x) }}{{ ns }}</{{ k }}>{%- endfor -%}
{%- elif v is string -%}{{ v }}
{%- elif v is iterable -%}{%- for x in v -%}{{ ns }}<item>{{ value(x) }}{{ ns }}</item>{%- endfor -%}
{%- else -%}{{ v | tojson }}{%- endif -%}
{%- endmacro -%}
]~!b[]~b]system
You are corvid, an agent that uses tools.

<thinking_instructions>
Answer at once, without thinking.
</thinking_instructions>[e~[
{% if messages[0].role == 'system' -%}{%- set text = messages[0].content.rstrip() -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set text = 'You are a helpful assistant.' -%}{%- set rest = messages -%}{%- endif -%}
]~b]developer
{{ text }}
{%- if tools %}

# Tools
You can call these tools:
<tools>
{% for tool in tools %}<tool>{{ (tool.function or tool) | tojson(ensure_ascii=False, separators=(',', ':')) }}</tool>
{% endfor %}</tools>

A call looks like this:
{{ ns }}<tool_call>
{{ ns }}<invoke name="NAME">{{ ns }}<ARGUMENT>value{{ ns }}</ARGUMENT>{{ ns }}</invoke>
{{ ns }}</tool_call>
{%- endif %}[e~[
{% for m in rest -%}
{%- if m.role == 'user' -%}]~b]user
{{ m.content }}[e~[
{% elif m.role == 'assistant' -%}]~b]ai
</mm:think>{{ m.content or '' }}
{%- if m.tool_calls -%}{{ ns }}<tool_call>
{% for c in m.tool_calls -%}{%- set f = c.function or c -%}
{{ ns }}<invoke name="{{ f.name }}">
{%- for k, v in f.arguments.items() -%}{{ ns }}<{{ k }}>{{ value(v) }}{{ ns }}</{{ k }}>{%- endfor -%}
{{ ns }}</invoke>
{% endfor -%}{{ ns }}</tool_call>{%- endif -%}[e~[
{% elif m.role == 'tool' -%}
{%- if loop.first or loop.previtem.role != 'tool' -%}]~b]tool
{% endif -%}<response>{{ m.content }}</response>
{%- if loop.last or loop.nextitem.role != 'tool' -%}[e~[
{% else %}
{% endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}]~b]ai
</mm:think>{%- endif -%}
"""


def export(model, tokenizer, folder, dtype="BF16", shard_bytes=31 << 19):
    """Writes config, weights in shards with an index, tokenizer, generation settings and chat template."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, values in m3.to_hf_tensors(model).items():
        kind = "F32" if any(part in name.split(".layers.")[-1] for part in PLAIN) else dtype
        tensors[name] = (kind, weights_file.encode(values, kind))
    weights_file.write_shards(folder, tensors, shard_bytes)
    torch_name = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
    (folder / "config.json").write_text(json.dumps(model.cfg.to_hf(torch_name), indent=2) + "\n")
    ids = {"bos_token_id": model.cfg.bos_token_id, "eos_token_id": model.cfg.eos_token_id}
    (folder / "generation_config.json").write_text(json.dumps({**ids, "do_sample": False}, indent=2) + "\n")
    shutil.copy(tokenizer, folder / "tokenizer.json")
    settings = {"bos_token": bpe.BOS, "eos_token": bpe.EOS, "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": model.cfg.max_position_embeddings, "clean_up_tokenization_spaces": False}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def check(folder, prompts, device="cpu"):
    """The largest difference of logits between our reference forward and transformers', both float32, over token
    lists; also with more tokens than are selected, where the index branch decides.
    """
    from transformers.models.minimax_m3_vl import modeling_minimax_m3_vl as theirs

    model = m3.load_folder(folder).to(device)
    other = theirs.MiniMaxM3VLForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    other = other.to(device).eval()
    if hasattr(other, "set_experts_implementation"):
        other.set_experts_implementation("eager")  # the plain loop, not a grouped kernel
    worst = []
    for prompt in prompts:
        ids = torch.tensor(list(map(int, prompt)), device=device)
        ours = m3.reference_logits(model, ids)
        with torch.no_grad():
            found = other(input_ids=ids[None]).logits[0].float()
        worst.append({"tokens": len(ids), "max_diff": (ours - found).abs().max().item(),
                      "same_argmax": (ours.argmax(-1) == found.argmax(-1)).float().mean().item()})  # fmt: skip
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True)
    parser.add_argument("--lengths", type=int, nargs="*", default=[64, 700, 3000])
    args = parser.parse_args()
    torch.manual_seed(0)
    vocab = m3.Config.from_hf(json.loads((pathlib.Path(args.folder) / "config.json").read_text())).vocab_size
    for result in check(args.folder, [torch.randint(0, vocab, (n,)).tolist() for n in args.lengths]):
        print(result)


if __name__ == "__main__":
    main()
