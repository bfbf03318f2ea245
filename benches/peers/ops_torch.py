"""PyTorch's side of `compare.py attention`, `gemm` and `memory`: single ops, on PEER_DEVICE.

Requests, after the subject and, behind a colon, how PyTorch is to do it (compile, FLASH_ATTENTION,
CUDNN_ATTENTION; its own choice without):

    attention DTYPE fwd|bwd|both T H D CALLS    causal attention
    gemm DTYPE fwd|dx|dw N I O CALLS            a product of a linear layer
    memory OP DTYPE N C CALLS                   a pass over memory
    ceilings SIZE CALLS                         a square product in bf16, and a copy of as many bytes
"""

import contextlib

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import worker

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def rand(*shape, dtype="f32"):
    return torch.randn(*shape, device=worker.device()).to(DTYPES[dtype])


def backend(how):
    """The kernels of attention that the request names; PyTorch's choice otherwise."""
    kernels = getattr(SDPBackend, how) if how else None
    if kernels is None or worker.device() == "cpu":
        return contextlib.nullcontext()
    return sdpa_kernel(kernels)


def compiled(how, function):
    return torch.compile(function) if how == "compile" else function


def attention(how, dtype, part, *sizes):
    T, H, D, calls = map(int, sizes)
    # As in a model: rows are tokens, heads lie side by side in them.
    q, k, v, d_o = (rand(1, T, H, D, dtype=dtype).transpose(1, 2) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]

    def forward():
        with backend(how):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    if part == "fwd":
        return worker.timed(calls, torch.no_grad()(forward))
    if part == "both":
        return worker.timed(calls, lambda: torch.autograd.grad(forward(), inputs, d_o))
    o = forward()
    return worker.timed(calls, lambda: torch.autograd.grad(o, inputs, d_o, retain_graph=True))


@torch.no_grad()
def gemm(how, dtype, product, *sizes):
    N, I, O, calls = map(int, sizes)
    x_NI, y_NO, w_OI = (rand(*shape, dtype=dtype) for shape in ((N, I), (N, O), (O, I)))
    a, b, out = {
        "fwd": (x_NI, w_OI.t(), y_NO),
        "dx": (y_NO, w_OI, x_NI),
        "dw": (y_NO.t(), x_NI, w_OI),
    }[product]
    return worker.timed(calls, lambda: torch.mm(a, b, out=out))


def memory(how, op, dtype, *sizes):
    N, C, calls = map(int, sizes)
    x, y = rand(N, C, dtype=dtype), rand(N, C, dtype=dtype)
    if op in ("rmsnorm_forward", "rmsnorm_backward"):
        w = rand(C, dtype=dtype)
        norm = compiled(how, lambda x, w: F.rms_norm(x, w.shape, w, 1e-5))
        return forward_or_backward(op, norm, [x, w], y, calls)
    if op in ("swiglu_forward", "swiglu_backward"):
        product = compiled(how, lambda gu: F.silu(gu[:, :C]) * gu[:, C:])
        return forward_or_backward(op, product, [rand(N, 2 * C, dtype=dtype)], y, calls)
    if op == "rope":
        cos, sin = (rand(N, 1, 32) for _ in range(2))

        def turn(x):
            a, b = x.view(N, C // 64, 64).chunk(2, dim=-1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)

        turn = compiled(how, turn)
        return worker.timed(calls, torch.no_grad()(lambda: turn(x)))
    if op == "adamw":
        w = torch.nn.Parameter(rand(N, C))
        w.grad = rand(N, C)
        step = torch.optim.AdamW([w], lr=1e-4, betas=(0.9, 0.95), fused=True).step

        def update():
            step()
            y.copy_(w.detach())

        return worker.timed(calls, update)
    raise ValueError(f"no pass {op}")


def forward_or_backward(op, function, inputs, gradient, calls):
    if op.endswith("forward"):
        return worker.timed(calls, torch.no_grad()(lambda: function(*inputs)))
    for x in inputs:
        x.requires_grad_()
    out = function(*inputs)
    return worker.timed(calls, lambda: torch.autograd.grad(out, inputs, gradient, retain_graph=True))


@torch.no_grad()
def ceilings(how, size, calls):
    n, calls = int(size), int(calls)
    a, b, c = (rand(n, n, dtype="bf16") for _ in range(3))
    product = min(worker.timed(calls, lambda: torch.mm(a, b, out=c))["seconds"])
    copy = min(worker.timed(calls, lambda: c.copy_(a))["seconds"])
    name = torch.cuda.get_device_name() if worker.device() == "cuda" else "cpu"
    return {"flops": 2 * n**3 / product, "bandwidth": 2 * a.nbytes / copy, "device": name, "torch": torch.__version__}


def answer(request, *words):
    subject, _, how = request.partition(":")
    subjects = {"attention": attention, "gemm": gemm, "memory": memory, "ceilings": ceilings}
    try:
        return subjects[subject](how, *words)
    finally:
        worker.release()


if __name__ == "__main__":
    torch.set_num_threads(worker.threads())
    worker.serve({}, answer)
