#!/usr/bin/env python3
"""Seconds from launch to the end of the first training step, in f32 and bf16.

    python3 benches/cold_start.py

Launches the release build of `handgrad pretrain` on ready token shards and a ready tokenizer, for S15 of the
benches (8.3M parameters, 16 sequences of 256 tokens), and waits for the first line of metrics. It counts
everything before that: loading, first weights, checkpoint 0, and the first touch of every page. The shards
come from random words, once, with a tokenizer trained on them.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
S15 = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": 4096,
    "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 256, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
DOCUMENTS = 20_000


def write_text(path):
    """Words of 1 to 4 syllables, frequent ones and rare ones: enough of them for 4096 tokens."""
    rng = random.Random(1)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(6000)]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    with open(path, "w") as file:
        for _ in range(DOCUMENTS):
            file.write(" ".join(rng.choices(words, weights, k=80)) + ".\n")


def prepare(handgrad, directory):
    """Text, model configuration, shards and tokenizer. Returns the flags that name them."""
    config, text = os.path.join(directory, "s15.json"), os.path.join(directory, "text.txt")
    ready = os.path.join(directory, "ready")
    with open(config, "w") as file:
        json.dump(S15, file)
    write_text(text)
    # One short step: it leaves the tokenizer and the shards.
    flags = ["--data", text, "--model", config, "--steps", "1", "--batch-size", "1", "--eval-tokens", "256"]
    run = subprocess.run([handgrad, "pretrain", *flags, "--log-level", "error", "--out", ready])
    if run.returncode:
        sys.exit(f"error: {handgrad}: ended with code {run.returncode}; see its message above")
    tokens, tokenizer = os.path.join(ready, "tokens"), os.path.join(ready, "tokenizer.json")
    return ["--data", tokens, "--tokenizer", tokenizer, "--model", config]


def first_step(handgrad, flags, dtype, out):
    """Seconds until the first step's line is in metrics.jsonl."""
    metrics = os.path.join(out, "metrics.jsonl")
    flags = [*flags, "--steps", "2", "--batch-size", "16", "--dtype", dtype, "--out", out]
    start = time.perf_counter()
    with subprocess.Popen([handgrad, "pretrain", *flags], stderr=subprocess.DEVNULL) as run:
        while not (os.path.exists(metrics) and os.path.getsize(metrics)):
            if run.poll():
                sys.exit(f"error: {handgrad} pretrain {' '.join(flags)}: ended with code {run.returncode}")
            time.sleep(0.001)
        seconds = time.perf_counter() - start
        run.kill()
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handgrad", help="the built program (default: cargo builds it)")
    parser.add_argument("--launches", type=int, default=5)
    args = parser.parse_args()
    if args.handgrad is None:
        subprocess.run(["cargo", "build", "--release", "--bin", "handgrad"], cwd=ROOT, check=True)
        args.handgrad = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"), "release/handgrad")
    with tempfile.TemporaryDirectory() as directory:
        flags = prepare(args.handgrad, directory)
        for dtype in ("f32", "bf16"):
            outs = (os.path.join(directory, f"{dtype}-{i}") for i in range(args.launches))
            seconds = [first_step(args.handgrad, flags, dtype, out) for out in outs]
            spread = f"{min(seconds):.2f}-{max(seconds):.2f}"
            print(f"{dtype}: {statistics.median(seconds):.2f} s from launch to the end of step 1 ({spread})")


if __name__ == "__main__":
    main()
