#!/usr/bin/env python3
"""Writes docs/kernel-resources.md: what ptxas makes of every kernel for every kind of device.

usage: kernels-ptx/resources.py [PTXAS]      default: ptxas on PATH
    python3 -m venv DIR && DIR/bin/pip install 'nvidia-cuda-nvcc==13.0.*'
    kernels-ptx/resources.py DIR/lib/python3*/site-packages/nvidia/cu13/bin/ptxas

Exits with 1 if a kernel spills, if ptxas warns (C75xx: serialised matrix instructions and the like), or
if a block of a kernel fits on no multiprocessor.
"""
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

CRATE = pathlib.Path(__file__).resolve().parent
REGISTERS = 65536


class Device(NamedTuple):
    """What ptxas assembles for, which of our files, and what a multiprocessor has."""
    capability: int
    arch: str
    ptx: str
    kib: int  # shared memory, of which a KiB a block is reserved
    threads: int
    example: str


DEVICES = (
    Device(80, "sm_80", "sm_80", 164, 2048, "A100"),
    Device(86, "sm_86", "sm_80", 100, 1536, "GeForce RTX 3090"),
    Device(89, "sm_89", "sm_80", 100, 1536, "GeForce RTX 4090"),
    Device(90, "sm_90a", "sm_90a", 228, 2048, "H100, H200"),
    Device(100, "sm_100", "sm_80", 228, 2048, "B200"),
    Device(120, "sm_120", "sm_80", 100, 1536, "GeForce RTX 5090"),
)


def assembled(ptxas, device):
    """(lines of the report by kernel, warnings)"""
    text = subprocess.run(
        [ptxas, f"-arch={device.arch}", "-v", CRATE / f"ptx/{device.ptx}.ptx", "-o", "/dev/null"],
        check=True, capture_output=True, text=True).stderr
    kernels, name = {}, None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            name = found[1]
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", line):
            kernels[name] = {"spill": sum(int(found[i]) for i in (1, 2, 3))}
        elif found := re.search(r"Used (\d+) registers", line):
            kernels[name]["registers"] = int(found[1])
    return kernels, [line for line in text.splitlines() if "warning" in line or "C75" in line]


def bounds(ptx):
    """Threads that a kernel's launch bounds state."""
    text = (CRATE / f"ptx/{ptx}.ptx").read_text()
    return {m[1]: int(m[2]) for m in re.finditer(r"\.entry (\w+)\([^{]*?\.maxntid (\d+), 1, 1", text)}


def shared():
    """Dynamic shared memory by capability and kernel, where tiles decide it."""
    text = subprocess.run(
        ["cargo", "run", "--quiet", "--release", "-p", "handgrad-kernels-ptx", "--example", "shared"],
        check=True, capture_output=True, text=True, cwd=CRATE).stdout
    lines = (line.split() for line in text.splitlines())
    return {(int(capability), name): int(size) for capability, name, size in lines}


def blocks(device, registers, threads, size):
    """How many blocks fit on a multiprocessor."""
    per_warp = -(-registers // 8) * 8 * 32
    by_registers = REGISTERS // per_warp // (threads // 32)
    return min(by_registers, device.threads // threads, device.kib * 1024 // (size + 1024))


def main():
    ptxas = sys.argv[1] if len(sys.argv) > 1 else "ptxas"
    version = subprocess.run([ptxas, "--version"], check=True, capture_output=True, text=True)
    version = re.search(r"release [\d.]+, V[\d.]+", version.stdout)[0]
    bytes_of, bad, columns = shared(), [], []
    tiled = {name for _, name in bytes_of}
    for device in DEVICES:
        kernels, warnings = assembled(ptxas, device)
        bad += [f"{device.arch}: {line}" for line in warnings]
        given = {n: k for n, k in kernels.items() if n not in tiled or (device.capability, n) in bytes_of}
        spilled = [(n, k["spill"]) for n, k in given.items() if k["spill"]]
        bad += [f"{device.arch}: {n}: {s} bytes of stack, spill stores and loads" for n, s in spilled]
        columns.append({name: k["registers"] for name, k in kernels.items()})
    threads = bounds("sm_90a")
    out = [
        "# Resources of kernels", "",
        f"Made by `kernels-ptx/resources.py` with ptxas {version}. Columns are compute capabilities",
        f"({', '.join(f'{d.capability}: {d.example}' for d in DEVICES)});",
        "90 is our PTX for sm_90a, the others are that for sm_80. Each is registers a thread and, where launch bounds give",
        "the threads of a block, how many blocks fit on a multiprocessor by registers, threads and shared memory. Shared",
        "memory is dynamic, bytes a block; `-` means that no launch gives the kernel to such a device, because smaller",
        "tiles fit it. Never measured here: time.", "",
        "| kernel | threads | shared | " + " | ".join(str(d.capability) for d in DEVICES) + " |",
        "|---|---|---|" + "---|" * len(DEVICES),
    ]
    for name in sorted(columns[0]):
        cells, sizes = [], set()
        for device, registers in zip(DEVICES, columns):
            size = bytes_of.get((device.capability, name))
            if name in tiled and size is None:
                cells.append("-")
                continue
            sizes.add(size)
            fit = ""
            if name in threads:
                fit = blocks(device, registers[name], threads[name], size or 0)
                if fit == 0:
                    bad.append(f"{device.arch}: no block of {name} fits on a multiprocessor")
                fit = f", {fit}"
            cells.append(f"{registers[name]}{fit}")
        size = ", ".join(str(size) for size in sorted(s for s in sizes if s))
        out.append(f"| {name} | {threads.get(name, '')} | {size} | {' | '.join(cells)} |")
    out += ["", "Spilled bytes, stack, warnings of ptxas, blocks that fit nowhere: "
            + ("; ".join(bad) if bad else "none, for any kernel and device") + "."]
    (CRATE.parent / "docs/kernel-resources.md").write_text("\n".join(out) + "\n")
    for line in bad:
        print(line, file=sys.stderr)
    sys.exit(1 if bad else 0)


main()
