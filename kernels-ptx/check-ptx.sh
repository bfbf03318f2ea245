#!/usr/bin/env bash
# Rebuilds the PTX and compares it with the committed files, byte for byte. With another compiler
# than the pinned one the bytes may differ: then the emulator suite runs on what that one made.
# Without any compiler that can make PTX there is nothing to compare, and this says so.
#
# usage: kernels-ptx/check-ptx.sh         RUSTC and CARGO as for build-ptx.sh
set -euo pipefail
crate=$(cd "$(dirname "$0")" && pwd)
pinned="rustc 1.96.0"
rustc=${RUSTC:-/usr/bin/rustc}

if ! version=$("$rustc" --version 2>/dev/null) \
  || ! [ -d "$("$rustc" --print sysroot)/lib/rustlib/src/rust/library/core" ]; then
  echo "PTX: NOT CHECKED: no compiler with core's source at $rustc; see build-ptx.sh for how to install one"
  exit 0
fi
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
if ! "$crate/build-ptx.sh" "$fresh"; then
  case $version in
    "$pinned"*) echo "PTX: the pinned compiler fails on src/"; exit 1 ;;
  esac
  echo "PTX: NOT CHECKED: $version cannot build it; pinned is $pinned"
  exit 0
fi
if diff -q "$fresh" "$crate/ptx"; then
  echo "PTX: committed files are what $version makes of src/"
  exit 0
fi
case $version in
  "$pinned"*) echo "PTX: committed files are stale: run kernels-ptx/build-ptx.sh"; exit 1 ;;
esac
echo "PTX: $version makes other bytes than the pinned $pinned: testing those on the emulator instead"
unset RUSTC CARGO
HANDGRAD_PTX=$fresh cargo test --release -p handgrad-kernels-ptx --manifest-path "$crate/../Cargo.toml"
