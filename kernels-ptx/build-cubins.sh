#!/usr/bin/env bash
# Assembles the committed PTX for the architectures of src/cubin.rs, so that a GPU's first start has
# nothing to compile. Cubins are never needed; a driver that has none compiles the PTX.
#
#   kernels-ptx/build-cubins.sh [OUT]     default OUT: cubin; the engine looks for a folder cubin beside
#                                         its executable, or where HANDGRAD_CUBINS says
#   PTXAS=...       the assembler (CUDA 12.8 or newer, which knows sm_120); else ptxas on PATH, else that of
#                   the package nvidia-cuda-nvcc: pip install 'nvidia-cuda-nvcc==13.0.*'
#   PYTHON=python3  the Python that may have the package
#   ARCHS="sm_86"   these alone
set -euo pipefail
crate=$(cd "$(dirname "$0")" && pwd)
fail() { echo "build-cubins.sh: $*" >&2; exit 1; }

# The path of an assembler, or nothing.
find_ptxas() {
  if [ -n "${PTXAS:-}" ]; then echo "$PTXAS"; return; fi
  command -v ptxas && return
  "${PYTHON:-python3}" - 2> /dev/null <<'FIND' || true
import pathlib, sysconfig
packages = pathlib.Path(sysconfig.get_paths()["purelib"], "nvidia")
found = [path for where in ("cu*/bin", "cuda_nvcc/bin") for path in sorted(packages.glob(f"{where}/ptxas"))]
print(found[-1] if found else "")
FIND
}

ptxas=$(find_ptxas)
[ -n "$ptxas" ] || fail "no ptxas on PATH, and ${PYTHON:-python3} has no package nvidia-cuda-nvcc:" \
  "install one of them, or give PTXAS=..., or do without: a GPU's driver compiles the PTX"
version=$("$ptxas" --version | grep -o 'release [0-9.]*, V[0-9.]*') || fail "PTXAS=$ptxas does not run"
out=$(mkdir -p "${1:-cubin}" && cd "${1:-cubin}" && pwd)

list=$(cd "$crate" && cargo run --quiet --release -p handgrad-kernels-ptx --example cubins)
while read -r arch target name; do
  case " ${ARCHS:-$arch} " in *" $arch "*) ;; *) continue ;; esac
  rm -f "$out/$arch"-*.cubin
  # Without -g and -lineinfo: no debug information. Whole or not at all: written beside, then renamed.
  "$ptxas" -arch="$arch" "$crate/ptx/$target.ptx" -o "$out/.$name" || fail "$ptxas ($version) refuses $arch"
  mv "$out/.$name" "$out/$name"
  echo "$out/$name: $(stat -c %s "$out/$name") bytes, of $target.ptx by ptxas $version"
done <<< "$list"
