#!/usr/bin/env bash
# The same bits before and after a change: trains, continues, evaluates and resumes with the programs
# of one build and writes down every loss and the hashes of all weights; the programs of another build
# must give the same on the same machine. No tokenizer is in the way: the script makes token shards.
#
#   tests/bits.sh record BINDIR FILE           writes FILE, and FILE.runs with runs stopped at step 10
#   tests/bits.sh check BINDIR FILE [PREFIX]   compares another build; with PREFIX only rows like it
#
# BINDIR holds the program handgrad, such as target/release, or pretrain, generate and evaluate, which it was
# once divided into. A row begins with what
# computed it: DEVICE/SET/DTYPE/MODEL/CACHE, on the CPU for its best instruction set and for plain code.
# So `check target/release FILE cpu/` leaves out the emulator, which takes most of the time.
# `check` also lets the new build go on from the old one's checkpoints: rows that end in /resumed.
set -euo pipefail
export LC_ALL=C CUDA_VISIBLE_DEVICES=
unset RUST_LOG HANDGRAD_ISA
long=(--steps 20 --warmup 4 --save-every 10 --eval-every 10)
short=(--steps 4 --warmup 1 --save-every 2 --eval-every 2 --eval-tokens 10)

usage() { sed -n '/^#  /s/^# *//p' "$0"; }
case ${1:-} in --help | -h) usage; exit ;; esac
fail() { echo "error: $*" >&2; exit 1; }

handgrad() {
  if [ -x "$bin/handgrad" ]; then "$bin/handgrad" "$@"; else "$bin/$1" "${@:2}"; fi
}

# Ids below VOCAB in llm.c's layout: three of four follow from the one before, by a rule that a model
# can learn. BASE is the least id. The numbers are whole and below 2^53, so every awk agrees.
tokens() {
  local vocab=$1 base=$2 count=4000
  awk -v vocab="$vocab" -v base="$base" -v count=$count '
    function byte(b) { printf "\\0%03o", b }
    function word(w) { byte(w % 256); byte(int(w / 256) % 256); byte(int(w / 65536) % 256); byte(int(w / 16777216)) }
    BEGIN {
      word(20240520); word(1); word(count)
      for (i = 3; i < 256; i++) { word(0) }
      random = 1
      for (i = 0; i < count; i++) {
        if (i % 200 == 0) print ""
        random = random * 16807 % 2147483647
        id = random % 4 == 0 ? int(random / 4) % (vocab - base) : (3 * id + 1) % (vocab - base)
        byte((id + base) % 256); byte(int((id + base) / 256))
      }
      print ""
    }' | while read -r line; do printf '%b' "$line"; done
}

# Hash of a safetensors file's numbers, without its header.
numbers() {
  local header
  header=$(od -An -N8 -tu8 "$1")
  tail -c "+$((header + 9))" "$1" | sha256sum | cut -c1-32
}

# Rows of a finished run: every loss and norm, then all weights and moments after the last step.
rows() {
  local name=$1 out=$2 last file
  sed -E "s|^\{\"step\":([0-9]+),.*\"loss\":([^,]+),.*\"grad_norm\":([^,]+),.*|$name step \1 loss \2 norm \3|
    s|^\{\"step\":([0-9]+),\"val_loss\":([^,}]+).*|$name step \1 validation \2|" "$out/metrics.jsonl"
  last=$(ls -d "$out"/checkpoints/step-* | tail -1)
  for file in "$last"/weights.safetensors "$last"/optimizer.safetensors "$out"/model.safetensors; do
    echo "$name $(basename "$file" .safetensors) $(numbers "$file")"
  done
}

# Trains into the folder NAME, with flags after it, and prints its rows.
pretrain() {
  local name=$1 out=$2
  shift 2
  handgrad pretrain --out "$out" --val-tokens 500 --keep 9 --log-level info "$@" 2> log || { cat log >&2; fail "$name: pretrain"; }
  rows "$name" "$out"
  # A run without a tokenizer has none.
  { grep -a 'sample: ' log || true; } | sha256sum | sed "s|^\(.\{32\}\).*|$name samples \1|"
}

# The run in folder OUT as it was at step 10.
stopped() {
  rm -rf "$1"/checkpoints/step-000000 "$1"/checkpoints/step-000020 "$1"/model.safetensors
}

# Text that the 260k model of folder OUT writes, and how well it predicts.
use() {
  local name=$1 out=$2 how
  shift 2
  for how in "--temperature 0" "--temperature 0.9 --top-p 0.9 --seed 7"; do
    # shellcheck disable=SC2086
    echo "$name generate $how: $(handgrad generate --model "$out" --prompt "Aha, " --max-new-tokens 40 $how "$@" | sha256sum | cut -c1-32)"
  done
  echo "$name evaluate $(handgrad evaluate perplexity --model "$out" --data bytes.bin --seq-len 50 --stride 20 --batch-size 3 "$@")"
}

cpu() {
  local isa dtype cache name out
  for isa in $1; do
    for dtype in f32 bf16; do
      for cache in linear full; do
        export HANDGRAD_ISA=$isa
        name=cpu/$isa/$dtype/260k/$cache out=260k-$isa-$dtype-$cache
        pretrain "$name" "$out" --device cpu --data bytes.bin --tokenizer bytes --model 260k --dtype $dtype \
          --cache $cache --batch-size 3 --seq-len 61 --accum 2 --sample-tokens 12 "${long[@]}"
        [ $cache = full ] || use "$name" "$out" --device cpu --dtype $dtype
        name=cpu/$isa/$dtype/story/$cache
        pretrain "$name" "story-$isa-$dtype-$cache" --device cpu --data wide.bin --model story --dtype $dtype \
          --cache $cache --batch-size 2 --seq-len 32 "${long[@]}"
        unset HANDGRAD_ISA
      done
    done
  done
}

emulator() {
  local dtype cache name out
  for dtype in f32 bf16; do
    for cache in linear full; do
      name=emulator/-/$dtype/260k/$cache out=emulator-$dtype-$cache
      pretrain "$name" "$out" --device cuda-emulated --data bytes.bin --tokenizer bytes --model 260k --dtype $dtype \
        --cache $cache --batch-size 2 --seq-len 5 --sample-tokens 2 "${short[@]}"
    done
  done
}

# Goes on from the checkpoints of another build, or of this one.
resumed() {
  local runs=$1 isa=$2 dtype name
  mkdir resumed
  tar -xf "$runs" -C resumed
  for dtype in f32 bf16; do
    name=cpu/$isa/$dtype/260k/linear/resumed
    (export HANDGRAD_ISA=$isa && pretrain_on "$name" "resumed/260k-$isa-$dtype-linear")
  done
}

pretrain_on() {
  handgrad pretrain --resume --out "$2" --log-level error 2> log || { cat log >&2; fail "$1: pretrain --resume"; }
  rows "$1" "$2"
}

# Everything, in a folder of its own; FILE.runs is written or read.
measure() {
  local how=$1 prefix=$2 sets best
  # What the programs say that this CPU offers, best first.
  sets=$({ HANDGRAD_ISA=? handgrad pretrain --plan --device cpu 2>&1 || true; } | sed -n 's/.*this CPU offers //p' | tr -d ,)
  [ -n "$sets" ] || fail "the program in $bin does not name its instruction sets"
  best=${sets%% *}
  tokens 130 35 > bytes.bin
  tokens 2048 0 > wide.bin
  [[ cpu/ != "${prefix:0:4}"* ]] || cpu "$best $([ "$best" = portable ] || echo portable)"
  if [ "$how" = record ]; then
    for run in 260k-"$best"-{f32,bf16}-linear; do stopped "$run"; done
    tar -cf "$file.runs" 260k-"$best"-{f32,bf16}-linear
  fi
  [[ cpu/ != "${prefix:0:4}"* ]] || resumed "$file.runs" "$best"
  [[ emul != "${prefix:0:4}"* ]] || emulator
}

[ $# -ge 3 ] || { usage >&2; exit 2; }
bin=$(cd "$2" && pwd) file=$(cd "$(dirname "$3")" && pwd)/$(basename "$3")
[ -x "$bin/handgrad" ] || [ -x "$bin/pretrain" ] || fail "$bin/handgrad: not there; cargo build --release makes it"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
case $1 in
  record) measure record "" > rows; cp rows "$file"; echo "$(wc -l < rows) rows: $file" ;;
  check)
    prefix=${4:-}
    measure check "$prefix" | { grep "^$prefix" || true; } > rows
    { grep "^$prefix" "$file" || true; } > recorded
    [ -s recorded ] || fail "$file has no row that begins with $prefix"
    diff recorded rows > differ || { head -40 differ; fail "$(grep -c '^[<>]' differ) rows differ from $file"; }
    echo "$(wc -l < rows) rows, all as in $file" ;;
  *) usage >&2; exit 2 ;;
esac
