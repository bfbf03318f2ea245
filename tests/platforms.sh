#!/usr/bin/env bash
# Every crate and example compiles for the platforms of README, and the ops' tests pass on aarch64 under
# qemu. What this machine cannot do is said where it would be done, with its reason, and again at the end.
#
#   tests/platforms.sh                 all of it
#   tests/platforms.sh check           only compiles
#   tests/platforms.sh check TARGET    only for this one
#
# A platform's standard library is rustup's; where that cannot be had, it is made of the source that
# rustup's rust-src has, or Debian's rust-web-src, which RUSTC and CARGO then name: STD=source asks for
# it. C of dependencies is compiled by gcc for the platform (Debian: gcc-aarch64-linux-gnu,
# gcc-mingw-w64-x86-64, and libc6-dev-arm64-cross, qemu-user for the tests). Nothing of it is linked by
# a check, so where there is no such compiler an empty one stands in. Files go to $PLATFORMS_DIR,
# target/platforms unless given.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=(x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-gnu)
export CARGO_TARGET_DIR=${PLATFORMS_DIR:-target/platforms}
left_out=()

usage() { sed -n '/^#  /s/^# *//p' "$0" >&2; exit 2; }
leave_out() { left_out+=("$1"); echo "left out: $1"; }

# The compilers of each platform, and the tool that runs its programs.
arm=aarch64-linux-gnu-gcc
windows=x86_64-w64-mingw32-gcc
export CC_aarch64_unknown_linux_gnu=$arm CC_x86_64_pc_windows_gnu=$windows
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$arm
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"

# Sets `cargo` and its variables so that TARGET has a standard library.
standard_library() {
  local target=$1 source
  cargo=(cargo)
  if [ "${STD:-}" != source ]; then
    [ -n "$(ls "$(rustc --print target-libdir --target "$target")"/libstd-* 2> /dev/null)" ] && return
    rustup target add "$target" > /dev/null 2>&1 && return
  fi
  cargo=(env RUSTC_BOOTSTRAP=1 cargo -Zbuild-std)
  source=lib/rustlib/src/rust/library/Cargo.lock
  [ -f "$(rustc --print sysroot)/$source" ] && return
  # Without RUSTUP_TOOLCHAIN and the like, which would choose another compiler than the one named.
  cargo=(env RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc /usr/bin/cargo -Zbuild-std)
  [ -x /usr/bin/cargo ] && [ -f "$(/usr/bin/rustc --print sysroot)/$source" ]
}

# An archiver's and a C compiler's empty twin, for a TARGET that has none here.
stand_in() {
  local name=${1//-/_} dir=$CARGO_TARGET_DIR/stand-in
  mkdir -p "$dir"
  printf '%s\n' '#!/bin/sh' 'while [ $# -gt 1 ]; do [ "$1" = -o ] && : > "$2"; shift; done' > "$dir/cc"
  printf '%s\n' '#!/bin/sh' 'for a; do case $a in *.a) : >> "$a" ;; esac; done' > "$dir/ar"
  chmod +x "$dir/cc" "$dir/ar"
  dir=$(cd "$dir" && pwd)
  export "CC_$name=$dir/cc" "AR_$name=$dir/ar"
}

check() {
  local target=$1 name=CC_${1//-/_} cargo
  echo "== $target"
  if ! standard_library "$target"; then
    leave_out "$target: no standard library: neither rustup's nor a source for -Zbuild-std"
    return
  fi
  if [ "$target" != "$(rustc -vV | sed -n 's/^host: //p')" ] && ! command -v "${!name:-none}" > /dev/null; then
    leave_out "$target: C of dependencies (zstd): no ${!name:-compiler for it}; Rust is checked"
    stand_in "$target"
  fi
  "${cargo[@]}" check --workspace --examples --target "$target"
}

# Kernels run as compiled, so vectors of NEON and of plain code both; what needs the emulator of GPUs
# does not depend on the platform and would take hours here.
run_tests() {
  local target=aarch64-unknown-linux-gnu cargo tool
  echo "== tests on $target"
  for tool in qemu-aarch64 $arm; do
    if ! command -v $tool > /dev/null; then
      leave_out "tests on $target: no $tool"
      return
    fi
  done
  if ! standard_library $target; then
    leave_out "tests on $target: no standard library"
    return
  fi
  "${cargo[@]}" test --release --target $target -p handgrad-engine --lib -- cpu::simd cpu::tiles
  HANDGRAD_TEST_TARGETS=80 "${cargo[@]}" test --release --target $target --test gradients -- \
    --skip gpu --skip planted_errors --skip model:: --skip adapters:: --skip parity:: --skip every_op
}

case ${1:-all} in
  all) [ $# -le 1 ] || usage; for target in "${targets[@]}"; do check "$target"; done; run_tests ;;
  check) for target in "${@:2}"; do check "$target"; done
    [ $# -ge 2 ] || for target in "${targets[@]}"; do check "$target"; done ;;
  *) usage ;;
esac
echo "== done"
for what in "${left_out[@]}"; do echo "left out: $what"; done
