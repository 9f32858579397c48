"""Averages a further training with the weights that it began from:

    python3 model/train/average.py --init OLD.gguf --trained DIR --share 0.7 --out OUT

OUT, a Hugging Face folder for `corvid model convert`, gets SHARE of the trained weights and the rest of the old ones; the
index branch is the trained one's, because it follows the attention that it was trained beside.
"""

import argparse
import pathlib
import shutil

import gguf_file
import weights_file

SHARD_BYTES = 31 << 19
PLAIN = ("norm", "gate.weight", "bias")  # parts of names of what stays in f32
COPIED = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")


def is_plain(name):
    return any(part in name.split(".layers.")[-1] for part in PLAIN)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True, help="the GGUF file that the training began from")
    parser.add_argument("--trained", required=True, type=pathlib.Path, help="the folder that finetune.py wrote")
    parser.add_argument("--share", required=True, type=float, help="of the trained weights, 0 to 1")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        parser.error(f"--share: want 0 to 1, found {args.share}")

    keys, tensors = gguf_file.read(args.init)
    old = gguf_file.hf_tensors(gguf_file.config(keys), tensors)
    mean = {}
    for name, trained in weights_file.read_folder(args.trained).items():
        kept = trained if "indexer" in name else args.share * trained + (1 - args.share) * old[name]
        form = "F32" if is_plain(name) else "BF16"
        mean[name] = (form, weights_file.encode(kept, form))
    args.out.mkdir(parents=True, exist_ok=True)
    weights_file.write_shards(args.out, mean, SHARD_BYTES)
    for name in COPIED:
        shutil.copy(args.trained / name, args.out / name)


if __name__ == "__main__":
    main()
