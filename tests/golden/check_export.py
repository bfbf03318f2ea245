#!/usr/bin/env python3
"""Does `transformers`, unmodified, load a model directory that the engine wrote, and compute the same logits?

    check_export.py --dir out/model --logits logits.json [--tokens tokens.json] [--tolerance 1e-4]

--logits is a JSON object or a safetensors file with
    tokens  [B, T] token ids (B and T at least 1; no padding)
    logits  B*T*V numbers, f32, row-major, flat or nested: the engine's logits at every position
--tokens names a JSON file holding only the [B, T] ids, for a logits file that has none.

A JSON logits file may also hold "text" and "ids": the engine's ids of that text, without special
tokens; the directory's tokenizer must give the same ids and decode them to the text.

Prints one JSON line; exits with 1 if anything disagrees. Writes nothing.
"""

import argparse
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def read(path):
    return load_file(path) if path.suffix == ".safetensors" else json.loads(path.read_text())


def compare_tokenizer(directory, vocab, given):
    """Problems found in the directory's tokenizer, as sentences."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    problems = []
    if len(tokenizer) > vocab:
        problems.append(f"tokenizer has {len(tokenizer)} tokens, the model only {vocab}")
    text = given.get("text", "Once upon a time, 3 foxes said: \"no!\"\n\u00e9\u4e2d \U0001f98a")
    ids = tokenizer.encode(text, add_special_tokens=False)
    if "ids" in given and ids != given["ids"]:
        problems.append(f"tokenizer gives {ids[:12]}..., the engine {given['ids'][:12]}...")
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if back != text:
        problems.append(f"tokenizer decodes {text!r} to {back!r}")
    return problems


def compare_logits(model, tokens, logits):
    """(largest absolute difference, the same over the largest absolute logit)."""
    with torch.no_grad():
        want = model(input_ids=tokens).logits.double()
    if logits.numel() != want.numel():
        raise SystemExit(f"logits: {logits.numel()} numbers given, {list(want.shape)} needs {want.numel()}")
    got = logits.double().reshape(want.shape)
    if not torch.isfinite(got).all():
        raise SystemExit("logits: not all numbers are finite")
    diff = (got - want).abs().max().item()
    return diff, diff / want.abs().max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path, required=True, help="model directory to load")
    parser.add_argument("--logits", type=pathlib.Path, required=True, help=".json or .safetensors")
    parser.add_argument("--tokens", type=pathlib.Path, help="JSON [B, T] ids, if --logits has none")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference, default 1e-4")
    parser.add_argument("--no-tokenizer", action="store_true", help="the directory holds no tokenizer")
    args = parser.parse_args()

    given = read(args.logits)
    tokens = torch.as_tensor(read(args.tokens) if args.tokens else given["tokens"]).long()
    logits = torch.as_tensor(given["logits"])
    model, info = AutoModelForCausalLM.from_pretrained(
        args.dir, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    model.eval()
    vocab = model.config.vocab_size
    if tokens.dim() != 2 or tokens.numel() == 0 or tokens.min() < 0 or tokens.max() >= vocab:
        raise SystemExit(f"tokens: shape {list(tokens.shape)}, need [B, T] with ids from 0 to {vocab - 1}")

    problems = [f"{kind}: {sorted(map(str, found))}" for kind, found in info.items() if found]
    diff, relative = compare_logits(model, tokens, logits)
    if not relative <= args.tolerance:
        problems.append(f"logits differ by {relative:.2e}, allowed {args.tolerance:.0e}")
    if not args.no_tokenizer:
        problems += compare_tokenizer(args.dir, vocab, given if isinstance(given, dict) else {})
    print(json.dumps({
        "ok": not problems, "class": type(model).__name__, "shape": [*tokens.shape, vocab],
        "max_abs": diff, "relative": relative, "problems": problems}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
