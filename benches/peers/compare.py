#!/usr/bin/env python3
"""Handgrad beside PyTorch on this machine: the same work, in turns, in one run.

    python3 benches/peers/compare.py step --sizes S15,S42 --python VENV/bin/python

A worker process of each side stays alive; they compute in turns, and the one whose turn it is not is
stopped. Both start from the same weights and see the same tokens, so their losses must agree. A ratio is
the median over the rounds of ours / PyTorch's in the same round; above 1 means that Handgrad is faster
(for memory: below 1 means that it needs less). Peaks are measured between the turns: multiply-adds in f32,
and dot products of bf16 where the CPU has them. Each case is printed, and written with --json, once it is
done.

A peer is MODE[+compile][+tuned]. The modes are f32; autocast (bf16 products of f32 weights); master (all
in bf16, AdamW on an f32 copy, as ours in bf16). `tuned` lifts the vendor check that keeps MKL from its
AVX-512 code on other makers' processors, and preloads tcmalloc if it is installed; without it, PyTorch is
as pip installs it.

With --device cuda both sides compute on the GPU, and each is alone in its memory: steps run one process
after the other, single ops take turns and hold nothing in between. Memory is what a side's own tensors
take. The peaks are PyTorch's product of 8192 squared and its copy, measured before the first case and
after the last. --device cuda-emulated runs our side on the emulator and PyTorch on the CPU: a rehearsal
whose times say nothing.
"""

import argparse
import contextlib
import ctypes
import ctypes.util
import datetime
import functools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MIB = 1 << 20
SHAPES = "288x288,288x768,512x1376,768x768,768x2048,2048x768,768x32000,1024x1024,2048x2048"
PASSES = "rmsnorm_forward,rmsnorm_backward,swiglu_forward,swiglu_backward,rope,adamw"
# Dense bf16 FLOP/s as makers state them, for MFU.
STATED = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
PEERS = "f32,f32+compile+tuned,autocast+compile+tuned,master+compile+tuned"


def die_with_parent():
    """Linux: this process, stopped or not, ends when the one that started it ends in whatever way."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Failed(Exception):
    """What a side could not do, in a line."""


class Worker:
    """A process that answers a line with a line of JSON, stopped between requests. It starts when it is
    first needed, and again after it has died."""

    def __init__(self, command, env=None):
        self.command, self.env, self.process = command, env, None

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.ready = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            code, self.process = self.process.wait(), None
            raise Failed(f"{' '.join(self.command)}: ended with code {code}; see its message above")
        self.process.send_signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def ask(self, *words):
        if self.process is None:
            self.start()
        self.process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            print(*words, file=self.process.stdin, flush=True)
        return self.answer()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def fail(message):
    sys.exit(f"error: {message}")


def check_torch(python):
    try:
        version = "import importlib.metadata as packages; print(packages.version('torch'))"
        found = subprocess.run([python, "-c", version], capture_output=True, text=True)
    except OSError as error:
        fail(f"--python {python}: {error.strerror}; name a Python that has torch")
    if found.returncode:
        why = found.stderr.strip().splitlines()[-1]
        fail(f"--python {python}: {why}; `pip install torch` there, or name a Python that has it")
    return found.stdout.strip()


def our_worker():
    """Builds benches/peers/worker.rs and returns where it lies."""
    command = ["cargo", "bench", "--quiet", "--no-run", "--bench", "peer", "--message-format=json"]
    build = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if build.returncode:
        fail(f"{' '.join(command)}: failed; see cargo's message above")
    messages = map(json.loads, build.stdout.splitlines())
    return next(path for path in (message.get("executable") for message in messages) if path)


@functools.cache
def tuned_environment():
    unlock = os.path.join(scratch(), "mkl.so")
    source = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-o", unlock, "-"]
    if shutil.which("cc") is None or subprocess.run(command, input=source, text=True).returncode:
        fail("+tuned needs a working C compiler, cc; install one, or leave +tuned out of --peers")
    preload = [unlock, ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc")]
    if preload[1] is None:
        print("no tcmalloc (Debian: libtcmalloc-minimal4): tuned is without it", file=sys.stderr)
    return {**os.environ, "LD_PRELOAD": " ".join(filter(None, preload))}


@functools.cache
def scratch():
    directory = tempfile.TemporaryDirectory()
    scratch.directory = directory  # lives as long as this process
    return directory.name


def environment(tuned, device="cpu"):
    return {**(tuned_environment() if tuned else os.environ), "PEER_DEVICE": device}


def torch_worker(args, script, *words, tuned=False):
    return Worker([args.python, os.path.join(HERE, script), *words], environment(tuned, args.device))


def our_command(args, *words):
    return [args.worker, *([] if args.device == "cpu" else [f"--device={args.device}"]), *words]


def ceilings(args):
    """PyTorch's large product and copy, by a worker that ends with this; see `peaks`."""
    with torch_worker(args, "ops_torch.py") as torch:
        return peaks(args, torch)


def peaks(args, torch):
    """PyTorch's large product and copy; of nothing large where a GPU is only rehearsed."""
    return torch.ask("ceilings", *((8192, 20) if args.device == "cuda" else (256, 1)))


class Figures:
    """Figures of one side's rounds, each a list of seconds, and of both sides' ratio."""

    def __init__(self, rounds):
        self.rounds = rounds

    def per_second(self, amount):
        return [amount / second for round in self.rounds for second in round["seconds"]]

    def median(self):
        return [statistics.median(round["seconds"]) for round in self.rounds]

    def peak_mib(self):
        """Bytes of tensors; on a GPU PyTorch's allocator reserves more."""
        return max(round["peak_bytes"] for round in self.rounds) / MIB


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def ratios(ours, torch):
    return [theirs / mine for mine, theirs in zip(ours.median(), torch.median())]


def row(cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def header(cells):
    row(cells)
    print("|" + "---|" * len(cells), flush=True)


def keep(args, result):
    """Writes every figure so far; a kill at any moment leaves the last file or this one."""
    args.results.append(result)
    save(args)


def save(args, after=None):
    if args.json:
        found = {"torch": args.torch, "subject": args.subject, "results": args.results}
        found["ceilings"] = [args.ceilings, after]
        with open(args.json + ".tmp", "w") as file:
            json.dump(found, file, indent=1)
        os.replace(args.json + ".tmp", args.json)


# ---- the training step --------------------------------------------------------------------------


def compare_step(args):
    columns = ["size", "ours", "PyTorch", "tokens/s, ours", "tokens/s, PyTorch", "GFLOP/s", "of the peak"]
    columns += ["MFU"] * (args.device != "cpu")
    header([*columns, "faster", "peak MiB", "memory", "first loss", "last loss"])
    if args.device != "cpu":
        args.ceilings = ceilings(args)
    for size in args.sizes.split(","):
        directory = os.path.join(scratch(), size)
        exported = subprocess.run([args.worker, "export", size, directory])
        if exported.returncode:
            fail(f"--sizes {size}: no such size")
        for peer in args.peers.split(","):
            try:
                result = step_beside(args, size, directory, peer)
            except Failed as error:
                row([size, "", peer, f"failed: {error}"])
                continue
            print_step(result)
            keep(args, result)
    if args.device != "cpu":
        conclude(args, ceilings(args))


def peer_words(peer):
    """What llama_torch.py takes for MODE[+compile][+tuned], and our storage type beside it."""
    mode, *extras = peer.split("+")
    if mode not in ("f32", "autocast", "master") or not {"compile", "tuned"}.issuperset(extras):
        fail(f"--peers {peer}: must be f32, autocast or master, then +compile and +tuned as wanted")
    return ["--mode", mode, *(["--compile"] * ("compile" in extras))], "f32" if mode == "f32" else "bf16"


def step_beside(args, size, directory, peer):
    """Steps of both sides: in turns on the CPU, one side after the other where memory is a GPU's."""
    words, dtype = peer_words(peer)
    counts = [args.warmup] + [args.steps] * args.rounds
    ours = Worker(our_command(args, "step", size, dtype))
    with ours:
        ready = ours.ready
        words = [directory, "--batch", str(ready["batch"]), *words]
        if args.device != "cpu":
            alone = [ours.ask(n) for n in counts]
            ours.end()
        with torch_worker(args, "llama_torch.py", *words, tuned="tuned" in peer) as torch:
            if args.device != "cpu":
                rounds = list(zip(alone, [torch.ask(n) for n in counts]))
            else:
                rounds = [(ours.ask(n), torch.ask(n)) for n in counts]
    result = {"size": size, "peer": peer, "dtype": dtype, **ready, "rounds": rounds}
    if args.device != "cpu":
        result |= {"peak": args.ceilings["flops"] / 1e9, "device": args.ceilings["device"]}
    return result


def sides(result):
    """Both sides' rounds without the one for warming up."""
    return [Figures(rounds) for rounds in zip(*result["rounds"][1:])]


def step_ratios(result):
    return ratios(*sides(result))


def mfu(gflops, device):
    """Of what the maker states; 6P + 6LCT FLOP a token, causal."""
    stated = next((flops for name, flops in STATED.items() if name in device), None)
    return " / ".join(f"{1e11 * value / stated:.1f} %" for value in gflops) if stated else "not stated"


def print_step(result):
    ours, torch = sides(result)
    ratio, memory = step_ratios(result), (ours.peak_mib(), torch.peak_mib())
    gflops = [result["flop"] / statistics.median(side.median()) / 1e9 for side in (ours, torch)]
    peaks = [round["peak_flops"] for round in ours.rounds]
    peak = result.get("peak") or statistics.median(peak[result["dtype"]] for peak in peaks) / 1e9
    first, last = ([side["losses"][i] for side in result["rounds"][i]] for i in (0, -1))
    row(
        [result["size"], result["dtype"], result["peer"]]
        + [spread(side.per_second(result["tokens"]), ".0f") for side in (ours, torch)]
        + [" / ".join(f"{value:.0f}" for value in gflops)]
        + [" / ".join(f"{100 * value / peak:.0f} %" for value in gflops)]
        + ([mfu(gflops, result["device"])] if "device" in result else [])
        + [spread(ratio, ".2f"), " / ".join(f"{value:.0f}" for value in memory)]
        + [f"{memory[0] / memory[1]:.2f}"]
        + [" / ".join(f"{loss:.5f}" for loss in losses) for losses in (first, last)]
    )


# ---- single ops ---------------------------------------------------------------------------------


# FLOP of attention: products of each query with each key that it sees, two forward, five backward.
PARTS = {"fwd": 2, "bwd": 5, "both": 7}


def compare_attention(args):
    lengths = [int(T) for T in args.lengths.split(",")]
    parts = ["both"] if args.device == "cpu" else ["fwd", "bwd"]
    cases = [(dtype, part, T, args.heads, args.width) for dtype in args.dtypes.split(",") for T in lengths for part in parts]
    flop = [PARTS[part] * 2 * T * (T + 1) / 2 * H * D for _, part, T, H, D in cases]
    compare_ops(args, ["type", "part", "T", "H", "D"], cases, flop, op_sides(args))


def compare_gemm(args):
    shapes = [tuple(map(int, shape.split("x"))) for shape in args.shapes.split(",")]
    kinds = ("fwd", "dx", "dw")
    products = [(kind, args.rows or I, I, O) for I, O in shapes for kind in kinds]
    for dtype in args.dtypes.split(","):
        others = {}
        if dtype == "f32" and args.device == "cpu" and not args.no_crates:
            others = {name: (Worker([args.crates or rust_crates(), name]), None) for name in ("gemm", "faer")}
        cases = [(dtype, *product) for product in products]
        flop = [2 * N * I * O for _, N, I, O in products]
        compare_ops(args, ["type", "product", "N", "I", "O"], cases, flop, {**op_sides(args), **others})


def compare_memory(args):
    cases = [(op, dtype, args.rows, args.width) for dtype in args.dtypes.split(",") for op in args.passes.split(",")]
    compare_ops(args, ["pass", "type", "N", "C"], cases, [None] * len(cases), op_sides(args))


def op_sides(args):
    """Worker processes by side, each with the subject that its requests begin with."""
    ours = Worker(our_command(args, "ops"), environment(False, args.device))
    command = [args.python, os.path.join(HERE, "ops_torch.py")]
    torch = Worker(command, environment(False, args.device))
    sides = {"ours": (ours, args.subject)}
    if args.subject == "memory":
        return {**sides, "PyTorch": (torch, "memory"), "PyTorch compiled": (torch, "memory:compile")}
    if args.device == "cpu":
        tuned = Worker(command, environment(True))
        return {**sides, "PyTorch": (torch, args.subject), "PyTorch tuned": (tuned, args.subject)}
    if args.subject == "attention":
        backends = {"flash": "attention:FLASH_ATTENTION", "cuDNN": "attention:CUDNN_ATTENTION"}
        return {**sides, **{name: (torch, subject) for name, subject in backends.items()}}
    return {**sides, "cuBLAS": (torch, "gemm")}


def rust_crates():
    """Builds benches/peers/gemm and returns where it lies."""
    manifest = os.path.join(HERE, "gemm", "Cargo.toml")
    target = os.path.join(ROOT, "target", "peers")
    command = ["cargo", "build", "--quiet", "--release", "--manifest-path", manifest, "--target-dir", target]
    if subprocess.run(command).returncode:
        fail(f"{' '.join(command)}: failed; see cargo's message above, or leave it out with --no-crates")
    return os.path.join(target, "release", "gemm-peers")


def ask_side(side, case, calls):
    """What a side says of a case; None where it cannot do it, which stderr explains."""
    worker, subject = side
    words = [*case, calls] if subject is None else [subject, *case, calls]
    try:
        return worker.ask(*words)
    except Failed as error:
        print(f"{' '.join(map(str, words))}: {error}", file=sys.stderr)
        return None


def compare_ops(args, columns, cases, flop, sides):
    """Every case in turn on every side, `rounds` times; a row of figures each, with shares of the peak."""
    scale, unit = (1e12, "TFLOP/s") if args.device == "cuda" else (1e9, "GFLOP/s")
    unit, share = ("GB/s", "of the copy") if args.subject == "memory" else (unit, "of the peak")
    header([*columns, *(f"{name}, {unit}, {share}" for name in sides), "ours / best other"])
    results, needs_peaks = [], args.device != "cpu" or args.subject == "memory"
    with contextlib.ExitStack() as stack:
        for worker, _ in sides.values():
            stack.callback(worker.end)
        if needs_peaks:
            args.ceilings = peaks(args, list(sides.values())[1][0])
        for case, flop in zip(cases, flop):
            results.append(compare_case(args, case, flop, sides))
            print_case(results[-1], 1e9 if unit == "GB/s" else scale)
            keep(args, results[-1])
        after = peaks(args, list(sides.values())[1][0]) if needs_peaks else None
    print_mean(results, len(columns), 1e9 if unit == "GB/s" else scale)
    if needs_peaks:
        conclude(args, after)


def compare_case(args, case, flop, sides):
    # Calls that take about a fifth of a second.
    first = ask_side(sides["ours"], case, 1)
    seconds = min(first["seconds"]) if first else 0.01
    calls = 1 if args.device == "cuda-emulated" else max(1, min(1000, round(0.2 / seconds)))
    flop = flop or (first and first["bytes"])
    rounds = [{name: ask_side(side, case, calls) for name, side in sides.items()} for _ in range(args.rounds)]
    rate = {
        name: [flop / statistics.median(r[name]["seconds"]) for r in rounds if r[name]] if flop else []
        for name in sides
    }
    if args.subject == "memory":
        peak = args.ceilings["bandwidth"]
    elif args.device != "cpu":
        peak = args.ceilings["flops"]
    else:
        key = case[0]
        peak = statistics.median([r["ours"]["peak_flops"][key] for r in rounds if r["ours"]] or [float("nan")])
    return {"case": case, "flop": flop, "calls": calls, "peak": peak, "rate": rate}


def medians(result):
    """By side, what it reached a second; without the sides that failed."""
    return {name: statistics.median(values) for name, values in result["rate"].items() if values}


def ratio(result):
    """Ours / the best other side's; None where one of them failed."""
    rates = medians(result)
    others = [value for name, value in rates.items() if name != "ours"]
    return rates["ours"] / max(others) if "ours" in rates and others else None


def print_case(result, scale):
    cells = []
    for values in result["rate"].values():
        shares = [100 * value / result["peak"] for value in values]
        form = ".0f" if not values or min(values) > 50 * scale else ".1f"
        cells.append(
            f"{spread([v / scale for v in values], form)} {statistics.median(shares):.0f} %" if values else "failed"
        )
    row([*result["case"], *cells, f"{ratio(result):.2f}" if ratio(result) else ""])


def print_mean(results, columns, scale):
    whole = [result for result in results if all(result["rate"].values())]
    if not whole:
        return
    mean, cells = statistics.geometric_mean, []
    for name in whole[0]["rate"]:
        rates = [medians(result)[name] for result in whole]
        shares = [rate / result["peak"] for rate, result in zip(rates, whole)]
        cells.append(f"{mean(rates) / scale:.0f} {100 * mean(shares):.0f} %")
    row(["geometric mean", *[""] * (columns - 1), *cells, f"{mean(map(ratio, whole)):.2f}"])


def conclude(args, after):
    """The peaks before and after, which figures hold between only if they agree."""
    save(args, after)
    before, today = args.ceilings, datetime.date.today().isoformat()
    keys = ("flops", "bandwidth")
    pairs = [f"{1e-9 * before[key]:.0f} before and {1e-9 * after[key]:.0f} after" for key in keys]
    apart = max(abs(after[key] / before[key] - 1) for key in keys)
    print(
        f"\n{before['device']}, PyTorch {before['torch']}, {today}: product {pairs[0]} GFLOP/s, copy {pairs[1]} GB/s"
        + (f"; {100 * apart:.1f} % apart: above 2 % the figures do not hold" if apart > 0.02 else "")
    )


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch (default: this one)")
    parser.add_argument("--worker", help="the built worker (default: cargo builds it)")
    parser.add_argument("--json", help="write every single figure to this file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda", "cuda-emulated"], default="cpu")
    subjects = parser.add_subparsers(dest="subject", required=True)
    step = subjects.add_parser("step", help="whole training steps: forward, backward, clipping, AdamW")
    step.set_defaults(run=compare_step)
    step.add_argument("--sizes", default="S15,S42", help="of S15, S42, S110, Long; G110, G1B (default: S15,S42)")
    step.add_argument("--peers", default=PEERS, help=f"default: {PEERS}")
    step.add_argument("--steps", type=int, default=2, help="steps of a round (default: 2)")
    step.add_argument("--warmup", type=int, default=3, help="steps before the first round (default: 3)")
    attention = subjects.add_parser("attention", help="causal attention, forward and backward, one sequence")
    attention.set_defaults(run=compare_attention)
    attention.add_argument("--lengths", default="1024,2048,4096,8192", help="T (default: 1024,2048,4096,8192)")
    attention.add_argument("--heads", type=int, default=8, help="H (default: 8)")
    attention.add_argument("--width", type=int, default=64, help="D (default: 64)")
    gemm = subjects.add_parser("gemm", help="matrix products of linear layers: y = x W^T, dx = dy W, dw = dy^T x")
    gemm.set_defaults(run=compare_gemm)
    gemm.add_argument("--rows", type=int, default=2048, help="N, tokens (default: 2048); 0: as many as inputs")
    gemm.add_argument("--shapes", default=SHAPES, help=f"IxO, inputs and outputs (default: {SHAPES})")
    gemm.add_argument("--crates", help="the built benches/peers/gemm (default: cargo builds it)")
    gemm.add_argument("--no-crates", action="store_true", help="PyTorch only, not the crates gemm and faer")
    memory = subjects.add_parser("memory", help="passes over memory: norms, SwiGLU, RoPE, AdamW")
    memory.set_defaults(run=compare_memory)
    memory.add_argument("--passes", default=PASSES, help=f"default: {PASSES}")
    memory.add_argument("--rows", type=int, default=16384, help="N (default: 16384)")
    memory.add_argument("--width", type=int, default=2048, help="C, whole heads of 64 (default: 2048)")
    for op in (attention, gemm, memory):
        op.add_argument("--dtypes", default="f32,bf16", help="default: f32,bf16")
    args = parser.parse_args(words)

    args.torch = check_torch(args.python)
    args.worker = args.worker or our_worker()
    args.ceilings, args.results = None, []
    try:
        args.run(args)
    except Failed as error:
        fail(error)


if __name__ == "__main__":
    main()
