#!/usr/bin/env bash
# Runs the commands that README.md and docs/measuring.md show, in their order, in a folder that has the
# files which they name. Training is cut to three steps, benches are compiled, scripts print their help,
# and what has a step of its own in `.ci/run` is passed over. A command of any other kind is an error.
#
#   tests/readme.sh          all of them
#   tests/readme.sh FILE     those of one page
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
pages=()
for page; do pages+=("$(realpath -e "$page")"); done
[ $# -gt 0 ] || pages=("$root/README.md" "$root/docs/measuring.md")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The commands in a page's fenced blocks, each on one line and without its comment.
commands() {
  awk '/^```/ { inside = !inside; next } inside' "$1" |
    sed -e ':join' -e '/\\$/N; s/ *\\\n */ /; t join' -e 's/^\$ //; s/ \+# .*//' |
    grep -E '^compare=|^([A-Z_]+=[^ ]+ )?(cargo|handgrad|python3|\$compare|[a-z]+/[a-z/-]+\.sh)( |$)'
}

# What the commands read: the names are README's, the text is real or the project's own.
prepare() {
  local text=$root/../shared/data/tinyshakespeare.txt
  if [ ! -f "$text" ]; then
    text=$scratch/shakespeare.txt
    cat "$root"/*.md "$root"/docs/*.md > "$text"
  fi
  cd "$scratch"
  mkdir books
  head -c 300000 "$text" > books/one.txt
  head -c 60000 "$text" > notes.txt
  tail -c 20000 "$text" > held-out.txt
  [ -f shakespeare.txt ] || ln -s "$text" shakespeare.txt
  printf '{"text": "The %s came home."}\n' cat dog owl | gzip > more.jsonl.gz
  ln -s "$root"/{examples,benches,tests} .
  ln -s out some-hf-llama # What the first command leaves is a Hugging Face directory.
}

# The program; training is cut to three steps.
handgrad() {
  local args=()
  if [[ $1 == pretrain && " $* " != *" --resume "* ]]; then
    while [ $# -gt 0 ]; do
      case $1 in
        --steps | --tokens | --warmup) shift 2 ;;
        *) args+=("$1"); shift ;;
      esac
    done
    set -- "${args[@]}" --steps 3 --warmup 1 --eval-tokens 4k
  fi
  "$scratch/bin/handgrad" "$@"
}

# Runs one command of a page; says so if another step does.
run() {
  eval "set -- $1"
  [[ $1 != *_*=* ]] || shift # A device that may not be here: the help is the same.
  case "$1 ${2:-}" in
    "cargo test" | "benches/gpu/gpu-check.sh build" | "check/gpu-check.sh run") echo "(has a step of its own)" ;;
    "cargo install") cargo install --path "$root" --root "$scratch" --locked --quiet ;;
    "cargo run")
      case " $* " in
        *" --example pretrain "*) cargo run --manifest-path "$root/Cargo.toml" "${@:3}" -- --steps 20 --warmup 2 ;;
        *) cargo run --manifest-path "$root/Cargo.toml" "${@:3}" ;;
      esac ;;
    "cargo bench")
      local bench=("${@:3}")
      [[ " ${bench[*]} " != *" -- "* ]] || bench=("${bench[@]:0:2}")
      (cd "$root" && cargo bench "${bench[@]}" --no-run) ;;
    "handgrad "*) "$@" ;;
    "python3 "*) "${@:1:2}" --help ;;
    "tests/"*) "$1" --help ;;
    compare=*) compare="python3 benches/peers/compare.py" ;;
    *) echo "tests/readme.sh does not know how to try this: $*" >&2; return 1 ;;
  esac
}

prepare
for page in "${pages[@]}"; do
  while IFS= read -r command; do
    printf '\n$ %s\n' "$command"
    begin=$SECONDS
    run "$command" < /dev/null || { echo "failed: $command (${page#"$root"/})" >&2; exit 1; }
    echo "($((SECONDS - begin)) s)"
  done < <(commands "$page")
done
