#!/usr/bin/env bash
# From raw dumps to a model: documents of five sources, duplicates dropped, a tokenizer, token shards,
# 100 steps of training.
#
#   examples/corpora.sh RAW OUT     RAW has the folders github, wikipedia, books, arxiv, stackexchange
set -euo pipefail
raw=$1 out=$2 handgrad=${HANDGRAD:-handgrad}

for source in github wikipedia books arxiv stackexchange; do
  $handgrad prepare $source "$raw/$source" --out "$out/documents/$source"
done
$handgrad prepare dedup "$out"/documents/* --out "$out/unique"
$handgrad prepare tokenizer "$out/unique" --vocab-size "${VOCAB:-8000}" --out "$out/tokenizer"
$handgrad prepare tokenize "$out/unique" --tokenizer "$out/tokenizer/tokenizer.json" --out "$out/shards"
$handgrad pretrain --data "$out/shards/tokens" --tokenizer "$out/tokenizer/tokenizer.json" --model "${MODEL:-260k}" --steps 100 --out "$out/run"
