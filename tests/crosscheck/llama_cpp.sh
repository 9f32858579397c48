#!/usr/bin/env bash
# Compares greedy tokens with llama.cpp (v0.5.0, in the npm package node-llama-cpp 3.22.1) on the files that corvid
# writes: the model that ships, and the golden minimax-m3 checkpoint converted to F32. Needs npm and its registry, so it
# is no part of the default tests:  tests/crosscheck/llama_cpp.sh [PROGRAM]
set -euo pipefail
cd "$(dirname "$0")/../.."
corvid=$(realpath "${1:-build/release/corvid}")
work=$PWD/build/crosscheck
mkdir -p "$work"
cp tests/crosscheck/llama_cpp.mjs "$work"
if [ ! -d "$work/node_modules/node-llama-cpp" ]; then
  (cd "$work" && NODE_LLAMA_CPP_SKIP_DOWNLOAD=true npm install --silent --no-fund --no-audit node-llama-cpp@3.22.1)
fi
# The golden checkpoint has no tokenizer, and llama.cpp's binding needs one: any of its vocabulary's size will do.
mkdir -p "$work/checkpoint"
cp tests/golden/minimax-m3/{config.json,model.safetensors} "$work/checkpoint"
python3 - tests/golden/tokenizer-minimax/tokenizer.json >"$work/checkpoint/tokenizer.json" <<'PY'
import json, sys
tokenizer = json.load(open(sys.argv[1]))
letters = [token for token in tokenizer["model"]["vocab"] if len(token) == 1]
special = ["<pad>", "<bos>", "<eos>"]
tokenizer["model"]["vocab"] = {token: id for id, token in enumerate(special + letters)}
tokenizer["model"]["merges"] = []
tokenizer["added_tokens"] = [{"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for id, token in enumerate(special)]
json.dump(tokenizer, sys.stdout)
PY
"$corvid" model convert "$work/checkpoint" "$work/golden.gguf" --type f32

compare() { # NAME MODEL: ten prompts of pseudo-random ids below 500, each continued by 16 greedy tokens
  local prompts=$work/$1.prompts ours=$work/$1.ours theirs=$work/$1.theirs
  python3 - >"$prompts" <<'PY'
import random
for i in range(10):
    r = random.Random(i)
    print([r.randrange(3, 500) for _ in range(r.randint(8, 300))])
PY
  while read -r ids; do
    "$corvid" model logits "$2" --prompt-ids "$(tr -d '[] ' <<<"$ids")" --greedy 16 --output json |
      python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["greedy"], separators=(",", ":")))'
  done <"$prompts" >"$ours"
  (cd "$work" && node llama_cpp.mjs "$2" 16 <"$prompts") >"$theirs"
  if cmp -s "$ours" "$theirs"; then
    echo "$1: 10 of 10 prompts give the same 16 greedy tokens"
  else
    echo "$1: the greedy tokens differ ($(paste -d' ' "$ours" "$theirs" | awk '$1 == $2' | wc -l) of 10 equal):" >&2
    diff "$ours" "$theirs" >&2 || true
    return 1
  fi
}
compare golden "$work/golden.gguf"
compare shipped "$PWD/configs/models/corvid-small.gguf"
