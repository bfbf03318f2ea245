"""PyTorch's side of `compare.py attention` and `compare.py gemm`: single ops.

Requests: "DTYPE T H D CALLS" (causal attention, forward and backward), or "DTYPE fwd|dx|dw N I O CALLS"
(one product of a linear layer).
"""

import sys

import torch
import torch.nn.functional as F

import worker

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def attention(dtype, *sizes):
    T, H, D, calls = map(int, sizes)
    # As in a model: rows are tokens, heads lie side by side in them.
    q, k, v, d_o = (torch.rand(1, T, H, D).to(DTYPES[dtype]).transpose(1, 2) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]

    def call():
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.autograd.grad(o, inputs, d_o)

    return worker.timed(calls, call)


@torch.no_grad()
def gemm(dtype, product, *sizes):
    N, I, O, calls = map(int, sizes)
    x_NI, y_NO, w_OI = (torch.rand(shape).to(DTYPES[dtype]) for shape in ((N, I), (N, O), (O, I)))
    a, b, out = {
        "fwd": (x_NI, w_OI.t(), y_NO),
        "dx": (y_NO, w_OI, x_NI),
        "dw": (y_NO.t(), x_NI, w_OI),
    }[product]
    return worker.timed(calls, lambda: torch.mm(a, b, out=out))


if __name__ == "__main__":
    torch.set_num_threads(worker.threads())
    worker.serve({}, {"attention": attention, "gemm": gemm}[sys.argv[1]])
