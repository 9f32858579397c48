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

# Ten prompts for each model, one JSON list of ids a line. The golden weights are random, so any ids will do; the model
# that ships gets what it was made for, its own prefix and a chore: on noise it is undecided, and llama.cpp rounds
# activations to 8 bits where corvid keeps them in float.
python3 - >"$work/golden.prompts" <<'PY'
import random
for i in range(10):
    r = random.Random(i)
    print([r.randrange(3, 500) for _ in range(r.randint(8, 300))])
PY
shipped=$PWD/configs/models/corvid-small.gguf
while read -r chore; do
  printf '%s\n]~b]user\n%s[e~[\n]~b]ai\n</mm:think>' "$(cat tests/golden/chat/prefix.txt)" "$chore" |
    "$corvid" model tokenize "$shipped"
done >"$work/shipped.prompts" <<'CHORES'
how many txt files are in notes?
Which port is set in garden.conf?
add the line mint at the end of seeds.txt
rename plan.md to plan_old.md
what is the sum of the amount column in sales.csv?
please delete all .bak files in the archive folder
how many WARN lines are in server.log?
which branch am i on?
copy report.txt to backup
what is the sha256 sum of disk.img?
CHORES

compare() { # NAME MODEL: each of NAME's prompts continued by 16 greedy tokens
  local prompts=$work/$1.prompts ours=$work/$1.ours theirs=$work/$1.theirs
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
compare shipped "$shipped"
