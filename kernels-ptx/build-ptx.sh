#!/usr/bin/env bash
# Makes ptx/sm_80.ptx and ptx/sm_90a.ptx from src/ with rustc's own NVPTX backend, byte for byte the
# committed files. Pinned: rustc 1.96.0 (LLVM 22.1.8) and the core source that belongs to it.
#
#   with apt (Debian 12):  apt-get install rustc-web cargo-web rust-web-src
#   with rustup:           rustup toolchain install nightly-2026-04-10 --component rust-src,llvm-bitcode-linker
#                          RUSTC=$(rustup which --toolchain nightly-2026-04-10 rustc) \
#                          CARGO=$(rustup which --toolchain nightly-2026-04-10 cargo) kernels-ptx/build-ptx.sh
#                          (another build of LLVM 22 may order instructions otherwise: see check-ptx.sh)
#
# usage: kernels-ptx/build-ptx.sh [OUT_DIR]        default kernels-ptx/ptx
#   RUSTC, CARGO   the compiler pair, default /usr/bin/rustc and /usr/bin/cargo
set -euo pipefail
crate=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${1:-$crate/ptx}" && cd "${1:-$crate/ptx}" && pwd)
export RUSTC=${RUSTC:-/usr/bin/rustc} RUSTC_BOOTSTRAP=1
cargo=${CARGO:-/usr/bin/cargo}
"$RUSTC" --version >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The PTX is whole when rustc emits it. The link step behind it only needs to find a program.
mkdir "$work/bin"
cat > "$work/bin/llvm-bitcode-linker" <<'LINKER'
#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done
LINKER
chmod +x "$work/bin/llvm-bitcode-linker"
export PATH="$work/bin:$PATH"

# A crate of its own outside of the workspace, so that no other dependency is looked at.
mkdir "$work/crate"
cp -r "$crate/src" "$work/crate/src"
cat > "$work/crate/Cargo.toml" <<'TOML'
[package]
name = "kernels"
edition = "2024"
[lib]
crate-type = ["cdylib"]
[profile.release]
opt-level = 3
lto = "fat"
codegen-units = 1
panic = "abort"
[workspace]
TOML

for target in ${TARGETS:-sm_80 sm_90a}; do
  # Without JumpThreading: it copies the code between two tests of one condition into both branches,
  # a barrier or shuffle that whole warps must reach together included. LLVM knows better, MIR does not.
  export RUSTFLAGS="-Ctarget-cpu=$target -Cllvm-args=-unroll-threshold=4000 -Zmir-enable-passes=-JumpThreading --cfg $target"
  export CARGO_TARGET_DIR="${PTX_CACHE:-$work/target}"
  # What the caller's cargo does elsewhere: an incremental build inlines less, and is another file.
  export CARGO_INCREMENTAL=0
  (cd "$work/crate" && "$cargo" rustc --quiet --release --target nvptx64-nvidia-cuda -Zbuild-std=core -- \
    --emit=asm="$work/$target.s" -A warnings)
  # rustc knows no launch bounds. A kernel states its own as a comment (ptx::launch_bounds), which
  # moves from the body to the directives of its entry.
  awk -f "$crate/launch-bounds.awk" "$work/$target.s" > "$out/$target.ptx"
done
