#!/usr/bin/env python3
"""Everything that waits for a GPU, item by item, in minutes. `benches/gpu/gpu-check.sh` builds the folder that
this works from and starts it.

    DIR/gpu-check.sh run [--seconds 420] [--only products,ops/linear] [--skip step]
    DIR/gpu-check.sh rehearse     the same in small, on the emulator and PyTorch's CPU
    DIR/gpu-check.sh list         the items, in order

Each item is a process of its own with a time limit: one that fails, crashes or hangs is a line of the
report, and the next goes on. After each, the folder that OUT names (DIR/results without) holds what is
known: report.md, results.jsonl (a line an item), logs.txt and profiles. A run stops by itself after
--seconds; an item that would not fit into what is left is passed over. A later run with the same OUT
takes up the rest: its report keeps the items of the earlier one.

An item is ok, failed, timed out, left out (it needs what this machine lacks, and says what), or not
reached. Exit code 1 if one failed or timed out.
"""

import argparse
import array
import contextlib
import dataclasses
import datetime
import glob
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import types
from typing import Callable

# In the project the peers have a folder of their own; in the folder that is copied all lie together.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))
import compare
from compare import Failed, Worker

SECONDS = 420
OPS = ["linear", "lora", "attention", "loss", "rmsnorm", "swiglu", "rope", "bias", "embedding", "adamw", "norm"]
# Characters of an item's section in the report, and of its log.
SECTION, LOG = 20_000, 200_000
DONE, FAILED, TIMED_OUT, LEFT_OUT, NOT_REACHED = "ok", "failed", "timed out", "left out", "not reached"


class LeftOut(Exception):
    """What an item needs and this machine lacks."""


@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    # Seconds that it takes at least on a GPU: with less left, it is not begun.
    least: int
    # Seconds after which it is ended.
    limit: int
    # What was predicted for an H100 before the first run.
    expected: str
    work: Callable


class Check:
    """What items work with: the binaries, a folder to work in, the device, what earlier items kept."""

    def __init__(self, scratch, mode, out):
        self.scratch, self.mode, self.out = scratch, mode, out
        self.device = "cuda" if mode == "run" else "cuda-emulated"
        self.small = mode == "rehearse"
        self.facts, self.kept = os.path.join(scratch, "facts.jsonl"), {}
        with contextlib.suppress(OSError), open(os.path.join(scratch, "kept.json")) as file:
            self.kept = json.load(file)

    def bin(self, name):
        return os.path.join(self.scratch, "bin", name)

    def path(self, *names):
        path = os.path.join(self.scratch, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def tell(self, **facts):
        """`measured`, a cell of the report's table, and `kept`, for items that come later."""
        with open(self.facts, "a") as file:
            file.write(json.dumps(facts) + "\n")

    def needs_gpu(self, what):
        if self.small:
            raise LeftOut(f"needs a GPU: {what}")

    def needs_torch(self):
        if importlib.util.find_spec("torch") is None:
            raise LeftOut(f"no torch in {sys.executable}")

    def tool(self, name):
        self.needs_gpu(name)
        places = [name, f"/usr/local/cuda/bin/{name}"]
        found = next(filter(None, map(shutil.which, places)), None)
        if found is None:
            raise LeftOut(f"no {name} on the PATH")
        return found

    def compare_args(self, **more):
        """What compare.py's functions take."""
        settings = {"device": self.device, "python": sys.executable, "worker": self.bin("peer"), "json": None}
        return types.SimpleNamespace(**settings | more)


def call(words, env=None, stdin=None, check=True):
    """Runs a program to its end; its stderr goes to the log. Without `check`, whatever its exit code."""
    env = {**os.environ, **(env or {})}
    done = subprocess.run(
        words, env=env, input=stdin, capture_output=True, text=True, errors="replace", preexec_fn=compare.die_with_parent
    )
    print(f"$ {' '.join(words)}\n{done.stderr}", file=sys.stderr, flush=True)
    if check and done.returncode:
        told = last_line(done.stdout[-4000:] + "\n" + done.stderr)
        raise Failed(f"{os.path.basename(words[0])}: {ended(done.returncode)}: {told}")
    return done


def ended(code):
    if code >= 0:
        return f"exit code {code}"
    return f"ended by {signal.Signals(-code).name}"


def last_line(text):
    """The last line that says what went wrong, or else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|panicked|Error|failed", line)]
    return (telling or lines or ["no message"])[-1][:300]


def say(*words):
    print(*words, flush=True)


# ---- the machine, and opening the device --------------------------------------------------------


def machine(check):
    torch = importlib.util.find_spec("torch") and importlib.metadata.version("torch")
    say(f"{os.cpu_count()} cores, {os.uname().machine}, Python {sys.version.split()[0]}, torch {torch or 'missing'}")
    if check.small:
        return
    tools = ["nvidia-smi", "nvcc", "ncu", "compute-sanitizer"]
    say("found: " + ", ".join(tool for tool in tools if shutil.which(tool)))
    query = "name,driver_version,memory.total,power.limit,clocks.sm,clocks.max.sm,temperature.gpu"
    found = call(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]).stdout.strip()
    say(f"{query}: {found}")
    check.tell(measured=", ".join(found.splitlines()[0].split(", ")[:3]))


def opening(check):
    """Seconds to open the device with its kernels compiled by the driver, taken from the driver's cache,
    or ready for this GPU. It fills the cache that all later items use."""
    no_cubins = {"HANDGRAD_CUBINS": check.path("no-cubins", "")}
    rows = {"compiled into an empty cache": no_cubins, "from the cache": no_cubins, "as later items do": {}}
    if check.small:
        rows = {"the emulator reads PTX": {}}
    seconds = {}
    compare.header(["kernels", "device open, s", "first kernel done, s"])
    for name, env in rows.items():
        done = call([check.bin("peer"), f"--device={check.device}", "open"], env)
        found = json.loads(done.stdout)
        seconds[name] = found["open"]
        compare.row([name, f"{found['open']:.2f}", f"{found['first_kernel']:.2f}"])
        check.tell(measured=", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
        if messages := done.stderr.strip():
            say(f"\n```\n{messages[-4000:]}\n```\n")
    say(f"\n{found['device']}")


# ---- tests --------------------------------------------------------------------------------------


def test_env(check):
    return {"CUDA_VISIBLE_DEVICES": ""} if check.small else {"HANDGRAD_TEST_GPU": "only"}


def gpu_tests(check, program, module):
    """Names of a module's tests that run GPU kernels; the others are proven wherever Rust is."""
    listed = call([check.bin(program), "--list"]).stdout
    names = [line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test")]
    # By name, or because they run everywhere.
    everywhere = "one_bad|storage_types|only_ignored|minus_infinity|clipping|eps_joins"
    wanted = re.compile(rf"{module}::.*(gpu|{everywhere})")
    return [name for name in names if wanted.match(name)]


def failures(output):
    """(test, error) of each test that failed, from what Rust's test harness prints."""
    found = []
    for block in re.split(r"^---- ", output, flags=re.M)[1:]:
        name, _, body = block.partition(" stdout ----")
        if message := re.search(r"panicked at [^\n]*\n([^\n]+)", body):
            found.append((name, message.group(1)))
    return found


def worst_share(output):
    """How many outputs were held against their budget, and the largest share of it that one took."""
    errors = re.findall(r": error (\S+), plain loop \S+, budget (\S+)", output)
    shares = [float(error) / float(budget) for error, budget in errors if 0 < float(budget) < math.inf]
    return len(shares), max(shares, default=0.0)


def tests(program, module):
    def work(check):
        names = gpu_tests(check, program, module)
        if not names:
            raise Failed(f"{program} has no test of {module} that runs on a GPU")
        words = [check.bin(program), "--exact", *names, "--show-output"]
        done = call(words, test_env(check), check=False)
        print(done.stdout, file=sys.stderr)
        failed = failures(done.stdout)
        for name, error in failed:
            say(f"- {name}: {error}")
        count, share = worst_share(done.stdout)
        result = re.search(r"^test result: .*$", done.stdout, re.M)
        say(result.group() if result else ended(done.returncode))
        if count:
            say(f"{count} outputs, the worst at {100 * share:.0f} % of its budget")
            check.tell(measured=f"{count} outputs, the worst at {100 * share:.0f} % of its budget")
        if done.returncode:
            why = failed[0] if failed else (program, f"{ended(done.returncode)}: {last_line(done.stderr)}")
            raise Failed(": ".join(why))

    return work


# ---- training runs ------------------------------------------------------------------------------


def train(check, out, *words):
    return call([check.bin("handgrad"), "pretrain", "--out", out, *words])


def losses(out):
    with open(os.path.join(out, "metrics.jsonl")) as file:
        steps = [json.loads(line) for line in file]
    return [step["loss"] for step in steps if "loss" in step]


def weights_hash(out):
    """Of master weights and moments after the last step."""
    checkpoints = os.path.join(out, "checkpoints")
    last = os.path.join(checkpoints, max(os.listdir(checkpoints)))
    digest = hashlib.sha256()
    for name in sorted(os.listdir(last)):
        if name.endswith(".safetensors"):
            with open(os.path.join(last, name), "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()[:16]


def run_words(check, dtype):
    """A run that stops at 30 steps of the built-in stories; of four on prose where it is emulated."""
    words = ["--dtype", dtype, "--keep", "9", "--eval-every", "0"]
    if not check.small:
        return 30, [*words, "--steps", "30", "--save-every", "15", "--eval-tokens", "8192", "--sample-tokens", "16"]
    with open(check.path("prose.txt"), "w") as file:
        file.write(PROSE * 20)
    with open(check.path("small.json"), "w") as file:
        json.dump(SMALL_MODEL, file)
    small = "--tokenizer bytes --batch-size 2 --seq-len 16 --steps 4 --save-every 2"
    small += " --eval-tokens 32 --sample-tokens 2 --val-fraction 0.2"
    return 4, [*words, "--data", check.path("prose.txt"), "--model", check.path("small.json"), *small.split()]


def pretrain(dtype):
    """The same run twice, and once from the middle: the same bits. And once on the CPU: losses beside."""

    def work(check):
        steps, words = run_words(check, dtype)
        out = {name: check.path(f"pretrain-{dtype}", name) for name in ("cpu", "one", "two", "part")}
        log = open(check.path(f"pretrain-{dtype}", "cpu.log"), "w")
        command = [check.bin("handgrad"), "pretrain", "--out", out["cpu"], "--device", "cpu", *words]
        on_cpu = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=compare.die_with_parent)
        hashes = {}
        for name in ("one", "two"):
            train(check, out[name], "--device", check.device, *words)
            hashes[name] = weights_hash(out[name])
            say(f"- {name}: hash {hashes[name]}, last loss {losses(out[name])[-1]:.6f}")
        shutil.copytree(out["one"], out["part"])
        checkpoints = os.path.join(out["part"], "checkpoints")
        shutil.rmtree(os.path.join(checkpoints, max(os.listdir(checkpoints))))
        call([check.bin("handgrad"), "pretrain", "--resume", "--out", out["part"]])
        hashes["resumed"] = weights_hash(out["part"])
        say(f"- resumed after step {steps // 2}: hash {hashes['resumed']}, last loss {losses(out['part'])[-1]:.6f}\n")
        same = len(set(hashes.values())) == 1
        check.tell(measured="equal hashes" if same else f"hashes differ: {hashes}")
        if on_cpu.wait():
            raise Failed(f"the run on the CPU: {last_line(open(log.name).read())}")
        apart = beside(losses(out["cpu"]), losses(out["one"]))
        check.tell(measured=f"{'equal hashes' if same else 'HASHES DIFFER'}; losses {apart:.1e} from the CPU's")
        if not same:
            raise Failed(f"hashes differ: {hashes}")

    return work


def beside(cpu, gpu):
    """A table of both runs' losses. Returns their largest difference."""
    compare.header(["step", "CPU", "GPU", "apart"])
    apart = [abs(a - b) for a, b in zip(cpu, gpu)]
    for step in sorted({1, 2, 5, 10, 20, len(gpu)}):
        if step <= len(apart):
            compare.row([step, f"{cpu[step - 1]:.6f}", f"{gpu[step - 1]:.6f}", f"{apart[step - 1]:.1e}"])
    return max(apart)


SMALL_MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 259, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PROSE = """The mill stood where the river bends, and every spring the water came up to its door. Nobody in the
village remembered who had built it. The wheel was older than the road, they said, and the road was older
than the church. When the miller's daughter learned to read she found a date above the door, half under
moss, and then everybody knew: it had been there for three hundred years and eleven.
"""


def text(check):
    """What the trained model writes and how well it reads, on the GPU and on the CPU."""
    model = check.path("pretrain-f32", "one")
    if not os.path.exists(os.path.join(model, "model.safetensors")):
        raise LeftOut("there is no model: pretrain/f32 comes first")
    with open(check.path("read.txt"), "w") as file:
        file.write(PROSE)
    words, nats = {}, {}
    for device in (check.device, "cpu"):
        count = "4" if check.small else "12"
        generate = ["generate", "--model", model, "--prompt", "The ", "--temperature", "0", "--max-new-tokens", count]
        words[device] = call([check.bin("handgrad"), *generate, "--device", device]).stdout
        evaluate = ["evaluate", "perplexity", "--model", model, "--data", check.path("read.txt"), "--seq-len", "32"]
        found = call([check.bin("handgrad"), *evaluate, "--device", device]).stdout
        nats[device] = json.loads(found)["nll_per_token"]
        say(f"- {device}: {nats[device]:.6f} nats a token; {words[device].strip()!r}")
    apart = abs(nats[check.device] - nats["cpu"]) / nats["cpu"]
    same = len(set(words.values())) == 1
    check.tell(measured=f"{'the same' if same else 'another'} text, nats {apart:.1e} apart")
    if apart > 1e-3:
        raise Failed(f"nats a token are {apart:.1e} apart")


# ---- speed of ops, beside PyTorch ---------------------------------------------------------------


def ceilings(check):
    check.needs_torch()
    found = compare.ceilings(check.compare_args())
    say(f"{found['device']}, PyTorch {found['torch']}")
    product, copy = found["flops"] / 1e12, found["bandwidth"] / 1e12
    check.tell(measured=f"product {product:.0f} TFLOP/s, copy {copy:.2f} TB/s", kept={"ceilings": found})


def beside_torch(name, subject, *words, small):
    """compare.py, whose rows are flushed case by case and whose figures the parent sums up."""

    def work(check):
        check.needs_torch()
        common = ["--device", check.device, "--worker", check.bin("peer"), "--rounds", "1" if check.small else "3"]
        common += ["--json", figures(check.scratch, name)]
        compare.main([*common, subject, "--dtypes", "bf16", *(small if check.small else words)])
        with open(figures(check.scratch, name)) as file:
            lost = [result["case"] for result in json.load(file)["results"] if not result["rate"]["ours"]]
        if lost:
            raise Failed(f"ours failed at {' '.join(map(str, lost[0]))}, {len(lost)} in all; logs.txt says why")

    return work


def figures(scratch, name):
    """Where the figures of an item that runs compare.py lie."""
    return os.path.join(scratch, name.replace("/", "-") + ".json")


def sum_up(path):
    """A cell of the report from what compare.py has written so far; none if it has written nothing."""
    try:
        with open(path) as file:
            found = json.load(file)
        results, unit = found["results"], "TB/s" if found["subject"] == "memory" else "TFLOP/s"
    except (OSError, ValueError, KeyError):
        return None
    cells = []
    for result in results:
        case = " ".join(str(word) for word in result["case"] if word != "bf16")
        rates, ratio = compare.medians(result), compare.ratio(result)
        if "ours" not in rates:
            cells.append(f"{case}: failed")
            continue
        reached = f"{rates['ours'] / 1e12:.3g} {unit}, {100 * rates['ours'] / result['peak']:.0f} % of the peak"
        others = f", {ratio:.2f} of the best other" if ratio else ", no other"
        cells.append(f"{case}: {reached}{others}")
    return "; ".join(cells)


# ---- steps --------------------------------------------------------------------------------------


def size_of(check, size):
    return "Tiny" if check.small else size


def model_folder(check, size):
    """A folder with the size's config.json, and its weights where they are small."""
    folder = check.path(f"model-{size}", "")
    config = os.path.join(folder, "config.json")
    if not os.path.exists(config):
        if size == "G1B":
            found = call([check.bin("peer"), "config", size]).stdout
            with open(config, "w") as file:
                file.write(found)
        else:
            call([check.bin("peer"), "export", size, folder])
    with open(config) as file:
        return folder, json.load(file)


def shard(check, vocabulary, tokens):
    """Random ids, low ones likely, as a token shard: magic, version, count, 253 zeros, 16-bit ids."""
    path = check.path(f"tokens-{vocabulary}-{tokens}.bin")
    if not os.path.exists(path):
        draw = random.Random(1).random
        ids = array.array("H", (int(vocabulary * draw() ** 4) for _ in range(tokens)))
        with open(path + ".tmp", "wb") as file:
            array.array("i", [20240520, 1, tokens, *[0] * 253]).tofile(file)
            ids.tofile(file)
        os.replace(path + ".tmp", path)
    return path


BATCHES = {"G110": 32, "G1B": 8, "Tiny": 2}


def profile(size):
    """pretrain --profile: every op at the shapes of a real step."""

    def work(check):
        name = size_of(check, size)
        folder, config = model_folder(check, name)
        T, B = config["max_position_embeddings"], BATCHES[name]
        data = shard(check, config["vocab_size"], max(40_000, 10 * B * (T + 1)))
        out = check.path(f"profile-{name}")
        shape = ["--batch-size", str(B), "--seq-len", str(T), "--dtype", "bf16", "--lr", "3e-4"]
        words = ["--model", os.path.join(folder, "config.json"), "--data", data, *shape]
        done = train(check, out, "--device", check.device, *words, "--profile")
        table = done.stderr.split("of median duration:\n", 1)[-1]
        say(f"```\n{table.strip()}\n```")
        found = json.loads(done.stdout)
        shutil.copy(os.path.join(out, "profile.json"), os.path.join(check.out, f"profile-{size}.json"))
        worst = [row for row in found["ops"] if row["ms"] > 0.03 * found["step_ms"]]
        worst.sort(key=lambda row: row["attained"])
        slow = ", ".join(f"{row['op']} {100 * row['attained']:.0f} %" for row in worst[:3])
        mfu = compare.mfu([found["model_flop"] / found["step_ms"] / 1e6], found["device"])
        speed = f"{found['step_ms']:.1f} ms, {found['tokens_per_second']:.0f} tokens/s, MFU {mfu}"
        check.tell(measured=f"{speed}; furthest from attainable: {slow}")

    return work


def measure_steps(check, worker, ready):
    """Three rounds after warming up."""
    counts = (1, [1]) if check.small else (5, [5, 5, 5])
    warm = worker.ask(counts[0])
    rounds = [worker.ask(count) for count in counts[1]]
    seconds = [second for round in rounds for second in round["seconds"]]
    found = {
        "seconds": statistics.median(seconds),
        "tokens_per_second": ready["tokens"] / statistics.median(seconds),
        "flops": ready["flop"] / statistics.median(seconds),
        "peak_mib": max(round["peak_bytes"] for round in rounds) / compare.MIB,
        "reserved_mib": max(round.get("reserved_bytes", 0) for round in rounds) / compare.MIB,
        "first_loss": warm["losses"][0],
        "last_loss": rounds[-1]["losses"][-1],
    }
    say(f"{len(seconds)} steps: {compare.spread([1e3 * s for s in seconds], '.2f')} ms; {json.dumps(found)}")
    return found


def describe_step(check, found, more=""):
    mfu = compare.mfu([found["flops"] / 1e9], check.kept.get("ceilings", {}).get("device", ""))
    speed = f"{1e3 * found['seconds']:.1f} ms, {found['tokens_per_second']:.0f} tokens/s, MFU {mfu}"
    return f"{speed}, {found['peak_mib']:.0f} MiB{more}"


def our_steps(size):
    """Our step alone in the GPU's memory."""

    def work(check):
        args = check.compare_args()
        with Worker(compare.our_command(args, "step", size_of(check, size), "bf16")) as ours:
            found = {**measure_steps(check, ours, ours.ready), **{key: ours.ready[key] for key in ("tokens", "flop", "batch")}}
        check.tell(measured=describe_step(check, found), kept={f"step/{size}": found})

    return work


def torch_steps(size, peer):
    """PyTorch's step alone, beside what ours took."""

    def work(check):
        check.needs_torch()
        ours = check.kept.get(f"step/{size}")
        if ours is None:
            raise LeftOut(f"step/{size}/ours comes first")
        folder, _ = model_folder(check, size_of(check, size))
        words, _ = compare.peer_words(peer)
        args = check.compare_args()
        with compare.torch_worker(args, "llama_torch.py", folder, "--batch", str(ours["batch"]), *words) as torch:
            found = measure_steps(check, torch, ours)
        ratio = found["seconds"] / ours["seconds"]
        memory = ours["peak_mib"] / found["peak_mib"]
        more = f" ({found['reserved_mib']:.0f} reserved); ours {ratio:.2f}x as fast, {memory:.2f}x the memory"
        if size != "G1B":
            more += f"; first losses {abs(found['first_loss'] - ours['first_loss']):.1e} apart"
        check.tell(measured=describe_step(check, found, more), kept={f"step/{size}/{peer}": found})

    return work


# ---- NVIDIA's tools -----------------------------------------------------------------------------


def sanitizer(tool):
    """compute-sanitizer over the op tests: every buffer is an allocation of its own there."""

    def work(check):
        program = check.tool("compute-sanitizer")
        found = {}
        for module in ["swiglu", "rope", "bias", "norm", "adamw", "rmsnorm", "embedding", "loss", "attention", "lora", "linear"]:
            names = gpu_tests(check, "gradients", module)
            words = [program, "--tool", tool, "--error-exitcode", "99", check.bin("gradients"), "--exact", *names]
            done = call(words, test_env(check), check=False)
            errors = [line for line in done.stdout.splitlines() if line.startswith("=========")]
            found[module] = summary(errors) or ended(done.returncode)
            say(f"- {module}: {found[module]}")
            if not clean(found[module]):
                say("\n```\n" + "\n".join(errors[:40]) + "\n```\n")
            dirty = [f"{name}: {value}" for name, value in found.items() if not clean(value)]
            check.tell(measured="; ".join(dirty) or f"clean: {', '.join(found)}")
        if dirty:
            raise Failed("; ".join(dirty))

    return work


def summary(lines):
    """compute-sanitizer's last line: ERROR SUMMARY or RACECHECK SUMMARY."""
    told = [line.removeprefix("=========").strip() for line in lines if "SUMMARY:" in line]
    return told[-1] if told else None


def clean(told):
    return re.search(r"SUMMARY: 0 (errors|hazards)", told) is not None


NCU = ["LaunchStats", "Occupancy", "SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis"]
NCU += ["SchedulerStats", "WarpStateStats"]
SHOWN = ["Duration", "Compute (SM) Throughput", "Memory Throughput", "Achieved Occupancy", "Registers Per Thread"]


def ncu(kernel, request):
    def work(check):
        program = check.tool("ncu")
        words = [program, "--clock-control", "none", "--target-processes", "all", "--kernel-name", f"regex:^{kernel}"]
        words += ["--launch-skip", "1", "--launch-count", "1", "--page", "details"]
        words += [word for section in NCU for word in ("--section", section)]
        done = call([*words, check.bin("peer"), "--device=cuda", "ops"], stdin=f"{request} 3\n")
        table = done.stdout[done.stdout.find("Section:") :]
        say(f"```\n{table[:15_000]}\n```")
        found = metrics(done.stdout)
        if not found:
            raise Failed(f"ncu profiled no kernel {kernel}: {last_line(done.stdout)}")
        check.tell(measured=", ".join(f"{name} {found[name]}" for name in SHOWN if name in found))

    return work


def metrics(text):
    """Names, values and units of ncu's details page; the first of each name, throughputs in per cent."""
    found = {}
    for name, unit, value in re.findall(r"^ +(\S.*?) {2,}(\S+)? +([\d.,]+) *$", text, re.M):
        if not name.endswith("Throughput") or unit == "%":
            found.setdefault(name, f"{value} {unit}".strip())
    return found


def cublaslt(check):
    """The same steps with NVIDIA's products."""
    check.needs_gpu("cuBLASLt")
    # Pip's packages are not where the system looks for libraries. The item's process is its own.
    packages = importlib.util.find_spec("nvidia")
    places = packages.submodule_search_locations if packages else []
    found = sorted(folder for place in places for folder in glob.glob(f"{place}/cu*/lib"))
    os.environ["LD_LIBRARY_PATH"] = ":".join([*filter(None, [os.environ.get("LD_LIBRARY_PATH")]), *found])
    _, words = run_words(check, "bf16")
    words[words.index("--steps") + 1] = "5"
    out = {name: check.path("cublaslt", name) for name in ("rust", "cublaslt")}
    for name in out:
        train(check, out[name], "--device", check.device, "--gemm", name, *words)
    apart = beside(losses(out["rust"]), losses(out["cublaslt"]))
    check.tell(measured=f"losses {apart:.1e} from our products'")


# ---- the list -----------------------------------------------------------------------------------

SMALL_GEMM = ["--rows", "128", "--shapes", "64x128"]
SMALL_ATTENTION = ["--lengths", "64", "--heads", "2"]
PRODUCTS = {
    "G110": ("768x2304,768x768,768x4096,2048x768,768x32000", "280-360 TFLOP/s where K is 768"),
    "G1B": ("2048x6144,2048x2048,2048x10944,5472x2048,2048x32000", "380-460 TFLOP/s"),
}
STEPS = {
    "G110": ["285-370k tokens/s, MFU 20-27 % of 989 TFLOP/s", "430-520k tokens/s"],
    "G1B": ["43-45k tokens/s, MFU 30 %", "60-68k tokens/s"],
}
ATTENTION = {
    "64": "forward 190-260 TFLOP/s, backward 110-150",
    "128": "forward 200-280 TFLOP/s, backward 120-170",
}


def attention(name, width, lengths):
    words = ["--lengths", lengths, "--heads", "32", "--width", width]
    return beside_torch(name, "attention", *words, small=[*SMALL_ATTENTION, "--width", width])


def products(name, rows, shapes):
    return beside_torch(name, "gemm", "--rows", rows, "--shapes", shapes, small=SMALL_GEMM)


def items():
    """All of it, what tells most first."""
    same = "equal hashes; losses within {} of the CPU's"
    square = "4096x4096,8192x8192"
    first = [
        Item("machine", 3, 30, "an H100", machine),
        Item("open", 20, 100, "20-60 s into an empty cache, under 1 s from it", opening),
        *(Item(f"ops/{op}", 4, 60, "all hold", tests("gradients", op)) for op in OPS),
        Item("model", 4, 60, "all hold", tests("gradients", "(model|adapters)")),
        Item("segments", 4, 60, "all hold", tests("model", "segments")),
        Item("pretrain/bf16", 10, 70, same.format("0.05"), pretrain("bf16")),
        Item("pretrain/f32", 10, 70, same.format("1e-3"), pretrain("f32")),
        Item("text", 5, 40, "the same text, nats 1e-6 apart", text),
        Item("ceilings", 5, 60, "product 798 TFLOP/s, copy 3.0 TB/s", ceilings),
        Item("products/square", 10, 60, "380-460 TFLOP/s, 50-58 % of the peak", products("products/square", "0", square)),
        *(
            Item(f"attention/{D}", 10, 60, told, attention(f"attention/{D}", D, "8192"))
            for D, told in ATTENTION.items()
        ),
        *(Item(f"profile/{size}", 15, 90, told[0], profile(size)) for size, told in STEPS.items()),
        *(Item(f"step/{size}/ours", 10, 60, told[0], our_steps(size)) for size, told in STEPS.items()),
    ]
    passes = "SwiGLU and RoPE 85-92 % of the copy, RMSNorm and AdamW 75-88 %"
    memory = beside_torch("memory", "memory", small=["--rows", "64", "--width", "128", "--passes", "swiglu_forward"])
    return [
        *first,
        *torch_items("autocast+compile"),
        *torch_items("autocast"),
        *(Item(f"sanitizer/{tool}", 20, 120, "clean", sanitizer(tool)) for tool in ("memcheck", "racecheck")),
        Item("ncu/gemm_nt", 8, 60, "380-460 TFLOP/s", ncu("gemm_nt", "gemm bf16 fwd 4096 4096 4096")),
        Item("ncu/attention_forward", 8, 60, "", ncu("attention_forward", "attention bf16 fwd 8192 32 128")),
        Item("ncu/backward_keys", 8, 60, "", ncu("attention_backward_keys", "attention bf16 bwd 8192 32 128")),
        Item("memory", 30, 150, passes, memory),
        *(
            Item(f"products/{size}", 30, 150, told, products(f"products/{size}", "16384", shapes))
            for size, (shapes, told) in PRODUCTS.items()
        ),
        *(Item(f"lengths/{D}", 20, 100, "", attention(f"lengths/{D}", D, "2048,16384")) for D in ATTENTION),
        *torch_items("master+compile"),
        Item("cublaslt", 8, 60, "may not load with CUDA 13", cublaslt),
    ]


def torch_items(peer):
    compiles = "compile" in peer
    for size, (_, told) in STEPS.items():
        least = {"G110": 30, "G1B": 45}[size] if compiles else 12
        yield Item(f"step/{size}/{peer}", least, 150, told if compiles else "slower than compiled", torch_steps(size, peer))


def chosen(every, only, skip):
    """Items whose name, or the group in front of its slash, is asked for."""

    def named(names):
        parts = [name for name in (names or "").split(",") if name]
        hits = {part: {item.name for item in every if f"{item.name}/".startswith(f"{part}/")} for part in parts}
        if missing := [part for part, found in hits.items() if not found]:
            sys.exit(f"error: no item {missing[0]}; there are {', '.join(item.name for item in every)}")
        return set().union(*hits.values())

    wanted, unwanted = named(only), named(skip)
    return [item for item in every if (not only or item.name in wanted) and item.name not in unwanted]


# ---- the report ---------------------------------------------------------------------------------


class Report:
    """What OUT holds. Every file is whole after each item, whatever ends the run."""

    def __init__(self, out, title, chosen):
        self.out, self.title, self.order = out, title, [item.name for item in items()]
        self.found = {}
        os.makedirs(out, exist_ok=True)
        self.take_up()
        for item in chosen:
            if item.name not in self.found or self.found[item.name]["state"] != DONE:
                self.found[item.name] = {"state": NOT_REACHED, "expected": item.expected}
        self.render()

    def path(self, name):
        return os.path.join(self.out, name)

    def take_up(self):
        """Items of an earlier run of the same build and mode; another's are put away."""
        text, lines = read(self.path("results.jsonl")), []
        for line in text.splitlines():
            with contextlib.suppress(ValueError):  # a kill may have cut the last one off
                lines.append(json.loads(line))
        if lines and lines[0] == {"title": self.title}:
            self.found = {line["name"]: line for line in lines[1:] if line["name"] in self.order}
            self.append("results.jsonl", "" if text.endswith("\n") else "\n")
            return
        self.append("results.jsonl", json.dumps({"title": self.title}) + "\n", "w")
        self.append("logs.txt", "", "w")

    def append(self, name, text, mode="a"):
        with open(self.path(name), mode) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def add(self, item, found, log=""):
        found = {"name": item.name, **found, "expected": item.expected}
        self.found[item.name] = found
        self.append("results.jsonl", json.dumps(found) + "\n")
        if log:
            self.append("logs.txt", f"\n==== {item.name}: {found['state']}\n{log}")
        self.render()

    def table(self):
        rows = ["| item | state | seconds | expected | measured |", "|---|---|---|---|---|"]
        for name in sorted(self.found, key=self.order.index):
            found = self.found[name]
            seconds = f"{found['seconds']:.1f}" if "seconds" in found else ""
            told = "; ".join(filter(None, [found.get("cause"), found.get("measured")])).replace("|", "/")
            rows.append(f"| {name} | {found['state']} | {seconds} | {found['expected']} | {told} |")
        return "\n".join(rows) + "\n"

    def render(self):
        parts = [f"# {self.title}\n\nExpected: predictions for an H100, made before any run.\n\n{self.table()}"]
        for name in sorted(self.found, key=self.order.index):
            if section := self.found[name].get("section"):
                parts.append(f"\n## {name}\n\n{section}")
        with open(self.path("report.md.tmp"), "w") as file:
            file.write("".join(parts))
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path("report.md.tmp"), self.path("report.md"))


def shortened(text, most):
    """The beginning and the end of a text that is too long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n... {len(text) - most} characters are left out ...\n{text[-most // 2 :]}"


def read(path):
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        return file.read()
    return ""


# ---- running ------------------------------------------------------------------------------------


def run_item(item, check, seconds):
    """The item in a process of its own, ended after `seconds`. Returns its line and its log."""
    section, log = check.path("section.md"), check.path("log.txt")
    for path in (section, log, check.facts):
        with contextlib.suppress(OSError):
            os.remove(path)
    command = [sys.executable, os.path.abspath(__file__), "item", item.name, check.mode, check.scratch, check.out]
    start, cause, state = time.monotonic(), None, DONE
    with open(section, "w") as out, open(log, "w") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            state, cause = TIMED_OUT, f"ended after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found = {"state": state, "seconds": round(time.monotonic() - start, 2)}
    facts = {}
    for line in read(check.facts).splitlines():
        with contextlib.suppress(ValueError):
            facts |= json.loads(line)
    if state == DONE and code:
        found["state"], cause = FAILED, facts.get("failed") or f"{ended(code)}: {last_line(read(log))}"
        if cause.endswith("see its message above"):
            cause = cause.replace("see its message above", last_line(read(log).split("Traceback (")[0]))
    elif state == DONE and "left_out" in facts:
        found["state"], cause = LEFT_OUT, facts["left_out"]
    measured = sum_up(figures(check.scratch, item.name)) or facts.get("measured")
    more = {"cause": cause, "measured": measured, "kept": facts.get("kept")}
    found |= {key: value for key, value in more.items() if value}
    found["section"] = shortened(read(section), SECTION)
    return found, shortened(read(log), LOG)


def work(name, mode, scratch, out):
    """One item, in its own process. Whatever goes wrong in it becomes its line."""
    compare.die_with_parent()
    check = Check(scratch, mode, out)
    item = next(item for item in items() if item.name == name)
    try:
        item.work(check)
    except LeftOut as why:
        check.tell(left_out=str(why))
    except BaseException as error:
        traceback.print_exc()
        told = str(error) if isinstance(error, (Failed, SystemExit)) else f"{type(error).__name__}: {error}"
        check.tell(failed=" ".join(told.split())[:400])
        sys.exit(1)


def prepare(folder, scratch):
    """The binaries, and an environment in which every item finds the same driver's cache."""
    packed = os.path.join(folder, "bin.tar.xz")
    if not os.path.exists(packed):
        sys.exit(f"error: {packed} is missing; benches/gpu/gpu-check.sh build DIR makes it")
    try:
        with tarfile.open(packed) as tar:
            tar.extractall(scratch, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(scratch)
    except tarfile.CompressionError:  # a Python without lzma
        subprocess.run(["tar", "xJf", packed, "-C", scratch], check=True)
    os.environ["CUDA_CACHE_PATH"] = os.path.join(scratch, "cache")
    os.environ["CUDA_CACHE_MAXSIZE"] = str(1 << 30)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), "handgrad-inductor"))
    os.environ["PYTHONUNBUFFERED"] = "1"


def run(args):
    start = time.monotonic()
    wanted = chosen(items(), args.only, args.skip)
    commit = read(os.path.join(args.folder, "commit")).strip() or "unknown"
    title = f"GPU check ({args.mode}), commit {commit}"
    out = os.path.abspath(os.environ.get("OUT") or os.path.join(args.folder, "results"))
    report = Report(out, title, wanted)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="handgrad-gpu-check-") as scratch:
        prepare(args.folder, scratch)
        check = Check(scratch, args.mode, out)
        kept = {}
        for found in report.found.values():
            kept |= found.get("kept") or {}
        for item in wanted:
            if not args.only and report.found[item.name]["state"] == DONE:
                continue  # by an earlier run
            left = args.seconds - (time.monotonic() - start)
            least, limit = (1, 300) if check.small else (item.least, item.limit)
            if left < least:
                report.add(item, {"state": NOT_REACHED, "cause": f"needs {least} s, {max(left, 0):.0f} s were left"})
                continue
            with open(os.path.join(scratch, "kept.json"), "w") as file:
                json.dump(kept, file)
            try:
                found, log = run_item(item, check, min(limit, left))
            except Exception as error:  # of ours, not the item's; the next may still go
                found, log = {"state": FAILED, "seconds": 0.0, "cause": repr(error)}, traceback.format_exc()
            kept |= found.get("kept") or {}
            report.add(item, found, log)
            told = "; ".join(filter(None, [found.get("cause"), found.get("measured")]))
            print(f"{item.name}: {found['state']}, {found['seconds']:.1f} s; {told}", file=sys.stderr, flush=True)
            if check.small and args.show:
                print(found.get("section", ""), file=sys.stderr, flush=True)
    print(report.table(), flush=True)
    print(f"{time.monotonic() - start:.0f} s, {datetime.date.today()}: {report.path('report.md')}", flush=True)
    states = [report.found[item.name]["state"] for item in wanted]
    sys.exit(1 if FAILED in states or TIMED_OUT in states else 0)


def main():
    if sys.argv[1:2] == ["item"]:
        return work(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["run", "rehearse", "list"])
    parser.add_argument("--folder", required=True, help="what benches/gpu/gpu-check.sh build has made")
    parser.add_argument("--seconds", type=float, help=f"stop after so many (default: {SECONDS}; rehearse: 1800)")
    parser.add_argument("--only", help="items or groups of items, by comma: products,ops/linear")
    parser.add_argument("--skip", help="items or groups to leave out")
    parser.add_argument("--show", action="store_true", help="rehearse: print each item's output as well")
    args = parser.parse_args()
    if args.mode == "list":
        return print("\n".join(f"{item.name:28} {item.expected}" for item in items()))
    args.seconds = args.seconds or (SECONDS if args.mode == "run" else 1800)
    run(args)


if __name__ == "__main__":
    main()
