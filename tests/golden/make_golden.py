#!/usr/bin/env python3
"""Writes the golden numbers that the engine is compared with (see README.md here).

Weights and tokens come from a closed integer formula, so nothing but results is stored.
Per model, `<model>.json` holds the set-up, 20 training losses and the evidence that the set-up
can tell right from wrong; `<model>.safetensors` holds logits and gradients of the first batch.

Two computations meet here:
  peer       transformers' LlamaForCausalLM, f32, eager attention, torch autograd, torch AdamW;
  reference  the same network written out below in f64, because transformers computes norms,
             softmax and rotation angles in f32 whatever the weights are.
Stored logits and gradients are the reference's, rounded once to f32. Stored losses are the peer's
(`losses`) and the reference's (`losses_f64`). The script stops if the two disagree.
"""

import argparse
import json
import math
import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

BATCH, SEQ, STEPS, TOKENS = 3, 17, 20, 701
IGNORE = -100
OPTIM = {
    "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "max_norm": 1.0,
    "peak_lr": 6e-3, "min_lr_ratio": 0.1, "warmup": 5, "steps": STEPS,
    "decay": "parameters with two dimensions, embedding and head included",
}

# Sizes are odd where they can be, so that padding shows; `gqa` has an attention width (8*12) that
# differs from its width (64) and from its hidden size (100).
MODELS = {
    "untied": dict(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=12,
        intermediate_size=80, vocab_size=97, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=False),
    "tied": dict(
        hidden_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=10,
        intermediate_size=72, vocab_size=61, rope_theta=10000.0, rms_norm_eps=1e-6, tie_word_embeddings=True),
    "gqa": dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, head_dim=12,
        intermediate_size=100, vocab_size=131, rope_theta=500000.0, rms_norm_eps=1e-5, tie_word_embeddings=False),
}

# Scale by the part of the name before ".weight": powers of two, so that scaling is exact. Queries and
# keys are large on purpose: attention is then far from uniform and a rotation error moves the logits.
SCALES = {
    "embed_tokens": 2**-3, "q_proj": 2**-1, "k_proj": 2**-2, "v_proj": 2**-2, "o_proj": 2**-2,
    "gate_proj": 2**-2, "up_proj": 2**-2, "down_proj": 2**-2, "lm_head": 2**-2,
}
NORM_SCALE = 2**-2  # norm weights are 1 + value

# ---- the formula -------------------------------------------------------------------------------


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def hashes(key, n):
    """splitmix64(fnv1a64(key) + i) for i in 0..n, all arithmetic modulo 2^64."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a64(key)) + np.arange(n, dtype=np.uint64)
        z += np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def values(key, n, scale):
    """Uniform on [-scale, scale), exact in f32: a 24-bit integer minus 2^23, times a power of two."""
    u = (hashes(key, n) >> np.uint64(40)).astype(np.int64)
    return (u - 2**23).astype(np.float32) * np.float32(scale / 2**23)


def weight(model_name, name, shape):
    """f32 weights of parameter `name` (Hugging Face's name), row-major."""
    key, n = f"{model_name}/{name}", math.prod(shape)
    if len(shape) == 1:
        flat = np.float32(1) + values(key, n, NORM_SCALE)  # one correctly rounded f32 addition
    else:
        flat = values(key, n, SCALES[name.split(".")[-2]])
    return flat.reshape(shape)


def tokens(model_name, vocab):
    """A chain that a model can learn: three times in four the next token is 3*t+1 modulo V."""
    out, t = [], 0
    for h in hashes(f"{model_name}/tokens", TOKENS).tolist():
        t = (h & 0xFFFFFFFF) % vocab if h >> 62 == 0 else (3 * t + 1) % vocab
        out.append(t)
    return out


def batch(stream, step):
    """Row b of step s: inputs from (s*B+b)*T, targets one further, indices modulo the stream's length."""
    at = torch.arange(BATCH * SEQ).view(BATCH, SEQ) + step * BATCH * SEQ
    stream = torch.tensor(stream)
    return stream[at % TOKENS], stream[(at + 1) % TOKENS]


def with_ignored(targets):
    """Every third target, counted from the second, becomes -100."""
    flat = targets.flatten().clone()
    flat[1::3] = IGNORE
    return flat.view_as(targets)


def learning_rate(s):
    peak, warmup = OPTIM["peak_lr"], OPTIM["warmup"]
    if s < warmup:
        return peak * (s + 1) / warmup
    low = peak * OPTIM["min_lr_ratio"]
    return low + (peak - low) / 2 * (1 + math.cos(math.pi * (s - warmup) / (STEPS - warmup)))


# ---- the two networks --------------------------------------------------------------------------


def peer(sizes, model_name):
    """transformers' model with the formula's weights, and its parameters by name."""
    sizes = dict(sizes)
    rope = {"rope_type": "default", "rope_theta": sizes.pop("rope_theta")}
    config = LlamaConfig(
        **sizes, rope_parameters=rope, max_position_embeddings=64, hidden_act="silu", use_cache=False,
        bos_token_id=None, eos_token_id=None, attn_implementation="eager", dtype="float32")
    model = LlamaForCausalLM(config).float().eval()  # eval changes nothing: there is no dropout
    params = dict(model.named_parameters())  # a tied head appears once, as the embedding
    with torch.no_grad():
        for name, p in params.items():
            p.copy_(torch.from_numpy(weight(model_name, name, tuple(p.shape))))
    return model, params


def rms_norm(x, w, eps):
    return w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def rotate(x, theta, layout):
    """RoPE on [B, heads, T, D]. "half" is right; the other layouts are mistakes to be told apart."""
    dim, dtype = x.shape[-1], x.dtype
    freq = theta ** (-torch.arange(0, dim, 2, dtype=dtype) / dim)
    angle = torch.arange(x.shape[-2], dtype=dtype)[:, None] * freq
    if layout == "none":
        return x
    if layout == "inverse":
        angle = -angle
    cos, sin = angle.cos(), angle.sin()
    if layout == "adjacent":
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def attention(x, p, c, layout, grouping):
    B, T, _ = x.shape
    H, G, D = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    q, k, v = (
        F.linear(x, p(f"self_attn.{n}_proj")).view(B, T, heads, D).transpose(1, 2)
        for n, heads in (("q", H), ("k", G), ("v", G)))
    q, k = rotate(q, c["rope_theta"], layout), rotate(k, c["rope_theta"], layout)
    head = torch.arange(H) // (H // G) if grouping == "blocks" else torch.arange(H) % G
    scores = q @ k[:, head].transpose(-1, -2) / math.sqrt(D)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    prob = scores.masked_fill(future, -math.inf).softmax(-1)
    return F.linear((prob @ v[:, head]).transpose(1, 2).reshape(B, T, H * D), p("self_attn.o_proj"))


def reference(params, c, ids, layout="half", grouping="blocks"):
    """Logits [B, T, V] in the dtype of `params`, by the formulas alone."""
    x = F.embedding(ids, params["model.embed_tokens.weight"])
    for i in range(c["num_hidden_layers"]):
        def p(part, i=i):
            return params[f"model.layers.{i}.{part}.weight"]
        x = x + attention(rms_norm(x, p("input_layernorm"), c["rms_norm_eps"]), p, c, layout, grouping)
        h = rms_norm(x, p("post_attention_layernorm"), c["rms_norm_eps"])
        h = F.silu(F.linear(h, p("mlp.gate_proj"))) * F.linear(h, p("mlp.up_proj"))
        x = x + F.linear(h, p("mlp.down_proj"))
    head = params["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return F.linear(rms_norm(x, params["model.norm.weight"], c["rms_norm_eps"]), head)


# ---- what is measured --------------------------------------------------------------------------


def loss_of(logits, targets):
    """Mean over targets other than -100, nats per token."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def gradients(forward, params, ids, targets):
    """(logits, loss, gradient by name) of one batch; leaves no gradient behind."""
    logits = forward(ids)
    loss = loss_of(logits, targets)
    grads = torch.autograd.grad(loss, list(params.values()))
    return logits.detach(), loss.item(), dict(zip(params, grads))


def decays(name, p):
    return p.dim() >= 2


def train(forward, params, stream, o=OPTIM, decays=decays, late=0):
    """20 steps; returns losses and gradient norms before clipping. Changes `params`.
    `o`, `decays` and `late` (steps by which the schedule lags) differ from the default for `slips` only.
    """
    groups = [
        {"params": [p for n, p in params.items() if decays(n, p)], "weight_decay": o["weight_decay"]},
        {"params": [p for n, p in params.items() if not decays(n, p)], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(o["beta1"], o["beta2"]), eps=o["eps"])
    losses, norms = [], []
    for step in range(STEPS):
        ids, targets = batch(stream, step)
        loss = loss_of(forward(ids), targets)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(params.values()), o["max_norm"]).item())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step - late)
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


def error(a, b):
    """max |a - b| / max |b|, in f64."""
    a, b = a.double(), b.double()
    return ((a - b).abs().max() / b.abs().max()).item()


def worst(a, b):
    """The largest `error` over parameters, and where it is."""
    return max((error(a[n], b[n]), n) for n in b)


def worst_step(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def mistakes(params, c, ids, right):
    """Relative change of the logits under mistakes that a parity test has to notice."""
    out = {
        f"rope_{layout}": error(reference(params, c, ids, layout=layout), right)
        for layout in ("adjacent", "none", "inverse")}
    other = {10000.0: 500000.0, 500000.0: 10000.0}[c["rope_theta"]]
    out["rope_other_theta"] = error(reference(params, {**c, "rope_theta": other}, ids), right)
    if c["num_attention_heads"] != c["num_key_value_heads"]:
        out["kv_heads_interleaved"] = error(reference(params, c, ids, grouping="interleaved"), right)
    other = {1e-5: 1e-6, 1e-6: 1e-5}[c["rms_norm_eps"]]
    out["norm_other_eps"] = error(reference(params, {**c, "rms_norm_eps": other}, ids), right)
    return out


def slips(p64, c, stream, right):
    """Relative change of the 20 losses under optimizer mistakes."""
    cases = {
        "no_decay": dict(decays=lambda n, p: False),
        "decay_on_norms": dict(decays=lambda n, p: True),
        "no_decay_on_embedding": dict(decays=lambda n, p: decays(n, p) and "embed_tokens" not in n),
        "no_clip": dict(o={**OPTIM, "max_norm": math.inf}),
        "beta2_999": dict(o={**OPTIM, "beta2": 0.999}),
        "lr_one_step_late": dict(late=1),
    }
    out = {}
    for case, change in cases.items():
        p = {n: t.detach().clone().requires_grad_() for n, t in p64.items()}
        out[case] = worst_step(train(lambda x: reference(p, c, x), p, stream, **change)[0], right)
    return out


def check(name, evidence):
    """Stops unless the peer agrees with the reference and every mistake is visible."""
    limits = {"logits": 1e-5, "gradients": 2e-5, "gradients_ignore": 2e-5, "losses": 5e-6, "grad_norms": 5e-5}
    for key, got in evidence["f32_against_f64"].items():
        if key in limits and not got < limits[key]:
            raise SystemExit(f"{name}: f32 and f64 differ by {got:.2e} in {key}, allowed {limits[key]:.0e}")
    for key, got in evidence["logits_change_if_wrong"].items():
        need = 1e-3 if key == "norm_other_eps" else 1e-2
        if not got > need:
            raise SystemExit(f"{name}: {key} moves the logits by {got:.2e} only, needed {need:.0e}: raise the scales")
    for key, got in evidence["losses_change_if_wrong"].items():
        if not got > 1.5e-4:
            raise SystemExit(f"{name}: {key} moves the losses by {got:.2e} only, needed 1.5e-4: raise the learning rate")


def golden(name):
    """(json object, tensors) of one model."""
    c = MODELS[name]
    model, p32 = peer(c, name)
    p64 = {n: p.detach().double().requires_grad_() for n, p in p32.items()}
    table = {n: {"shape": list(p.shape), "sum": p.detach().double().sum().item()} for n, p in p64.items()}
    config = json.loads(model.config.to_json_string(use_diff=True))
    stream = tokens(name, c["vocab_size"])
    ids, targets = batch(stream, 0)

    def f32(x):
        return model(input_ids=x).logits

    def f64(x):
        return reference(p64, c, x)

    logits32, loss32, grads32 = gradients(f32, p32, ids, targets)
    logits, loss, grads = gradients(f64, p64, ids, targets)
    agree = {"logits": error(logits32, logits)}
    agree["gradients"], agree["gradients_worst_in"] = worst(grads32, grads)
    tensors = {"logits": logits.flatten(0, 1)} | {f"grad.{n}": g for n, g in grads.items()}
    extra = {}
    if name == "gqa":
        ignoring = with_ignored(targets)
        _, ignore32, some32 = gradients(f32, p32, ids, ignoring)
        _, ignore64, some = gradients(f64, p64, ids, ignoring)
        agree["gradients_ignore"], _ = worst(some32, some)
        tensors |= {f"grad_ignore.{n}": g for n, g in some.items()}
        extra = {"targets_ignore": ignoring.tolist(), "loss_ignore": ignore64, "loss_ignore_f32": ignore32}
    wrong = mistakes(p64, c, ids, logits)
    start = {n: p.detach().clone() for n, p in p64.items()}
    losses, norms = train(f32, p32, stream)
    losses64, norms64 = train(f64, p64, stream)
    agree["losses"], agree["grad_norms"] = worst_step(losses, losses64), worst_step(norms, norms64)
    evidence = {"f32_against_f64": agree, "logits_change_if_wrong": wrong}
    evidence["losses_change_if_wrong"] = slips(start, c, stream, losses64)
    check(name, evidence)
    scales = {k: v for k, v in SCALES.items() if any(k in n for n in p32)}
    doc = {
        "model": name,
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__},
        "config": config,
        "formula": {"scales": scales, "norm_scale": NORM_SCALE, "tokens": TOKENS},
        "parameters": table,
        "batch": BATCH, "seq_len": SEQ, "optimizer": OPTIM,
        "input_ids": ids.tolist(), "targets": targets.tolist(), "loss": loss, "loss_f32": loss32, **extra,
        "lr": [learning_rate(s) for s in range(STEPS)],
        "losses": losses, "grad_norms": norms, "losses_f64": losses64, "grad_norms_f64": norms64,
        "evidence": evidence,
    }
    return doc, {n: t.detach().float().contiguous() for n, t in tensors.items()}


def export(directory, name):
    """Hugging Face directory and token file (llm.c's header, u16), for a run by hand."""
    peer(MODELS[name], name)[0].save_pretrained(directory / name)
    stream = tokens(name, MODELS[name]["vocab_size"])
    header = struct.pack("<256i", 20240520, 1, TOKENS, *([0] * 253))
    (directory / name / "tokens.bin").write_bytes(header + struct.pack(f"<{TOKENS}H", *stream))


def dump(doc):
    """One line per top-level key: readable differences, small files."""
    lines = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in doc.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent, help="default: beside this script")
    parser.add_argument("--model", choices=MODELS, action="append", help="only this one; may be repeated")
    parser.add_argument("--export", type=pathlib.Path, metavar="DIR", help="also write DIR/<model>/: weights, config.json, tokens.bin")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.model or MODELS:
        doc, tensors = golden(name)
        (args.out / f"{name}.json").write_text(dump(doc))
        save_file(tensors, args.out / f"{name}.safetensors")
        if args.export:
            export(args.export, name)
        print(f"{name}: loss {doc['losses'][0]:.4f} -> {doc['losses'][-1]:.4f}, {json.dumps(doc['evidence'])}")


if __name__ == "__main__":
    main()
