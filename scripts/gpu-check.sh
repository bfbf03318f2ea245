#!/usr/bin/env bash
# Tests and measures Handgrad on a machine with an NVIDIA GPU, its driver and a Python that has PyTorch:
# no Rust and no network are needed there.
#
#   scripts/gpu-check.sh build DIR     here: everything into DIR (to be copied to that machine)
#   DIR/gpu-check.sh run               there: tests of every op on the GPU, then speed beside PyTorch
#   DIR/gpu-check.sh rehearse          anywhere: the same in small on the emulator and PyTorch's CPU
#
# `run` takes about half an hour and writes DIR/results/gpu-check.md, one file to keep, beside every
# single figure as JSON. A figure holds only if the product and the copy that a part measures before
# its first case and after its last agree within 2 %.
#
#   PYTHON=python3    a Python that has torch
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

fail() { echo "error: $*" >&2; exit 1; }

# Copies what cargo built: executable NAME for each target of a JSON message.
collect() {
  python3 -c '
import json, shutil, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] in sys.argv[2:]:
        shutil.copy(message["executable"], f"{sys.argv[1]}/" + message["target"]["name"])
' "$@"
}

build() {
  local dir=$1 json=--message-format=json
  mkdir -p "$dir/bin" "$dir/peers"
  cd "$here/.."
  cargo test --release --no-run -q -p handgrad --test ops --test model $json | collect "$dir/bin" ops model
  cargo test --release --no-run -q -p handgrad-kernels-ptx --test kernels $json | collect "$dir/bin" kernels
  cargo bench --no-run -q --bench peer $json | collect "$dir/bin" peer
  cargo build --release -q -p handgrad --examples $json | collect "$dir/bin" pretrain generate evaluate
  cp benches/peers/*.py "$dir/peers/"
  cp "$0" "$dir/gpu-check.sh" 2> /dev/null || cp scripts/gpu-check.sh "$dir/gpu-check.sh"
  git rev-parse HEAD > "$dir/commit"
  echo "$dir: copy it to a machine with a GPU, and there: $(basename "$dir")/gpu-check.sh run" >&2
}

# A section of the report: title, then a command whose output it is.
section() {
  local title=$1
  shift
  echo "== $title" >&2
  { printf '\n## %s\n\n' "$title"; "$@"; } >> "$report" || fail "$title: see the message above, and $report"
}

preamble() {
  echo "# GPU check, $(date +%F), commit $(cat "$here/commit")"
  echo
  nvidia-smi --query-gpu=name,driver_version,power.limit,clocks.sm,temperature.gpu --format=csv 2> /dev/null \
    || echo "no nvidia-smi: not on a GPU"
}

# The tests' last line; everything else goes to a file.
tests() {
  local name=$1 log="$results/$1.log"
  shift
  if ! "$here/bin/$name" "$@" > "$log" 2>&1; then tail -40 "$log" >&2; return 1; fi
  grep "^test result" "$log"
}

compare() {
  local subject=$1
  shift
  "${PYTHON:-python3}" "$here/peers/compare.py" --python "${PYTHON:-python3}" --worker "$here/bin/peer" \
    --device "$device" --rounds "$rounds" --json "$results/$subject-$((part += 1)).json" "$subject" "$@"
}

measure() {
  results=$here/results report=$results/gpu-check.md part=0
  [ -x "$here/bin/peer" ] || fail "$here/bin/peer is missing: scripts/gpu-check.sh build DIR makes it"
  "${PYTHON:-python3}" -c "import torch" || fail "PYTHON=${PYTHON:-python3}: it needs torch"
  mkdir -p "$results"
  preamble > "$report"
}

run() {
  device=cuda rounds=30
  measure
  export HANDGRAD_TEST_GPU=only
  section "Ops on the GPU against f64" tests ops
  section "Gradients of the whole model on the GPU" tests model gradients
  section "Products, square" compare gemm --rows 0 --shapes 4096x4096,8192x8192 --dtypes bf16
  section "Products of 110M and 1.1B" compare gemm --rows 16384 --dtypes bf16 \
    --shapes 768x2304,768x768,768x4096,2048x768,768x32000,2048x6144,2048x2048,2048x10944,5472x2048,2048x32000
  for width in 64 128; do
    section "Attention, heads of $width" compare attention --lengths 2048,8192,16384 --heads 32 \
      --width $width --dtypes bf16
  done
  section "Passes over memory" compare memory --dtypes bf16
  rounds=5
  section "Training steps" compare step --sizes G110,G1B --steps 10 --warmup 20 \
    --peers autocast,autocast+compile,master+compile
}

rehearse() {
  device=cuda-emulated rounds=1
  measure
  section "Ops on the emulator against f64" tests ops
  section "Gradients of the whole model" tests model gradients
  section "Products" compare gemm --rows 128 --shapes 64x128 --dtypes bf16
  section "Attention" compare attention --lengths 64 --heads 2 --dtypes bf16
  section "Passes over memory" compare memory --rows 64 --width 128 --dtypes bf16
  section "Training steps" compare step --sizes Tiny --steps 1 --warmup 1 --peers autocast,master+compile
}

case ${1:-} in
  build) [ $# = 2 ] || fail "gpu-check.sh build DIR"; build "$(mkdir -p "$2" && cd "$2" && pwd)" ;;
  run | rehearse) "$1"; echo "$report" ;;
  *) fail "usage: gpu-check.sh build DIR, or DIR/gpu-check.sh run|rehearse" ;;
esac
