#!/usr/bin/env python3
"""Handgrad beside PyTorch on this machine: the same work, in turns, in one run.

    python3 benches/peers/compare.py step --sizes S15,S42 --python VENV/bin/python

A worker process of each side stays alive; they compute in turns, and the one whose turn it is not is
stopped. Both start from the same weights and see the same tokens, so their losses must agree. A ratio is
the median over the rounds of ours / PyTorch's in the same round; above 1 means that Handgrad is faster
(for memory: below 1 means that it needs less). Peaks are measured between the turns: multiply-adds in f32,
and dot products of bf16 where the CPU has them.

A peer is MODE[+compile][+tuned]. The modes are f32; autocast (bf16 products of f32 weights); master (all
in bf16, AdamW on an f32 copy, as ours in bf16). `tuned` lifts the vendor check that keeps MKL from its
AVX-512 code on other makers' processors, and preloads tcmalloc if it is installed; without it, PyTorch is
as pip installs it.

With --device cuda both sides compute on the GPU; the peaks are then PyTorch's product of 8192 squared and
its copy, measured before the first case and after the last. --device cuda-emulated runs our side on the
emulator and PyTorch on the CPU: a rehearsal whose times say nothing.
"""

import argparse
import contextlib
import datetime
import ctypes.util
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


class Worker:
    """A process that answers a line with a line of JSON, stopped between requests."""

    def __init__(self, command, env=None):
        self.command = command
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ready = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            fail(f"{' '.join(self.command)}: ended with code {self.process.wait()}; see its message above")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def ask(self, *words):
        self.process.send_signal(signal.SIGCONT)
        print(*words, file=self.process.stdin, flush=True)
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def fail(message):
    sys.exit(f"error: {message}")


def check_torch(python):
    try:
        found = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
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
    """PyTorch's large product and copy; of nothing large where a GPU is only rehearsed."""
    with torch_worker(args, "ops_torch.py", "ceilings") as torch:
        return torch.ask(*((8192, 20) if args.device == "cuda" else (256, 1)))


class Figures:
    """Figures of one side's rounds, each a list of seconds, and of both sides' ratio."""

    def __init__(self, rounds):
        self.rounds = rounds

    def per_second(self, amount):
        return [amount / second for round in self.rounds for second in round["seconds"]]

    def median(self):
        return [statistics.median(round["seconds"]) for round in self.rounds]

    def peak_mib(self):
        return max(round["peak_bytes"] for round in self.rounds) / MIB


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def ratios(ours, torch):
    return [theirs / mine for mine, theirs in zip(ours.median(), torch.median())]


def table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


# ---- the training step --------------------------------------------------------------------------


def compare_step(args):
    results = []
    for size in args.sizes.split(","):
        directory = os.path.join(scratch(), size)
        exported = subprocess.run([args.worker, "export", size, directory])
        if exported.returncode:
            fail(f"--sizes {size}: no such size")
        for peer in args.peers.split(","):
            mode, *extras = peer.split("+")
            if mode not in ("f32", "autocast", "master") or not {"compile", "tuned"}.issuperset(extras):
                fail(f"--peers {peer}: must be f32, autocast or master, then +compile and +tuned as wanted")
            dtype = "f32" if mode == "f32" else "bf16"
            with Worker(our_command(args, "step", size, dtype)) as ours:
                words = [directory, "--batch", str(ours.ready["batch"]), "--mode", mode]
                words += ["--compile"] * ("compile" in extras)
                with torch_worker(args, "llama_torch.py", *words, tuned="tuned" in extras) as torch:
                    rounds = [(ours.ask(n), torch.ask(n)) for n in [args.warmup] + [args.steps] * args.rounds]
            results.append({"size": size, "peer": peer, "dtype": dtype, **ours.ready, "rounds": rounds})
            if args.device != "cpu":
                results[-1] |= {"peak": args.ceilings["flops"] / 1e9, "device": args.ceilings["device"]}
            print(f"{size} {peer}: {statistics.median(step_ratios(results[-1])):.2f}x", file=sys.stderr)
    print_steps(results)
    return results


def sides(result):
    """Both sides' rounds without the one for warming up."""
    return [Figures(rounds) for rounds in zip(*result["rounds"][1:])]


def step_ratios(result):
    return ratios(*sides(result))


def mfu(gflops, device):
    """Of what the maker states; 6P + 6LCT FLOP a token, causal."""
    stated = next((flops for name, flops in STATED.items() if name in device), None)
    return " / ".join(f"{1e11 * value / stated:.1f} %" for value in gflops) if stated else "not stated"


def print_steps(results):
    header = ["size", "ours", "PyTorch", "tokens/s, ours", "tokens/s, PyTorch", "GFLOP/s", "of the peak"]
    header += ["MFU"] * ("device" in results[0])
    header += ["faster", "peak MiB", "memory", "first loss", "last loss"]
    rows = []
    for result in results:
        ours, torch = sides(result)
        ratio, memory = step_ratios(result), (ours.peak_mib(), torch.peak_mib())
        gflops = [result["flop"] / statistics.median(side.median()) / 1e9 for side in (ours, torch)]
        peaks = [round["peak_flops"] for round in ours.rounds]
        peak = result.get("peak") or statistics.median(peak[result["dtype"]] for peak in peaks) / 1e9
        first, last = ([side["losses"][i] for side in result["rounds"][i]] for i in (0, -1))
        rows.append(
            [result["size"], result["dtype"], result["peer"]]
            + [spread(side.per_second(result["tokens"]), ".0f") for side in (ours, torch)]
            + [" / ".join(f"{value:.0f}" for value in gflops)]
            + [" / ".join(f"{100 * value / peak:.0f} %" for value in gflops)]
            + ([mfu(gflops, result["device"])] if "device" in result else [])
            + [spread(ratio, ".2f"), " / ".join(f"{value:.0f}" for value in memory)]
            + [f"{memory[0] / memory[1]:.2f}"]
            + [" / ".join(f"{loss:.5f}" for loss in losses) for losses in (first, last)]
        )
    table(header, rows)


# ---- single ops ---------------------------------------------------------------------------------


def compare_attention(args):
    lengths = [int(T) for T in args.lengths.split(",")]
    cases = [(dtype, T, args.heads, args.width) for dtype in args.dtypes.split(",") for T in lengths]
    # A product of each query with each key it sees; two products forward, five backward.
    flop = [7 * 2 * T * (T + 1) / 2 * H * D for _, T, H, D in cases]
    commands = {"ours": our_command(args, "attention"), **torch_ops(args, "attention")}
    results = compare_ops(args, cases, flop, commands)
    print_ops(["type", "T", "H", "D"], results)
    return results


def compare_gemm(args):
    shapes = [tuple(map(int, shape.split("x"))) for shape in args.shapes.split(",")]
    kinds = ("fwd", "dx", "dw") if args.device == "cpu" else ("fwd", "bwd")
    products = [(kind, args.rows or I, I, O) for I, O in shapes for kind in kinds]
    commands = {"ours": our_command(args, "gemm"), **torch_ops(args, "gemm")}
    results = []
    for dtype in args.dtypes.split(","):
        if dtype == "f32" and args.device == "cpu" and not args.no_crates:
            others = {name: [args.crates or rust_crates(), name] for name in ("gemm", "faer")}
        else:
            others = {}
        cases = [(dtype, *product) for product in products]
        flop = [(4 if kind == "bwd" else 2) * N * I * O for kind, N, I, O in products]
        part = compare_ops(args, cases, flop, {**commands, **others})
        print_ops(["type", "product", "N", "I", "O"], part)
        results += part
    return results


def compare_memory(args):
    cases = [(op, dtype, args.rows, args.width) for dtype in args.dtypes.split(",") for op in args.passes.split(",")]
    commands = {"ours": our_command(args, "memory"), **torch_ops(args, "memory")}
    results = compare_ops(args, cases, [None] * len(cases), commands)
    print_ops(["pass", "type", "N", "C"], results, "GB/s", "of the copy")
    return results


def torch_ops(args, op):
    words = [args.python, os.path.join(HERE, "ops_torch.py"), op]
    if op == "memory":
        return {"PyTorch": words, "PyTorch compiled": [*words, "compile"]}
    if args.device == "cpu":
        return {"PyTorch": words, "PyTorch tuned": words}
    if op == "attention":
        return {"flash": [*words, "FLASH_ATTENTION"], "cuDNN": [*words, "CUDNN_ATTENTION"]}
    return {"cuBLAS": words}


def rust_crates():
    """Builds benches/peers/gemm and returns where it lies."""
    manifest = os.path.join(HERE, "gemm", "Cargo.toml")
    target = os.path.join(ROOT, "target", "peers")
    command = ["cargo", "build", "--quiet", "--release", "--manifest-path", manifest, "--target-dir", target]
    if subprocess.run(command).returncode:
        fail(f"{' '.join(command)}: failed; see cargo's message above, or leave it out with --no-crates")
    return os.path.join(target, "release", "gemm-peers")


def compare_ops(args, cases, flop, commands):
    """Every case in turn on every side, `rounds` times; GFLOP/s of each."""
    results = []
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(command, environment(name.endswith("tuned"), args.device)))
            for name, command in commands.items()
        }
        for case, flop in zip(cases, flop):
            # Calls that take about a fifth of a second.
            first = workers["ours"].ask(*case, 1)
            calls = 1 if args.device == "cuda-emulated" else max(1, min(1000, round(0.2 / min(first["seconds"]))))
            flop = flop or first["bytes"]
            rounds = [{name: worker.ask(*case, calls) for name, worker in workers.items()} for _ in range(args.rounds)]
            gflops = {name: [flop / statistics.median(r[name]["seconds"]) / 1e9 for r in rounds] for name in workers}
            if args.subject == "memory":
                peak = args.ceilings["bandwidth"] / 1e9
            elif args.device != "cpu":
                peak = args.ceilings["flops"] / 1e9
            else:
                peak = statistics.median(r["ours"]["peak_flops"][case[0]] for r in rounds) / 1e9
            results.append({"case": case, "flop": flop, "calls": calls, "peak": peak, "gflops": gflops})
    return results


def print_ops(header, results, unit="GFLOP/s", share="of the peak"):
    """What each side reaches with its share of the peak, and ours / the best other side's."""
    names = list(results[0]["gflops"])
    rows, every = [], {name: [] for name in names}
    ratios = []
    for result in results:
        medians = {name: statistics.median(values) for name, values in result["gflops"].items()}
        cells = [f"{spread(result['gflops'][name], '.0f')} {100 * medians[name] / result['peak']:.0f} %" for name in names]
        ratios.append(medians["ours"] / max(value for name, value in medians.items() if name != "ours"))
        rows.append([*result["case"], *cells, f"{ratios[-1]:.2f}"])
        for name in names:
            every[name].append((medians[name], medians[name] / result["peak"]))
    mean = statistics.geometric_mean
    cells = [f"{mean(v for v, _ in pairs):.0f} {100 * mean(v for _, v in pairs):.0f} %" for pairs in every.values()]
    rows.append(["geometric mean", *[""] * (len(header) - 1), *cells, f"{mean(ratios):.2f}"])
    table([*header, *(f"{name}, {unit}, {share}" for name in names), "ours / best other"], rows)


def print_ceilings(before, after):
    today = datetime.date.today().isoformat()
    pairs = [f"{1e-9 * before[key]:.0f} before and {1e-9 * after[key]:.0f} after" for key in ("flops", "bandwidth")]
    print(f"\n{before['device']}, PyTorch {before['torch']}, {today}: product {pairs[0]} GFLOP/s, copy {pairs[1]} GB/s")


def main():
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
    args = parser.parse_args()

    version = check_torch(args.python)
    args.worker = args.worker or our_worker()
    needs_ceilings = args.device != "cpu" or args.subject == "memory"
    args.ceilings = ceilings(args) if needs_ceilings else None
    results = args.run(args)
    after = ceilings(args) if needs_ceilings else None
    if needs_ceilings:
        print_ceilings(args.ceilings, after)
    if args.json:
        found = {"torch": version, "subject": args.subject, "results": results, "ceilings": [args.ceilings, after]}
        with open(args.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
