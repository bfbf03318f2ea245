#!/usr/bin/env python3
"""Writes docs/kernel-resources.md: what ptxas makes of every kernel on both targets.

usage: kernels-ptx/resources.py [PTXAS]      default: ptxas on PATH
    python3 -m venv DIR && DIR/bin/pip install 'nvidia-cuda-nvcc==13.0.*'
    kernels-ptx/resources.py DIR/lib/python3*/site-packages/nvidia/cu13/bin/ptxas

Exits with 1 if a kernel spills or ptxas warns (C75xx: serialised matrix instructions and the like).
"""
import pathlib
import re
import subprocess
import sys

CRATE = pathlib.Path(__file__).resolve().parent
TARGETS = ("sm_80", "sm_90a")
# Per multiprocessor: registers, bytes of shared memory (one KiB a block is reserved).
LIMITS = {"sm_80": (65536, 164 * 1024), "sm_90a": (65536, 228 * 1024)}


def assembled(ptxas, target):
    """(lines of the report by kernel, warnings)"""
    text = subprocess.run(
        [ptxas, f"-arch={target}", "-v", CRATE / f"ptx/{target}.ptx", "-o", "/dev/null"],
        check=True, capture_output=True, text=True).stderr
    kernels, name = {}, None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            name = found[1]
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", line):
            kernels[name] = {"stack": int(found[1]), "spill": int(found[2]) + int(found[3])}
        elif found := re.search(r"Used (\d+) registers", line):
            kernels[name]["registers"] = int(found[1])
    return kernels, [line for line in text.splitlines() if "warning" in line or "C75" in line]


def bounds(target):
    """Threads and blocks that a kernel's launch bounds state."""
    text = (CRATE / f"ptx/{target}.ptx").read_text()
    pattern = r"\.entry (\w+)\([^{]*?\.maxntid (\d+), 1, 1 \.minnctapersm (\d+)"
    return {m[1]: (int(m[2]), int(m[3])) for m in re.finditer(pattern, text)}


def shared():
    """Dynamic shared memory of kernels for which it limits blocks: src/tiles.rs."""
    text = subprocess.run(
        ["cargo", "run", "--quiet", "--release", "-p", "handgrad-kernels-ptx", "--example", "shared"],
        check=True, capture_output=True, text=True, cwd=CRATE).stdout
    return {name: int(size) for name, size in (line.split() for line in text.splitlines())}


def main():
    ptxas = sys.argv[1] if len(sys.argv) > 1 else "ptxas"
    version = subprocess.run([ptxas, "--version"], check=True, capture_output=True, text=True)
    version = re.search(r"release [\d.]+, V[\d.]+", version.stdout)[0]
    bytes_of = shared()
    out = [
        "# Resources of kernels", "",
        f"Made by `kernels-ptx/resources.py` with ptxas {version}. Registers are per thread, shared memory",
        "is dynamic, per block. *Blocks* is how many fit on a multiprocessor: what the launch bounds ask",
        "for, and what registers and shared memory allow; kernels without bounds are launched with",
        "blocks of several sizes. Never measured here: time.", "",
    ]
    bad = []
    for target in TARGETS:
        kernels, warnings = assembled(ptxas, target)
        asked = bounds(target)
        out += [f"## {target}", "",
                "| kernel | registers | shared bytes | stack | spilled | threads | blocks asked / allowed |",
                "|---|---|---|---|---|---|---|"]
        for name, k in sorted(kernels.items()):
            threads, least = asked.get(name, (None, None))
            size = bytes_of.get(name, 0)
            fit = ""
            if threads:
                registers, room = LIMITS[target]
                per_warp = -(-k["registers"] // 8) * 8 * 32
                allowed = min(registers // per_warp // (threads // 32), 2048 // threads,
                              room // (size + 1024) if size else 32)
                fit = f"{least} / {allowed}"
            if k["spill"] or k["stack"]:
                bad.append(f"{target}: {name} spills")
            out.append(f"| {name} | {k['registers']} | {size or ''} | {k['stack']} | {k['spill']} "
                       f"| {threads or ''} | {fit} |")
        out += ["", f"Warnings of ptxas: {len(warnings) or 'none'}.", ""]
        bad += [f"{target}: {line}" for line in warnings]
    (CRATE.parent / "docs/kernel-resources.md").write_text("\n".join(out[:-1]) + "\n")
    for line in bad:
        print(line, file=sys.stderr)
    sys.exit(1 if bad else 0)


main()
