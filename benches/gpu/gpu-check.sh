#!/usr/bin/env bash
# Tests and measures Handgrad on a machine with an NVIDIA GPU and its driver: no Rust and no network are
# needed there. With a Python that has PyTorch, its kernels and steps are measured beside ours.
#
#   benches/gpu/gpu-check.sh build DIR here: everything into DIR, to be copied to that machine
#   DIR/gpu-check.sh run               there: every item, what tells most first, for seven minutes
#   DIR/gpu-check.sh rehearse          anywhere: the same in small on the emulator and PyTorch's CPU
#   DIR/gpu-check.sh list              the items
#
# `run` and `rehearse` take --seconds N, --only ITEMS, --skip ITEMS; see gpu_check.py, which does the
# work. Results lie in the folder that OUT names, DIR/results without, and are written item by item.
#
#   PYTHON=python3    a Python, 3.10 or newer
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
LIMIT_MIB=40

fail() { echo "error: $*" >&2; exit 1; }

# Copies what cargo built, without symbols: executable NAME for each target of a JSON message.
collect() {
  local dir=$1
  shift
  python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] in sys.argv[1:]:
        print(message["target"]["name"], message["executable"])
' "$@" | while read -r name path; do strip -o "$dir/$name" "$path"; done
}

# Binaries, and cubins where the tool is that makes them, in one archive: what they share, the PTX and half
# of the code, is stored once.
pack() {
  local stage=$1 dir=$2 json=--message-format=json
  mkdir "$stage/bin"
  cargo test --release --no-run -q -p handgrad --test gradients --test model $json | collect "$stage/bin" gradients model
  cargo bench --no-run -q --bench peer $json | collect "$stage/bin" peer
  cargo build --release -q -p handgrad --bin handgrad $json | collect "$stage/bin" handgrad
  for name in gradients model peer handgrad; do
    [ -x "$stage/bin/$name" ] || fail "cargo built no $name"
  done
  if [ -x kernels-ptx/build-cubins.sh ]; then
    kernels-ptx/build-cubins.sh "$stage/bin/cubin" >&2 || echo "no cubins: the driver compiles the kernels there" >&2
  fi
  du -m "$stage/bin"/* >&2
  tar c -C "$stage" bin | xz -T1 --lzma2=preset=0,dict=128MiB > "$dir/bin.tar.xz"
}

build() {
  local dir=$1 stage
  cd "$here/../.."
  [ -f benches/gpu/gpu_check.py ] || fail "build works in the project, not in a folder that it has made"
  stage=$(mktemp -d)
  trap "rm -rf '$stage'" EXIT
  pack "$stage" "$dir"
  mkdir -p "$dir/peers"
  cp benches/peers/*.py benches/gpu/*.py "$dir/peers/"
  cp benches/gpu/gpu-check.sh "$dir/"
  git rev-parse --short=12 HEAD > "$dir/commit" 2> /dev/null || echo unknown > "$dir/commit"
  [ -z "$(git status --porcelain 2> /dev/null)" ] || echo "$(cat "$dir/commit") and changes" > "$dir/commit"
  local kib
  kib=$(du -sk --exclude=results "$dir" | cut -f1)
  echo "$dir: $((kib / 1024)).$((kib % 1024 * 10 / 1024)) MiB of $LIMIT_MIB; copy it to a machine with a GPU, and there:" \
    "$(basename "$dir")/gpu-check.sh run" >&2
  [ "$kib" -le $((LIMIT_MIB * 1024)) ] || fail "$dir is larger than $LIMIT_MIB MiB"
}

case ${1:-} in
  build) [ $# = 2 ] || fail "usage: gpu-check.sh build DIR"; build "$(mkdir -p "$2" && cd "$2" && pwd)" ;;
  run | rehearse | list) exec "${PYTHON:-python3}" "$here/peers/gpu_check.py" --folder "$here" "$@" ;;
  *) fail "usage: gpu-check.sh build DIR, or DIR/gpu-check.sh run|rehearse|list [--seconds N] [--only ITEMS]" ;;
esac
