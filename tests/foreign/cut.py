#!/usr/bin/env python3
"""Holds a tokenizer that was trained here against SentencePiece and llama.cpp, text by text.

    python3 tests/foreign/cut.py OUT/tokenizer.json [--count N] [--seed S]

Writes the vocabulary as a SentencePiece model and into a GGUF with a tiny model, and compares ids on
hostile texts: spaces, digits, emoji, runs of one sign, bytes that no token has. Exits with 1 where one
differs. Needs tokenizers, sentencepiece, protobuf, gguf, numpy and xllamacpp; not part of CI.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import urllib.request

import gguf
import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import Tokenizer

PIECES = ["a", "b", " ", "  ", "     ", "the", " The", "in", "ing", "12", "7", "2024", "\n", "\n\n", "\t", "é", "e\u0301",
          "中文", "😀", "👨\u200d👩\u200d👧", "-----", "==", "aaaa", "abab", "'s", "!", "\u00a0", "naïve", "<", ">", "0x41",
          "ß", "हि", "\r\n", ".", "x", "once", "Once upon", "\u3000", "½", "\x00", "\ufeff"]
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def hostile():
    kind = random.random()
    if kind < 0.5:
        return "".join(random.choices(PIECES, k=random.randint(0, 30)))
    if kind < 0.8:
        return "".join(random.choices("ab -=.\n", k=random.randint(1, 60)))
    return "".join(chr(random.choice([random.randint(32, 0x2FF), random.randint(0x4E00, 0x4EFF), 0x1F600]))
                   for _ in range(random.randint(1, 20)))


def kinds(vocab):
    for i, piece in enumerate(vocab):
        kind = [UNKNOWN, CONTROL, CONTROL][i] if i < 3 else BYTE if i < 259 else NORMAL
        yield piece, float(259 - i) if kind == NORMAL else 0.0, kind


def as_sentencepiece(vocab, path):
    model = pb.ModelProto()
    for piece, score, kind in kinds(vocab):
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type = pb.TrainerSpec.ModelType.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(vocab)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.remove_extra_whitespaces = False
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
    return sentencepiece.SentencePieceProcessor(model_file=path)


def as_gguf(vocab, path):
    C, F, H = 32, 32, 2
    file = gguf.GGUFWriter(path, "llama")
    file.add_context_length(2048)
    file.add_embedding_length(C)
    file.add_block_count(1)
    file.add_feed_forward_length(F)
    file.add_head_count(H)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_dimension_count(C // H)
    file.add_tokenizer_model("llama")
    pieces, scores, types = zip(*kinds(vocab))
    file.add_token_list([piece.encode() for piece in pieces])
    file.add_token_scores(list(scores))
    file.add_token_types(list(types))
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_add_bos_token(False)
    file.add_add_space_prefix(True)
    shapes = {"token_embd": (len(vocab), C), "output": (len(vocab), C), "output_norm": (C,), "blk.0.attn_norm": (C,),
              "blk.0.ffn_norm": (C,), "blk.0.ffn_gate": (F, C), "blk.0.ffn_up": (F, C), "blk.0.ffn_down": (C, F)}
    shapes.update({f"blk.0.attn_{part}": (C, C) for part in ["q", "k", "v", "output"]})
    for name, shape in shapes.items():
        file.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def llama_cpp(path):
    """A function from text to ids."""
    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = 64
    params.warmup = False
    server = xllamacpp.Server(params)

    def tokenize(text):
        body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.listening_address}/tokenize", body, headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["tokens"]

    return tokenize


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizer")
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-llama-cpp", action="store_true")
    args = parser.parse_args()
    random.seed(args.seed)
    ours = Tokenizer.from_file(args.tokenizer)
    vocab = sorted(ours.get_vocab(), key=ours.get_vocab().get)
    differ = {"SentencePiece": 0, "llama.cpp": 0}
    with tempfile.TemporaryDirectory() as folder:
        others = {"SentencePiece": as_sentencepiece(vocab, os.path.join(folder, "tokenizer.model")).encode}
        if not args.without_llama_cpp:
            as_gguf(vocab, os.path.join(folder, "model.gguf"))
            others["llama.cpp"] = llama_cpp(os.path.join(folder, "model.gguf"))
        for _ in range(args.count):
            text = hostile()
            ids = ours.encode(text, add_special_tokens=False).ids
            for name, encode in others.items():
                theirs = encode(text)
                if theirs != ids:
                    differ[name] += 1
                    if differ[name] < 4:
                        print(f"{name}: {text!r}: {ids} and {theirs}", file=sys.stderr)
    for name in others:
        print(f"{name}: {differ[name]} of {args.count} texts are cut in another way")
    sys.exit(any(differ.values()))


if __name__ == "__main__":
    main()
