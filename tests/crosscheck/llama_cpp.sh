#!/usr/bin/env bash
# Compares greedy tokens with llama.cpp (v0.5.0, in the npm package node-llama-cpp 3.22.1) on the files that corvid
# writes: the model that ships, the golden checkpoint of every family converted to F32, and a made-up checkpoint of every
# family in every type. Needs npm and its registry, so it is no part of the default tests:
#   tests/crosscheck/llama_cpp.sh [PROGRAM]
set -euo pipefail
cd "$(dirname "$0")/../.."
corvid=$(realpath "${1:-build/release/corvid}")
work=$PWD/build/crosscheck
mkdir -p "$work"
cp tests/crosscheck/llama_cpp.mjs "$work"
if [ ! -d "$work/node_modules/node-llama-cpp" ]; then
  (cd "$work" && NODE_LLAMA_CPP_SKIP_DOWNLOAD=true npm install --silent --no-fund --no-audit node-llama-cpp@3.22.1)
fi
families="minimax-m3 minimax-m2 qwen3-moe"
types="f16 bf16 q8_0 q4_0 q4_k_m q5_k_m q6_k mxfp4"
# The golden checkpoints in float32, and made-up ones whose rows fit every block format, in all types.
for family in $families; do
  mkdir -p "$work/$family"
  cp "tests/golden/$family"/{config.json,model.safetensors} "$work/$family"
  python3 tests/crosscheck/checkpoint.py tokenizer "$work/$family"
  "$corvid" model convert "$work/$family" "$work/$family.gguf" --type f32
  python3 tests/crosscheck/checkpoint.py "$family" "$work/made-up-$family"
  "$corvid" model convert "$work/made-up-$family" "$work/made-up-$family.gguf" --type f32
  for type in $types; do
    "$corvid" model quantize "$work/made-up-$family.gguf" "$work/made-up-$family-$type.gguf" --type "$type"
  done
done

# Ten prompts for each model, one JSON list of ids a line. The golden weights are random, so any ids will do; the model
# that ships gets what it was made for, its own prefix and a chore: on noise it is undecided, and llama.cpp rounds
# activations to 8 bits where corvid keeps them in float.
python3 - >"$work/golden.prompts" <<'PY'
import random
for i in range(10):
    r = random.Random(i)
    print([r.randrange(3, 500) for _ in range(r.randint(8, 300))])
PY
# The beginnings of one long prompt, for one token each: a near tie then costs one token, not all that follow it.
python3 - >"$work/beginnings.prompts" <<'PY'
import random
r = random.Random(99)
prompt = [r.randrange(3, 500) for _ in range(200)]
for i in range(5, 201, 5):
    print(prompt[:i])
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

failed=0
compare() { # NAME WANTED: so many tokens of $work/NAME.ours must stand in $work/NAME.theirs too
  local equal all
  read -r equal all < <(python3 - "$work/$1.ours" "$work/$1.theirs" <<'PY'
import json, sys
pairs = [p for a, b in zip(*map(open, sys.argv[1:])) for p in zip(json.loads(a), json.loads(b))]
print(sum(a == b for a, b in pairs), len(pairs))
PY
  )
  echo "$1: $equal of $all tokens are llama.cpp's"
  if ((equal < $2)); then
    diff "$work/$1.ours" "$work/$1.theirs" >&2 || true
    failed=1
  fi
}
continuations() { # NAME MODEL PROMPTS WANTED: each prompt continued by 16 greedy tokens
  while read -r ids; do
    "$corvid" model logits "$2" --prompt-ids "$(tr -d '[] ' <<<"$ids")" --greedy 16 --output json |
      python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["greedy"]))'
  done <"$3" >"$work/$1.ours"
  (cd "$work" && node llama_cpp.mjs "$2" 16 <"$3") >"$work/$1.theirs"
  compare "$1" "$4"
}
next_tokens() { # NAME MODEL WANTED: the likeliest token after each of the beginnings
  "$corvid" model logits "$2" --prompt-ids "$(tail -1 "$work/beginnings.prompts" | tr -d '[] ')" \
    --positions "$(seq -s, 4 5 199)" --output json |
    python3 -c 'import json, sys
for logits in json.load(sys.stdin)["logits"]:
    print([max(range(len(logits)), key=logits.__getitem__)])' >"$work/$1.ours"
  (cd "$work" && node llama_cpp.mjs "$2" 1 <"$work/beginnings.prompts") >"$work/$1.theirs"
  compare "$1" "$3"
}
for family in $families; do
  # In qwen3-moe one prompt meets a near tie of two experts (0.0007 apart), which llama.cpp's rounding decides otherwise
  # than float64 does: from there on its tokens differ.
  continuations "$family" "$work/$family.gguf" "$work/golden.prompts" "$([ "$family" = qwen3-moe ] && echo 144 || echo 160)"
  next_tokens "made-up-$family" "$work/made-up-$family.gguf" 40
  # llama.cpp rounds activations to 16 or 8 bits before it multiplies them with rounded weights: where two tokens are
  # nearly as likely, it may choose the other.
  for type in $types; do
    next_tokens "made-up-$family-$type" "$work/made-up-$family-$type.gguf" 34
  done
done
continuations shipped "$shipped" "$work/shipped.prompts" 160
exit "$failed"
