#!/usr/bin/env python3
"""Holds models of other families against transformers: ids, logits, greedy text, perplexity.

    python3 tests/foreign/agree.py --sentencepiece tokenizer.model --text some.txt [--own out]

Makes random models shaped as LLaMA 1, 2, 3.1, TinyLlama, Qwen 2 and Mistral, with tokenizers of their
kinds: SentencePiece from --sentencepiece, byte-level ones trained on --text. Runs them here and in
transformers, prints one table (Markdown), and exits with 1 where they disagree. With --own, a model that
was trained here is held against transformers' pipeline on 20 prompts. Needs torch, transformers,
tokenizers and sentencepiece; not part of CI. Build before: cargo build --release --bin handgrad
--example logits.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    pipeline,
)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SIZES = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3)
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
PIECES = ["a", "b", " ", "  ", "the", " The", "in", "12", "7", "\n", "\n\n", "\t", "é", "e\u0301", "中文", "😀",
          "-----", "==", "aaaa", "'s", "!", "\u00a0", "naïve", "<", ">", "▁", "0x41", "ß", "हि", "\r\n", ".", "x"]


def hostile(n):
    random.seed(7)
    texts = ["", " ", "Once upon a time", "  two  spaces", "The boat", "a\u0301"]
    return texts + ["".join(random.choices(PIECES, k=random.randint(1, 25))) for _ in range(n)]


def byte_level(text, pattern, special, nfc):
    """A byte-level BPE as Llama 3's and Qwen 2's are, trained on a text."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=not nfc))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train([text], trainer)
    tokenizer.add_special_tokens(special)
    return tokenizer


def write(folder, config, tokenizer, generation):
    """A model with random weights, and its tokenizer."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0, 0.3)
    model.generation_config = GenerationConfig(**generation)
    model.save_pretrained(folder)
    tokenizer(folder)


def families(args, folder):
    """Each family's directory."""
    def sentencepiece(kind):
        def save(to):
            shutil.copy(args.sentencepiece, os.path.join(to, "tokenizer.model"))
            config = dict(tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
                          add_bos_token=True, add_eos_token=False, legacy=True)
            with open(os.path.join(to, "tokenizer_config.json"), "w") as file:
                json.dump(config, file)
            if kind == "json":
                # What was saved as a fast tokenizer: spaces by a normaliser.
                save_fast(to)
        return save

    def save_fast(to):
        # As published directories have it: SentencePiece's vocabulary, every pair that spells a piece.
        import sentencepiece as spm
        model = spm.SentencePieceProcessor(model_file=args.sentencepiece)
        vocab = {model.id_to_piece(i): i for i in range(model.vocab_size())}
        merges = []
        for piece, i in vocab.items():
            pairs = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
            pairs = [(l, r) for l, r in pairs if l in vocab and r in vocab]
            merges += [(-model.get_score(i), pair) for pair in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))]
        merges = [pair for _, pair in sorted(merges, key=lambda m: m[0])]
        tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                               decoders.Strip(" ", 1, 0)])
        tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                                 special_tokens=[("<s>", 1)])
        os.remove(os.path.join(to, "tokenizer.model"))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>",
                                unk_token="<unk>").save_pretrained(to)

    def llama3(to):
        special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
        tokenizer = byte_level(args.text, LLAMA3, special, False)
        begin = processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B",
                                              special_tokens=[(special[0], tokenizer.token_to_id(special[0]))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0],
                                eos_token=special[1]).save_pretrained(to)

    def qwen2(to):
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        tokenizer = byte_level(args.text, QWEN2, special, True)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[2],
                                pad_token=special[0]).save_pretrained(to)

    rope = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64)
    ids = dict(bos_token_id=1, eos_token_id=2)
    spm = dict(vocab_size=32000, **ids)
    full = dict(SIZES, num_key_value_heads=4)
    stops = lambda *ids: dict(eos_token_id=list(ids))
    yield "LLaMA 1", "tokenizer.model alone", LlamaConfig(**full, **spm, rms_norm_eps=1e-6), sentencepiece("model"), ids
    yield "LLaMA 2", "tokenizer.json, SentencePiece", LlamaConfig(**SIZES, **spm), sentencepiece("json"), ids
    yield ("LLaMA 3.1", "byte-level, rope llama3, three ends",
           LlamaConfig(**SIZES, vocab_size=1504, rope_parameters=rope, bos_token_id=1500, eos_token_id=[1501, 1502]),
           llama3, dict(bos_token_id=1500, **stops(1501, 1502)))
    yield ("TinyLlama", "tokenizer.json, tied, rope linear",
           LlamaConfig(**SIZES, **spm, tie_word_embeddings=True,
                       rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0)),
           sentencepiece("json"), dict(ids, pad_token_id=0))
    yield ("Qwen 2", "byte-level, biases, no begin token",
           Qwen2Config(**SIZES, vocab_size=1504, bos_token_id=1500, eos_token_id=1502, rms_norm_eps=1e-6,
                       rope_parameters=dict(rope_type="default", rope_theta=1e6)),
           qwen2, dict(bos_token_id=1500, pad_token_id=1500, **stops(1502, 1500)))
    yield ("Mistral", "tokenizer.model, window of 256, rope yarn",
           MistralConfig(**SIZES, **spm, sliding_window=256,
                         rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                                              original_max_position_embeddings=64)),
           sentencepiece("model"), ids)


def run(args, *words, **more):
    done = subprocess.run(words, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words[:4])}: {done.stderr.strip()}")
    return done.stdout


def ours(args, folder, texts):
    out = run(args, os.path.join(args.bin, "examples", "logits"), folder, input=json.dumps(texts))
    return [json.loads(line) for line in out.splitlines()]


def perplexity(model, tokenizer, text):
    """As the guide of transformers computes it, in windows that do not overlap."""
    ids = tokenizer(text, return_tensors="pt").input_ids
    T, nats, count = 256, 0.0, 0
    with torch.no_grad():
        for begin in range(0, ids.shape[1] - 1, T):
            window, next_ids = ids[:, begin:begin + T], ids[:, begin + 1:begin + T + 1]
            logits = model(window[:, :next_ids.shape[1]]).logits.float()
            nats += torch.nn.functional.cross_entropy(logits[0], next_ids[0], reduction="sum").item()
            count += next_ids.shape[1]
    return torch.tensor(nats / count).exp().item()


def compare(args, folder):
    """Ids that differ, largest error of logits, greedy texts that differ, both perplexities."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids_of = lambda text: tokenizer(text).input_ids
    sentencepiece = os.path.join(folder, "tokenizer.model")
    if os.path.exists(sentencepiece):
        # SentencePiece's own: transformers 5 takes the first space of a text for the one that is put there.
        import sentencepiece as spm
        pieces = spm.SentencePieceProcessor(model_file=sentencepiece)
        ids_of = lambda text: [pieces.bos_id()] + pieces.encode(text)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = hostile(args.count)
    rows = ours(args, folder, texts)
    ids, worst = 0, 0.0
    for text, row in zip(texts, rows):
        theirs = ids_of(text)
        if not theirs:
            continue
        if theirs != row["ids"]:
            ids += 1
            if ids < 4:
                print(f"{folder}: {text!r}: {theirs} and {row['ids']}", file=sys.stderr)
            continue
        with torch.no_grad():
            logits = model(torch.tensor([theirs])).logits[0, -1].float()
        error = (logits - torch.tensor(row["logits"])).abs().max() / logits.abs().max()
        worst = max(worst, error.item())
    text = 0
    prompts = ["The boat", "First Citizen:", "a", "We are", "12 apples and", "KING"]
    for prompt in prompts:
        theirs = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            out = model.generate(**theirs, max_new_tokens=24, do_sample=False)[0]
        before = tokenizer.decode(theirs.input_ids[0], skip_special_tokens=True)
        whole = tokenizer.decode(out, skip_special_tokens=True)
        mine = run(args, os.path.join(args.bin, "handgrad"), "generate", "--model", folder, "--temperature", "0",
                   "--max-new-tokens", "24", "--prompt", prompt)[:-1]
        if mine != prompt + whole[len(before):]:
            text += 1
            print(f"{folder}: {prompt!r}: {whole!r} and {mine!r}", file=sys.stderr)
    held = os.path.join(folder, "held.txt")
    with open(args.text) as source, open(held, "w") as file:
        part = source.read()[-8000:]
        file.write(part)
    said = json.loads(run(args, os.path.join(args.bin, "handgrad"), "evaluate", "perplexity", "--model", folder,
                          "--data", held, "--seq-len", "256"))
    return ids, len(texts), worst, text, len(prompts), said["perplexity"], perplexity(model, tokenizer, part)


def own(args):
    """A model that was trained here, in transformers' pipeline. Its tokens are decoded after the prompt's: the
    pipeline itself decodes them alone, and so loses the space between the two, with any LLaMA's tokenizer."""
    generate = pipeline("text-generation", model=args.own, dtype=torch.float32)
    decode = lambda ids: generate.tokenizer.decode(ids, skip_special_tokens=True)
    openings = ["Once upon a time", "One day,", "Anna counted", "The", "", " ", "Two boats", "Pip and Emma"]
    prompts = openings + [f"{name} {verb}" for name in ["Jack", "Olive", "Ivy", "Tom"] for verb in ["said", "ran", "saw"]]
    differ = 0
    for prompt in prompts:
        ids = generate(prompt, max_new_tokens=32, do_sample=False, return_tensors=True)[0]["generated_token_ids"]
        theirs = prompt + decode(ids)[len(decode(generate.tokenizer(prompt).input_ids)):]
        mine = run(args, os.path.join(args.bin, "handgrad"), "generate", "--model", args.own, "--temperature", "0",
                   "--max-new-tokens", "32", "--prompt", prompt)[:-1]
        if theirs != mine:
            differ += 1
            print(f"{prompt!r}: {theirs!r} and {mine!r}", file=sys.stderr)
    return differ, len(prompts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sentencepiece", required=True, help="a tokenizer.model of LLaMA 1 or 2")
    parser.add_argument("--text", required=True, help="a text file to train tokenizers on")
    parser.add_argument("--own", help="a model directory that was trained here")
    parser.add_argument("--only", help="the families whose names contain this")
    parser.add_argument("--count", type=int, default=200, help="hostile texts")
    parser.add_argument("--bin", default=os.path.join(ROOT, "target", "release"))
    args = parser.parse_args()
    bad = False
    print("| family | of it | ids that differ | logits, relative | greedy texts that differ | perplexity, ours / theirs |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, what, config, tokenizer, generation in families(args, folder):
            if args.only and args.only.lower() not in name.lower():
                continue
            to = os.path.join(folder, name.replace(" ", "-"))
            os.makedirs(to)
            try:
                write(to, config, tokenizer, generation)
                ids, texts, worst, text, prompts, mine, theirs = compare(args, to)
            except RuntimeError as error:
                bad = True
                print(f"| {name} | {what} | {error} | | | |", flush=True)
                continue
            bad |= ids > 0 or worst > 1e-4 or text > 0 or abs(mine / theirs - 1) > 1e-4
            print(f"| {name} | {what} | {ids} of {texts} | {worst:.1e} | {text} of {prompts} | "
                  f"{mine:.4f} / {theirs:.4f} |", flush=True)
    if args.own:
        differ, prompts = own(args)
        bad |= differ > 0
        print(f"\nIn transformers' pipeline {prompts - differ} of {prompts} prompts give the text of `generate`.")
    sys.exit(bad)


if __name__ == "__main__":
    main()
