"""PyTorch's side of `compare.py step`: the same LLaMA, weights and tokens, with what PyTorch fuses.

Request: the number of steps. A step is forward, backward, clipping to norm 1 and AdamW.
"""

import argparse
import json
import os
import time

import torch
import torch.nn.functional as F
from torch import nn

import worker


class Block(nn.Module):
    def __init__(self, C, H, F_, eps):
        super().__init__()
        self.H, self.eps = H, eps
        self.norm1, self.norm2 = nn.Parameter(torch.empty(C)), nn.Parameter(torch.empty(C))
        self.qkv = nn.Linear(C, 3 * C, bias=False)
        self.wo = nn.Linear(C, C, bias=False)
        self.gate_up = nn.Linear(C, 2 * F_, bias=False)
        self.down = nn.Linear(F_, C, bias=False)

    def forward(self, x_BTC, cos, sin):
        B, T, C = x_BTC.shape
        qkv = self.qkv(norm(x_BTC, self.norm1, self.eps)).view(B, T, 3, self.H, C // self.H)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTC = x_BTC + self.wo(o.transpose(1, 2).reshape(B, T, C))
        gate, up = self.gate_up(norm(x_BTC, self.norm2, self.eps)).chunk(2, dim=-1)
        return x_BTC + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    """Returns the loss. `config` is a Hugging Face config.json: no grouped heads, own head."""

    def __init__(self, config):
        super().__init__()
        C, H, V = (config[key] for key in ("hidden_size", "num_attention_heads", "vocab_size"))
        F_, T, L = (config[key] for key in ("intermediate_size", "max_position_embeddings", "num_hidden_layers"))
        self.eps = config["rms_norm_eps"]
        self.embed = nn.Embedding(V, C)
        self.blocks = nn.ModuleList(Block(C, H, F_, self.eps) for _ in range(L))
        self.norm = nn.Parameter(torch.empty(C))
        self.head = nn.Linear(C, V, bias=False)
        D = C // H
        # T rows of D / 2: rotary positions pair the halves of a head.
        frequency = config["rope_theta"] ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
        angle = torch.outer(torch.arange(T, dtype=torch.float64), frequency)
        self.cos, self.sin = angle.cos().float(), angle.sin().float()

    def forward(self, tokens_BT, targets_BT):
        x_BTC = self.embed(tokens_BT)
        for block in self.blocks:
            x_BTC = block(x_BTC, self.cos, self.sin)
        logits = self.head(norm(x_BTC, self.norm, self.eps))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets_BT.flatten())

    @torch.no_grad()
    def draw(self):
        """Weights of the same distribution as ours, where there is no file of them."""
        for w in self.parameters():
            w.normal_(0.0, 0.02) if w.dim() == 2 else w.fill_(1.0)

    @torch.no_grad()
    def load(self, path):
        """Takes the tensors of a safetensors file with Hugging Face's names, one at a time."""
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            start = file.tell()

            def tensor(name):
                first, end = header[name]["data_offsets"]
                file.seek(start + first)
                return torch.frombuffer(bytearray(file.read(end - first)), dtype=torch.float32)

            def fill(parameter, *names):
                parts = [tensor(name + ".weight") for name in names]
                parameter.copy_(torch.cat(parts).view_as(parameter))

            fill(self.embed.weight, "model.embed_tokens")
            fill(self.norm, "model.norm")
            fill(self.head.weight, "lm_head")
            for i, block in enumerate(self.blocks):
                at = f"model.layers.{i}."
                fill(block.norm1, at + "input_layernorm")
                fill(block.norm2, at + "post_attention_layernorm")
                fill(block.qkv.weight, *(f"{at}self_attn.{part}_proj" for part in "qkv"))
                fill(block.wo.weight, at + "self_attn.o_proj")
                fill(block.gate_up.weight, at + "mlp.gate_proj", at + "mlp.up_proj")
                fill(block.down.weight, at + "mlp.down_proj")


def norm(x, w_C, eps):
    return F.rms_norm(x, w_C.shape, w_C.to(x.dtype), eps)


def rotate(x, cos, sin):
    (a, b), cos, sin = x.chunk(2, dim=-1), cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Skewed:
    """The tokens of benches/common/step.rs."""

    def __init__(self, V):
        self.state, self.V = 1235, V

    def id(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        u = (self.state >> 40) / 2**24
        return int(self.V * (u * u) * (u * u))

    def batch(self, B, T):
        rows = torch.tensor([[self.id() for _ in range(T + 1)] for _ in range(B)])
        rows = rows.to(worker.device())
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


class Training:
    """`mode` is f32; autocast (f32 weights, products in bf16); or master (everything bf16, AdamW on an
    f32 copy of the weights)."""

    def __init__(self, directory, mode, compiled):
        with open(os.path.join(directory, "config.json")) as file:
            config = json.load(file)
        weights = os.path.join(directory, "model.safetensors")
        if os.path.exists(weights):
            model = Llama(config)
            model.load(weights)
            model.to(worker.device())
        else:
            with torch.device(worker.device()):
                model = Llama(config)
            model.draw()
        model.cos, model.sin = model.cos.to(worker.device()), model.sin.to(worker.device())
        self.weights = list(model.parameters())
        self.master = self.weights
        if mode == "master":
            self.master = [nn.Parameter(w.detach().clone()) for w in self.weights]
            model.bfloat16()
        matrices = [w for w in self.master if w.dim() == 2]
        gains = [w for w in self.master if w.dim() == 1]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.loss = torch.compile(model) if compiled else model
        self.autocast = torch.autocast(worker.device(), torch.bfloat16, enabled=mode == "autocast")

    def step(self, tokens_BT, targets_BT):
        with self.autocast:
            loss = self.loss(tokens_BT, targets_BT)
        loss.backward()
        if self.master is not self.weights:
            for master, w in zip(self.master, self.weights):
                master.grad, w.grad = w.grad.float(), None
        nn.utils.clip_grad_norm_(self.master, 1.0)
        self.adamw.step()
        self.adamw.zero_grad()
        if self.master is not self.weights:
            with torch.no_grad():
                for master, w in zip(self.master, self.weights):
                    w.copy_(master)
        return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", help="a Hugging Face directory: sizes, and first weights if it has them")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--mode", choices=["f32", "autocast", "master"], required=True)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(worker.threads())
    torch.ones(64, 64) @ torch.ones(64, 64)  # loads what the first product loads
    base = worker.resident("VmRSS")
    training = Training(args.directory, args.mode, args.compile)
    model = getattr(training.loss, "_orig_mod", training.loss)
    V, T = model.head.out_features, len(model.cos)
    tokens = Skewed(V)

    def answer(steps):
        worker.reset_peak()
        if worker.device() == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds, losses = [], []
        for _ in range(int(steps)):
            batch = tokens.batch(args.batch, T)
            start = time.perf_counter()
            losses.append(training.step(*batch))
            seconds.append(time.perf_counter() - start)
        answer = {"seconds": seconds, "losses": losses, "peak_bytes": worker.resident("VmHWM") - base}
        if worker.device() == "cuda":
            answer["peak_bytes"] = torch.cuda.max_memory_allocated()
            answer["reserved_bytes"] = torch.cuda.max_memory_reserved()
        return answer

    worker.serve({}, answer)


if __name__ == "__main__":
    main()
